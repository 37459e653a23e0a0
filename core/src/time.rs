//! Time as the core sees it: microseconds that only go forward, handed in by the caller.
//!
//! The shells read CLOCK_BOOTTIME, which goes on counting while a laptop sleeps; nothing in this crate can read
//! a clock. Arithmetic saturates, so no value from outside can make it panic.

use core::fmt;

/// One millisecond in the unit of every `_us` value.
pub const MS: u64 = 1_000;
/// One second in the unit of every `_us` value.
pub const SEC: u64 = 1_000_000;

/// A point in time: microseconds since an arbitrary start (boot, or a simulation's zero).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The start.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const FAR: Self = Self(u64::MAX);

    /// From microseconds since the start.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// From milliseconds since the start; what tests write.
    #[must_use]
    pub const fn at_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(MS))
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This point moved on by `us` microseconds.
    #[must_use]
    pub const fn plus(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// This point moved back by `us` microseconds, not before the start.
    #[must_use]
    pub const fn minus(self, us: u64) -> Self {
        Self(self.0.saturating_sub(us))
    }

    /// Microseconds from `earlier` to here; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.checked_rem(SEC).unwrap_or(0);
        write!(f, "{}.{micros:06}s", self.0.checked_div(SEC).unwrap_or(0))
    }
}

/// Where the shells get `now` from; the one implementation that reads a real clock lives in the node.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The current time; never goes backwards.
    fn now(&self) -> Time;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time::ZERO.minus(5), Time::ZERO);
        assert_eq!(Time::FAR.plus(5), Time::FAR);
        assert_eq!(Time::at_ms(1).since(Time::at_ms(2)), 0);
    }

    #[test]
    fn display_shows_seconds_and_microseconds() {
        assert_eq!(Time::from_micros(12_345_678).to_string(), "12.345678s");
    }
}
