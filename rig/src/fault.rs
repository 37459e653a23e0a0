//! What can be wrong with a provider, as a value that is switched while the provider runs.
//!
//! A faulty reply leaves [`FAULTY_REPLY_AFTER`] the query and not after the name's own latency: a broken front end
//! does not resolve first. Faults that withhold (`blackhole`, `loss`, `flap`, `rst`) also swallow answers that were
//! already on their way, because that is what a cable that is pulled does.
//!
//! Each transport has its own fault. One that its transport cannot have (a stalled handshake over UDP, a status of HTTP
//! over TLS alone) is none there, so that a fault can be set on all of a provider's transports at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::authority::Shown;
use crate::random::Random;
use crate::transport::Transport;

pub use hostile::Hostile;
pub use text::{FAULT_WORDS, ParseFaultError};

mod hostile;
mod text;

/// When a faulty reply leaves: what a fast answer takes, so speed does not give the fault away.
pub const FAULTY_REPLY_AFTER: Duration = Duration::from_millis(10);

/// What is wrong with a provider over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fault {
    /// Nothing: honest answers after the law's latency.
    #[default]
    None,
    /// No answers. Connections stay open and nothing is sent on them, no handshake and no ping's echo either; new ones
    /// are accepted and stay silent.
    Blackhole,
    /// SERVFAIL to everything.
    Servfail,
    /// REFUSED to everything.
    Refused,
    /// Honest answers, this much later.
    Slow(Duration),
    /// Exchanges fail with this probability: over UDP half the blame lies with each direction, over connections the answer
    /// is withheld.
    Loss(f64),
    /// Random bytes; over TCP and TLS in a well-formed frame, over HTTP in a well-formed response.
    Garbage,
    /// The right answer with a wrong id.
    Wrongid,
    /// TC over UDP; streams are honest.
    Truncate,
    /// NXDOMAIN with an SOA to everything.
    Nxdomain,
    /// NOERROR with an SOA and no answer to everything.
    Nodata,
    /// NOERROR with a wrong address.
    Lie,
    /// Black hole and honest in turn, each for this long, beginning with the black hole.
    Flap(Duration),
    /// Connections are reset, new ones at once; the UDP port is closed. Over QUIC they are closed and refused.
    Rst,
    /// TLS handshakes are not answered, and what is open goes silent. Over QUIC a client is asked to come again with a
    /// token, and then not answered.
    TlsStall,
    /// A certificate of 2020. What is open is reset and no session is resumed, so that everybody sees it.
    TlsExpired,
    /// A certificate that begins in 2090. What is open is reset and no session is resumed, so that everybody sees it.
    TlsNotYetValid,
    /// A certificate for another name. What is open is reset and no session is resumed, so that everybody sees it.
    TlsWrongName,
    /// HTTP status 500 to everything.
    Http500,
    /// HTTP status 429 to everything, with a Retry-After of so many seconds.
    Http429(u32),
    /// What means harm.
    Hostile(Hostile),
}

/// How connections are closed on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing more is read, what is in flight is answered; over HTTP/2 announced by GOAWAY.
    Polite,
    /// What is in flight is not answered; over HTTP/2 with a GOAWAY that says up to where it was read.
    Abrupt,
}

/// What one transport of a fake does at present.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conduct {
    pub(crate) fault: Fault,
    /// Since when the fault holds.
    pub(crate) since: Instant,
    /// How often what is open was to be reset: a connection that is older than the last time goes, also when the fault
    /// is over before it looks.
    pub(crate) resets: u64,
    /// How often what is open was to be closed, and how.
    pub(crate) closings: u64,
    pub(crate) closing: Closing,
    /// Whose datagrams are swallowed.
    pub(crate) cut_off: Option<u32>,
}

impl Conduct {
    pub(crate) const fn honest(now: Instant) -> Self {
        Self {
            fault: Fault::None,
            since: now,
            resets: 0,
            closings: 0,
            closing: Closing::Polite,
            cut_off: None,
        }
    }

    /// Switches to a fault, as far as this transport can have it.
    pub(crate) const fn switch(&mut self, transport: Transport, fault: Fault, now: Instant) {
        let fault = fault.over(transport);
        self.fault = fault;
        self.since = now;
        if fault.resets_open() {
            self.resets += 1;
        }
    }

