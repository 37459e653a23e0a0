//! What outlives the process: the store of what was learned, and the cache file. Started and stopped together.
//!
//! Nothing here delays a start, an answer or a stop; whatever goes wrong with the disk is counted, logged and said by
//! the board.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use detour_resolver::forwarder::Shared;
use detour_resolver::tasks::Tasks;
use nix::libc::SIGXFSZ;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Notes;
use crate::board::Board;
use crate::cache_file::{self, RuntimeDirs};
use crate::config::Persist;
use crate::learned::LearnedKeeper;
use crate::metrics::{CacheFileMetrics, NamesMetrics, StoreMetrics};
use crate::names::{NamesKeeper, NamesParts};
use crate::state::State;
use crate::store::{self, StoreHandle};

/// How long a stop waits for the store, after everything else has ended: the whole stop stays within 5 s.
const CLOSE_PATIENCE: Duration = Duration::from_millis(400);

/// What is kept while the node runs.
#[derive(Debug)]
pub(crate) struct Kept {
    store: StoreHandle,
    metrics: StoreMetrics,
    names: NamesMetrics,
}

impl Kept {
    /// Begins to read what an earlier process left.
    pub(crate) fn start(
        state: &State,
        persist: Persist,
        shared: &Arc<Shared>,
        board: &Board,
        registry: &mut Registry,
    ) -> Self {
        survive_file_size_limit();
        let metrics = StoreMetrics::register(registry);
        let clock = Arc::clone(shared.clock());
        let tasks = shared.tasks();
        let store = store::start(state, clock, metrics.clone(), board.clone());
        let watching = store.clone();
        let token = tasks.token().clone();
        tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: a timer and a look.
                () = watching.watch_opening() => {}
                // Cancel safe: the token stays cancelled.
                () = token.cancelled() => {}
            }
        });
        let (service, session) = (env::var_os("RUNTIME_DIRECTORY"), env::var_os("XDG_RUNTIME_DIR"));
        let dirs = RuntimeDirs {
            service: service.as_deref(),
            xdg: session.as_deref(),
        };
        let file = cache_file::Parts {
            shared: Arc::clone(shared),
            metrics: CacheFileMetrics::register(registry),
            board: board.clone(),
        };
        let places = cache_file::choose(persist, state, &dirs);
        cache_file::start(places, file, tasks);
        Self {
            store,
            metrics,
            names: NamesMetrics::register(registry),
        }
    }

    /// What the control task keeps: what it learns, and the addresses of host names.
    #[must_use]
    pub(crate) fn of_control(&self, notes: &Notes, tasks: &Tasks) -> (LearnedKeeper, NamesKeeper) {
        let parts = NamesParts {
            store: self.store.clone(),
            store_metrics: self.metrics.clone(),
            metrics: self.names.clone(),
            board: notes.board.clone(),
            tasks: tasks.clone(),
        };
        (
            LearnedKeeper::new(self.store.clone(), self.metrics.clone()),
            NamesKeeper::new(parts, notes.own()),
        )
    }

    /// What is counted of names and designations.
    #[must_use]
    pub(crate) fn names_metrics(&self) -> NamesMetrics {
        self.names.clone()
    }

    /// The last thing a stop does; the cache file was written by then.
    pub(crate) async fn close(self) {
        if !self.store.close(CLOSE_PATIENCE).await {
            tracing::warn!("stopping without having closed the store");
        }
    }
}

/// A file that may not grow is a full disk, and no reason to be ended by the system.
fn survive_file_size_limit() {
    // Who cannot be told so is no worse off than before.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}
