//! A certificate authority that lasts as long as an experiment: its key never leaves this process.
//!
//! A node is told to trust it by a PEM file (`trust = ["ca.pem"]`); fakes and far ends take their certificates from it,
//! right ones, expired ones and ones for another name. The dates are fixed (RFC 5280 section 4.1.2.5), so nothing here
//! reads a clock, and a certificate is wrong today and in ten years.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use sha2::{Digest as _, Sha256};

/// The name of the file that [`Authority::write_pem`] writes.
pub const CA_FILE: &str = "ca.pem";
/// The domain of the names that fakes have in their certificates; `test` is nobody's (RFC 6761 section 6.2).
const DOMAIN: &str = "detour.test";
/// What a certificate for another name is for.
const OTHER_NAME: &str = "somebody-else.detour.test";

/// A throw-away certificate authority; clones are the same one.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    certificate: Certificate,
    key: KeyPair,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// No certificate could be made. It does not happen in normal operation, or the name is no host name.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate itself.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// What a TLS server makes of it.
    #[error("cannot use a certificate")]
    Use(#[from] rustls::Error),
    /// A disk.
    #[error("cannot write a certificate")]
    Write(#[from] io::Error),
}

/// Which certificate a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// One that is valid for its name and its address.
    Right,
    /// One that was valid for a day in 2020.
    Expired,
    /// One that will be valid in 2090.
    NotYetValid,
    /// A valid one for somebody else.
    OtherName,
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(Vec::new())?;
        // Two authorities of one name would be told apart by their signatures only, and an unknown one called forged.
        let [.., a, b, c, d] = key.public_key_raw() else {
            return Err(rcgen::Error::KeyGenerationUnavailable.into());
        };
        params.distinguished_name = common_name(&format!("Detour rig {:08x}", u32::from_be_bytes([*a, *b, *c, *d])));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self(Arc::new(Inner { certificate, key })))
    }

    /// Its certificate, as a node reads it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.certificate.pem()
    }

    /// Its certificate's bytes (DER).
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.0.certificate.der()
    }

    /// Writes its certificate to [`CA_FILE`] in `directory`; returns where that is.
    ///
    /// # Errors
    /// The system's, from writing the file.
    pub fn write_pem(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join(CA_FILE);
        fs::write(&path, self.pem())?;
        Ok(path)
    }

    /// Writes a fresh certificate for `name` and for loopback, and its key, to `cert.pem` and `key.pem` in `directory`, for a
    /// node that serves encrypted DNS. A reader sees the old files or the new ones, each whole.
    ///
    /// # Errors
    /// When the name is no host name, or a file cannot be written.
    pub fn write_pair(&self, name: &str, directory: &Path) -> Result<(PathBuf, PathBuf), AuthorityError> {
        self.write_shown(name, directory, Shown::Right)
    }

    /// The same of a certificate that ended in 2020.
    ///
    /// # Errors
    /// As above.
    pub fn write_expired_pair(&self, name: &str, directory: &Path) -> Result<(PathBuf, PathBuf), AuthorityError> {
        self.write_shown(name, directory, Shown::Expired)
    }

    fn write_shown(&self, name: &str, directory: &Path, shown: Shown) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let certificate = params(name, loopback, shown)?.signed_by(&key, &self.0.certificate, &self.0.key)?;
        let write = |name: &str, text: String| {
            let (path, temporary) = (directory.join(name), directory.join(format!(".{name}")));
            fs::write(&temporary, text)?;
            fs::rename(temporary, &path)?;
            Ok::<_, io::Error>(path)
        };
        Ok((
            write("cert.pem", certificate.pem())?,
            write("key.pem", key.serialize_pem())?,
        ))
    }

    /// A TLS server with a fresh certificate for `key` that speaks `protocol` (RFC 7301) and, if `tickets`, lets clients
    /// resume.
    pub(crate) fn server(
        &self,
        key: &KeyPair,
        subject: Subject<'_>,
        protocol: &[u8],
        tickets: bool,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let Subject { name, address, shown } = subject;
        let certificate = params(name, address, shown)?.signed_by(key, &self.0.certificate, &self.0.key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            // The signer's goes along, as that of an intermediate would: DNS stamps are made of its hash.
            .with_single_cert(vec![certificate.der().clone(), self.0.certificate.der().clone()], key)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // Tickets only: what a server would have to remember is lost with a fault that changes its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if tickets {
            config.ticketer = aws_lc_rs::Ticketer::new()?;
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) shown: Shown,
}

/// A key for a server.
pub(crate) fn new_key() -> Result<KeyPair, AuthorityError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// The pin of a server's key, as a node's configuration has it (RFC 7469 section 2.4).
pub(crate) fn pin(key: &KeyPair) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "sha256/".to_owned();
    for group in Sha256::digest(key.public_key_der()).chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = LETTERS.get(letter).filter(|_| place <= group.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// The name in a fake's certificate: the `#name` of its endpoints.
#[must_use]
pub fn server_name(fake: &str) -> String {
    format!("{fake}.{DOMAIN}")
}

fn params(name: &str, address: IpAddr, shown: Shown) -> Result<CertificateParams, AuthorityError> {
    let name = if shown == Shown::OtherName { OTHER_NAME } else { name };
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = common_name(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    match shown {
        Shown::Right | Shown::Expired | Shown::NotYetValid => {
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let others = [address].into_iter().filter(|own| !loopback.contains(own));
            let addresses = loopback.into_iter().chain(others);
            params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        }
        Shown::OtherName => {}
    }
    if shown == Shown::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    }
    if shown == Shown::NotYetValid {
        params.not_before = date_time_ymd(2090, 1, 1);
    }
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_written_where_a_node_finds_it() {
        let authority = Authority::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = authority.write_pem(directory.path()).unwrap();
        assert_eq!(path, directory.path().join("ca.pem"));
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
        assert!(!text.contains("PRIVATE"), "the key stays in this process");
        assert_ne!(
            text,
            Authority::new().unwrap().pem(),
            "an experiment has an authority of its own"
        );
    }

    #[test]
    fn a_name_that_is_none_makes_no_certificate() {
        let authority = Authority::new().unwrap();
        let subject = Subject {
            name: "naïve.test",
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            shown: Shown::Right,
        };
        assert!(authority.server(&new_key().unwrap(), subject, b"dot", true).is_err());
    }
}
