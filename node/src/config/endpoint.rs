//! Endpoints as the file writes them: `scheme://host[:port][/path]#name`, or a DNS stamp that stands for one.
//!
//! The host is an IP address, or a name that is resolved while the node runs. An address nobody can answer from is
//! refused here and not tried later: unspecified, multicast, broadcast, link-local without its zone, port 0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use detour_core::Transport;
use detour_resolver::exchange::tls::{CertificateHash, TlsName};
use detour_resolver::sdns::{ParseStampError, Properties, Stamp};

use super::PROGRAM_VERSION;
use super::problem::quoted;

/// DNS over UDP and TCP (RFC 1035 section 4.2).
const PORT_DO53: u16 = 53;

/// DNS over TLS (RFC 7858 section 3.1), and over QUIC (RFC 9250 section 4.1.1).
const PORT_DOT: u16 = 853;

/// HTTPS, whatever version of HTTP.
const PORT_DOH: u16 = 443;

/// Where DNS over HTTPS is asked if the URL has no path: what nearly all providers use.
const DEFAULT_PATH: &str = "/dns-query";

/// Longest endpoint, bytes: it is a label in every log line and metric.
const LABEL_BYTES_MAX: usize = 200;

/// What a DNS stamp begins with.
const STAMP_SCHEME: &str = "sdns://";

/// Why a text is no endpoint. All of them the operator's mistakes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    /// No `://`.
    #[error("must be a URL such as \"udp://9.9.9.10\"")]
    NoScheme,
    /// Longer than any address.
    #[error("longer than {LABEL_BYTES_MAX} bytes")]
    TooLong,
    /// A stamp that is none, or none for us.
    #[error(transparent)]
    Stamp(#[from] ParseStampError),
    /// A stamp that is whole, and what it says cannot be used.
    #[error("the stamp stands for {}, and that {because}", quoted(url))]
    Stamped { url: Box<str>, because: Box<Self> },
    /// Known to nobody.
    #[error(
        "unknown scheme {}{}: this version ({PROGRAM_VERSION}) speaks h3, https, quic, tls, udp and tcp, and reads sdns stamps",
        quoted(scheme),
        meant_by(scheme)
    )]
    UnknownScheme { scheme: Box<str> },
    /// Something behind a slash.
    #[error("{scheme} has no path: end the URL after the address")]
    Path { scheme: &'static str },
    /// Something behind a number sign.
    #[error("{scheme} has no certificate to check a #name against: leave it out")]
    Name { scheme: &'static str },
    /// What no certificate can be issued to.
    #[error("#name must be a host name such as dns.example, not {}", quoted(name))]
    BadName { name: Box<str> },
    /// What no URL can have.
    #[error("the path may hold letters, digits and -._~/ only, not {}", quoted(path))]
    BadPath { path: Box<str> },
    /// No address between slashes and port.
    #[error("has no address")]
    NoHost,
    /// What no name looks like.
    #[error("{} is no host name such as dns.example, and no IP address", quoted(host))]
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

/// An endpoint as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    /// As it is called: the text itself, or the URL that a stamp stands for.
    pub(super) label: String,
    pub(super) transport: Transport,
    pub(super) host: Host,
    pub(super) port: u16,
    /// SNI, name in the certificate and HTTP authority; without it the address must be in the certificate. An encrypted
    /// endpoint with a host name has one.
    pub(super) name: Option<Box<str>>,
    /// Of `https` and `h3`.
    pub(super) path: Option<Box<str>>,
    /// Of a stamp.
    pub(super) stamp: Option<Stamped>,
}

/// What stands between slashes and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    Name(Box<str>),
}

/// What only a stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) properties: Properties,
    pub(super) hashes: Vec<CertificateHash>,
    /// Who may be asked for its host name, over plain DNS.
    pub(super) bootstrap: Vec<SocketAddr>,
}

/// Reads an endpoint, or a stamp.
pub(super) fn parse(text: &str) -> Result<Parsed, EndpointError> {
    if !text.starts_with(STAMP_SCHEME) {
        return parse_url(text);
    }
    let stamp: Stamp = text.parse()?;
    let url = stamp.to_url();
    let parsed = parse_url(&url).map_err(|because| EndpointError::Stamped {
        url: url.as_str().into(),
        because: Box::new(because),
    })?;
    let bootstrap = stamp.bootstrap.into_iter();
    Ok(Parsed {
        stamp: Some(Stamped {
            properties: stamp.properties,
            hashes: stamp.hashes,
            bootstrap: bootstrap.map(|ip| SocketAddr::new(ip, PORT_DO53)).collect(),
        }),
        ..parsed
    })
}

