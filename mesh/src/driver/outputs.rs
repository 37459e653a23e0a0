//! What the core wants done, done.

use std::sync::Arc;

use detour_core::mesh::{Event, Output, Sealed};
use detour_core::report::{NodeId, Snapshot};
use detour_core::time::Time;
use detour_wire::snapshot;
use libp2p::gossipsub::PublishError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::Driver;
use super::hello::explain;
use super::swarm_events::dial_error;
use crate::config::News;
use crate::identity::{name_of, peer_of};

impl Driver {
    pub(crate) fn apply_output(&mut self, output: Output, now: Time) {
        match output {
            Output::StoreIncarnation(incarnation) => {
                self.storing.begin(self.config.state_directory.as_deref(), incarnation);
            }
            Output::Dial { node, address } => self.dial(node, address, now),
            Output::SendHello { connection, hello, .. } => self.say_hello(connection, hello, now),
            Output::Admit(node) => self.admit(node, true),
            Output::Expel(node) => self.admit(node, false),
            Output::Close { connection, why } => {
                if let Some(link) = self.links.get(connection) {
                    tracing::debug!(peer = %link.peer, ?why, "connection closed");
                    self.swarm.close_connection(link.swarm);
                }
            }
            Output::Sign(snapshot) => self.sign(*snapshot, now),
            Output::Push { to, snapshots } => self.push(to, &snapshots, now),
            Output::Pull { from, digest } => self.pull(from, digest, now),
            Output::Gossip(bytes) => self.gossip(&bytes),
            Output::Report(report) => self.news.push(News::Report(report), &self.around.metrics),
            Output::Forget(node) => self.news.push(News::Forget(node), &self.around.metrics),
            Output::Event(event) => self.tell(&event, now),
        }
    }

    fn dial(&mut self, node: NodeId, address: u8, now: Time) {
        let member = self.members.iter().find(|member| member.node == node);
        let Some(known) = member.and_then(|member| member.addresses.get(usize::from(address))) else {
            self.cluster.handle_dial_failed(node, address, now);
            return;
        };
        // A port of its own for each dial: a second connection from the listener's port could not be told from the
        // first by middle boxes, nor, after a crash, by the peer.
        let dial = DialOpts::peer_id(known.peer())
            .condition(PeerCondition::Always)
            .addresses(vec![known.multiaddr()])
            .allocate_new_port()
            .build();
        let id = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dials.insert(id, (node, address));
            }
            Err(error) => {
                self.notes.failed(node, &dial_error(&error), now);
                self.cluster.handle_dial_failed(node, address, now);
            }
        }
    }

    fn admit(&mut self, node: NodeId, is_admitted: bool) {
        if let Some(peer) = peer_of(node) {
            self.swarm.behaviour_mut().gate.admit(peer, is_admitted);
        }
    }

    fn sign(&mut self, mut snapshot: Snapshot, now: Time) {
        snapshot.issued_wall_ms = (self.config.wall_ms)();
        match snapshot::signed_part(&snapshot, self.config.cluster) {
            Ok(signed) => {
                let signature = self.config.identity.sign(&signed);
                let sealed = Sealed {
                    snapshot: Arc::new(snapshot),
                    bytes: snapshot::seal(signed, signature).into(),
                };
                self.cluster.handle_signed(sealed, now);
            }
            Err(error) => tracing::error!(%error, "a snapshot has no bytes"),
        }
    }

    fn gossip(&mut self, bytes: &[u8]) {
        let topic = self.topic.hash();
        let gossip = &mut self.swarm.behaviour_mut().gate.inner().gossip;
        let result = match gossip.publish(topic, bytes.to_vec()) {
            Ok(_id) => {
                self.around.metrics.sent(bytes.len());
                "ok"
            }
            Err(PublishError::NoPeersSubscribedToTopic) => "no-peers",
            Err(PublishError::AllQueuesFull(_)) => "queues-full",
            Err(PublishError::Duplicate) => "duplicate",
            Err(
                error @ (PublishError::SigningError(_)
                | PublishError::MessageTooLarge
                | PublishError::TransformFailed(_)),
            ) => {
                tracing::error!(%error, "gossip");
                "error"
            }
        };
        self.around.metrics.gossip(result);
    }

    /// Tells people.
    fn tell(&mut self, event: &Event, now: Time) {
        self.around.metrics.event(event);
        match *event {
            Event::PeerUp(node) => {
                self.notes.works(node);
                tracing::info!(peer = name_of(node), "peer up");
            }
            Event::PeerDown(node) => tracing::info!(peer = name_of(node), "peer down"),
            Event::Refused(node, refusal) => {
                let line = self.line_of(node, Some((refusal, detour_core::mesh::RefusedBy::Us)));
                self.notes
                    .failed(node, &format!("turned away: {}", refusal.word()), now);
                tracing::info!(
                    peer = name_of(node),
                    reason = refusal.word(),
                    add_to_own_peers = line,
                    "a node was turned away"
                );
            }
            Event::RefusedByPeer(node, refusal) => {
                let line = self.line_of(node, Some((refusal, detour_core::mesh::RefusedBy::Peer)));
                tracing::warn!(
                    peer = name_of(node),
                    reason = refusal.word(),
                    meaning = explain(refusal),
                    add_to_its_peers = line,
                    "a peer turned this node away"
                );
            }
            Event::PeerRebooted(node) => tracing::info!(peer = name_of(node), "peer was started again"),
            Event::DuplicateInstance { own_is_lower } => {
                self.duplicate = Some(now);
                tracing::error!(
                    own_is_silent = own_is_lower,
                    "another process has this node's identity: the one started later goes on, the other is silent"
                );
            }
            Event::Equivocation(node) => tracing::error!(
                peer = name_of(node),
                "a peer signed two truths at once: nothing of it counts any more"
            ),
            Event::ClockOff { node, offset_ms } => {
                tracing::warn!(peer = name_of(node), offset_ms, "wall clocks differ, or no longer do");
            }
        }
    }
}
