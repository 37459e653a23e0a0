//! TLS towards providers: which certificates are trusted, and what a failed handshake says.
//!
//! One configuration per set of roots and protocol, shared by all endpoints that use it, so that sessions are resumed
//! across connections. Names are always checked; there is no switch to leave that out.

mod chain;
mod designated;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detour_core::Transport;
use detour_core::ddr::Proof;
use detour_core::outcome::Failure;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};

pub use self::chain::CertificateHash;
use self::chain::ChainVerifier;
use self::designated::DesignatedVerifier;
use super::quic::Witness;

/// ALPN of DNS over TLS (RFC 7858, RFC 9103 section 8).
const ALPN_DOT: &[u8] = b"dot";
/// ALPN of HTTP/2.
const ALPN_H2: &[u8] = b"h2";
/// ALPN of DNS over QUIC (RFC 9250 section 4.1.1).
const ALPN_DOQ: &[u8] = b"doq";
/// ALPN of HTTP/3 (RFC 9114 section 3.1).
const ALPN_H3: &[u8] = b"h3";
/// Sessions kept for resumption per configuration: each endpoint's server leaves a few tickets.
const SESSIONS: usize = 256;
/// Most certificates of one file: a company has a handful of roots, and all of Mozilla's are some 150.
const CERTIFICATES_MAX: usize = 1_000;

/// Why a file's roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read, or is no PEM.
    #[error("cannot be read: {0}")]
    File(String),
    /// It holds no certificate.
    #[error("holds no certificate: a PEM file with CERTIFICATE blocks is needed")]
    Empty,
    /// It holds far too many.
    #[error("holds more than {CERTIFICATES_MAX} certificates")]
    TooMany,
    /// A certificate that cannot be a root.
    #[error("certificate {number} of it cannot be a root: {reason}")]
    Certificate {
        /// Which, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// The cryptography cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// Roots, and the configurations made of them. Equal if the same roots were added and the same certificates are expected.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Those beside Mozilla's.
    added: Arc<[CertificateDer<'static>]>,
    /// One of these is in the server's chain, if there are any; all else must be right too.
    hashes: Arc<[CertificateHash]>,
    /// Of a designated resolver.
    proof: Option<Proof>,
    /// Knows the roots.
    verifier: Arc<dyn ServerCertVerifier>,
    dot: Arc<ClientConfig>,
    https: Arc<ClientConfig>,
    doq: Arc<ClientConfig>,
    h3: Arc<ClientConfig>,
    /// Of the two above.
    witness: Arc<Witness>,
}

impl Trust {
    /// Mozilla's roots as of the build, and those of these PEM files.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, holds no certificate, or one that cannot be a root.
    pub fn load(files: &[PathBuf]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let mut added = Vec::new();
        for file in files {
            add_file(&mut roots, &mut added, file)?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| TrustError::Setup(error.to_string()))?;
        Self::new(verifier, added.into(), Arc::default(), None)
    }

    /// The same for a server in whose chain is one of these certificates; none: any.
    ///
    /// # Errors
    ///
    /// The cryptography cannot be set up; it could be without hashes.
    pub fn with_hashes(&self, hashes: &[CertificateHash]) -> Result<Self, TrustError> {
        let (verifier, added) = (Arc::clone(&self.verifier), Arc::clone(&self.added));
        Self::new(verifier, added, hashes.into(), self.proof)
    }

    /// The same for a resolver that was designated by another one, and must show this.
    ///
    /// # Errors
    ///
    /// The cryptography cannot be set up; it could be for others.
    pub fn designated(&self, proof: Proof) -> Result<Self, TrustError> {
        let (verifier, added) = (Arc::clone(&self.verifier), Arc::clone(&self.added));
        Self::new(verifier, added, Arc::clone(&self.hashes), Some(proof))
    }

    fn new(
        roots: Arc<dyn ServerCertVerifier>,
        added: Arc<[CertificateDer<'static>]>,
        hashes: Arc<[CertificateHash]>,
        proof: Option<Proof>,
    ) -> Result<Self, TrustError> {
        let mut verifier = Arc::clone(&roots);
        if !hashes.is_empty() {
            verifier = Arc::new(ChainVerifier::new(verifier, Arc::clone(&hashes)));
        }
        if let Some(proof) = proof {
            verifier = Arc::new(DesignatedVerifier::new(verifier, proof));
        }
        let witness = Witness::new(Arc::clone(&verifier));
        Ok(Self {
            dot: client_config(&verifier, ALPN_DOT)?,
            https: client_config(&verifier, ALPN_H2)?,
            doq: client_config(&as_verifier(&witness), ALPN_DOQ)?,
            h3: client_config(&as_verifier(&witness), ALPN_H3)?,
            verifier: roots,
            added,
            hashes,
            proof,
            witness,
        })
    }

    /// What connections of this transport are made with; `None` for one without TLS over a stream.
    pub(super) fn config(&self, transport: Transport) -> Option<Arc<ClientConfig>> {
        match transport {
            Transport::Udp | Transport::Tcp | Transport::Quic | Transport::H3 => None,
            Transport::Tls => Some(Arc::clone(&self.dot)),
            Transport::Https => Some(Arc::clone(&self.https)),
        }
    }

    /// What others connect with over this transport, by the same roots; `None` for one without TLS.
    pub(crate) fn client_config(&self, transport: Transport) -> Option<ClientConfig> {
        let config = match transport {
            Transport::Udp | Transport::Tcp => return None,
            Transport::Tls => &self.dot,
            Transport::Https => &self.https,
            Transport::Quic => &self.doq,
            Transport::H3 => &self.h3,
        };
        Some(ClientConfig::clone(config))
    }

    /// What connections of this transport are made with, and who knows why a certificate was refused; `None` for one
    /// that is not over QUIC. `early_data`: queries leave with the first packet of a resumed session.
    pub(super) fn quic(&self, transport: Transport, early_data: bool) -> Option<(Arc<ClientConfig>, Arc<Witness>)> {
        let config = match transport {
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Https => return None,
            Transport::Quic => &self.doq,
            Transport::H3 => &self.h3,
        };
        let mut config = Arc::clone(config);
        if early_data {
            // Sessions are those of all.
            Arc::make_mut(&mut config).enable_early_data = true;
        }
        Some((config, Arc::clone(&self.witness)))
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        (&self.added, &self.hashes, self.proof) == (&other.added, &other.hashes, other.proof)
    }
}

impl Eq for Trust {}

fn add_file(
    roots: &mut RootCertStore,
    added: &mut Vec<CertificateDer<'static>>,
    path: &Path,
) -> Result<(), TrustError> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| TrustError::File(error.to_string()))?;
    let mut count = 0_usize;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| TrustError::File(error.to_string()))?;
        count = count.saturating_add(1);
        if count > CERTIFICATES_MAX {
            return Err(TrustError::TooMany);
        }
        added.push(certificate.clone());
        roots.add(certificate).map_err(|error| TrustError::Certificate {
            number: count,
            reason: error.to_string(),
        })?;
    }
    if count == 0 {
        return Err(TrustError::Empty);
    }
    Ok(())
}

