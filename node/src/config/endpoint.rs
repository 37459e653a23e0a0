//! Endpoints as the file writes them: `scheme://host[:port][/path]#name`.
//!
//! This version speaks `udp` and `tcp` to IP addresses. The other schemes of the design are known by name, so that
//! their use is told apart from a typing error. An address nobody can answer from is refused here and not tried
//! later: unspecified, multicast, broadcast, link-local without its zone, port 0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use detour_core::Transport;

use super::PROGRAM_VERSION;
use super::problem::quoted;

/// DNS over UDP and TCP (RFC 1035 section 4.2).
const PORT_DO53: u16 = 53;

/// Longest endpoint, bytes: it is a label in every log line and metric.
const LABEL_BYTES_MAX: usize = 200;

/// Schemes of the design that are not built yet.
const LATER_SCHEMES: [&str; 5] = ["tls", "https", "h3", "quic", "sdns"];

/// Why a text is no endpoint. All of them the operator's mistakes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    /// No `://`.
    #[error("must be a URL such as \"udp://9.9.9.10\"")]
    NoScheme,
    /// Longer than any address.
    #[error("longer than {LABEL_BYTES_MAX} bytes")]
    TooLong,
    /// Known to the design.
    #[error("this version ({PROGRAM_VERSION}) cannot speak {scheme}: use udp or tcp")]
    LaterScheme { scheme: &'static str },
    /// Known to nobody.
    #[error(
        "unknown scheme {}: this version ({PROGRAM_VERSION}) speaks udp and tcp",
        quoted(scheme)
    )]
    UnknownScheme { scheme: Box<str> },
    /// Something behind a slash.
    #[error("{scheme} has no path: end the URL after the address")]
    Path { scheme: &'static str },
    /// Something behind a number sign.
    #[error("{scheme} has no certificate to check a #name against: leave it out")]
    Name { scheme: &'static str },
    /// No address between slashes and port.
    #[error("has no address")]
    NoHost,
    /// A name.
    #[error(
        "this version ({PROGRAM_VERSION}) needs an IP address, not the host name {}",
        quoted(host)
    )]
    HostName { host: Box<str> },
    /// Digits and dots, or brackets around something else.
    #[error("{} is no IP address", quoted(host))]
    NotAnAddress { host: Box<str> },
    /// Which colon would begin the port?
    #[error("an IPv6 address needs brackets, such as \"udp://[2001:db8::1]\"")]
    NoBrackets,
    /// Behind the last colon.
    #[error("port must be a number from 1 to 65535")]
    Port,
    /// An address that names no single host.
    #[error("cannot ask {kind} address {ip}")]
    NotUnicast { kind: &'static str, ip: IpAddr },
    /// Two ways to write one address would hide a duplicate.
    #[error("write the IPv4 address {0} plainly")]
    Mapped(Ipv4Addr),
}

/// Reads an endpoint.
pub(super) fn parse(text: &str) -> Result<(Transport, SocketAddr), EndpointError> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(EndpointError::TooLong);
    }
    let (scheme, rest) = text.split_once("://").ok_or(EndpointError::NoScheme)?;
    let (transport, scheme) = match scheme {
        "udp" => (Transport::Udp, "udp"),
        "tcp" => (Transport::Tcp, "tcp"),
        other => return Err(unspoken(other)),
    };
    let (rest, name) = rest
        .split_once('#')
        .map_or((rest, None), |(rest, name)| (rest, Some(name)));
    if rest.contains(['/', '?']) {
        return Err(EndpointError::Path { scheme });
    }
    if name.is_some() {
        return Err(EndpointError::Name { scheme });
    }
    let (ip, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or(EndpointError::NoBrackets)?;
        let ip: Ipv6Addr = host.parse().map_err(|_same| not_an_address(host))?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return Err(EndpointError::Port),
        };
        (IpAddr::V6(ip), port)
    } else {
        let (host, port) = rest
            .split_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err(EndpointError::NoBrackets);
        }
        (IpAddr::V4(parse_v4(host)?), port)
    };
    let port = port.map_or(Ok(PORT_DO53), parse_port)?;
    Ok((transport, SocketAddr::new(unicast(ip)?, port)))
}

fn unspoken(scheme: &str) -> EndpointError {
    match LATER_SCHEMES.iter().find(|later| **later == scheme) {
        Some(scheme) => EndpointError::LaterScheme { scheme },
        None => EndpointError::UnknownScheme { scheme: scheme.into() },
    }
}

fn not_an_address(host: &str) -> EndpointError {
    EndpointError::NotAnAddress { host: host.into() }
}

