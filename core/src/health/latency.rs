//! How long an endpoint takes to answer: recent answers in a histogram, read as quantiles.
//!
//! The time to an answer of a forwarder's provider is bimodal (cached there: network; not cached: recursion), so
//! mean and deviation say little; quantiles of what was observed say when an answer is overdue. Integers only.
//!
//! What was learned outlives a restart as [`Learned`]: evenly spaced quantiles. Taken back, they stand for as many
//! answers as are needed to measure at all, and each answer of this process' own takes the place of one of them: the
//! first slow ones move the tail, and a memory of another network is gone after 32 answers.

use crate::time::MS;

/// Sixteen buckets an octave: 6 % resolution.
const SUB_BITS: u32 = 4;
/// Everything faster than 64 us shares the first bucket: less than a loopback round trip.
const LOWEST_BIT: u32 = 6;
/// They reach 16.7 s, four times the longest deadline.
const OCTAVES: usize = 18;
/// Buckets of an octave.
const OCTAVE: usize = 1 << SUB_BITS;
/// All of them.
const BUCKETS: usize = OCTAVES * OCTAVE;
/// At this many answers all counts are halved. Larger: slower to notice that a provider changed; smaller: the
/// 98th percentile rests on too few answers.
const HALVE_AT: u32 = 256;
/// Answers after which measured quantiles replace the assumed ones.
pub const ENOUGH_ANSWERS: u64 = 32;
/// Quantiles of a [`Learned`]: as many as [`ENOUGH_ANSWERS`], so that what is remembered weighs as little as it can
/// and is measured with all the same; its last one is the 98.4th percentile, which a hedge is timed by.
const QUANTILES: u8 = 32;
/// Odd, so that 32 steps of it modulo 32 meet each quantile once.
const STRIDE: usize = 13;
/// Modulo 32.
const STRIDE_MASK: usize = 31;

/// The latest an answer becomes overdue: a second attempt begun then is still answered within 250 ms of the first's
/// time.
pub const OVERDUE_US_MAX: u64 = 200 * MS;

/// The earliest: a moment's stall here must not look like one there.
pub const OVERDUE_US_MIN: u64 = 10 * MS;

/// Histogram of recent answer times.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// Answers per bucket.
    counts: [u16; BUCKETS],
    /// Answers per octave: quantiles are read after every answer, and most octaves are passed as a whole.
    octaves: [u16; OCTAVES],
    /// Sum of `counts`.
    total: u32,
    /// Answers ever seen by this process.
    answers: u64,
    /// What of `counts` is remembered from an earlier process, in the order in which it is forgotten.
    remembered: Vec<u64>,
    /// What follows from all of that; read far more often than it changes.
    timing: Timing,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            octaves: [0; OCTAVES],
            total: 0,
            answers: 0,
            remembered: Vec::new(),
            timing: Timing::of([None; 5]),
        }
    }
}

/// What is worth keeping of an endpoint's latencies from one process to the next: its evenly spaced quantiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Microseconds, ascending, exactly 32.
    quantiles_us: Vec<u64>,
}

impl Learned {
    /// From what was kept; `None` unless these are 32 times in ascending order.
    #[must_use]
    pub fn new(quantiles_us: Vec<u64>) -> Option<Self> {
        let is_whole = quantiles_us.len() == usize::from(QUANTILES) && quantiles_us.is_sorted();
        is_whole.then_some(Self { quantiles_us })
    }

    /// The quantiles: microseconds, ascending, 32 of them.
    #[must_use]
    pub fn quantiles_us(&self) -> &[u64] {
        &self.quantiles_us
    }
}

impl Latencies {
    /// Takes in an answer that took `us` microseconds.
    pub fn record(&mut self, us: u64) {
        if self.count(us) {
            self.answers = self.answers.saturating_add(1);
        }
        self.forget_one();
        if self.answers >= ENOUGH_ANSWERS {
            while self.forget_one() {}
        }
        if self.total >= HALVE_AT {
            self.halve();
        }
        self.measure();
    }

    /// Adds one to a bucket.
    fn count(&mut self, us: u64) -> bool {
        let bucket = bucket(us);
        let (Some(count), Some(octave)) = (self.counts.get_mut(bucket), self.octaves.get_mut(bucket / OCTAVE)) else {
            return false;
        };
        *count = count.saturating_add(1);
        *octave = octave.saturating_add(1);
        self.total = self.total.saturating_add(1);
        true
    }

