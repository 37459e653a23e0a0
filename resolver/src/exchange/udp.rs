//! DNS over UDP to one endpoint: a pool of connected sockets on ports the kernel chooses.
//!
//! Against forgery: a random socket of up to 256 for each query, each retired after 100 queries or 10 s
//! (RFC 5452 section 9.2); random ids; the letters of the name in random case (0x20) and a cookie, as far as the server
//! knows them (`habits`). What comes is accepted only by the walk of [`mod@crate::wire::accept`]; what is no answer is
//! counted and waited past, and what could have been forged is marked to be confirmed over a stream.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt as _;

use super::habits::{Defences, Worth};
use super::line::{Line, failure_of};
use super::pending::{Pending, PendingQueries};
use super::{Attempt, SourcePorts};
use crate::readers::{Readers, Source};
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

/// How long a query waits for the addresses of a name, as long as others wait for a connection: whoever has somebody else to
/// ask does so meanwhile.
const RESOLVING: Duration = Duration::from_secs(2);

/// Sockets for new queries; held while one is picked or leaves.
type Pool = Mutex<Vec<Arc<Socket>>>;

/// The UDP transport of one endpoint.
#[derive(Debug)]
pub(super) struct UdpLine {
    line: Arc<Line>,
    source_ports: SourcePorts,
    pool: Arc<Pool>,
    readers: Arc<Readers>,
    /// Of all its sockets.
    owner: u64,
}

/// One socket.
#[derive(Debug)]
struct Socket {
    line: Arc<Line>,
    /// The pool it may be in.
    pool: Weak<Pool>,
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
    /// Room for a query.
    query: Vec<u8>,
    pending: PendingQueries,
    /// Nobody reads it any more: what is sent now is answered to nobody.
    closed: bool,
}

impl Drop for UdpLine {
    fn drop(&mut self) {
        // Nobody waits for an answer any more.
        self.readers.remove_of(self.owner);
    }
}

impl UdpLine {
    pub(super) fn new(line: Arc<Line>, source_ports: SourcePorts, readers: Arc<Readers>) -> Self {
        Self {
            line,
            source_ports,
            pool: Arc::default(),
            owner: readers.new_owner(),
            readers,
        }
    }

    /// Asks on one of the pool's sockets.
    pub(super) fn begin(self: &Arc<Self>, attempt: Attempt) {
        if self.source_ports == SourcePorts::PerQuery {
            return self.begin_fresh(attempt);
        }
        match self.pick(attempt.made) {
            // A socket may be retired between being picked and being used.
            Ok(socket) => {
                if let Some(attempt) = socket.send(attempt) {
                    self.begin_fresh(attempt);
                }
            }
            Err(error) => self.wait_or_refuse(attempt, error),
        }
    }

    /// Takes new sockets from here on: the open ones are tied to the address they were connected from.
    pub(super) fn renew(&self) {
        for socket in self.pool.lock().drain(..) {
            socket.retired.store(true, Ordering::Relaxed);
        }
    }

    /// Asks on a socket of its own.
    pub(super) fn begin_fresh(self: &Arc<Self>, attempt: Attempt) {
        match self.open(true) {
            Ok(socket) => {
                if let Some(attempt) = socket.send(attempt) {
                    self.refuse(&attempt, &io::ErrorKind::NotConnected.into());
                }
            }
            Err(error) => self.wait_or_refuse(attempt, error),
        }
    }