    /// Asks what is open to close.
    pub(crate) const fn close(&mut self, closing: Closing) {
        self.closing = closing;
        self.closings += 1;
    }

    /// The fault at this instant: `flap` is a black hole or nothing.
    pub(crate) fn effective(&self, now: Instant) -> Fault {
        let Fault::Flap(period) = self.fault else {
            return self.fault;
        };
        if self.turns(period, now).is_multiple_of(2) {
            Fault::Blackhole
        } else {
            Fault::None
        }
    }

    /// When the effective fault changes by itself.
    pub(crate) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let Fault::Flap(period) = self.fault else { return None };
        let turns = u32::try_from(self.turns(period, now)).unwrap_or(u32::MAX);
        self.since.checked_add(period.checked_mul(turns.saturating_add(1))?)
    }

    /// Half-periods of `flap` that have passed.
    fn turns(&self, period: Duration, now: Instant) -> u128 {
        let elapsed = now.saturating_duration_since(self.since).as_micros();
        elapsed.checked_div(period.as_micros()).unwrap_or(0)
    }
}

impl Fault {
    /// Whether `transport` can have it.
    #[must_use]
    pub fn is_possible(self, transport: Transport) -> bool {
        self.over(transport) == self
    }

    /// What this fault is over `transport`: none where that transport cannot have it.
    const fn over(self, transport: Transport) -> Self {
        match (self, transport) {
            (
                Self::TlsStall | Self::TlsExpired | Self::TlsNotYetValid | Self::TlsWrongName,
                Transport::Udp | Transport::Tcp,
            )
            | (Self::Http500 | Self::Http429(_), Transport::Udp | Transport::Tcp | Transport::Dot | Transport::Doq) => {
                Self::None
            }
            (Self::Hostile(hostile), transport) if !hostile.is_possible(transport) => Self::None,
            (fault, _) => fault,
        }
    }

    /// Whether nothing is sent, from the connection's first byte on.
    pub(crate) const fn is_silent(self) -> bool {
        matches!(self, Self::Blackhole | Self::TlsStall)
    }

    /// Whether nothing is sent once there was a handshake.
    pub(crate) const fn is_deaf(self) -> bool {
        matches!(self, Self::Hostile(Hostile::Deaf))
    }

    /// Whether this is the fault.
    pub(crate) fn is_hostile(self, hostile: Hostile) -> bool {
        self == Self::Hostile(hostile)
    }

    /// Whether connections that are open when it is set are reset.
    const fn resets_open(self) -> bool {
        matches!(
            self,
            Self::Rst | Self::TlsExpired | Self::TlsNotYetValid | Self::TlsWrongName
        )
    }

    /// The certificate that is shown.
    pub(crate) const fn shown(self) -> Shown {
        if matches!(self, Self::TlsExpired) {
            Shown::Expired
        } else if matches!(self, Self::TlsNotYetValid) {
            Shown::NotYetValid
        } else if matches!(self, Self::TlsWrongName) {
            Shown::OtherName
        } else {
            Shown::Right
        }
    }

    /// Whether a datagram that arrives over UDP is lost. Together with [`Self::loses_udp_reply`] an exchange fails
    /// with exactly the probability of `loss`.
    pub(crate) fn loses_udp_query(self, random: &mut Random) -> bool {
        random.chance(1.0 - (1.0 - self.loss()).sqrt())
    }

    /// Whether a reply that is due over UDP is lost.
    pub(crate) fn loses_udp_reply(self, random: &mut Random) -> bool {
        self.loses_udp_query(random)
    }

    /// Whether a reply that is due over a stream is withheld.
    pub(crate) fn loses_stream_reply(self, random: &mut Random) -> bool {
        random.chance(self.loss())
    }

    /// The probability that an exchange fails on the way.
    const fn loss(self) -> f64 {
        match self {
            Self::Blackhole | Self::Rst | Self::TlsStall | Self::Hostile(Hostile::Deaf) => 1.0,
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
            | Self::Flap(_)
            | Self::TlsExpired
            | Self::TlsNotYetValid
            | Self::TlsWrongName
            | Self::Http500
            | Self::Http429(_)
            | Self::Hostile(_) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flap_begins_dark_and_turns() {
        let since = crate::clock::now();
        let mut state = Conduct::honest(since);
        state.switch(Transport::Tcp, Fault::Flap(Duration::from_millis(100)), since);
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
