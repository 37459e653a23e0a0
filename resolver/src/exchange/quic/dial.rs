//! Connecting to an endpoint over QUIC: one handshake for transport and TLS, and what is spoken on it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::outcome::Failure;
use detour_core::time::{MS, SEC};
use detour_core::{Clock, Transport};
use http::Uri;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connecting, Connection, IdleTimeout, TransportConfig, VarInt, ZeroRttAccepted};
use rustls::pki_types::ServerName;

use super::failure::refused_by;
use super::link::QuicLink;
use super::sockets::QuicSockets;
use super::watched::Watch;
use super::witness::Witness;
use crate::exchange::addresses::Addresses;
use crate::exchange::race::first_of;
use crate::exchange::remote::RemoteTls;
use crate::exchange::stream::link::LinkParts;
use crate::exchange::tls::Refused;
use crate::tasks::Tasks;

/// Time for connecting, handshakes included.
const CONNECT: Duration = Duration::from_micros(2 * SEC);
/// Time for one address: a little less, so that it is the one that says what came of it. Making the first packet is not in
/// it, and takes its time on a busy machine.
const ALONE: Duration = Duration::from_micros(2 * SEC - 200 * MS);
/// Our own limit of idleness, milliseconds: above the minute for which an idle connection is kept, so that a limit that
/// ends one is always the server's.
const IDLE_MS: u32 = 75_000;
/// Flow control of one answer: the largest DNS message fits.
const WINDOW_BYTES: u32 = 128 * 1024;
/// Flow control of all answers together.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes of queries that wait for the network; a query has a few hundred.
const SEND_WINDOW_BYTES: u64 = 256 * 1024;
/// Streams in one direction that a server of HTTP/3 may open: three are needed (RFC 9114 section 6.2), the others are
/// grease.
const H3_UNI_STREAMS: u32 = 8;
/// What the round trip is taken for before it is known. The 333 ms of RFC 9002 section 6.2.2 would repeat a lost first
/// packet after a second, half the time for connecting; with this it is 450 ms.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// How one endpoint is connected to.
#[derive(Clone)]
pub(in crate::exchange) struct QuicDialer {
    sockets: Arc<QuicSockets>,
    addresses: Addresses,
    config: ClientConfig,
    name: ServerName<'static>,
    /// Why the certificate was refused.
    witness: Arc<Witness>,
    /// HTTP/3 inside.
    url: Option<Uri>,
    /// Whether queries leave with the first packet; no longer once that came to nothing.
    early_data: Arc<AtomicBool>,
}

