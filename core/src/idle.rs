//! How long an idle connection is kept: until just before the server would close it.
//!
//! Servers close idle connections after anything from two seconds to minutes and rarely say so. A query that crosses
//! with the close is lost and must be asked again, so a limit once seen is kept by closing first. Some do say so
//! (edns-tcp-keepalive, RFC 7828): then that is the limit, unless less was seen.

use crate::time::{MS, SEC, Time};

/// Kept this long while no limit is known; longer than most, so that the limit shows.
const UNKNOWN_US: u64 = 60 * SEC;
/// A close after less idleness is a restart or a failure, and no limit.
const SHORTEST_US: u64 = SEC;
/// Limits change with the server's load: forgotten after this long.
const FORGET_US: u64 = 600 * SEC;
/// Closed this much before the limit, or an eighth of it, whichever is more: packets and timers are late, too.
const MARGIN_US: u64 = 250 * MS;
/// What a server offers beyond this is not used: translators on the way forget connections sooner than servers.
const TOLD_US_MAX: u64 = 300 * SEC;

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdleLimit {
    /// The shortest idleness after which it closed a connection, and when that was seen.
    learned: Option<(u64, Time)>,
    /// What it last said itself.
    told_us: Option<u64>,
}

impl IdleLimit {
    /// The server closed a connection that had been idle for `idle_us`.
    pub fn closed_by_peer(&mut self, idle_us: u64, now: Time) {
        let current = self.current(now).unwrap_or(u64::MAX);
        if idle_us >= SHORTEST_US && idle_us <= current {
            self.learned = Some((idle_us, now));
        }
    }

    /// The server says that it closes a connection that has been idle for `idle_us` (RFC 7828 section 3.3.2).
    pub fn told(&mut self, idle_us: u64) {
        self.told_us = Some(idle_us.min(TOLD_US_MAX));
    }

    /// How long a connection may be idle before it is closed from here, microseconds.
    #[must_use]
    pub fn close_after_us(&self, now: Time) -> u64 {
        let kept = |limit: u64| limit.saturating_sub(MARGIN_US.max(limit >> 3));
        let limits = [self.current(now), self.told_us];
        limits.into_iter().flatten().min().map_or(UNKNOWN_US, kept)
    }

    /// The limit, unless it is too old to hold.
    fn current(&self, now: Time) -> Option<u64> {
        let (limit, seen) = self.learned?;
        (now.since(seen) < FORGET_US).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_seen_is_kept_by_closing_before_it() {
        let mut idle = IdleLimit::default();
        let now = Time::at_ms(1_000);
        assert_eq!(idle.close_after_us(now), 60 * SEC);
        idle.closed_by_peer(10 * SEC, now);
        assert_eq!(idle.close_after_us(now), 8_750 * MS);
        idle.closed_by_peer(1_600 * MS, now);
        assert_eq!(idle.close_after_us(now), 1_350 * MS);
        // A longer one proves nothing against the shorter.
        idle.closed_by_peer(20 * SEC, now);
        assert_eq!(idle.close_after_us(now), 1_350 * MS);
    }

    #[test]
    fn a_limit_that_is_told_is_kept_unless_less_was_seen() {
        let mut idle = IdleLimit::default();
        let now = Time::at_ms(1_000);
        idle.told(120 * SEC);
        assert_eq!(idle.close_after_us(now), 105 * SEC);
        idle.told(u64::MAX);
        assert_eq!(idle.close_after_us(now), 262_500 * MS);
        idle.told(SEC);
        assert_eq!(idle.close_after_us(now), 750 * MS);
        idle.told(120 * SEC);
        idle.closed_by_peer(4 * SEC, now);
        assert_eq!(idle.close_after_us(now), 3_500 * MS);
        assert_eq!(idle.close_after_us(now.plus(FORGET_US)), 105 * SEC);
    }

    #[test]
    fn a_restart_is_no_limit_and_limits_are_forgotten() {
        let mut idle = IdleLimit::default();
        let now = Time::at_ms(1_000);
        idle.closed_by_peer(20 * MS, now);
        assert_eq!(idle, IdleLimit::default());
        idle.closed_by_peer(2 * SEC, now);
        assert_eq!(idle.close_after_us(now.plus(FORGET_US)), 60 * SEC);
    }
}
