//! A QUIC connection as the one that keeps connections sees it: takes queries, tells what comes.
//!
//! Each query has a task of its own, from its stream's opening to the answer. A server limits how many streams there are
//! (RFC 9000 section 4.6): a query that gets none waits a moment, and those behind it stay in the queue; then another
//! connection is opened for them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use detour_core::outcome::Failure;
use http::Uri;
use quinn::{Connection, VarInt};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::dial::CONNECTION_WINDOW_BYTES;
use super::doq;
use super::h3::{self, H3Requests};
use crate::exchange::stream::link::{Arrival, LinkParts};

/// Queries in flight on one connection, unless the server allows less.
const STREAMS_MAX: usize = 256;
/// A query waits this long for the server to allow another stream.
const STREAM_WAIT: Duration = Duration::from_millis(250);
/// A query is taken back after this long: a second after its lookup's last moment.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// A connection.
pub(in crate::exchange) struct QuicLink {
    connection: Connection,
    speech: Speech,
    parts: LinkParts,
    /// Queries that have not told what became of them.
    asking: TaskTracker,
    room: Arc<Room>,
    /// Signs of life asked for so far.
    pings: AtomicU32,
    /// Datagrams that had come when somebody last looked.
    datagrams: AtomicU64,
}

/// What is spoken on it.
enum Speech {
    /// A message on each stream (RFC 9250).
    Doq,
    /// A request on each stream (RFC 9114).
    H3(H3Requests),
}

impl QuicLink {
    /// Speaks HTTP/3 on a connection, or DNS itself without a URL.
    pub(super) async fn open(connection: Connection, url: Option<&Uri>, parts: LinkParts) -> Result<Self, Failure> {
        let asking = TaskTracker::new();
        let (speech, close_code) = match url {
            None => (Speech::Doq, doq::NO_ERROR),
            Some(url) => {
                let (requests, driver) = H3Requests::open(connection.clone(), url.clone()).await?;
                parts.tasks.spawn_job(driver);
                (Speech::H3(requests), h3::NO_ERROR)
            }
        };
        let (own, told, ended) = (parts.clone(), asking.clone(), connection.clone());
        parts.tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: the connection is given up.
                () = own.token.cancelled() => ended.close(close_code, b""),
                // Cancel safe: asks for a state.
                error = ended.closed() => {
                    tracing::debug!(%error, "QUIC connection ended");
                    // Answers that came before the end are told before it.
                    told.close();
                    told.wait().await;
                    // Nobody to tell is fine: the connection was given up from here.
                    drop(own.arrivals.send(Arrival::Closed).await);
                }
            }
        });
        Ok(Self {
            datagrams: AtomicU64::new(connection.stats().udp_rx.datagrams),
            connection,
            speech,
            parts,
            asking,
            room: Arc::default(),
            pings: AtomicU32::new(0),
        })
    }

    /// Queries it carries at once; none while one waits for its stream.
    pub(in crate::exchange) fn capacity(&self) -> usize {
        if self.room.waiting.load(Ordering::Relaxed) > 0 {
            0
        } else {
            STREAMS_MAX
        }
    }

    /// Sends one query on a stream of its own; a task waits for the answer.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub(in crate::exchange) fn send(&self, key: u16, message: Vec<u8>) -> io::Result<()> {
        if let Some(error) = self.connection.close_reason() {
            return Err(io::Error::other(error));
        }
        let (parts, room) = (self.parts.clone(), Arc::clone(&self.room));
        let teller = Teller { key, parts };
        let tasks = self.parts.tasks.clone();
        match &self.speech {
            Speech::Doq => {
                let asked = doq::ask(self.connection.clone(), message, teller.clone(), room);
                tasks.spawn_job(self.asking.track_future(teller.until_given_up(asked)));
            }
            Speech::H3(requests) => {
                let asked = requests.clone().ask(message, teller.clone(), room);
                tasks.spawn_job(self.asking.track_future(teller.until_given_up(asked)));
            }
        }
        Ok(())
    }

    /// Asks for a sign of life. The library has no ping to send; a window that grows by a byte is a frame that must be
    /// acknowledged just the same (RFC 9000 section 13.2.1).
    pub(in crate::exchange) fn ping(&self) {
        let pings = self.pings.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let window = CONNECTION_WINDOW_BYTES.saturating_add(pings.min(CONNECTION_WINDOW_BYTES));
        self.connection.set_receive_window(VarInt::from_u32(window));
    }

    /// Whether anything has come since the last time this was asked.
    pub(in crate::exchange) fn has_news(&self) -> bool {
        let datagrams = self.connection.stats().udp_rx.datagrams;
        self.datagrams.swap(datagrams, Ordering::Relaxed) != datagrams
    }
}

/// Who waits for a stream.
#[derive(Debug, Default)]
pub(super) struct Room {
    waiting: AtomicUsize,
}

impl Room {
    /// Waits for a stream, but not for long; `None`: the server allows no more of them.
    pub(super) async fn wait<T>(&self, opening: impl Future<Output = T>, teller: &Teller) -> Option<T> {
        let mut opening = std::pin::pin!(opening);
        let at_once = std::future::poll_fn(|cx| std::task::Poll::Ready(opening.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(opened) = at_once {
            return Some(opened);
        }
        let opened = {
            let _waiting = Waiting::new(self);
            timeout(STREAM_WAIT, opening).await
        };
        // Whoever waits for room looks again.
        teller.tell(Arrival::Alive).await;
        opened.ok()
    }
}

/// One that waits, counted.
struct Waiting<'a>(&'a Room);

impl<'a> Waiting<'a> {
    fn new(room: &'a Room) -> Self {
        room.waiting.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells what became of one query.
#[derive(Clone)]
pub(super) struct Teller {
    key: u16,
    parts: LinkParts,
}

impl Teller {
    /// Tells the one that keeps the connection; if it was given up from here, its queries are asked elsewhere.
    async fn tell(&self, arrival: Arrival) {
        drop(self.parts.arrivals.send(arrival).await);
    }

    /// The answer came.
    pub(super) async fn message(&self, bytes: Vec<u8>, age_s: u32) {
        let key = Some(self.key);
        self.tell(Arrival::Message { key, bytes, age_s }).await;
    }

    /// It failed, and the connection goes on.
    pub(super) async fn failed(&self, failure: Failure) {
        let key = self.key;
        self.tell(Arrival::Failed { key, failure }).await;
    }

    /// The server did not look at it.
    pub(super) async fn unprocessed(&self) {
        self.tell(Arrival::Unprocessed { key: self.key }).await;
    }

    /// The connection takes no more queries.
    pub(super) async fn declined(&self) {
        self.tell(Arrival::Declined { key: self.key }).await;
    }

    /// Carries out a query unless the connection is given up before.
    async fn until_given_up(self, asked: impl Future<Output = ()>) {
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.parts.token.cancelled() => {}
            // It is not polled again.
            () = asked => {}
        }
    }
}
