//! A provider in this process, on loopback or wherever it is put: UDP and TCP on one port, and if it is told so DoT, DoH,
//! DoQ and DoH over HTTP/3 on one each.
//!
//! Each transport is one task of its own which owns its socket and its schedule of delayed replies; a connection is
//! another. Replies leave when they are due and not in the order of the queries. What a query is answered with is
//! decided in `reply`, in one place for all transports; what a connection is (TCP, TLS over it, HTTP/2 over that) in
//! `streams`, and in `quic` for those over QUIC. Limits: [`PENDING_MAX`] replies wait per UDP socket, a thousand or so connections are open.
//!
//! Faults and counters are shared by value (`watch`, atomics); no lock is held over an await.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use sockets::{bind, bind_datagrams, bind_tcp};
use stats::Counters;
use streams::Speech;
use tls::Tls;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authority::server_name;
use crate::clock;
use crate::fault::{Closing, Conduct, Fault};
use crate::law::Law;
use crate::random::mix;
use crate::transport::{ListedTransports, Transport, TransportSel};

pub use config::{ConnectionLimits, Encryption, FakeConfig, StartError};
pub use manners::Manners;
pub use stats::{Stats, TransportStats};

mod config;
mod doh;
mod framed;
mod gate;
mod hostile;
mod manners;
mod owner;
mod quic;
pub(crate) mod reply;
mod schedule;
pub(crate) mod sockets;
mod stats;
mod streams;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod udp;

/// Replies that wait per UDP socket: 20,000 queries a second for the law's longest latency, twice. Above it queries
/// are dropped and counted.
pub const PENDING_MAX: usize = 65_536;

/// A running fake. Dropping it ends it; [`Fake::shutdown`] also waits for the end.
pub struct Fake {
    name: Box<str>,
    udp: SocketAddr,
    tcp: SocketAddr,
    sides: Vec<Side>,
    token: CancellationToken,
    tasks: JoinSet<()>,
}

/// What a fake keeps of one of its transports.
struct Side {
    transport: Transport,
    address: SocketAddr,
    /// Of its key; none without TLS.
    pin: Option<String>,
    conduct: watch::Sender<Conduct>,
    counters: Arc<Counters>,
}

