//! The only place that spawns tasks, so that each has an end, a name and somebody who notices its panic.
//!
//! Two kinds, and work that blocks. A *pillar* (a listener, the control task) must run until shutdown: if it ends or
//! panics before, the process cannot do its job and stops; it is a task, or a thread where it waits in the system. A *job*
//! serves one query or one socket: a panic in it is counted and its drop guards do the rest. What a pillar does for one
//! query it does behind a guard, which is as good as a job.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pieces of work that may wait for disks at once; more are refused. Each holds a thread, and a disk that hangs holds
/// them all.
const DISK_WAITERS: usize = 8;

/// Why work off the threads that serve came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// Earlier work has not come back. Nothing was done.
    #[error("the disk has not answered earlier requests")]
    Busy,
    /// A mistake of ours; counted.
    #[error("a mistake of Detour's, please report it")]
    Panicked,
}

/// Spawns tasks, tells them to stop, waits for them.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    disk: Arc<Semaphore>,
    draining: CancellationToken,
    token: CancellationToken,
    panics: Arc<AtomicU64>,
    /// The first pillar that fell: written once, read at shutdown.
    fallen: Arc<Mutex<Option<&'static str>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::default(),
            disk: Arc::new(Semaphore::new(DISK_WAITERS)),
            draining: CancellationToken::default(),
            token: CancellationToken::default(),
            panics: Arc::default(),
            fallen: Arc::default(),
        }
    }
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

    /// A pillar that waits in the system: a thread of its own, from which tasks can be spawned as from the runtime's. It
    /// must end by itself once shutdown begins. Must be called within the runtime.
    pub fn spawn_thread(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        let guard = PillarGuard {
            name,
            tasks: self.clone(),
        };
        let (runtime, counted) = (Handle::current(), self.tracker.token());
        let body = move || {
            let _context = runtime.enter();
            work();
            drop(guard);
            drop(counted);
        };
        // On failure the guard goes with what was to be done, and shutdown begins.
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            tracing::error!(%error, thread = name, "cannot start a thread");
        }
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

    /// Work that waits for a disk, off the threads that serve. It cannot be called back, and nobody waits for it at the
    /// end: a disk may never answer.
    ///
    /// # Errors
    /// When too much waits for disks already, or the work panicked, which is counted.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let place = Arc::clone(&self.disk)
            .try_acquire_owned()
            .map_err(|_none_left| BlockingError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|error| {
            if error.is_panic() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            BlockingError::Panicked
        })
    }

    /// Does something for one query on a thread that serves others too: a panic is counted, and ends nothing but what it
    /// was in. `None`: it panicked.
    pub(crate) fn guard<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        // What is shared lies behind locks that do not poison, and whatever reads it checks what it reads.
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            self.note_panic();
        }
        done
    }

    /// Notes a panic that was caught elsewhere.
    pub(crate) fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
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
    async fn a_disk_that_hangs_holds_a_few_threads_and_no_more() {
        let tasks = Tasks::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..DISK_WAITERS {
            let held = Arc::clone(&held);
            let work = tasks.blocking(move || held.lock().recv().is_ok());
            assert!(tokio::time::timeout(std::time::Duration::ZERO, work).await.is_err());
        }
        assert_eq!(tasks.blocking(|| ()).await, Err(BlockingError::Busy));
        drop(release);
        while tasks.blocking(|| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            tasks.blocking(|| panic!("injected")).await,
            Err::<(), _>(BlockingError::Panicked)
        );
        assert_eq!(tasks.panics(), 1);
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
