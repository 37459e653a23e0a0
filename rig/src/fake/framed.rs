//! A connection of length-framed messages: TCP (RFC 7766), or TLS (RFC 7858).
//!
//! It answers many queries at once and out of order (RFC 7766 section 6.2.1.1). It reads only while there is room for
//! what it reads leads to, so a client that does not read its answers stops being read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::hostile::{DRIP, told_length};
use super::reply::reply;
use super::schedule::Schedule;
use super::stats::add;
use crate::clock;
use crate::fault::{Closing, Hostile};
use crate::random::Random;
use crate::wire::push_number;

/// Replies waiting on one connection before it is no longer read.
const PENDING_MAX: usize = 4_096;
/// Queries that may still come with the read that fills the schedule, so that none of them is dropped.
const READ_SLACK: usize = 16_384;
/// Reply bytes a client has not taken before its connection is no longer read.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Asked of one read.
const READ_BYTES: usize = 16_384;
/// After the last reply a connection is read to its end for this long: closing it with something unread would be a
/// reset, which can overtake that reply.
const LINGER: Duration = Duration::from_secs(1);

/// Answers until the client or a limit ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, mut shared: Shared) {
    let closings = shared.conduct.borrow_and_update().closings;
    let mut connection = Connection {
        stream,
        buffer: vec![0; READ_BYTES].into(),
        input: Vec::new(),
        reading: true,
        output: Vec::new(),
        unflushed: false,
        schedule: Schedule::new(PENDING_MAX + READ_SLACK),
        random: Random::new(shared.seed),
        queries: 0,
        drips_at: None,
        closings,
        active_at: clock::now(),
        shared,
    };
    if connection.run().await.is_ok() {
        connection.close().await;
    }
}

enum Action {
    Switch,
    Timer,
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
}

struct Connection<S> {
    stream: S,
    buffer: Box<[u8]>,
    input: Vec<u8>,
    /// False after the client's end, and when this connection is to be closed.
    reading: bool,
    /// Framed replies the stream has not taken.
    output: Vec<u8>,
    /// Whether the stream has taken something that it may not have sent.
    unflushed: bool,
    schedule: Schedule<Vec<u8>>,
    random: Random,
    queries: u64,
    /// When the next byte leaves of what drips.
    drips_at: Option<Instant>,
    /// Closings before this connection was accepted.
    closings: u64,
    /// When it was last asked or answered.
    active_at: Instant,
    shared: Shared,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Serves until there is nothing more to say.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.select().await {
                Action::Switch => {
                    if self.is_to_close() {
                        return Ok(());
                    }
                }
                Action::Timer => {}
                Action::Read(count) => self.take_read(count?),
                Action::Wrote(count) => {
                    let count = count?.min(self.output.len());
                    if count == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.output.drain(..count);
                    self.unflushed = true;
                    self.drips_at = clock::now().checked_add(DRIP).filter(|_| self.drips());
                }
                Action::Flushed(done) => {
                    done?;
                    self.unflushed = false;
                }
            }
            let now = clock::now();
            self.queue_due(now);
            let settled = self.is_settled();
            if settled && !self.reading {
                return Ok(());
            }
            if settled && self.idle_at().is_some_and(|at| at <= now) {
                add(&self.shared.counters.closed_idle, 1);
                return Ok(());
            }
        }
    }

    async fn select(&mut self) -> Action {
        let output_room = self.output.len() < OUTPUT_BYTES_MAX;
        let read = self.reading && output_room && self.schedule.len() < PENDING_MAX;
        let due = self.schedule.next_due().filter(|_| output_room);
        let now = clock::now();
        let drips = self.drips();
        let drips_at = self.drips_at.filter(|at| drips && *at > now);
        let timer = [due.or_else(|| self.idle_at()), drips_at].into_iter().flatten().min();
        let ready = match (drips, drips_at) {
            (false, _) => self.output.len(),
            (true, None) => self.output.len().min(1),
            (true, Some(_)) => 0,
        };
        let Self {
            stream,
            buffer,
            output,
            unflushed,
            shared,
            ..
        } = self;
        tokio::select! {
            biased;
            // Cancel-safe: a change not yet seen stays unseen. A fake that is gone ends its connections by the token.
            Ok(()) = shared.conduct.changed() => Action::Switch,
            // Cancel-safe: the due time is computed anew each turn.
            () = sleep_until(timer.unwrap_or_else(clock::now)), if timer.is_some() => Action::Timer,
            // Cancel-safe: completes with what it did, and does nothing otherwise.
            action = poll_fn(|context| {
                let output = output.get(..ready).unwrap_or_default();
                poll_stream(stream, buffer, output, *unflushed, read, context)
            }) => action,
        }
    }

    /// Whether what is sent leaves a byte at a time.
    fn drips(&self) -> bool {
        self.shared.fault(clock::now()).is_hostile(Hostile::Drip)
    }

    /// Whether nothing is in flight.
    fn is_settled(&self) -> bool {
        self.schedule.is_empty() && self.output.is_empty() && !self.unflushed
    }

    fn idle_at(&self) -> Option<Instant> {
        let idle = self.shared.limits.idle.filter(|_| self.is_settled() && self.reading)?;
        self.active_at.checked_add(idle)
    }

    /// Whether to close without another word; a polite end only stops the reading.
    fn is_to_close(&mut self) -> bool {
        let conduct = *self.shared.conduct.borrow_and_update();
        if conduct.closings == self.closings {
            return false;
        }
        self.reading = false;
        conduct.closing == Closing::Abrupt
    }

    fn take_read(&mut self, count: usize) {
        if count == 0 {
            self.reading = false;
            return;
        }
        self.input
            .extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        self.answer_frames(clock::now());
    }

    /// Takes every whole frame from the input. Queries that find no room are dropped and counted.
    fn answer_frames(&mut self, now: Instant) {
        let mut taken = 0;
        while let Some(&[high, low]) = self.input.get(taken..taken + 2)
            && self.reading
        {
            let end = taken + 2 + usize::from(u16::from_be_bytes([high, low]));
            let Some(query) = self.input.get(taken + 2..end) else {
                break;
            };
            let Shared {
                transport,
                law,
                limits,
                counters,
                ..
            } = &self.shared;
            counters.query(query);
            let mut delayed = reply(
                query,
                *transport,
                self.shared.fault(now),
                *law,
                self.shared.manners,
                &mut self.random,
            );
            if let (Some(delayed), Some(tenths)) = (&mut delayed, limits.told_idle) {
                tell_idle(&mut delayed.bytes, tenths);
            }
            if !delayed.is_some_and(|delayed| self.schedule.push(now + delayed.after, delayed.bytes)) {
                add(&counters.dropped, 1);
            }
            taken = end;
            self.active_at = now;
            self.queries += 1;
            self.reading = limits.queries_max.is_none_or(|max| self.queries < max);
        }
        self.input.drain(..taken);
    }

    /// Frames the replies that are due.
    fn queue_due(&mut self, now: Instant) {
        while self.output.len() < OUTPUT_BYTES_MAX
            && let Some(bytes) = self.schedule.pop(now)
        {
            let counters = &self.shared.counters;
            self.active_at = now;
            if self.shared.fault(now).loses_stream_reply(&mut self.random) {
                add(&counters.dropped, 1);
                continue;
            }
            let fault = self.shared.fault(now);
            push_number(&mut self.output, told_length(bytes.len(), fault, &mut self.random));
            self.output.extend_from_slice(&bytes);
            add(&counters.answered, 1);
        }
    }

    /// Says good-bye, when it may, and waits for the client's.
    async fn close(&mut self) {
        let Self { stream, buffer, .. } = self;
        if stream.shutdown().await.is_ok() {
            let to_end = async { while stream.read(buffer).await.is_ok_and(|count| count > 0) {} };
            // Who goes on talking is not listened to for ever.
            timeout(LINGER, to_end).await.ok();
        }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        add(&self.shared.counters.dropped, self.schedule.clear());
    }
}

