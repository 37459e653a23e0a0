//! Listeners of connections: who comes in, the TLS handshake, and which protocol serves what is behind it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::doors::{Caller, Guest, Held};
use super::secure::ALPN_H2;
use super::{framed, http};
use crate::forwarder::Shared;
use crate::metrics::{Cut, Handshake};
use crate::wire::Via;

/// Time for a handshake: a slow radio link needs two seconds, a client that sends a byte a second has all day.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// Rest after a failed accept: out of descriptors is not cured by trying again at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How what is accepted is served.
#[derive(Debug, Clone)]
pub(super) enum Protocol {
    /// Messages behind their length.
    Tcp,
    /// The same under TLS.
    Tls(Arc<rustls::ServerConfig>),
    /// HTTP/2 and HTTP/1.1 under TLS, as the client chooses.
    Https(Arc<rustls::ServerConfig>),
}

impl Protocol {
    fn via(&self) -> Via {
        match self {
            Self::Tcp => Via::Tcp,
            Self::Tls(_) => Via::Tls,
            Self::Https(_) => Via::Https,
        }
    }
}

/// Accepts connections until shutdown.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, protocol: Protocol) {
    let via = protocol.via();
    loop {
        let accepted = tokio::select! {
            // Cancel safe: no connection is lost by not accepting it yet.
            accepted = listener.accept() => accepted,
            // Cancel safe: the token stays cancelled.
            () = shared.tasks.draining().cancelled() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let caller = caller(&shared, via, client.ip());
                match shared.doors.enter(&caller) {
                    Ok(held) => {
                        let (own, protocol) = (Arc::clone(&shared), protocol.clone());
                        shared
                            .tasks
                            .spawn_job(async move { serve(&own, stream, caller, protocol, held).await });
                    }
                    // Closing at once tells the client more than a connection that never answers.
                    Err(full) => shared.metrics.streams(via).count_refused(full),
                }
            }
            Err(error) => {
                let is_client = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !is_client {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// Who knocks here now.
pub(super) fn caller(shared: &Shared, via: Via, client: IpAddr) -> Caller {
    Caller {
        via,
        client,
        is_allowed: shared.generation().allows(client),
        now: shared.clock.now(),
    }
}

/// Serves one connection; its place is free when its socket is closed.
async fn serve(shared: &Arc<Shared>, stream: TcpStream, caller: Caller, protocol: Protocol, held: Held) {
    let (via, client) = (caller.via, caller.client);
    let open = shared.metrics.streams(via).opened();
    let guest = held.guest();
    let serving = async {
        // Without it a reply may wait for the acknowledgement of the one before.
        if stream.set_nodelay(true).is_ok() {
            match protocol {
                Protocol::Tcp => framed::serve(shared, stream, client, via, guest).await,
                // In boxes: a plain connection would cost as much as the largest of these.
                Protocol::Tls(config) => Box::pin(serve_tls(shared, stream, &caller, guest, config)).await,
                Protocol::Https(config) => Box::pin(serve_https(shared, stream, &caller, guest, config)).await,
            }
        }
    };
    tokio::select! {
        () = serving => {}
        // Cancel safe: the token stays cancelled.
        () = guest.ended() => shared.metrics.streams(via).count_cut(Cut::Room),
    }
    drop((open, held));
}

async fn serve_tls(
    shared: &Arc<Shared>,
    stream: TcpStream,
    caller: &Caller,
    guest: &Arc<Guest>,
    config: Arc<rustls::ServerConfig>,
) {
    if let Some(stream) = Box::pin(shake_hands(shared, stream, caller, config)).await {
        framed::serve(shared, stream, caller.client, Via::Tls, guest).await;
    }
}

async fn serve_https(
    shared: &Arc<Shared>,
    stream: TcpStream,
    caller: &Caller,
    guest: &Arc<Guest>,
    config: Arc<rustls::ServerConfig>,
) {
    let Some(stream) = Box::pin(shake_hands(shared, stream, caller, config)).await else {
        return;
    };
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(ALPN_H2) {
        Box::pin(http::two::serve(shared, stream, caller.client, guest)).await;
    } else {
        Box::pin(http::one::serve(shared, stream, caller.client, guest)).await;
    }
}

/// The TLS handshake; `None` if it came to nothing.
async fn shake_hands(
    shared: &Arc<Shared>,
    stream: TcpStream,
    caller: &Caller,
    config: Arc<rustls::ServerConfig>,
) -> Option<Box<TlsStream<TcpStream>>> {
    let via = caller.via;
    let counters = shared.metrics.streams(via);
    let place = match shared.doors.shake_hands(caller) {
        Ok(place) => place,
        Err(full) => {
            counters.count_refused(full);
            return None;
        }
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)) => shaken,
        // Cancel safe: who has not asked yet asks elsewhere.
        () = shared.tasks.draining().cancelled() => return None,
        // Cancel safe: the token stays cancelled.
        () = place.guest().ended() => {
            counters.count_cut(Cut::Room);
            return None;
        }
    };
    drop(place);
    match shaken {
        Ok(Ok(stream)) => {
            counters.count_handshake(Handshake::Done);
            Some(Box::new(stream))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, transport = via.word(), "a handshake failed");
            counters.count_handshake(Handshake::Failed);
            None
        }
        Err(_elapsed) => {
            counters.count_handshake(Handshake::Timeout);
            None
        }
    }
}
