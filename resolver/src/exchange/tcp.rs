//! DNS over TCP to one endpoint (RFC 7766): one connection for many queries, answered in any order.
//!
//! Connecting happens once for all who wait. A query whose connection dies, after that had carried others, is written
//! once more to a new one, because servers close idle connections at moments of their own choosing (section 6.2.4). A connection that has queries in flight and has not sent a byte for two seconds gets no new
//! ones: they go to a new connection beside it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::outcome::Failure;
use detour_core::time::SEC;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::pending::{Pending, PendingQueries};
use super::{Attempt, Line, failure_of};
use crate::report::Report;
use crate::wire::{MESSAGE_BYTES_MAX, Rejected, accept};

/// Time for connecting.
const CONNECT: Duration = Duration::from_secs(2);
/// Queries waiting to be written. Full: the query fails here and is asked elsewhere.
const QUEUE: usize = 1_024;
/// Queries in flight on one connection.
const IN_FLIGHT_MAX: usize = 4_096;
/// Without a query for this long a connection is closed; public resolvers allow 10 s and more.
const IDLE_US: u64 = 9 * SEC;
/// With queries in flight and not a byte for this long, new queries go to a new connection.
const STALL_US: u64 = 2 * SEC;
/// Times one query is written.
const WRITES_MAX: u8 = 2;
/// How often a connection with queries in flight is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The TCP transport of one endpoint.
#[derive(Debug)]
pub(super) struct TcpLine {
    line: Arc<Line>,
    /// The connection for new queries; held while one is queued.
    current: Mutex<Option<Handle>>,
}

/// The way into a connection's task.
#[derive(Debug, Clone)]
struct Handle {
    queue: mpsc::Sender<Attempt>,
    /// Set by the task when it takes no more.
    closed: Arc<AtomicBool>,
}

