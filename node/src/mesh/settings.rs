//! From the configuration to what control plane and mesh are told of peers. Decides nothing.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use detour_core::control::claims::MeshSettings;
use detour_core::report::{Circle, EndpointKey, NodeId, SiteKey};
use detour_mesh::{ListenAddress, Member, PeerAddress};
use detour_wire::keys;
use nix::libc::EAFNOSUPPORT;

use crate::config::{Config, EndpointConfig, MeshConfig, Where, multiaddr_text};
use crate::peer_id;

/// `[mesh]` and what follows from it and the providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    /// The section.
    pub(crate) config: MeshConfig,
    /// This node's site as peers are told.
    pub(crate) site: SiteKey,
    /// The endpoints' strings, by what they are called on the wire.
    pub(crate) names: BTreeMap<EndpointKey, String>,
}

impl Setup {
    /// That of a configuration; `None` without `[mesh]`.
    #[must_use]
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let mesh = config.mesh.clone()?;
        let public = config.providers.iter().filter(|provider| provider.is_public);
        let endpoints = public.flat_map(|provider| &provider.endpoints);
        Some(Self {
            site: keys::site(&mesh.cluster, &mesh.site),
            names: endpoints
                .map(|endpoint| (key(&mesh.cluster, endpoint), endpoint.label.clone()))
                .collect(),
            config: mesh,
        })
    }
}

/// Name and version of this program, as peers are told.
#[must_use]
pub(crate) fn software() -> String {
    format!("detour {}", env!("CARGO_PKG_VERSION"))
}

/// What the control plane must know to understand peers; the default without `[mesh]`.
#[must_use]
pub(crate) fn of_control(config: &Config) -> MeshSettings {
    let Some(mesh) = &config.mesh else {
        return MeshSettings::default();
    };
    let endpoints = config.providers.iter().flat_map(|provider| &provider.endpoints);
    MeshSettings {
        influence: mesh.influence,
        // Those that only routes name stand here for their place in the list: the control plane uses none of their keys.
        keys: endpoints.map(|endpoint| key(&mesh.cluster, endpoint)).collect(),
        site: Some(keys::site(&mesh.cluster, &mesh.site)),
    }
}

/// The same for an endpoint however it is written.
fn key(cluster: &str, endpoint: &EndpointConfig) -> EndpointKey {
    let path = endpoint.path.as_deref().unwrap_or_default();
    let url = match &endpoint.at {
        Where::Address(address) => keys::canonical_url(endpoint.transport, *address, path),
        Where::Name(at) => keys::canonical_name_url(endpoint.transport, &at.host, at.port, at.family, path),
    };
    keys::endpoint(cluster, &url)
}

/// Who is admitted: all that are listed but this node itself.
#[must_use]
pub(super) fn members(mesh: &MeshConfig, own: NodeId) -> Vec<Member> {
    let others = mesh.peers.iter().filter(|peer| peer.node != own);
    let members = others.map(|peer| {
        let addresses = peer
            .addresses
            .iter()
            .filter_map(|address| peer_address(peer.node, *address));
        Member {
            node: peer.node,
            circle: Circle::Own,
            addresses: addresses.collect(),
        }
    });
    members.collect()
}

/// As the mesh has it; what the configuration took is one.
fn peer_address(node: NodeId, address: SocketAddr) -> Option<PeerAddress> {
    format!("{}/p2p/{}", multiaddr_text(address), peer_id::text(node))
        .parse()
        .ok()
}

/// Where the mesh listens: what this machine has no address family for is left out.
#[must_use]
pub(super) fn listen(mesh: &MeshConfig) -> Vec<ListenAddress> {
    let here = mesh.listen.iter().filter(|address| has_family(**address));
    here.map(|address| ListenAddress::from(*address)).collect()
}

/// Whether this machine knows the family of this address.
fn has_family(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)
        .err()
        .is_none_or(|error| error.raw_os_error() != Some(EAFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(endpoints: &str, mesh: &str) -> Config {
        let text = format!("version = 1\n[[provider]]\nname = \"a\"\nendpoints = [{endpoints}]\n{mesh}");
        Config::parse(&text, Path::new("x.toml")).unwrap()
    }

    #[test]
    fn an_endpoint_has_one_key_however_it_is_written() {
        let mesh = "[mesh]\ncluster = \"c\"\n";
        let keys = |endpoints: &str| of_control(&parse(endpoints, mesh)).keys;
        let one = keys("\"https://9.9.9.9\", \"udp://[2001:db8::1]\", \"tls://9.9.9.9#a.example\", \"tcp://9.9.9.9\"");
        let other = keys(
            "{ url = \"https://9.9.9.9:443/dns-query#dns.example\", max-qps = 7 }, \"udp://[2001:DB8:0::1]:53\", \
             \"tls://9.9.9.9:853\", \"tcp://9.9.9.9:54\"",
        );
        assert_eq!(one[..3], other[..3]);
        assert_ne!(one[3], other[3]);
        let elsewhere = of_control(&parse("\"https://9.9.9.9\"", "[mesh]\ncluster = \"d\"\n")).keys;
        assert_ne!(elsewhere[0], one[0]);
        assert_eq!(of_control(&parse("\"https://9.9.9.9\"", "")), MeshSettings::default());
    }

    #[test]
    fn a_node_passes_over_itself() {
        let [own, other] = [
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
            "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
        ];
        let peers =
            format!("\"/ip4/192.0.2.1/udp/1/quic-v1/p2p/{own}\", \"/ip6/2001:db8::2/udp/1/quic-v1/p2p/{other}\"");
        let config = parse(
            "\"udp://9.9.9.9\"",
            &format!("[mesh]\ncluster = \"c\"\npeers = [{peers}]\n"),
        );
        let members = members(config.mesh.as_ref().unwrap(), peer_id::parse(own).unwrap());
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].node, peer_id::parse(other).unwrap());
        assert_eq!(members[0].addresses[0].socket(), "[2001:db8::2]:1".parse().unwrap());
    }

    #[test]
    fn where_a_family_is_here_it_is_listened_at() {
        let config = parse(
            "\"udp://9.9.9.9\"",
            "[mesh]\ncluster = \"c\"\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\n",
        );
        assert_eq!(listen(config.mesh.as_ref().unwrap()).len(), 1);
    }
}
