//! Datagrams by the batch: one call receives up to sixteen, one call sends their replies.
//!
//! A batch is what is there: nobody waits for one to be full. Nothing is allocated after the start, and buffers are as
//! large as the largest query that is read.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg, sendto};

use super::datagrams::{Asked, Datagrams, Peer};

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
        cmsg_space!(in_pktinfo)
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
        cmsg_space!(in6_pktinfo)
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
struct Arrived<A> {
    bytes: usize,
    client: A,
    asked: Asked,
}

/// What is received and sent at once.
#[derive(Debug)]
pub(super) struct Batch<A> {
    /// One datagram each.
    buffers: Box<[[u8; QUERY_BYTES]]>,
    /// Two sets: each keeps pointers to what it was last used for.
    incoming: MultiHeaders<A>,
    outgoing: MultiHeaders<A>,
    arrived: [Option<Arrived<A>>; BATCH],
    /// Replies, one behind the other.
    out: Vec<u8>,
    /// Where each reply stands, and which datagram it answers.
    replies: Vec<(Range<usize>, usize)>,
}

impl<A: Address> Batch<A> {
    pub(super) fn new(socket: &Datagrams) -> Self {
        let control = || socket.is_wildcard().then(A::control_space);
        Self {
            buffers: vec![[0; QUERY_BYTES]; BATCH].into_boxed_slice(),
            incoming: MultiHeaders::preallocate(BATCH, control()),
            outgoing: MultiHeaders::preallocate(BATCH, control()),
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
        let mut buffers = self.buffers.iter_mut();
        let mut parts: [_; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().map(|buffer| buffer.as_mut_slice());
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let fd = socket.fd();
        let messages = recvmmsg(fd, &mut self.incoming, &mut parts, MsgFlags::MSG_DONTWAIT, None)?;
        for (place, message) in self.arrived.iter_mut().zip(messages) {
            // Without a word of it the system chooses where the reply leaves.
            let asked = if socket.is_wildcard() {
                message.cmsgs().ok().and_then(|mut parts| parts.find_map(Asked::of))
            } else {
                None
            };
            *place = message.address.map(|client| Arrived {
                bytes: message.bytes,
                client,
                asked: asked.unwrap_or(Asked::Own),
            });
        }
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
        send_all(socket, &mut self.outgoing, replies);
    }

    /// Sends others, likewise.
    pub(super) fn send_all<'b>(&mut self, socket: &Datagrams, replies: impl Iterator<Item = (&'b [u8], &'b Peer)>) {
        let replies = replies.filter_map(|(reply, peer)| Some((reply, A::from_std(peer.client)?, peer.asked)));
        send_all(socket, &mut self.outgoing, replies);
    }
}

/// Sends replies, as many a call as leave from one address.
fn send_all<'b, A: Address>(
    socket: &Datagrams,
    headers: &mut MultiHeaders<A>,
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
            let sent = send_run(socket, headers, parts, clients, &asked).unwrap_or_else(|error| {
                tracing::trace!(%error, "a reply was not sent");
                1
            });
            parts = parts.get(sent.max(1)..).unwrap_or_default();
            clients = clients.get(sent.max(1)..).unwrap_or_default();
        }
    }
}

/// Sends replies from one address in one call; how many were sent.
fn send_run<'b, A: Address>(
    socket: &Datagrams,
    headers: &'b mut MultiHeaders<A>,
    parts: &'b [[IoSlice<'b>; 1]],
    clients: &'b [Option<A>],
    asked: &'b Asked,
) -> Result<usize, Errno> {
    let is_one = parts.len() == 1 || socket.is_wildcard();
    if let ([[reply], ..], [Some(client), ..], Asked::Own, true) = (parts, clients, asked, is_one) {
        // Headers of a wildcard socket still have what was said of the source last time.
        return sendto(socket.fd(), reply, client, MsgFlags::MSG_DONTWAIT).map(|_bytes| 1);
    }
    let control = asked.control();
    let sent = sendmmsg(
        socket.fd(),
        headers,
        parts,
        clients,
        control.as_slice(),
        MsgFlags::MSG_DONTWAIT,
    )?;
    Ok(sent.count())
}