impl fmt::Debug for QuicDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicDialer")
            .field("addresses", &self.addresses)
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl QuicDialer {
    /// How an endpoint is connected to over `transport`; `None` for what is not spoken over QUIC, or is not told enough.
    pub(in crate::exchange) fn new(
        sockets: &Arc<QuicSockets>,
        transport: Transport,
        addresses: Addresses,
        tls: &RemoteTls,
    ) -> Option<Self> {
        let url = match transport {
            Transport::Quic => None,
            Transport::H3 => Some(tls.url.clone()?),
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Https => return None,
        };
        let (config, witness) = tls.trust.quic(transport, tls.early_data)?;
        let crypto = QuicClientConfig::try_from(config).ok()?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport_config(transport)));
        Some(Self {
            sockets: Arc::clone(sockets),
            addresses,
            config,
            name: tls.name.0.clone(),
            witness,
            url,
            early_data: Arc::new(AtomicBool::new(tls.early_data)),
        })
    }

    /// Connects within two seconds, to whichever of these addresses is there first.
    pub(in crate::exchange) async fn dial(
        &self,
        addresses: &[SocketAddr],
        clock: &dyn Clock,
        parts: LinkParts,
    ) -> Result<QuicLink, Refused> {
        let started = clock.now();
        // To begin takes its time too, on a machine that is busy.
        let left = || ALONE.saturating_sub(Duration::from_micros(clock.now().since(started)));
        let connect = |address| self.connect(address, &parts.tasks, left);
        let connected = tokio::time::timeout(CONNECT, first_of(addresses, clock, connect)).await;
        // One alone says by itself what it was waited for.
        let connected = connected
            .map_err(|_elapsed| Refused::from(Failure::ConnectTimeout))
            .flatten();
        let first = addresses.first().copied();
        let (address, connection) = connected.inspect_err(|_refused| self.note_failed(first))?;
        let open = QuicLink::open(connection, self.url.as_ref(), parts);
        let opened = tokio::time::timeout(CONNECT, open).await;
        let opened = opened.map_err(|_elapsed| Failure::TlsStalled).flatten();
        let link = opened.inspect_err(|_failure| self.note_failed(Some(address)))?;
        self.addresses.prefer(address);
        Ok(link)
    }

    /// The next connection begins elsewhere, where there is another address.
    fn note_failed(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.addresses.defer(address);
        }
    }

    /// Connects to one address: a handshake, or the hope of one.
    async fn connect(
        &self,
        address: SocketAddr,
        tasks: &Tasks,
        left: impl Fn() -> Duration,
    ) -> Result<Connection, Refused> {
        let (connecting, watch) = self.sockets.connect(&self.config, address, &self.name.to_str())?;
        let connecting = match self.begin_early(connecting) {
            Ok((connection, accepted)) => {
                tasks.spawn_job(self.clone().see_through(connection.clone(), accepted, watch));
                return Ok(connection);
            }
            Err(connecting) => connecting,
        };
        tokio::select! {
            biased;
            // It is not polled again.
            connected = tokio::time::timeout(left(), connecting) => {
                let late = if watch.has_sent() { Failure::TlsStalled } else { Failure::ConnectTimeout };
                let connected = connected.map_err(|_elapsed| Refused::from(late))?;
                connected.map_err(|error| refused_by(&error, self.witness.take(&self.name)))
            }
            // Cancel safe: what was told stays told.
            () = watch.unreachable() => Err(Failure::Unreachable.into()),
        }
    }

    /// A connection that takes queries before its handshake is over, where a session is resumed and the operator wants it.
    /// All queries we send may be sent again by others: they are of the opcode that asks (RFC 9250 section 4.5).
    fn begin_early(&self, connecting: Connecting) -> Result<(Connection, ZeroRttAccepted), Connecting> {
        if self.early_data.load(Ordering::Relaxed) {
            connecting.into_0rtt()
        } else {
            Err(connecting)
        }
    }

    /// Waits for the handshake of a connection that carries queries already. One that fails, or whose early queries are
    /// not taken, is the last one begun like this: the next says what is wrong.
    async fn see_through(self, connection: Connection, accepted: ZeroRttAccepted, watch: Watch) {
        let is_accepted = tokio::select! {
            biased;
            // It is not polled again.
            accepted = tokio::time::timeout(CONNECT, accepted) => accepted.unwrap_or(false),
            // Cancel safe: what was told stays told.
            () = watch.unreachable() => {
                connection.close(VarInt::from_u32(0), b"");
                false
            }
        };
        if !is_accepted {
            self.early_data.store(false, Ordering::Relaxed);
        }
    }

    /// The way to the endpoint is another one.
    pub(in crate::exchange) fn renew(&self, now: detour_core::Time) {
        if let Some(address) = self.addresses.first() {
            self.sockets.renew(address, now);
        }
    }
}

/// What this side allows and expects.
fn transport_config(transport: Transport) -> TransportConfig {
    let uni_streams = if transport == Transport::H3 { H3_UNI_STREAMS } else { 0 };
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Idle connections are closed from here before the server would: nothing keeps them alive.
        .keep_alive_interval(None)
        // A server has nothing to ask (RFC 9250 section 4.3.3, RFC 9114 section 6.1).
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(uni_streams))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .initial_rtt(INITIAL_RTT);
    config
}
