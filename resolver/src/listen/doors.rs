//! How many connections clients may have: in all and each, by what they cost, and how many handshakes at once.
//!
//! Plain connections, those under TLS and those of QUIC have places of their own, so that a crowd at one door leaves the
//! others open. A handshake is the most that a stranger can have done for nothing: it has a bound of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::fair::{PerClient, Place};
use crate::metrics::Refused;
use crate::places::Places;
use crate::tasks::Tasks;
use crate::wire::Via;

/// Handshakes at once, over TLS and over QUIC together: some 20 KiB of buffers each. More are turned away.
const HANDSHAKES: usize = 256;

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

/// A place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _place: OwnedSemaphorePermit,
    _share: Place,
}

/// So many places, half of them at most for one client.
#[derive(Debug)]
struct Door {
    places: Places,
    shares: Arc<PerClient>,
}

impl Door {
    fn new(places: usize) -> Self {
        Self {
            places: Places::new(places),
            shares: PerClient::half_of(places),
        }
    }

    fn resize(&self, places: usize, tasks: &Tasks) {
        self.places.resize(places, tasks);
        self.shares.resize(places);
    }

    fn enter(&self, client: IpAddr) -> Result<Held, Refused> {
        let share = self.shares.take(client).ok_or(Refused::Client)?;
        let place = self.places.take().ok_or(Refused::Total)?;
        Ok(Held {
            _place: place,
            _share: share,
        })
    }
}

/// All doors.
#[derive(Debug)]
pub(crate) struct Doors {
    tcp: Door,
    tls: Door,
    quic: Door,
    handshakes: Door,
}

impl Doors {
    pub(crate) fn new(limits: &StreamLimits) -> Self {
        Self {
            tcp: Door::new(limits.tcp),
            tls: Door::new(limits.tls),
            quic: Door::new(limits.quic),
            handshakes: Door::new(HANDSHAKES),
        }
    }

    pub(crate) fn resize(&self, limits: &StreamLimits, tasks: &Tasks) {
        self.tcp.resize(limits.tcp, tasks);
        self.tls.resize(limits.tls, tasks);
        self.quic.resize(limits.quic, tasks);
    }

    /// A connection of this kind comes in.
    ///
    /// # Errors
    /// When there is no place, or its client has had its share.
    pub(crate) fn enter(&self, via: Via, client: IpAddr) -> Result<Held, Refused> {
        let door = match via {
            Via::Udp | Via::Tcp => &self.tcp,
            Via::Tls | Via::Https => &self.tls,
            Via::H3 | Via::Quic => &self.quic,
        };
        door.enter(client)
    }

    /// A handshake begins.
    ///
    /// # Errors
    /// When too many are under way.
    pub(crate) fn shake_hands(&self, client: IpAddr) -> Result<Held, Refused> {
        self.handshakes.enter(client).map_err(|_full| Refused::Handshakes)
    }

    /// Whether so many handshakes are under way that strangers have to prove their address first.
    pub(crate) fn are_crowded(&self) -> bool {
        HANDSHAKES - self.handshakes.places.free().min(HANDSHAKES) >= HANDSHAKES / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_places_of_its_own_and_no_client_all_of_them() {
        let limits = StreamLimits {
            tcp: 2,
            tls: 4,
            quic: 2,
            tcp_idle: Duration::from_secs(1),
            encrypted_idle: Duration::from_secs(2),
        };
        let doors = Doors::new(&limits);
        let (one, two, three): (IpAddr, IpAddr, IpAddr) =
            ([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), [192, 0, 2, 3].into());
        let tls = doors.enter(Via::Tls, one).unwrap();
        let https = doors.enter(Via::Https, one).unwrap();
        assert_eq!(doors.enter(Via::Tls, one).unwrap_err(), Refused::Client);
        let others = [two, two].map(|client| doors.enter(Via::Https, client).unwrap());
        assert_eq!(doors.enter(Via::Tls, three).unwrap_err(), Refused::Total);
        let _quic = doors.enter(Via::Quic, one).unwrap();
        let _tcp = doors.enter(Via::Tcp, one).unwrap();
        drop((tls, https, others));
        assert!(doors.enter(Via::Tls, three).is_ok());
        assert_eq!(limits.idle(Via::Tcp), limits.tcp_idle);
        assert_eq!(limits.idle(Via::H3), limits.encrypted_idle);
    }

    #[test]
    fn a_quarter_of_the_handshakes_is_a_crowd() {
        let doors = Doors::new(&StreamLimits {
            tcp: 1,
            tls: 1,
            quic: 1,
            tcp_idle: Duration::ZERO,
            encrypted_idle: Duration::ZERO,
        });
        let mut held = Vec::new();
        for number in 0..64 {
            assert!(!doors.are_crowded(), "{number}");
            held.push(doors.shake_hands([192, 0, 2, number].into()).unwrap());
        }
        assert!(doors.are_crowded());
        drop(held);
        assert!(!doors.are_crowded());
    }
}