    /// What an earlier process learned; false, and nothing changes, once this one knows enough by itself.
    pub fn restore(&mut self, learned: &Learned) -> bool {
        if self.is_measured() {
            return false;
        }
        // In strides that meet every quantile once, so that what is left is spread as evenly as it was.
        let times = learned.quantiles_us();
        for us in (0..times.len()).filter_map(|n| times.get(n.wrapping_mul(STRIDE) & STRIDE_MASK)) {
            if self.count(*us) {
                self.remembered.push(*us);
            }
        }
        self.measure();
        true
    }

    /// Takes back one remembered time; false if there is none. As long as there are any nothing was halved, so it
    /// still counts for one.
    fn forget_one(&mut self) -> bool {
        let Some(us) = self.remembered.pop() else {
            return false;
        };
        let bucket = bucket(us);
        if let (Some(count), Some(octave)) = (self.counts.get_mut(bucket), self.octaves.get_mut(bucket / OCTAVE)) {
            *count = count.saturating_sub(1);
            *octave = octave.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
        true
    }

    /// What the next process should know; `None` until this one has enough answers of its own.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        if self.answers < ENOUGH_ANSWERS {
            return None;
        }
        // The middles of 32 equal parts: 1/64, 3/64 … 63/64.
        let middle = |part: u8| u32::from(part).saturating_mul(2).saturating_add(1);
        let parts = u32::from(QUANTILES).saturating_mul(2);
        // A bucket's bound is the first time of the next one: taken back, it must fall into its own.
        let at = |part| {
            let wanted = self.total.saturating_mul(middle(part)).div_ceil(parts);
            Some(self.wanted_us(wanted)?.saturating_sub(1))
        };
        let quantiles_us = (0..QUANTILES).map(at).collect::<Option<Vec<u64>>>()?;
        Learned::new(quantiles_us)
    }

    /// Whether there is enough to measure by: own answers, or remembered ones.
    fn is_measured(&self) -> bool {
        self.answers >= ENOUGH_ANSWERS || !self.remembered.is_empty()
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
        for (octave, counts) in self.octaves.iter_mut().zip(self.counts.chunks_exact(OCTAVE)) {
            *octave = counts.iter().sum();
        }
    }

    /// Answers this process has seen; what it remembers of an earlier one does not count.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The time within which `permille` of the recent answers came, microseconds; `None` without answers.
    #[must_use]
    pub fn quantile_us(&self, permille: u32) -> Option<u64> {
        self.wanted_us(self.total.saturating_mul(permille).div_ceil(1_000))
    }

    /// The time within which this many of the recent answers came, at least one; `None` if there are not as many.
    fn wanted_us(&self, wanted: u32) -> Option<u64> {
        let wanted = wanted.max(1);
        let mut seen = 0_u32;
        let octaves = self.octaves.iter().zip(self.counts.chunks_exact(OCTAVE));
        for (octave, (in_octave, counts)) in octaves.enumerate() {
            let before = seen;
            seen = seen.saturating_add(u32::from(*in_octave));
            if seen < wanted {
                continue;
            }
            let mut seen = before;
            for (within, count) in counts.iter().enumerate() {
                seen = seen.saturating_add(u32::from(*count));
                if seen >= wanted {
                    return Some(upper_bound(octave.saturating_mul(OCTAVE).saturating_add(within)));
                }
            }
        }
        None
    }

    /// The quantiles that decisions are made with.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Reads them anew.
    fn measure(&mut self) {
        let mut found = [500, 750, 920, 950, 980].map(|permille| self.quantile_us(permille));
        if !self.is_measured() {
            // The median of a few is better than nothing; everything else is assumed.
            let [p50, ..] = found;
            found = [p50, None, None, None, None];
        }
        self.timing = Timing::of(found);
    }
}

/// When an answer is overdue, missing, or a probe lost; all microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Median of recent answers, remembered ones included; `None` before the first.
    pub p50_us: Option<u64>,
    /// Three quarters of the answers; 250 ms until 32 are known or remembered.
    pub p75_us: u64,
    /// 19 of 20 answers; 250 ms until 32 are known or remembered.
    pub p95_us: u64,
    /// When an attempt counts as unanswered in the loss test: p92; 250 ms until 32 are known. Of 128 to 256 answers the
    /// p95 is too uncertain: where one in twenty takes a second, it is 300 ms or 900 ms by chance.
    pub late_us: u64,
    /// When a hedge is due: p98, 10 to 200 ms; 150 ms until 32 answers are known or remembered.
    pub overdue_us: u64,
    /// When an attempt counts as failed: 4 x p95, 250 ms to 1 s.
    pub timeout_us: u64,
    /// When an own probe counts as failed: 2 x p95, 500 to 750 ms. Late answers feed p95: without a longest time an
    /// endpoint that answers after 1.5 s would soon pass every probe and then fail every client; and with more than
    /// 750 ms a black hole could not be down 2 s after its first lost query (1 s timeout, second probe 250 ms later).
    pub probe_timeout_us: u64,
}

