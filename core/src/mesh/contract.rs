//! What the shell and the mesh machine say to each other: settings, inputs' and outputs' words, views.

use std::sync::Arc;

use crate::report::{BootId, Circle, ClusterKey, Edition, NodeId, PeerReport, SiteKey, Snapshot};
use crate::time::Time;

/// The protocol versions this build speaks, lowest and highest.
pub const VERSIONS: (u8, u8) = (1, 1);
/// Nodes whose snapshots are held, this one included.
pub const NODES_MAX: usize = 512;
/// Connections that one admitted peer may have at once: both sides dial, and a ghost may linger for its idle timeout.
pub const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// A connection, numbered by the shell; never used again in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A node that the configuration admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Whose.
    pub circle: Circle,
    /// How many addresses it can be dialled at; the shell knows them by index. None: it dials us.
    pub addresses: u8,
}

/// What the mesh of a node is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub own: NodeId,
    /// This process.
    pub boot: BootId,
    /// Its cluster.
    pub cluster: ClusterKey,
    /// Where it stands.
    pub site: SiteKey,
    /// Who is admitted; at most [`NODES_MAX`].
    pub members: Vec<Member>,
    /// The incarnation on disk, 0 if there is none: this process takes a higher one.
    pub stored_incarnation: u64,
    /// Milliseconds since 1970 at the start, so that a lost file leads to a higher incarnation all the same.
    pub wall_ms: u64,
    /// Name and version of this software, at most 32 bytes.
    pub software: String,
    /// Seed of jitter and of whom to pull from.
    pub seed: u64,
}

/// The first thing both sides of a connection say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Whose cluster.
    pub cluster: ClusterKey,
    /// Protocol versions, lowest and highest.
    pub versions: (u8, u8),
    /// Which life.
    pub boot: BootId,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// Where it stands.
    pub site: SiteKey,
    /// The port it can be dialled at over UDP, 0 if none; for the line that a refusal shows.
    pub port: u16,
    /// At most 32 bytes of printable ASCII.
    pub software: String,
    /// The newest snapshot of the addressee that the speaker holds: after a lost disk the addressee must go on above it.
    pub yours: Option<(Edition, BootId)>,
}

/// Why a node is turned away. It is told this reason, and both sides show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Not in the list of peers.
    UnknownNode,
    /// Another cluster's.
    OtherCluster,
    /// No protocol version in common.
    NoCommonVersion,
    /// Asked for something before its hello was taken.
    NoHello,
    /// Under the own key of the node it speaks to.
    OwnKey,
    /// Too much at once.
    TooMuch,
    /// A kind or version of message that this build does not know.
    Unsupported,
    /// Bytes that are no message.
    Malformed,
    /// A reason of a later version that this build does not know; told, never given.
    Other,
}

impl Refusal {
    /// The word for wire documents, log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownNode => "unknown-node",
            Self::OtherCluster => "other-cluster",
            Self::NoCommonVersion => "no-common-version",
            Self::NoHello => "no-hello",
            Self::OwnKey => "own-key",
            Self::TooMuch => "too-much",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

/// One exchange of clocks with a peer: it said `wall_ms` somewhere between our sending and receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// When the request was written.
    pub sent: Time,
    /// When its answer came.
    pub received: Time,
    /// What the peer's wall clock said, milliseconds since 1970.
    pub wall_ms: u64,
}

/// A snapshot with its bytes as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What it says.
    pub snapshot: Arc<Snapshot>,
    /// The signed bytes, signature included.
    pub bytes: Arc<[u8]>,
}

/// How a snapshot came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Pushed by this peer.
    Push(NodeId),
    /// In this peer's answer to our pull.
    Pull(NodeId),
    /// Gossip, forwarded by this peer.
    Gossip(NodeId),
}

/// What became of a snapshot that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It is that node's newest.
    Newest,
    /// Known already, to the byte.
    Known,
}

/// Why a snapshot was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectedSnapshot {
    /// Of a node that is not admitted.
    UnknownNode,
    /// Older than the one held.
    Older,
    /// Issued too long ago to count, or in the future.
    Stale,
    /// Of this node itself.
    Own,
    /// Same boot, same edition, other bytes: its key signs two truths. Nothing of this node counts any more.
    Equivocation,
    /// Of a node that was found to equivocate.
    Quarantined,
    /// More from this peer than the bucket allows.
    TooMuch,
    /// The peer that brought it has not said hello.
    NoHello,
}

/// One line of a digest: the newest edition of a node that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DigestLine {
    /// The first eight bytes of the node's key.
    pub node: [u8; 8],
    /// Which snapshot of it.
    pub edition: Edition,
}

