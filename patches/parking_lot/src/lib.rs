//! The part of parking_lot 0.11 that sled 0.34 uses, made of parking_lot 0.12.
//!
//! Two reasons. sled keeps seven threads for writing, each of which wakes up every second to see whether it has become
//! superfluous: seven wakeups a second of a machine that has nothing to do. That look is the only use sled makes of
//! [`Condvar::wait_until`] (`sled-0.34.7/src/threadpool.rs`, `recv_timeout`), and whoever gives such a thread work
//! notifies it; so here it waits for work and not for a time. And parking_lot 0.11 is no longer maintained
//! (RUSTSEC-2024-0384, of its dependency `instant`), besides being in the tree a second time.
//!
//! Nothing else may depend on this: a test of the house rules (`tests/tidy`) holds that only sled does.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

pub use current::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A condition variable whose [`Condvar::wait_until`] is not ended by time.
#[derive(Debug, Default)]
pub struct Condvar(current::Condvar);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether its time was over.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// With nobody waiting.
    #[must_use]
    pub const fn new() -> Self {
        Self(current::Condvar::new())
    }

    /// Wakes all that wait; how many there were.
    pub fn notify_all(&self) -> usize {
        self.0.notify_all()
    }

    /// Waits until notified.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait(guard);
    }

    /// Waits until notified, for this long at most.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        WaitTimeoutResult(self.0.wait_for(guard, timeout).timed_out())
    }

    /// Waits until notified, whatever the time: a thread without work has no reason to wake up.
    pub fn wait_until<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Instant) -> WaitTimeoutResult {
        self.0.wait(guard);
        WaitTimeoutResult(false)
    }
}
