//! `[listen]`, the encrypted part: where clients ask over TLS, HTTPS and QUIC, and the certificate they are shown.
//!
//! Only the shape is judged here. The files of the certificate are read by who serves or checks: the key is for its owner
//! alone, and others may read the rest of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use detour_resolver::listen::certificate::{Pair, Part};
use detour_resolver::wire::Via;

use super::problem::{Place, Problem, Problems, quoted};
use super::reader::{Reader, Table};
use super::spec::{LISTEN_MAX, Required};
use super::{Config, LoadError, Source, parse_listen_address};

/// Where DNS over HTTPS is asked unless told otherwise: what nearly all clients try.
const DEFAULT_DOH_PATH: &str = "/dns-query";
/// Longest path: it is compared with every request's.
const DOH_PATH_MAX: usize = 128;
/// The port that plain DNS alone may have (RFC 7858 section 3.1, RFC 9250 section 4.1.1).
const PLAIN_PORT: u16 = 53;

/// The encrypted part of `[listen]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encrypted {
    /// DNS over TLS; port 0 lets the kernel choose, here and below.
    pub(crate) tls: Vec<SocketAddr>,
    /// DNS over HTTPS: HTTP/2 and HTTP/1.1.
    pub(crate) https: Vec<SocketAddr>,
    /// DNS over HTTP/3.
    pub(crate) h3: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub(crate) quic: Vec<SocketAddr>,
    /// Where DNS over HTTPS is asked.
    pub(crate) doh_path: String,
    /// What clients are shown; there if anything listens.
    pub(crate) files: Option<CertificateFiles>,
}

impl Default for Encrypted {
    fn default() -> Self {
        Self {
            tls: Vec::new(),
            https: Vec::new(),
            h3: Vec::new(),
            quic: Vec::new(),
            doh_path: DEFAULT_DOH_PATH.to_owned(),
            files: None,
        }
    }
}

impl Encrypted {
    /// The addresses with their kinds, in the order of the documentation.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Via, SocketAddr)> {
        let all = [
            (Via::Tls, &self.tls),
            (Via::Https, &self.https),
            (Via::H3, &self.h3),
            (Via::Quic, &self.quic),
        ];
        all.into_iter()
            .flat_map(|(via, addresses)| addresses.iter().map(move |address| (via, *address)))
    }

    /// Whether anything listens.
    #[must_use]
    pub(crate) fn is_used(&self) -> bool {
        self.addresses().next().is_some()
    }
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate and what vouches for it.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Where the two stand in the configuration file.
    lines: [usize; 2],
}

/// What was written.
#[derive(Default)]
pub(super) struct EncryptedSpec {
    pub(super) encrypted: Encrypted,
    /// Each address with where it stands.
    pub(super) places: Vec<(Place, Via, SocketAddr)>,
    cert: Required<(Place, PathBuf)>,
    key: Required<(Place, PathBuf)>,
    /// Where the section begins.
    line: usize,
}

pub(super) fn read(reader: &mut Reader, table: &Table<'_>) -> EncryptedSpec {
    let mut spec = EncryptedSpec {
        line: table.place.line,
        ..EncryptedSpec::default()
    };
    for via in [Via::Tls, Via::Https, Via::H3, Via::Quic] {
        let Some(item) = reader.item(table, via.word()) else {
            continue;
        };
        for element in reader
            .elements_or_none(&item, "addresses", LISTEN_MAX)
            .unwrap_or_default()
        {
            if let Some(address) = reader.parsed(&element, parse_listen_address) {
                spec.places.push((element.place, via, address));
                let Encrypted {
                    tls, https, h3, quic, ..
                } = &mut spec.encrypted;
                match via {
                    Via::Tls => tls.push(address),
                    Via::Https => https.push(address),
                    Via::H3 => h3.push(address),
                    Via::Quic => quic.push(address),
                    Via::Udp | Via::Tcp => {}
                }
            }
        }
    }
    let mut path = |key| match reader.item(table, key) {
        None => Required::Absent,
        Some(item) => match reader.path(&item, "must be the path of a PEM file") {
            None => Required::Wrong,
            Some(path) => Required::Present((item.place, path)),
        },
    };
    (spec.cert, spec.key) = (path("cert"), path("key"));
    reader.set(table, "doh-path", &mut spec.encrypted.doh_path, |reader, item| {
        let text = reader.text(item)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        if text.starts_with('/') && text.len() <= DOH_PATH_MAX && text.bytes().all(is_plain) {
            return Some(text.to_owned());
        }
        let message = format!(
            "must begin with / and hold at most {DOH_PATH_MAX} letters, digits and -._~/ only, not {}",
            quoted(text)
        );
        reader.wrong(item, message)
    });
    spec
}

