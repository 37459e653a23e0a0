//! How long an honest answer takes.
//!
//! The latency is a function of the name alone, the same at every provider. That makes "hurt" exact: the ledger knows
//! for each query what its answer would have taken had nothing failed, and no provider is better than another, so a
//! gateway's choice among them is not what is measured. `Bimodal` is what a recursive resolver looks like from below:
//! mostly cache hits, a quarter of the names resolved elsewhere, a few from slow servers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::random::{mix, stable_hash};
use crate::zone;

/// What names outside our domains take under `Bimodal`: every resolver has them in its cache.
const FAST: Duration = Duration::from_millis(10);
/// Latency and address must not be the same bits of the hash.
const PURPOSE: u64 = 0x6c61_7465_6e63_7921;

/// A latency law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Every answer takes this long.
    Flat(Duration),
    /// By name: 70 % 8..25 ms, 25 % 40..250 ms, 5 % 300..1500 ms; names outside our domains 10 ms.
    Bimodal,
}

impl Law {
    /// The law's longest latency.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        match self {
            Self::Flat(latency) => *latency,
            Self::Bimodal => Duration::from_millis(1_500),
        }
    }

    /// What the unfaulted answer for `name` takes; letter case and a trailing dot make no difference.
    #[must_use]
    pub fn latency(&self, name: &str) -> Duration {
        match self {
            Self::Flat(latency) => *latency,
            Self::Bimodal if !zone::is_ours(name) => FAST,
            Self::Bimodal => {
                let hash = mix(stable_hash(name) ^ PURPOSE);
                let (from_us, to_us) = match hash % 100 {
                    0..=69 => (8_000, 25_000),
                    70..=94 => (40_000, 250_000),
                    _ => (300_000, 1_500_000),
                };
                Duration::from_micros(from_us + (hash >> 32) % (to_us - from_us))
            }
        }
    }
}

impl Default for Law {
    fn default() -> Self {
        Self::Flat(FAST)
    }
}

impl fmt::Display for Law {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat(latency) if *latency == FAST => out.write_str("flat"),
            Self::Flat(latency) => write!(out, "flat:{}", latency.as_millis()),
            Self::Bimodal => out.write_str("bimodal"),
        }
    }
}

/// Text is no latency law.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown latency law {given:?}: expected flat, flat:MILLISECONDS or bimodal")]
pub struct ParseLawError {
    /// What was given.
    pub given: Box<str>,
}

impl FromStr for Law {
    type Err = ParseLawError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let flat = |number: &str| number.parse().ok().map(|ms| Self::Flat(Duration::from_millis(ms)));
        match given {
            "flat" => Some(Self::default()),
            "bimodal" => Some(Self::Bimodal),
            _ => given.strip_prefix("flat:").and_then(flat),
        }
        .ok_or_else(|| ParseLawError { given: given.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bimodal_has_its_three_parts() {
        let mut parts = [0_u32; 3];
        for index in 0..20_000 {
            let latency = Law::Bimodal.latency(&format!("q{index}.cedar-mill.org")).as_millis();
            match latency {
                8..25 => parts[0] += 1,
                40..250 => parts[1] += 1,
                300..1500 => parts[2] += 1,
                _ => panic!("{latency} ms is in no part"),
            }
        }
        assert!((13_600..14_400).contains(&parts[0]), "{parts:?}");
        assert!((4_600..5_400).contains(&parts[1]), "{parts:?}");
        assert!((800..1_200).contains(&parts[2]), "{parts:?}");
    }

    #[test]
    fn latency_belongs_to_the_name() {
        assert_eq!(
            Law::Bimodal.latency("A.Elm-Quarry.dev."),
            Law::Bimodal.latency("a.elm-quarry.dev")
        );
        assert_eq!(Law::Bimodal.latency("one.one.one.one"), FAST);
        assert_eq!(Law::default().latency("whatever"), FAST);
    }

    #[test]
    fn laws_are_read_and_written() {
        for text in ["flat", "flat:0", "flat:35", "bimodal"] {
            assert_eq!(text.parse::<Law>().unwrap().to_string(), text);
        }
        assert_eq!(
            "steep".parse::<Law>().unwrap_err().to_string(),
            "unknown latency law \"steep\": expected flat, flat:MILLISECONDS or bimodal"
        );
    }
}
