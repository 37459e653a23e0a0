//! What encrypted listeners stand on: their sockets, and how TLS is set up for each protocol.
//!
//! One certificate for all, and one key for session tickets, so that a client resumes at whichever it comes to; nothing is
//! kept for sessions here. Early data is not taken: what it carries could be sent again by anybody who saw it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Endpoint;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio::net::TcpListener;

use super::certificate::Certificates;
use super::{BindError, bind_tcp, quic, udp_socket};
use crate::wire::Via;

/// ALPN of DNS over TLS.
const ALPN_DOT: &[u8] = b"dot";
/// ALPN of HTTP/2.
pub(super) const ALPN_H2: &[u8] = b"h2";
/// ALPN of HTTP/3.
const ALPN_H3: &[u8] = b"h3";
/// ALPN of DNS over QUIC (RFC 9250 section 4.1).
const ALPN_DOQ: &[u8] = b"doq";
/// ALPN of HTTP/1.1.
const ALPN_HTTP_1: &[u8] = b"http/1.1";

/// The cryptography cannot be set up: nothing an operator did.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Of TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// Of QUIC, which needs TLS 1.3 with AES-128-GCM.
    #[error("cannot set up QUIC")]
    Quic(#[from] NoInitialCipherSuite),
}

/// One address of an encrypted listener, bound.
#[derive(Debug)]
pub struct SecureBound {
    /// Which kind.
    pub via: Via,
    /// The address, with the port the system chose.
    pub address: SocketAddr,
    pub(super) socket: SecureSocket,
}

#[derive(Debug)]
pub(super) enum SecureSocket {
    Tcp(TcpListener, Arc<ServerConfig>),
    Quic(Endpoint),
}

/// Binds an address for an encrypted kind of listener. Must be called within the runtime.
///
/// # Errors
/// When it cannot be had.
pub fn bind_secure(via: Via, address: SocketAddr, tls: &Tls) -> Result<SecureBound, BindError> {
    let tcp = |tls: &Arc<ServerConfig>| {
        bind_tcp(address).map(|(listener, bound)| (SecureSocket::Tcp(listener, Arc::clone(tls)), bound))
    };
    let bound = match via {
        Via::Udp | Via::Tcp | Via::Tls => tcp(&tls.dot),
        Via::Https => tcp(&tls.https),
        Via::H3 => bind_quic(address, &tls.h3, via),
        Via::Quic => bind_quic(address, &tls.doq, via),
    };
    let (socket, address) = bound.map_err(|source| BindError::new(address, source))?;
    Ok(SecureBound { via, address, socket })
}

fn bind_quic(address: SocketAddr, tls: &Arc<QuicServerConfig>, via: Via) -> io::Result<(SecureSocket, SocketAddr)> {
    let socket = udp_socket(address)?;
    // Alone: whoever has the port shows.
    socket.bind(&address.into())?;
    let endpoint = quic::endpoint(socket.into(), tls, via)?;
    let bound = endpoint.local_addr()?;
    Ok((SecureSocket::Quic(endpoint), bound))
}

/// How TLS is spoken on each kind of listener.
pub struct Tls {
    dot: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
    h3: Arc<QuicServerConfig>,
    doq: Arc<QuicServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With these certificates.
    ///
    /// # Errors
    /// When the cryptography cannot be set up.
    pub fn new(certificates: &Arc<Certificates>) -> Result<Self, SetupError> {
        let tickets = aws_lc_rs::Ticketer::new()?;
        Ok(Self {
            dot: config(certificates, &tickets, &[ALPN_DOT])?,
            https: config(certificates, &tickets, &[ALPN_H2, ALPN_HTTP_1])?,
            h3: quic_config(certificates, &tickets, ALPN_H3)?,
            doq: quic_config(certificates, &tickets, ALPN_DOQ)?,
        })
    }
}

fn config(
    certificates: &Arc<Certificates>,
    tickets: &Arc<dyn ProducesTickets>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, SetupError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificates) as _);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(tickets);
    Ok(Arc::new(config))
}

fn quic_config(
    certificates: &Arc<Certificates>,
    tickets: &Arc<dyn ProducesTickets>,
    protocol: &[u8],
) -> Result<Arc<QuicServerConfig>, SetupError> {
    let config = config(certificates, tickets, &[protocol])?;
    Ok(Arc::new(QuicServerConfig::try_from(config)?))
}