    /// Where it is not known yet where to send, the attempt begins once it is.
    fn wait_or_refuse(self: &Arc<Self>, attempt: Attempt, error: io::Error) {
        if self.line.addresses.is_known() {
            return self.refuse(&attempt, &error);
        }
        let (own, token) = (Arc::clone(self), self.line.tasks.token().clone());
        self.line.tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: the token stays cancelled.
                () = token.cancelled() => {}
                // It is not polled again.
                _addresses = own.line.addresses.ready(RESOLVING) => {}
            }
            if own.line.addresses.is_known() {
                own.begin(attempt);
            } else {
                own.refuse(&attempt, &error);
            }
        });
    }

    /// A new socket while the pool has room, else one at random, or a new one in the place of one that is retired.
    fn pick(&self, now: Time) -> io::Result<Arc<Socket>> {
        let mut pool = self.pool.lock();
        if pool.len() >= SOCKETS_MAX {
            let index = rand::rng().random_range(0..pool.len());
            let socket = pool.get(index).ok_or(io::ErrorKind::NotFound)?;
            if !socket.is_retired(now) {
                return Ok(Arc::clone(socket));
            }
            pool.swap_remove(index);
        }
        match self.open(false) {
            Ok(socket) => {
                pool.push(Arc::clone(&socket));
                Ok(socket)
            }
            // Out of descriptors or ports: an open socket is still a random port.
            Err(error) => {
                pool.retain(|socket| !socket.is_retired(now));
                if pool.is_empty() {
                    return Err(error);
                }
                let index = rand::rng().random_range(0..pool.len());
                Ok(pool.get(index).map(Arc::clone).ok_or(io::ErrorKind::NotFound)?)
            }
        }
    }

    /// Opens a socket, which is read until it is retired and done; `for_one`: it serves one query only.
    fn open(&self, for_one: bool) -> io::Result<Arc<Socket>> {
        // Without one it is not known where.
        let address = self.line.addresses.first().ok_or(io::ErrorKind::NotFound)?;
        let socket = connect(address)?;
        let socket = Arc::new(Socket {
            line: Arc::clone(&self.line),
            pool: Arc::downgrade(&self.pool),
            number: self.line.next_socket(),
            local: socket.local_addr()?.ip(),
            socket,
            opened: self.line.clock.now(),
            retired: AtomicBool::new(for_one),
            state: Mutex::new(State::default()),
        });
        self.readers.add(Arc::<Socket>::clone(&socket), self.owner)?;
        Ok(socket)
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
    Ok(socket.into())
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Source for Socket {
    fn read(&self, buffer: &mut [u8]) -> bool {
        let received = self.socket.recv(buffer);
        let now = self.line.clock.now();
        match received {
            Ok(size) => self.handle(buffer.get(..size).unwrap_or_default(), now),
            Err(error) => self.note_error(&error),
        }
        self.is_needed(now)
    }

    fn sweep(&self, now: Time) -> bool {
        self.state.lock().pending.forget_old(now);
        if now.since(self.opened) >= AGE_US {
            self.retired.store(true, Ordering::Relaxed);
        }
        self.is_needed(now)
    }
}

impl Socket {
    /// Whether it takes no more queries.
    fn is_retired(&self, now: Time) -> bool {
        self.retired.load(Ordering::Relaxed) || now.since(self.opened) >= AGE_US
    }

    /// Whether it is still read; what is not needed any more takes no query from here on.
    fn is_needed(&self, now: Time) -> bool {
        if !self.retired.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.state.lock();
        // One that was opened for a query may not have been written to yet.
        let is_used = state.sent > 0 || now.since(self.opened) >= AGE_US;
        state.closed |= is_used && state.pending.is_empty();
        let is_closed = state.closed;
        drop(state);
        // Else an idle node would keep the last sockets open until its next query.
        if is_closed && let Some(pool) = self.pool.upgrade() {
            pool.lock().retain(|socket| socket.number != self.number);
        }
        !is_closed
    }

    /// Writes the query; gives the attempt back if the socket takes none any more.
    fn send(&self, attempt: Attempt) -> Option<Attempt> {
        let line = &self.line;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.closed {
            return Some(attempt);
        }
        let Some(id) = state.pending.free_id() else {
            drop(guard);
            line.failed(&attempt, line.unwritten(&attempt), Failure::Local);
            return None;
        };
        let written = self.compose(&mut state.query, &attempt, id, attempt.made);
        let begun = Begun {
            id: attempt.id,
            at: line.clock.now(),
            socket: self.number,
            purpose: attempt.purpose,
        };
        state.sent = state.sent.saturating_add(1);
        if state.sent >= QUERIES_MAX {
            self.retired.store(true, Ordering::Relaxed);
        }
        line.begun(&attempt, begun);
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
        self.write(guard);
        None
    }

    /// Composes a query in the room for one.
    fn compose(&self, query: &mut Vec<u8>, attempt: &Attempt, id: u16, now: Time) -> Written {
        query.clear();
        let mut defences = self.line.habits.defences(self.local, now);
        let (question, edns_sent) = self.line.write_query(attempt, id, &defences, query);
        if !edns_sent {
            defences.cookie = None;
        }
        Written {
            question: query.get(question).unwrap_or_default().into(),
            edns_sent,
            defences,
        }
    }

    /// Sends the query that was composed last and is registered.
    fn write(&self, state: MutexGuard<'_, State>) {
        let sent = self.socket.send(&state.query);
        drop(state);
        // An ICMP message for an earlier query surfaces here: it is about all of them.
        if let Err(error) = sent {
            self.note_error(&error);
        }
    }

    /// The socket failed, or ICMP says that a datagram of ours found nobody.
    fn note_error(&self, error: &io::Error) {
        let Some(failure) = failure_of(error) else {
            return;
        };
        self.retired.store(true, Ordering::Relaxed);
        let lost = self.state.lock().pending.take_all();
        for pending in lost {
            self.line.failed(&pending.attempt, pending.begun, failure);
        }
    }

    /// Takes an answer under a pending id, in every letter or (`has_case`) in all but their case, of so many octets; gives
    /// the state back if it is none.
    fn take<'a>(
        &'a self,
        mut guard: MutexGuard<'a, State>,
        (id, mut accepted): (u16, Accepted),
        form: (bool, usize),
        now: Time,
    ) -> Option<MutexGuard<'a, State>> {
        let line = &self.line;
        let state = &mut *guard;
        let worth = {
            let pending = state.pending.find(id)?;
            line.habits.judge(&pending.defences, &mut accepted, form, now)
        };
        if worth == Worth::Mismatch {
            return Some(guard);
        }
        let mut pending = state.pending.take(id)?;
        if worth == Worth::AnotherCookie
            && !pending.has_new_cookie
            && let Some(id) = state.pending.free_id()
        {
            line.note_heard(now);
            let written = self.compose(&mut state.query, &pending.attempt, id, now);
            (pending.key, pending.id, pending.has_new_cookie) = (id, id, true);
            pending.question = written.question;
            pending.defences = written.defences;
            state.pending.push(pending);
            self.write(guard);
            return None;
        }
        drop(guard);
        line.answered(&pending.attempt, pending.begun, accepted, pending.edns_sent, now);
        None
    }

    /// One datagram from the endpoint's address.
    fn handle(&self, datagram: &[u8], now: Time) {
        let line = &self.line;
        let mut state = self.state.lock();
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
        let about = match verdict {
            Some(Ok(accepted)) => {
                let form = (has_case, datagram.len());
                match self.take(state, (id, accepted), form, now) {
                    None => return,
                    // Somebody else's.
                    Some(again) => {
                        state = again;
                        Some(Some(id))
                    }
                }
            }
            Some(Err(Rejected::Mismatch(_))) => Some(Some(id)),
            Some(Err(Rejected::Garbage(_))) => Some(None),
            // An answer to a question that is pending, but under an id that is not: a forger's guess, or a fault.
            None => state.pending.iter_mut().find_map(|pending| {
                let guessed = crate::wire::Expected {
                    id,
                    ..pending.expected(false, false)
                };
                match accept(datagram, &guessed) {
                    Ok(_) => Some(Some(pending.id)),
                    Err(Rejected::Mismatch(_)) => None,
                    Err(Rejected::Garbage(_)) => Some(None),
                }
            }),
        };
        let told = match about {
            Some(Some(id)) => note_mismatch(line, &mut state.pending, id, now),
            Some(None) => note_garbage(line, &mut state.pending, now),
            // A late answer to a question long forgotten.
            None => Told::new(),
        };
        drop(state);
        for (attempt, begun, signal) in told {
            line.tell(&attempt, begun, signal, None, now);
        }
    }
}

