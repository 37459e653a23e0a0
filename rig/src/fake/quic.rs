//! The listeners of QUIC: a task each, a task per connection that it owns, and a task per query.
//!
//! There is one endpoint per transport, over a socket that says nothing while the fake is silent (`gate`). Resets and the
//! end of the fake close connections, whatever they are doing.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Connection, Endpoint, EndpointConfig, Incoming, Runtime, TokioRuntime, VarInt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::stats::{OpenGuard, add};
use crate::clock;
use crate::fault::{Conduct, Fault};
use crate::random::mix;
use crate::transport::Transport;
use gate::Gate;

pub(super) use servers::Servers;

mod doh3;
mod doq;
mod gate;
mod servers;

/// Open connections; more are refused.
const CONNECTIONS_MAX: usize = 1_024;
/// How long the goodbye of the last connection may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long what is left of the connections may hold the port: a handshake that was under way is remembered for three
/// seconds (RFC 9000 section 10.2), and a machine may be busy.
const FREED: Duration = Duration::from_secs(15);
/// How a connection is closed by a fault: `DOQ_INTERNAL_ERROR` (RFC 9250 section 8.4), and near enough to it over HTTP/3.
const RESET: VarInt = VarInt::from_u32(1);
/// `H3_INTERNAL_ERROR` (RFC 9114 section 8.1).
const RESET_H3: VarInt = VarInt::from_u32(0x102);
/// Like the end of a connection that nothing is wrong with.
const END: VarInt = VarInt::from_u32(0);
/// `H3_NO_ERROR`.
const END_H3: VarInt = VarInt::from_u32(0x100);

/// One transport's listener.
pub(super) struct Listener {
    endpoint: Endpoint,
    socket: Arc<Gate>,
    servers: Servers,
    shared: Shared,
}

impl Listener {
    /// Listens on a socket.
    pub(super) fn new(socket: UdpSocket, servers: Servers, shared: Shared) -> io::Result<Self> {
        let socket = Arc::new(Gate::new(TokioRuntime.wrap_udp_socket(socket)?, shared.conduct.clone()));
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            Some(servers.right()),
            Arc::<Gate>::clone(&socket),
            Arc::new(TokioRuntime),
        )?;
        Ok(Self {
            endpoint,
            socket,
            servers,
            shared,
        })
    }

    /// Accepts until the token is cancelled, then ends every connection and gives the port back.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        let mut count = 0_u64;
        loop {
            let incoming = tokio::select! {
                biased;
                // Cancel-safe: asks for a state.
                () = self.shared.token.cancelled() => break,
                // Cancel-safe: an ended task stays in the set until it is joined.
                Some(_) = connections.join_next() => continue,
                // Cancel-safe: a connection is taken only when the future completes.
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else {
                break;
            };
            let Some(connecting) = self.admit(incoming, connections.len()) else {
                continue;
            };
            count += 1;
            let shared = Shared {
                seed: mix(self.shared.seed ^ count),
                ..self.shared.clone()
            };
            let conduct = *self.shared.conduct.borrow();
            connections.spawn(connection(connecting, self.servers.resumed(), conduct, shared));
        }
        connections.shutdown().await;
        self.close().await;
    }

    /// What becomes of a client's first packet.
    fn admit(&self, incoming: Incoming, open: usize) -> Option<Connecting> {
        let fault = self.shared.fault(clock::now());
        // One that comes again with its token has been counted.
        if !(fault == Fault::TlsStall && incoming.remote_address_validated()) {
            add(&self.shared.counters.connections, 1);
        }
        if fault == Fault::TlsStall {
            // Whoever has shown that the address is his waits for a handshake; nobody else is told more than to do so.
            match incoming.remote_address_validated() {
                true => incoming.ignore(),
                false => incoming.retry().ok()?,
            }
            return None;
        }
        if fault == Fault::Rst || open >= CONNECTIONS_MAX {
            incoming.refuse();
            return None;
        }
        let accepted = incoming.accept_with(self.servers.showing(fault.shown()));
        // A packet that begins no connection.
        accepted.ok()
    }

    /// Says goodbye and waits until nobody holds the socket: a fake that starts again wants its port.
    async fn close(self) {
        let Self { endpoint, socket, .. } = self;
        endpoint.close(END, b"");
        timeout(GOODBYE, endpoint.wait_idle()).await.ok();
        drop(endpoint);
        let freed = async {
            while Arc::strong_count(&socket) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(FREED, freed).await.ok();
    }
}

/// From the handshake to the end.
async fn connection(connecting: Connecting, resumed: Arc<servers::Resumed>, accepted: Conduct, shared: Shared) {
    let counters = Arc::clone(&shared.counters);
    let _open = OpenGuard::new(&counters);
    let is_http = shared.transport == Transport::Doh3;
    let mut conduct = shared.conduct.clone();
    let resets = accepted.resets;
    let connected = tokio::select! {
        biased;
        // Cancel-safe: asks for a state. Dropping the handshake ends it.
        Ok(_) = conduct.wait_for(|conduct| conduct.resets != resets) => None,
        // It is not polled again.
        connected = connecting => connected.ok(),
    };
    let Some(connection) = connected else {
        counters.handshake(None);
        return;
    };
    counters.handshake(Some(resumed.kind()));
    note_name(&connection, &shared);
    let served = async {
        if is_http {
            doh3::serve(connection.clone(), accepted.closings, shared).await;
        } else {
            doq::serve(connection.clone(), accepted.closings, shared).await;
        }
    };
    let reset = tokio::select! {
        biased;
        // Cancel-safe: asks for a state.
        Ok(_) = conduct.wait_for(|conduct| conduct.resets != resets) => true,
        // It is not polled again.
        () = served => false,
    };
    connection.close(
        match (reset, is_http) {
            (true, false) => RESET,
            (true, true) => RESET_H3,
            (false, false) => END,
            (false, true) => END_H3,
        },
        b"",
    );
}

/// Remembers whom the client asked for.
fn note_name(connection: &Connection, shared: &Shared) {
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    let name = data.and_then(|data| data.server_name);
    shared.counters.server_name.send_replace(name.map(Into::into));
}
