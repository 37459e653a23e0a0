//! One connection and what it carries, from connecting to its end and, where queries are left, to the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Time;
use detour_core::health::{Begun, Purpose};
use detour_core::outcome::Failure;
use detour_core::time::SEC;
use tokio::sync::mpsc;

use super::Known;
use super::arrived::Next;
use super::dial::Dialled;
use super::link::{Arrival, Link, Unsent};
use crate::exchange::Attempt;
use crate::exchange::habits::Defences;
use crate::exchange::line::Line;
use crate::exchange::pending::{Pending, PendingQueries};
use crate::exchange::race::telling_if_slow;
use crate::report::Report;

/// With queries in flight and not a byte for this long, a sign of life is asked for.
const QUIET_US: u64 = SEC;
/// With queries in flight and not a byte for this long, another connection takes over what is to come.
const STALL_US: u64 = 2 * SEC;
/// With a query in flight for this long and no answer to any meanwhile, likewise: slow as some answers are, one comes.
const DEAF_US: u64 = 4 * SEC;
/// Times one query is written.
const WRITES_MAX: u8 = 2;
/// How often a connection with queries in flight is looked at.
const TICK: Duration = Duration::from_millis(500);
/// A timer this late means that the machine slept: the other end has long forgotten this connection.
const SLEPT_US: u64 = 2 * SEC;
/// A connection that the server closed sooner is not opened again before somebody asks.
const SHORT_US: u64 = SEC;

/// Connections to one endpoint that carry queries at once: a server that allows few queries on each is not given any
/// number of them. At that many, queries wait for an answer to make room, or fail.
pub(super) const CONNECTIONS_MAX: usize = 4;

/// The queries to come; `None` once another connection has them or nobody can send any more.
type Queue = Option<mpsc::Receiver<Attempt>>;

/// A connection's task.
pub(super) struct Connection {
    pub(super) line: Arc<Line>,
    pub(super) known: Arc<Known>,
    number: u64,
    /// Not written yet, with how often they were written to connections that died or took no more.
    waiting: VecDeque<(Attempt, u8)>,
    /// Written, and not answered. Full: queries wait in their queue until there is room.
    pub(super) pending: PendingQueries,
    pub(super) last_read: Time,
    last_used: Time,
    pub(super) last_answer: Time,
    /// Queries that the connection takes with it may be written again: it has answered, or stood idle.
    pub(super) may_retry: bool,
    /// It connects before there is a query to write.
    is_eager: bool,
}

/// What the task woke up for.
enum Action {
    /// A query to write; `None`: nobody can send any more.
    Query(Option<Attempt>),
    /// Something came.
    Arrived(Arrival),
    /// Time to look at ages.
    Tick,
    /// Shutdown.
    Stop,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing was in flight.
    Idle,
    /// The other side closed it, or it failed.
    Broken,
    /// Nobody needs it any more.
    Unneeded,
    /// Shutdown.
    Stopped,
}

impl Connection {
    /// A connection for a first query.
    pub(super) fn new(line: Arc<Line>, known: Arc<Known>, first: Attempt) -> Self {
        Self::with(line, known, VecDeque::from([(first, 0)]), true)
    }

    /// A connection for the query that comes first, made before it comes.
    pub(super) fn warm(line: Arc<Line>, known: Arc<Known>) -> Self {
        Self::with(line, known, VecDeque::new(), true)
    }

    fn with(line: Arc<Line>, known: Arc<Known>, waiting: VecDeque<(Attempt, u8)>, is_eager: bool) -> Self {
        let now = line.clock.now();
        Self {
            number: line.next_socket(),
            line,
            known,
            waiting,
            pending: PendingQueries::default(),
            last_read: now,
            last_used: now,
            last_answer: now,
            may_retry: false,
            is_eager,
        }
    }

    /// From connecting to the end; connects again as long as queries are left that may be written, or it is to be kept
    /// warm.
    pub(super) async fn run(mut self, mut queue: Queue) {
        if !self.is_eager && self.waiting.is_empty() && !self.wait_for_query(&mut queue).await {
            return;
        }
        loop {
            let opened = self.line.clock.now();
            let token = self.line.tasks.token().child_token();
            let dial = self
                .known
                .dialer
                .dial(&*self.line.clock, &self.line.tasks, token.clone());
            let dial = telling_if_slow(dial, || {
                self.line.reporter.send(Report::Slow(self.line.endpoint));
            });
            let stop = self.line.tasks.token().clone();
            let dialled = tokio::select! {
                biased;
                // Cancel safe: the token stays cancelled.
                () = stop.cancelled() => return self.give_up(queue, Failure::Local),
                // Not cancelled but by a stop.
                dialled = dial => dialled,
            };
            let end = match dialled {
                Ok(dialled) => {
                    self.known.connected(self.line.clock.now().since(opened));
                    let end = self.carry(dialled, &mut queue).await;
                    self.known.disconnected();
                    end
                }
                Err(refused) => {
                    if let Some(certificate) = refused.certificate {
                        let report = Report::Certificate(self.line.endpoint, certificate);
                        self.line.reporter.send(report);
                    }
                    return self.give_up(queue, refused.failure);
                }
            };
            token.cancel();
            let lived_us = self.line.clock.now().since(opened);
            self.sort_out_lost();
            self.number = self.line.next_socket();
            let is_warm = end == End::Idle && lived_us >= SHORT_US && queue.is_some() && self.line.is_kept_warm();
            if end == End::Stopped || stop.is_cancelled() {
                return self.give_up(queue, Failure::Local);
            }
            if self.waiting.is_empty() && !is_warm {
                // Queries queued while an idle connection ended were written to nobody: they deserve a new one.
                self.take_queue(&mut queue);
                if self.waiting.is_empty() {
                    return;
                }
            }
        }
    }

