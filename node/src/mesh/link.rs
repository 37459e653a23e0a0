//! The mesh as the control task has it: what peers say comes in, what this node says goes out. Neither waits.

use std::sync::Arc;

use detour_core::control::Control;
use detour_core::report::OwnReport;
use detour_core::time::{SEC, Time};
use detour_mesh::News;
use tokio::sync::{mpsc, watch};

use super::notes::MeshNotes;

/// Mere times of attempts are told at most this often; whatever changes a state is told at once.
const TIMES_US: u64 = SEC;

/// Both ways.
#[derive(Debug)]
pub(crate) struct MeshLink {
    news: mpsc::Receiver<News>,
    own: watch::Sender<Arc<OwnReport>>,
    notes: Arc<MeshNotes>,
    told: Option<Time>,
}

impl MeshLink {
    pub(super) fn new(news: mpsc::Receiver<News>, own: watch::Sender<Arc<OwnReport>>, notes: Arc<MeshNotes>) -> Self {
        Self {
            news,
            own,
            notes,
            told: None,
        }
    }

    /// The next thing a peer says; never, without a mesh. Cancelling it loses nothing.
    pub(crate) async fn next(link: &mut Option<Self>) -> News {
        if let Some(own) = link
            && let Some(news) = own.news.recv().await
        {
            return news;
        }
        // The mesh has ended for good: what it said ages away.
        *link = None;
        std::future::pending().await
    }

    /// Hands on what a peer says.
    pub(crate) fn take(&self, news: News, control: &mut Control, now: Time) {
        self.notes.hear(&news);
        match news {
            News::Report(report) => control.handle_report(report, now),
            News::Forget(node) => control.handle_forget(node, now),
        }
    }

    /// Says what this node sees, as it changed.
    pub(crate) fn tell(&mut self, control: &Control, now: Time) {
        self.told = Some(now);
        drop(self.own.send_replace(Arc::new(control.own_report(now))));
    }

    /// The same, if it was not said lately.
    pub(crate) fn tell_times(&mut self, control: &Control, now: Time) {
        if self.told.is_none_or(|told| now.since(told) >= TIMES_US) {
            self.tell(control, now);
        }
    }
}