fn parse_url(text: &str) -> Result<Parsed, EndpointError> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(EndpointError::TooLong);
    }
    let (scheme, rest) = text.split_once("://").ok_or(EndpointError::NoScheme)?;
    let (transport, scheme, default_port) = match scheme {
        "udp" => (Transport::Udp, "udp", PORT_DO53),
        "tcp" => (Transport::Tcp, "tcp", PORT_DO53),
        "tls" => (Transport::Tls, "tls", PORT_DOT),
        "https" => (Transport::Https, "https", PORT_DOH),
        "quic" => (Transport::Quic, "quic", PORT_DOT),
        "h3" => (Transport::H3, "h3", PORT_DOH),
        other => return Err(EndpointError::UnknownScheme { scheme: other.into() }),
    };
    let (rest, name) = rest
        .split_once('#')
        .map_or((rest, None), |(rest, name)| (rest, Some(name)));
    let (rest, path) = match rest.find(['/', '?']).and_then(|at| rest.split_at_checked(at)) {
        Some((host, path)) => (host, Some(path)),
        None => (rest, None),
    };
    let path = match (transport, path) {
        (Transport::Https | Transport::H3, path) => Some(parse_path(path.unwrap_or(DEFAULT_PATH))?),
        (_, Some(_)) => return Err(EndpointError::Path { scheme }),
        (_, None) => None,
    };
    let name = match name {
        Some(_) if !transport.is_encrypted() => return Err(EndpointError::Name { scheme }),
        Some(name) => Some(parse_name(name)?),
        None => None,
    };
    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or(EndpointError::NoBrackets)?;
        let ip: Ipv6Addr = host.parse().map_err(|_same| not_an_address(host))?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return Err(EndpointError::Port),
        };
        (Host::Address(unicast(IpAddr::V6(ip))?), port)
    } else {
        let (host, port) = rest
            .split_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err(EndpointError::NoBrackets);
        }
        (parse_host(host)?, port)
    };
    let port = port.map_or(Ok(default_port), parse_port)?;
    let name = match &host {
        Host::Name(host) if transport.is_encrypted() => Some(name.unwrap_or_else(|| host.clone())),
        Host::Name(_) | Host::Address(_) => name,
    };
    Ok(Parsed {
        label: text.to_owned(),
        transport,
        host,
        port,
        name,
        path,
        stamp: None,
    })
}

/// A host name as certificates have it: labels of letters, digits and hyphens, at least one dot.
fn parse_name(name: &str) -> Result<Box<str>, EndpointError> {
    let is_label = |label: &str| {
        let edges = [label.bytes().next(), label.bytes().next_back()];
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && edges.iter().all(|edge| *edge != Some(b'-'))
    };
    let is_name = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    let has_letter = name.bytes().any(|b| b.is_ascii_alphabetic());
    // A last label that is a number is the end of an address, and no certificate is checked against it.
    if is_name && has_letter && TlsName::new(name).is_some() {
        Ok(name.to_ascii_lowercase().into())
    } else {
        Err(EndpointError::BadName { name: name.into() })
    }
}

/// A path as it goes on the wire.
fn parse_path(path: &str) -> Result<Box<str>, EndpointError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    if path.starts_with('/') && path.bytes().all(is_plain) {
        Ok(path.into())
    } else {
        Err(EndpointError::BadPath { path: path.into() })
    }
}

fn not_an_address(host: &str) -> EndpointError {
    EndpointError::NotAnAddress { host: host.into() }
}

/// An IPv4 address, or a name.
fn parse_host(host: &str) -> Result<Host, EndpointError> {
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let ip: Ipv4Addr = host.parse().map_err(|_no_address| not_an_address(host))?;
        return Ok(Host::Address(unicast(IpAddr::V4(ip))?));
    }
    let name = parse_name(host);
    name.map(Host::Name)
        .map_err(|_no_name| EndpointError::HostName { host: host.into() })
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

