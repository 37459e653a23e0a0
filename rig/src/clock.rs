//! The one place of this crate that reads a clock.
//!
//! Everything else takes an instant from here or as a parameter, so that a reader who asks "when was this measured"
//! has one function to look for. Waits go by a monotonic clock, which is tokio's; what several processes stamp is
//! compared by [`boot_us`].

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The present instant.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds of CLOCK_BOOTTIME: what nodes stamp their log lines with (`at_us`), the same clock in every process of
/// this machine.
#[must_use]
pub fn boot_us() -> u64 {
    // The call cannot fail for a clock every kernel since 2.6.39 has.
    let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}
