//! What nodes tell each other of endpoints: a peer's signed statement of its own health opinions.
//!
//! One node's whole statement is a [`Snapshot`]. On its way it carries ages, because clocks differ; here ages become
//! times of this node's own clock as soon as it is known when the snapshot was issued ([`Snapshot::opinions`]), since
//! own and others' evidence is compared by time of event. Never in it: names, types, clients, counts of queries.

use core::fmt;
use std::sync::Arc;

use crate::health::state::State;
use crate::outcome::Cause;
use crate::time::{MS, Time};

/// Opinions in a snapshot; it stays under 1,000 bytes. Those that are not up go first, the most used ones next.
pub const OPINIONS_MAX: usize = 32;
/// Longest age told, in milliseconds: seven weeks. What is older is told as this old.
pub const AGE_MS_MAX: u32 = u32::MAX - 1;

/// A node: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One life of a node: drawn at random by each process. Two of them under one key at once are a duplicate instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

/// The cluster's name, hashed (docs/PROTOCOL.md): nodes of other clusters are turned away by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey(pub [u8; 8]);

/// An endpoint on the wire: its canonical URL hashed with the cluster's name (docs/PROTOCOL.md), so that who reads
/// along without knowing the cluster cannot tell which providers it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey(pub [u8; 8]);

/// A site on the wire: nodes behind one uplink. Hashed like an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteKey(pub [u8; 4]);

/// Which of a node's snapshots: the later one wins. Ordered by incarnation, then sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edition {
    /// Grows with every start of the node; at most 48 bits.
    pub incarnation: u64,
    /// Grows with every snapshot of one start.
    pub sequence: u32,
}

/// Whose node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circle {
    /// One's own operator's: one credible report counts.
    Own,
    /// Another operator's, by number in the configuration: a hint until there is a quorum.
    Foreign(u16),
}

/// What a node says of one endpoint, in times of this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opinion {
    /// Which.
    pub endpoint: EndpointKey,
    /// Its state there.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Another operator answered, over the same transport class and family, an attempt begun 100 ms or more after the
    /// first failure began.
    pub witnessed: bool,
    /// A timer of that node was 250 ms late between the first failure's begin and its finding the endpoint down: it may
    /// have been the sick one.
    pub stalled: bool,
    /// When the first attempt began that failed without later success; of what is not up.
    pub first_failure: Option<Time>,
    /// When the last failed attempt or probe began.
    pub last_failure: Option<Time>,
    /// When the newest attempt with a good answer began.
    pub last_success: Option<Time>,
}

/// One endpoint in a snapshot: an [`Opinion`] in ages, milliseconds before the snapshot was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub endpoint: EndpointKey,
    /// See [`Opinion::state`].
    pub state: State,
    /// See [`Opinion::cause`].
    pub cause: Cause,
    /// See [`Opinion::witnessed`].
    pub witnessed: bool,
    /// See [`Opinion::stalled`].
    pub stalled: bool,
    /// See [`Opinion::first_failure`].
    pub first_failure_age_ms: Option<u32>,
    /// See [`Opinion::last_failure`].
    pub last_failure_age_ms: Option<u32>,
    /// See [`Opinion::last_success`].
    pub last_success_age_ms: Option<u32>,
}

/// Everything a node says at one moment; the unit of truth, the later edition wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub node: NodeId,
    /// Which life of it.
    pub boot: BootId,
    /// Which one of that life.
    pub edition: Edition,
    /// Wall clock of that node when it signed, milliseconds since 1970. Only its difference to that clock matters.
    pub issued_wall_ms: u64,
    /// It signs anew after this long at the latest, seconds; fresh for three of them.
    pub period_s: u8,
    /// Where that node stands.
    pub site: SiteKey,
    /// It has a path on which nobody answers.
    pub uplink_suspect: bool,
    /// It is about to stop.
    pub leaving: bool,
    /// At most [`OPINIONS_MAX`], those not up first.
    pub entries: Vec<Entry>,
}

/// What this node says of itself to its mesh: whenever something changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnReport {
    /// Counts up with every change of a state: such a change is published at once, mere times are not.
    pub urgent: u64,
    /// Something this node sees speaks against what a peer says: published soon, at most once per 5 s and endpoint.
    pub contradiction: u64,
    /// A path here is suspect.
    pub uplink_suspect: bool,
    /// A `down` of this node stands: signed anew every 3 s.
    pub any_down: bool,
    /// At most [`OPINIONS_MAX`], those not up first, the most used ones next.
    pub opinions: Vec<Opinion>,
}

/// What a peer says, as the control plane hears it: replaces all it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Who.
    pub node: NodeId,
    /// Which of its snapshots.
    pub edition: Edition,
    /// Whose node it is.
    pub circle: Circle,
    /// Where it stands.
    pub site: SiteKey,
    /// When it was issued, by this node's clock.
    pub issued: Time,
    /// When it came.
    pub arrived: Time,
    /// It counts until then: three of its periods after it was issued.
    pub fresh_until: Time,
    /// It has a path on which nobody answers.
    pub uplink_suspect: bool,
    /// What it says.
    pub opinions: Arc<[Opinion]>,
}

impl Snapshot {
    /// Its entries in times of this node's clock, for a snapshot issued at `issued`.
    #[must_use]
    pub fn opinions(&self, issued: Time) -> Arc<[Opinion]> {
        let at = |age_ms: Option<u32>| age_ms.map(|age| issued.minus(u64::from(age).saturating_mul(MS)));
        let opinions = self.entries.iter().map(|entry| Opinion {
            endpoint: entry.endpoint,
            state: entry.state,
            cause: entry.cause,
            witnessed: entry.witnessed,
            stalled: entry.stalled,
            first_failure: at(entry.first_failure_age_ms),
            last_failure: at(entry.last_failure_age_ms),
            last_success: at(entry.last_success_age_ms),
        });
        opinions.collect()
    }
}

impl Opinion {
    /// This opinion in ages, for a snapshot issued at `issued`.
    #[must_use]
    pub fn entry(&self, issued: Time) -> Entry {
        let age = |at: Option<Time>| {
            at.map(|at| {
                let age_ms = issued.since(at).checked_div(MS).unwrap_or(0);
                u32::try_from(age_ms).unwrap_or(AGE_MS_MAX).min(AGE_MS_MAX)
            })
        };
        Entry {
            endpoint: self.endpoint,
            state: self.state,
            cause: self.cause,
            witnessed: self.witnessed,
            stalled: self.stalled,
            first_failure_age_ms: age(self.first_failure),
            last_failure_age_ms: age(self.last_failure),
            last_success_age_ms: age(self.last_success),
        }
    }
}
