//! `[mesh]`: which cluster this node is of, where it listens for its peers, who they are, and what they may do here.
//!
//! Without the section there is no mesh: no thread, no socket, no identity. One list of peers can be the same for all
//! nodes of a cluster: a node passes over its own id.

use std::net::SocketAddr;

use detour_core::control::claims::Influence;
use detour_core::mesh::NODES_MAX;
use detour_resolver::wire::Via;

use super::multiaddr::{Listed, MultiaddrError, parse_listen, parse_peer};
use super::problem::{Place, Problems, quoted};
use super::reader::{Item, Reader};
use super::spec::{Required, Spec};
use super::{DEFAULT_MESH_LISTEN, MeshConfig, PROGRAM_VERSION, PeerConfig};
use crate::peer_id;

pub(super) const MESH_KEYS: &[&str] = &["cluster", "operator", "site", "listen", "peers", "influence"];

/// Keys of the design that are not built yet, and what to do without them.
const LATER_KEYS: &[(&str, &str)] = &[("foreign", "foreign operators")];

/// Most addresses to listen on; each takes a socket.
const LISTEN_MAX: usize = 8;

/// Most addresses of one peer: each is dialled in turn.
pub(super) const ADDRESSES_OF_PEER_MAX: usize = 8;

/// Most lines of `peers`.
const PEER_LINES_MAX: usize = NODES_MAX * ADDRESSES_OF_PEER_MAX;

/// Where all nodes are unless told: behind one uplink.
const DEFAULT_SITE: &str = "default";

/// The section as it was written.
pub(super) struct MeshSpec {
    pub(super) place: Place,
    cluster: Required<String>,
    operator: Option<String>,
    site: Option<String>,
    listen: Vec<SocketAddr>,
    /// Of `listen`, in its order; empty when that is the default.
    listen_places: Vec<Place>,
    peers: Vec<(Place, Listed)>,
    influence: Influence,
}

pub(super) fn read(reader: &mut Reader, item: &Item<'_>) -> Option<MeshSpec> {
    let later: Vec<&str> = LATER_KEYS.iter().map(|(key, _)| *key).collect();
    let table = reader.table_with_later(item, MESH_KEYS, &later)?;
    for (key, what) in LATER_KEYS {
        if let Some(item) = reader.item(&table, key) {
            let message = format!(
                "{what} come with a later version; this one ({PROGRAM_VERSION}) knows peers, all of one operator"
            );
            reader.wrong::<()>(&item, message);
        }
    }
    let mut spec = MeshSpec {
        place: item.place.clone(),
        cluster: Required::Absent,
        operator: None,
        site: None,
        listen: DEFAULT_MESH_LISTEN.to_vec(),
        listen_places: Vec::new(),
        peers: Vec::new(),
        influence: Influence::default(),
    };
    if let Some(item) = reader.item(&table, "cluster") {
        spec.cluster = reader.name(&item).map_or(Required::Wrong, Required::Present);
    }
    reader.set(&table, "operator", &mut spec.operator, |r, item| r.name(item).map(Some));
    reader.set(&table, "site", &mut spec.site, |r, item| r.name(item).map(Some));
    if let Some(item) = reader.item(&table, "listen")
        && let Some(elements) = reader.elements(&item, "addresses", LISTEN_MAX)
    {
        let read = |element: Item<'_>| {
            let address = reader.parsed(&element, parse_listen)?;
            Some((element.place, address))
        };
        (spec.listen_places, spec.listen) = elements.into_iter().filter_map(read).unzip();
    }
    if let Some(item) = reader.item(&table, "peers")
        && let Some(elements) = reader.elements_or_none(&item, "peers", PEER_LINES_MAX)
    {
        spec.peers = elements.into_iter().filter_map(|e| read_peer(reader, e)).collect();
    }
    let influences = [
        ("full", Influence::Full),
        ("hint", Influence::Hint),
        ("none", Influence::None),
    ];
    reader.set(&table, "influence", &mut spec.influence, |r, item| {
        r.choice(item, &influences)
    });
    Some(spec)
}

