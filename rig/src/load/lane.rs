//! One client socket with its share of a load's queries.
//!
//! A lane owns its socket, its records and the ids in use, so nothing is shared while the load runs. Sending comes
//! first: whatever else happens, a query that is due leaves.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::LoadConfig;
use crate::clock;
use crate::ledger::{Record, RecordedAnswer, is_right};
use crate::message::{EDNS_BYTES, encode_query, encode_question, parse_reply, rtype};
use crate::random::{Random, mix};

/// Unanswered queries per socket: half of the ids, so that a free one is found soon. Above it queries count as lost.
const PENDING_MAX: usize = 32_768;
/// Queries sent, or answers read, before the other is looked at.
const BATCH: usize = 64;

/// The records of a lane, and how many datagrams belonged to none.
pub(super) type LaneResult = (Vec<Record>, u64);

/// A socket that talks to the target only.
pub(super) fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = StdUdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(target)?;
    UdpSocket::from_std(socket)
}

/// Which queries a lane sends, and when.
#[derive(Debug)]
pub(super) struct Queries {
    pub(super) next: u64,
    pub(super) step: u64,
    pub(super) total: u64,
    pub(super) rate: u32,
    pub(super) started: Instant,
    /// No more of them.
    pub(super) token: CancellationToken,
}

impl Queries {
    /// The next query and its offset from the start.
    fn peek(&self) -> Option<(u64, Duration)> {
        let nanos = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        let offset = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (self.next < self.total && !self.token.is_cancelled()).then_some((self.next, offset))
    }
}

/// One client socket with its share of the queries.
pub(super) struct Lane {
    socket: UdpSocket,
    queries: Queries,
    config: LoadConfig,
    random: Random,
    records: Vec<Record>,
    /// Open queries by id: index into `records`.
    pending: BTreeMap<u16, usize>,
    /// When to give up, in the order sent, which is the order due.
    expiries: VecDeque<(Instant, u16, usize)>,
    strays: u64,
}

impl Lane {
    pub(super) fn new(socket: UdpSocket, queries: Queries, config: LoadConfig) -> Self {
        let random = Random::new(config.names.seed ^ mix(queries.next));
        Self {
            socket,
            queries,
            config,
            random,
            records: Vec::new(),
            pending: BTreeMap::new(),
            expiries: VecDeque::new(),
            strays: 0,
        }
    }

    /// Sends, receives and gives up until nothing is open.
    pub(super) async fn run(mut self) -> io::Result<LaneResult> {
        // Until the runtime has heard that a new socket can be written to, an attempt says that it would block.
        self.socket.writable().await?;
        loop {
            let send_at = self.queries.peek().map(|(_, offset)| self.queries.started + offset);
            if send_at.is_none() && self.pending.is_empty() {
                return Ok((self.records, self.strays));
            }
            let give_up_at = self.expiries.front().map(|(at, ..)| *at);
            let timer = [send_at, give_up_at].into_iter().flatten().min();
            let token = self.queries.token.clone();
            tokio::select! {
                biased;
                // Cancel-safe: asks for a state, once.
                () = token.cancelled(), if send_at.is_some() => {}
                // Cancel-safe: the instant is computed anew each turn.
                () = sleep_until(timer.unwrap_or_else(clock::now)), if timer.is_some() => {
                    self.send_due();
                    self.give_up(clock::now());
                    // The timer may be due each turn; answers are not to wait for that.
                    self.receive();
                }
                // Cancel-safe: only readiness, nothing is read.
                ready = self.socket.readable() => {
                    ready?;
                    self.receive();
                }
            }
        }
    }

    fn send_due(&mut self) {
        for _ in 0..BATCH {
            let now = clock::now();
            let due = self
                .queries
                .peek()
                .filter(|(_, offset)| self.queries.started + *offset <= now);
            let Some((index, scheduled)) = due else { return };
            self.queries.next += self.queries.step;
            let name = self.config.names.name(index);
            let latency_unfaulted = self.config.law.latency(&name);
            let sent = self.send(&name, now);
            let sent = sent.then(|| now.saturating_duration_since(self.queries.started));
            self.records.push(Record {
                index,
                scheduled,
                sent,
                latency_unfaulted,
                answer: None,
            });
        }
    }

    /// Sends the query whose record will be the next; false when it could not be sent.
    fn send(&mut self, name: &str, now: Instant) -> bool {
        if self.pending.len() >= PENDING_MAX {
            return false;
        }
        let mut id = self.random.next_u16();
        while self.pending.contains_key(&id) {
            id = self.random.next_u16();
        }
        let query = encode_query(id, name, rtype::A, Some(EDNS_BYTES));
        // The first error may be about an earlier datagram (port unreachable); the second is about this one.
        if self.socket.try_send(&query).is_err() && self.socket.try_send(&query).is_err() {
            return false;
        }
        let index = self.records.len();
        self.pending.insert(id, index);
        self.expiries.push_back((now + self.config.patience, id, index));
        true
    }

    fn give_up(&mut self, now: Instant) {
        while let Some(&(at, id, index)) = self.expiries.front()
            && (at <= now || self.pending.get(&id) != Some(&index))
        {
            self.expiries.pop_front();
            if self.pending.get(&id) == Some(&index) {
                self.pending.remove(&id);
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 4_096];
        for _ in 0..BATCH {
            match self.socket.try_recv(&mut buffer) {
                Ok(count) => {
                    let at = clock::now().saturating_duration_since(self.queries.started);
                    if self.accept(buffer.get(..count).unwrap_or_default(), at).is_none() {
                        self.strays += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Port unreachable: the query it is about stays open and will count as lost.
                Err(_) => {}
            }
        }
        // Frees the front of the queue, so that an idle lane does not wake for answered queries.
        self.give_up(clock::now());
    }

    /// Records an answer; `None` when it belongs to no open query.
    fn accept(&mut self, bytes: &[u8], at: Duration) -> Option<()> {
        let reply = parse_reply(bytes)?;
        let record = self.records.get_mut(*self.pending.get(&reply.id)?)?;
        let name = self.config.names.name(record.index);
        if reply.question != encode_question(&name, rtype::A) {
            return None;
        }
        let right = is_right(&name, &reply.addresses);
        record.answer = Some(RecordedAnswer {
            at,
            rcode: reply.rcode,
            truncated: reply.truncated,
            right,
        });
        self.pending.remove(&reply.id);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_their_instants() {
        let mut queries = Queries {
            next: 1,
            step: 4,
            total: 6,
            rate: 300,
            started: clock::now(),
            token: CancellationToken::new(),
        };
        assert_eq!(queries.peek(), Some((1, Duration::from_nanos(3_333_333))));
        queries.next += queries.step;
        assert_eq!(queries.peek(), Some((5, Duration::from_nanos(16_666_666))));
        queries.next += queries.step;
        assert_eq!(queries.peek(), None);
        queries.next = 1;
        queries.token.cancel();
        assert_eq!(queries.peek(), None);
    }
}
