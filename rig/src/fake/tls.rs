//! The TLS under DoT and DoH: one server per certificate a fault can show, and what is counted of handshakes.
//!
//! Each certificate has tickets of its own, or none. Otherwise a client that resumes its session would never see the
//! certificate that has expired meanwhile (RFC 8446 section 2.2).

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Shared;
use super::config::Encryption;
use super::gate::Gate;
use super::stats::Counters;
use crate::authority::{AuthorityError, Shown, Subject, new_key, pin};
use crate::clock;
use crate::transport::Transport;
use rustls::HandshakeKind;
use std::net::IpAddr;

/// The TLS side of one transport.
pub(super) struct Tls {
    right: TlsAcceptor,
    expired: TlsAcceptor,
    not_yet_valid: TlsAcceptor,
    other_name: TlsAcceptor,
    /// The pin of the one key that all of them are for.
    pub(super) pin: String,
}

impl Tls {
    /// Servers for `name` that speak `transport`.
    pub(super) fn new(
        encryption: &Encryption,
        name: &str,
        address: IpAddr,
        transport: Transport,
    ) -> Result<Self, AuthorityError> {
        // RFC 7858 section 3.1 has no identifier; "dot" was registered for it later. "h2": RFC 9113 section 3.2.
        let protocol: &[u8] = if transport == Transport::Doh { b"h2" } else { b"dot" };
        let key = new_key()?;
        let acceptor = |shown, tickets| {
            let subject = Subject { name, address, shown };
            let server = encryption.authority.server(&key, subject, protocol, tickets)?;
            Ok::<_, AuthorityError>(TlsAcceptor::from(server))
        };
        Ok(Self {
            right: acceptor(Shown::Right, encryption.tickets)?,
            expired: acceptor(Shown::Expired, false)?,
            not_yet_valid: acceptor(Shown::NotYetValid, false)?,
            other_name: acceptor(Shown::OtherName, false)?,
            pin: pin(&key),
        })
    }

    /// The stream after the handshake; `None` when there was none, or when the client did not agree on what to speak.
    pub(super) async fn handshake(&self, gate: Gate, shared: &Shared) -> Option<TlsStream<Gate>> {
        let acceptor = match shared.fault(clock::now()).shown() {
            Shown::Right => &self.right,
            Shown::Expired => &self.expired,
            Shown::NotYetValid => &self.not_yet_valid,
            Shown::OtherName => &self.other_name,
        };
        let mut outcome = Outcome {
            counters: &shared.counters,
            kind: None,
        };
        let mut stream = acceptor.accept(gate).await.ok()?;
        stream.get_mut().0.establish();
        let (_, session) = stream.get_ref();
        outcome.kind = session.handshake_kind();
        shared
            .counters
            .server_name
            .send_replace(session.server_name().map(Into::into));
        let group = session.negotiated_key_exchange_group();
        let group = group.map(|group| format!("{:?}", group.name()).into());
        shared.counters.key_exchange.send_replace(group);
        // A client of HTTP says that it speaks version 2, or it gets another version, and there is none here.
        let agreed = shared.transport != Transport::Doh || session.alpn_protocol().is_some();
        agreed.then_some(stream)
    }
}

/// Counts a handshake when it is over, however it ends.
struct Outcome<'a> {
    counters: &'a Counters,
    kind: Option<HandshakeKind>,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.counters.handshake(self.kind);
    }
}