fn parse_v4(host: &str) -> Result<Ipv4Addr, EndpointError> {
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    host.parse().map_err(|_no_address| {
        if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            not_an_address(host)
        } else {
            EndpointError::HostName { host: host.into() }
        }
    })
}

fn parse_port(text: &str) -> Result<u16, EndpointError> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| is_number && *port != 0)
        .ok_or(EndpointError::Port)
}

fn unicast(ip: IpAddr) -> Result<IpAddr, EndpointError> {
    let kind = match ip {
        _ if ip.is_unspecified() => "the unspecified",
        _ if ip.is_multicast() => "a multicast",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local",
        IpAddr::V6(v6) => return v6.to_ipv4_mapped().map_or(Ok(ip), |v4| Err(EndpointError::Mapped(v4))),
        IpAddr::V4(_) => return Ok(ip),
    };
    Err(EndpointError::NotUnicast { kind, ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_an_address_and_perhaps_a_port() {
        let read = |text| parse(text).unwrap();
        assert_eq!(read("udp://9.9.9.10"), (Transport::Udp, "9.9.9.10:53".parse().unwrap()));
        assert_eq!(
            read("tcp://9.9.9.10:5353"),
            (Transport::Tcp, "9.9.9.10:5353".parse().unwrap())
        );
        assert_eq!(read("udp://[2a09::]"), (Transport::Udp, "[2a09::]:53".parse().unwrap()));
        assert_eq!(
            read("tcp://[2001:db8::1]:54"),
            (Transport::Tcp, "[2001:db8::1]:54".parse().unwrap())
        );
    }

    #[test]
    fn every_mistake_has_its_own_message() {
        let table = [
            ("9.9.9.10", "must be a URL such as \"udp://9.9.9.10\""),
            ("udp:9.9.9.10", "must be a URL such as \"udp://9.9.9.10\""),
            (
                "tls://9.9.9.10#dns.quad9.net",
                "this version (VERSION) cannot speak tls: use udp or tcp",
            ),
            (
                "ftp://9.9.9.10",
                "unknown scheme \"ftp\": this version (VERSION) speaks udp and tcp",
            ),
            (
                "UDP://9.9.9.10",
                "unknown scheme \"UDP\": this version (VERSION) speaks udp and tcp",
            ),
            ("udp://9.9.9.10/", "udp has no path: end the URL after the address"),
            (
                "tcp://9.9.9.10#x",
                "tcp has no certificate to check a #name against: leave it out",
            ),
            ("udp://", "has no address"),
            ("udp://:53", "has no address"),
            (
                "udp://dns.google",
                "this version (VERSION) needs an IP address, not the host name \"dns.google\"",
            ),
            ("udp://9.9.9", "\"9.9.9\" is no IP address"),
            ("udp://9.9.9.010", "\"9.9.9.010\" is no IP address"),
            ("udp://[9.9.9.9]", "\"9.9.9.9\" is no IP address"),
            ("udp://[fe80::1%eth0]", "\"fe80::1%eth0\" is no IP address"),
            (
                "udp://2001:db8::1",
                "an IPv6 address needs brackets, such as \"udp://[2001:db8::1]\"",
            ),
            (
                "udp://[2001:db8::1",
                "an IPv6 address needs brackets, such as \"udp://[2001:db8::1]\"",
            ),
            ("udp://9.9.9.9:0", "port must be a number from 1 to 65535"),
            ("udp://9.9.9.9:", "port must be a number from 1 to 65535"),
            ("udp://9.9.9.9:+53", "port must be a number from 1 to 65535"),
            ("udp://9.9.9.9:65536", "port must be a number from 1 to 65535"),
            ("udp://[::1]53", "port must be a number from 1 to 65535"),
            ("udp://0.0.0.0", "cannot ask the unspecified address 0.0.0.0"),
            ("udp://[::]", "cannot ask the unspecified address ::"),
            ("udp://224.0.0.251", "cannot ask a multicast address 224.0.0.251"),
            ("udp://[ff02::fb]", "cannot ask a multicast address ff02::fb"),
            (
                "udp://255.255.255.255",
                "cannot ask the broadcast address 255.255.255.255",
            ),
            ("udp://[fe80::1]", "cannot ask a link-local address fe80::1"),
            ("udp://[::ffff:9.9.9.9]", "write the IPv4 address 9.9.9.9 plainly"),
        ];
        for (text, message) in table {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, message.replace("VERSION", PROGRAM_VERSION), "{text}");
        }
        assert_eq!(
            parse(&format!("udp://{}", "9".repeat(300))),
            Err(EndpointError::TooLong)
        );
    }
}
