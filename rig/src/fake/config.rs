//! How a fake is started, and why it could not be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::manners::Manners;
use crate::authority::{Authority, AuthorityError};
use crate::law::Law;
use crate::transport::Transport;

/// How a fake is started.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// For people: logs, configs, stats. Also the first label of its host name, if it is encrypted.
    pub name: Box<str>,
    /// Where it listens for UDP; port 0 is any port.
    pub udp: SocketAddr,
    /// Where it listens for TCP; with a port 0 both cleartext transports share one port.
    pub tcp: SocketAddr,
    /// `None`: cleartext only.
    pub encryption: Option<Encryption>,
    /// What honest answers take.
    pub law: Law,
    /// What it does beyond answering.
    pub manners: Manners,
    /// How long a connection lives, over every stream transport.
    pub limits: ConnectionLimits,
    /// Decides drops and garbage.
    pub seed: u64,
}

/// What a fake that speaks the encrypted transports needs besides.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// Where its certificates come from.
    pub authority: Authority,
    /// Where it listens for DoT; port 0 is any port.
    pub dot: SocketAddr,
    /// Where it listens for DoH over HTTP/2; port 0 is any port.
    pub doh: SocketAddr,
    /// Where it listens for DoQ; port 0 is any port.
    pub doq: SocketAddr,
    /// Where it listens for DoH over HTTP/3; port 0 is any port.
    pub doh3: SocketAddr,
    /// Whether it gives clients tickets with which they resume their session.
    pub tickets: bool,
}

/// What ends a connection that nothing is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// A connection on which nothing was asked or in flight for this long is closed.
    pub idle: Option<Duration>,
    /// What answers over TCP and DoT say of that (edns-tcp-keepalive, RFC 7828), in tenths of a second.
    pub told_idle: Option<u16>,
    /// A connection is closed when it has answered so many.
    pub queries_max: Option<u64>,
    /// Queries that may be open on one connection of HTTP/2 or QUIC; the client is told (RFC 9113 section 5.1.2, RFC 9000
    /// section 4.6).
    pub streams_max: u32,
}

impl Default for ConnectionLimits {
    /// No limit but that of streams, which is 1,024: `loss` leaves unanswered requests open.
    fn default() -> Self {
        Self {
            idle: None,
            told_idle: None,
            queries_max: None,
            streams_max: 1_024,
        }
    }
}

impl FakeConfig {
    /// A fake on loopback on any port, cleartext only, with the default law.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            name: name.into(),
            udp: any,
            tcp: any,
            encryption: None,
            law: Law::default(),
            manners: Manners::default(),
            limits: ConnectionLimits::default(),
            seed: 1,
        }
    }

    /// The same on one address for both cleartext transports.
    #[must_use]
    pub const fn at(mut self, address: SocketAddr) -> Self {
        self.udp = address;
        self.tcp = address;
        self
    }

    /// The same with the encrypted transports, on any ports of the address it has; clients that trust `authority` trust it.
    #[must_use]
    pub fn encrypted(mut self, authority: &Authority) -> Self {
        let any = SocketAddr::new(self.tcp.ip(), 0);
        self.encryption = Some(Encryption {
            authority: authority.clone(),
            dot: any,
            doh: any,
            doq: any,
            doh3: any,
            tickets: true,
        });
        self
    }

    /// The same with other limits of connections.
    #[must_use]
    pub const fn limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same with another law.
    #[must_use]
    pub const fn law(mut self, law: Law) -> Self {
        self.law = law;
        self
    }

    /// The same with other manners.
    #[must_use]
    pub const fn manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// The same with another seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Why a fake could not be started. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {transport} {address}")]
    Bind {
        /// For which transport.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// No port was free for both transports, often enough to stop trying.
    #[error("found no port of {address} that is free for both udp and tcp")]
    NoCommonPort {
        /// The address, with port 0.
        address: SocketAddr,
    },
    /// The runtime took no socket.
    #[error("cannot register a socket with the runtime")]
    Register {
        /// The system's reason.
        source: io::Error,
    },
    /// There is no certificate for it.
    #[error("cannot make a TLS server")]
    Certificate(#[from] AuthorityError),
}
