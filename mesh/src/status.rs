//! How the mesh of this node is, for people: one value, replaced as a whole.

use std::net::SocketAddr;

use detour_core::mesh::PeerView;
use detour_core::report::{BootId, Edition, NodeId};
use detour_core::time::Time;

/// Everything there is to say of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshStatus {
    /// Whether it works.
    pub condition: Condition,
    /// Since when.
    pub since: Time,
    /// What is wrong, one sentence each, for people; also what is wrong but does not stop it.
    pub complaints: Vec<String>,
    /// This node.
    pub node: NodeId,
    /// As people write it.
    pub peer_id: String,
    /// This life of it; every start of the mesh is another.
    pub boot: BootId,
    /// The own newest snapshot.
    pub edition: Option<Edition>,
    /// Where it listens, as configured.
    pub listen: Vec<ListenStatus>,
    /// The members, in the order of the configuration, then strangers that were turned away lately.
    pub peers: Vec<PeerStatus>,
    /// How often the mesh failed and was started again.
    pub restarts: u64,
}

/// Whether the mesh works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It has not begun.
    Starting,
    /// It works.
    Up,
    /// It listens nowhere, though it should (a port is taken): peers are dialled, but none can dial this node. Tried
    /// again every 30 s.
    Deaf,
    /// It failed and will be started again.
    Failed,
    /// It has stopped, as told.
    Stopped,
}

impl Condition {
    /// The word for log and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Deaf => "deaf",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// One address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenStatus {
    /// As configured.
    pub address: String,
    /// What became of it: the addresses with their true port, those of all interfaces for a wildcard.
    pub bound: Vec<String>,
    /// Why it is not listened at.
    pub error: Option<String>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// What the core knows.
    pub view: PeerView,
    /// As people write it.
    pub peer_id: String,
    /// Where the configuration says it can be dialled.
    pub addresses: Vec<String>,
    /// Where its connections come from or go to.
    pub connected: Vec<SocketAddr>,
    /// What went wrong last; kept until something works.
    pub last_error: Option<PeerError>,
    /// The line that is missing in a configuration, if one is.
    pub line: Option<MissingLine>,
}

/// What went wrong with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerError {
    /// When.
    pub at: Time,
    /// For people.
    pub text: String,
}

/// An entry of `mesh.peers` that would make two nodes peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingLine {
    /// Here, if the operator wants this peer.
    Here(String),
    /// At the peer's.
    There(String),
}

impl MeshStatus {
    /// The first status of a node.
    #[must_use]
    pub fn starting(node: NodeId, peer_id: String, now: Time) -> Self {
        Self {
            condition: Condition::Starting,
            since: now,
            complaints: Vec::new(),
            node,
            peer_id,
            boot: BootId(0),
            edition: None,
            listen: Vec::new(),
            peers: Vec::new(),
            restarts: 0,
        }
    }
}
