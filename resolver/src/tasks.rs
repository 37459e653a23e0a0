//! The only place that spawns tasks, so that each has an end, a name and somebody who notices its panic.
//!
//! Two kinds, and work that blocks. A *pillar* (a listener, the control task) must run until shutdown: if it ends or panics before, the
//! process cannot do its job and stops. A *job* serves one query or one socket: a panic in it is counted and its
//! drop guards do the rest.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks, tells them to stop, waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    token: CancellationToken,
    panics: Arc<AtomicU64>,
    /// The first pillar that fell: written once, read at shutdown.
    fallen: Arc<Mutex<Option<&'static str>>>,
}

impl Tasks {
    /// A task that must outlive everything else; if it ends before shutdown, shutdown begins.
    pub fn spawn_pillar<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PillarGuard {
            name,
            tasks: self.clone(),
        };
        self.tracker.spawn(async move {
            future.await;
            drop(guard);
        });
    }

    /// A task that ends by itself; a panic in it is counted.
    pub fn spawn_job<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PanicGuard(Arc::clone(&self.panics));
        self.tracker.spawn(async move {
            future.await;
            drop(guard);
        });
    }

    /// Work that waits for a disk, off the threads that serve; `None` if it panicked, which is counted. It cannot be
    /// called back, and nobody waits for it at the end: a disk may never answer.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Some(done),
            Err(error) => {
                if error.is_panic() {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// Cancelled when shutdown begins: nothing new is taken up, what is under way goes on.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when what was under way has had its time: everything ends.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The pillar whose end caused the shutdown, if one did.
    #[must_use]
    pub fn fallen(&self) -> Option<&'static str> {
        *self.fallen.lock()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Panics so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Ends everything and waits until all tasks have ended.
    pub async fn stop(&self) {
        self.draining.cancel();
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Counts a panic that unwinds through it.
struct PanicGuard(Arc<AtomicU64>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Begins shutdown when a pillar ends early.
struct PillarGuard {
    name: &'static str,
    tasks: Tasks,
}

impl Drop for PillarGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.panics.fetch_add(1, Ordering::Relaxed);
        }
        if !self.tasks.draining.is_cancelled() {
            self.tasks.fallen.lock().get_or_insert(self.name);
            self.tasks.draining.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pillar_that_ends_begins_shutdown_and_is_named() {
        let tasks = Tasks::default();
        tasks.spawn_pillar("listener", async {});
        tasks.draining().cancelled().await;
        assert_eq!(tasks.fallen(), Some("listener"));
        tasks.stop().await;
    }

    #[tokio::test]
    async fn a_panic_in_a_job_is_counted_and_stops_nothing() {
        let tasks = Tasks::default();
        tasks.spawn_job(async { panic!("injected") });
        while tasks.panics() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!tasks.draining().is_cancelled());
        tasks.stop().await;
        assert_eq!(tasks.fallen(), None);
    }
}
