//! DNS over UDP to one endpoint.
//!
//! Connected sockets, so that the kernel drops what comes from elsewhere and reports ICMP errors; ports chosen by
//! the kernel, up to 256 open at once, one of them at random per query, each retired after 100 queries or 10 s
//! (RFC 5452 section 9.2); random ids; the letters of the name in random case (0x20). What comes is accepted only
//! by the walk of [`mod@crate::wire::accept`]; what is no answer is counted and waited past.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::pending::{Pending, PendingQueries};
use super::{Attempt, Line, SourcePorts};
use crate::report::Report;
use crate::wire::{Rejected, accept};

/// Sockets open for new queries: eight bits more for a forger to guess.
const SOCKETS_MAX: usize = 256;
/// Queries after which a socket is retired.
const QUERIES_MAX: u32 = 100;
/// Age at which a socket is retired.
const AGE_US: u64 = 10 * SEC;
/// Wrong answers after which a query takes no datagram any more: whoever sprays ids gets no second hundred tries.
const MISMATCHES_MAX: u8 = 3;
/// Largest datagram read; more than 1232 was never asked for.
const DATAGRAM_BYTES: usize = 4_096;

/// The UDP transport of one endpoint.
#[derive(Debug)]
pub(super) struct UdpLine {
    line: Arc<Line>,
    source_ports: SourcePorts,
    /// Sockets for new queries; held while one is picked or leaves.
    pool: Arc<Mutex<Vec<Arc<Socket>>>>,
}

/// One socket.
#[derive(Debug)]
struct Socket {
    number: u64,
    socket: UdpSocket,
    opened: Time,
    /// No more queries.
    retired: AtomicBool,
    /// Queries sent and those without an answer; held for a write or a match.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: u32,
    pending: PendingQueries,
}

impl UdpLine {
    pub(super) fn new(line: Arc<Line>, source_ports: SourcePorts) -> Self {
        Self {
            line,
            source_ports,
            pool: Arc::default(),
        }
    }

    /// Asks on one of the pool's sockets.
    pub(super) fn begin(&self, attempt: Attempt) {
        match self.source_ports {
            SourcePorts::PerQuery => self.begin_fresh(attempt),
            SourcePorts::Pool => match self.pick() {
                Ok(socket) => self.send(&socket, attempt),
                Err(error) => self.refuse(&attempt, &error),
            },
        }
    }

    /// Asks on a socket of its own.
    pub(super) fn begin_fresh(&self, attempt: Attempt) {
        match self.open() {
            Ok(socket) => {
                socket.retired.store(true, Ordering::Relaxed);
                self.send(&socket, attempt);
            }
            Err(error) => self.refuse(&attempt, &error),
        }
    }