fn read_peer(reader: &mut Reader, element: Item<'_>) -> Option<(Place, Listed)> {
    let listed = reader.parsed(&element, |text| {
        parse_peer(text).map_err(|error| {
            if let MultiaddrError::SocketAddress(address) = error {
                let address = super::multiaddr_text(address);
                return format!("must be written as \"{address}/p2p/ID\"");
            }
            error.to_string()
        })
    })?;
    Some((element.place, listed))
}

/// What no single value can tell. Builds the section.
pub(super) fn check(problems: &mut Problems, spec: &Spec) -> Option<MeshConfig> {
    let mesh = spec.mesh.as_ref()?;
    if matches!(mesh.cluster, Required::Absent) {
        let place = mesh.place.child("cluster", mesh.place.line);
        problems.add(
            &place,
            "missing: the nodes of a cluster all name it, such as cluster = \"office\"",
        );
    }
    listen(problems, mesh, spec);
    let peers = peers(problems, &mesh.peers);
    let cluster = mesh.cluster.present()?;
    Some(MeshConfig {
        operator: mesh.operator.clone().unwrap_or_else(|| cluster.clone()),
        cluster: cluster.clone(),
        site: mesh.site.clone().unwrap_or_else(|| DEFAULT_SITE.to_owned()),
        listen: mesh.listen.clone(),
        peers,
        influence: mesh.influence,
    })
}

/// No socket twice.
fn listen(problems: &mut Problems, mesh: &MeshSpec, spec: &Spec) {
    let quic = spec.encrypted.places.iter();
    let quic =
        quic.filter_map(|(_, via, address)| matches!(via, Via::H3 | Via::Quic).then_some((via.word(), *address)));
    let dns = spec.listen.dns.iter().map(|address| ("dns", *address));
    let taken: Vec<_> = dns.chain(quic).collect();
    for (index, (place, address)) in mesh.listen_places.iter().zip(&mesh.listen).enumerate() {
        if address.port() == 0 {
            continue;
        }
        if mesh.listen.iter().take(index).any(|earlier| earlier == address) {
            let text = super::multiaddr_text(*address);
            problems.add(place, format!("{text} is listed twice"));
        }
        if let Some((key, own)) = taken.iter().find(|(_, own)| takes_port_of(*own, *address)) {
            let message = format!("UDP port {} is taken by {own} of listen.{key}", address.port());
            problems.add(place, message);
        }
    }
}

/// Whether both cannot be bound.
fn takes_port_of(one: SocketAddr, other: SocketAddr) -> bool {
    let is_wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_same_family = one.is_ipv4() == other.is_ipv4();
    one.port() == other.port() && is_same_family && (is_wildcard || one.ip() == other.ip())
}

/// One entry a peer, its addresses in the order of the file.
fn peers(problems: &mut Problems, listed: &[(Place, Listed)]) -> Vec<PeerConfig> {
    let mut peers: Vec<PeerConfig> = Vec::new();
    for (index, (place, peer)) in listed.iter().enumerate() {
        let earlier = listed.iter().take(index);
        if let Some((other, known)) = earlier
            .clone()
            .find(|(_, known)| known == peer || (known.address.is_some() && known.address == peer.address))
        {
            let (key, line) = (&other.key, other.line);
            let message = if known.node == peer.node {
                format!("{key} (line {line}) says the same")
            } else {
                format!(
                    "{} has this address in {key} (line {line}): one of them is not there any more",
                    quoted(&peer_id::text(known.node))
                )
            };
            problems.add(place, message);
            continue;
        }
        let at = peers
            .iter()
            .position(|known| known.node == peer.node)
            .unwrap_or_else(|| {
                peers.push(PeerConfig {
                    node: peer.node,
                    addresses: Vec::new(),
                });
                peers.len() - 1
            });
        let Some(known) = peers.get_mut(at) else { continue };
        if known.addresses.len() >= ADDRESSES_OF_PEER_MAX && peer.address.is_some() {
            let message = format!("a peer has {ADDRESSES_OF_PEER_MAX} addresses at most");
            problems.add(place, message);
            continue;
        }
        known.addresses.extend(peer.address);
    }
    if peers.len() > NODES_MAX
        && let Some((place, _)) = listed.first()
    {
        let place = Place {
            key: "mesh.peers".to_owned(),
            line: place.line,
        };
        let message = format!("{} peers: a cluster has {NODES_MAX} nodes at most", peers.len());
        problems.add(&place, message);
    }
    peers
}