/// A query as it is sent: what its answer is held against.
struct Written {
    question: Box<[u8]>,
    edns_sent: bool,
    defences: Defences,
}

/// What lookups are to be told once the socket is free again: what they do then may need it.
type Told = Vec<(Attempt, Begun, Signal)>;

/// A well-formed answer to something else: a stream has to settle it.
fn note_mismatch(line: &Line, queries: &mut PendingQueries, id: u16, now: Time) -> Told {
    let Some(pending) = queries.iter_mut().find(|pending| pending.id == id) else {
        return Told::new();
    };
    line.note_heard(now);
    pending.mismatches = pending.mismatches.saturating_add(1);
    let told = vec![(pending.attempt.clone(), pending.begun, Signal::Mismatch)];
    if pending.mismatches >= MISMATCHES_MAX
        && let Some(pending) = queries.take(id)
    {
        line.abandoned(&pending.attempt, pending.begun);
    }
    told
}

/// Bytes that are no DNS answer: nobody knows to which question, so each lookup may try elsewhere.
fn note_garbage(line: &Line, queries: &mut PendingQueries, now: Time) -> Told {
    line.note_heard(now);
    line.reporter.send(Report::Garbage(line.endpoint));
    let untold = queries.iter_mut().filter(|pending| !pending.garbage_told);
    untold
        .map(|pending| {
            pending.garbage_told = true;
            (pending.attempt.clone(), pending.begun, Signal::Garbage)
        })
        .collect()
}
