//! What can be wrong with a provider, as a value that is switched while the provider runs.
//!
//! A faulty reply leaves [`FAULTY_REPLY_AFTER`] the query and not after the name's own latency: a broken front end
//! does not resolve first. Faults that withhold (`blackhole`, `loss`, `flap`, `rst`) also swallow answers that were
//! already on their way, because that is what a cable that is pulled does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// When a faulty reply leaves: what a fast answer takes, so speed does not give the fault away.
pub const FAULTY_REPLY_AFTER: Duration = Duration::from_millis(10);
/// Half-period of `flap` without a number.
const FLAP_PERIOD: Duration = Duration::from_secs(5);

/// What is wrong with a provider over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fault {
    /// Nothing: honest answers after the law's latency.
    #[default]
    None,
    /// No answers. Connections stay open and silent, new ones are accepted and stay silent.
    Blackhole,
    /// SERVFAIL to everything.
    Servfail,
    /// REFUSED to everything.
    Refused,
    /// Honest answers, this much later.
    Slow(Duration),
    /// Exchanges fail with this probability: over UDP half the blame lies with each direction, over TCP the answer
    /// is withheld.
    Loss(f64),
    /// Random bytes; over TCP in a well-formed frame.
    Garbage,
    /// The right answer with a wrong id.
    Wrongid,
    /// TC over UDP; TCP is honest.
    Truncate,
    /// NXDOMAIN with an SOA to everything.
    Nxdomain,
    /// NOERROR with an SOA and no answer to everything.
    Nodata,
    /// NOERROR with a wrong address.
    Lie,
    /// Black hole and honest in turn, each for this long, beginning with the black hole.
    Flap(Duration),
    /// TCP connections are reset, new ones at once; the UDP port is closed.
    Rst,
}

/// Which of a provider's transports a fault is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportSel {
    /// UDP only.
    Udp,
    /// TCP only.
    Tcp,
    /// Both.
    #[default]
    Both,
}

/// A fault and since when it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaultState {
    pub(crate) fault: Fault,
    pub(crate) since: Instant,
}

impl FaultState {
    /// The fault at this instant: `flap` is a black hole or nothing.
    pub(crate) fn effective(&self, now: Instant) -> Fault {
        let Fault::Flap(period) = self.fault else {
            return self.fault;
        };
        let elapsed = now.saturating_duration_since(self.since).as_micros();
        let turn = elapsed.checked_div(period.as_micros()).unwrap_or(0);
        if turn % 2 == 0 { Fault::Blackhole } else { Fault::None }
    }
}

impl Fault {
    /// Whether a datagram that arrives over UDP is lost. Together with [`Self::loses_udp_reply`] an exchange fails
    /// with exactly the probability of `loss`.
    pub(crate) fn loses_udp_query(self, random: &mut Random) -> bool {
        random.chance(1.0 - (1.0 - self.loss()).sqrt())
    }

    /// Whether a reply that is due over UDP is lost.
    pub(crate) fn loses_udp_reply(self, random: &mut Random) -> bool {
        self.loses_udp_query(random)
    }

    /// Whether a reply that is due over TCP is withheld.
    pub(crate) fn loses_tcp_reply(self, random: &mut Random) -> bool {
        random.chance(self.loss())
    }

    /// The probability that an exchange fails on the way.
    const fn loss(self) -> f64 {
        match self {
            Self::Blackhole | Self::Rst => 1.0,
            Self::Loss(probability) => probability,
            Self::None
            | Self::Servfail
            | Self::Refused
            | Self::Slow(_)
            | Self::Garbage
            | Self::Wrongid
            | Self::Truncate
            | Self::Nxdomain
            | Self::Nodata
            | Self::Lie
            | Self::Flap(_) => 0.0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Slow(extra) => return write!(out, "slow {}", extra.as_millis()),
            Self::Loss(probability) => return write!(out, "loss {probability}"),
            Self::Flap(period) if *period != FLAP_PERIOD => return write!(out, "flap {}", period.as_millis()),
            Self::Flap(_) => "flap",
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
                               nxdomain, nodata, lie, flap [MS], rst";

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
            _ => return Err(ParseFaultError::Name { given: name.into() }),
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
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
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

    #[test]
    fn flap_begins_dark_and_turns() {
        let since = crate::clock::now();
        let state = FaultState {
            fault: Fault::Flap(Duration::from_millis(100)),
            since,
        };
        let at = |ms| state.effective(since + Duration::from_millis(ms));
        assert_eq!([at(0), at(99)], [Fault::Blackhole; 2]);
        assert_eq!([at(100), at(199)], [Fault::None; 2]);
        assert_eq!(at(200), Fault::Blackhole);
    }

    #[test]
    fn loss_of_an_exchange_is_the_stated_one() {
        let mut random = Random::new(3);
        let fault = Fault::Loss(0.3);
        let lost = (0..20_000).filter(|_| fault.loses_udp_query(&mut random) || fault.loses_udp_reply(&mut random));
        let lost = lost.count();
        assert!((5_700..6_300).contains(&lost), "{lost} of 20000");
    }
}
