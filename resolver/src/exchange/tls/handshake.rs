//! What a failed handshake says: about the endpoint, and about this machine's clock.

use std::io;

use detour_core::control::CertificateTime;
use detour_core::outcome::Failure;
use rustls::CertificateError;

use crate::exchange::line::failure_of;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) struct Refused {
    pub(in crate::exchange) failure: Failure,
    /// The certificate is of another time than this machine's clock says it is.
    pub(in crate::exchange) certificate: Option<CertificateTime>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            certificate: None,
        }
    }
}

/// What an error of a TLS stream says.
pub(in crate::exchange) fn refused_of_handshake(error: &io::Error) -> Refused {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => refused_of(tls),
        // Closed or reset in the middle of the handshake.
        None => match failure_of(error) {
            Some(Failure::Local) | None => Failure::Reset.into(),
            Some(failure) => failure.into(),
        },
    }
}

/// What an error of TLS says.
pub(in crate::exchange) fn refused_of(error: &rustls::Error) -> Refused {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return Failure::Tls.into();
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other reasons are reasons not to trust it"
    )]
    match reason {
        CertificateError::Expired => Failure::TlsExpired.into(),
        CertificateError::ExpiredContext { time, not_after } => Refused {
            failure: Failure::TlsExpired,
            certificate: Some(CertificateTime::ExpiredFor {
                seconds: time.as_secs().saturating_sub(not_after.as_secs()),
            }),
        },
        CertificateError::NotValidYet => Failure::TlsNotYetValid.into(),
        CertificateError::NotValidYetContext { time, not_before } => Refused {
            failure: Failure::TlsNotYetValid,
            certificate: Some(CertificateTime::ValidIn {
                seconds: not_before.as_secs().saturating_sub(time.as_secs()),
            }),
        },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::TlsWrongName.into()
        }
        CertificateError::ApplicationVerificationFailure => Failure::TlsPin.into(),
        _ => Failure::TlsUntrusted.into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;

    #[test]
    fn each_fault_of_a_certificate_is_a_failure_of_its_own() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        for (reason, failure, certificate) in [
            (
                CertificateError::ExpiredContext {
                    time: at(500),
                    not_after: at(400),
                },
                Failure::TlsExpired,
                Some(CertificateTime::ExpiredFor { seconds: 100 }),
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at(500),
                    not_before: at(800),
                },
                Failure::TlsNotYetValid,
                Some(CertificateTime::ValidIn { seconds: 300 }),
            ),
            (CertificateError::NotValidForName, Failure::TlsWrongName, None),
            (CertificateError::UnknownIssuer, Failure::TlsUntrusted, None),
            (CertificateError::Revoked, Failure::TlsUntrusted, None),
            (CertificateError::ApplicationVerificationFailure, Failure::TlsPin, None),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(reason));
            assert_eq!(refused_of_handshake(&error), Refused { failure, certificate });
        }
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(refused_of(&alert), Failure::Tls.into());
        let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(refused_of_handshake(&cut), Failure::Reset.into());
    }
}