/// Says in the OPT record, with which messages here end, how long an idle connection is kept (RFC 7828 section 3.3.2).
fn tell_idle(message: &mut Vec<u8>, tenths: u16) {
    const CODE_AND_LENGTH: [u8; 4] = [0, 11, 0, 2];
    let has_opt = message.get(10..12) == Some(&[0, 1]);
    let Some((at, options_bytes)) = find_opt_length(message).filter(|_| has_opt) else {
        return;
    };
    if let Some(place) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = options_bytes.saturating_add(6).to_be_bytes();
        message.extend_from_slice(&CODE_AND_LENGTH);
        push_number(message, tenths);
    }
}

/// Where the length of OPT's options stands, and what it says: OPT is the last record, owned by the root.
fn find_opt_length(message: &[u8]) -> Option<(usize, u16)> {
    (0..=u16::MAX).find_map(|options_bytes| {
        let at = message.len().checked_sub(usize::from(options_bytes))?.checked_sub(2)?;
        let is_length = message.get(at..)?.first_chunk() == Some(&options_bytes.to_be_bytes());
        let is_opt = message.get(at.checked_sub(9)?..)?.first_chunk() == Some(&[0, 0, 41]);
        (is_length && is_opt).then_some((at, options_bytes))
    })
}

/// Writes what there is, or sends what was written, or reads if that is wanted: the first that can be done.
fn poll_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut [u8],
    output: &[u8],
    unflushed: bool,
    read: bool,
    context: &mut Context<'_>,
) -> Poll<Action> {
    if !output.is_empty() {
        if let Poll::Ready(count) = Pin::new(&mut *stream).poll_write(context, output) {
            return Poll::Ready(Action::Wrote(count));
        }
    } else if unflushed && let Poll::Ready(done) = Pin::new(&mut *stream).poll_flush(context) {
        return Poll::Ready(Action::Flushed(done));
    }
    if read {
        let mut buffer = ReadBuf::new(buffer);
        if let Poll::Ready(done) = Pin::new(stream).poll_read(context, &mut buffer) {
            return Poll::Ready(Action::Read(done.map(|()| buffer.filled().len())));
        }
    }
    Poll::Pending
}
