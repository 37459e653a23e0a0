//! Addresses of nodes as the file writes them: `/ip4/ADDRESS/udp/PORT/quic-v1/p2p/ID` (libp2p's multiaddr).
//!
//! This version speaks QUIC between nodes and finds them by IP address only: a mesh that must survive the failure of DNS
//! cannot depend on it. What libp2p could read and this version cannot use is told apart from a typing error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use detour_core::report::NodeId;

use super::problem::quoted;
use super::{DEFAULT_MESH_PORT, PROGRAM_VERSION};
use crate::peer_id::{self, PeerIdError};

/// Longest address that is looked at, bytes; an IPv6 one with a peer id has 120.
const BYTES_MAX: usize = 200;

/// Why a text is no address of a node. All of them the operator's mistakes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MultiaddrError {
    /// Longer than any.
    #[error("longer than {BYTES_MAX} bytes")]
    TooLong,
    /// An address as sockets have it.
    #[error("must be written as {}", quoted(&text(*.0)))]
    SocketAddress(SocketAddr),
    /// Anything else.
    #[error("must be written like \"/ip4/192.0.2.2/udp/{DEFAULT_MESH_PORT}/quic-v1\"")]
    NotAnAddress,
    /// A name in place of an address.
    #[error("must be an IP address: nodes must find each other while DNS fails, so a name is of no use here")]
    Name,
    /// Behind `/ip4/` or `/ip6/`.
    #[error("{} is no {family} address", quoted(found))]
    Ip { family: &'static str, found: Box<str> },
    /// Only with its zone would it be an address.
    #[error("a link-local address: this version ({PROGRAM_VERSION}) needs one that is not")]
    LinkLocal,
    /// An address that names no single host.
    #[error("{kind} address {ip}")]
    NotUnicast { kind: &'static str, ip: IpAddr },
    /// Two ways to write one address would hide a duplicate.
    #[error("write the IPv4 address {0} as /ip4/{0}")]
    Mapped(Ipv4Addr),
    /// Known to the design.
    #[error("this version ({PROGRAM_VERSION}) cannot speak TCP between nodes: write /udp/PORT/quic-v1")]
    Tcp,
    /// Between address and `quic-v1`.
    #[error("behind the address must follow /udp/PORT/quic-v1")]
    NoUdp,
    /// Behind `/udp/`.
    #[error("the port must be a number from {least} to 65535")]
    Port { least: u16 },
    /// Behind the port.
    #[error("behind the port must follow /quic-v1")]
    NoQuic,
    /// Behind `/p2p/`.
    #[error("{} {error}", quoted(found))]
    PeerId { found: Box<str>, error: PeerIdError },
    /// Of a peer.
    #[error("needs the peer's id at its end: /p2p/ID, which `detour id` prints there")]
    NoPeerId,
    /// Of a listen address.
    #[error("must end with /quic-v1: an address to listen on has no peer id")]
    ListenPeerId,
    /// Behind all that.
    #[error("nothing can follow behind {behind}, not {}", quoted(found))]
    Rest { behind: &'static str, found: Box<str> },
}

/// A peer as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) node: NodeId,
    /// None: it is admitted and dials us.
    pub(super) address: Option<SocketAddr>,
}

/// The text of an address.
#[must_use]
pub(crate) fn text(address: SocketAddr) -> String {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{}/udp/{}/quic-v1", address.ip(), address.port())
}

/// Reads an address to listen on; port 0 lets the kernel choose.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, MultiaddrError> {
    let (address, node) = parse(text, 0)?;
    match (address, node) {
        (Some(address), None) => Ok(address),
        (_, Some(_)) => Err(MultiaddrError::ListenPeerId),
        (None, None) => Err(MultiaddrError::NotAnAddress),
    }
}

/// Reads a peer: an address with its id, or the id alone.
pub(super) fn parse_peer(text: &str) -> Result<Listed, MultiaddrError> {
    let (address, node) = parse(text, 1)?;
    if let Some(ip) = address.map(|address| address.ip()).filter(IpAddr::is_unspecified) {
        let kind = "cannot dial the unspecified";
        return Err(MultiaddrError::NotUnicast { kind, ip });
    }
    let node = node.ok_or(MultiaddrError::NoPeerId)?;
    Ok(Listed { node, address })
}

/// Why a text is no line of `mesh.peers`.
#[must_use]
pub(crate) fn peer_mistake(text: &str) -> Option<String> {
    parse_peer(text).err().map(|error| error.to_string())
}

