//! Hashes and random numbers that depend on their input and on nothing else.
//!
//! [`stable_hash`] is what makes "the name encodes the expected answer" true: zone and latency law read different bits
//! of it, in this process, in another one and in next year's build alike. [`Random`] is a small counter-based
//! generator (SplitMix64) for drops, ids and garbage; it is no source of secrets.

/// SplitMix64's increment: the odd integer nearest to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every input bit over the whole word (SplitMix64's finalizer).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hash of a domain name: letter case and one trailing dot make no difference (FNV-1a, then [`mix`]).
#[must_use]
pub fn stable_hash(name: &str) -> u64 {
    let name = name.strip_suffix('.').unwrap_or(name);
    let folded = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    });
    mix(folded)
}

/// A seeded stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: mix(seed ^ GOLDEN),
        }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// The next 16 bits.
    pub const fn next_u16(&mut self) -> u16 {
        let [high, low, ..] = self.next_u64().to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// A number below `limit`, or 0 when `limit` is 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        let [a, b, c, d, ..] = self.next_u64().to_be_bytes();
        let unit = f64::from(u32::from_be_bytes([a, b, c, d])) / 4_294_967_296.0;
        unit < probability
    }

    /// `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count.saturating_add(8));
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_u64().to_be_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_ignores_case_and_the_trailing_dot() {
        assert_eq!(stable_hash("Q1.Alder-Lane.com."), stable_hash("q1.alder-lane.com"));
        assert_ne!(stable_hash("q1.alder-lane.com"), stable_hash("q2.alder-lane.com"));
    }

    #[test]
    fn one_seed_is_one_stream() {
        let (mut one, mut same, mut other) = (Random::new(7), Random::new(7), Random::new(8));
        let words = |random: &mut Random| (0..8).map(|_| random.next_u64()).collect::<Vec<_>>();
        let first = words(&mut one);
        assert_eq!(first, words(&mut same));
        assert_ne!(first, words(&mut other));
    }

    #[test]
    fn chance_is_near_its_probability() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(0.3)).count();
        assert!((2_800..3_200).contains(&hits), "{hits} of 10000");
        assert!(!random.chance(0.0));
        assert!(random.chance(1.0));
    }
}