impl Timing {
    /// From the median, p75, p92, p95 and p98, as far as they are known.
    fn of([p50_us, p75_us, p92_us, p95_us, p98_us]: [Option<u64>; 5]) -> Self {
        let or_assumed = |measured: Option<u64>| measured.unwrap_or(250 * MS);
        let p95_us = or_assumed(p95_us);
        Self {
            p50_us,
            p75_us: or_assumed(p75_us),
            p95_us,
            late_us: or_assumed(p92_us),
            overdue_us: p98_us.map_or(150 * MS, |p98| p98.clamp(OVERDUE_US_MIN, OVERDUE_US_MAX)),
            timeout_us: p95_us.saturating_mul(4).clamp(250 * MS, 1_000 * MS),
            probe_timeout_us: p95_us.saturating_mul(2).clamp(500 * MS, 750 * MS),
        }
    }
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

    /// Latencies after these many answers of 10 ms, one in ten of them of 300 ms.
    fn after(answers: u64) -> Latencies {
        let mut latencies = Latencies::default();
        for n in 0..answers {
            latencies.record(if n % 10 == 9 { 300_000 } else { 10_000 });
        }
        latencies
    }

    #[test]
    fn what_was_learned_gives_the_same_timing_from_the_first_query_on() {
        let before = after(5_000);
        let mut restored = Latencies::default();
        assert!(restored.restore(&before.learned().unwrap()));
        assert_eq!(restored.timing(), before.timing());
        assert_eq!(restored.answers(), 0);
        // Nothing grows from one process to the next, and nobody learns from what is only remembered.
        assert_eq!(restored.learned(), None);
        for n in 0..32 {
            restored.record(if n % 10 == 9 { 300_000 } else { 10_000 });
        }
        assert_eq!(
            restored.learned().unwrap().quantiles_us()[0],
            before.learned().unwrap().quantiles_us()[0]
        );
    }

    #[test]
    fn too_few_answers_teach_nothing() {
        assert_eq!(after(31).learned(), None);
        assert!(after(32).learned().is_some());
    }

    #[test]
    fn the_first_slow_answers_move_what_is_remembered_and_32_answers_replace_it() {
        let mut latencies = Latencies::default();
        let learned = Learned::new(vec![10_000; 32]).unwrap();
        assert!(latencies.restore(&learned));
        assert_eq!(latencies.timing().timeout_us, 250_000);
        for _ in 0..2 {
            latencies.record(600_000);
        }
        assert_eq!(latencies.timing().timeout_us, 1_000_000);
        for _ in 2..32 {
            latencies.record(600_000);
        }
        let mut fresh = Latencies::default();
        for _ in 0..32 {
            fresh.record(600_000);
        }
        assert_eq!(latencies.counts, fresh.counts);
        assert_eq!(latencies.total, fresh.total);
    }

    #[test]
    fn what_is_left_of_a_memory_keeps_its_shape() {
        let learned = Learned::new((1..=32).map(|n| n * 10_000).collect()).unwrap();
        let mut latencies = Latencies::default();
        assert!(latencies.restore(&learned));
        assert_eq!(latencies.total, 32);
        for _ in 0..16 {
            latencies.forget_one();
        }
        assert_eq!(latencies.total, 16);
        let median = latencies.quantile_us(500).unwrap();
        assert!((120_000..200_000).contains(&median), "{median}");
    }

    #[test]
    fn memory_comes_once_and_before_knowledge() {
        let learned = Learned::new(vec![20_000; 32]).unwrap();
        let mut latencies = Latencies::default();
        latencies.record(10_000);
        assert!(latencies.restore(&learned));
        assert!(!latencies.restore(&learned));
        // It answered before the memory came, which counts beside it until enough did.
        assert_eq!(latencies.total, 33);
        for _ in 1..32 {
            latencies.record(10_000);
        }
        assert_eq!((latencies.total, latencies.remembered.len()), (32, 0));
        assert!(!after(32).restore(&learned));
    }

    #[test]
    fn what_is_no_row_of_32_times_is_not_learned() {
        assert_eq!(Learned::new(vec![1; 31]), None);
        assert_eq!(Learned::new(vec![1; 33]), None);
        let mut falling = vec![5; 32];
        falling[31] = 4;
        assert_eq!(Learned::new(falling), None);
        // Whatever the times are, nothing breaks.
        let mut latencies = Latencies::default();
        assert!(latencies.restore(&Learned::new(vec![u64::MAX; 32]).unwrap()));
        assert_eq!(latencies.timing().timeout_us, 1_000_000);
    }
}
