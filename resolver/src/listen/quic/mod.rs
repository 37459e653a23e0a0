//! QUIC listeners (RFC 9000): who comes in, the handshake, and what of a connection may be on its way.
//!
//! A stranger costs a handshake, and may have forged its address: while many handshakes are under way, strangers prove
//! their address first (Retry, RFC 9000 section 8.1.2), which costs nothing but a packet. Replies leave from the address
//! that was asked, also where the listener is bound to all of them.

pub(super) mod doq;

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::time::timeout;

use super::accept::{HANDSHAKE, caller};
use super::doors::{Guest, Held};
use super::http;
use super::overseer::FAREWELL;
use crate::forwarder::Shared;
use crate::metrics::{Cut, Handshake};
use crate::wire::Via;

/// Queries of one connection at once; RFC 9114 section 6.1 asks for 100 at least.
pub(super) const STREAMS: u32 = 100;
/// Streams that HTTP/3 needs beside them: control, two of QPACK, and one of those that mean nothing.
const H3_OWN_STREAMS: u32 = 8;
/// What of one stream may be on its way to us: many queries long, and a quarter of the longest message.
const STREAM_WINDOW: u32 = 16 * 1024;
/// What of a connection may be on its way to us.
const CONNECTION_WINDOW: u32 = 64 * 1024;
/// What of a connection may be on its way to the client, and is kept until it has said that it came; what is longer waits.
const SEND_WINDOW: u64 = 32 * 1024;
/// A connection on which no packet comes for this long is gone, whatever it may idle: its client went out of reach.
const SILENCE: Duration = Duration::from_secs(30);
/// Strangers that wait to be looked at; more are refused.
const INCOMING: usize = 1_024;
/// Bytes that one of them may send before it is looked at.
const INCOMING_BYTES: u64 = 8 * 1024;
/// The same of all.
const INCOMING_BYTES_ALL: u64 = 1024 * 1024;
/// Requests that their client gave up before they were whole. Beyond that, and if they are more than half of all, the
/// client only makes work.
pub(super) const RESETS_MAX: u64 = 100;
/// Longest time that the last replies of a connection have to arrive before it is closed.
const LINGER: Duration = Duration::from_millis(500);

/// An endpoint on a bound socket. Must be called within the runtime.
pub(super) fn endpoint(socket: UdpSocket, tls: &Arc<QuicServerConfig>, via: Via) -> io::Result<Endpoint> {
    let own_streams = if via == Via::H3 { H3_OWN_STREAMS } else { 0 };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(own_streams))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(SILENCE.try_into().ok())
        .datagram_receive_buffer_size(None);
    let mut server = ServerConfig::with_crypto(Arc::clone(tls) as _);
    server
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))
}

/// Takes connections until shutdown, and sees those that are open to their end.
pub(super) async fn accept(shared: Arc<Shared>, endpoint: Endpoint, via: Via) {
    loop {
        tokio::select! {
            // Cancel safe: who was not accepted waits.
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(&shared, incoming, via),
                None => break,
            },
            // Cancel safe: the token stays cancelled.
            () = shared.tasks.draining().cancelled() => break,
        }
    }
    // Who comes now is refused.
    endpoint.set_server_config(None);
    shared.tasks.token().cancelled().await;
    // What connections say last leaves by this socket.
    drop(timeout(FAREWELL, endpoint.wait_idle()).await);
}

/// Lets a stranger in, sends it back for a proof of its address, or turns it away.
fn admit(shared: &Arc<Shared>, incoming: Incoming, via: Via) {
    let client = incoming.remote_address().ip();
    let is_stranger = !incoming.remote_address_validated() && incoming.may_retry();
    if is_stranger && shared.doors.are_crowded() {
        shared.metrics.count_retry(via);
        // It may: that was asked above.
        drop(incoming.retry());
        return;
    }
    let caller = caller(shared, via, client);
    let entered = shared.doors.enter(&caller);
    let entered = entered.and_then(|held| Ok((held, shared.doors.shake_hands(&caller)?)));
    match entered {
        Ok((held, shaking)) => {
            let own = Arc::clone(shared);
            let serve = async move { serve(&own, incoming, via, held, shaking).await };
            shared.tasks.spawn_job(serve);
        }
        Err(full) => {
            shared.metrics.streams(via).count_refused(full);
            incoming.refuse();
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve(shared: &Arc<Shared>, incoming: Incoming, via: Via, held: Held, shaking: Held) {
    let counters = shared.metrics.streams(via);
    let open = counters.opened();
    tokio::select! {
        () = serve_guest(shared, incoming, via, held.guest(), shaking) => {}
        // Cancel safe: the token stays cancelled.
        () = held.guest().ended() => counters.count_cut(Cut::Room),
    }
    drop((open, held));
}

async fn serve_guest(shared: &Arc<Shared>, incoming: Incoming, via: Via, guest: &Arc<Guest>, shaking: Held) {
    let counters = shared.metrics.streams(via);
    let Ok(connecting) = incoming.accept() else {
        return counters.count_handshake(Handshake::Failed);
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE, connecting) => shaken,
        // Cancel safe: who has not asked yet asks elsewhere.
        () = shared.tasks.draining().cancelled() => return,
        // Cancel safe: the token stays cancelled.
        () = shaking.guest().ended() => return counters.count_cut(Cut::Room),
    };
    drop(shaking);
    match shaken {
        Ok(Ok(connection)) => {
            counters.count_handshake(Handshake::Done);
            if via == Via::H3 {
                http::three::serve(shared, connection, guest).await;
            } else {
                doq::serve(shared, connection, guest).await;
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, transport = via.word(), "a handshake failed");
            counters.count_handshake(Handshake::Failed);
        }
        Err(_elapsed) => counters.count_handshake(Handshake::Timeout),
    }
}

/// How long what was sent last needs to arrive: a close would overtake it.
pub(super) fn linger(connection: &quinn::Connection) -> Duration {
    (connection.rtt() * 3).min(LINGER)
}
