//! How many connections clients may have: in all and each, by what they cost, and how many handshakes at once.
//!
//! Plain connections, those under TLS and those of QUIC have places of their own, so that a crowd at one door leaves the
//! others open. A handshake is the most that anybody can have done for nothing: it has a bound of its own. Whoever may not
//! ask takes no place of those who may.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Time;

use super::guests::Guests;
pub(super) use super::guests::{Guest, Held};
use crate::metrics::Refused;
use crate::wire::Via;

/// Handshakes at once over TLS, and over QUIC: some 20 KiB of buffers each.
const HANDSHAKES: usize = 256;
/// Connections at once of all those who may not ask, whatever their kind: enough to tell them so.
const STRANGERS: usize = 32;

/// Limits of client connections. A reload changes them; who is in stays in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Plain connections open at once.
    pub tcp: usize,
    /// Connections under TLS open at once: DNS over TLS, and over HTTPS but HTTP/3.
    pub tls: usize,
    /// Connections of QUIC open at once: DNS over QUIC, and over HTTP/3.
    pub quic: usize,
    /// Time without a whole query after which a plain connection is closed.
    pub tcp_idle: Duration,
    /// The same of all others.
    pub encrypted_idle: Duration,
}

impl StreamLimits {
    /// How long a connection of this kind may be idle.
    pub(crate) fn idle(&self, via: Via) -> Duration {
        if via.is_encrypted() {
            self.encrypted_idle
        } else {
            self.tcp_idle
        }
    }
}

/// Who knocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// At which door.
    pub(crate) via: Via,
    /// From where.
    pub(crate) client: IpAddr,
    /// Whether it may ask (`listen.allow`).
    pub(crate) is_allowed: bool,
    /// When.
    pub(crate) now: Time,
}

/// All doors.
#[derive(Debug)]
pub(crate) struct Doors {
    tcp: Arc<Guests>,
    tls: Arc<Guests>,
    quic: Arc<Guests>,
    tls_handshakes: Arc<Guests>,
    quic_handshakes: Arc<Guests>,
    strangers: Arc<Guests>,
    strangers_handshakes: Arc<Guests>,
}

impl Doors {
    pub(crate) fn new(limits: &StreamLimits) -> Self {
        Self {
            tcp: Guests::new(limits.tcp),
            tls: Guests::new(limits.tls),
            quic: Guests::new(limits.quic),
            tls_handshakes: Guests::new(HANDSHAKES),
            quic_handshakes: Guests::new(HANDSHAKES),
            strangers: Guests::new(STRANGERS),
            strangers_handshakes: Guests::new(STRANGERS),
        }
    }

    pub(crate) fn resize(&self, limits: &StreamLimits) {
        self.tcp.resize(limits.tcp);
        self.tls.resize(limits.tls);
        self.quic.resize(limits.quic);
    }

    /// A connection comes in.
    ///
    /// # Errors
    /// When its client has had its share, or there is no place and nobody has to leave.
    pub(crate) fn enter(&self, caller: &Caller) -> Result<Held, Refused> {
        let door = match caller.via {
            _ if !caller.is_allowed => &self.strangers,
            Via::Udp | Via::Tcp => &self.tcp,
            Via::Tls | Via::Https => &self.tls,
            Via::H3 | Via::Quic => &self.quic,
        };
        door.enter(caller.client, caller.now)
    }

    /// A handshake begins.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn shake_hands(&self, caller: &Caller) -> Result<Held, Refused> {
        let door = match caller.via {
            _ if !caller.is_allowed => &self.strangers_handshakes,
            Via::Udp | Via::Tcp | Via::Tls | Via::Https => &self.tls_handshakes,
            Via::H3 | Via::Quic => &self.quic_handshakes,
        };
        let entered = door.enter(caller.client, caller.now);
        entered.map_err(|_full| Refused::Handshakes)
    }

    /// Whether so many handshakes over QUIC are under way that clients have to prove their address first.
    pub(crate) fn are_crowded(&self) -> bool {
        self.quic_handshakes.count() >= HANDSHAKES / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        tcp: 2,
        tls: 4,
        quic: 2,
        tcp_idle: Duration::from_secs(1),
        encrypted_idle: Duration::from_secs(2),
    };

    fn caller(via: Via, last: u8) -> Caller {
        Caller {
            via,
            client: [192, 0, 2, last].into(),
            is_allowed: true,
            now: Time::ZERO,
        }
    }

    #[test]
    fn each_kind_has_places_of_its_own_and_no_client_all_of_them() {
        let doors = Doors::new(&LIMITS);
        let enter = |via, last| doors.enter(&caller(via, last));
        let _tls = (enter(Via::Tls, 1).unwrap(), enter(Via::Https, 1).unwrap());
        assert_eq!(enter(Via::Tls, 1).unwrap_err(), Refused::Client);
        let _others = [2, 2].map(|last| enter(Via::Https, last).unwrap());
        assert!(enter(Via::Tls, 3).is_ok(), "somebody makes room");
        let _more = (enter(Via::Quic, 1).unwrap(), enter(Via::Tcp, 1).unwrap());
        assert_eq!(LIMITS.idle(Via::Tcp), LIMITS.tcp_idle);
        assert_eq!(LIMITS.idle(Via::H3), LIMITS.encrypted_idle);
    }

    #[test]
    fn whoever_may_not_ask_takes_no_place_of_those_who_may() {
        let doors = Doors::new(&LIMITS);
        let mut held = Vec::new();
        for last in 0..=255 {
            let stranger = Caller {
                is_allowed: false,
                ..caller(if last % 2 == 0 { Via::Tls } else { Via::Tcp }, last)
            };
            held.push((doors.enter(&stranger).unwrap(), doors.shake_hands(&stranger).unwrap()));
        }
        let counts = [&doors.strangers, &doors.strangers_handshakes].map(|door| door.count());
        assert_eq!(counts, [STRANGERS; 2]);
        let counts = [&doors.tcp, &doors.tls, &doors.tls_handshakes].map(|door| door.count());
        assert_eq!(counts, [0; 3]);
    }

    #[test]
    fn two_clients_do_not_keep_others_from_shaking_hands() {
        let doors = Doors::new(&LIMITS);
        let mut held = Vec::new();
        for _ in 0..HANDSHAKES / 2 {
            held.extend([1, 2].map(|last| doors.shake_hands(&caller(Via::Tls, last)).unwrap()));
        }
        let full = doors.shake_hands(&caller(Via::Https, 1)).unwrap_err();
        assert_eq!(full, Refused::Handshakes);
        assert!(doors.shake_hands(&caller(Via::Https, 3)).is_ok());
        assert!(!doors.are_crowded(), "over QUIC there are none");
    }

    #[test]
    fn a_quarter_of_the_handshakes_is_a_crowd() {
        let doors = Doors::new(&LIMITS);
        let mut held = Vec::new();
        for last in 0..64 {
            assert!(!doors.are_crowded(), "{last}");
            held.push(doors.shake_hands(&caller(Via::Quic, last)).unwrap());
        }
        assert!(doors.are_crowded());
        drop(held);
        assert!(!doors.are_crowded());
    }
}
