//! What libp2p tells, as inputs of the core.

use std::error::Error;

use detour_core::mesh::{RejectedSnapshot, Via};
use detour_core::time::Time;
use detour_wire::sync::Receipt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{Event as GossipEvent, Message, MessageAcceptance, MessageId};
use libp2p::swarm::{ConnectionId as SwarmId, DialError, ListenError, SwarmEvent};
use libp2p::{PeerId, TransportError};

use super::Driver;
use super::exchanges::Protocol;
use crate::address::socket_of;
use crate::identity::node_of;
use crate::swarm::{BehindEvent, MeshEvent};

impl Driver {
    pub(crate) fn apply_swarm(&mut self, event: SwarmEvent<MeshEvent>, now: Time) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
        match event {
            SwarmEvent::Behaviour(MeshEvent::Hello(exchange)) => self.apply_exchange(Protocol::Hello, exchange, now),
            SwarmEvent::Behaviour(MeshEvent::Gate(BehindEvent::Sync(exchange))) => {
                self.apply_exchange(Protocol::Sync, exchange, now);
            }
            SwarmEvent::Behaviour(MeshEvent::Gate(BehindEvent::Gossip(event))) => self.apply_gossip(event, now),
            SwarmEvent::Behaviour(MeshEvent::Limits(nothing)) => match nothing {},
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.connected(peer_id, connection_id, &endpoint, now),
            SwarmEvent::ConnectionClosed {
                connection_id, cause, ..
            } => {
                if let Some(link) = self.links.remove(connection_id) {
                    if let Some(cause) = cause {
                        self.notes
                            .failed(link.node, &format!("connection lost: {}", chain(&cause)), now);
                    }
                    self.cluster.handle_disconnected(link.id, now);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id, error, ..
            } => {
                if let Some((node, address)) = self.dials.remove(&connection_id) {
                    self.notes.failed(node, &dial_error(&error), now);
                    self.cluster.handle_dial_failed(node, address, now);
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                if matches!(error, ListenError::Denied { .. }) {
                    self.around.metrics.denied();
                }
                tracing::debug!(error = chain(&error), "incoming connection");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.listeners.bound(listener_id, address),
            SwarmEvent::ExpiredListenAddr { listener_id, address } => self.listeners.expired(listener_id, &address),
            SwarmEvent::ListenerClosed {
                listener_id, reason, ..
            } => {
                let error = reason.err().map(|error| chain(&error));
                self.listeners.closed(listener_id, error, now);
            }
            // Whoever sends a broken first packet, under any address, gets one of these: no more than a trace of it.
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(error = chain(&error), "listener"),
            _ => {}
        }
    }

    fn connected(&mut self, peer: PeerId, swarm: SwarmId, endpoint: &ConnectedPoint, now: Time) {
        self.dials.remove(&swarm);
        let Some(node) = node_of(&peer) else {
            // The TLS of this build knows no other keys; nobody to the core.
            self.swarm.close_connection(swarm);
            return;
        };
        let remote = socket_of(endpoint.get_remote_address());
        let link = self.links.insert(swarm, peer, node, remote);
        self.cluster.handle_connected(link.id, node, endpoint.is_dialer(), now);
        // It was made before its node was admitted and is heard of after: the core takes it for one that carries
        // everything, which it does not.
        if self.cluster.is_admitted(node) && !self.swarm.behaviour_mut().gate.has_passed(swarm) {
            self.swarm.close_connection(swarm);
        }
    }

    fn apply_gossip(&mut self, event: GossipEvent, now: Time) {
        match event {
            GossipEvent::Message {
                propagation_source,
                message_id,
                message,
            } => self.gossiped(&propagation_source, &message_id, &message, now),
            GossipEvent::SlowPeer { peer_id, .. } => {
                self.around.metrics.slow_peer();
                tracing::debug!(peer = %peer_id, "takes gossip too slowly");
            }
            GossipEvent::GossipsubNotSupported { peer_id } => tracing::debug!(peer = %peer_id, "speaks no gossip"),
            GossipEvent::Subscribed { .. } | GossipEvent::Unsubscribed { .. } => {}
        }
    }

    fn gossiped(&mut self, source: &PeerId, id: &MessageId, message: &Message, now: Time) {
        self.around.metrics.received(message.data.len());
        let receipt = node_of(source).map(|node| self.take(&message.data, Via::Gossip(node), None, now));
        let acceptance = receipt.map_or(MessageAcceptance::Ignore, acceptance);
        let gossip = &mut self.swarm.behaviour_mut().gate.inner().gossip;
        if !gossip.report_message_validation_result(id, source, acceptance) {
            tracing::debug!(%id, "gossip had forgotten the message");
        }
    }
}

/// What gossip does with a message. Rejected is only what its forwarder is answerable for: it could have seen by itself
/// that the message is no good.
fn acceptance(receipt: Receipt) -> MessageAcceptance {
    match receipt {
        // What came by push first is passed on all the same: others may lack it.
        Receipt::Newest | Receipt::Known => MessageAcceptance::Accept,
        Receipt::Unreadable | Receipt::BadSignature | Receipt::Rejected(RejectedSnapshot::Equivocation) => {
            MessageAcceptance::Reject
        }
        Receipt::Other
        | Receipt::Rejected(
            RejectedSnapshot::UnknownNode
            | RejectedSnapshot::Older
            | RejectedSnapshot::Stale
            | RejectedSnapshot::Own
            | RejectedSnapshot::Quarantined
            | RejectedSnapshot::TooMuch
            | RejectedSnapshot::NoHello,
        ) => MessageAcceptance::Ignore,
    }
}

/// Why a dial came to nothing, for people.
pub(crate) fn dial_error(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            format!("another node answers at {address}: {obtained}")
        }
        DialError::LocalPeerId { address } => format!("this node itself answers at {address}"),
        DialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => format!("{address}: cannot be dialled"),
                TransportError::Other(error) => format!("{address}: {}", chain(error)),
            });
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::Denied { .. }
        | DialError::NoAddresses
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted => chain(error),
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            // Some say nothing themselves.
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_forwarder_could_see_is_rejected() {
        let rejects = |receipt| matches!(acceptance(receipt), MessageAcceptance::Reject);
        assert!(rejects(Receipt::Unreadable) && rejects(Receipt::BadSignature));
        assert!(rejects(Receipt::Rejected(RejectedSnapshot::Equivocation)));
        for fault_of_nobody in [
            RejectedSnapshot::Older,
            RejectedSnapshot::Stale,
            RejectedSnapshot::TooMuch,
        ] {
            assert!(!rejects(Receipt::Rejected(fault_of_nobody)));
        }
        assert!(!rejects(Receipt::Other));
        assert!(matches!(acceptance(Receipt::Known), MessageAcceptance::Accept));
    }

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("address in use");
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer), "address in use");
    }
}