/// A snapshot on its way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The signed bytes.
    pub bytes: Arc<[u8]>,
    /// How long ago it was issued as the sender reckons, milliseconds; for receivers that never met the signer.
    pub age_ms: u32,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this incarnation to disk (write, sync, rename), then call [`super::Cluster::handle_incarnation_stored`]. Nothing is
    /// published before. A disk that fails: call it all the same, and say so.
    StoreIncarnation(u64),
    /// Dial a member at its address of this index.
    Dial {
        /// Whom.
        node: NodeId,
        /// Where.
        address: u8,
    },
    /// Say hello on this connection.
    SendHello {
        /// Where.
        connection: ConnectionId,
        /// To whom.
        node: NodeId,
        /// What; the shell fills in wall clock and port.
        hello: Hello,
    },
    /// From here on connections of this node get every protocol, not hello only; its hello-only connections are closed
    /// with [`Output::Close`] and dialled anew.
    Admit(NodeId),
    /// No longer.
    Expel(NodeId),
    /// Close a connection.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: CloseWhy,
    },
    /// Sign this snapshot (the shell fills in the wall clock) and hand it back by [`super::Cluster::handle_signed`].
    Sign(Box<Snapshot>),
    /// Send these snapshots to a peer.
    Push {
        /// Whom.
        to: NodeId,
        /// What.
        snapshots: Vec<Passed>,
    },
    /// Ask a peer for what is newer than this.
    Pull {
        /// Whom.
        from: NodeId,
        /// What is held.
        digest: Vec<DigestLine>,
    },
    /// Publish these bytes by gossip.
    Gossip(Arc<[u8]>),
    /// A peer says this of endpoints.
    Report(PeerReport),
    /// What this peer said counts no more: it left, was expelled, or equivocates.
    Forget(NodeId),
    /// Something an operator cares about.
    Event(Event),
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseWhy {
    /// Admitted: it is dialled anew with all protocols.
    Admitted,
    /// Turned away.
    Refused(Refusal),
    /// It turned us away.
    RefusedByPeer(Refusal),
    /// No hello within its time.
    HelloLate,
    /// The peer began another life: gossip must meet it anew (rust-libp2p issue 5097).
    NewBoot,
    /// More connections than a peer may have.
    TooMany,
    /// The node stops.
    Stopping,
}

/// What an operator cares about; log line, metric, API and test read this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer is admitted and connected.
    PeerUp(NodeId),
    /// Its last connection is gone.
    PeerDown(NodeId),
    /// We turned this node away.
    Refused(NodeId, Refusal),
    /// This node turned us away.
    RefusedByPeer(NodeId, Refusal),
    /// A peer began another life.
    PeerRebooted(NodeId),
    /// Another process signs under this node's key: the higher incarnation wins.
    DuplicateInstance {
        /// Whether it is this process that is silent from here on.
        own_is_lower: bool,
    },
    /// A node signed two truths under one edition.
    Equivocation(NodeId),
    /// The wall clocks of this peer and of this node differ by more than 2 s, or no longer do.
    ClockOff {
        /// Whose.
        node: NodeId,
        /// Its clock minus ours, milliseconds.
        offset_ms: i64,
    },
}

/// How a peer stands; for `/api/v1/peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Waiting for the next dial.
    Waiting,
    /// Being dialled.
    Dialling,
    /// Connected, no hello yet.
    Greeting,
    /// Admitted and connected.
    Connected,
    /// It, or we, said no.
    Refused,
    /// Nothing of it counts any more.
    Quarantined,
}

/// A peer as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub node: NodeId,
    /// Whose.
    pub circle: Circle,
    /// How it stands.
    pub state: PeerState,
    /// Since when.
    pub since: Time,
    /// Why it, or we, said no last; until it is admitted.
    pub refusal: Option<(Refusal, RefusedBy)>,
    /// When it is dialled next.
    pub next_dial: Option<Time>,
    /// Dials that failed since the last connection.
    pub failed_dials: u32,
    /// Its life.
    pub boot: Option<BootId>,
    /// Its newest snapshot.
    pub edition: Option<Edition>,
    /// When that was issued, by our clock.
    pub issued: Option<Time>,
    /// Until when it counts.
    pub fresh_until: Option<Time>,
    /// Its wall clock minus ours, milliseconds; for people.
    pub clock_offset_ms: Option<i64>,
    /// Shortest round trip lately, microseconds.
    pub rtt_us: Option<u64>,
    /// Name and version of its software.
    pub software: Option<String>,
    /// Where it stands.
    pub site: Option<SiteKey>,
}

/// Who said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedBy {
    /// This node.
    Us,
    /// The peer.
    Peer,
}
