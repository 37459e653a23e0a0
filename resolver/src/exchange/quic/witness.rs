//! Remembers why a certificate was refused: QUIC turns that into an alert's number, and several reasons share one.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Names whose last refusal is remembered: more than connect at the same time. Full: the oldest is forgotten.
const NAMES_MAX: usize = 64;

/// A verifier of certificates that remembers what it refused. Shared by all connections of a configuration: sessions are
/// resumed under the same verifier only.
pub(in crate::exchange) struct Witness {
    inner: Arc<dyn ServerCertVerifier>,
    /// Oldest first; held for a look through them.
    refused: Mutex<Vec<(ServerName<'static>, Error)>>,
}

impl Witness {
    /// Around a verifier.
    pub(in crate::exchange) fn new(inner: Arc<dyn ServerCertVerifier>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            refused: Mutex::default(),
        })
    }

    /// Why the last certificate under this name was refused, once.
    pub(super) fn take(&self, name: &ServerName<'static>) -> Option<Error> {
        let mut refused = self.refused.lock();
        let at = refused.iter().position(|(own, _)| own == name)?;
        Some(refused.remove(at).1)
    }

    fn remember(&self, name: &ServerName<'_>, error: &Error) {
        let mut refused = self.refused.lock();
        refused.retain(|(own, _)| own != name);
        if refused.len() >= NAMES_MAX {
            refused.remove(0);
        }
        refused.push((name.to_owned(), error.clone()));
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.inspect_err(|error| self.remember(server_name, error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
