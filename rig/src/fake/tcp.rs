//! The TCP side of a fake: a listener task, and a task per connection that it owns.
//!
//! A connection answers many queries at once and out of order (RFC 7766 section 6.2.1.1). It reads only while there is
//! room for what it reads leads to, so a client that does not read its answers stops being read. A black hole keeps
//! reading and accepting and says nothing; `rst` closes with a reset.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::reply::{Transport, reply};
use super::schedule::Schedule;
use super::{Shared, add};
use crate::clock;
use crate::fault::Fault;
use crate::random::{Random, mix};
use crate::wire::{count16, push_number};

/// Open connections; more wait in the kernel's backlog until one ends.
const CONNECTIONS_MAX: usize = 1_024;
/// Replies waiting on one connection before it is no longer read.
const CONNECTION_PENDING_MAX: usize = 4_096;
/// Queries that may still come with the read that fills the schedule, so that none of them is dropped.
const READ_SLACK: usize = 16_384;
/// Reply bytes a client has not taken before its connection is no longer read.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Asked of one read.
const READ_BYTES: usize = 16_384;
/// After a failed accept (out of descriptors): what is short may have come back by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until the token is cancelled, then ends every connection.
pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    let mut count = 0_u64;
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        let accepted = tokio::select! {
            biased;
            // Cancel-safe: asks for a state.
            () = shared.token.cancelled() => break,
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = connections.join_next() => continue,
            // Cancel-safe: a connection is taken from the backlog only when the future completes.
            accepted = listener.accept(), if room => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        add(&shared.counters.connections, 1);
        count += 1;
        let shared = Shared {
            seed: mix(shared.seed ^ count),
            ..shared.clone()
        };
        connections.spawn(Connection::new(stream, shared).run());
    }
    connections.shutdown().await;
}

enum Action {
    Stop,
    Switch,
    Timer,
    Readable,
    Writable,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    input_ended: bool,
    /// Framed replies the socket has not taken.
    output: Vec<u8>,
    schedule: Schedule<Vec<u8>>,
    random: Random,
    shared: Shared,
}

impl Connection {
    fn new(stream: TcpStream, shared: Shared) -> Self {
        Self {
            stream,
            input: Vec::new(),
            input_ended: false,
            output: Vec::new(),
            schedule: Schedule::new(CONNECTION_PENDING_MAX + READ_SLACK),
            random: Random::new(shared.seed),
            shared,
        }
    }

    async fn run(mut self) {
        // Small replies must not wait for an acknowledgement; where that cannot be had, they are late, not lost.
        self.stream.set_nodelay(true).ok();
        // Accepted under `rst`: reset at once, before anything is read.
        if self.is_reset() {
            return;
        }
        loop {
            let done = match self.select().await {
                Action::Stop => return,
                Action::Switch => self.is_reset(),
                Action::Timer => false,
                Action::Readable => self.read().is_err(),
                Action::Writable => self.write().is_err(),
            };
            if done {
                return;
            }
            self.queue_due();
            if !self.output.is_empty() && self.write().is_err() {
                return;
            }
            if self.input_ended && self.schedule.is_empty() && self.output.is_empty() {
                return;
            }
        }
    }

    async fn select(&mut self) -> Action {
        let output_room = self.output.len() < OUTPUT_BYTES_MAX;
        let room = self.schedule.len() < CONNECTION_PENDING_MAX && output_room;
        let due = self.schedule.next_due().filter(|_| output_room);
        let Shared { token, faults, .. } = &mut self.shared;
        tokio::select! {
            biased;
            // Cancel-safe: asks for a state.
            () = token.cancelled() => Action::Stop,
            // Cancel-safe: a change not yet seen stays unseen.
            changed = faults.changed() => if changed.is_ok() { Action::Switch } else { Action::Stop },
            // Cancel-safe: the due time is computed anew each turn.
            () = sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => Action::Timer,
            // Cancel-safe: only readiness, nothing is written.
            ready = self.stream.writable(), if !self.output.is_empty() => ready.map_or(Action::Stop, |()| Action::Writable),
            // Cancel-safe: only readiness, nothing is read.
            ready = self.stream.readable(), if room && !self.input_ended => ready.map_or(Action::Stop, |()| Action::Readable),
        }
    }

    /// True when the fault resets connections; then closing this one sends a reset.
    fn is_reset(&mut self) -> bool {
        let reset = self.shared.faults.borrow_and_update().fault == Fault::Rst;
        if reset {
            // Without linger 0 the close is an ordinary one: the client still loses its connection.
            self.stream.set_zero_linger().ok();
            add(&self.shared.counters.tcp.dropped, self.schedule.clear());
        }
        reset
    }

    fn read(&mut self) -> io::Result<()> {
        self.input.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => self.input_ended = true,
            Ok(_) => self.answer_frames(clock::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes every whole frame from the input. Queries that find no room are dropped and counted.
    fn answer_frames(&mut self, now: Instant) {
        let mut taken = 0;
        while let Some(&[high, low]) = self.input.get(taken..taken + 2) {
            let end = taken + 2 + usize::from(u16::from_be_bytes([high, low]));
            let Some(query) = self.input.get(taken + 2..end) else {
                break;
            };
            let counters = &self.shared.counters.tcp;
            add(&counters.queries, 1);
            let fault = self.shared.faults.borrow().effective(now);
            let delayed = reply(query, Transport::Stream, fault, self.shared.law, &mut self.random);
            if !delayed.is_some_and(|delayed| self.schedule.push(now + delayed.after, delayed.bytes)) {
                add(&counters.dropped, 1);
            }
            taken = end;
        }
        self.input.drain(..taken);
    }

    /// Frames the replies that are due.
    fn queue_due(&mut self) {
        let now = clock::now();
        let counters = &self.shared.counters.tcp;
        while self.output.len() < OUTPUT_BYTES_MAX
            && let Some(bytes) = self.schedule.pop(now)
        {
            let fault = self.shared.faults.borrow().effective(now);
            if fault.loses_tcp_reply(&mut self.random) {
                add(&counters.dropped, 1);
                continue;
            }
            push_number(&mut self.output, count16(bytes.len()));
            self.output.extend_from_slice(&bytes);
            add(&counters.answered, 1);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.output) {
            Ok(count) => {
                self.output.drain(..count.min(self.output.len()));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
