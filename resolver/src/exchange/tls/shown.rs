//! What a handshake shows, for somebody who examines a provider: the certificate, trusted or not, and what was agreed.
//!
//! The checks are those of every other connection, by the same verifier; this one only keeps what passes through. Nothing
//! is resumed: a resumed session shows no certificate.

use std::fmt;
use std::sync::Arc;

use detour_core::Transport;
use detour_core::doctor::{CertificateSeen, TlsSeen, TlsVersion};
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Trust, Witness};

/// Names of a certificate that are kept; who shares one with hundreds is told apart by the first ones.
const NAMES_MAX: usize = 8;

/// Remembers what one connection shows.
pub(in crate::exchange) struct Shown {
    inner: Arc<dyn ServerCertVerifier>,
    /// Held for a look.
    seen: Mutex<Option<TlsSeen>>,
}

impl Shown {
    /// What was agreed on a connection that stands.
    pub(in crate::exchange) fn note_session(&self, session: &ClientConnection) {
        let alpn = session
            .alpn_protocol()
            .map(|alpn| String::from_utf8_lossy(alpn).into_owned());
        self.note(|seen| {
            seen.version = session.protocol_version().and_then(version);
            seen.alpn = alpn;
        });
    }

    /// The same of QUIC, which has no version but this one inside (RFC 9001 section 4.2), and no connection without the
    /// protocol that was asked for (section 8.1).
    pub(in crate::exchange) fn note_quic(&self, transport: Transport) {
        let alpn = match transport {
            Transport::Quic => super::ALPN_DOQ,
            Transport::H3 => super::ALPN_H3,
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Https => return,
        };
        self.note(|seen| {
            seen.version = Some(TlsVersion::Tls13);
            seen.alpn = Some(String::from_utf8_lossy(alpn).into_owned());
        });
    }

    /// All of it; `None`: the handshake did not come so far.
    pub(in crate::exchange) fn take(&self) -> Option<TlsSeen> {
        self.seen.lock().take()
    }

    fn note(&self, change: impl FnOnce(&mut TlsSeen)) {
        change(self.seen.lock().get_or_insert_default());
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// The same trust for one connection, and where what that shows can be read.
    pub(in crate::exchange) fn observed(&self) -> (Self, Arc<Shown>) {
        // Of its own: a witness keeps one refusal for each name, and several transports of a name are looked at together.
        let witness = Witness::new(Arc::<Witness>::clone(&self.witness));
        let shown = Arc::new(Shown {
            inner: Arc::<Witness>::clone(&witness),
            seen: Mutex::default(),
        });
        let observed = |config: &ClientConfig| {
            let mut config = config.clone();
            config.dangerous().set_certificate_verifier(Arc::<Shown>::clone(&shown));
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let trust = Self {
            dot: observed(&self.dot),
            https: observed(&self.https),
            doq: observed(&self.doq),
            h3: observed(&self.h3),
            witness,
            shown: Some(Arc::clone(&shown)),
            ..self.clone()
        };
        (trust, shown)
    }

    /// Who wants to know what its connections show.
    pub(in crate::exchange) fn shown(&self) -> Option<Arc<Shown>> {
        self.shown.clone()
    }
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.note(|seen| seen.certificate = read(end_entity, now));
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

fn version(version: ProtocolVersion) -> Option<TlsVersion> {
    if version == ProtocolVersion::TLSv1_3 {
        Some(TlsVersion::Tls13)
    } else if version == ProtocolVersion::TLSv1_2 {
        Some(TlsVersion::Tls12)
    } else {
        None
    }
}

/// What a certificate says; `None` where it cannot be read.
fn read(der: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateSeen> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let (begins_s, ends_s) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    Some(CertificateSeen {
        names: names.filter_map(text_of).take(NAMES_MAX).collect(),
        ends_in_s: ends_s.saturating_sub(now_s),
        lifetime_s: u64::try_from(ends_s.saturating_sub(begins_s)).unwrap_or(0),
    })
}

/// A name as people write it, without what a terminal would obey.
fn text_of(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some(name.chars().filter(|letter| !letter.is_control()).collect());
    }
    let GeneralName::IPAddress(octets) = name else {
        return None;
    };
    let v4 = <[u8; 4]>::try_from(*octets).ok().map(std::net::IpAddr::from);
    let address = v4.or_else(|| <[u8; 16]>::try_from(*octets).ok().map(std::net::IpAddr::from));
    address.map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2030, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 31);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_tells_its_names_and_its_end() {
        let day = |day: u64| UnixTime::since_unix_epoch(Duration::from_secs(day * 86_400));
        let certificate = certificate(&["dns.test", "192.0.2.7", "2001:db8::7"]);
        // 2030-01-01 is day 21,915.
        let seen = read(&certificate, day(21_915 + 10)).unwrap();
        assert_eq!(seen.names, ["dns.test", "192.0.2.7", "2001:db8::7"]);
        assert_eq!((seen.ends_in_s, seen.lifetime_s), (20 * 86_400, 30 * 86_400));
        assert_eq!(read(&certificate, day(21_915 + 31)).unwrap().ends_in_s, -86_400);
    }

    #[test]
    fn many_names_are_cut_and_what_is_no_certificate_is_none() {
        let many: Vec<String> = (0..40).map(|number| format!("n{number}.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let seen = read(&certificate(&many), UnixTime::since_unix_epoch(Duration::ZERO)).unwrap();
        assert_eq!(seen.names.len(), NAMES_MAX);
        let whole = certificate(&["dns.test"]);
        for length in 0..whole.len() {
            let cut = CertificateDer::from(whole[..length].to_vec());
            assert_eq!(read(&cut, UnixTime::since_unix_epoch(Duration::ZERO)), None, "{length}");
        }
    }
}
