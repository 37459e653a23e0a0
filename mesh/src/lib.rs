//! Peers in, peers out: the nodes of a cluster over libp2p.
//!
//! The shell around [`detour_core::mesh::Cluster`]: a swarm over QUIC, a thread and a runtime of its own, files for
//! identity and incarnation. It maps what libp2p tells to inputs of the core and the core's outputs to libp2p, and
//! decides nothing but how much it looks at. It never sees a query, and whatever happens to it, DNS goes on.

mod address;
mod config;
mod driver;
mod executor;
mod files;
mod frames;
mod gate;
mod gossip;
mod identity;
mod incarnation;
mod life;
mod metrics;
mod news;
mod pinned;
mod stages;
mod status;
mod swarm;
#[cfg(test)]
mod tests;

pub use address::{AddressError, ListenAddress, PeerAddress, peer_line};
pub use config::{Member, MeshConfig, News};
pub use driver::explain;
pub use identity::{IDENTITY_FILE, Identity, IdentityError, name_of};
pub use life::{Handle, start};
pub use metrics::{Metrics, state_word};
pub use stages::{Stage, StageError, Tester, try_peer};
pub use status::{Condition, ListenStatus, MeshStatus, MissingLine, PeerError, PeerStatus};
