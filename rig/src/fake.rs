//! A provider in this process: one UDP socket and one TCP listener on one port, on loopback or wherever it is put.
//!
//! Each transport is one task of its own which owns its socket and its schedule of delayed replies; a TCP connection is
//! another. Replies leave when they are due and not in the order of the queries. What a query is answered with is
//! decided in `reply`, in one place for all transports: an encrypted transport (later) is a task that hands over the
//! same framed bytes. Limits: [`PENDING_MAX`] replies wait per socket, a thousand or so connections are open.
//!
//! Faults and counters are shared by value (`watch`, atomics); no lock is held over an await.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sockets::bind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::fault::{Fault, FaultState, TransportSel};
use crate::law::Law;

mod reply;
mod schedule;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

/// Replies that wait per UDP socket: 20,000 queries a second for the law's longest latency, twice. Above it queries
/// are dropped and counted.
pub const PENDING_MAX: usize = 65_536;
/// How a fake is started.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// For people: logs, configs, stats.
    pub name: Box<str>,
    /// Where it listens for UDP; port 0 is any port.
    pub udp: SocketAddr,
    /// Where it listens for TCP; with a port 0 both transports share one port.
    pub tcp: SocketAddr,
    /// What honest answers take.
    pub law: Law,
    /// Decides drops and garbage.
    pub seed: u64,
}

impl FakeConfig {
    /// A fake on loopback on any port, with the default law.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            name: name.into(),
            udp: any,
            tcp: any,
            law: Law::default(),
            seed: 1,
        }
    }

    /// The same on one address for both transports.
    #[must_use]
    pub const fn at(mut self, address: SocketAddr) -> Self {
        self.udp = address;
        self.tcp = address;
        self
    }

    /// The same with another law.
    #[must_use]
    pub const fn law(mut self, law: Law) -> Self {
        self.law = law;
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
        /// `udp` or `tcp`.
        transport: &'static str,
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
}

/// What a fake counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Over UDP.
    pub udp: TransportStats,
    /// Over TCP.
    pub tcp: TransportStats,
    /// TCP connections accepted, those reset at once included.
    pub connections: u64,
}

/// Counters of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// Messages received.
    pub queries: u64,
    /// Replies sent, faulty ones included.
    pub answered: u64,
    /// Queries and replies swallowed by a fault, malformed ones, and those above a limit.
    pub dropped: u64,
}

impl Stats {
    /// Messages received over all transports.
    #[must_use]
    pub const fn queries(&self) -> u64 {
        self.udp.queries + self.tcp.queries
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, transport) in [("udp", self.udp), ("tcp", self.tcp)] {
            let TransportStats {
                queries,
                answered,
                dropped,
            } = transport;
            write!(out, "{name} queries {queries} answered {answered} dropped {dropped}, ")?;
        }
        write!(out, "connections {}", self.connections)
    }
}

/// A running fake. Dropping it ends it; [`Fake::shutdown`] also waits for the end.
pub struct Fake {
    name: Box<str>,
    udp: SocketAddr,
    tcp: SocketAddr,
    udp_fault: watch::Sender<FaultState>,
    tcp_fault: watch::Sender<FaultState>,
    counters: Arc<Counters>,
    token: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fake {
    /// Binds both transports and serves. Must be called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When an address cannot be bound, or with port 0 no port is free for both transports.
    pub fn start(config: FakeConfig) -> Result<Self, StartError> {
        let FakeConfig {
            name,
            udp,
            tcp,
            law,
            seed,
        } = config;
        let (udp_socket, listener) = bind(udp, tcp)?;
        let register = |source| StartError::Register { source };
        let udp = udp_socket.local_addr().map_err(register)?;
        let tcp = listener.local_addr().map_err(register)?;
        let udp_socket = tokio::net::UdpSocket::from_std(udp_socket).map_err(register)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(register)?;
        let state = FaultState {
            fault: Fault::None,
            since: clock::now(),
        };
        let (udp_fault, udp_faults) = watch::channel(state);
        let (tcp_fault, tcp_faults) = watch::channel(state);
        let counters = Arc::new(Counters::default());
        let token = CancellationToken::new();
        let shared = |faults, salt| Shared {
            law,
            seed: crate::random::mix(seed ^ salt),
            faults,
            counters: Arc::clone(&counters),
            token: token.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(udp::serve(udp_socket, shared(udp_faults, 1)));
        tasks.spawn(tcp::serve(listener, shared(tcp_faults, 2)));
        Ok(Self {
            name,
            udp,
            tcp,
            udp_fault,
            tcp_fault,
            counters,
            token,
            tasks,
        })
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

    /// Switches a fault on, at once. Setting the fault that holds restarts a `flap`.
    pub fn set_fault(&self, transport: TransportSel, fault: Fault) {
        let state = FaultState {
            fault,
            since: clock::now(),
        };
        if matches!(transport, TransportSel::Udp | TransportSel::Both) {
            self.udp_fault.send_replace(state);
        }
        if matches!(transport, TransportSel::Tcp | TransportSel::Both) {
            self.tcp_fault.send_replace(state);
        }
    }

    /// What it counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.counters;
        Stats {
            udp: counters.udp.read(),
            tcp: counters.tcp.read(),
            connections: counters.connections.load(Ordering::Relaxed),
        }
    }

    /// Ends all its tasks and waits for them; its port is free afterwards.
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

/// What a transport's task needs besides its socket.
#[derive(Clone)]
struct Shared {
    law: Law,
    seed: u64,
    faults: watch::Receiver<FaultState>,
    counters: Arc<Counters>,
    token: CancellationToken,
}

#[derive(Debug, Default)]
struct Counters {
    udp: TransportCounters,
    tcp: TransportCounters,
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct TransportCounters {
    queries: AtomicU64,
    answered: AtomicU64,
    dropped: AtomicU64,
}

impl TransportCounters {
    fn read(&self) -> TransportStats {
        TransportStats {
            queries: self.queries.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
