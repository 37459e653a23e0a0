//! Where a peer's wall clock stands against this node's time, as an interval that is certain.
//!
//! A peer that names its wall clock between our sending and our receiving bounds the difference from both sides; half
//! the round trip is the error. So a node whose clock is ten minutes off is understood like any other, and nobody's
//! clock, this node's least of all, decides anything.

use super::contract::ClockSample;
use crate::time::{MS, SEC, Time};

/// A reading is trusted this long: clocks drift and are slewed.
const READING_US: u64 = 300 * SEC;
/// Wall clocks are 48 bits on the wire.
const WALL_MS_MAX: u64 = (1 << 48) - 1;

/// What is known of one peer's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerClock {
    /// The tightest reading of late.
    best: Option<Reading>,
}

/// The difference "peer's wall clock minus our time" lies in here, microseconds.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// At least.
    low: i64,
    /// At most.
    high: i64,
    /// Of the exchange it came from, microseconds.
    rtt_us: u64,
    /// When it was made.
    at: Time,
}

/// When something was issued, by our time in microseconds; may lie before its zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Issued {
    /// Not before this.
    pub(super) earliest: i64,
    /// Most probably.
    pub(super) middle: i64,
}

/// A time in microseconds that may be subtracted from.
pub(super) fn micros(time: Time) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A wall clock in microseconds.
pub(super) fn wall_micros(wall_ms: u64) -> i64 {
    i64::try_from(wall_ms.min(WALL_MS_MAX).saturating_mul(MS)).unwrap_or(i64::MAX)
}

/// The middle of two values.
fn middle(low: i64, high: i64) -> i64 {
    low.saturating_add(high.saturating_sub(low) >> 1)
}

impl PeerClock {
    /// The peer named its clock.
    pub(super) fn sample(&mut self, sample: ClockSample) {
        if sample.received < sample.sent {
            return;
        }
        let wall = wall_micros(sample.wall_ms);
        let reading = Reading {
            low: wall.saturating_sub(micros(sample.received)),
            // It named whole milliseconds.
            high: wall.saturating_add(1_000).saturating_sub(micros(sample.sent)),
            rtt_us: sample.received.since(sample.sent),
            at: sample.received,
        };
        let keeps = self.best.is_some_and(|best| {
            let agrees = best.low <= reading.high && reading.low <= best.high;
            agrees && best.rtt_us < reading.rtt_us && reading.at.since(best.at) < READING_US
        });
        if !keeps {
            self.best = Some(reading);
        }
    }

    /// What was known holds no more: the clock was set.
    pub(super) fn forget(&mut self) {
        self.best = None;
    }

    /// When a snapshot that names this wall clock was issued; an old reading only if `even_old`.
    pub(super) fn issued(&self, wall_ms: u64, even_old: bool, now: Time) -> Option<Issued> {
        let best = self.best?;
        if !even_old && now.since(best.at) >= READING_US {
            return None;
        }
        let wall = wall_micros(wall_ms);
        let earliest = wall.saturating_sub(best.high);
        let latest = wall.saturating_add(1_000).saturating_sub(best.low);
        Some(Issued {
            earliest,
            middle: middle(earliest, latest),
        })
    }

    /// The peer's wall clock minus another one that stands `bias` ahead of our time, microseconds: the smallest
    /// difference that is certain, and the most probable one.
    pub(super) fn offset(&self, bias: i64) -> Option<(u64, i64)> {
        let best = self.best?;
        let low = best.low.saturating_sub(bias);
        let high = best.high.saturating_sub(bias);
        let certain = if low > 0 {
            low.unsigned_abs()
        } else if high < 0 {
            high.unsigned_abs()
        } else {
            0
        };
        Some((certain, middle(low, high)))
    }

    /// Round trip of the reading in use, microseconds.
    pub(super) fn rtt_us(&self) -> Option<u64> {
        self.best.map(|best| best.rtt_us)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]

    use super::*;

    /// A peer whose wall clock is 1,000,000 ms ahead of our time, asked at `sent` ms, heard at `received` ms.
    fn exchange(sent: u64, received: u64) -> ClockSample {
        ClockSample {
            sent: Time::at_ms(sent),
            received: Time::at_ms(received),
            wall_ms: 1_000_000 + (sent + received) / 2,
        }
    }

    fn issued_ms(clock: &PeerClock, wall_ms: u64, now_ms: u64) -> Option<i64> {
        let issued = clock.issued(wall_ms, false, Time::at_ms(now_ms))?;
        assert!(issued.earliest <= issued.middle);
        Some(issued.middle / 1_000)
    }

    #[test]
    fn the_tightest_reading_counts() {
        let mut clock = PeerClock::default();
        clock.sample(exchange(1_000, 1_400));
        assert_eq!(clock.rtt_us(), Some(400 * MS));
        clock.sample(exchange(2_000, 2_010));
        clock.sample(exchange(3_000, 3_300));
        assert_eq!(clock.rtt_us(), Some(10 * MS));
        assert_eq!(issued_ms(&clock, 1_005_000, 6_000), Some(5_000));
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_and_readings_age() {
        let mut clock = PeerClock::default();
        clock.sample(exchange(1_000, 1_010));
        let mut after = exchange(2_000, 2_400);
        after.wall_ms += 600_000;
        clock.sample(after);
        assert_eq!(issued_ms(&clock, 1_605_000, 6_000), Some(5_000));
        assert_eq!(issued_ms(&clock, 1_605_000, 310_000), None);
        assert!(clock.issued(1_605_000, true, Time::at_ms(310_000)).is_some());
        clock.sample(exchange(310_000, 310_900));
        assert_eq!(clock.rtt_us(), Some(900 * MS));
    }

    #[test]
    fn nothing_a_peer_names_overflows() {
        let mut clock = PeerClock::default();
        for (sent, received) in [(Time::ZERO, Time::FAR), (Time::FAR, Time::FAR), (Time::FAR, Time::ZERO)] {
            for wall_ms in [0, u64::MAX] {
                clock.sample(ClockSample {
                    sent,
                    received,
                    wall_ms,
                });
                for named in [0, u64::MAX] {
                    assert!(clock.issued(named, true, Time::FAR).is_some());
                }
                assert!(clock.offset(i64::MIN).is_some() && clock.offset(i64::MAX).is_some());
            }
        }
    }
}
