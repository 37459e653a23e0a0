//! TLS towards providers: which certificates are trusted, which keys are expected beside that, and how keys are agreed.
//!
//! One configuration per set of roots, pins and protocol, shared by all endpoints that use it, so that sessions are
//! resumed across connections. Names are always checked; there is no switch to leave that out.

mod chain;
mod designated;
mod groups;
mod handshake;
mod pins;
mod shown;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use detour_core::Transport;
use detour_core::ddr::Proof;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

pub use self::chain::CertificateHash;
use self::chain::ChainVerifier;
use self::designated::DesignatedVerifier;
pub use self::groups::{GROUPS_MAX, Group};
pub(super) use self::handshake::{Refused, refused_of, refused_of_handshake};
use self::pins::PinnedVerifier;
pub use self::pins::{PINS_MAX, ParsePinError, Pin};
pub(super) use self::shown::Shown;

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

/// What a server must show beside a chain to a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Demands {
    /// One of these is the server's key, if there are any.
    pins: Arc<[Pin]>,
    /// One of these is in the server's chain, if there are any.
    hashes: Arc<[CertificateHash]>,
    /// Of a designated resolver.
    proof: Option<Proof>,
}

/// Whom to believe, and the configurations made of that. Equal if made of the same roots, demands and groups.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// Those beside Mozilla's.
    added: Arc<[CertificateDer<'static>]>,
    /// The chain must be right all the same.
    demands: Demands,
    /// How keys are agreed, best first.
    groups: Arc<[Group]>,
    dot: Arc<ClientConfig>,
    https: Arc<ClientConfig>,
    doq: Arc<ClientConfig>,
    h3: Arc<ClientConfig>,
    /// Of the two above.
    witness: Arc<Witness>,
    /// Who wants to know what connections show.
    shown: Option<Arc<Shown>>,
}

impl Trust {
    /// Mozilla's roots as of the build, and those of these PEM files; any key.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, holds no certificate, or one that cannot be a root.
    pub fn load(files: &[PathBuf], groups: &[Group]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let mut added = Vec::new();
        for file in files {
            add_file(&mut roots, &mut added, file)?;
        }
        Self::new(Arc::new(roots), added.into(), Demands::default(), groups.into())
    }

    /// The same for servers whose key is one of these.
    ///
    /// # Errors
    ///
    /// The cryptography cannot be set up; it could be without pins.
    pub fn pinned(&self, pins: &[Pin]) -> Result<Self, TrustError> {
        let pins = pins.into();
        self.demanding(Demands {
            pins,
            ..self.demands.clone()
        })
    }

    /// The same for servers in whose chain is one of these certificates; none: any.
    ///
    /// # Errors
    ///
    /// The cryptography cannot be set up; it could be without hashes.
    pub fn with_hashes(&self, hashes: &[CertificateHash]) -> Result<Self, TrustError> {
        let hashes = hashes.into();
        self.demanding(Demands {
            hashes,
            ..self.demands.clone()
        })
    }

    /// The same for a resolver that was designated by another one, and must show this.
    ///
    /// # Errors
    ///
    /// The cryptography cannot be set up; it could be for others.
    pub fn designated(&self, proof: Proof) -> Result<Self, TrustError> {
        self.demanding(Demands {
            proof: Some(proof),
            ..self.demands.clone()
        })
    }

    /// Whether a server must show who it is: what it says is its own word then, and not that of whoever is there.
    #[must_use]
    pub(super) fn is_authenticated(&self) -> bool {
        self.demands.proof != Some(Proof::SameAddress)
    }

    fn demanding(&self, demands: Demands) -> Result<Self, TrustError> {
        let (roots, added) = (Arc::clone(&self.roots), Arc::clone(&self.added));
        Self::new(roots, added, demands, Arc::clone(&self.groups))
    }

    fn new(
        roots: Arc<RootCertStore>,
        added: Arc<[CertificateDer<'static>]>,
        demands: Demands,
        groups: Arc<[Group]>,
    ) -> Result<Self, TrustError> {
        let provider = Arc::new(CryptoProvider {
            kx_groups: groups.iter().map(|group| group.key_exchange()).collect(),
            ..rustls::crypto::aws_lc_rs::default_provider()
        });
        let mut verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TrustError::Setup(error.to_string()))?;
        if let Some(proof) = demands.proof {
            verifier = Arc::new(DesignatedVerifier::new(verifier, proof));
        }
        if !demands.hashes.is_empty() {
            verifier = Arc::new(ChainVerifier::new(verifier, Arc::clone(&demands.hashes)));
        }
        if !demands.pins.is_empty() {
            verifier = Arc::new(PinnedVerifier::new(verifier, Arc::clone(&demands.pins)));
        }
        let witness = Witness::new(Arc::clone(&verifier));
        let config = |verifier: Arc<dyn ServerCertVerifier>, alpn| client_config(&provider, verifier, alpn);
        Ok(Self {
            dot: config(Arc::clone(&verifier), ALPN_DOT)?,
            https: config(verifier, ALPN_H2)?,
            doq: config(Arc::<Witness>::clone(&witness), ALPN_DOQ)?,
            h3: config(Arc::<Witness>::clone(&witness), ALPN_H3)?,
            witness,
            shown: None,
            roots,
            added,
            demands,
            groups,
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
        (&self.added, &self.demands, &self.groups) == (&other.added, &other.demands, &other.groups)
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

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Setup(error.to_string()))?
        // The verifier is rustls's own, or one around it.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
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
