//! Client connections (RFC 7766): many queries each, answered as they are ready.
//!
//! The number of connections, of queries in flight on each and of bytes waiting to be written is bounded; only a
//! whole message counts as activity, so that a slow sender does not hold a connection for ever (section 6.2.3).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::job::{ReplyTo, resolve};
use crate::fair::Place;
use crate::forwarder::Shared;
use crate::metrics::{Source, Transport};
use crate::serve::Verdict;
use crate::wire::Via;

/// Replies that may wait for a client to read. Full: the connection reads no more queries.
const REPLIES: usize = 64;
/// Bytes of replies that may wait before no more queries are read; one reply has at most 64 KiB.
const REPLY_BYTES: usize = 128 * 1024;
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
}

/// Bytes of replies not written yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    shrunk: Notify,
}

impl Backlog {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shrunk.notify_one();
    }

    /// Waits until little enough is left to be written.
    async fn wait(&self) {
        while self.bytes.load(Ordering::Relaxed) > REPLY_BYTES {
            self.shrunk.notified().await;
        }
    }
}

impl ReplyTo for Back {
    fn send(self, reply: Vec<u8>) {
        self.backlog.add(reply.len());
        drop(self.replies.send(reply));
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

/// One connection: a reader here, a writer beside it.
async fn serve(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr, place: Held) {
    // Without it a reply may wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (read, write) = stream.into_split();
    let (replies, queue) = mpsc::channel(REPLIES);
    let backlog = Arc::new(Backlog::default());
    let written = Arc::clone(&backlog);
    let token = shared.tasks.token().clone();
    shared.tasks.spawn_job(async move {
        tokio::select! {
            () = write_replies(write, queue, &written) => {}
            // Cancel safe: whoever has not read its replies by the end of the shutdown does without.
            () = token.cancelled() => {}
        }
        // The socket is open until here.
        drop(place);
    });
    tokio::select! {
        () = read_queries(&shared, read, client, replies, backlog) => {}
        // Cancel safe: replies under way have their place in the writer's queue.
        () = shared.tasks.draining().cancelled() => {}
    }
}

/// Reads queries until the client is done, idle or breaks the framing.
async fn read_queries(
    shared: &Arc<Shared>,
    mut read: OwnedReadHalf,
    client: SocketAddr,
    replies: mpsc::Sender<Vec<u8>>,
    backlog: Arc<Backlog>,
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
            backlog: Arc::clone(&backlog),
        };
        match timeout(shared.tcp_idle(), read_message(&mut read, &mut message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        shared.metrics.count_queries(Transport::tcp, 1);
        let mut out = Vec::with_capacity(512);
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

/// One whole message.
async fn read_message(read: &mut OwnedReadHalf, message: &mut Vec<u8>) -> io::Result<()> {
    let length = read.read_u16().await?;
    message.clear();
    message.resize(usize::from(length), 0);
    read.read_exact(message).await?;
    Ok(())
}

/// Writes replies in the order they come, several in one write where they wait.
async fn write_replies(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, backlog: &Backlog) {
    let mut frames = Vec::with_capacity(1_024);
    while let Some(reply) = queue.recv().await {
        frames.clear();
        let mut bytes = reply.len();
        push_frame(&mut frames, &reply);
        while frames.len() < 16_384
            && let Ok(more) = queue.try_recv()
        {
            bytes += more.len();
            push_frame(&mut frames, &more);
        }
        match timeout(WRITE, write.write_all(&frames)).await {
            Ok(Ok(())) => backlog.remove(bytes),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn push_frame(frames: &mut Vec<u8>, reply: &[u8]) {
    let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
    frames.extend_from_slice(&length.to_be_bytes());
    frames.extend_from_slice(reply.get(..usize::from(length)).unwrap_or_default());
}
