//! DNS over UDP to one endpoint.
//!
//! Connected sockets, so that the kernel drops what comes from elsewhere and reports ICMP errors; ports chosen by
//! the kernel, up to 256 open at once, one of them at random per query, each retired after 100 queries or 10 s
//! (RFC 5452 section 9.2); random ids; the letters of the name in random case (0x20) and a cookie, as far as the server
//! knows them (`habits`). What comes is accepted only by the walk of [`mod@crate::wire::accept`]; what is no answer is
//! counted and waited past, and what could have been forged is marked to be confirmed over a stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt as _;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::habits::{Defences, Worth};
use super::line::{Line, failure_of};
use super::pending::{Pending, PendingQueries};
use super::{Attempt, SourcePorts};
use crate::report::Report;
use crate::wire::{Accepted, Mismatch, Rejected, accept};

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
    /// Ends the sockets with this line: when it goes, nobody waits for an answer any more.
    gone: CancellationToken,
    _end: DropGuard,
}

/// One socket.
#[derive(Debug)]
struct Socket {
    number: u64,
    socket: UdpSocket,
    /// The address it sends from.
    local: IpAddr,
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
    /// The reader has left: what is sent now is answered to nobody.
    closed: bool,
}

impl UdpLine {
    pub(super) fn new(line: Arc<Line>, source_ports: SourcePorts) -> Self {
        let gone = CancellationToken::new();
        Self {
            line,
            source_ports,
            pool: Arc::default(),
            _end: gone.clone().drop_guard(),
            gone,
        }
    }

    /// Asks on one of the pool's sockets.
    pub(super) fn begin(&self, attempt: Attempt) {
        if self.source_ports == SourcePorts::PerQuery {
            return self.begin_fresh(attempt);
        }
        match self.pick() {
            // A socket may be retired between being picked and being used.
            Ok(socket) => {
                if let Some(attempt) = self.send(&socket, attempt) {
                    self.begin_fresh(attempt);
                }
            }
            Err(error) => self.refuse(&attempt, &error),
        }
    }

    /// Takes new sockets from here on: the open ones are tied to the address they were connected from.
    pub(super) fn renew(&self) {
        for socket in self.pool.lock().drain(..) {
            socket.retired.store(true, Ordering::Relaxed);
        }
    }

