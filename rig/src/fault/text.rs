//! Faults as text: what a person types and a table shows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Fault, Hostile};

/// Half-period of `flap` without a number.
const FLAP_PERIOD: Duration = Duration::from_secs(5);

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Slow(extra) => return write!(out, "slow {}", extra.as_millis()),
            Self::Loss(probability) => return write!(out, "loss {probability}"),
            Self::Flap(period) if *period != FLAP_PERIOD => return write!(out, "flap {}", period.as_millis()),
            Self::Flap(_) => "flap",
            Self::Http429(seconds) => return write!(out, "http429 {seconds}"),
            Self::None => "none",
            Self::Blackhole => "blackhole",
            Self::Servfail => "servfail",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
            Self::Wrongid => "wrongid",
            Self::Truncate => "truncate",
            Self::Nxdomain => "nxdomain",
            Self::Nodata => "nodata",
            Self::Lie => "lie",
            Self::Rst => "rst",
            Self::TlsStall => "tls-stall",
            Self::TlsExpired => "tls-expired",
            Self::TlsNotYetValid => "tls-not-yet-valid",
            Self::TlsWrongName => "tls-wrong-name",
            Self::Http500 => "http500",
            Self::Hostile(hostile) => hostile.word(),
        })
    }
}

/// Text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFaultError {
    /// The first word is no fault.
    #[error("unknown fault {given:?}: expected {FAULT_WORDS}")]
    Name {
        /// The word.
        given: Box<str>,
    },
    /// The fault needs another number, or none.
    #[error("fault {fault:?} takes {expected}")]
    Argument {
        /// The fault.
        fault: Box<str>,
        /// What may follow it.
        expected: &'static str,
    },
}

/// Every fault with its argument, for error messages and help.
pub const FAULT_WORDS: &str = "none, blackhole, servfail, refused, slow MS, loss P, garbage, wrongid, truncate, \
                               nxdomain, nodata, lie, flap [MS], rst, tls-stall, tls-expired, tls-not-yet-valid, \
                               tls-wrong-name, http500, http429 SECONDS, wrong-question, pointers, truncate-always, \
                               lying-length, html, http302, gzip-bomb, endless-head, endless-body, reset-streams, deaf, \
                               drip";

impl FromStr for Fault {
    type Err = ParseFaultError;

    /// Reads `slow 1500`, `slow(1500)` and `slow:1500` alike.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let mut words = given.split([' ', '(', ')', ':']).filter(|word| !word.is_empty());
        let name = words.next().unwrap_or_default();
        let argument = words.next();
        let excess = words.next().is_some();
        let wrong = |expected| ParseFaultError::Argument {
            fault: name.into(),
            expected,
        };
        let milliseconds = |text: &str| text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let fault = match name {
            "slow" => {
                let extra = argument.and_then(milliseconds).filter(|_| !excess);
                return extra.map(Self::Slow).ok_or_else(|| wrong("milliseconds above 0"));
            }
            "loss" => {
                let probability = argument.and_then(|text| text.parse().ok());
                let probability = probability.filter(|value| !excess && (0.0..=1.0).contains(value));
                return probability
                    .map(Self::Loss)
                    .ok_or_else(|| wrong("a probability from 0 to 1"));
            }
            "flap" => {
                let period = argument.map_or(Some(FLAP_PERIOD), milliseconds).filter(|_| !excess);
                return period
                    .map(Self::Flap)
                    .ok_or_else(|| wrong("milliseconds above 0, or nothing"));
            }
            "http429" => {
                let seconds = argument.and_then(|text| text.parse().ok()).filter(|_| !excess);
                return seconds.map(Self::Http429).ok_or_else(|| wrong("seconds"));
            }
            "none" => Self::None,
            "blackhole" => Self::Blackhole,
            "servfail" => Self::Servfail,
            "refused" => Self::Refused,
            "garbage" => Self::Garbage,
            "wrongid" => Self::Wrongid,
            "truncate" => Self::Truncate,
            "nxdomain" => Self::Nxdomain,
            "nodata" => Self::Nodata,
            "lie" => Self::Lie,
            "rst" => Self::Rst,
            "tls-stall" => Self::TlsStall,
            "tls-expired" => Self::TlsExpired,
            "tls-not-yet-valid" => Self::TlsNotYetValid,
            "tls-wrong-name" => Self::TlsWrongName,
            "http500" => Self::Http500,
            _ => {
                let hostile = Hostile::ALL.into_iter().find(|hostile| hostile.word() == name);
                let unknown = || ParseFaultError::Name { given: name.into() };
                hostile.map(Self::Hostile).ok_or_else(unknown)?
            }
        };
        if argument.is_some() {
            Err(wrong("no argument"))
        } else {
            Ok(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written() {
        for text in [
            "none",
            "blackhole",
            "servfail",
            "refused",
            "slow 1500",
            "loss 0.3",
            "garbage",
            "wrongid",
            "truncate",
            "nxdomain",
            "nodata",
            "lie",
            "flap",
            "flap 250",
            "rst",
            "tls-stall",
            "tls-expired",
            "tls-not-yet-valid",
            "tls-wrong-name",
            "http500",
            "http429 30",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for hostile in Hostile::ALL {
            let text = hostile.word();
            assert_eq!(text.parse(), Ok(Fault::Hostile(hostile)));
            assert!(FAULT_WORDS.contains(text), "{text}");
        }
        assert_eq!("slow(1500)".parse(), Ok(Fault::Slow(Duration::from_millis(1_500))));
        assert_eq!("loss:0.5".parse(), Ok(Fault::Loss(0.5)));
        assert_eq!("flap 5000".parse::<Fault>().unwrap().to_string(), "flap");
    }

    #[test]
    fn wrong_arguments_are_named() {
        for text in [
            "", "slow", "slow x", "slow 0", "loss 1.1", "loss NaN", "flap 0", "flap 1 2", "none 1", "dead",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
        assert_eq!(
            "loss 2".parse::<Fault>().unwrap_err().to_string(),
            "fault \"loss\" takes a probability from 0 to 1"
        );
    }
}
