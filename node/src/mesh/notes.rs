//! What is known of the mesh, for the admin interface: whether it runs, its own status, and what each peer said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use detour_core::report::{NodeId, PeerReport};
use detour_mesh::{MeshStatus, News};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::settings::Setup;

/// Where the mesh is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Its identity is being read.
    Beginning,
    /// It is off, and why.
    Off(String),
    /// It runs; its status says how.
    On(watch::Receiver<Arc<MeshStatus>>),
}

/// What is known of it.
#[derive(Debug)]
pub(crate) struct MeshNotes {
    /// Held to read or replace a value.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    setup: Arc<Setup>,
    phase: Phase,
    /// By node; as many as the mesh holds.
    heard: BTreeMap<NodeId, PeerReport>,
}

impl MeshNotes {
    pub(super) fn new(setup: Arc<Setup>) -> Self {
        let inner = Inner {
            setup,
            phase: Phase::Beginning,
            heard: BTreeMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub(crate) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.inner.lock().setup)
    }

    pub(super) fn set_up(&self, setup: Arc<Setup>) {
        self.inner.lock().setup = setup;
    }

    /// Where the mesh is.
    #[must_use]
    pub(crate) fn phase(&self) -> Phase {
        self.inner.lock().phase.clone()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.inner.lock().phase = phase;
    }

    pub(super) fn hear(&self, news: &News) {
        let heard = &mut self.inner.lock().heard;
        match news {
            News::Report(report) => drop(heard.insert(report.node, report.clone())),
            News::Forget(node) => drop(heard.remove(node)),
        }
    }

    /// What this node said last.
    #[must_use]
    pub(crate) fn heard(&self, node: NodeId) -> Option<PeerReport> {
        self.inner.lock().heard.get(&node).cloned()
    }
}