impl Fake {
    /// Binds its transports and serves. Must be called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When an address cannot be bound, with port 0 no port is free for both cleartext transports, or no certificate
    /// can be made for its name.
    pub fn start(config: FakeConfig) -> Result<Self, StartError> {
        let (udp_socket, tcp_listener) = bind(config.udp, config.tcp)?;
        let register = |source| StartError::Register { source };
        let mut fake = Self {
            udp: udp_socket.local_addr().map_err(register)?,
            tcp: tcp_listener.local_addr().map_err(register)?,
            name: config.name.clone(),
            sides: Vec::new(),
            token: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        let udp_socket = UdpSocket::from_std(udp_socket).map_err(register)?;
        let tcp_listener = TcpListener::from_std(tcp_listener).map_err(register)?;
        let udp = fake.side(Transport::Udp, fake.udp, &config);
        fake.tasks.spawn(udp::serve(udp_socket, udp));
        let tcp = fake.side(Transport::Tcp, fake.tcp, &config);
        fake.tasks.spawn(streams::serve(tcp_listener, Speech::Tcp, tcp));
        if let Some(encryption) = &config.encryption {
            fake.start_stream(Transport::Dot, encryption.dot, encryption, &config)?;
            fake.start_stream(Transport::Doh, encryption.doh, encryption, &config)?;
            fake.start_quic(Transport::Doq, encryption.doq, encryption, &config)?;
            fake.start_quic(Transport::Doh3, encryption.doh3, encryption, &config)?;
        }
        Ok(fake)
    }

    fn start_stream(
        &mut self,
        transport: Transport,
        wanted: SocketAddr,
        encryption: &Encryption,
        config: &FakeConfig,
    ) -> Result<(), StartError> {
        let name = server_name(&self.name);
        let tls = Arc::new(Tls::new(encryption, &name, wanted.ip(), transport)?);
        let register = |source| StartError::Register { source };
        let listener = TcpListener::from_std(bind_tcp(wanted, transport)?).map_err(register)?;
        let address = listener.local_addr().map_err(register)?;
        let shared = self.side(transport, address, config);
        if let Some(side) = self.sides.last_mut() {
            side.pin = Some(tls.pin.clone());
        }
        let speech = if transport == Transport::Dot {
            Speech::Dot(tls)
        } else {
            Speech::Doh(tls)
        };
        self.tasks.spawn(streams::serve(listener, speech, shared));
        Ok(())
    }

    fn start_quic(
        &mut self,
        transport: Transport,
        wanted: SocketAddr,
        encryption: &Encryption,
        config: &FakeConfig,
    ) -> Result<(), StartError> {
        let register = |source| StartError::Register { source };
        let socket = bind_datagrams(wanted, transport, false)?;
        let shared = self.side(transport, socket.local_addr().map_err(register)?, config);
        let name = server_name(&self.name);
        let servers = quic::Servers::new(encryption, &name, wanted.ip(), &shared)?;
        if let Some(side) = self.sides.last_mut() {
            side.pin = Some(servers.pin.clone());
        }
        let listener = quic::Listener::new(socket, servers, shared).map_err(register)?;
        self.tasks.spawn(listener.serve());
        Ok(())
    }

    /// A new side, honest, and what its task needs of it.
    fn side(&mut self, transport: Transport, address: SocketAddr, config: &FakeConfig) -> Shared {
        let (sender, conduct) = watch::channel(Conduct::honest(clock::now()));
        let counters = Arc::new(Counters::default());
        let salt = u64::try_from(self.sides.len()).unwrap_or(0) + 1;
        self.sides.push(Side {
            transport,
            address,
            pin: None,
            conduct: sender,
            counters: Arc::clone(&counters),
        });
        Shared {
            transport,
            law: config.law,
            manners: config.manners,
            limits: config.limits,
            seed: mix(config.seed ^ salt),
            conduct,
            counters,
            token: self.token.clone(),
        }
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers UDP, and TCP too unless the config said otherwise.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.udp
    }

    /// Where it answers TCP.
    #[must_use]
    pub const fn tcp_address(&self) -> SocketAddr {
        self.tcp
    }

    /// Where it answers over this transport; `None` when it does not.
    #[must_use]
    pub fn address_of(&self, transport: Transport) -> Option<SocketAddr> {
        self.side_of(transport).map(|side| side.address)
    }

    /// The name in its certificates.
    #[must_use]
    pub fn server_name(&self) -> String {
        server_name(&self.name)
    }

    /// The pin of the key of this transport, as a node's configuration has it; `None` when it has none.
    #[must_use]
    pub fn pin(&self, transport: Transport) -> Option<&str> {
        self.side_of(transport)?.pin.as_deref()
    }

    /// Its endpoints over these transports, as a node's configuration names them; those it does not have are left out.
    #[must_use]
    pub fn endpoints(&self, listed: ListedTransports) -> Vec<String> {
        let name = self.server_name();
        let endpoint = |transport: &Transport| Some(transport.endpoint(self.address_of(*transport)?, Some(&name)));
        listed.transports().iter().filter_map(endpoint).collect()
    }

    /// Switches a fault on, at once, on each of the transports that can have it; on the others none. Setting the fault
    /// that holds restarts a `flap`.
    pub fn set_fault(&self, transports: TransportSel, fault: Fault) {
        let now = clock::now();
        self.modify(transports, |transport, conduct| conduct.switch(transport, fault, now));
        for side in self.sides.iter().filter(|side| transports.includes(side.transport)) {
            side.counters.tally.mark();
        }
    }

    /// Swallows what comes over UDP from this process of this machine, and answers all others: its way here is broken,
    /// and nobody else's.
    pub fn cut_off(&self, process: Option<u32>) {
        self.modify(TransportSel::Only(Transport::Udp), |_, conduct| {
            conduct.cut_off = process
        });
    }

    /// Closes the connections that are open on these transports.
    pub fn close_connections(&self, transports: TransportSel, closing: Closing) {
        self.modify(transports, |_, conduct| conduct.close(closing));
    }

    fn modify(&self, transports: TransportSel, change: impl Fn(Transport, &mut Conduct)) {
        for side in self.sides.iter().filter(|side| transports.includes(side.transport)) {
            side.conduct.send_modify(|conduct| change(side.transport, conduct));
        }
    }

    /// What it counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for side in &self.sides {
            stats.set(side.transport, side.counters.read());
        }
        stats
    }

    /// How many queries of the load with this seed reached it; a node's own (probes, canaries) are in none.
    #[must_use]
    pub fn asked(&self, seed: u64) -> u64 {
        self.sides.iter().map(|side| side.counters.tally.asked(seed)).sum()
    }

    /// How many queries of any load reached it.
    #[must_use]
    pub fn asked_by_clients(&self) -> u64 {
        self.sides.iter().map(|side| side.counters.tally.total()).sum()
    }

    /// When the first query of a load reached it since its fault was set last, in microseconds of CLOCK_BOOTTIME.
    #[must_use]
    pub fn first_asked_us(&self) -> Option<u64> {
        self.sides
            .iter()
            .filter_map(|side| side.counters.tally.first_us())
            .min()
    }

    /// The name that the last client to complete a handshake over this transport asked for (RFC 6066 section 3).
    #[must_use]
    pub fn last_server_name(&self, transport: Transport) -> Option<Box<str>> {
        self.side_of(transport)?.counters.server_name.borrow().clone()
    }

    /// How the keys of the last handshake over this transport were agreed, such as `X25519` (RFC 8446 section 4.2.7).
    #[must_use]
    pub fn last_key_exchange(&self, transport: Transport) -> Option<Box<str>> {
        self.side_of(transport)?.counters.key_exchange.borrow().clone()
    }

    /// The authority of the last request over this version of HTTP.
    #[must_use]
    pub fn last_authority(&self, transport: Transport) -> Option<Box<str>> {
        self.side_of(transport)?.counters.authority.borrow().clone()
    }

    fn side_of(&self, transport: Transport) -> Option<&Side> {
        self.sides.iter().find(|side| side.transport == transport)
    }

    /// Ends all its tasks and waits for them; its ports are free afterwards.
    pub async fn shutdown(mut self) {
        self.token.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fake")
            .field("name", &self.name)
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

/// What a transport's tasks need besides their socket.
#[derive(Clone)]
struct Shared {
    transport: Transport,
    law: Law,
    manners: Manners,
    limits: ConnectionLimits,
    seed: u64,
    conduct: watch::Receiver<Conduct>,
    counters: Arc<Counters>,
    token: CancellationToken,
}

impl Shared {
    /// The fault at this instant.
    fn fault(&self, now: Instant) -> Fault {
        self.conduct.borrow().effective(now)
    }
}
