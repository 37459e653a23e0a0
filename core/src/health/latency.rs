//! How long an endpoint takes to answer: recent answers in a histogram, read as quantiles.
//!
//! The time to an answer of a forwarder's provider is bimodal (cached there: network; not cached: recursion), so
//! mean and deviation say little; quantiles of what was observed say when an answer is overdue. Integers only.

use crate::time::MS;

/// Sixteen buckets an octave: 6 % resolution.
const SUB_BITS: u32 = 4;
/// Everything faster than 64 us shares the first bucket: less than a loopback round trip.
const LOWEST_BIT: u32 = 6;
/// 18 octaves reach 16.7 s, four times the longest deadline.
const BUCKETS: usize = 18 * 16;
/// At this many answers all counts are halved. Larger: slower to notice that a provider changed; smaller: the
/// 98th percentile rests on too few answers.
const HALVE_AT: u32 = 256;
/// Answers after which measured quantiles replace the assumed ones.
pub const ENOUGH_ANSWERS: u64 = 32;

/// The latest an answer becomes overdue: a second attempt begun then is still answered within 250 ms of the first's
/// time.
pub const OVERDUE_US_MAX: u64 = 200 * MS;

/// Histogram of recent answer times.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// Answers per bucket.
    counts: [u16; BUCKETS],
    /// Sum of `counts`.
    total: u32,
    /// Answers ever seen.
    answers: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            answers: 0,
        }
    }
}

impl Latencies {
    /// Takes in an answer that took `us` microseconds.
    pub fn record(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
            self.answers = self.answers.saturating_add(1);
        }
        if self.total >= HALVE_AT {
            self.halve();
        }
    }

    /// Halves all counts. What rounding takes from a bucket goes to the next one: slow answers lie one to a bucket,
    /// and dropping the halves would make every tail look shorter than it is.
    fn halve(&mut self) {
        self.total = 0;
        let mut carry = 0;
        for count in &mut self.counts {
            let sum = count.saturating_add(carry);
            *count = sum >> 1;
            carry = sum & 1;
            self.total = self.total.saturating_add(u32::from(*count));
        }
    }

    /// Answers ever seen.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The time within which `permille` of the recent answers came, microseconds; `None` without answers.
    #[must_use]
    pub fn quantile_us(&self, permille: u32) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let wanted = self.total.saturating_mul(permille).div_ceil(1_000).max(1);
        let mut seen = 0_u32;
        for (index, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(u32::from(*count));
            if seen >= wanted {
                return Some(upper_bound(index));
            }
        }
        None
    }

    /// A quantile, or `assumed_us` until there are [`ENOUGH_ANSWERS`].
    fn measured_us(&self, permille: u32, assumed_us: u64) -> u64 {
        if self.answers < ENOUGH_ANSWERS {
            return assumed_us;
        }
        self.quantile_us(permille).unwrap_or(assumed_us)
    }

    /// The quantiles that decisions are made with.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let p95_us = self.measured_us(950, 250 * MS);
        Timing {
            p50_us: self.quantile_us(500),
            p75_us: self.measured_us(750, 250 * MS),
            p95_us,
            late_us: self.measured_us(920, 250 * MS),
            overdue_us: if self.answers < ENOUGH_ANSWERS {
                150 * MS
            } else {
                self.measured_us(980, 150 * MS).clamp(10 * MS, OVERDUE_US_MAX)
            },
            timeout_us: p95_us.saturating_mul(4).clamp(250 * MS, 1_000 * MS),
            probe_timeout_us: p95_us.saturating_mul(2).clamp(500 * MS, 750 * MS),
        }
    }
}

/// When an answer is overdue, missing, or a probe lost; all microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Median of recent answers; `None` before the first.
    pub p50_us: Option<u64>,
    /// Three quarters of the answers; 250 ms until 32 are known.
    pub p75_us: u64,
    /// 19 of 20 answers; 250 ms until 32 are known.
    pub p95_us: u64,
    /// When an attempt counts as unanswered in the loss test: p92; 250 ms until 32 are known. Of 128 to 256 answers the
    /// p95 is too uncertain: where one in twenty takes a second, it is 300 ms or 900 ms by chance.
    pub late_us: u64,
    /// When a hedge is due: p98, 10 to 200 ms; 150 ms until 32 answers are known.
    pub overdue_us: u64,
    /// When an attempt counts as failed: 4 x p95, 250 ms to 1 s.
    pub timeout_us: u64,
    /// When an own probe counts as failed: 2 x p95, 500 to 750 ms. Late answers feed p95: without a longest time an
    /// endpoint that answers after 1.5 s would soon pass every probe and then fail every client; and with more than
    /// 750 ms a black hole could not be down 2 s after its first lost query (1 s timeout, second probe 250 ms later).
    pub probe_timeout_us: u64,
}

/// The bucket of an answer time.
fn bucket(us: u64) -> usize {
    let value = us.max(1_u64 << LOWEST_BIT);
    let exponent = 63_u32.saturating_sub(value.leading_zeros());
    let octave = exponent.saturating_sub(LOWEST_BIT);
    let within = (value >> exponent.saturating_sub(SUB_BITS)) & 0xf;
    let index = u64::from(octave).saturating_mul(16).saturating_add(within);
    usize::try_from(index).map_or(BUCKETS.saturating_sub(1), |i| i.min(BUCKETS.saturating_sub(1)))
}

/// The longest time that falls into a bucket.
fn upper_bound(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(0);
    let octave = index >> SUB_BITS;
    let within = index & 0xf;
    let exponent = octave.saturating_add(u64::from(LOWEST_BIT));
    within
        .saturating_add(17)
        .checked_shl(u32::try_from(exponent.saturating_sub(u64::from(SUB_BITS))).unwrap_or(0))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_upper_bound_within_seven_percent() {
        for us in [64, 100, 999, 10_000, 12_345, 250_000, 4_000_000] {
            let bound = upper_bound(bucket(us));
            assert!(bound > us && bound <= us + us / 14 + 4, "{us} -> {bound}");
        }
    }

    #[test]
    fn extreme_times_fall_into_the_outer_buckets() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn timing_is_assumed_until_32_answers() {
        let mut latencies = Latencies::default();
        for _ in 0..31 {
            latencies.record(10_000);
        }
        assert_eq!(latencies.timing().overdue_us, 150_000);
        assert_eq!(latencies.timing().timeout_us, 1_000_000);
        latencies.record(10_000);
        let timing = latencies.timing();
        assert_eq!(timing.overdue_us, upper_bound(bucket(10_000)));
        assert_eq!(timing.timeout_us, 250_000);
        assert_eq!(timing.probe_timeout_us, 500_000);
    }

    #[test]
    fn halving_keeps_a_thin_tail() {
        let mut latencies = Latencies::default();
        // One answer in ten is slow, and no two slow ones share a bucket.
        for n in 0..2_000_u64 {
            let slow = 300_000 + n.wrapping_mul(7_919) % 1_200_000;
            latencies.record(if n % 10 == 0 { slow } else { 10_000 });
        }
        assert!(latencies.quantile_us(930) > Some(300_000), "{:?}", latencies.timing());
        assert!(latencies.quantile_us(850) < Some(11_000), "{:?}", latencies.timing());
    }

    #[test]
    fn recent_answers_outweigh_old_ones() {
        let mut latencies = Latencies::default();
        for _ in 0..10_000 {
            latencies.record(10_000);
        }
        for _ in 0..300 {
            latencies.record(400_000);
        }
        assert!(latencies.timing().p50_us > Some(300_000));
    }
}
