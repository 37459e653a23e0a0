//! What a fake counts, per transport: lock-free while it counts, a plain value when it is read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::HandshakeKind;
use tokio::sync::watch;

use super::tally::Tally;
use crate::transport::Transport;

/// What a fake counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Over UDP.
    pub udp: TransportStats,
    /// Over TCP.
    pub tcp: TransportStats,
    /// Over TLS.
    pub dot: TransportStats,
    /// Over HTTP/2.
    pub doh: TransportStats,
    /// Over QUIC.
    pub doq: TransportStats,
    /// Over HTTP/3.
    pub doh3: TransportStats,
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
    /// Connections accepted, those reset at once included.
    pub connections: u64,
    /// Connections open at present.
    pub open: u64,
    /// Connections the fake closed because nothing was asked on them for too long.
    pub closed_idle: u64,
    /// Handshakes with a certificate.
    pub handshakes_full: u64,
    /// Handshakes that resumed a session.
    pub handshakes_resumed: u64,
    /// Handshakes that were begun and not completed: refused by the client, given up, or cut.
    pub handshakes_failed: u64,
    /// DoH queries that came by GET; the others came by POST.
    pub gets: u64,
}

impl Stats {
    /// Counters of this transport.
    #[must_use]
    pub const fn of(&self, transport: Transport) -> &TransportStats {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
            Transport::Dot => &self.dot,
            Transport::Doh => &self.doh,
            Transport::Doq => &self.doq,
            Transport::Doh3 => &self.doh3,
        }
    }

    /// Messages received over all transports.
    #[must_use]
    pub fn queries(&self) -> u64 {
        Transport::ALL.iter().map(|transport| self.of(*transport).queries).sum()
    }

    pub(super) const fn set(&mut self, transport: Transport, stats: TransportStats) {
        match transport {
            Transport::Udp => self.udp = stats,
            Transport::Tcp => self.tcp = stats,
            Transport::Dot => self.dot = stats,
            Transport::Doh => self.doh = stats,
            Transport::Doq => self.doq = stats,
            Transport::Doh3 => self.doh3 = stats,
        }
    }
}

impl fmt::Display for Stats {
    /// One part per transport; of the encrypted ones, those that were used.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for transport in Transport::ALL {
            let stats = self.of(transport);
            if transport.is_encrypted() && stats.connections == 0 {
                continue;
            }
            let TransportStats {
                queries,
                answered,
                dropped,
                ..
            } = stats;
            write!(
                out,
                "{separator}{transport} queries {queries} answered {answered} dropped {dropped}"
            )?;
            if transport != Transport::Udp {
                write!(out, " connections {} open {}", stats.connections, stats.open)?;
            }
            if transport.is_encrypted() {
                let (full, resumed) = (stats.handshakes_full, stats.handshakes_resumed);
                write!(
                    out,
                    " handshakes {full} full {resumed} resumed {} failed",
                    stats.handshakes_failed
                )?;
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// The counters themselves, and what the last client of an encrypted transport asked for.
#[derive(Debug, Default)]
pub(super) struct Counters {
    queries: AtomicU64,
    pub(super) tally: Tally,
    pub(super) answered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) closed_idle: AtomicU64,
    handshakes_full: AtomicU64,
    handshakes_resumed: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) server_name: watch::Sender<Option<Box<str>>>,
    pub(super) authority: watch::Sender<Option<Box<str>>>,
    pub(super) key_exchange: watch::Sender<Option<Box<str>>>,
}

impl Counters {
    pub(super) fn read(&self) -> TransportStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TransportStats {
            queries: load(&self.queries),
            answered: load(&self.answered),
            dropped: load(&self.dropped),
            connections: load(&self.connections),
            open: load(&self.open),
            closed_idle: load(&self.closed_idle),
            handshakes_full: load(&self.handshakes_full),
            handshakes_resumed: load(&self.handshakes_resumed),
            handshakes_failed: load(&self.handshakes_failed),
            gets: load(&self.gets),
        }
    }

    /// Counts a message that arrived.
    pub(super) fn query(&self, message: &[u8]) {
        add(&self.queries, 1);
        self.tally.count(message);
    }

    pub(super) fn handshake(&self, kind: Option<HandshakeKind>) {
        let counter = match kind {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => &self.handshakes_full,
            Some(HandshakeKind::Resumed) => &self.handshakes_resumed,
            None => &self.handshakes_failed,
        };
        add(counter, 1);
    }
}

/// Counts a connection as open until it is dropped.
pub(super) struct OpenGuard<'a>(&'a Counters);

impl<'a> OpenGuard<'a> {
    pub(super) fn new(counters: &'a Counters) -> Self {
        add(&counters.open, 1);
        Self(counters)
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
