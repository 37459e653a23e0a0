//! The certificate this node shows, and how another one takes its place while connections go on.
//!
//! A pair is read and judged as a whole: whatever is wrong with it is told, and the pair in use stays. A handshake asks for
//! the pair in use; connections that are open do not notice.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::libc::O_NONBLOCK;
use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Largest file that is read: a chain of ten certificates has 20 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most certificates of a chain; each travels with every handshake.
const CHAIN_MAX: usize = 16;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate and those that vouch for it.
    Certificate,
    /// Its private key.
    Key,
}

/// What is wrong with a pair. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("cannot be read: {source}")]
    Read {
        /// Which.
        part: Part,
        /// What the system said.
        source: io::Error,
    },
    /// A file is far too large.
    #[error("is larger than 1MiB, so surely no PEM file")]
    TooLarge {
        /// Which.
        part: Part,
    },
    /// A file is no PEM, or does not hold what it should.
    #[error("{what}")]
    Content {
        /// Which.
        part: Part,
        /// In words.
        what: String,
    },
}

impl PairError {
    /// Which file it is about.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            Self::Read { part, .. } | Self::TooLarge { part } | Self::Content { part, .. } => *part,
        }
    }
}

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub struct Pair(Arc<CertifiedKey>);

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("certificates", &self.0.cert.len())
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads two PEM files: a certificate with what vouches for it behind, and its private key. Waits for the disk.
    ///
    /// # Errors
    /// When one of them cannot be used, or they do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, PairError> {
        let content = |part, what: &str| PairError::Content {
            part,
            what: what.to_owned(),
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate, Part::Certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| content(Part::Certificate, &format!("is no PEM file: {error}")))?;
        if chain.is_empty() {
            let what = "holds no certificate: a PEM file with CERTIFICATE blocks is needed";
            return Err(content(Part::Certificate, what));
        }
        if chain.len() > CHAIN_MAX {
            return Err(content(Part::Certificate, "holds more than 16 certificates"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key, Part::Key)?).map_err(|_no_key| {
            let what = "holds no private key: a PEM file with a PRIVATE KEY block that is not encrypted is needed";
            content(Part::Key, what)
        })?;
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let pair = pair.map_err(|error| {
            if let rustls::Error::InconsistentKeys(_) = error {
                return content(Part::Key, "is not the key of the certificate");
            }
            if let rustls::Error::InvalidCertificate(reason) = error {
                return content(Part::Certificate, &format!("holds no sound certificate: {reason}"));
            }
            content(Part::Key, &format!("cannot be used: {error}"))
        })?;
        Ok(Self(Arc::new(pair)))
    }

    /// From when until when the certificate itself is valid, seconds since 1970; `None` where that cannot be read.
    #[must_use]
    pub fn validity_s(&self) -> Option<(i64, i64)> {
        let (_, certificate) = X509Certificate::from_der(self.0.cert.first()?).ok()?;
        let validity = certificate.validity();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    /// Whether both are the same certificates; the key follows from the first.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

fn read(path: &Path, part: Part) -> Result<Vec<u8>, PairError> {
    // Else a FIFO without a writer would be waited for.
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let opened = opened.and_then(|file| Ok((file.metadata()?.is_file(), file)));
    let (is_file, file) = opened.map_err(|source| PairError::Read { part, source })?;
    if !is_file {
        let what = "is no regular file".to_owned();
        return Err(PairError::Content { part, what });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| PairError::Read { part, source })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(PairError::TooLarge { part });
    }
    Ok(bytes)
}

/// The pair in use, for all listeners. Without one every handshake fails.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Held to copy or replace the pointer.
    current: RwLock<Option<Pair>>,
}

impl Certificates {
    /// With this pair, or for now without one.
    #[must_use]
    pub fn new(pair: Option<Pair>) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(pair),
        })
    }

    /// Handshakes from here on show this pair; true if it is another one.
    pub fn replace(&self, pair: Pair) -> bool {
        let before = self.current.write().replace(pair.clone());
        before.is_none_or(|before| !before.is_same(&pair))
    }

    /// The pair in use.
    #[must_use]
    pub fn current(&self) -> Option<Pair> {
        self.current.read().clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().as_ref().map(|pair| Arc::clone(&pair.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_fifo_is_not_waited_for_and_is_told_by_its_part() {
        let directory = tempfile::tempdir().unwrap();
        let [cert, fifo] = ["cert.pem", "fifo"].map(|name| directory.path().join(name));
        let made = rcgen::generate_simple_self_signed(["dns.office.test".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for (files, part) in [([&cert, &fifo], Part::Key), ([&fifo, &cert], Part::Certificate)] {
            let error = Pair::load(files[0], files[1]).unwrap_err();
            assert_eq!((error.part(), error.to_string().as_str()), (part, "is no regular file"));
        }
    }
}
