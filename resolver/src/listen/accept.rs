//! Listeners of connections: who comes in, the TLS handshake, and which protocol serves what is behind it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::doors::Held;
use super::secure::ALPN_H2;
use super::{framed, http};
use crate::forwarder::Shared;
use crate::metrics::Handshake;
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
            Ok((stream, client)) => match shared.doors.enter(via, client.ip()) {
                Ok(held) => {
                    let (own, protocol) = (Arc::clone(&shared), protocol.clone());
                    shared
                        .tasks
                        .spawn_job(async move { serve(&own, stream, client.ip(), protocol, held).await });
                }
                // Closing at once tells the client more than a connection that never answers.
                Err(full) => shared.metrics.streams(via).count_refused(full),
            },
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

/// Serves one connection; its place is free when its socket is closed.
async fn serve(shared: &Arc<Shared>, stream: TcpStream, client: IpAddr, protocol: Protocol, held: Held) {
    let via = protocol.via();
    let open = shared.metrics.streams(via).opened();
    // Without it a reply may wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_ok() {
        match protocol {
            Protocol::Tcp => framed::serve(shared, stream, client, via).await,
            // In boxes: a plain connection would cost as much as the largest of these.
            Protocol::Tls(config) => Box::pin(serve_tls(shared, stream, client, config)).await,
            Protocol::Https(config) => Box::pin(serve_https(shared, stream, client, config)).await,
        }
    }
    drop((open, held));
}

async fn serve_tls(shared: &Arc<Shared>, stream: TcpStream, client: IpAddr, config: Arc<rustls::ServerConfig>) {
    if let Some(stream) = Box::pin(shake_hands(shared, stream, client, config, Via::Tls)).await {
        framed::serve(shared, stream, client, Via::Tls).await;
    }
}

async fn serve_https(shared: &Arc<Shared>, stream: TcpStream, client: IpAddr, config: Arc<rustls::ServerConfig>) {
    let Some(stream) = Box::pin(shake_hands(shared, stream, client, config, Via::Https)).await else {
        return;
    };
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(ALPN_H2) {
        Box::pin(http::two::serve(shared, stream, client)).await;
    } else {
        Box::pin(http::one::serve(shared, stream, client)).await;
    }
}

/// The TLS handshake; `None` if it came to nothing.
async fn shake_hands(
    shared: &Arc<Shared>,
    stream: TcpStream,
    client: IpAddr,
    config: Arc<rustls::ServerConfig>,
    via: Via,
) -> Option<Box<TlsStream<TcpStream>>> {
    let counters = shared.metrics.streams(via);
    let place = match shared.doors.shake_hands(client) {
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
