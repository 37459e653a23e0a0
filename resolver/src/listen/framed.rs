//! Connections that carry messages behind their length: TCP (RFC 7766) and TLS (RFC 7858). Many queries each, answered as
//! they are ready.
//!
//! One task a connection: what is read at once is answered at once and written at once, and what has to be resolved comes
//! back through a queue. Queries in flight and bytes to be written (`backlog`) are bounded; at the bound nothing more is
//! read. Only a whole message counts as activity, so that a slow sender does not hold a connection for ever (section
//! 6.2.3), and a client that does not take its replies is cut.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::backlog::Backlog;
use super::doors::Guest;
use super::gathered::KEPT_BYTES;
use super::job::{ReplyTo, resolve};
use super::overseer::{FAREWELL, Order, Overseer, part};
use crate::forwarder::Shared;
use crate::metrics::{Cut, Source};
use crate::serve::Verdict;
use crate::wire::{MESSAGE_BYTES_MAX, Via};

/// Queries of one connection that may be in flight at once.
const IN_FLIGHT: usize = 64;
/// Bytes read at once at most: some forty queries, or the longest that is kept.
const INPUT_BYTES: usize = 2 + KEPT_BYTES;
/// The same of a client that has not sent as many at once.
const FIRST_BYTES: usize = 512;
/// Bytes that are written at once, as far as replies are so short: one record of TLS. What comes beyond waits as it is.
const OUTPUT_BYTES: usize = 16 * 1024;
/// A reply's way back. The slot in the queue was reserved when the query was read, so it always fits.
struct Back {
    replies: mpsc::OwnedPermit<Vec<u8>>,
    backlog: Arc<Backlog>,
    shared: Arc<Shared>,
}

impl ReplyTo for Back {
    fn send(self, reply: Vec<u8>) {
        if self.backlog.add(cost(&reply), &self.shared.backlogs) {
            self.replies.send(reply);
        } else {
            // Replies before it may wait for ever.
            self.backlog.cut();
        }
    }
}

/// What a reply in the queue takes, or the frame it becomes.
fn cost(reply: &Vec<u8>) -> usize {
    reply.capacity().max(reply.len() + 2)
}

/// Bytes read: whole messages and the beginning of one.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes to come that are not kept.
    skipped: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            bytes: vec![0; FIRST_BYTES],
            start: 0,
            end: 0,
            skipped: 0,
        }
    }

    /// The next message, if all that is kept of it is there, and how long it is.
    fn message(&self) -> Option<(&[u8], usize)> {
        if self.skipped > 0 {
            return None;
        }
        let (length, rest) = self.bytes.get(self.start..self.end)?.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        Some((rest.get(..length.min(KEPT_BYTES))?, length))
    }

    /// The message of this length has been taken up.
    fn take(&mut self, length: usize) {
        self.start += 2 + length.min(KEPT_BYTES);
        self.skipped = length.saturating_sub(KEPT_BYTES);
        self.skip();
    }

    fn skip(&mut self) {
        let there = self.skipped.min(self.end - self.start);
        self.start += there;
        self.skipped -= there;
    }

    /// Reads what is there; 0: the client is done.
    fn poll_read(&mut self, stream: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize((2 * self.end).min(INPUT_BYTES), 0);
        }
        let mut room = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        let read = stream.poll_read(cx, &mut room);
        let count = room.filled().len();
        self.end += count;
        self.skip();
        read.map_ok(|()| count)
    }
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    is_unflushed: bool,
    /// Bytes so far.
    total: u64,
}

impl Output {
    /// A frame begins here.
    fn begin(&mut self) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        at
    }

    /// The frame that began there is whole; its length.
    fn end(&mut self, at: usize) -> usize {
        let length = self.bytes.len().saturating_sub(at + 2).min(MESSAGE_BYTES_MAX);
        self.bytes.truncate(at + 2 + length);
        if let Some(place) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        }
        2 + length
    }

    /// There is no frame after all.
    fn take_back(&mut self, at: usize) {
        self.bytes.truncate(at);
    }

    /// Appends a frame; its length.
    fn push(&mut self, reply: &[u8]) -> usize {
        let at = self.begin();
        self.bytes.extend_from_slice(reply);
        self.end(at)
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn is_empty(&self) -> bool {
        self.waiting() == 0 && !self.is_unflushed
    }

    /// Writes what can be written; how much that was.
    fn write<W: AsyncWrite>(&mut self, mut stream: Pin<&mut W>, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut sum = 0;
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stream.as_mut().poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.written += count;
                    sum += count;
                    self.total = self.total.saturating_add(u64::try_from(count).unwrap_or(0));
                    self.is_unflushed = true;
                }
                Poll::Pending => return Ok(sum),
            }
        }
        self.written = 0;
        if self.bytes.capacity() > OUTPUT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        if self.is_unflushed && stream.poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
        }
        Ok(sum)
    }
}

