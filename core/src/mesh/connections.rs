//! Connections: which are kept, how they are closed, and what that makes of their node.

use crate::report::NodeId;
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::contract::{CONNECTIONS_PER_PEER_MAX, CloseWhy, ConnectionId, Event, Output, Refusal};
use super::peer::{Connection, GONE_FORGOTTEN_US, Peer};

/// A connection without a good hello is closed after this long.
const HELLO_US: u64 = 5 * SEC;
/// A refusal, or an answer, gets out within this time before its connection is closed.
const GRACE_US: u64 = 250 * MS;
/// Strangers that are remembered for display.
const STRANGERS_MAX: usize = 16;
/// Connections of one stranger.
const CONNECTIONS_PER_STRANGER_MAX: usize = 2;

impl Cluster {
    /// A connection stands; its peer's key is proven. `dialled` by us or by it.
    pub fn handle_connected(&mut self, connection: ConnectionId, node: NodeId, dialled: bool, now: Time) {
        if dialled && let Some(peer) = self.peers.get_mut(&node) {
            peer.dial.under_way = None;
        }
        if let Some(why) = self.no_place_for(node, dialled, now) {
            self.output(Output::Close { connection, why });
            self.settle(node, now);
            self.advance(now);
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.connections.push(connection);
        let failed = peer.dial.failed;
        peer.dial.connected(dialled);
        let entry = Connection {
            node,
            dialled,
            since: now,
            full: peer.admitted,
            greeted: false,
            close: None,
            gone: None,
        };
        self.connections.insert(connection, entry);
        self.hurry(failed, now);
        if dialled {
            let hello = self.hello_to(node);
            self.output(Output::SendHello {
                connection,
                node,
                hello,
            });
        }
        self.settle(node, now);
        self.advance(now);
    }

    /// Why a connection of this node cannot be kept; a stranger is remembered if it can.
    fn no_place_for(&mut self, node: NodeId, dialled: bool, now: Time) -> Option<CloseWhy> {
        if self.stopping.is_some() {
            return Some(CloseWhy::Stopping);
        }
        if node == self.settings.own {
            return Some(CloseWhy::Refused(Refusal::OwnKey));
        }
        if let Some(peer) = self.peers.get(&node) {
            let max = match peer.member {
                Some(_) => CONNECTIONS_PER_PEER_MAX,
                None => CONNECTIONS_PER_STRANGER_MAX,
            };
            return (peer.connections.len() >= max).then_some(CloseWhy::TooMany);
        }
        if dialled {
            // A member until a moment ago.
            return Some(CloseWhy::Refused(Refusal::UnknownNode));
        }
        let strangers = self.peers.iter().filter(|(_, peer)| peer.member.is_none());
        if strangers.clone().count() >= STRANGERS_MAX {
            let idle = strangers.filter(|(_, peer)| peer.connections.is_empty());
            let Some(oldest) = idle.min_by_key(|(_, peer)| peer.state.1).map(|(node, _)| *node) else {
                return Some(CloseWhy::TooMany);
            };
            self.peers.remove(&oldest);
        }
        self.peers.insert(node, Peer::new(None, now));
        None
    }

    /// A connection is gone; of those that were closed from here as well.
    pub fn handle_disconnected(&mut self, connection: ConnectionId, now: Time) {
        let Some(entry) = self.connections.remove(&connection) else {
            return;
        };
        if entry.gone.is_some() {
            return;
        }
        let node = entry.node;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connections.retain(|kept| *kept != connection);
            if peer.connections.is_empty() {
                self.dial_after_loss(node, entry.dialled, now.since(entry.since), now);
            }
        }
        self.settle(node, now);
        self.advance(now);
    }

    /// The connections of a node that are not being closed by the shell.
    pub(super) fn live_connections(&self, node: NodeId) -> Vec<ConnectionId> {
        self.peers
            .get(&node)
            .map_or_else(Vec::new, |peer| peer.connections.clone())
    }

    /// Closes a connection at once, or after the grace that an answer needs.
    pub(super) fn close_after(&mut self, connection: ConnectionId, at_once: bool, why: CloseWhy, now: Time) {
        if at_once {
            self.close(connection, why, now);
        } else if let Some(entry) = self.connections.get_mut(&connection) {
            entry.close = entry.close.or_else(|| Some((now.plus(GRACE_US), why)));
        }
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, connection: ConnectionId, why: CloseWhy, now: Time) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        entry.gone = Some(now);
        let (node, dialled) = (entry.node, entry.dialled);
        self.output(Output::Close { connection, why });
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connections.retain(|kept| *kept != connection);
            if peer.connections.is_empty() {
                self.dial_after_close(node, dialled, why, now);
            }
        }
        self.settle(node, now);
    }

    /// Closes what is due.
    pub(super) fn run_connections(&mut self, now: Time) {
        let mut due = Vec::new();
        for (connection, entry) in &self.connections {
            if connection_due(entry).is_some_and(|at| at <= now) {
                due.push((*connection, *entry));
            }
        }
        for (connection, entry) in due {
            match entry.close {
                _ if entry.gone.is_some() => {
                    self.connections.remove(&connection);
                }
                Some((_, why)) => self.close(connection, why, now),
                None => self.close(connection, CloseWhy::HelloLate, now),
            }
        }
    }

    /// When [`Self::run_connections`] has something to do.
    pub(super) fn next_connection(&self) -> Option<Time> {
        self.connections.values().filter_map(connection_due).min()
    }

    /// A peer's connections changed, or what is thought of it: whether it can be used, and how it stands.
    pub(super) fn settle(&mut self, node: NodeId, now: Time) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let mut connections = peer.connections.iter().filter_map(|id| self.connections.get(id));
        let usable = peer.admitted && connections.any(Connection::is_usable);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let changed = usable != peer.up;
        if changed {
            peer.up = usable;
            peer.pulls.asked = None;
            peer.pulls.due = usable.then_some(now);
        }
        let state = peer.state_now();
        if state != peer.state.0 {
            peer.state = (state, now);
        }
        if changed {
            self.output(Output::Event(if usable {
                Event::PeerUp(node)
            } else {
                Event::PeerDown(node)
            }));
        }
    }
}

/// When something is to be done about a connection.
fn connection_due(entry: &Connection) -> Option<Time> {
    match (entry.gone, entry.close) {
        (Some(gone), _) => Some(gone.plus(GONE_FORGOTTEN_US)),
        (None, Some((at, _))) => Some(at),
        (None, None) if !entry.greeted => Some(entry.since.plus(HELLO_US)),
        (None, None) => None,
    }
}
