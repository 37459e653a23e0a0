//! DNS over a connection to one endpoint: TCP (RFC 7766), TLS (RFC 7858), HTTPS (RFC 8484), QUIC (RFC 9250). One
//! connection for many queries, answered in any order.
//!
//! Connecting happens once for all who wait. A query whose connection dies, after that had carried others, is written
//! once more to a new one, because servers close idle connections at moments of their own choosing (RFC 7766 section
//! 6.2.4). A connection that has queries in flight and has not sent a byte for two seconds gets no new ones: another
//! connection takes over its queue.

mod arrived;
mod connection;
pub(super) mod dial;
mod frames;
mod h2;
pub(super) mod http;
pub(super) mod link;
mod retry_after;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use detour_core::Time;
use detour_core::idle::IdleLimit;
use detour_core::outcome::Failure;
use detour_core::time::{MS, SEC};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::connection::Connection;
pub(super) use self::dial::Dialer;
use super::line::Line;
use super::quic::QuicSockets;
use super::{Attempt, Remote};

/// Queries waiting to be written. Full: the query fails here and is asked elsewhere.
const QUEUE: usize = 1_024;
/// Connections nobody asked for are made this far apart: a server that closes them at once is left alone.
const WARM_AGAIN_US: u64 = 10 * SEC;
/// What connecting is assumed to take before it was measured. More would let the first query of all wait for a provider
/// that is gone.
const CONNECT_ASSUMED_US: u64 = 30 * MS;

/// The stream transport of one endpoint.
#[derive(Debug)]
pub(super) struct StreamLine {
    line: Arc<Line>,
    known: Arc<Known>,
    /// The way to the connection for new queries; held while one is queued.
    current: Mutex<Option<mpsc::Sender<Attempt>>>,
}

/// What all connections to one endpoint share.
#[derive(Debug)]
struct Known {
    dialer: Dialer,
    /// When the server closes idle connections; written when it did.
    idle: Mutex<IdleLimit>,
    /// Connections that stand.
    open: AtomicUsize,
    /// What connecting took lately, microseconds.
    connect_us: AtomicU64,
    /// When a connection was last made before anybody asked, microseconds.
    warmed_us: AtomicU64,
}

impl Known {
    /// A connection stands, after this long.
    fn connected(&self, took_us: u64) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let before = self.connect_us.load(Ordering::Relaxed);
        // Old slowness fades by an eighth each time.
        self.connect_us
            .store(took_us.max(before - (before >> 3)), Ordering::Relaxed);
    }

    /// It does no more.
    fn disconnected(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn close_after_us(&self, now: Time) -> u64 {
        self.idle.lock().close_after_us(now)
    }
}

impl StreamLine {
    pub(super) fn new(line: Arc<Line>, remote: &Remote, quic: &Arc<QuicSockets>) -> Self {
        let known = Known {
            dialer: Dialer::new(line.transport, remote, quic),
            idle: Mutex::default(),
            open: AtomicUsize::new(0),
            connect_us: AtomicU64::new(CONNECT_ASSUMED_US),
            warmed_us: AtomicU64::new(0),
        };
        Self {
            line,
            known: Arc::new(known),
            current: Mutex::new(None),
        }
    }

    /// Asks on the current connection, or on a new one.
    pub(super) fn begin(&self, attempt: Attempt) {
        let mut current = self.current.lock();
        let attempt = match current.as_ref() {
            None => attempt,
            Some(queue) => match queue.try_send(attempt) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Closed(attempt)) => attempt,
                Err(mpsc::error::TrySendError::Full(attempt)) => {
                    drop(current);
                    self.line
                        .failed(&attempt, self.line.unwritten(&attempt), Failure::Local);
                    return;
                }
            },
        };
        *current = Some(self.open(attempt));
    }

    /// Connects, unless a connection stands or is being made: the next question shall not wait for it.
    pub(super) fn warm_up(&self) {
        let now = self.line.clock.now();
        let warmed = Time::from_micros(self.known.warmed_us.load(Ordering::Relaxed));
        let is_due = warmed == Time::ZERO || now.since(warmed) >= WARM_AGAIN_US;
        let mut current = self.current.lock();
        if is_due && self.line.is_kept_warm() && current.as_ref().is_none_or(mpsc::Sender::is_closed) {
            self.known.warmed_us.store(now.as_micros(), Ordering::Relaxed);
            *current = Some(self.start(Connection::warm(Arc::clone(&self.line), Arc::clone(&self.known))));
        }
    }

    /// Takes a new connection from here on; the current one ends when what it carries is answered.
    pub(super) fn renew(&self) {
        drop(self.current.lock().take());
        self.known.dialer.renew(self.line.clock.now());
    }

    /// Asks on a connection of its own.
    pub(super) fn begin_fresh(&self, attempt: Attempt) {
        // The queue is dropped: the connection closes when its one query is answered.
        drop(self.open(attempt));
    }

    /// How long a query begun now waits for a connection, microseconds.
    pub(super) fn connect_us(&self) -> u64 {
        if self.known.open.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        self.known.connect_us.load(Ordering::Relaxed)
    }

    /// Starts a connection with a first query.
    fn open(&self, first: Attempt) -> mpsc::Sender<Attempt> {
        self.start(Connection::new(Arc::clone(&self.line), Arc::clone(&self.known), first))
    }

    fn start(&self, connection: Connection) -> mpsc::Sender<Attempt> {
        // Full: the newest query fails here, and is asked elsewhere at once.
        let (queue, receiver) = mpsc::channel(QUEUE);
        self.line
            .tasks
            .spawn_job(async move { connection.run(Some(receiver)).await });
        queue
    }
}
