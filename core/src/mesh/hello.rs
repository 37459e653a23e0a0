//! The hello: who is admitted, who is turned away, and which life of a node this is.
//!
//! The side that dialled says hello at once, the other answers, and so one round trip serves both. Until a node is
//! admitted its connections carry the hello only; they are then closed and dialled anew: at once by the side that
//! dialled, because it has its answer, and after a grace by the other, whose answer must get out first.

use crate::report::NodeId;
use crate::time::{MS, SEC, Time};

use super::contract::{ClockSample, CloseWhy, ConnectionId, Event, Hello, Output, Refusal, RefusedBy, VERSIONS};
use super::peer::Connection;
use super::{Cluster, SOFTWARE_MAX};

/// An operator is told of one node's refusals this often.
const REFUSAL_TOLD_US: u64 = 60 * SEC;
/// Wall clocks that differ by more are told of,
const CLOCK_OFF_US: u64 = 2 * SEC;
/// until they differ by less than this.
const CLOCK_WELL_US: u64 = 1_500 * MS;

impl Cluster {
    /// A hello came on this connection; with a `sample` it answers ours. `Ok` is the hello to answer a request with; to
    /// an answer nothing is said.
    ///
    /// # Errors
    ///
    /// The node is turned away for this reason; the shell tells it, the connection is closed by an output, a moment
    /// later so that the word gets out.
    pub fn handle_hello(
        &mut self,
        connection: ConnectionId,
        hello: &Hello,
        sample: Option<ClockSample>,
        now: Time,
    ) -> Result<Hello, Refusal> {
        let Some(entry) = self.connections.get(&connection).copied() else {
            return Err(Refusal::NoHello);
        };
        let node = entry.node;
        if entry.gone.is_some() {
            return Err(Refusal::NoHello);
        }
        if let Err(refusal) = self.judge_hello(node, hello, sample.is_none(), now) {
            self.refuse(connection, entry, refusal, now);
            return Err(refusal);
        }
        let rebooted = self.remember_hello(node, hello, sample);
        self.heard_of_own(node, hello.yours);
        self.admit(connection, entry, rebooted, now);
        self.settle(node, now);
        self.advance(now);
        Ok(self.hello_to(node))
    }

    /// Whether this hello is good.
    fn judge_hello(&mut self, node: NodeId, hello: &Hello, request: bool, now: Time) -> Result<(), Refusal> {
        let own = &self.settings;
        let peer = self.peers.get_mut(&node);
        // Strangers learn nothing but that.
        let peer = peer.filter(|peer| peer.member.is_some()).ok_or(Refusal::UnknownNode)?;
        if request && !peer.requests.take(now) {
            return Err(Refusal::TooMuch);
        }
        if hello.cluster != own.cluster {
            return Err(Refusal::OtherCluster);
        }
        if hello.versions.0.max(VERSIONS.0) > hello.versions.1.min(VERSIONS.1) {
            return Err(Refusal::NoCommonVersion);
        }
        Ok(())
    }

