//! One UDP socket: hits answered where they are read, misses handed to jobs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

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
    socket: Arc<UdpSocket>,
    client: SocketAddr,
}

impl ReplyTo for Back {
    fn send(&self, reply: Vec<u8>) {
        // A full send buffer loses the datagram; the client asks again.
        drop(self.socket.try_send_to(&reply, self.client));
    }
}

/// Serves a socket. `may_vanish`: its address was found, not configured, and may go.
pub(super) fn spawn(shared: &Arc<Shared>, socket: UdpSocket, may_vanish: bool) {
    let own = Arc::clone(shared);
    if may_vanish {
        shared.tasks.spawn_job(async move { serve(own, socket).await });
    } else {
        shared
            .tasks
            .spawn_pillar("udp listener", async move { serve(own, socket).await });
    }
}

async fn serve(shared: Arc<Shared>, socket: UdpSocket) {
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
fn read_burst(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, out: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; QUERY_BYTES];
    for _ in 0..BURST {
        match socket.try_recv_from(&mut buffer) {
            Ok((size, client)) => {
                let message = buffer.get(..size).unwrap_or_default();
                handle(shared, socket, message, client, out);
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

fn handle(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, message: &[u8], client: SocketAddr, out: &mut Vec<u8>) {
    // Port 0 cannot be answered.
    if client.port() == 0 {
        return;
    }
    shared.metrics.count_query(Transport::udp);
    out.clear();
    match shared.answer_now(message, client.ip(), Via::Udp, out) {
        Verdict::Replied => {
            // As above: a full buffer loses the datagram.
            drop(socket.try_send_to(out, client));
        }
        Verdict::Silence => {}
        Verdict::Resolve(miss) => {
            let socket = Arc::clone(socket);
            resolve(shared, miss, Back { socket, client });
        }
    }
}
