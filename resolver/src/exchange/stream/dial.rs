//! Connecting to an endpoint: TCP, and what is spoken on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::outcome::Failure;
use detour_core::time::SEC;
use detour_core::{Clock, Time, Transport};
use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::h2::H2Link;
use super::link::{ARRIVALS, Arrival, Link, LinkParts};
use crate::exchange::addresses::Addresses;
use crate::exchange::line::failure_of;
use crate::exchange::quic::{QuicDialer, QuicSockets};
use crate::exchange::race::first_of;
use crate::exchange::remote::Remote;
use crate::exchange::tls::{Refused, Shown, refused_of_handshake};
use crate::tasks::Tasks;

/// Time for connecting, handshakes included.
const CONNECT_US: u64 = 2 * SEC;

/// What was sent and not acknowledged for so long ends the connection in the kernel: nobody waits for its answer any
/// more. Without it a path that is gone keeps a connection for a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// An idle connection asks for a sign of life after this long: translators on the way forget silent ones, and a server
/// that is gone is noticed before somebody asks.
const ALIVE_AFTER: Duration = Duration::from_secs(30);
/// How often it asks again; [`UNACKNOWLEDGED`] says when it stops.
const ALIVE_AGAIN: Duration = Duration::from_secs(2);

/// How one endpoint is connected to.
#[derive(Debug, Clone)]
pub(in crate::exchange) struct Dialer {
    addresses: Addresses,
    inside: Inside,
}

/// What is spoken inside TCP, or in its place.
#[derive(Debug, Clone)]
enum Inside {
    /// DNS itself.
    Dns,
    /// TLS, and in it DNS or HTTP/2.
    Tls(Security),
    /// All of it inside UDP.
    Quic(QuicDialer),
    /// Nothing: what is encrypted must not be spoken in the clear for want of a name.
    Nothing,
}

#[derive(Debug, Clone)]
struct Security {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// HTTP/2 inside TLS.
    url: Option<Uri>,
    /// Who wants to know what the handshake shows.
    shown: Option<Arc<Shown>>,
}

/// A connection that stands.
pub(in crate::exchange) struct Dialled {
    pub(in crate::exchange) link: Link,
    pub(in crate::exchange) arrivals: mpsc::Receiver<Arrival>,
}

impl Dialer {
    /// How `remote` is connected to over `transport`; UDP's streams are plain TCP.
    pub(in crate::exchange) fn new(transport: Transport, remote: &Remote, quic: &Arc<QuicSockets>) -> Self {
        let security = remote.tls.as_ref().and_then(|tls| {
            Some(Security {
                config: tls.trust.config(transport)?,
                name: tls.name.0.clone(),
                url: tls.url.clone(),
                shown: tls.trust.shown(),
            })
        });
        let over_quic = remote.tls.as_ref();
        let over_quic = over_quic.and_then(|tls| QuicDialer::new(quic, transport, remote.addresses.clone(), tls));
        let inside = match (transport, security) {
            (Transport::Udp | Transport::Tcp, _) => Inside::Dns,
            (Transport::Tls, Some(security)) => Inside::Tls(Security { url: None, ..security }),
            (Transport::Https, Some(security)) if security.url.is_some() => Inside::Tls(security),
            (Transport::Quic | Transport::H3, _) => over_quic.map_or(Inside::Nothing, Inside::Quic),
            (Transport::Tls | Transport::Https, _) => Inside::Nothing,
        };
        Self {
            addresses: remote.addresses.clone(),
            inside,
        }
    }

    /// Connects within two seconds, to whichever address is there first; `token` ends the connection's own tasks.
    pub(in crate::exchange) async fn dial(
        &self,
        clock: &dyn Clock,
        tasks: &Tasks,
        token: CancellationToken,
    ) -> Result<Dialled, Refused> {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let parts = LinkParts {
            arrivals: sender,
            tasks: tasks.clone(),
            token,
        };
        let addresses = self.addresses.ready(Duration::from_micros(CONNECT_US)).await;
        if let Inside::Quic(quic) = &self.inside {
            let link = Link::Quic(quic.dial(&addresses, clock, parts).await?);
            return Ok(Dialled { link, arrivals });
        }
        let started = clock.now();
        let tcp = tokio::time::timeout(Duration::from_micros(CONNECT_US), first_of(&addresses, clock, connect))
            .await
            .map_err(|_elapsed| Failure::ConnectTimeout)
            .flatten();
        let (address, tcp) = tcp.inspect_err(|_failure| self.note_failed(addresses.first()))?;
        let link = match &self.inside {
            Inside::Dns => {
                let (read, write) = tcp.into_split();
                Link::framed(read, write, parts)
            }
            Inside::Tls(security) => {
                let left_us = CONNECT_US.saturating_sub(clock.now().since(started));
                tokio::time::timeout(Duration::from_micros(left_us), security.shake_hands(tcp, parts))
                    .await
                    .map_err(|_elapsed| Refused::from(Failure::TlsStalled))
                    .flatten()
                    .inspect_err(|_failure| self.note_failed(Some(&address)))?
            }
            Inside::Quic(_) | Inside::Nothing => return Err(Failure::Tls.into()),
        };
        self.addresses.prefer(address);
        Ok(Dialled { link, arrivals })
    }

    /// The next connection begins elsewhere, where there is another address.
    fn note_failed(&self, address: Option<&SocketAddr>) {
        if let Some(address) = address {
            self.addresses.defer(*address);
        }
    }

    /// The way to the endpoint is another one: connections that can move do.
    pub(super) fn renew(&self, now: Time) {
        if let Inside::Quic(quic) = &self.inside {
            quic.renew(now);
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| failure_of(&error).unwrap_or(Failure::Local))?;
    // Without it a query waits for the acknowledgement of the one before.
    tcp.set_nodelay(true)
        .map_err(|error| failure_of(&error).unwrap_or(Failure::Local))?;
    let (socket, alive) = (SockRef::from(&tcp), TcpKeepalive::new());
    let alive = alive.with_time(ALIVE_AFTER).with_interval(ALIVE_AGAIN);
    let options = [
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)),
        socket.set_tcp_keepalive(&alive),
    ];
    for error in options.into_iter().filter_map(Result::err) {
        // A dead connection is noticed later, then.
        tracing::debug!(%error, "no TCP option");
    }
    Ok(tcp)
}

impl Security {
    /// TLS, and HTTP/2 where asked for.
    async fn shake_hands(&self, tcp: TcpStream, parts: LinkParts) -> Result<Link, Refused> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector
            .connect(self.name.clone(), tcp)
            .await
            .map_err(|error| refused_of_handshake(&error))?;
        if let Some(shown) = &self.shown {
            shown.note_session(stream.get_ref().1);
        }
        match &self.url {
            None => {
                let (read, write) = tokio::io::split(stream);
                Ok(Link::framed(read, write, parts))
            }
            Some(url) => {
                let opened = H2Link::open(stream, url.clone(), parts).await;
                Ok(Link::H2(opened.map_err(|_error| Failure::Http)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_path_that_is_gone_ends_a_connection_and_an_idle_one_says_that_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&tcp);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert!(socket.keepalive().unwrap() && tcp.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), ALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ALIVE_AGAIN);
    }
}