/// Address and peer id, of which one is there at least.
fn parse(text: &str, least_port: u16) -> Result<(Option<SocketAddr>, Option<NodeId>), MultiaddrError> {
    if text.len() > BYTES_MAX {
        return Err(MultiaddrError::TooLong);
    }
    let Some(rest) = text.strip_prefix('/') else {
        let socket: Option<SocketAddr> = text.parse().ok();
        return Err(socket.map_or(MultiaddrError::NotAnAddress, MultiaddrError::SocketAddress));
    };
    let mut parts = rest.split('/');
    let ip = match parts.next().unwrap_or_default() {
        "ip4" => unicast(IpAddr::V4(parse_ip("IPv4", parts.next())?))?,
        "ip6" => unicast(IpAddr::V6(parse_ip("IPv6", parts.next())?))?,
        "ip6zone" => return Err(MultiaddrError::LinkLocal),
        "dns" | "dns4" | "dns6" | "dnsaddr" => return Err(MultiaddrError::Name),
        "p2p" => return Ok((None, Some(parse_node(parts)?))),
        _ => return Err(MultiaddrError::NotAnAddress),
    };
    match parts.next() {
        Some("udp") => {}
        Some("tcp") => return Err(MultiaddrError::Tcp),
        _ => return Err(MultiaddrError::NoUdp),
    }
    let port = parts.next().unwrap_or_default();
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port: Option<u16> = port.parse().ok().filter(|port| is_number && *port >= least_port);
    let port = port.ok_or(MultiaddrError::Port { least: least_port })?;
    if parts.next() != Some("quic-v1") {
        return Err(MultiaddrError::NoQuic);
    }
    let address = Some(SocketAddr::new(ip, port));
    match parts.next() {
        None => Ok((address, None)),
        Some("p2p") => Ok((address, Some(parse_node(parts)?))),
        Some(found) => Err(MultiaddrError::Rest {
            behind: "quic-v1",
            found: found.into(),
        }),
    }
}

fn parse_ip<A: std::str::FromStr>(family: &'static str, part: Option<&str>) -> Result<A, MultiaddrError> {
    let found = part.unwrap_or_default();
    found.parse().map_err(|_no_address| MultiaddrError::Ip {
        family,
        found: found.into(),
    })
}

/// The peer id behind `/p2p/`, and that it is the end.
fn parse_node<'t>(mut parts: impl Iterator<Item = &'t str>) -> Result<NodeId, MultiaddrError> {
    let found = parts.next().unwrap_or_default();
    let node = peer_id::parse(found).map_err(|error| MultiaddrError::PeerId {
        found: found.into(),
        error,
    })?;
    match parts.next() {
        None => Ok(node),
        Some(found) => Err(MultiaddrError::Rest {
            behind: "the peer id",
            found: found.into(),
        }),
    }
}

