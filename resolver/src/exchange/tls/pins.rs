//! Pins: the hash of the key that a server has, as the operator was told it by other means (RFC 7858 section 4.2).
//!
//! They are looked at behind everything else that is checked, never in its place: a certificate whose key is pinned but
//! which is expired, or another name's, is refused for that. Several pins mean that any of them will do, so that a key
//! can be replaced by one that was announced before. Only the server's own key counts, none of those that signed it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// Most pins of one list: the key in use, and a few that may follow it.
pub const PINS_MAX: usize = 16;

/// Octets of a SHA-256.
const HASH_BYTES: usize = 32;
/// What a pin begins with.
const PREFIX: &str = "sha256/";

/// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; HASH_BYTES]);

/// Text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be \"sha256/\" and 44 characters of base64, the hash of the server's public key")]
pub struct ParsePinError;

impl Pin {
    /// The pin of a key.
    #[must_use]
    pub fn of_key(subject_public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(subject_public_key_info).into())
    }
}

impl FromStr for Pin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix(PREFIX).ok_or(ParsePinError)?;
        // 32 octets make 43 characters and one that pads.
        let letters = encoded.strip_suffix('=').ok_or(ParsePinError)?.as_bytes();
        let mut hash = [0; HASH_BYTES];
        let mut octets = hash.iter_mut();
        let (mut bits, mut count) = (0_u32, 0_u32);
        for letter in letters {
            bits = (bits << 6) | sextet(*letter).ok_or(ParsePinError)?;
            count += 6;
            if count >= 8 {
                count -= 8;
                let [.., octet] = (bits >> count).to_be_bytes();
                *octets.next().ok_or(ParsePinError)? = octet;
                bits &= (1 << count) - 1;
            }
        }
        // Two spellings of one pin would hide a typing error: the bits left over are zero (RFC 4648 section 3.5).
        if octets.next().is_none() && count == 2 && bits == 0 {
            Ok(Self(hash))
        } else {
            Err(ParsePinError)
        }
    }
}

/// What a letter of base64 stands for (RFC 4648 section 4).
fn sextet(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Checks as another one does, and then the key.
pub(super) struct PinnedVerifier {
    chain: Arc<dyn ServerCertVerifier>,
    pins: Arc<[Pin]>,
}

impl PinnedVerifier {
    pub(super) fn new(chain: Arc<dyn ServerCertVerifier>, pins: Arc<[Pin]>) -> Self {
        Self { chain, pins }
    }
}

impl fmt::Debug for PinnedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedVerifier")
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if self.pins.contains(&Pin::of_key(&key)) {
            Ok(verified)
        } else {
            // Nobody else here says this of a certificate.
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_the_hash_of_a_key_in_base64() {
        // RFC 7469 section 2.1.5.
        let text = "sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
        let pin: Pin = text.parse().unwrap();
        assert_eq!(pin.0[..4], [0x77, 0xaa, 0xb3, 0x46]);
        assert_eq!(pin.0[31], 0x63);
        let empty = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(empty.parse(), Ok(Pin::of_key(b"")));
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        for text in [
            "",
            "sha256/",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuF=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFUU=",
            "sha256/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            // The same octets with a bit left over.
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        ] {
            assert_eq!(text.parse::<Pin>(), Err(ParsePinError), "{text}");
        }
    }
}
