//! One UDP socket: hits answered where they are read, misses handed to jobs.

use std::io;
use std::sync::Arc;

use super::datagrams::{Datagrams, Peer};
use super::job::{ReplyTo, resolve};
use crate::forwarder::Shared;
use crate::metrics::Transport;
use crate::serve::Verdict;
use crate::wire::Via;

/// Datagrams read before others get a turn on this worker.
const BURST: usize = 64;
/// Largest query read; a query with every sane option fits four times.
const QUERY_BYTES: usize = 4_096;

/// A reply's way back.
struct Back {
    socket: Arc<Datagrams>,
    peer: Peer,
}

impl ReplyTo for Back {
    fn send(self, reply: Vec<u8>) {
        self.socket.reply(&reply, &self.peer);
    }
}

/// Serves a socket until shutdown.
pub(super) async fn serve(shared: Arc<Shared>, socket: Datagrams) {
    let socket = Arc::new(socket);
    let mut out = Vec::with_capacity(2_048);
    loop {
        tokio::select! {
            // Cancel safe: readiness is not consumed by waiting for it.
            ready = socket.readable() => if ready.is_err() {
                return;
            },
            // Cancel safe: the token stays cancelled.
            () = shared.tasks.draining().cancelled() => return,
        }
        if !read_burst(&shared, &socket, &mut out) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Reads what is there, up to a burst; false if the socket is beyond use.
fn read_burst(shared: &Arc<Shared>, socket: &Arc<Datagrams>, out: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; QUERY_BYTES];
    for _ in 0..BURST {
        match socket.try_recv(&mut buffer) {
            Ok((size, peer)) => {
                let message = buffer.get(..size).unwrap_or_default();
                handle(shared, socket, message, peer, out);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if is_about_a_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "udp socket failed");
                return false;
            }
        }
    }
    true
}

/// ICMP for an earlier reply: some client is gone, the socket is not.
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

fn handle(shared: &Arc<Shared>, socket: &Arc<Datagrams>, message: &[u8], peer: Peer, out: &mut Vec<u8>) {
    // Port 0 cannot be answered.
    if peer.client.port() == 0 {
        return;
    }
    shared.metrics.count_query(Transport::udp);
    out.clear();
    match shared.answer_now(message, peer.client.ip(), Via::Udp, out) {
        Verdict::Replied => socket.reply(out, &peer),
        Verdict::Silence => {}
        Verdict::Resolve(miss) => {
            let socket = Arc::clone(socket);
            resolve(shared, miss, Back { socket, peer });
        }
    }
}
