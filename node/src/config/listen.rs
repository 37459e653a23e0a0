//! Addresses to listen on, for the file and for the command line alike.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The admin interface: on an address of this machine only, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    /// No admin interface.
    Off,
    /// A loopback address; port 0 lets the kernel choose.
    At(SocketAddr),
}

/// Why a text is no address to listen on. All of them the operator's mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListenAddressError {
    /// An address alone.
    #[error("needs a port, such as \"{0}\"")]
    NoPort(SocketAddr),
    /// Anything else.
    #[error("must be an IP address and a port, such as \"127.0.0.1:5300\" or \"[::1]:5300\"")]
    NotAnAddress,
    /// No host can have it.
    #[error("cannot listen on {0}: not the address of one host")]
    NotUnicast(IpAddr),
    /// Sockets for IPv6 here are for IPv6 alone.
    #[error("an IPv4-mapped address: write {0}")]
    Mapped(IpAddr),
    /// Reachable from other machines.
    #[error("must be a loopback address such as \"127.0.0.1:9353\", or \"off\": it is not protected")]
    NotLoopback,
}

/// Reads an address for DNS.
///
/// # Errors
/// When nothing could be bound to it.
pub(crate) fn parse_listen_address(text: &str) -> Result<SocketAddr, ListenAddressError> {
    let address: SocketAddr = text.parse().map_err(|_no_address| {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        bare.parse::<IpAddr>().map_or(ListenAddressError::NotAnAddress, |ip| {
            ListenAddressError::NoPort(SocketAddr::new(ip, super::DEFAULT_DNS_PORT))
        })
    })?;
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.to_canonical() != ip {
        return Err(ListenAddressError::Mapped(ip.to_canonical()));
    }
    if ip.is_multicast() || is_broadcast {
        return Err(ListenAddressError::NotUnicast(ip));
    }
    Ok(address)
}

impl Admin {
    /// The address, unless it is off.
    #[must_use]
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Admin {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = parse_listen_address(text)?;
        if address.ip().to_canonical().is_loopback() {
            Ok(Self::At(address))
        } else {
            Err(ListenAddressError::NotLoopback)
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_port() {
        assert_eq!(parse_listen_address("0.0.0.0:0"), Ok("0.0.0.0:0".parse().unwrap()));
        let error = |text| parse_listen_address(text).unwrap_err().to_string();
        assert_eq!(error("192.0.2.1"), "needs a port, such as \"192.0.2.1:5300\"");
        assert_eq!(error("::1"), "needs a port, such as \"[::1]:5300\"");
        assert_eq!(error("[::1]"), "needs a port, such as \"[::1]:5300\"");
        assert_eq!(parse_listen_address(":53"), Err(ListenAddressError::NotAnAddress));
        assert_eq!(
            parse_listen_address("localhost:53"),
            Err(ListenAddressError::NotAnAddress)
        );
        assert_eq!(
            error("224.0.0.251:53"),
            "cannot listen on 224.0.0.251: not the address of one host"
        );
    }

    #[test]
    fn admin_stays_on_this_machine() {
        assert_eq!("off".parse(), Ok(Admin::Off));
        assert_eq!("[::1]:0".parse(), Ok(Admin::At("[::1]:0".parse().unwrap())));
        assert_eq!("0.0.0.0:9353".parse::<Admin>(), Err(ListenAddressError::NotLoopback));
        assert_eq!(
            "192.168.0.1:9353".parse::<Admin>(),
            Err(ListenAddressError::NotLoopback)
        );
    }
}
