//! The mesh of one node: who is admitted, who is dialled when, whose snapshot is the newest, and what is said to whom.
//!
//! Truth is one signed whole snapshot per node; the later edition wins. It is *pulled* over request-response, so that
//! nothing depends on a message that got lost; *pushing* it on a change, and gossip, are speed only. This machine never
//! judges endpoints: what peers say goes to [`crate::control::Control`] as a [`crate::report::PeerReport`], what this
//! node says comes from there as an [`crate::report::OwnReport`].
//!
//! The contract is the crate's: one input at a time, outputs drained, `poll_timeout` says when and why. Signatures are
//! checked, bytes decoded and keys held by the shell; a snapshot's bytes are opaque here and kept to be passed on as they
//! came. The wall clock enters only as numbers that peers name.

mod bucket;
mod clocks;
mod connections;
mod contract;
mod dial;
mod exchange;
mod hello;
mod lives;
mod own;
mod peer;
mod snapshots;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::contract::{
    CONNECTIONS_PER_PEER_MAX, ClockSample, CloseWhy, ConnectionId, DigestLine, Event, Hello, Member, Merged, NODES_MAX,
    Output, Passed, PeerState, PeerView, Refusal, RefusedBy, RejectedSnapshot, Sealed, Settings, VERSIONS, Via,
};

use self::bucket::{Bucket, Rate};
use self::own::Own;
use self::peer::{Connection, Peer};
use crate::dice::{Dice, Purpose};
use crate::report::{Edition, NodeId};
use crate::time::Time;

/// Longest name of a software.
const SOFTWARE_MAX: usize = 32;
/// Outputs that wait: all connections closed, every peer pushed to, and as many events. Beyond it the shell does not
/// drain, and what is said is lost as if the process had stalled.
const OUTPUTS_MAX: usize = 8 * NODES_MAX;
/// What an operator is told of nodes turned away, whoever they are.
const REFUSALS_TOLD: Rate = Rate {
    per_second: 1,
    burst: 16,
};

/// The mesh of one node.
#[derive(Debug)]
pub struct Cluster {
    /// What it is made of; the members stand in `peers`.
    settings: Settings,
    /// Members in the order of the configuration.
    order: Vec<NodeId>,
    /// Members, and at most 16 strangers.
    peers: BTreeMap<NodeId, Peer>,
    /// Connections: at most four of a member, two of a stranger.
    connections: BTreeMap<ConnectionId, Connection>,
    /// What this node publishes.
    own: Own,
    /// When the next round of pulls begins.
    next_round: Time,
    /// When all were last dialled because one came back.
    hurried: Option<Time>,
    /// Events of refusals.
    refusals: Bucket,
    /// The node stops; then connections are closed.
    stopping: Option<Time>,
    /// Jitter, and whom to pull from.
    dice: Dice,
    /// Numbers drawn so far.
    drawn: u64,
    /// Not yet taken.
    outputs: VecDeque<Output>,
}

impl Cluster {
    /// A node that knows nobody yet; wants its incarnation stored first.
    #[must_use]
    pub fn new(mut settings: Settings, now: Time) -> Self {
        let members = std::mem::take(&mut settings.members);
        settings.software = settings.software.chars().take(SOFTWARE_MAX).collect();
        let own = Own::new(&settings, now);
        let dice = Dice::new(settings.seed);
        let incarnation = own.incarnation();
        let mut cluster = Self {
            settings,
            order: Vec::new(),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            own,
            next_round: now,
            hurried: None,
            refusals: Bucket::new(REFUSALS_TOLD, now),
            stopping: None,
            dice,
            drawn: 0,
            outputs: VecDeque::new(),
        };
        cluster.output(Output::StoreIncarnation(incarnation));
        cluster.handle_members(members, now);
        cluster
    }

    /// Other members are admitted from here on (a reload). Who stays keeps its connections.
    pub fn handle_members(&mut self, members: Vec<Member>, now: Time) {
        let mut seen = BTreeSet::from([self.settings.own]);
        let mut members = members;
        members.retain(|member| seen.insert(member.node));
        // This node is one of them.
        members.truncate(NODES_MAX.saturating_sub(1));
        let order: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let gone = std::mem::replace(&mut self.order, order);
        for node in gone {
            if !members.iter().any(|member| member.node == node) {
                self.expel(node, None, Refusal::UnknownNode, now);
                self.peers.remove(&node);
            }
        }
        for member in members {
            let peer = self.peers.entry(member.node).or_insert_with(|| Peer::new(None, now));
            let before = peer.member.replace(member);
            if before.is_none() {
                peer.refusal = None;
                self.dial_new(member.node, now);
                self.settle(member.node, now);
            } else if before.is_some_and(|before| before.circle != member.circle) {
                self.report_again(member.node, now);
            }
        }
        self.advance(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called, and why; now if outputs wait.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<(Time, &'static str)> {
        if !self.outputs.is_empty() {
            return Some((now, "output"));
        }
        let next = [
            self.next_connection().map(|at| (at, "connection")),
            self.next_dial().map(|at| (at, "dial")),
            self.next_pull().map(|at| (at, "pull")),
            self.next_expiry().map(|at| (at, "expiry")),
            self.next_own(),
            self.next_stop().map(|at| (at, "stop")),
        ];
        next.into_iter().flatten().min()
    }

    /// Whether connections of this node get every protocol.
    #[must_use]
    pub fn is_admitted(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.admitted)
    }

    /// The own newest snapshot's edition.
    #[must_use]
    pub fn own_edition(&self) -> Option<Edition> {
        self.own.newest_edition()
    }

    /// Does what is due.
    fn advance(&mut self, now: Time) {
        self.run_connections(now);
        self.run_dials(now);
        self.run_pulls(now);
        self.run_expiry(now);
        self.run_own(now);
        self.run_stop(now);
    }

    /// Something for the shell.
    fn output(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        }
    }

    /// The peers of which this holds.
    fn ids_where(&self, holds: impl Fn(&Peer) -> bool) -> Vec<NodeId> {
        let peers = self.peers.iter().filter(|(_, peer)| holds(peer));
        peers.map(|(node, _)| *node).collect()
    }

    /// A number below `bound`; 0 if that is 0.
    fn draw(&mut self, bound: u64) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        self.dice.below(bound, Purpose::Mesh, self.drawn, 0)
    }

    /// An index into something this long; 0 if it is empty.
    fn draw_index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.draw(bound)).unwrap_or(0)
    }
}