    /// A new socket while the pool has room, else one at random.
    fn pick(&self) -> io::Result<Arc<Socket>> {
        let now = self.line.clock.now();
        let mut pool = self.pool.lock();
        pool.retain(|socket| !socket.retired.load(Ordering::Relaxed) && now.since(socket.opened) < AGE_US);
        if pool.len() < SOCKETS_MAX {
            match self.open() {
                Ok(socket) => {
                    pool.push(Arc::clone(&socket));
                    return Ok(socket);
                }
                // Out of descriptors or ports: an open socket is still a random port.
                Err(error) if pool.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        let index = rand::rng().random_range(0..pool.len());
        pool.get(index)
            .map(Arc::clone)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens a socket and reads it until it is retired and done.
    fn open(&self) -> io::Result<Arc<Socket>> {
        let socket = connect(self.line.address)?;
        let socket = Arc::new(Socket {
            number: self.line.next_socket(),
            socket,
            opened: self.line.clock.now(),
            retired: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        });
        let (line, own, pool) = (Arc::clone(&self.line), Arc::clone(&socket), Arc::clone(&self.pool));
        self.line.tasks.spawn_job(async move {
            read(&line, &own).await;
            // Without this an idle node would keep the last sockets open until its next query.
            pool.lock().retain(|socket| socket.number != own.number);
        });
        Ok(socket)
    }

    /// Writes the query.
    fn send(&self, socket: &Socket, attempt: Attempt) {
        let mut state = socket.state.lock();
        let Some(id) = state.pending.free_id() else {
            drop(state);
            self.line
                .failed(&attempt, self.line.unwritten(&attempt), Failure::Local);
            return;
        };
        let mut query = Vec::with_capacity(300);
        let case_bits = Some(rand::random());
        let (question, edns_sent) = self.line.write_query(&attempt, id, case_bits, &mut query);
        let begun = Begun {
            id: attempt.id,
            at: self.line.clock.now(),
            socket: socket.number,
            purpose: attempt.purpose,
        };
        state.sent = state.sent.saturating_add(1);
        if state.sent >= QUERIES_MAX {
            socket.retired.store(true, Ordering::Relaxed);
        }
        // Registered before the write: the answer may be there before this thread goes on.
        state.pending.push(Pending {
            id,
            question: query.get(question).unwrap_or_default().into(),
            edns_sent,
            mismatches: 0,
            begun,
            attempt,
        });
        self.line.reporter.send(Report::Begun(self.line.endpoint, begun));
        // Not by the runtime's readiness: a socket opened a moment ago is not known to be writable yet.
        if let Err(error) = socket2::SockRef::from(&socket.socket).send(&query)
            && let Some(failure) = failure_of(&error)
            && let Some(pending) = state.pending.take(id)
        {
            drop(state);
            self.line.failed(&pending.attempt, begun, failure);
        }
    }

    /// No socket to be had.
    fn refuse(&self, attempt: &Attempt, error: &io::Error) {
        let failure = failure_of(error).unwrap_or(Failure::Local);
        self.line.failed(attempt, self.line.unwritten(attempt), failure);
    }
}

/// A non-blocking socket connected to `address` from a port of the kernel's choice.
fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// What a socket error says; `None` for a full buffer, which is a lost datagram like any other.
fn failure_of(error: &io::Error) -> Option<Failure> {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    if matches!(kind, Kind::WouldBlock | Kind::Interrupted) {
        None
    } else if matches!(
        kind,
        Kind::NetworkUnreachable | Kind::AddrNotAvailable | Kind::Unsupported
    ) {
        Some(Failure::NoRoute)
    } else if matches!(
        kind,
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::ConnectionReset
    ) {
        Some(Failure::Unreachable)
    } else {
        Some(Failure::Local)
    }
}

/// Reads one socket until it is retired and nothing is pending.
async fn read(line: &Line, socket: &Socket) {
    let mut wait_us = AGE_US;
    loop {
        let ready = tokio::select! {
            // Cancel safe: readiness is not consumed by waiting for it.
            ready = socket.socket.ready(Interest::READABLE | Interest::ERROR) => Some(ready),
            // Cancel safe: a timer.
            () = tokio::time::sleep(Duration::from_micros(wait_us)) => None,
            // Cancel safe: the token stays cancelled.
            () = line.tasks.token().cancelled() => return,
        };
        let timed_out = ready.is_none();
        match ready {
            Some(Ok(ready)) => {
                drain(line, socket);
                if ready.is_error()
                    && let Ok(Some(error)) = socket.socket.take_error()
                {
                    note_error(line, socket, &error);
                }
            }
            Some(Err(_)) => return,
            None => {}
        }
        let now = line.clock.now();
        let mut state = socket.state.lock();
        let age = now.since(socket.opened);
        if socket.retired.load(Ordering::Relaxed) || age >= AGE_US {
            socket.retired.store(true, Ordering::Relaxed);
            if timed_out {
                state.pending.forget_old(now);
            }
            if state.pending.is_empty() {
                return;
            }
            wait_us = SEC;
        } else {
            wait_us = AGE_US.saturating_sub(age).max(1_000);
        }
    }
}

/// Reads what is there.
fn drain(line: &Line, socket: &Socket) {
    let mut buffer = [0_u8; DATAGRAM_BYTES];
    // Bounded, so that a flood on one port cannot keep a worker.
    for _ in 0..64 {
        match socket.socket.try_recv(&mut buffer) {
            Ok(size) => handle(line, socket, buffer.get(..size).unwrap_or_default()),
            Err(error) => {
                note_error(line, socket, &error);
                return;
            }
        }
    }
}

/// The socket failed, or ICMP says that a datagram of ours found nobody.
fn note_error(line: &Line, socket: &Socket, error: &io::Error) {
    let Some(failure) = failure_of(error) else {
        return;
    };
    socket.retired.store(true, Ordering::Relaxed);
    let lost = socket.state.lock().pending.take_all();
    for pending in lost {
        line.failed(&pending.attempt, pending.begun, failure);
    }
}

/// One datagram from the endpoint's address.
fn handle(line: &Line, socket: &Socket, datagram: &[u8]) {
    let now = line.clock.now();
    let mut state = socket.state.lock();
    let id = datagram.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    let verdict = state
        .pending
        .find(id)
        .map(|pending| accept(datagram, &pending.expected(true)));
    match verdict {
        Some(Ok(accepted)) => {
            if let Some(pending) = state.pending.take(id) {
                drop(state);
                line.answered(&pending.attempt, pending.begun, accepted, pending.edns_sent, now);
            }
        }
        Some(Err(Rejected::Mismatch(_))) => note_mismatch(line, &mut state.pending, id),
        Some(Err(Rejected::Garbage(_))) => note_garbage(line, &mut state.pending),
        // An answer to a question that is pending, but under an id that is not: a forger's guess, or a fault.
        None => {
            let about = state.pending.iter_mut().find_map(|pending| {
                let guessed = crate::wire::Expected {
                    id,
                    ..pending.expected(false)
                };
                match accept(datagram, &guessed) {
                    Ok(_) => Some(Some(pending.id)),
                    Err(Rejected::Mismatch(_)) => None,
                    Err(Rejected::Garbage(_)) => Some(None),
                }
            });
            match about {
                Some(Some(id)) => note_mismatch(line, &mut state.pending, id),
                Some(None) => note_garbage(line, &mut state.pending),
                // A late answer to a question long forgotten.
                None => {}
            }
        }
    }
}

/// A well-formed answer to something else: a stream has to settle it.
fn note_mismatch(line: &Line, queries: &mut PendingQueries, id: u16) {
    let Some(pending) = queries.iter_mut().find(|pending| pending.id == id) else {
        return;
    };
    line.note_heard(line.clock.now());
    pending.mismatches = pending.mismatches.saturating_add(1);
    line.tell(&pending.attempt, pending.begun, Signal::Mismatch, None);
    if pending.mismatches >= MISMATCHES_MAX
        && let Some(pending) = queries.take(id)
    {
        line.abandoned(pending.begun);
    }
}

/// Bytes that are no DNS answer: nobody knows to which question, so each lookup may try elsewhere.
fn note_garbage(line: &Line, queries: &mut PendingQueries) {
    line.note_heard(line.clock.now());
    line.reporter.send(Report::Garbage(line.endpoint));
    for pending in queries.iter_mut() {
        line.tell(&pending.attempt, pending.begun, Signal::Garbage, None);
    }
}