    /// Keeps what a good hello says; whether this is another life of the node.
    fn remember_hello(&mut self, node: NodeId, hello: &Hello, sample: Option<ClockSample>) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else {
            return false;
        };
        let rebooted = peer.boot.is_some_and(|boot| boot != hello.boot);
        peer.boot = Some(hello.boot);
        peer.site = Some(hello.site);
        peer.software = Some(hello.software.chars().take(SOFTWARE_MAX).collect());
        peer.refusal = None;
        peer.unanswered = 0;
        if rebooted {
            self.output(Output::Event(Event::PeerRebooted(node)));
        }
        if let Some(sample) = sample {
            self.sample(node, sample);
        }
        rebooted
    }

    /// The hello on this connection was good.
    fn admit(&mut self, connection: ConnectionId, entry: Connection, rebooted: bool, now: Time) {
        let node = entry.node;
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.greeted = true;
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if !peer.admitted {
            peer.admitted = true;
            self.output(Output::Admit(node));
        }
        let others = self
            .live_connections(node)
            .into_iter()
            .filter(|other| *other != connection);
        let others: Vec<ConnectionId> = others.collect();
        if rebooted && !others.is_empty() {
            // Those of its former life first; this one carries our answer, unless it brought one.
            for other in others {
                self.close(other, CloseWhy::NewBoot, now);
            }
            self.close_after(connection, entry.dialled, CloseWhy::NewBoot, now);
        } else if !entry.full {
            self.close_after(connection, entry.dialled, CloseWhy::Admitted, now);
        }
    }

    /// Turns a node away.
    fn refuse(&mut self, connection: ConnectionId, entry: Connection, refusal: Refusal, now: Time) {
        let node = entry.node;
        if refusal == Refusal::TooMuch {
            self.close_after(connection, false, CloseWhy::Refused(refusal), now);
            return;
        }
        self.turned_away(node, refusal, RefusedBy::Us, now);
        self.expel(node, Some(connection), refusal, now);
        self.close_after(connection, entry.dialled, CloseWhy::Refused(refusal), now);
        self.settle(node, now);
        self.advance(now);
    }

    /// Nothing of this node counts any more; its connections but one are closed.
    pub(super) fn expel(&mut self, node: NodeId, but: Option<ConnectionId>, refusal: Refusal, now: Time) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let held = peer.held.take().is_some();
        if std::mem::take(&mut peer.admitted) {
            self.output(Output::Expel(node));
        }
        if held {
            self.output(Output::Forget(node));
        }
        for other in self.live_connections(node) {
            if Some(other) != but {
                self.close(other, CloseWhy::Refused(refusal), now);
            }
        }
    }

    /// Our hello was answered with a refusal.
    pub fn handle_refused(&mut self, connection: ConnectionId, refusal: Refusal, now: Time) {
        let Some(entry) = self.connections.get(&connection).copied() else {
            return;
        };
        if entry.gone.is_some() {
            return;
        }
        self.turned_away(entry.node, refusal, RefusedBy::Peer, now);
        self.close(connection, CloseWhy::RefusedByPeer(refusal), now);
        self.settle(entry.node, now);
        self.advance(now);
    }

    /// Somebody said no: remembered, and told once a minute.
    fn turned_away(&mut self, node: NodeId, refusal: Refusal, by: RefusedBy, now: Time) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let news = peer.refusal != Some((refusal, by)) && peer.member.is_some();
        peer.refusal = Some((refusal, by));
        let lately = peer.refusal_told.is_some_and(|told| now.since(told) < REFUSAL_TOLD_US);
        if (lately && !news) || !self.refusals.take(now) {
            return;
        }
        peer.refusal_told = Some(now);
        self.output(Output::Event(match by {
            RefusedBy::Us => Event::Refused(node, refusal),
            RefusedBy::Peer => Event::RefusedByPeer(node, refusal),
        }));
    }

    /// What is said to this node.
    pub(super) fn hello_to(&self, node: NodeId) -> Hello {
        let own = &self.settings;
        Hello {
            cluster: own.cluster,
            versions: VERSIONS,
            boot: own.boot,
            wall_ms: 0,
            site: own.site,
            port: 0,
            software: own.software.clone(),
            yours: self.peers.get(&node).and_then(|peer| peer.highest),
        }
    }

    /// A peer named its clock.
    pub(super) fn sample(&mut self, node: NodeId, sample: ClockSample) {
        let own_bias = self.own.wall_bias;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.clock.sample(sample);
        let Some((certain, middle)) = peer.clock.offset(own_bias) else {
            return;
        };
        let off = if peer.clock_off {
            certain >= CLOCK_WELL_US
        } else {
            certain > CLOCK_OFF_US
        };
        if off != peer.clock_off {
            peer.clock_off = off;
            let offset_ms = middle.checked_div(1_000).unwrap_or(0);
            self.output(Output::Event(Event::ClockOff { node, offset_ms }));
        }
    }
}
