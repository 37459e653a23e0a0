//! The ways a fake can be asked, by the names a node's configuration and a person typing have for them.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The path DoH is served at (RFC 8484 section 4.1.1 leaves it to the server; this is what everybody takes).
pub const DOH_PATH: &str = "/dns-query";

/// A transport of DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams (RFC 1035 section 4.2.1).
    Udp,
    /// Framed messages over TCP (RFC 7766).
    Tcp,
    /// Framed messages over TLS (RFC 7858).
    Dot,
    /// HTTP/2 over TLS (RFC 8484).
    Doh,
    /// A stream of QUIC per message (RFC 9250).
    Doq,
    /// HTTP/3 (RFC 8484 over RFC 9114).
    Doh3,
}

impl Transport {
    /// All of them, cleartext first.
    pub const ALL: [Self; 6] = [Self::Udp, Self::Tcp, Self::Dot, Self::Doh, Self::Doq, Self::Doh3];

    /// Whether TLS is under it.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Dot | Self::Doh | Self::Doq | Self::Doh3)
    }

    /// Whether HTTP is spoken.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Doh | Self::Doh3)
    }

    /// The endpoint as a node's configuration names it. `server_name` is what an encrypted transport is asked for, and
    /// is left out of a cleartext one.
    #[must_use]
    pub fn endpoint(self, address: SocketAddr, server_name: Option<&str>) -> String {
        let fragment = server_name.map_or_else(String::new, |name| format!("#{name}"));
        match self {
            Self::Udp => format!("udp://{address}"),
            Self::Tcp => format!("tcp://{address}"),
            Self::Dot => format!("tls://{address}{fragment}"),
            Self::Doh => format!("https://{address}{DOH_PATH}{fragment}"),
            Self::Doq => format!("quic://{address}{fragment}"),
            Self::Doh3 => format!("h3://{address}{DOH_PATH}{fragment}"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Dot => "dot",
            Self::Doh => "doh",
            Self::Doq => "doq",
            Self::Doh3 => "doh3",
        })
    }
}

/// Which of a provider's transports something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportSel {
    /// This one.
    Only(Transport),
    /// Every one it has.
    #[default]
    All,
}

impl TransportSel {
    /// Whether `transport` is among them.
    #[must_use]
    pub fn includes(self, transport: Transport) -> bool {
        match self {
            Self::Only(own) => own == transport,
            Self::All => true,
        }
    }
}

/// Text is no transport, or no list of transports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown transport {given:?}: expected udp, tcp, dot, doh, doq, doh3{more}")]
pub struct ParseTransportError {
    /// What was given.
    pub given: Box<str>,
    /// What else may stand there.
    pub more: &'static str,
}

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|transport| transport.to_string() == given);
        named.ok_or_else(|| ParseTransportError {
            given: given.into(),
            more: "",
        })
    }
}

/// The transports a config lists for each provider, in the order a node prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListedTransports {
    /// `udp://`, which includes a node's retry over TCP after a truncated answer.
    #[default]
    Udp,
    /// `tcp://`.
    Tcp,
    /// `udp://`, then `tcp://`.
    UdpTcp,
    /// `tls://`.
    Dot,
    /// `https://`.
    Doh,
    /// `tls://`, then `udp://`.
    DotUdp,
    /// `https://`, then `tls://`.
    DohDot,
    /// `https://`, then `tls://`, then `udp://`: what a node lists by itself.
    DohDotUdp,
    /// `quic://`.
    Doq,
    /// `h3://`.
    Doh3,
    /// `quic://`, then `tls://`.
    DoqDot,
    /// `h3://`, then `https://`.
    Doh3Doh,
}

impl ListedTransports {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Udp,
        Self::Tcp,
        Self::UdpTcp,
        Self::Dot,
        Self::Doh,
        Self::DotUdp,
        Self::DohDot,
        Self::DohDotUdp,
        Self::Doq,
        Self::Doh3,
        Self::DoqDot,
        Self::Doh3Doh,
    ];

    /// The transports in their order.
    #[must_use]
    pub const fn transports(self) -> &'static [Transport] {
        match self {
            Self::Udp => &[Transport::Udp],
            Self::Tcp => &[Transport::Tcp],
            Self::UdpTcp => &[Transport::Udp, Transport::Tcp],
            Self::Dot => &[Transport::Dot],
            Self::Doh => &[Transport::Doh],
            Self::DotUdp => &[Transport::Dot, Transport::Udp],
            Self::DohDot => &[Transport::Doh, Transport::Dot],
            Self::DohDotUdp => &[Transport::Doh, Transport::Dot, Transport::Udp],
            Self::Doq => &[Transport::Doq],
            Self::Doh3 => &[Transport::Doh3],
            Self::DoqDot => &[Transport::Doq, Transport::Dot],
            Self::Doh3Doh => &[Transport::Doh3, Transport::Doh],
        }
    }

    /// Whether one of them needs a certificate, and therefore a node that trusts the fakes' authority.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        self.transports().iter().any(|transport| transport.is_encrypted())
    }
}

impl fmt::Display for ListedTransports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.transports().iter().map(Transport::to_string).collect();
        out.write_str(&names.join("+"))
    }
}

impl FromStr for ListedTransports {
    type Err = ParseTransportError;

    /// Reads `doh+dot+udp`; `both` is `udp+tcp`.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let text = if given == "both" { "udp+tcp" } else { given };
        let named = Self::ALL.into_iter().find(|listed| listed.to_string() == text);
        named.ok_or_else(|| ParseTransportError {
            given: given.into(),
            more: ", both (udp+tcp), dot+udp, doh+dot, doh+dot+udp, doq+dot or doh3+doh",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_a_node_reads_them() {
        let address = SocketAddr::from(([127, 0, 0, 1], 5401));
        let name = Some("fake1.detour.test");
        for (transport, expected) in [
            (Transport::Udp, "udp://127.0.0.1:5401"),
            (Transport::Tcp, "tcp://127.0.0.1:5401"),
            (Transport::Dot, "tls://127.0.0.1:5401#fake1.detour.test"),
            (Transport::Doh, "https://127.0.0.1:5401/dns-query#fake1.detour.test"),
            (Transport::Doq, "quic://127.0.0.1:5401#fake1.detour.test"),
            (Transport::Doh3, "h3://127.0.0.1:5401/dns-query#fake1.detour.test"),
        ] {
            assert_eq!(transport.endpoint(address, name), expected);
        }
        assert_eq!(Transport::Dot.endpoint(address, None), "tls://127.0.0.1:5401");
    }

    #[test]
    fn lists_are_read_and_written() {
        for listed in ListedTransports::ALL {
            assert_eq!(listed.to_string().parse(), Ok(listed));
        }
        assert_eq!("both".parse(), Ok(ListedTransports::UdpTcp));
        assert_eq!("quic".parse::<Transport>().unwrap_err().more, "");
        assert_eq!(
            "quic".parse::<ListedTransports>().unwrap_err().to_string(),
            "unknown transport \"quic\": expected udp, tcp, dot, doh, doq, doh3, both (udp+tcp), dot+udp, \
             doh+dot, doh+dot+udp, doq+dot or doh3+doh"
        );
        assert!(ListedTransports::DotUdp.is_encrypted() && !ListedTransports::UdpTcp.is_encrypted());
    }
}