fn as_verifier(witness: &Arc<Witness>) -> Arc<dyn ServerCertVerifier> {
    Arc::<Witness>::clone(witness)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client_config(verifier: &Arc<dyn ServerCertVerifier>, alpn: &[u8]) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Setup(error.to_string()))?
        // The verifier is rustls's own, or one around it.
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// Who a server must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsName(pub(super) ServerName<'static>);

impl TlsName {
    /// A host name, or an address where the endpoint has no name; `None` if it is neither.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        ServerName::try_from(text.to_owned()).ok().map(Self)
    }

    /// As text.
    pub(crate) fn to_text(&self) -> String {
        self.0.to_str().into_owned()
    }
}

/// What a failed handshake says about the endpoint.
pub(super) fn failure_of_handshake(error: &io::Error) -> Failure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        // Closed or reset in the middle of the handshake.
        return match super::line::failure_of(error) {
            Some(Failure::Local) | None => Failure::Reset,
            Some(failure) => failure,
        };
    };
    failure_of_tls(tls)
}

/// What an error of TLS says about the endpoint.
pub(super) fn failure_of_tls(error: &rustls::Error) -> Failure {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return Failure::Tls;
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other reasons are reasons not to trust it"
    )]
    match reason {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Failure::TlsExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Failure::TlsWrongName,
        _ => Failure::TlsUntrusted,
    }
}
