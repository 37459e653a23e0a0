//! Datagrams by the batch: on Linux one call receives up to sixteen, and one call sends their replies; elsewhere it is a
//! call for each.
//!
//! A batch is what is there: nobody waits for one to be full. Nothing is allocated after the start, and buffers are as
//! large as the largest query that is read.

#[cfg(target_os = "linux")]
mod many;
#[cfg(any(not(target_os = "linux"), test))]
mod plain;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike};

#[cfg(target_os = "linux")]
use self::many::ManyACall;
#[cfg(not(target_os = "linux"))]
use self::plain::OneACall;
use super::datagrams::{Asked, Datagrams, InfoV4, InfoV6, Peer};

/// How the system is called.
#[cfg(target_os = "linux")]
pub(super) type System<A> = ManyACall<A>;
#[cfg(not(target_os = "linux"))]
pub(super) type System<A> = OneACall<A>;

/// Datagrams per call: more gain nothing, and keep the first waiting.
const BATCH: usize = 16;
/// Largest query read; a query with every sane option fits four times.
const QUERY_BYTES: usize = 4_096;

/// An address of one family, as the system takes it.
pub(super) trait Address: SockaddrLike + Copy {
    /// Room for where a datagram was sent.
    fn control_space() -> Vec<u8>;

    fn to_std(self) -> SocketAddr;

    fn from_std(address: SocketAddr) -> Option<Self>;
}

impl Address for SockaddrIn {
    fn control_space() -> Vec<u8> {
        cmsg_space!(InfoV4)
    }

    fn to_std(self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::from(self))
    }

    fn from_std(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V4(v4) => Some(v4.into()),
            SocketAddr::V6(_) => None,
        }
    }
}

impl Address for SockaddrIn6 {
    fn control_space() -> Vec<u8> {
        cmsg_space!(InfoV6)
    }

    fn to_std(self) -> SocketAddr {
        SocketAddr::V6(SocketAddrV6::from(self))
    }

    fn from_std(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V6(v6) => Some(v6.into()),
            SocketAddr::V4(_) => None,
        }
    }
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<A> {
    bytes: usize,
    client: A,
    asked: Asked,
}

impl<A> Arrived<A> {
    fn new(bytes: usize, client: A, asked: Option<Asked>) -> Self {
        // Without a word of where it was sent, the system chooses where the reply leaves.
        let asked = asked.unwrap_or(Asked::Own);
        Self { bytes, client, asked }
    }
}

/// Room for a datagram.
pub(super) type Buffer = [u8; QUERY_BYTES];
/// What was received, in order.
pub(super) type Arrivals<A> = [Option<Arrived<A>>; BATCH];

/// A way to call the system.
pub(super) trait Calls<A> {
    fn new(socket: &Datagrams) -> Self;

    /// Takes what is there.
    ///
    /// # Errors
    /// Those of the socket; nothing was received then.
    fn receive(&mut self, socket: &Datagrams, buffers: &mut [Buffer], arrived: &mut Arrivals<A>) -> io::Result<()>;

    /// Sends replies from one address, as many as one call does; how many were sent.
    fn send<'b>(
        &'b mut self,
        socket: &Datagrams,
        replies: &'b [[IoSlice<'b>; 1]],
        clients: &'b [Option<A>],
        asked: &'b Asked,
    ) -> Result<usize, Errno>;
}

/// What is received and sent at once.
#[derive(Debug)]
pub(super) struct Batch<A, S = System<A>> {
    /// One datagram each.
    buffers: Box<[Buffer]>,
    system: S,
    arrived: Arrivals<A>,
    /// Replies, one behind the other.
    out: Vec<u8>,
    /// Where each reply stands, and which datagram it answers.
    replies: Vec<(Range<usize>, usize)>,
}

impl<A: Address, S: Calls<A>> Batch<A, S> {
    pub(super) fn new(socket: &Datagrams) -> Self {
        Self {
            buffers: vec![[0; QUERY_BYTES]; BATCH].into_boxed_slice(),
            system: S::new(socket),
            arrived: [None; BATCH],
            out: Vec::with_capacity(BATCH * 128),
            replies: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there; whether the batch is full, so that there may be more.
    ///
    /// # Errors
    /// Those of the socket; nothing was received then.
    pub(super) fn receive(&mut self, socket: &Datagrams) -> io::Result<bool> {
        self.arrived = [None; BATCH];
        self.system.receive(socket, &mut self.buffers, &mut self.arrived)?;
        Ok(self.arrived.iter().all(Option::is_some))
    }

    /// Has each datagram answered: what `answer` appends to the bytes it is given is the reply.
    pub(super) fn answer(&mut self, mut answer: impl FnMut(&[u8], &Peer, &mut Vec<u8>)) {
        self.out.clear();
        self.replies.clear();
        for (index, (arrived, buffer)) in self.arrived.iter().zip(&self.buffers).enumerate() {
            let Some(Arrived { bytes, client, asked }) = *arrived else {
                break;
            };
            let client = client.to_std();
            // Port 0 cannot be answered.
            if client.port() == 0 {
                continue;
            }
            let start = self.out.len();
            let query = buffer.get(..bytes).unwrap_or_default();
            answer(query, &Peer { client, asked }, &mut self.out);
            if self.out.len() > start {
                self.replies.push((start..self.out.len(), index));
            }
        }
    }

    /// Sends the replies: now or not at all, as [`Datagrams::reply`] does.
    pub(super) fn send(&mut self, socket: &Datagrams) {
        let replies = self.replies.iter().filter_map(|(range, of)| {
            let arrived = self.arrived.get(*of)?.as_ref()?;
            Some((self.out.get(range.clone())?, arrived.client, arrived.asked))
        });
        send_all(socket, &mut self.system, replies);
    }

    /// Sends others, likewise.
    pub(super) fn send_all<'b>(&mut self, socket: &Datagrams, replies: impl Iterator<Item = (&'b [u8], &'b Peer)>) {
        let replies = replies.filter_map(|(reply, peer)| Some((reply, A::from_std(peer.client)?, peer.asked)));
        send_all(socket, &mut self.system, replies);
    }
}

/// Sends replies, as many a call as leave from one address.
fn send_all<'b, A: Address>(
    socket: &Datagrams,
    system: &mut impl Calls<A>,
    replies: impl Iterator<Item = (&'b [u8], A, Asked)>,
) {
    let mut replies = replies.peekable();
    while let Some((_, _, asked)) = replies.peek().copied() {
        let (mut parts, mut clients) = ([[IoSlice::new(&[])]; BATCH], [None; BATCH]);
        let mut count = 0;
        for (part, client) in parts.iter_mut().zip(&mut clients) {
            let Some((reply, to, _)) = replies.next_if(|(_, _, from)| *from == asked) else {
                break;
            };
            (*part, *client) = ([IoSlice::new(reply)], Some(to));
            count += 1;
        }
        let (mut parts, mut clients) = (
            parts.get(..count).unwrap_or_default(),
            clients.get(..count).unwrap_or_default(),
        );
        while !parts.is_empty() {
            // The system stops at the first it cannot send, and says why when that is the first of all.
            let sent = system.send(socket, parts, clients, &asked).unwrap_or_else(|error| {
                tracing::trace!(%error, "a reply was not sent");
                1
            });
            parts = parts.get(sent.max(1)..).unwrap_or_default();
            clients = clients.get(sent.max(1)..).unwrap_or_default();
        }
    }
}
