//! The only clock of the process.
//!
//! CLOCK_BOOTTIME goes on counting while the machine sleeps; a monotonic clock would stand still and let
//! yesterday's addresses pass for fresh. The wall clock is read for [`crate::stamp`] alone, which makes ages of it.

use detour_core::{Clock, Time};
use nix::time::{ClockId, clock_gettime};

/// Reads the system's boot-time clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Time {
        // The call cannot fail for a clock every kernel since 2.6.39 has; time standing still is the safe answer.
        let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
            return Time::ZERO;
        };
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
        Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }
}

/// Seconds since 1970 by the wall clock; 0 where it says less or nothing.
#[must_use]
pub(crate) fn wall_s() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME)
        .ok()
        .and_then(|now| u64::try_from(now.tv_sec()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_backwards() {
        let first = BootClock.now();
        assert!(first > Time::ZERO);
        assert!(BootClock.now() >= first);
    }
}
