//! What a designated resolver must show (RFC 9462): a certificate for the address of the resolver that designated it, too;
//! or, at a private address, nothing at all.

use std::fmt;
use std::sync::Arc;

use detour_core::ddr::Proof;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Checks as another one does, for the name and for an address; or only that the server has the key of its certificate.
pub(super) struct DesignatedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    proof: Proof,
}

impl DesignatedVerifier {
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>, proof: Proof) -> Self {
        Self { inner, proof }
    }
}

impl fmt::Debug for DesignatedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DesignatedVerifier")
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for DesignatedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |name: &ServerName<'_>| {
            self.inner
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        match self.proof {
            Proof::Certificate(designating) => {
                // Section 4.2: without it anybody on the path could have designated a server of his own.
                verify(&ServerName::IpAddress(designating.into()))?;
                verify(server_name)
            }
            // Section 4.3: it is better than cleartext, against those who only listen.
            Proof::SameAddress => Ok(ServerCertVerified::assertion()),
        }
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
