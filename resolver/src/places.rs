//! A bound on how many of something there are at once, which a reload can change while it is in force.
//!
//! Taking a place never waits. A bound that shrinks below what is taken takes effect as places come free: nobody who
//! has one loses it, and nobody new gets one before the rest fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::tasks::Tasks;

/// The bound and what is taken of it.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    size: AtomicUsize,
}

impl Places {
    /// This many places.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: AtomicUsize::new(size),
        }
    }

    /// A place, free again when dropped.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Places that are free.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Whether at least half of them are free.
    pub(crate) fn is_mostly_free(&self) -> bool {
        self.free() >= self.size.load(Ordering::Relaxed).div_ceil(2)
    }

    /// Whether nobody has one.
    pub(crate) fn is_unused(&self) -> bool {
        self.free() >= self.size.load(Ordering::Relaxed)
    }

    /// From here on there are this many. One caller at a time.
    pub(crate) fn resize(&self, size: usize, tasks: &Tasks) {
        let before = self.size.swap(size, Ordering::Relaxed);
        if size >= before {
            self.free.add_permits(size.saturating_sub(before));
            return;
        }
        let fewer = before.saturating_sub(size);
        let left = fewer.saturating_sub(self.free.forget_permits(fewer));
        let Ok(left) = u32::try_from(left) else {
            debug_assert!(false, "a configuration allows 65,536 of anything");
            return;
        };
        if left > 0 {
            let (free, token) = (Arc::clone(&self.free), tasks.token().clone());
            // Waits in front of everybody, so that what comes free is taken away before it is taken again.
            tasks.spawn_job(async move {
                tokio::select! {
                    // Cancel safe: the bound needs not shrink at the end.
                    permits = free.acquire_many_owned(left) => {
                        if let Ok(permits) = permits {
                            permits.forget();
                        }
                    }
                    // Cancel safe: the token stays cancelled.
                    () = token.cancelled() => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bound_that_shrinks_waits_for_what_is_taken_and_one_that_grows_does_not() {
        let (places, tasks) = (Places::new(4), Tasks::default());
        let mut held: Vec<_> = (0..3).map(|_| places.take().unwrap()).collect();
        places.resize(2, &tasks);
        tokio::task::yield_now().await;
        assert!(places.take().is_none());
        drop(held.pop());
        tokio::task::yield_now().await;
        assert!(places.take().is_none(), "two are taken and two there are");
        drop(held.pop());
        let again = places.take().unwrap();
        assert!(places.take().is_none());
        places.resize(3, &tasks);
        assert!(places.take().is_some());
        drop((held, again));
        assert!(places.is_unused());
        assert_eq!(places.free(), 3);
        tasks.stop().await;
    }

    #[tokio::test]
    async fn shrinking_and_growing_many_times_over_adds_up() {
        let (places, tasks) = (Places::new(8), Tasks::default());
        let held: Vec<_> = (0..8).map(|_| places.take().unwrap()).collect();
        for size in [1, 5, 2, 16, 3, 8, 4] {
            places.resize(size, &tasks);
            tokio::task::yield_now().await;
        }
        drop(held);
        tokio::task::yield_now().await;
        assert_eq!(places.free(), 4);
        tasks.stop().await;
    }
}
