//! Client connections (RFC 7766): many queries each, answered as they are ready.
//!
//! The number of connections, of queries in flight on each and of bytes waiting to be written (`backlog`) is bounded; only
//! a whole message counts as activity, so that a slow sender does not hold a connection for ever (section 6.2.3). One
//! task serves a connection, and its socket is closed where that ends: whoever is counted is open, and the other way
//! round.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::backlog::Backlog;
use super::job::{ReplyTo, resolve};
use crate::fair::Place;
use crate::forwarder::Shared;
use crate::metrics::{Source, Transport};
use crate::serve::Verdict;
use crate::wire::Via;

/// Replies that may wait for a client to read. Full: the connection reads no more queries.
const REPLIES: usize = 64;
/// Bytes of a message that are kept, as of a datagram: what is longer is read to its end and answered as what it is
/// without it, mostly by FORMERR.
const MESSAGE_BYTES: usize = 4_096;
/// Bytes of a message read to be forgotten, at a time.
const SKIPPED_BYTES: usize = 512;
/// Time for writing a reply; a client that reads nothing is gone.
const WRITE: Duration = Duration::from_secs(10);
/// Rest after a failed accept: out of descriptors is not cured by trying again at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A connection's place among all and among its client's; free when the socket is closed.
struct Held {
    _place: OwnedSemaphorePermit,
    _share: Place,
}

/// A reply's way back. The slot in the queue was reserved when the query was read, so it always fits.
struct Back {
    replies: mpsc::OwnedPermit<Vec<u8>>,
    backlog: Arc<Backlog>,
    shared: Arc<Shared>,
}

impl ReplyTo for Back {
    fn send(self, reply: Vec<u8>) {
        if self.backlog.add(reply.capacity(), &self.shared.backlogs) {
            drop(self.replies.send(reply));
        }
    }
}

/// Accepts connections until shutdown.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            // Cancel safe: no connection is lost by not accepting it yet.
            accepted = listener.accept() => accepted,
            // Cancel safe: the token stays cancelled.
            () = shared.tasks.draining().cancelled() => return,
        };
        match accepted {
            Ok((stream, client)) => match (shared.connection_shares.take(client.ip()), shared.connections.take()) {
                (Some(share), Some(place)) => {
                    let place = Held {
                        _place: place,
                        _share: share,
                    };
                    let own = Arc::clone(&shared);
                    shared
                        .tasks
                        .spawn_job(async move { serve(own, stream, client, place).await });
                }
                // Closing at once tells the client more than a connection that never answers.
                (None, _) | (_, None) => {
                    shared.metrics.connections_refused.inc();
                }
            },
            Err(error) => {
                let is_client = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !is_client {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// One connection, to its end.
async fn serve(shared: Arc<Shared>, mut stream: TcpStream, client: SocketAddr, place: Held) {
    // Without it a reply may wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_ok() {
        converse(&shared, &mut stream, client).await;
    }
    drop(stream);
    drop(place);
}

/// Reads queries and writes replies side by side; what is under way when the client has asked its last is still written.
async fn converse(shared: &Arc<Shared>, stream: &mut TcpStream, client: SocketAddr) {
    let (read, write) = stream.split();
    let (replies, queue) = mpsc::channel(REPLIES);
    let backlog = Arc::new(Backlog::new(client.ip()));
    let mut writing = pin!(write_replies(write, queue, &backlog));
    tokio::select! {
        () = read_queries(shared, read, client, replies, &backlog) => {}
        // Cancel safe: replies under way have their place in the writer's queue.
        () = shared.tasks.draining().cancelled() => {}
        // Cancel safe, here and below: nobody reads what is left to be written.
        () = writing.as_mut() => return,
        // Cancel safe, here and below: the connection ends.
        () = backlog.cut() => return shared.metrics.note_cut(),
    }
    tokio::select! {
        () = writing => {}
        () = backlog.cut() => shared.metrics.note_cut(),
        // Cancel safe: whoever has not read its replies by the end of the shutdown does without.
        () = shared.tasks.token().cancelled() => {}
    }
}

/// Reads queries until the client is done, idle or breaks the framing.
async fn read_queries(
    shared: &Arc<Shared>,
    mut read: ReadHalf<'_>,
    client: SocketAddr,
    replies: mpsc::Sender<Vec<u8>>,
    backlog: &Arc<Backlog>,
) {
    let mut message = Vec::new();
    loop {
        // A place for the reply first: a client that does not read its answers is not asked for more.
        let room = async {
            backlog.wait().await;
            replies.clone().reserve_owned().await
        };
        let Ok(Ok(place)) = timeout(WRITE, room).await else {
            return;
        };
        let back = Back {
            replies: place,
            backlog: Arc::clone(backlog),
            shared: Arc::clone(shared),
        };
        match timeout(shared.tcp_idle(), read_message(&mut read, &mut message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        shared.metrics.count_queries(Transport::tcp, 1);
        let mut out = Vec::with_capacity(256);
        match shared.answer_guarded(&shared.moment(), &message, client.ip(), Via::Stream, &mut out) {
            Verdict::Hit => {
                shared.metrics.count_replies(Source::cache, 1);
                back.send(out);
            }
            Verdict::Replied => back.send(out),
            // Nothing can be said to what is no query, and what follows cannot be trusted.
            Verdict::Silence => return,
            Verdict::Resolve(miss) => resolve(shared, miss, back),
        }
    }
}

/// One whole message, as much of it as is kept.
async fn read_message(read: &mut ReadHalf<'_>, message: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(read.read_u16().await?);
    message.clear();
    message.resize(length.min(MESSAGE_BYTES), 0);
    read.read_exact(message).await?;
    let mut left = length.saturating_sub(MESSAGE_BYTES);
    if left > 0 {
        let mut skipped = vec![0; SKIPPED_BYTES];
        while let Some(part) = skipped
            .get_mut(..left.min(SKIPPED_BYTES))
            .filter(|part| !part.is_empty())
        {
            left = left.saturating_sub(read.read_exact(part).await?);
        }
    }
    Ok(())
}

/// Writes replies in the order they come, several in one write where they wait.
async fn write_replies(mut write: WriteHalf<'_>, mut queue: mpsc::Receiver<Vec<u8>>, backlog: &Backlog) {
    let mut frames = Vec::with_capacity(1_024);
    while let Some(reply) = queue.recv().await {
        frames.clear();
        let mut bytes = reply.capacity();
        push_frame(&mut frames, reply);
        while frames.len() < 16_384
            && let Ok(more) = queue.try_recv()
        {
            bytes += more.capacity();
            push_frame(&mut frames, more);
        }
        match timeout(WRITE, write.write_all(&frames)).await {
            Ok(Ok(())) => backlog.remove(bytes),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn push_frame(frames: &mut Vec<u8>, reply: Vec<u8>) {
    let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
    frames.extend_from_slice(&length.to_be_bytes());
    frames.extend_from_slice(reply.get(..usize::from(length)).unwrap_or_default());
}
