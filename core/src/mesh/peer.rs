//! What is kept of a node we know, and of a connection.

use crate::report::{BootId, Edition, NodeId, SiteKey};
use crate::time::{SEC, Time};

use super::bucket::{Bucket, Rate};
use super::clocks::PeerClock;
use super::contract::{CloseWhy, ConnectionId, Member, PeerState, Refusal, RefusedBy};
use super::dial::Dial;
use super::snapshots::Held;

/// Hellos and pulls of one peer.
const REQUESTS: Rate = Rate {
    per_second: 1,
    burst: 10,
};
/// Snapshots that one peer brings.
const SNAPSHOTS: Rate = Rate {
    per_second: 64,
    burst: 256,
};
/// A connection that the shell never reported gone after it was told to close it is forgotten after this long.
pub(super) const GONE_FORGOTTEN_US: u64 = 30 * SEC;

/// A connection that stands, or is being closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// Whose.
    pub(super) node: NodeId,
    /// By us.
    pub(super) dialled: bool,
    /// When it was made.
    pub(super) since: Time,
    /// It was made after its node was admitted: it carries every protocol.
    pub(super) full: bool,
    /// Its hello was good.
    pub(super) greeted: bool,
    /// It is closed then: what was said last must get out first.
    pub(super) close: Option<(Time, CloseWhy)>,
    /// The shell was told to close it.
    pub(super) gone: Option<Time>,
}

impl Connection {
    /// Whether requests can go out on it.
    pub(super) fn is_usable(&self) -> bool {
        self.full && self.greeted && self.close.is_none() && self.gone.is_none()
    }
}

/// Our pulls from a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pulls {
    /// The next one is due then.
    pub(super) due: Option<Time>,
    /// One is under way since then.
    pub(super) asked: Option<Time>,
    /// Snapshots taken from the answer so far.
    pub(super) taken: usize,
}

/// A member, or a stranger that came by lately.
#[derive(Debug)]
pub(super) struct Peer {
    /// As configured; none: a stranger.
    pub(super) member: Option<Member>,
    /// Its hello was good once in this process: its connections get every protocol.
    pub(super) admitted: bool,
    /// It signed two truths.
    pub(super) quarantined: bool,
    /// Its connections that are not being closed by the shell.
    pub(super) connections: Vec<ConnectionId>,
    /// When and where it is dialled.
    pub(super) dial: Dial,
    /// Why it, or we, said no last.
    pub(super) refusal: Option<(Refusal, RefusedBy)>,
    /// When an event last told of that.
    pub(super) refusal_told: Option<Time>,
    /// Its life, by its last hello.
    pub(super) boot: Option<BootId>,
    /// Its software.
    pub(super) software: Option<String>,
    /// Where it stands.
    pub(super) site: Option<SiteKey>,
    /// Its wall clock.
    pub(super) clock: PeerClock,
    /// Its wall clock was told to be off.
    pub(super) clock_off: bool,
    /// What it may ask.
    pub(super) requests: Bucket,
    /// What it may bring.
    pub(super) snapshots: Bucket,
    /// Its newest snapshot.
    pub(super) held: Option<Held>,
    /// The newest edition of it that was ever taken, and of which life: for its hello.
    pub(super) highest: Option<(Edition, BootId)>,
    /// How often its unsigned word led to a higher incarnation of ours.
    pub(super) raised_us: u8,
    /// What we ask of it.
    pub(super) pulls: Pulls,
    /// Requests in a row that it did not answer.
    pub(super) unanswered: u32,
    /// Connected and admitted.
    pub(super) up: bool,
    /// How it stands, and since when.
    pub(super) state: (PeerState, Time),
}

impl Peer {
    /// One never heard of before.
    pub(super) fn new(member: Option<Member>, now: Time) -> Self {
        Self {
            member,
            admitted: false,
            quarantined: false,
            connections: Vec::new(),
            dial: Dial::default(),
            refusal: None,
            refusal_told: None,
            boot: None,
            software: None,
            site: None,
            clock: PeerClock::default(),
            clock_off: false,
            requests: Bucket::new(REQUESTS, now),
            snapshots: Bucket::new(SNAPSHOTS, now),
            held: None,
            highest: None,
            raised_us: 0,
            pulls: Pulls::default(),
            unanswered: 0,
            up: false,
            state: (PeerState::Waiting, now),
        }
    }

    /// How it stands.
    pub(super) fn state_now(&self) -> PeerState {
        if self.quarantined {
            PeerState::Quarantined
        } else if self.up {
            PeerState::Connected
        } else if self.refusal.is_some() {
            PeerState::Refused
        } else if !self.connections.is_empty() {
            PeerState::Greeting
        } else if self.dial.under_way.is_some() {
            PeerState::Dialling
        } else {
            PeerState::Waiting
        }
    }
}
