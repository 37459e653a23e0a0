//! Who may ask: a list of address prefixes, checked before anything else is done for a client.
//!
//! IPv4-mapped IPv6 addresses are judged as the IPv4 address they carry, so that a dual-stack socket cannot be
//! used to slip past an IPv4 rule.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address prefix, `10.0.0.0/8` or `fe80::/10`; a bare address is a prefix of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

/// Why a text is no address prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no IP address.
    #[error("not an IP address")]
    Address,
    /// The part after the slash is no number that the address family allows.
    #[error("prefix length must be a number from 0 to 32 (IPv4) or 128 (IPv6)")]
    PrefixLength,
    /// IPv4 in IPv6 clothes: clients are judged by the IPv4 address, so it would match nobody.
    #[error("an IPv4-mapped address: write it as IPv4")]
    Mapped,
    /// Bits behind the prefix are set: most likely a typing error.
    #[error("address has bits set behind its prefix length")]
    HostBits,
}

impl Cidr {
    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits all its addresses have in common.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `ip` lies inside, IPv4-mapped addresses taken as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.prefix_len));
                u32::from(net).checked_shr(shift) == u32::from(ip).checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.prefix_len));
                u128::from(net).checked_shr(shift) == u128::from(ip).checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_discarded| CidrError::Address)?;
        if address.to_canonical() != address {
            return Err(CidrError::Mapped);
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match length {
            None => longest,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= longest && digits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or(CidrError::PrefixLength)?,
        };
        let host_bits = match address {
            IpAddr::V4(ip) => u32::from(ip).checked_shl(u32::from(prefix_len)).unwrap_or(0) != 0,
            IpAddr::V6(ip) => u128::from(ip).checked_shl(u32::from(prefix_len)).unwrap_or(0) != 0,
        };
        if host_bits {
            return Err(CidrError::HostBits);
        }
        Ok(Self { address, prefix_len })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// The list of prefixes that may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    allowed: Vec<Cidr>,
}

impl Acl {
    /// A list that allows exactly these prefixes.
    #[must_use]
    pub fn new(allowed: Vec<Cidr>) -> Self {
        Self { allowed }
    }

    /// Whether this client may ask.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allowed.iter().any(|prefix| prefix.contains(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_contain_their_addresses_only() {
        assert!(cidr("10.0.0.0/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!cidr("10.0.0.0/8").contains("11.0.0.1".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(cidr("fe80::/10").contains("febf::1".parse().unwrap()));
        assert!(!cidr("fe80::/10").contains("fec0::1".parse().unwrap()));
        assert!(cidr("::1").contains("::1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_address_is_judged_as_ipv4() {
        let acl = Acl::new(vec![cidr("127.0.0.0/8")]);
        assert!(acl.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!acl.allows("::ffff:192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        assert_eq!("office".parse::<Cidr>(), Err(CidrError::Address));
        assert_eq!("10.0.0.0/33".parse::<Cidr>(), Err(CidrError::PrefixLength));
        assert_eq!("10.0.0.0/+8".parse::<Cidr>(), Err(CidrError::PrefixLength));
        assert_eq!("10.0.0.1/8".parse::<Cidr>(), Err(CidrError::HostBits));
        assert_eq!("::ffff:127.0.0.0/104".parse::<Cidr>(), Err(CidrError::Mapped));
    }
}
