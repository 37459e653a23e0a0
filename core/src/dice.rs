//! Randomness for decisions: a pure function of what it is for, so that two runs of one seed can be compared.
//!
//! Counter-based: the same (seed, purpose, query, item) always gives the same number, whatever was drawn before.
//! This is not for secrets: query ids, source ports and letter case come from the system's generator in the shells.

/// What a number is drawn for; different purposes never share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which of the equally good providers is asked first.
    FirstChoice,
    /// Whether this query's first choice is an exploration.
    Explore,
    /// Which provider an exploration asks.
    ExploreWhom,
    /// Whether an endpoint on probation takes this query.
    Ramp,
    /// Order among otherwise equal backups.
    Backup,
    /// How much a re-probe interval is shortened.
    ProbeJitter,
    /// Which provider a registrable domain belongs to.
    Shard,
    /// The mesh: jitter, and whom to pull from.
    Mesh,
}

/// A source of numbers for one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dice {
    /// Seed of the node; all numbers follow from it.
    seed: u64,
}

impl Dice {
    /// Numbers that follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number uniform over `u64` for this purpose, query and item.
    #[must_use]
    pub fn roll(self, purpose: Purpose, query: u64, item: u64) -> u64 {
        let purpose = match purpose {
            Purpose::FirstChoice => 1,
            Purpose::Explore => 2,
            Purpose::ExploreWhom => 3,
            Purpose::Ramp => 4,
            Purpose::Backup => 5,
            Purpose::ProbeJitter => 6,
            Purpose::Shard => 7,
            Purpose::Mesh => 32,
        };
        mix(mix(mix(self.seed ^ purpose).wrapping_add(query)).wrapping_add(item))
    }

    /// A number uniform over `0..bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(self, bound: u64, purpose: Purpose, query: u64, item: u64) -> u64 {
        // Bias is below bound / 2^64: no decision can see it.
        self.roll(purpose, query, item).checked_rem(bound).unwrap_or(0)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_question_gives_the_same_number_and_others_differ() {
        let dice = Dice::new(7);
        assert_eq!(dice.roll(Purpose::Ramp, 1, 2), dice.roll(Purpose::Ramp, 1, 2));
        assert_ne!(dice.roll(Purpose::Ramp, 1, 2), dice.roll(Purpose::Ramp, 2, 1));
        assert_ne!(dice.roll(Purpose::Ramp, 1, 2), dice.roll(Purpose::Backup, 1, 2));
    }

    #[test]
    fn draws_are_spread_evenly() {
        let dice = Dice::new(42);
        let mut counts = [0_u32; 4];
        for query in 0..4_000 {
            counts[usize::try_from(dice.below(4, Purpose::FirstChoice, query, 0)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|n| (900..1_100).contains(n)), "{counts:?}");
    }
}
