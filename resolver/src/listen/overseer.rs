//! What ends a connection beside its client: shutdown, idleness, replies that are not taken.
//!
//! One timer for all deadlines of a connection. A deadline that moves with every query would cost a change of the timer
//! each time, so the timer is left alone: when it goes off, what is really due is looked for, and it is set anew.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use detour_core::Time;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::doors::Guest;
use crate::forwarder::Shared;
use crate::metrics::Cut;
use crate::serve::Moment;
use crate::wire::Via;

/// Time in which a client has to take [`SLOWEST_BYTES`], or all there is.
pub(super) const WRITE: Duration = Duration::from_secs(10);
/// As above: 52 kbit/s.
const SLOWEST_BYTES: u64 = 64 * 1024;
/// How long the last words of a connection may take; within the grace of a stop.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// Looks are at least this far apart.
const LOOK: Duration = Duration::from_millis(10);

/// What a connection has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Take up nothing new: the node stops. Said once.
    Drain,
    /// Take up nothing new: nobody has asked for long. Said once.
    Idle,
    /// End: replies are not taken. It has been counted.
    Slow,
    /// End: what was under way had its time.
    End,
}

/// Looks after one connection.
pub(super) struct Overseer {
    shared: Arc<Shared>,
    via: Via,
    /// Is told of queries: who asks keeps its place.
    guest: Arc<Guest>,
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off.
    due: Time,
    /// When the last whole query was taken, or the connection was busy.
    active: Time,
    is_idle: bool,
    /// Bytes the client has taken.
    taken: u64,
    /// Since when replies wait, and how much had been taken then.
    stalled: Option<(Time, u64)>,
    /// When it is over, whatever it does.
    end: Option<Time>,
}

impl Overseer {
    /// For a connection that begins.
    pub(super) fn new(shared: &Arc<Shared>, via: Via, guest: &Arc<Guest>) -> Self {
        let (now, idle) = (shared.clock.now(), shared.idle(via));
        let tasks = &shared.tasks;
        Self {
            shared: Arc::clone(shared),
            via,
            guest: Arc::clone(guest),
            draining: Some(Box::pin(tasks.draining().clone().cancelled_owned())),
            stopping: Some(Box::pin(tasks.token().clone().cancelled_owned())),
            timer: Box::pin(sleep(idle)),
            due: after(now, idle),
            active: now,
            is_idle: false,
            taken: 0,
            stalled: None,
            end: None,
        }
    }

    /// A query was taken up.
    pub(super) fn note_query(&mut self, moment: &Moment) {
        self.active = moment.now();
        self.guest.note(self.active);
        // Later than the timer goes off anyway, unless the configuration has changed.
        let due = after(self.active, moment.idle(self.via));
        if due < self.due {
            self.set(self.active, due);
        }
    }

    /// Whether replies wait for the client, and what it has taken so far.
    pub(super) fn note_output(&mut self, is_waiting: bool, taken: u64) {
        self.taken = taken;
        if !is_waiting {
            self.stalled = None;
        } else if self.stalled.is_none() {
            let now = self.shared.clock.now();
            self.stalled = Some((now, taken));
            let due = after(now, WRITE);
            if due < self.due {
                self.set(now, due);
            }
        }
    }

    /// It is over after that time.
    pub(super) fn end_within(&mut self, time: Duration) {
        let now = self.shared.clock.now();
        let end = after(now, time);
        self.end = Some(self.end.map_or(end, |earlier| earlier.min(end)));
        if end < self.due {
            self.set(now, end);
        }
    }

    /// What there is to do. `is_busy`: it cannot be idle.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_busy: bool) -> Poll<Order> {
        if is_over(&mut self.draining, cx) {
            return Poll::Ready(Order::Drain);
        }
        if is_over(&mut self.stopping, cx) {
            self.end_within(FAREWELL);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            // The timer has a clock of its own, which may be ahead by a rounding.
            let now = self.shared.clock.now().max(self.due);
            if self.end.is_some_and(|end| now >= end) {
                return Poll::Ready(Order::End);
            }
            if let Some((since, taken)) = self.stalled
                && now >= after(since, WRITE)
            {
                if self.taken.saturating_sub(taken) < SLOWEST_BYTES {
                    self.shared.metrics.streams(self.via).count_cut(Cut::Slow);
                    return Poll::Ready(Order::Slow);
                }
                self.stalled = Some((now, self.taken));
            }
            if is_busy {
                self.active = now;
            }
            let idle = self.shared.idle(self.via);
            let becomes_idle = !self.is_idle && now >= after(self.active, idle);
            self.is_idle |= becomes_idle;
            let idle_due = (!self.is_idle).then(|| after(self.active, idle));
            let stall_due = self.stalled.map(|(since, _)| after(since, WRITE));
            let due = [idle_due, stall_due, self.end].into_iter().flatten().min();
            self.set(now, due.unwrap_or_else(|| after(now, idle)));
            if becomes_idle {
                return Poll::Ready(Order::Idle);
            }
        }
        Poll::Pending
    }

    fn set(&mut self, now: Time, due: Time) {
        let wait = Duration::from_micros(due.since(now)).max(LOOK);
        self.timer.as_mut().set(sleep(wait));
        self.due = due;
    }
}

/// Ends a connection so that the client gets what was sent: a socket that is closed while something from the client is
/// unread, or comes after, is reset, and with it goes what the client has not read. So what comes is read for a while.
pub(super) async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let parting = async {
        // It may have been done, and a client may be gone.
        drop(stream.shutdown().await);
        let mut unwanted = [0; 1_024];
        while let Ok(1..) = stream.read(&mut unwanted).await {}
    };
    // Who goes on sending is not waited for.
    drop(timeout(FAREWELL, parting).await);
}

/// Whether this has come to pass; said once.
fn is_over(waiting: &mut Option<Pin<Box<WaitForCancellationFutureOwned>>>, cx: &mut Context<'_>) -> bool {
    let is_over = waiting
        .as_mut()
        .is_some_and(|future| future.as_mut().poll(cx).is_ready());
    if is_over {
        *waiting = None;
    }
    is_over
}

/// That much later.
fn after(time: Time, duration: Duration) -> Time {
    time.plus(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
