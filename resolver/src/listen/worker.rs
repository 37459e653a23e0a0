//! The threads that serve: hits are answered where they are read, and so are misses begun and ended.
//!
//! A thread has one socket of each listen address, among whose sockets the system divides the clients, and some of the
//! sockets to providers. Hits come first: all that clients have sent is read and sorted before a little is done about
//! misses, so that however many of those there are, a hit waits for a batch of them at most. A thread waits in the system
//! and nowhere else; for a hit it allocates nothing and holds no lock beyond a look.
//!
//! Misses wait in a queue of the thread's own. Full: the reply is SERVFAIL at once, or what is stale.
//!
//! A panic over one query, or over what one provider sent, is counted and costs that query alone. A thread that ends all
//! the same takes the node down: the system would go on giving it its part of the clients.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::socket::{SockaddrIn, SockaddrIn6};

use super::batch::{Address, Batch};
use super::datagrams::{Datagrams, Peer};
use super::job::{Job, ReplyTo};
use crate::forwarder::Shared;
use crate::metrics::Source;
use crate::readers::{Descriptor, READY_MAX, Reader, Ready};
use crate::serve::Verdict;
use crate::wire::Via;

/// What the threads are called.
const PILLAR: &str = "udp listener";
/// Misses that wait in a thread: what it does in some ten milliseconds. One client has half of it at most.
const QUEUE: usize = 1_024;
/// Misses begun before clients get their next turn.
const BEGUN_AT_ONCE: usize = 16;
/// Batches read from one socket before the others get their turn.
const BATCHES: usize = 8;

/// A reply's way back.
#[derive(Debug)]
struct Back {
    socket: Arc<Datagrams>,
    peer: Peer,
}

/// Replies that have gathered.
type Outbox = Vec<(Back, Vec<u8>)>;

thread_local! {
    /// What this thread sends when it has done what is at hand; on other threads there is none.
    static OUTBOX: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

impl ReplyTo for Back {
    fn send(self, reply: Vec<u8>) {
        OUTBOX.with_borrow_mut(|outbox| match outbox {
            Some(outbox) => outbox.push((self, reply)),
            None => self.socket.reply(&reply, &self.peer),
        });
    }
}

/// Sends what has gathered, many at a time.
fn send_outbox(batches: &mut Batches) {
    let mut taken = OUTBOX.with_borrow_mut(Option::take).unwrap_or_default();
    let mut unsent = taken.as_slice();
    while let Some((Back { socket, .. }, _)) = unsent.first() {
        let count = unsent
            .iter()
            .take_while(|(back, _)| Arc::ptr_eq(&back.socket, socket))
            .count();
        let (run, rest) = unsent.split_at(count);
        let replies = run.iter().map(|(back, reply)| (reply.as_slice(), &back.peer));
        if socket.is_ipv4() {
            batches.v4(socket).send_all(socket, replies);
        } else {
            batches.v6(socket).send_all(socket, replies);
        }
        unsent = rest;
    }
    taken.clear();
    OUTBOX.set(Some(taken));
}

/// Starts the threads. `addresses` has the sockets of each listen address, one for each thread.
pub(super) fn start(shared: &Arc<Shared>, addresses: &[Vec<Arc<Datagrams>>]) {
    if shared.readers.all().is_empty() {
        // Falls at once: a node that reads no datagrams is none.
        shared.tasks.spawn_pillar(PILLAR, async {});
    }
    for (index, reader) in shared.readers.all().iter().enumerate() {
        let sockets = addresses.iter().filter_map(|sockets| sockets.get(index));
        let worker = Worker {
            shared: Arc::clone(shared),
            reader: Arc::clone(reader),
            sockets: sockets.map(Arc::clone).collect(),
            misses: VecDeque::new(),
        };
        shared.tasks.spawn_thread(PILLAR, move || {
            let mut worker = worker;
            worker.run();
        });
    }
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    tasks.spawn_job(async move {
        let call_all = || shared.readers.all().iter().for_each(|reader| reader.call());
        shared.tasks.draining().cancelled().await;
        call_all();
        shared.tasks.token().cancelled().await;
        call_all();
    });
}

/// One thread.
struct Worker {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    /// Of clients.
    sockets: Vec<Arc<Datagrams>>,
    misses: Misses,
}

/// Misses and who asked them.
type Misses = VecDeque<(IpAddr, Job<Back>)>;

impl Drop for Worker {
    fn drop(&mut self) {
        // What it did not come to is dropped after this, and what that says leaves at once.
        for (Back { socket, peer }, reply) in OUTBOX.take().unwrap_or_default() {
            socket.reply(&reply, &peer);
        }
    }
}

/// Room for a batch of each kind of socket.
#[derive(Default)]
struct Batches {
    v4: [Option<Batch<SockaddrIn>>; 2],
    v6: [Option<Batch<SockaddrIn6>>; 2],
}

impl Batches {
    fn v4(&mut self, socket: &Datagrams) -> &mut Batch<SockaddrIn> {
        let [narrow, wide] = &mut self.v4;
        let place = if socket.is_wildcard() { wide } else { narrow };
        place.get_or_insert_with(|| Batch::new(socket))
    }

    fn v6(&mut self, socket: &Datagrams) -> &mut Batch<SockaddrIn6> {
        let [narrow, wide] = &mut self.v6;
        let place = if socket.is_wildcard() { wide } else { narrow };
        place.get_or_insert_with(|| Batch::new(socket))
    }
}

impl Worker {
    fn run(&mut self) {
        for (number, socket) in self.sockets.iter().enumerate() {
            let socket: Arc<dyn Descriptor> = Arc::<Datagrams>::clone(socket);
            if let Err(error) = self.reader.listen(&socket, number) {
                tracing::error!(%error, "cannot wait for datagrams");
                return;
            }
        }
        let (mut batches, mut buffer) = (Batches::default(), Reader::buffer());
        OUTBOX.set(Some(Outbox::new()));
        loop {
            let Some(sources) = self.wait(&mut batches) else {
                return;
            };
            for key in sources.into_iter().flatten() {
                // What a panic leaves of a socket is whole, and has one datagram less to read.
                self.shared.tasks.guard(|| self.reader.read(key, &mut buffer));
            }
            send_outbox(&mut batches);
            let now = self.shared.clock.now();
            for (_, job) in self.misses.drain(..self.misses.len().min(BEGUN_AT_ONCE)) {
                job.begin(now);
            }
            send_outbox(&mut batches);
        }
    }

    /// Waits for something to do, and reads what clients have sent; what providers have sent is to be read, and nothing if
    /// it is time to end.
    fn wait(&mut self, batches: &mut Batches) -> Option<[Option<u64>; READY_MAX]> {
        let ready = match self.reader.wait(!self.misses.is_empty()) {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(%error, "cannot wait for datagrams");
                return None;
            }
        };
        // As many as are told of at once need not be all, and clients do not wait for the turns of the others.
        let is_full = ready.len() == READY_MAX;
        let mut sources = [None; READY_MAX];
        for (ready, place) in ready.zip(&mut sources) {
            match ready {
                Ready::Client(number) if !is_full && !self.read_clients(number, batches) => return None,
                Ready::Client(_) => {}
                Ready::Source(key) => *place = Some(key),
                Ready::Called => {
                    if self.shared.tasks.token().is_cancelled() {
                        return None;
                    }
                    // What was asked is still answered, but nothing new is taken up.
                    for (number, socket) in self.sockets.drain(..).enumerate() {
                        self.reader.deafen(&*socket, number);
                    }
                }
            }
        }
        let is_well = !is_full || (0..self.sockets.len()).all(|number| self.read_clients(number, batches));
        is_well.then_some(sources)
    }

    /// Reads what clients have sent to one socket; false if it is beyond use.
    fn read_clients(&mut self, number: usize, batches: &mut Batches) -> bool {
        let Self {
            shared,
            sockets,
            misses,
            ..
        } = self;
        let Some(socket) = sockets.get(number) else {
            return true;
        };
        for _ in 0..BATCHES {
            let received = if socket.is_ipv4() {
                serve(shared, socket, batches.v4(socket), misses)
            } else {
                serve(shared, socket, batches.v6(socket), misses)
            };
            match received {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if is_about_a_client(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::error!(%error, "udp socket failed");
                    return false;
                }
            }
        }
        true
    }
}

