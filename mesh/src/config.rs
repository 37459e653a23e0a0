//! What the mesh of a node is made of, and what it says and hears.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use detour_core::Clock;
use detour_core::report::{Circle, ClusterKey, NodeId, PeerReport, SiteKey};

use crate::address::{ListenAddress, PeerAddress};
use crate::identity::Identity;

/// Everything that does not change while the process lives.
#[derive(Clone)]
pub struct MeshConfig {
    /// Who this node is.
    pub identity: Identity,
    /// Where the incarnation is kept; `None`: nowhere, and each start must do with the wall clock.
    pub state_directory: Option<PathBuf>,
    /// The cluster's key.
    pub cluster: ClusterKey,
    /// Where this node stands.
    pub site: SiteKey,
    /// Where it listens; nowhere: it only dials.
    pub listen: Vec<ListenAddress>,
    /// Name and version of this software, at most 32 bytes of printable ASCII.
    pub software: String,
    /// The boot-time clock.
    pub clock: Arc<dyn Clock>,
    /// The wall clock, milliseconds since 1970: what peers are told, and what theirs is compared with.
    pub wall_ms: fn() -> u64,
}

impl fmt::Debug for MeshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, listen, .. } = self;
        f.debug_struct("MeshConfig")
            .field("identity", identity)
            .field("listen", listen)
            .finish_non_exhaustive()
    }
}

/// A node that the configuration admits. At most [`detour_core::mesh::NODES_MAX`] of them count, the first ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Whose.
    pub circle: Circle,
    /// Where it can be dialled, at most 255; nowhere: it dials us.
    pub addresses: Vec<PeerAddress>,
}

impl Member {
    /// Members from addresses, in their order; addresses of one node become one member's.
    #[must_use]
    pub fn of(addresses: &[PeerAddress], circle: Circle) -> Vec<Self> {
        let mut members: Vec<Self> = Vec::new();
        for address in addresses {
            match members.iter_mut().find(|member| member.node == address.node()) {
                Some(member) => member.addresses.push(*address),
                None => members.push(Self {
                    node: address.node(),
                    circle,
                    addresses: vec![*address],
                }),
            }
        }
        members
    }
}

/// What the control plane must hear of a peer. The newest of a node replaces what came before; of a node from which
/// more comes than is taken, only the newest is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It says this.
    Report(PeerReport),
    /// What it said counts no more.
    Forget(NodeId),
}

impl News {
    /// Of whom.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Report(report) => report.node,
            Self::Forget(node) => *node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_node_are_one_members() {
        let ids: Vec<_> = (0..2).map(|_| Identity::generate().unwrap().peer_id()).collect();
        let address =
            |ip: &str, id: &str| -> PeerAddress { format!("/ip4/{ip}/udp/1/quic-v1/p2p/{id}").parse().unwrap() };
        let list = [
            address("10.0.0.1", &ids[0]),
            address("10.0.0.2", &ids[1]),
            address("10.0.0.3", &ids[0]),
        ];
        let members = Member::of(&list, Circle::Own);
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].addresses, [list[0], list[2]]);
        assert_eq!(members[1].addresses, [list[1]]);
    }
}
