//! Hashes of certificates, as DNS stamps have them: one of the certificates that prove who a server is, is known.
//!
//! They are looked at behind everything else that is checked, never in its place. A server may send certificates that
//! prove nothing, so one with a known hash counts only if it is the server's own, or if the server's own is proven by it
//! alone: whoever sends somebody else's well-known certificate along gains nothing. A root is not sent by servers and is
//! not found by its hash.

use std::fmt;
use std::iter;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// Certificates of a chain that are looked at; a real one has two or three.
const CHAIN_MAX: usize = 8;
/// ASN.1's SEQUENCE, constructed (X.690 section 8.9.1).
const SEQUENCE: u8 = 0x30;

/// SHA-256 of the part of a certificate that is signed (`tbsCertificate`, RFC 5280 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// That of a certificate; `None` for bytes that are none.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, inside) = sequence(certificate)?;
        let (signed, _) = sequence(inside)?;
        Some(Self(Sha256::digest(signed).into()))
    }
}

/// A sequence at the beginning of some bytes: all of it, and what is in it.
fn sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        // The long form: so many octets of length.
        let (octets, after) = rest.split_at_checked(length & 0x7f)?;
        if octets.is_empty() || octets.len() > 3 {
            return None;
        }
        length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
        rest = after;
    }
    let (inside, after) = rest.split_at_checked(length)?;
    let (whole, _) = bytes.split_at_checked(bytes.len().checked_sub(after.len())?)?;
    (*tag == SEQUENCE).then_some((whole, inside))
}

/// Checks as another one does, and then the chain.
pub(super) struct ChainVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    hashes: Arc<[CertificateHash]>,
}

impl ChainVerifier {
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>, hashes: Arc<[CertificateHash]>) -> Self {
        Self { inner, hashes }
    }

    fn is_known(&self, certificate: &CertificateDer<'_>) -> bool {
        CertificateHash::of(certificate).is_some_and(|hash| self.hashes.contains(&hash))
    }
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainVerifier")
            .field("hashes", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ChainVerifier {
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
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let proves = |authority: &CertificateDer<'_>| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into_owned()).ok()?;
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = builder.build().ok()?;
            verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .ok()
        };
        let is_proof = |certificate: &CertificateDer<'_>| {
            self.is_known(certificate) && (certificate == end_entity || proves(certificate).is_some())
        };
        let mut chain = iter::once(end_entity).chain(intermediates).take(CHAIN_MAX);
        if chain.any(is_proof) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_hash() {
        let whole = [0x30, 6, 0x30, 2, 1, 1, 5, 0];
        let expected = CertificateHash(Sha256::digest([0x30, 2, 1, 1]).into());
        assert_eq!(CertificateHash::of(&whole), Some(expected));
        // The same with a length of two octets.
        let long = [0x30, 0x82, 0, 6, 0x30, 2, 1, 1, 5, 0];
        assert_eq!(CertificateHash::of(&long), Some(expected));
        for length in 0..whole.len() {
            assert_eq!(CertificateHash::of(&whole[..length]), None, "{length}");
        }
        for odd in [
            &[0x31, 4, 0x30, 2, 1, 1][..],
            &[0x30, 4, 0x31, 2, 1, 1],
            &[0x30, 0x80, 0x30, 0],
            &[0x30, 0x84, 0, 0, 0, 2, 0x30, 0],
            &[0x30, 0xff, 0x30, 0],
        ] {
            assert_eq!(CertificateHash::of(odd), None, "{odd:?}");
        }
    }
}
