//! Addresses of the mesh: IP, UDP, QUIC, and whose.
//!
//! Never host names: the mesh exists to survive the failure of DNS, so it must not depend on it, and the resolver it
//! would ask may be this node.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use detour_core::report::NodeId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::identity::{name_of, node_of};

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a multiaddr.
    #[error("not a multiaddr; one looks like /ip4/10.0.0.2/udp/4853/quic-v1/p2p/12D3Koo…")]
    NotMultiaddr,
    /// A host name.
    #[error("host names are not possible here, the mesh must work when DNS does not: write /ip4/… or /ip6/…")]
    HostName,
    /// Something other than QUIC over UDP on an IP address.
    #[error("must be /ip4/ADDRESS/udp/PORT/quic-v1 or /ip6/ADDRESS/udp/PORT/quic-v1")]
    NotQuic,
    /// Nobody can be reached there.
    #[error("nobody can be reached at this address or port")]
    Unreachable,
    /// No peer id at the end.
    #[error("must end in /p2p/ and the peer's id, which `detour id` prints there")]
    NoPeerId,
    /// A peer id of another kind of key.
    #[error("not the id of an Ed25519 key (12D3Koo…), which every node has")]
    NotEd25519,
    /// A peer id where none belongs.
    #[error("an address to listen at has no /p2p/ part")]
    PeerId,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenAddress(SocketAddr);

/// Where a peer can be dialled, and who it must prove to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress {
    socket: SocketAddr,
    peer: PeerId,
    node: NodeId,
}

impl ListenAddress {
    /// Its IP address and UDP port; port 0 lets the system choose.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.0
    }

    pub(crate) fn multiaddr(self) -> Multiaddr {
        multiaddr(self.0)
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(socket: SocketAddr) -> Self {
        Self(socket)
    }
}

impl PeerAddress {
    /// Whose.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its IP address and UDP port.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn multiaddr(&self) -> Multiaddr {
        multiaddr(self.socket)
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (socket, peer) = parse(text)?;
        match peer {
            None => Ok(Self(socket)),
            Some(_) => Err(AddressError::PeerId),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (socket, peer) = parse(text)?;
        let peer = peer.ok_or(AddressError::NoPeerId)?;
        let node = node_of(&peer).ok_or(AddressError::NotEd25519)?;
        if socket.port() == 0 || socket.ip().is_unspecified() || socket.ip().is_multicast() {
            return Err(AddressError::Unreachable);
        }
        Ok(Self { socket, peer, node })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.multiaddr().fmt(f)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&peer_line(self.socket.ip(), self.socket.port(), self.node))
    }
}

/// What stands in `mesh.peers` for this node: what a refusal tells to add.
#[must_use]
pub fn peer_line(ip: IpAddr, port: u16, node: NodeId) -> String {
    format!("{}/p2p/{}", multiaddr(SocketAddr::new(ip, port)), name_of(node))
}

/// The IP address and UDP port of a connection's end.
pub(crate) fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    split(address).ok().map(|(socket, _)| socket)
}

/// As libp2p writes it. Addresses of IPv4 in IPv6's clothes are undressed, so that both ends call it the same.
fn multiaddr(socket: SocketAddr) -> Multiaddr {
    let ip = match socket.ip().to_canonical() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    Multiaddr::empty()
        .with(ip)
        .with(Protocol::Udp(socket.port()))
        .with(Protocol::QuicV1)
}

fn parse(text: &str) -> Result<(SocketAddr, Option<PeerId>), AddressError> {
    let address: Multiaddr = text
        .parse()
        .map_err(|_unsaid: libp2p::multiaddr::Error| AddressError::NotMultiaddr)?;
    split(&address)
}

fn split(address: &Multiaddr) -> Result<(SocketAddr, Option<PeerId>), AddressError> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
            return Err(AddressError::HostName);
        }
        Some(_) | None => return Err(AddressError::NotQuic),
    };
    let (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) = (parts.next(), parts.next()) else {
        return Err(AddressError::NotQuic);
    };
    let socket = SocketAddr::new(ip, port);
    match (parts.next(), parts.next()) {
        (None, None) => Ok((socket, None)),
        (Some(Protocol::P2p(peer)), None) => Ok((socket, Some(peer))),
        (Some(_), _) | (None, Some(_)) => Err(AddressError::NotQuic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_peers_address_is_read_and_written_alike() {
        let identity = Identity::generate().unwrap();
        for start in ["/ip4/10.0.0.2/udp/4853/quic-v1", "/ip6/2001:db8::1/udp/1/quic-v1"] {
            let text = format!("{start}/p2p/{}", identity.peer_id());
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.node(), identity.node());
            assert_eq!(address.to_string(), text);
            assert_eq!(address.multiaddr().to_string(), start);
            assert_eq!(start.parse::<PeerAddress>(), Err(AddressError::NoPeerId));
            assert_eq!(text.parse::<ListenAddress>(), Err(AddressError::PeerId));
            let listen: ListenAddress = start.parse().unwrap();
            assert_eq!(listen.to_string(), start);
            assert_eq!(socket_of(&listen.multiaddr()), Some(listen.socket()));
        }
    }

    #[test]
    fn what_cannot_be_dialled_says_why() {
        use AddressError as E;
        let id = Identity::generate().unwrap().peer_id();
        // The id of an RSA key.
        let rsa = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        for (text, error) in [
            ("10.0.0.2:4853".to_owned(), E::NotMultiaddr),
            (format!("/dns4/example.net/udp/4853/quic-v1/p2p/{id}"), E::HostName),
            (format!("/ip4/10.0.0.2/tcp/4853/p2p/{id}"), E::NotQuic),
            (format!("/ip4/10.0.0.2/udp/4853/quic/p2p/{id}"), E::NotQuic),
            (
                format!("/ip4/10.0.0.2/udp/4853/quic-v1/p2p/{id}/p2p-circuit"),
                E::NotQuic,
            ),
            (format!("/ip4/10.0.0.2/udp/0/quic-v1/p2p/{id}"), E::Unreachable),
            (format!("/ip4/0.0.0.0/udp/4853/quic-v1/p2p/{id}"), E::Unreachable),
            (format!("/ip4/10.0.0.2/udp/4853/quic-v1/p2p/{rsa}"), E::NotEd25519),
        ] {
            assert_eq!(text.parse::<PeerAddress>(), Err(error), "{text}");
        }
    }
}