    /// Asks on a socket of its own.
    pub(super) fn begin_fresh(&self, attempt: Attempt) {
        match self.open(true) {
            Ok(socket) => {
                if let Some(attempt) = self.send(&socket, attempt) {
                    self.refuse(&attempt, &io::ErrorKind::NotConnected.into());
                }
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
            match self.open(false) {
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

    /// Opens a socket and reads it until it is retired and done; `for_one`: it serves one query only.
    fn open(&self, for_one: bool) -> io::Result<Arc<Socket>> {
        let socket = connect(self.line.address)?;
        let socket = Arc::new(Socket {
            number: self.line.next_socket(),
            local: socket.local_addr()?.ip(),
            socket,
            opened: self.line.clock.now(),
            retired: AtomicBool::new(for_one),
            state: Mutex::new(State::default()),
        });
        let (line, own, pool) = (Arc::clone(&self.line), Arc::clone(&socket), Arc::clone(&self.pool));
        let gone = self.gone.clone();
        self.line.tasks.spawn_job(async move {
            tokio::select! {
                () = read(&line, &own) => {}
                // Cancel safe: nobody waits for what would still be read.
                () = gone.cancelled() => {}
            }
            own.state.lock().closed = true;
            // Without this an idle node would keep the last sockets open until its next query.
            pool.lock().retain(|socket| socket.number != own.number);
        });
        Ok(socket)
    }

    /// Writes the query; gives the attempt back if the socket takes none any more.
    fn send(&self, socket: &Socket, attempt: Attempt) -> Option<Attempt> {
        let mut state = socket.state.lock();
        if state.closed {
            return Some(attempt);
        }
        let Some(id) = state.pending.free_id() else {
            drop(state);
            self.line
                .failed(&attempt, self.line.unwritten(&attempt), Failure::Local);
            return None;
        };
        let written = Written::new(&self.line, socket, &attempt, id);
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
            key: id,
            id,
            question: written.question,
            edns_sent: written.edns_sent,
            defences: written.defences,
            has_new_cookie: false,
            mismatches: 0,
            garbage_told: false,
            writes: 1,
            begun,
            attempt,
        });
        if let Some(pending) = state.pending.find(id) {
            self.line.begun(&pending.attempt, begun);
        }
        write(&self.line, socket, state, &written.query);
        None
    }

    /// No socket to be had.
    fn refuse(&self, attempt: &Attempt, error: &io::Error) {
        let failure = failure_of(error).unwrap_or(Failure::Local);
        self.line.failed(attempt, self.line.unwritten(attempt), failure);
    }
}

/// A query as it is sent, and what its answer is held against.
struct Written {
    query: Vec<u8>,
    question: Box<[u8]>,
    edns_sent: bool,
    defences: Defences,
}

impl Written {
    fn new(line: &Line, socket: &Socket, attempt: &Attempt, id: u16) -> Self {
        let mut query = Vec::with_capacity(300);
        let mut defences = line.habits.defences(socket.local, line.clock.now());
        let (question, edns_sent) = line.write_query(attempt, id, &defences, &mut query);
        if !edns_sent {
            defences.cookie = None;
        }
        Self {
            question: query.get(question).unwrap_or_default().into(),
            query,
            edns_sent,
            defences,
        }
    }
}

/// Sends a query that is registered in `state`.
fn write(line: &Line, socket: &Socket, state: MutexGuard<'_, State>, query: &[u8]) {
    // Not by the runtime's readiness: a socket opened a moment ago is not known to be writable yet.
    let sent = socket2::SockRef::from(&socket.socket).send(query);
    drop(state);
    // An ICMP message for an earlier query surfaces here: it is about all of them.
    if let Err(error) = sent {
        note_error(line, socket, &error);
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

/// Reads one socket until it is retired and nothing is pending.
async fn read(line: &Line, socket: &Socket) {
    loop {
        let ready = tokio::select! {
            // Cancel safe: readiness is not consumed by waiting for it.
            ready = socket.socket.ready(Interest::READABLE | Interest::ERROR) => Some(ready),
            // Cancel safe: a timer.
            () = tokio::time::sleep(Duration::from_micros(socket.wait_us(line.clock.now()))) => None,
            // Cancel safe: the token stays cancelled.
            () = line.tasks.token().cancelled() => return,
        };
        match ready {
            Some(Ok(ready)) => {
                drain(line, socket);
                if ready.is_error() {
                    take_error(line, socket);
                }
            }
            Some(Err(_)) => return,
            None => {}
        }
        let now = line.clock.now();
        let mut state = socket.state.lock();
        state.pending.forget_old(now);
        if now.since(socket.opened) >= AGE_US {
            socket.retired.store(true, Ordering::Relaxed);
        }
        let age = now.since(socket.opened);
        let is_used = state.sent > 0 || age >= AGE_US;
        if socket.retired.load(Ordering::Relaxed) && state.pending.is_empty() && is_used {
            state.closed = true;
            return;
        }
    }
}

impl Socket {
    /// How long the reader may sleep: to its retirement, then to the end of what is pending.
    fn wait_us(&self, now: Time) -> u64 {
        if self.retired.load(Ordering::Relaxed) {
            SEC
        } else {
            AGE_US.saturating_sub(now.since(self.opened)).max(1_000)
        }
    }
}

/// Takes the error that made the socket ready, and that readiness with it: it would stand for ever.
fn take_error(line: &Line, socket: &Socket) {
    let error = socket.socket.take_error();
    let cleared = socket
        .socket
        .try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    debug_assert!(cleared.is_err(), "clearing readiness is done by failing");
    if let Ok(Some(error)) = error {
        note_error(line, socket, &error);
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
    let mut state = socket.state.lock();
    let id = datagram.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    let mut has_case = true;
    let verdict = state
        .pending
        .find(id)
        .map(|pending| match accept(datagram, &pending.expected(true, false)) {
            Err(Rejected::Mismatch(Mismatch::Case)) => {
                has_case = false;
                accept(datagram, &pending.expected(false, false))
            }
            verdict => verdict,
        });
    match verdict {
        Some(Ok(accepted)) => take(line, socket, state, (id, accepted), (has_case, datagram.len())),
        Some(Err(Rejected::Mismatch(_))) => note_mismatch(line, &mut state.pending, id),
        Some(Err(Rejected::Garbage(_))) => note_garbage(line, &mut state.pending),
        // An answer to a question that is pending, but under an id that is not: a forger's guess, or a fault.
        None => {
            let about = state.pending.iter_mut().find_map(|pending| {
                let guessed = crate::wire::Expected {
                    id,
                    ..pending.expected(false, false)
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

/// An answer under a pending id, in every letter or (`has_case`) in all but their case, of so many octets.
fn take(
    line: &Line,
    socket: &Socket,
    mut state: MutexGuard<'_, State>,
    (id, mut accepted): (u16, Accepted),
    form: (bool, usize),
) {
    let now = line.clock.now();
    let Some(pending) = state.pending.find(id) else {
        return;
    };
    let worth = line.habits.judge(&pending.defences, &mut accepted, form, now);
    if worth == Worth::Mismatch {
        return note_mismatch(line, &mut state.pending, id);
    }
    let Some(mut pending) = state.pending.take(id) else {
        return;
    };
    if worth == Worth::AnotherCookie
        && !pending.has_new_cookie
        && let Some(id) = state.pending.free_id()
    {
        line.note_heard(now);
        let written = Written::new(line, socket, &pending.attempt, id);
        (pending.key, pending.id, pending.has_new_cookie) = (id, id, true);
        pending.question = written.question;
        pending.defences = written.defences;
        state.pending.push(pending);
        return write(line, socket, state, &written.query);
    }
    drop(state);
    line.answered(&pending.attempt, pending.begun, accepted, pending.edns_sent, now);
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
        line.abandoned(&pending.attempt, pending.begun);
    }
}

/// Bytes that are no DNS answer: nobody knows to which question, so each lookup may try elsewhere.
fn note_garbage(line: &Line, queries: &mut PendingQueries) {
    line.note_heard(line.clock.now());
    line.reporter.send(Report::Garbage(line.endpoint));
    for pending in queries.iter_mut().filter(|pending| !pending.garbage_told) {
        pending.garbage_told = true;
        line.tell(&pending.attempt, pending.begun, Signal::Garbage, None);
    }
}
