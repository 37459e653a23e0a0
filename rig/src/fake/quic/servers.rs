//! The QUIC servers of one transport: one per certificate a fault can show, and who resumed a session.
//!
//! Sessions are remembered here and not in tickets, because only then a server of this library takes early data
//! (RFC 8446 section 8.1). Only the right certificate has sessions, so that everybody sees the others.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ServerConfig, TransportConfig, VarInt};
use rustls::HandshakeKind;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::authority::{AuthorityError, Shown, Subject, new_key, pin};
use crate::fake::Shared;
use crate::fake::config::Encryption;
use crate::transport::Transport;

/// Sessions remembered; the oldest are forgotten.
const SESSIONS: usize = 1_024;
/// Streams in one direction that a client may open: HTTP/3 needs three (RFC 9114 section 6.2).
const UNI_STREAMS: u32 = 8;

/// One server per certificate.
pub(in crate::fake) struct Servers {
    right: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
    not_yet_valid: Arc<ServerConfig>,
    other_name: Arc<ServerConfig>,
    resumed: Arc<Resumed>,
    /// The pin of the one key that all of them are for.
    pub(in crate::fake) pin: String,
}

impl Servers {
    /// Servers for `name` that speak the transport of `shared`.
    pub(in crate::fake) fn new(
        encryption: &Encryption,
        name: &str,
        address: IpAddr,
        shared: &Shared,
    ) -> Result<Self, AuthorityError> {
        let is_http = shared.transport == Transport::Doh3;
        let protocol: &[u8] = if is_http { b"h3" } else { b"doq" };
        let resumed = Arc::new(Resumed {
            sessions: ServerSessionMemoryCache::new(SESSIONS),
            taken: AtomicU64::new(0),
        });
        let transport = transport(is_http, shared.limits.streams_max);
        let key = new_key()?;
        let server = |shown, keeps_sessions| {
            let subject = Subject { name, address, shown };
            let server = encryption.authority.server(&key, subject, protocol, false)?;
            let mut server = Arc::unwrap_or_clone(server);
            if keeps_sessions {
                server.send_tls13_tickets = 2;
                server.session_storage = Arc::<Resumed>::clone(&resumed);
                // All or nothing (RFC 9001 section 4.6.1).
                server.max_early_data_size = u32::MAX;
            }
            let crypto =
                QuicServerConfig::try_from(server).map_err(|error| rustls::Error::General(error.to_string()))?;
            let mut config = ServerConfig::with_crypto(Arc::new(crypto));
            config.transport_config(Arc::clone(&transport));
            Ok::<_, AuthorityError>(Arc::new(config))
        };
        Ok(Self {
            right: server(Shown::Right, encryption.tickets)?,
            expired: server(Shown::Expired, false)?,
            not_yet_valid: server(Shown::NotYetValid, false)?,
            other_name: server(Shown::OtherName, false)?,
            pin: pin(&key),
            resumed,
        })
    }

    /// The one that nothing is wrong with.
    pub(super) fn right(&self) -> ServerConfig {
        ServerConfig::clone(&self.right)
    }

    /// The one that shows this certificate.
    pub(super) fn showing(&self, shown: Shown) -> Arc<ServerConfig> {
        Arc::clone(match shown {
            Shown::Right => &self.right,
            Shown::Expired => &self.expired,
            Shown::NotYetValid => &self.not_yet_valid,
            Shown::OtherName => &self.other_name,
        })
    }

    pub(super) fn resumed(&self) -> Arc<Resumed> {
        Arc::clone(&self.resumed)
    }
}

/// What clients are allowed.
fn transport(is_http: bool, streams_max: u32) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(if is_http { UNI_STREAMS } else { 0 }))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// Sessions, and how many were taken up again: the library does not tell how a handshake was made.
#[derive(Debug)]
pub(super) struct Resumed {
    sessions: Arc<ServerSessionMemoryCache>,
    taken: AtomicU64,
}

impl Resumed {
    /// How a handshake was made that is just over: one for each session that was taken counts as resumed.
    pub(super) fn kind(&self) -> HandshakeKind {
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| taken.checked_sub(1));
        match taken {
            Ok(_) => HandshakeKind::Resumed,
            Err(_) => HandshakeKind::Full,
        }
    }
}

impl StoresServerSessions for Resumed {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let taken = self.sessions.take(key);
        if taken.is_some() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}