    /// Waits until there is something to connect for; false if nothing will come.
    async fn wait_for_query(&mut self, queue: &mut Queue) -> bool {
        let Some(queue) = queue else { return false };
        let first = tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.line.tasks.token().cancelled() => None,
            // Cancel safe: recv of a channel.
            first = queue.recv() => first,
        };
        self.waiting.extend(first.map(|attempt| (attempt, 0)));
        !self.waiting.is_empty()
    }

    /// Takes over what is queued, and nothing more.
    fn take_queue(&mut self, queue: &mut Queue) {
        if let Some(mut queue) = queue.take() {
            queue.close();
            while let Ok(attempt) = queue.try_recv() {
                self.waiting.push_back((attempt, 0));
            }
        }
    }

    /// Fails all that waits.
    fn give_up(mut self, mut queue: Queue, failure: Failure) {
        self.take_queue(&mut queue);
        for (attempt, _) in std::mem::take(&mut self.waiting) {
            self.line.failed(&attempt, self.line.unwritten(&attempt), failure);
        }
    }

    /// The connection died: what it carried is written once more if it had answered before, else it failed.
    fn sort_out_lost(&mut self) {
        let may_retry = std::mem::take(&mut self.may_retry);
        for query in self.pending.take_all() {
            if may_retry {
                self.write_again(query);
            } else {
                self.line.failed(&query.attempt, query.begun, Failure::Reset);
            }
        }
    }

    /// Has a query written once more, unless that was done already.
    pub(super) fn write_again(&mut self, query: Pending) {
        if !is_wanted(&query.attempt) {
            self.line.abandoned(&query.attempt, query.begun);
        } else if query.writes < WRITES_MAX {
            self.line.abandoned(&query.attempt, query.begun);
            self.waiting.push_back((query.attempt, query.writes));
        } else {
            self.line.failed(&query.attempt, query.begun, Failure::Reset);
        }
    }

    /// Carries queries until the connection ends; what is unanswered stays in `pending`, what is unwritten in
    /// `waiting`.
    async fn carry(&mut self, dialled: Dialled, queue: &mut Queue) -> End {
        let Dialled { mut link, mut arrivals } = dialled;
        let now = self.line.clock.now();
        (self.last_read, self.last_used) = (now, now);
        // What is written to a connection that stood idle before may meet its end.
        self.may_retry = self.waiting.is_empty();
        let end = loop {
            if let Some((attempt, writes)) = self.waiting.pop_front() {
                match self.write(&mut link, attempt, writes).await {
                    Ok(()) => {}
                    // What waits goes to a connection that takes it, what is in flight stays.
                    Err(Unsent::Draining) => self.hand_over(queue, true),
                    Err(Unsent::Broken) => break End::Broken,
                }
                continue;
            }
            if queue.is_none() && self.pending.is_empty() {
                break End::Unneeded;
            }
            let due = self.line.clock.now().plus(micros(self.next_tick()));
            let action = self.select(link.capacity(), &mut arrivals, queue).await;
            let slept = self.line.clock.now().since(due) >= SLEPT_US;
            match action {
                Action::Query(None) => *queue = None,
                Action::Query(Some(attempt)) if slept => {
                    self.waiting.push_back((attempt, 0));
                    self.hand_over(queue, true);
                }
                Action::Query(Some(attempt)) => self.waiting.push_back((attempt, 0)),
                Action::Arrived(Arrival::Closed) => break self.closed_by_peer(),
                // An idle connection that takes no more queries is one that the server closes.
                Action::Arrived(Arrival::Draining) if self.pending.is_empty() => break self.closed_by_peer(),
                Action::Arrived(arrival) => match self.handle(arrival) {
                    Next::GoOn => {}
                    Next::Drain { .. } if self.pending.is_empty() => break End::Unneeded,
                    Next::Drain { eager } => self.hand_over(queue, eager && self.line.is_kept_warm()),
                    Next::Broken => break End::Broken,
                },
                Action::Tick => {
                    if slept {
                        self.hand_over(queue, true);
                    } else if !self.tick(&link, queue) {
                        break End::Idle;
                    }
                }
                Action::Stop => break End::Stopped,
            }
        };
        // What was read before the connection died still counts.
        while let Ok(arrival) = arrivals.try_recv() {
            if self.handle(arrival) == Next::Broken {
                break;
            }
        }
        end
    }

    async fn select(&mut self, capacity: usize, arrivals: &mut mpsc::Receiver<Arrival>, queue: &mut Queue) -> Action {
        let has_room = self.pending.len() < capacity;
        let next_query = async {
            match queue.as_mut().filter(|_| has_room) {
                Some(queue) => queue.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: recv of a channel.
            arrival = arrivals.recv() => Action::Arrived(arrival.unwrap_or(Arrival::Closed)),
            // Cancel safe: recv of a channel.
            attempt = next_query => Action::Query(attempt),
            // Cancel safe: a timer.
            () = tokio::time::sleep(self.next_tick()) => Action::Tick,
            // Cancel safe: the token stays cancelled.
            () = self.line.tasks.token().cancelled() => Action::Stop,
        }
    }

    /// The other side closed the connection.
    fn closed_by_peer(&self) -> End {
        if !self.pending.is_empty() {
            return End::Broken;
        }
        let now = self.line.clock.now();
        self.known.idle.lock().closed_by_peer(now.since(self.last_used), now);
        End::Idle
    }

    /// How long nothing needs to be looked at.
    fn next_tick(&self) -> Duration {
        if self.pending.is_empty() {
            let now = self.line.clock.now();
            let left = self.known.close_after_us(now).saturating_sub(now.since(self.last_used));
            Duration::from_micros(left.max(1_000))
        } else {
            TICK
        }
    }

    /// Looks at ages; false when it has been idle for long enough.
    fn tick(&mut self, link: &Link, queue: &mut Queue) -> bool {
        let now = self.line.clock.now();
        if self.pending.is_empty() {
            return now.since(self.last_used) < self.known.close_after_us(now);
        }
        if link.has_news() {
            self.last_read = now;
        }
        let quiet_us = now.since(self.last_read);
        // Pings that are answered are no answers.
        let is_deaf = self.pending.has_older_than(now, DEAF_US) && now.since(self.last_answer) >= DEAF_US;
        if quiet_us >= STALL_US || is_deaf {
            self.hand_over(queue, true);
        } else if quiet_us >= QUIET_US {
            link.ping();
        }
        self.pending.forget_old(now);
        true
    }

    /// Another connection takes the queries to come and those that wait to be written; this one waits for what it
    /// carries. The other one connects at once if it is `eager`, else for the first query.
    fn hand_over(&mut self, queue: &mut Queue, eager: bool) {
        let (queue, waiting) = (queue.take(), std::mem::take(&mut self.waiting));
        if queue.is_some() || !waiting.is_empty() {
            let successor = Self::with(Arc::clone(&self.line), Arc::clone(&self.known), waiting, eager);
            self.line.tasks.spawn_job(async move { successor.run(queue).await });
        }
    }

    /// Writes one query.
    async fn write(&mut self, link: &mut Link, attempt: Attempt, writes: u8) -> Result<(), Unsent> {
        if !is_wanted(&attempt) {
            // It waited for a connection, or for room on one, for longer than its lookup did.
            return Ok(());
        }
        let Some(key) = self.pending.free_id() else {
            self.line
                .failed(&attempt, self.line.unwritten(&attempt), Failure::Local);
            return Ok(());
        };
        let id = if link.has_streams() { 0 } else { key };
        let mut message = Vec::new();
        let (question, edns_sent) = self.line.write_query(&attempt, id, &Defences::default(), &mut message);
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
        self.line.begun(&attempt, begun);
        self.pending.push(Pending {
            key,
            id,
            question: message.get(question).unwrap_or_default().into(),
            edns_sent,
            defences: Defences::default(),
            has_new_cookie: false,
            mismatches: 0,
            garbage_told: false,
            writes: writes.saturating_add(1),
            begun,
            attempt,
        });
        // A peer that takes no bytes is as dead as one that sends none.
        let stop = self.line.tasks.token().clone();
        let sent = tokio::time::timeout(Duration::from_micros(STALL_US), link.send(key, message));
        let sent = tokio::select! {
            // Cancel safe: the connection is given up.
            () = stop.cancelled() => Err(Unsent::Broken),
            sent = sent => sent.unwrap_or(Err(Unsent::Broken)),
        };
        if sent == Err(Unsent::Draining)
            && let Some(query) = self.pending.take(key)
        {
            self.write_again(query);
        }
        sent
    }
}

/// Whether somebody waits for what comes of it: a client, or this node itself.
fn is_wanted(attempt: &Attempt) -> bool {
    let listener = attempt.reply_to.as_ref();
    attempt.purpose == Purpose::Probe || listener.is_none_or(|listener| !listener.is_over())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
