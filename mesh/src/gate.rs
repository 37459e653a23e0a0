//! The gate: a connection gets what is behind it only if its node is admitted *when the connection is made*.
//!
//! Others get hello alone (which stands beside the gate); once admitted they are dialled anew. What is behind never
//! hears of connections that did not pass, so nobody can open, subscribe to, or learn anything there.
//!
//! Nodes outside the configuration may have a few connections at once, to say hello and be told no; more are denied.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::task::{Context, Poll};

use either::Either;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Connections of nodes outside the configuration at once: each is told no and gone within five seconds.
pub(crate) const STRANGERS_MAX: usize = 8;

/// Gossip of one peer that is looked at in a second. The library remembers each message for minutes, and what is of no
/// topic of ours it does not even show: without a bound one member could fill the memory of the process.
const GOSSIP_PER_SECOND: u32 = 128;

/// What stands behind the gate.
pub(crate) trait Guarded: NetworkBehaviour {
    /// Whether this came by gossip.
    fn is_gossip(event: &THandlerOutEvent<Self>) -> bool;
}

/// Why a connection was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyStrangers;

impl fmt::Display for TooManyStrangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections of unknown nodes")
    }
}

impl std::error::Error for TooManyStrangers {}

/// Lets connections of admitted nodes through to `B`.
pub(crate) struct Gate<B> {
    inner: B,
    admitted: HashSet<PeerId>,
    members: HashSet<PeerId>,
    passed: HashMap<ConnectionId, PeerId>,
    strangers: HashSet<ConnectionId>,
    /// What came by gossip in this second, by peer; of those that are connected.
    gossiped: HashMap<PeerId, u32>,
}

impl<B> Gate<B> {
    /// Nobody is admitted yet.
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            admitted: HashSet::new(),
            members: HashSet::new(),
            passed: HashMap::new(),
            strangers: HashSet::new(),
            gossiped: HashMap::new(),
        }
    }

    /// What is behind.
    pub(crate) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Connections of this node that are made from here on pass, or no longer do. Those that stand are not touched.
    pub(crate) fn admit(&mut self, peer: PeerId, is_admitted: bool) {
        if is_admitted {
            self.admitted.insert(peer);
        } else {
            self.admitted.remove(&peer);
        }
    }

    /// Who is in the configuration.
    pub(crate) fn set_members(&mut self, members: HashSet<PeerId>) {
        self.members = members;
    }

    /// Another second.
    pub(crate) fn begin_second(&mut self) {
        self.gossiped.clear();
    }

    /// Counts what came by gossip; whether it is passed on.
    fn may_gossip(&mut self, peer: PeerId) -> bool {
        let count = self.gossiped.entry(peer).or_default();
        *count = count.saturating_add(1);
        *count <= GOSSIP_PER_SECOND
    }

    /// A connection of this peer that passed, the newest: an older one may be a ghost.
    pub(crate) fn newest(&self, peer: &PeerId) -> Option<ConnectionId> {
        let own = self.passed.iter().filter(|(_, other)| *other == peer);
        own.map(|(connection, _)| *connection).max()
    }

    /// Whether this connection passed.
    pub(crate) fn has_passed(&self, connection: ConnectionId) -> bool {
        self.passed.contains_key(&connection)
    }

    fn passes(&mut self, connection: ConnectionId, peer: PeerId) -> Result<bool, ConnectionDenied> {
        if self.admitted.contains(&peer) {
            self.passed.insert(connection, peer);
            return Ok(true);
        }
        if !self.members.contains(&peer) {
            if self.strangers.len() >= STRANGERS_MAX {
                return Err(ConnectionDenied::new(TooManyStrangers));
            }
            self.strangers.insert(connection);
        }
        Ok(false)
    }

    fn passed_count(&self, peer: &PeerId) -> usize {
        self.passed.values().filter(|other| *other == peer).count()
    }
}

impl<B: Guarded> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.passes(connection, peer)? {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
            .map(Either::Left)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.passes(connection, peer)? {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port_use)
            .map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // Of addresses and dials nothing behind the gate needs to hear.
        if let FromSwarm::ConnectionEstablished(established) = event
            && self.has_passed(established.connection_id)
        {
            let passed = self.passed_count(&established.peer_id);
            let other_established = passed.saturating_sub(1);
            self.inner
                .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    other_established,
                    ..established
                }));
        } else if let FromSwarm::ConnectionClosed(closed) = event {
            self.strangers.remove(&closed.connection_id);
            if self.passed.remove(&closed.connection_id).is_some() {
                let remaining_established = self.passed_count(&closed.peer_id);
                self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    remaining_established,
                    ..closed
                }));
            }
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => {
                if self.passed.contains_key(&connection) && (!B::is_gossip(&event) || self.may_gossip(peer)) {
                    self.inner.on_connection_handler_event(peer, connection, event);
                }
            }
            Either::Right(nothing) => match nothing {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let Poll::Ready(next) = self.inner.poll(cx) else {
                return Poll::Pending;
            };
            let ToSwarm::NotifyHandler {
                peer_id,
                handler,
                event,
            } = next
            else {
                return Poll::Ready(next.map_in(Either::Left));
            };
            // A connection that did not pass has no handler that could take it.
            let connection = match handler {
                NotifyHandler::One(connection) => Some(connection).filter(|one| self.passed.contains_key(one)),
                NotifyHandler::Any => self.newest(&peer_id),
            };
            if let Some(connection) = connection {
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: Either::Left(event),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossip_of_each_peer_is_bounded_by_the_second() {
        let mut gate = Gate::new(());
        let [liar, other] = [0, 1].map(|_| PeerId::random());
        let passed = |gate: &mut Gate<()>, peer| (0..1_000).filter(|_| gate.may_gossip(peer)).count();
        assert_eq!(passed(&mut gate, liar), 128);
        assert_eq!(passed(&mut gate, other), 128);
        gate.begin_second();
        assert_eq!(passed(&mut gate, liar), 128);
    }
}
