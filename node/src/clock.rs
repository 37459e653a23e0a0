//! The only clocks of the process.
//!
//! CLOCK_BOOTTIME goes on counting while the machine sleeps; a monotonic clock would stand still and let
//! yesterday's addresses pass for fresh. The wall clock is read for [`crate::stamp`], which makes ages of it, and
//! for peers, whose clocks differ.

use std::fmt;

use detour_core::{Clock, Time};
use nix::time::{ClockId, clock_gettime};

/// Reads the system's boot-time clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Time {
        read(ClockId::CLOCK_BOOTTIME)
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

/// Milliseconds since 1970 by the wall clock: what peers are told, and compare with theirs.
#[must_use]
pub(crate) fn wall_ms() -> u64 {
    read(ClockId::CLOCK_REALTIME).as_micros() / 1_000
}

/// A day as this machine's wall clock tells it, in UTC: for people only, nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// From its text, such as `2026-11-22`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        is_date.then_some(Self { year, month, day })
    }

    /// Days after 1970-01-01; `None` before that.
    pub(crate) fn days(self) -> Option<u64> {
        let Self { year, month, day } = self;
        let (year, march_month) = match month.checked_sub(3) {
            Some(month) => (year, month),
            None => (year.checked_sub(1)?, month + 9),
        };
        let before = 365 * year + year / 4 - year / 100 + year / 400 + (153 * march_month + 2) / 5;
        (before + day - 1).checked_sub(719_468)
    }

    /// So many days after yesterday.
    pub(crate) fn yesterday_and(days: u64) -> Self {
        let today = read(ClockId::CLOCK_REALTIME).as_micros() / 1_000_000 / 86_400;
        Self::of_day(today.saturating_add(days).saturating_sub(1))
    }

    /// Year, month and day; years that no calendar has are the last one there is.
    pub(crate) fn numbers(self) -> (i32, u8, u8) {
        (
            i32::try_from(self.year).unwrap_or(9_999).min(9_999),
            u8::try_from(self.month).unwrap_or(1),
            u8::try_from(self.day).unwrap_or(1),
        )
    }

    /// So many days after 1970-01-01, in the calendar whose years begin in March, so that leap days come last.
    pub(crate) fn of_day(days: u64) -> Self {
        let days = days.saturating_add(719_468);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: year + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(f, "{year}-{month:02}-{day:02}")
    }
}

/// Finds out that the machine slept: the clock that timers go by stands still meanwhile, the other does not.
#[derive(Debug)]
pub(crate) struct Sleeps {
    /// How far the clock was ahead of the timers' at the last look, microseconds.
    ahead_us: u64,
}

impl Sleeps {
    /// From here on.
    pub(crate) fn new(now: Time) -> Self {
        Self {
            ahead_us: now.since(timers_now()),
        }
    }

    /// How long the machine slept since the last call, microseconds.
    pub(crate) fn take_us(&mut self, now: Time) -> u64 {
        self.take_by(now, timers_now())
    }

    fn take_by(&mut self, now: Time, timers: Time) -> u64 {
        let ahead_us = now.since(timers);
        ahead_us.saturating_sub(std::mem::replace(&mut self.ahead_us, ahead_us))
    }
}

/// What timers go by.
fn timers_now() -> Time {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> Time {
    // The call cannot fail for a clock every kernel since 2.6.39 has; time standing still is the safe answer.
    let Ok(now) = clock_gettime(clock) else {
        return Time::ZERO;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
    Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates_and_dates_their_days() {
        for (day, date) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(Date::of_day(day).to_string(), date);
            assert_eq!(Date::parse(date).unwrap().days(), Some(day));
        }
    }

    #[test]
    fn a_sleep_is_found_once_and_awake_time_is_none() {
        let at = Time::at_ms;
        let mut sleeps = Sleeps { ahead_us: 5_000_000 };
        assert_eq!(sleeps.take_by(at(15_000), at(10_000)), 0);
        assert_eq!(sleeps.take_by(at(99_000), at(94_000)), 0);
        assert_eq!(sleeps.take_by(at(102_000), at(94_500)), 2_500_000);
        assert_eq!(sleeps.take_by(at(103_000), at(95_500)), 0);
        let now = BootClock.now();
        assert!(Sleeps::new(now).take_us(BootClock.now()) < 1_000_000);
    }

    #[test]
    fn time_does_not_go_backwards() {
        let first = BootClock.now();
        assert!(first > Time::ZERO);
        assert!(BootClock.now() >= first);
    }
}
