//! Runs the tasks of connections on the mesh's own runtime, and notices their panics.
//!
//! tokio would swallow them: the swarm would hold on to a connection that nobody drives. One panic ends this life of the
//! mesh; the next begins with nothing of it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns on one runtime.
pub(crate) struct Executor {
    runtime: Handle,
    tracker: TaskTracker,
    panicked: CancellationToken,
}

impl Executor {
    /// On the runtime of the caller; `panicked` is cancelled when a task panics.
    pub(crate) fn new(runtime: Handle, panicked: CancellationToken) -> Self {
        Self {
            runtime,
            tracker: TaskTracker::new(),
            panicked,
        }
    }
}

impl libp2p::swarm::Executor for Executor {
    fn exec(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let panicked = self.panicked.clone();
        let watched = AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            if ended.is_err() {
                panicked.cancel();
            }
        });
        // They end with the runtime, at the latest.
        drop(self.tracker.spawn_on(watched, &self.runtime));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::swarm::Executor as _;

    #[tokio::test]
    async fn a_panic_in_a_connections_task_is_noticed() {
        let panicked = CancellationToken::new();
        let executor = Executor::new(Handle::current(), panicked.clone());
        executor.exec(Box::pin(async {}));
        executor.tracker.close();
        executor.tracker.wait().await;
        assert!(!panicked.is_cancelled());
        executor.exec(Box::pin(async { panic!("injected") }));
        panicked.cancelled().await;
    }
}