/// What a scheme that others have is called here.
fn meant_by(scheme: &str) -> &'static str {
    match scheme {
        "dot" => " (DNS over TLS is tls://)",
        "doh" | "http" => " (DNS over HTTPS is https://)",
        "doq" => " (DNS over QUIC is quic://)",
        "doh3" | "http3" | "https3" => " (DNS over HTTP/3 is h3://)",
        "dns" => " (DNS in the clear is udp:// or tcp://)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_an_address_and_perhaps_a_port() {
        let read = |text| {
            let parsed = parse(text).unwrap();
            assert_eq!((parsed.name, parsed.path), (None, None));
            let Host::Address(ip) = parsed.host else {
                panic!("{text}");
            };
            (parsed.transport, SocketAddr::new(ip, parsed.port))
        };
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
    fn encrypted_endpoints_have_names_and_https_a_path() {
        let read = |text| {
            let parsed = parse(text).unwrap();
            let address = match parsed.host {
                Host::Address(ip) => SocketAddr::new(ip, parsed.port).to_string(),
                Host::Name(host) => format!("{host}:{}", parsed.port),
            };
            let (name, path) = (parsed.name, parsed.path);
            (
                parsed.transport,
                address,
                name.unwrap_or_default(),
                path.unwrap_or_default(),
            )
        };
        let expected = |transport, address: &str, name: &str, path: &str| {
            (transport, address.to_owned(), Box::from(name), Box::from(path))
        };
        for (text, wanted) in [
            (
                "tls://9.9.9.10#dns.quad9.net",
                expected(Transport::Tls, "9.9.9.10:853", "dns.quad9.net", ""),
            ),
            (
                "tls://[2620:fe::10]:8853",
                expected(Transport::Tls, "[2620:fe::10]:8853", "", ""),
            ),
            (
                "https://9.9.9.10/dns-query#DNS10.quad9.net",
                expected(Transport::Https, "9.9.9.10:443", "dns10.quad9.net", "/dns-query"),
            ),
            (
                "https://[::1]:8443#a.example",
                expected(Transport::Https, "[::1]:8443", "a.example", "/dns-query"),
            ),
            (
                "https://9.9.9.10/a/b_c",
                expected(Transport::Https, "9.9.9.10:443", "", "/a/b_c"),
            ),
            (
                "quic://9.9.9.10#dns.quad9.net",
                expected(Transport::Quic, "9.9.9.10:853", "dns.quad9.net", ""),
            ),
            (
                "h3://[2620:fe::10]#dns.quad9.net",
                expected(Transport::H3, "[2620:fe::10]:443", "dns.quad9.net", "/dns-query"),
            ),
            (
                "tls://DNS.quad9.net:8853",
                expected(Transport::Tls, "dns.quad9.net:8853", "dns.quad9.net", ""),
            ),
            (
                "https://dns.example/q#other.example",
                expected(Transport::Https, "dns.example:443", "other.example", "/q"),
            ),
            ("udp://dns.example", expected(Transport::Udp, "dns.example:53", "", "")),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    /// Texts and what is wrong with them.
    const MISTAKES: [(&str, &str); 36] = [
        ("9.9.9.10", "must be a URL such as \"udp://9.9.9.10\""),
        ("udp:9.9.9.10", "must be a URL such as \"udp://9.9.9.10\""),
        ("sdns://AgcAAAAAAAAABzkuOS45Ljk", "the stamp is cut off"),
        (
            "sdns://AQcAAAAAAAAACTE5Mi4wLjIuMQ",
            "the stamp is for DNSCrypt, which Detour does not speak: plain DNS, DoH, DoT and DoQ are",
        ),
        (
            "sdns://AAcAAAAAAAAABzAuMC4wLjA",
            "the stamp stands for \"udp://0.0.0.0\", and that cannot ask the unspecified address 0.0.0.0",
        ),
        (
            "tls://9.9.9.10/dns-query",
            "tls has no path: end the URL after the address",
        ),
        (
            "tls://9.9.9.10#quad9",
            "#name must be a host name such as dns.example, not \"quad9\"",
        ),
        (
            "tls://9.9.9.10#9.9.9.10",
            "#name must be a host name such as dns.example, not \"9.9.9.10\"",
        ),
        (
            "tls://9.9.9.10#dns.9",
            "#name must be a host name such as dns.example, not \"dns.9\"",
        ),
        (
            "https://9.9.9.10/dns-query{?dns}",
            "the path may hold letters, digits and -._~/ only, not \"/dns-query{?dns}\"",
        ),
        (
            "ftp://9.9.9.10",
            "unknown scheme \"ftp\": this version (VERSION) speaks h3, https, quic, tls, udp and tcp, and reads sdns stamps",
        ),
        (
            "UDP://9.9.9.10",
            "unknown scheme \"UDP\": this version (VERSION) speaks h3, https, quic, tls, udp and tcp, and reads sdns stamps",
        ),
        ("udp://9.9.9.10/", "udp has no path: end the URL after the address"),
        (
            "tcp://9.9.9.10#x",
            "tcp has no certificate to check a #name against: leave it out",
        ),
        ("udp://", "has no address"),
        ("udp://:53", "has no address"),
        (
            "udp://resolver",
            "\"resolver\" is no host name such as dns.example, and no IP address",
        ),
        (
            "udp://dns..google",
            "\"dns..google\" is no host name such as dns.example, and no IP address",
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

    #[test]
    fn every_mistake_has_its_own_message() {
        for (text, message) in MISTAKES {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, message.replace("VERSION", PROGRAM_VERSION), "{text}");
        }
        assert_eq!(
            parse(&format!("udp://{}", "9".repeat(300))),
            Err(EndpointError::TooLong)
        );
    }

    #[test]
    fn a_stamp_is_the_url_it_stands_for_and_what_only_it_says() {
        let hash = CertificateHash([7; 32]);
        let parts = Stamp {
            hashes: vec![hash],
            bootstrap: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9))],
            ..parse_stamp("sdns://AgcAAAAAAAAABzEuMC4wLjEAEmRucy5jbG91ZGZsYXJlLmNvbQovZG5zLXF1ZXJ5")
        };
        let parsed = parse(&parts.to_text()).unwrap();
        let stamped = parsed.stamp.clone().unwrap();
        assert_eq!(stamped.hashes, [hash]);
        assert_eq!(stamped.bootstrap, ["192.0.2.9:53".parse().unwrap()]);
        let url = "https://1.0.0.1/dns-query#dns.cloudflare.com";
        assert_eq!(Parsed { stamp: None, ..parsed }, parse(url).unwrap());
    }

    fn parse_stamp(text: &str) -> Stamp {
        text.parse().unwrap()
    }
}