impl TcpLine {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            current: Mutex::new(None),
        }
    }

    /// Asks on the current connection, or on a new one.
    pub(super) fn begin(&self, attempt: Attempt) {
        let mut current = self.current.lock();
        let attempt = match current.as_ref().filter(|handle| !handle.closed.load(Ordering::Relaxed)) {
            None => attempt,
            Some(handle) => match handle.queue.try_send(attempt) {
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
        *current = Some(self.connect(attempt));
    }

    /// Asks on a connection of its own.
    pub(super) fn begin_fresh(&self, attempt: Attempt) {
        // The handle is dropped: the connection closes when its one query is answered.
        drop(self.connect(attempt));
    }

    /// Starts a connection with a first query.
    fn connect(&self, first: Attempt) -> Handle {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let closed = Arc::new(AtomicBool::new(false));
        let connection = Connection {
            line: Arc::clone(&self.line),
            number: self.line.next_socket(),
            closed: Arc::clone(&closed),
            waiting: VecDeque::from([(first, 0)]),
            pending: PendingQueries::default(),
            last_read: self.line.clock.now(),
            last_used: self.line.clock.now(),
            has_answered: false,
        };
        self.line.tasks.spawn_job(async move { connection.run(receiver).await });
        Handle { queue, closed }
    }
}

/// One connection and what it carries.
struct Connection {
    line: Arc<Line>,
    number: u64,
    closed: Arc<AtomicBool>,
    /// Not written yet, with how often they were written to connections that died.
    waiting: VecDeque<(Attempt, u8)>,
    pending: PendingQueries,
    last_read: Time,
    last_used: Time,
    has_answered: bool,
}

/// What a connection's task woke up for.
enum Action {
    /// A query to write; `None`: nobody can send any more.
    Query(Option<Attempt>),
    /// A whole message.
    Message(Vec<u8>),
    /// The other side closed, or the socket failed.
    Broken,
    /// Time to look at ages.
    Tick,
    /// Shutdown.
    Stop,
}

impl Connection {
    /// From connecting to the end; connects again as long as queries are left that may be written.
    async fn run(mut self, mut queue: mpsc::Receiver<Attempt>) {
        while !self.waiting.is_empty() && !self.line.tasks.token().is_cancelled() {
            match self.connect().await {
                Ok(stream) => self.carry(stream, &mut queue).await,
                Err(failure) => {
                    self.close(&mut queue);
                    for (attempt, _) in std::mem::take(&mut self.waiting) {
                        self.line.failed(&attempt, self.line.unwritten(&attempt), failure);
                    }
                    return;
                }
            }
            self.sort_out_lost();
            self.number = self.line.next_socket();
            if self.waiting.is_empty() {
                // Queries queued while an idle connection ended were written to nobody: they deserve a new one.
                self.close(&mut queue);
            }
        }
        self.close(&mut queue);
        for (attempt, _) in std::mem::take(&mut self.waiting) {
            self.line
                .failed(&attempt, self.line.unwritten(&attempt), Failure::Reset);
        }
    }

    /// Takes no more queries, and takes over those queued.
    fn close(&mut self, queue: &mut mpsc::Receiver<Attempt>) {
        self.closed.store(true, Ordering::Relaxed);
        queue.close();
        while let Ok(attempt) = queue.try_recv() {
            self.waiting.push_back((attempt, 0));
        }
    }

    /// The connection died: what it carried is written once more if it had answered before, else it failed.
    fn sort_out_lost(&mut self) {
        let may_retry = std::mem::take(&mut self.has_answered);
        for query in self.pending.take_all() {
            if may_retry && query.writes < WRITES_MAX {
                self.line.abandoned(&query.attempt, query.begun);
                self.waiting.push_back((query.attempt, query.writes));
            } else {
                self.line.failed(&query.attempt, query.begun, Failure::Reset);
            }
        }
    }

    /// Connects within two seconds.
    async fn connect(&self) -> Result<TcpStream, Failure> {
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(self.line.address))
            .await
            .map_err(|_elapsed| Failure::ConnectTimeout)?
            .map_err(|error| failure_of(&error).unwrap_or(Failure::Local))?;
        // Without it a query waits for the acknowledgement of the one before.
        stream
            .set_nodelay(true)
            .map_err(|error| failure_of(&error).unwrap_or(Failure::Local))?;
        Ok(stream)
    }

    /// Carries queries until the connection ends; what is unanswered stays in `pending`, what is unwritten in
    /// `waiting`.
    async fn carry(&mut self, stream: TcpStream, queue: &mut mpsc::Receiver<Attempt>) {
        let (read, mut write) = stream.into_split();
        // One message at a time, at the speed this task takes them.
        let (sender, mut messages) = mpsc::channel(64);
        let reader = Reader {
            token: self.line.tasks.token().child_token(),
        };
        let stop = reader.token.clone().drop_guard();
        self.line
            .tasks
            .spawn_job(async move { reader.read(read, sender).await });
        self.last_read = self.line.clock.now();
        let mut senders_left = true;
        while senders_left || !self.pending.is_empty() || !self.waiting.is_empty() {
            if let Some((attempt, writes)) = self.waiting.pop_front() {
                if self.write(&mut write, attempt, writes).await.is_err() {
                    break;
                }
                continue;
            }
            let action = tokio::select! {
                // Cancel safe: recv of a channel.
                message = messages.recv() => message.map_or(Action::Broken, Action::Message),
                // Cancel safe: recv of a channel.
                attempt = queue.recv(), if senders_left && self.pending.len() < IN_FLIGHT_MAX => Action::Query(attempt),
                // Cancel safe: a timer.
                () = tokio::time::sleep(self.next_tick()) => Action::Tick,
                // Cancel safe: the token stays cancelled.
                () = self.line.tasks.token().cancelled() => Action::Stop,
            };
            let goes_on = match action {
                Action::Query(None) => {
                    senders_left = false;
                    true
                }
                Action::Query(Some(attempt)) => {
                    self.waiting.push_back((attempt, 0));
                    true
                }
                Action::Message(message) => self.handle(&message),
                Action::Tick => self.tick(),
                Action::Broken | Action::Stop => false,
            };
            if !goes_on {
                break;
            }
        }
        // What was read before the connection died still counts.
        while let Ok(message) = messages.try_recv() {
            if !self.handle(&message) {
                break;
            }
        }
        drop(stop);
    }

    /// How long nothing needs to be looked at.
    fn next_tick(&self) -> Duration {
        if self.pending.is_empty() {
            let idle = self.line.clock.now().since(self.last_used);
            Duration::from_micros(IDLE_US.saturating_sub(idle).max(1_000))
        } else {
            TICK
        }
    }

    /// Looks at ages; false ends the connection.
    fn tick(&mut self) -> bool {
        let now = self.line.clock.now();
        if self.pending.is_empty() {
            return now.since(self.last_used) < IDLE_US;
        }
        if now.since(self.last_read) >= STALL_US {
            self.closed.store(true, Ordering::Relaxed);
        }
        self.pending.forget_old(now);
        !(self.pending.is_empty() && self.closed.load(Ordering::Relaxed))
    }

    /// Writes one query, length and message in one piece (RFC 7766 section 8).
    async fn write(&mut self, write: &mut OwnedWriteHalf, attempt: Attempt, writes: u8) -> io::Result<()> {
        let Some(id) = self.pending.free_id() else {
            self.line
                .failed(&attempt, self.line.unwritten(&attempt), Failure::Local);
            return Ok(());
        };
        let mut frame = vec![0, 0];
        let (question, edns_sent) = self.line.write_query(&attempt, id, None, &mut frame);
        let length = u16::try_from(frame.len().saturating_sub(2)).unwrap_or(u16::MAX);
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = length.to_be_bytes();
        }
        let now = self.line.clock.now();
        if self.pending.is_empty() {
            // Silence is counted from the first query that could have been answered.
            self.last_read = self.last_read.max(now);
        }
        self.last_used = now;
        let begun = Begun {
            id: attempt.id,
            at: now,
            socket: self.number,
            purpose: attempt.purpose,
        };
        self.pending.push(Pending {
            id,
            question: frame.get(question).unwrap_or_default().into(),
            edns_sent,
            mismatches: 0,
            garbage_told: false,
            writes: writes.saturating_add(1),
            begun,
            attempt,
        });
        if let Some(query) = self.pending.find(id) {
            self.line.begun(&query.attempt, begun);
        }
        // A peer that takes no bytes is as dead as one that sends none.
        tokio::time::timeout(Duration::from_micros(STALL_US), write.write_all(&frame))
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }

    /// One message; false ends the connection.
    fn handle(&mut self, message: &[u8]) -> bool {
        let now = self.line.clock.now();
        self.last_read = now;
        let id = message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        let verdict = self
            .pending
            .find(id)
            .map(|pending| accept(message, &pending.expected(false)));
        match verdict {
            Some(Ok(accepted)) => {
                self.has_answered = true;
                if let Some(query) = self.pending.take(id) {
                    self.line
                        .answered(&query.attempt, query.begun, accepted, query.edns_sent, now);
                }
                true
            }
            // An answer to a query forgotten long ago.
            None if accept_shape(message) => true,
            // On a stream nobody but the endpoint can have sent this: it is not to be trusted with the rest.
            Some(Err(_)) | None => {
                self.closed.store(true, Ordering::Relaxed);
                self.line.reporter.send(Report::Garbage(self.line.endpoint));
                for query in self.pending.take_all() {
                    self.line.failed(&query.attempt, query.begun, Failure::Garbage);
                }
                false
            }
        }
    }
}

/// Whether bytes under an unknown id are at least a DNS answer.
fn accept_shape(message: &[u8]) -> bool {
    let expected = crate::wire::Expected {
        id: message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes)),
        question: &[],
        check_case: false,
        encrypted: false,
    };
    !matches!(accept(message, &expected), Err(Rejected::Garbage(_)))
}

/// Reads messages off a connection in a task of its own: a read of a length and a body must not be cancelled.
struct Reader {
    token: tokio_util::sync::CancellationToken,
}

impl Reader {
    async fn read(self, mut read: OwnedReadHalf, sender: mpsc::Sender<Vec<u8>>) {
        let frames = async {
            while let Ok(length) = read.read_u16().await {
                let mut message = vec![0; usize::from(length).min(MESSAGE_BYTES_MAX)];
                if read.read_exact(&mut message).await.is_err() || sender.send(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = frames => {}
            // Cancel safe: the connection is given up.
            () = self.token.cancelled() => {}
        }
    }
}
