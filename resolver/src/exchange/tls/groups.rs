//! How the keys of a TLS session are agreed: the groups this version can, by their registered names.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group;

/// Most groups of one list: as many as there are.
pub const GROUPS_MAX: usize = Group::ALL.len();

/// A key exchange group (RFC 8446 section 4.2.7; IANA, TLS Supported Groups).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// X25519 and ML-KEM-768 together: what is recorded today cannot be read by a quantum computer later.
    X25519MlKem768,
    /// Curve25519.
    X25519,
    /// NIST P-256.
    Secp256r1,
    /// NIST P-384.
    Secp384r1,
}

impl Group {
    /// All, in the order they are offered by default. The first one makes the first packet of a handshake two packets,
    /// which some middleboxes drop: it can be left out.
    pub const ALL: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "X25519",
            Self::Secp256r1 => "secp256r1",
            Self::Secp384r1 => "secp384r1",
        }
    }

    pub(super) fn key_exchange(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
            Self::X25519 => kx_group::X25519,
            Self::Secp256r1 => kx_group::SECP256R1,
            Self::Secp384r1 => kx_group::SECP384R1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registry() {
        for group in Group::ALL {
            let own = format!("{:?}", group.key_exchange().name());
            assert_eq!(own.to_lowercase(), group.name().to_lowercase());
        }
    }
}