/// What no single value can tell, with what else listens. Relative paths become those that `against` makes of them.
pub(super) fn check(
    problems: &mut Problems,
    spec: &EncryptedSpec,
    dns: &[SocketAddr],
    admin: Option<SocketAddr>,
    against: impl Fn(PathBuf) -> PathBuf,
) -> Encrypted {
    for (index, (place, via, address)) in spec.places.iter().enumerate() {
        if address.port() == PLAIN_PORT && matches!(via, Via::Tls | Via::Quic) {
            problems.add(
                place,
                "port 53 is for plain DNS alone: encrypted DNS has 853 unless clients are told otherwise",
            );
        }
        if address.port() == 0 {
            continue;
        }
        let is_quic = |via: &Via| matches!(via, Via::H3 | Via::Quic);
        let mut earlier = spec.places.iter().take(index);
        if let Some((other, ..)) = earlier.find(|(_, other, at)| at == address && is_quic(other) == is_quic(via)) {
            problems.add(place, format!("{address} is {} (line {}) too", other.key, other.line));
        }
        if dns.contains(address) {
            let message = format!("{address} is an address of listen.dns too: one of them needs another port");
            problems.add(place, message);
        }
        if admin == Some(*address) && !is_quic(via) {
            problems.add(
                place,
                format!("{address} is listen.admin too: one of them needs another port"),
            );
        }
    }
    let absent = |problems: &mut Problems, key: &str, other: &str| {
        let place = Place {
            key: format!("listen.{key}"),
            line: spec.line,
        };
        problems.add(&place, format!("missing: {other}; for trials: detour cert self-signed"));
    };
    let files = match (&spec.cert, &spec.key) {
        (Required::Present((cert_at, cert)), Required::Present((key_at, key))) => Some(CertificateFiles {
            cert: against(cert.clone()),
            key: against(key.clone()),
            lines: [cert_at.line, key_at.line],
        }),
        (Required::Present(_) | Required::Wrong, Required::Absent) => {
            absent(problems, "key", "the certificate needs its private key, a PEM file");
            None
        }
        (Required::Absent, Required::Present(_) | Required::Wrong) => {
            absent(problems, "cert", "the key needs its certificate, a PEM file");
            None
        }
        // It has been told.
        (Required::Wrong, _) | (_, Required::Wrong) => None,
        (Required::Absent, Required::Absent) => {
            if let Some((place, ..)) = spec.places.first() {
                let list = place.key.split('[').next().unwrap_or_default();
                absent(
                    problems,
                    "cert",
                    &format!("{list} needs a certificate and its key, PEM files"),
                );
            }
            None
        }
    };
    Encrypted {
        files,
        ..spec.encrypted.clone()
    }
}

impl Config {
    /// Reads the certificate that clients are shown, if anything listens that has one. Waits for the disk.
    ///
    /// # Errors
    /// When the files cannot be used, as a mistake of the configuration.
    pub(crate) fn pair(&self) -> Result<Option<Pair>, LoadError> {
        let encrypted = &self.listen.encrypted;
        let Some(files) = encrypted.files.as_ref().filter(|_| encrypted.is_used()) else {
            return Ok(None);
        };
        Pair::load(&files.cert, &files.key).map(Some).map_err(|error| {
            let [cert_line, key_line] = files.lines;
            let (key, line, file) = match error.part() {
                Part::Certificate => ("cert", cert_line, &files.cert),
                Part::Key => ("key", key_line, &files.key),
            };
            let path = match &self.source {
                Source::File(path) => path.clone(),
                Source::Embedded => PathBuf::new(),
            };
            let message = format!("{} {error}", quoted(&file.to_string_lossy()));
            LoadError::Invalid {
                path,
                problems: vec![Problem {
                    line,
                    key: format!("listen.{key}"),
                    message,
                }],
            }
        })
    }
}