fn unicast(ip: IpAddr) -> Result<IpAddr, MultiaddrError> {
    let kind = match ip {
        _ if ip.is_multicast() => "a multicast",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => return Err(MultiaddrError::LinkLocal),
        IpAddr::V6(v6) => return v6.to_ipv4_mapped().map_or(Ok(ip), |v4| Err(MultiaddrError::Mapped(v4))),
        IpAddr::V4(_) => return Ok(ip),
    };
    Err(MultiaddrError::NotUnicast { kind, ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq".to_owned()
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for (text, address) in [
            ("/ip4/192.0.2.2/udp/4853/quic-v1", "192.0.2.2:4853"),
            ("/ip6/2001:db8::1/udp/1/quic-v1", "[2001:db8::1]:1"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(parse_listen(text), Ok(address));
            assert_eq!(super::text(address), text);
            let line = format!("{text}/p2p/{}", id());
            let listed = parse_peer(&line).unwrap();
            assert_eq!(
                (listed.node, listed.address),
                (peer_id::parse(&id()).unwrap(), Some(address))
            );
        }
        assert_eq!(
            parse_listen("/ip4/0.0.0.0/udp/0/quic-v1"),
            Ok("0.0.0.0:0".parse().unwrap())
        );
        let alone = format!("/p2p/{}", id());
        assert_eq!(parse_peer(&alone).unwrap().address, None);
    }

    /// Texts of peers, `ID` standing for a good one, and what is wrong with them.
    const MISTAKES: [(&str, &str); 26] = [
        ("", "must be written like \"/ip4/192.0.2.2/udp/4853/quic-v1\""),
        ("/", "must be written like \"/ip4/192.0.2.2/udp/4853/quic-v1\""),
        (
            "192.0.2.2:4853",
            "must be written as \"/ip4/192.0.2.2/udp/4853/quic-v1\"",
        ),
        (
            "[2001:db8::1]:1",
            "must be written as \"/ip6/2001:db8::1/udp/1/quic-v1\"",
        ),
        ("host:4853", "must be written like \"/ip4/192.0.2.2/udp/4853/quic-v1\""),
        (
            "/dns4/node.example/udp/4853/quic-v1/p2p/ID",
            "must be an IP address: nodes must find each other while DNS fails, so a name is of no use here",
        ),
        (
            "/dnsaddr/node.example",
            "must be an IP address: nodes must find each other while DNS fails, so a name is of no use here",
        ),
        ("/ip4/192.0.2/udp/1/quic-v1/p2p/ID", "\"192.0.2\" is no IPv4 address"),
        (
            "/ip4/2001:db8::1/udp/1/quic-v1/p2p/ID",
            "\"2001:db8::1\" is no IPv4 address",
        ),
        (
            "/ip6/fe80::1%eth0/udp/1/quic-v1/p2p/ID",
            "\"fe80::1%eth0\" is no IPv6 address",
        ),
        (
            "/ip6/fe80::1/udp/1/quic-v1/p2p/ID",
            "a link-local address: this version (VERSION) needs one that is not",
        ),
        (
            "/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1/p2p/ID",
            "a link-local address: this version (VERSION) needs one that is not",
        ),
        ("/ip4/224.0.0.1/udp/1/quic-v1/p2p/ID", "a multicast address 224.0.0.1"),
        (
            "/ip4/255.255.255.255/udp/1/quic-v1/p2p/ID",
            "the broadcast address 255.255.255.255",
        ),
        (
            "/ip4/0.0.0.0/udp/1/quic-v1/p2p/ID",
            "cannot dial the unspecified address 0.0.0.0",
        ),
        (
            "/ip6/::ffff:192.0.2.1/udp/1/quic-v1/p2p/ID",
            "write the IPv4 address 192.0.2.1 as /ip4/192.0.2.1",
        ),
        (
            "/ip4/192.0.2.2/tcp/4853/p2p/ID",
            "this version (VERSION) cannot speak TCP between nodes: write /udp/PORT/quic-v1",
        ),
        ("/ip4/192.0.2.2", "behind the address must follow /udp/PORT/quic-v1"),
        (
            "/ip4/192.0.2.2/p2p/ID",
            "behind the address must follow /udp/PORT/quic-v1",
        ),
        (
            "/ip4/192.0.2.2/udp/0/quic-v1/p2p/ID",
            "the port must be a number from 1 to 65535",
        ),
        (
            "/ip4/192.0.2.2/udp/+1/quic-v1/p2p/ID",
            "the port must be a number from 1 to 65535",
        ),
        (
            "/ip4/192.0.2.2/udp/4853/quic/p2p/ID",
            "behind the port must follow /quic-v1",
        ),
        ("/ip4/192.0.2.2/udp/4853/p2p/ID", "behind the port must follow /quic-v1"),
        (
            "/ip4/192.0.2.2/udp/4853/quic-v1",
            "needs the peer's id at its end: /p2p/ID, which `detour id` prints there",
        ),
        (
            "/ip4/192.0.2.2/udp/4853/quic-v1/p2p/12D3KooW",
            "\"12D3KooW\" is no peer id of a node: `detour id` prints it there, 52 characters that begin with 12D3KooW",
        ),
        (
            "/p2p/ID/p2p-circuit",
            "nothing can follow behind the peer id, not \"p2p-circuit\"",
        ),
    ];

    #[test]
    fn every_mistake_has_its_own_message() {
        for (text, message) in MISTAKES {
            let error = parse_peer(&text.replace("ID", &id())).unwrap_err().to_string();
            assert_eq!(error, message.replace("VERSION", PROGRAM_VERSION), "{text}");
        }
        let listen = |text: &str| parse_listen(&text.replace("ID", &id())).unwrap_err();
        assert_eq!(
            listen("/ip4/0.0.0.0/udp/1/quic-v1/p2p/ID"),
            MultiaddrError::ListenPeerId
        );
        assert_eq!(listen("/p2p/ID"), MultiaddrError::ListenPeerId);
        assert_eq!(listen("/ip4/0.0.0.0/udp/x/quic-v1"), MultiaddrError::Port { least: 0 });
        assert!(matches!(
            listen("/ip4/0.0.0.0/udp/1/quic-v1/webtransport"),
            MultiaddrError::Rest { .. }
        ));
        assert_eq!(listen(&"/".repeat(BYTES_MAX + 1)), MultiaddrError::TooLong);
    }
}
