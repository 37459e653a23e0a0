//! Who asked: client queries apart from a node's own, told by their names.
//!
//! A name of [`crate::FreshNames`] carries the seed of its load. What a node asks by itself (probes, canaries) carries
//! none, so a fake can say how many queries of which load reached it without knowing anybody's address.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clock;

/// Loads told apart; what is asked by more of them is counted as a query and for no load.
const SEEDS_MAX: usize = 4_096;
/// Where the first label of a message's question begins (RFC 1035 section 4.1.1).
const QUESTION_AT: usize = 12;

/// Client queries by the seed of their load.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Held for one look-up, never over an await.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_seed: BTreeMap<u64, u64>,
    /// When the first client's query came since [`Tally::mark`].
    first_us: Option<u64>,
}

impl Tally {
    /// Counts a query, if it is a client's.
    pub(super) fn count(&self, message: &[u8]) {
        let Some(seed) = seed_of(message) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.first_us.is_none() {
            counts.first_us = Some(clock::boot_us());
        }
        let is_full = counts.by_seed.len() >= SEEDS_MAX;
        match counts.by_seed.get_mut(&seed) {
            Some(count) => *count = count.saturating_add(1),
            None if is_full => {}
            None => drop(counts.by_seed.insert(seed, 1)),
        }
    }

    /// From here on the next query is the first.
    pub(super) fn mark(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).first_us = None;
    }

    /// When the first client's query came since the mark, in microseconds of CLOCK_BOOTTIME.
    pub(super) fn first_us(&self) -> Option<u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).first_us
    }

    /// Queries of this load so far.
    pub(super) fn asked(&self, seed: u64) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.by_seed.get(&seed).copied().unwrap_or(0)
    }

    /// Queries of all loads so far.
    pub(super) fn total(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.by_seed.values().sum()
    }
}

/// The seed in a question for `q<number>-<seed>.…`, in any letter case.
fn seed_of(message: &[u8]) -> Option<u64> {
    let rest = message.get(QUESTION_AT..)?;
    let (length, rest) = rest.split_first()?;
    let label = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    let (number, seed) = label.strip_prefix(['q', 'Q'])?.split_once('-')?;
    number.parse::<u64>().ok()?;
    u64::from_str_radix(seed, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::FreshNames;
    use crate::message::{encode_query, rtype};

    fn query(name: &str) -> Vec<u8> {
        encode_query(7, name, rtype::A, Some(1_232))
    }

    #[test]
    fn client_queries_are_counted_by_their_load() {
        let tally = Tally::default();
        let names = FreshNames {
            seed: 0xbeef,
            ..FreshNames::default()
        };
        for index in 0..3 {
            tally.count(&query(&names.name(index).to_uppercase()));
        }
        tally.count(&query(&FreshNames::default().name(0)));
        for other in ["a.root-servers.net", "www.alder-lane.com", "q-1.alder-lane.com"] {
            tally.count(&query(other));
        }
        tally.count(&[0; 11]);
        tally.count(&[0xff; 14]);
        assert_eq!([0xbeef, 1, 2].map(|seed| tally.asked(seed)), [3, 1, 0]);
        assert_eq!(tally.total(), 4);
        assert!(tally.first_us().is_some_and(|at_us| at_us <= clock::boot_us()));
        tally.mark();
        tally.count(&query("a.root-servers.net"));
        assert_eq!(tally.first_us(), None);
    }

    #[test]
    fn more_loads_than_are_told_apart_count_for_none() {
        let tally = Tally::default();
        for seed in 0..=u64::try_from(SEEDS_MAX).unwrap() {
            tally.count(&query(&format!("q0-{seed:x}.alder-lane.com")));
        }
        assert_eq!(tally.asked(0), 1);
        assert_eq!(tally.asked(u64::try_from(SEEDS_MAX).unwrap()), 0);
    }
}
