//! What the end of a QUIC connection says about the endpoint.
//!
//! QUIC carries TLS alerts as transport errors (RFC 9001 section 4.8). Why a certificate was refused from here is told by
//! the one who refused it (`witness.rs`), because several reasons share an alert.

use detour_core::outcome::Failure;
use quinn::{ConnectionError, TransportErrorCode};

use crate::exchange::tls::{Refused, refused_of};

/// What a connection that could not be opened, or one that ended, says; `refused`: the certificate, for this.
pub(super) fn refused_by(error: &ConnectionError, refused: Option<rustls::Error>) -> Refused {
    let failure = match error {
        ConnectionError::VersionMismatch => Failure::Tls,
        ConnectionError::TransportError(own) if is_alert(own.code) => {
            return refused.map_or_else(|| Failure::Tls.into(), |reason| refused_of(&reason));
        }
        // The other side broke the protocol.
        ConnectionError::TransportError(_) => Failure::Garbage,
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            Failure::Unreachable
        }
        ConnectionError::ConnectionClosed(close) if is_alert(close.error_code) => Failure::Tls,
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => {
            Failure::Reset
        }
        ConnectionError::TimedOut => Failure::ConnectTimeout,
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => Failure::Local,
    };
    failure.into()
}

/// Whether a transport error is a TLS alert (RFC 9000 section 20.1).
fn is_alert(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

#[cfg(test)]
mod tests {
    use quinn::ConnectionClose;
    use rustls::CertificateError;

    use super::*;

    #[test]
    fn each_end_has_its_cause() {
        let own = |code: TransportErrorCode| ConnectionError::TransportError(code.into());
        let closed = |error_code| {
            ConnectionError::ConnectionClosed(ConnectionClose {
                error_code,
                frame_type: None,
                reason: bytes::Bytes::new(),
            })
        };
        let no_protocol = TransportErrorCode::crypto(120);
        for (error, failure) in [
            (ConnectionError::VersionMismatch, Failure::Tls),
            (own(no_protocol), Failure::Tls),
            (own(TransportErrorCode::PROTOCOL_VIOLATION), Failure::Garbage),
            (closed(TransportErrorCode::CONNECTION_REFUSED), Failure::Unreachable),
            (closed(no_protocol), Failure::Tls),
            (closed(TransportErrorCode::NO_ERROR), Failure::Reset),
            (ConnectionError::Reset, Failure::Reset),
            (ConnectionError::TimedOut, Failure::ConnectTimeout),
            (ConnectionError::LocallyClosed, Failure::Local),
        ] {
            assert_eq!(refused_by(&error, None).failure, failure, "{error}");
        }
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(
            refused_by(&own(TransportErrorCode::crypto(45)), Some(expired)).failure,
            Failure::TlsExpired
        );
    }
}
