//! Where an endpoint is, and what it must prove before it is told a name.

use std::net::SocketAddr;

use super::addresses::Addresses;
use super::tls::{TlsName, Trust};

/// The network side of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Where packets go.
    pub addresses: Addresses,
    /// For encrypted endpoints.
    pub tls: Option<RemoteTls>,
}

/// What an encrypted endpoint must prove, and how it is addressed inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTls {
    /// Name or address in the certificate, and SNI.
    pub name: TlsName,
    /// Whose word is taken for it.
    pub trust: Trust,
    /// For `https` and `h3`: the URL that is asked (RFC 8484 section 4.1), `https://authority/path`.
    pub url: Option<http::Uri>,
    /// Over QUIC: queries leave with the first packet of a resumed session, which anybody who recorded it can send again
    /// (RFC 9250 section 4.5).
    pub early_data: bool,
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self {
            addresses: address.into(),
            tls: None,
        }
    }
}