/// Receives a batch and answers it, or queues what is to be resolved; whether there may be more.
fn serve<A: Address>(
    shared: &Arc<Shared>,
    socket: &Arc<Datagrams>,
    batch: &mut Batch<A>,
    misses: &mut Misses,
) -> io::Result<bool> {
    let is_full = batch.receive(socket)?;
    let moment = shared.moment();
    let (mut queries, mut hits) = (0, 0);
    batch.answer(|message, peer, out| {
        queries += 1;
        let client = peer.client.ip();
        match shared.answer_guarded(&moment, message, client, Via::Udp, out) {
            Verdict::Hit => hits += 1,
            Verdict::Replied | Verdict::Silence => {}
            Verdict::Resolve(miss) if !has_room(misses, client) => shared.answer_overload(&miss, out),
            Verdict::Resolve(miss) => {
                let back = Back {
                    socket: Arc::clone(socket),
                    peer: *peer,
                };
                match Job::admit(shared, miss, back) {
                    Ok(job) => misses.push_back((client, job)),
                    Err((miss, _)) => shared.answer_overload(&miss, out),
                }
            }
        }
    });
    // Counted before they are sent: who has its reply may look at the counters.
    shared.metrics.count_queries(Via::Udp, queries);
    shared.metrics.count_replies(Source::cache, hits);
    batch.send(socket);
    Ok(is_full)
}

/// Whether a miss of this client may wait. The second half of the queue is for those who do not fill the first.
fn has_room(misses: &Misses, client: IpAddr) -> bool {
    if misses.len() < QUEUE / 2 {
        return true;
    }
    let own = misses.iter().filter(|(asked, _)| *asked == client);
    misses.len() < QUEUE && own.count() < QUEUE / 2
}

/// ICMP for an earlier reply, or a signal: some client is gone, the socket is not.
fn is_about_a_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::Interrupted
    )
}