/// What happened on a connection.
enum Event {
    /// Something was read, or written, or has to be.
    Moved,
    /// The client has nothing more to ask.
    Finished,
    /// The connection broke.
    Gone,
    /// The client asks for more than it takes.
    NoRoom,
    /// Something beside the client.
    Ordered(Order),
}

/// What became of the messages at hand.
enum Taken {
    /// More can be read.
    All,
    /// One of them ends the connection, behind the replies to those before it.
    End,
    /// There is no room for a reply.
    NoRoom,
}

/// A connection being served.
struct Framed<'a, S> {
    shared: &'a Arc<Shared>,
    client: IpAddr,
    via: Via,
    stream: S,
    input: Input,
    output: Output,
    backlog: Arc<Backlog>,
    replies: mpsc::Sender<Vec<u8>>,
    queue: mpsc::Receiver<Vec<u8>>,
    is_reading: bool,
    /// The client may have more to say, which is not read.
    is_cut_short: bool,
    overseer: Overseer,
}

/// Serves a connection until its client is done, idle, breaks the framing or does not read.
pub(super) async fn serve<S>(shared: &Arc<Shared>, stream: S, client: IpAddr, via: Via, guest: &Arc<Guest>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (replies, queue) = mpsc::channel(IN_FLIGHT);
    let connection = Framed {
        shared,
        client,
        via,
        stream,
        input: Input::new(),
        output: Output::default(),
        backlog: Arc::new(Backlog::new(client)),
        replies,
        queue,
        is_reading: true,
        is_cut_short: false,
        overseer: Overseer::new(shared, via, guest),
    };
    connection.run().await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<'_, S> {
    async fn run(mut self) {
        while self.is_reading || !self.is_done() {
            match poll_fn(|cx| self.poll(cx)).await {
                Event::Moved => {}
                Event::Finished | Event::Ordered(Order::Idle) => self.is_reading = false,
                Event::Ordered(Order::Drain) => (self.is_reading, self.is_cut_short) = (false, true),
                Event::Gone | Event::Ordered(Order::Slow | Order::End) => return,
                Event::NoRoom => return self.shared.metrics.streams(self.via).count_cut(Cut::Slow),
            }
        }
        if self.is_cut_short {
            part(self.stream).await;
        } else {
            // A client that is gone need not be told.
            drop(timeout(FAREWELL, self.stream.shutdown()).await);
        }
    }

    /// Whether everything that was asked has been answered.
    fn is_done(&self) -> bool {
        self.replies.capacity() == self.replies.max_capacity() && self.output.is_empty()
    }

    /// Whether another query can be taken up.
    fn has_room(&self) -> bool {
        self.replies.capacity() > 0 && self.backlog.reads_on()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.backlog.poll_cut(cx).is_ready() {
            return Poll::Ready(Event::NoRoom);
        }
        let mut is_moved = false;
        if self.is_reading {
            match self.take_queries() {
                Taken::All => {}
                Taken::End => (self.is_reading, self.is_cut_short) = (false, true),
                Taken::NoRoom => return Poll::Ready(Event::NoRoom),
            }
        }
        while self.output.waiting() < OUTPUT_BYTES
            && let Poll::Ready(Some(reply)) = self.queue.poll_recv(cx)
        {
            let cost = cost(&reply);
            self.backlog.remove(cost - self.output.push(&reply).min(cost));
            is_moved = true;
        }
        match self.output.write(Pin::new(&mut self.stream), cx) {
            Ok(written) => {
                self.backlog.remove(written);
                is_moved |= written > 0;
            }
            Err(_gone) => return Poll::Ready(Event::Gone),
        }
        self.overseer.note_output(self.output.waiting() > 0, self.output.total);
        if self.is_reading && self.has_room() {
            match self.input.poll_read(Pin::new(&mut self.stream), cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::Finished),
                Poll::Ready(Ok(_)) => is_moved = true,
                Poll::Ready(Err(_gone)) => return Poll::Ready(Event::Gone),
                Poll::Pending => {}
            }
        }
        if is_moved || (!self.is_reading && self.is_done()) {
            return Poll::Ready(Event::Moved);
        }
        let is_busy = !self.has_room();
        self.overseer.poll(cx, is_busy).map(Event::Ordered)
    }

    /// Takes up the messages that are whole, as far as there is room.
    fn take_queries(&mut self) -> Taken {
        let (mut queries, mut hits, mut moment) = (0, 0, None);
        let mut taken = Taken::All;
        while self.has_room()
            && let Some((message, length)) = self.input.message()
        {
            let moment = moment.get_or_insert_with(|| self.shared.moment());
            queries += 1;
            let at = self.output.begin();
            let verdict = self
                .shared
                .answer_guarded(moment, message, self.client, self.via, &mut self.output.bytes);
            self.input.take(length);
            match verdict {
                Verdict::Hit | Verdict::Replied => {
                    hits += u64::from(matches!(verdict, Verdict::Hit));
                    let frame = self.output.end(at);
                    if !self.backlog.add(frame, &self.shared.backlogs) {
                        taken = Taken::NoRoom;
                        break;
                    }
                }
                Verdict::Silence => {
                    // Nothing can be said to what is no query, and what follows cannot be trusted.
                    self.output.take_back(at);
                    self.shared.metrics.streams(self.via).count_cut(Cut::Protocol);
                    taken = Taken::End;
                    break;
                }
                Verdict::Resolve(miss) => {
                    self.output.take_back(at);
                    // There was room, and nobody else takes it.
                    if let Ok(replies) = self.replies.clone().try_reserve_owned() {
                        let back = Back {
                            replies,
                            backlog: Arc::clone(&self.backlog),
                            shared: Arc::clone(self.shared),
                        };
                        resolve(self.shared, miss, back);
                    }
                }
            }
        }
        if let Some(moment) = moment {
            self.overseer.note_query(&moment);
            self.shared.metrics.count_queries(self.via, queries);
            self.shared.metrics.count_replies(Source::cache, hits);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared;
    use crate::wire::{NameBuf, QueryOut, build_query};
    use tokio::io::{AsyncReadExt as _, duplex};

    /// A question that is answered here.
    fn query(id: u16) -> Vec<u8> {
        let mut query = vec![0, 0];
        let name: NameBuf = "localhost".parse().unwrap();
        let out = QueryOut {
            id,
            name: &name,
            qtype: 1,
            qclass: 1,
            ad: false,
            cd: false,
            case_bits: None,
            edns: None,
        };
        build_query(&mut query, &out);
        let length = u16::try_from(query.len() - 2).unwrap();
        query[..2].copy_from_slice(&length.to_be_bytes());
        query
    }

    async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        Ok(u16::from_be_bytes([message[0], message[1]]))
    }

    #[tokio::test]
    async fn messages_that_come_at_once_in_pieces_and_behind_each_other_are_answered() {
        let (shared, _control) = shared(4);
        let (mut client, server) = duplex(64);
        let own = Arc::clone(&shared);
        shared
            .tasks
            .spawn_job(async move { serve(&own, server, [127, 0, 0, 1].into(), Via::Tcp, &Arc::default()).await });
        let all: Vec<u8> = (0..200).flat_map(query).collect();
        let (mut read, mut write) = tokio::io::split(&mut client);
        let writing = async {
            for piece in all.chunks(37) {
                write.write_all(piece).await.unwrap();
            }
        };
        let reading = async {
            for id in 0..200 {
                assert_eq!(reply(&mut read).await.unwrap(), id);
            }
        };
        tokio::join!(writing, reading);
        client.shutdown().await.unwrap();
        assert!(reply(&mut client).await.is_err(), "the end is answered by the end");
        shared.tasks.stop().await;
    }

    #[tokio::test]
    async fn what_is_no_query_ends_the_connection_behind_the_replies_before_it() {
        let (shared, _control) = shared(4);
        let (mut client, server) = duplex(4_096);
        client.write_all(&query(7)).await.unwrap();
        client.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
        client.write_all(&query(8)).await.unwrap();
        serve(&shared, server, [127, 0, 0, 1].into(), Via::Tcp, &Arc::default()).await;
        assert_eq!(reply(&mut client).await.unwrap(), 7);
        assert!(reply(&mut client).await.is_err());
    }

    #[tokio::test]
    async fn a_stop_ends_a_connection_whose_client_does_not_read() {
        let (shared, _control) = shared(4);
        let (mut client, server) = duplex(16);
        let own = Arc::clone(&shared);
        shared
            .tasks
            .spawn_job(async move { serve(&own, server, [127, 0, 0, 1].into(), Via::Tcp, &Arc::default()).await });
        client.write_all(&query(1)).await.unwrap();
        shared.tasks.stop().await;
    }
}
