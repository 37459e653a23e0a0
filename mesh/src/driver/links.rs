//! Connections: how libp2p, the core and people call each of them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use detour_core::mesh::ConnectionId;
use detour_core::report::NodeId;
use detour_core::time::{SEC, Time};
use libp2p::PeerId;
use libp2p::swarm::ConnectionId as SwarmId;

/// Requests that one connection may ask in a second; the core allows a peer far fewer of those that cost something.
const ASKED_PER_SECOND: u32 = 32;

/// One connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) swarm: SwarmId,
    pub(crate) peer: PeerId,
    pub(crate) node: NodeId,
    /// The other end, as it is seen here.
    pub(crate) remote: Option<SocketAddr>,
    second: Time,
    asked: u32,
}

/// All of them; as many as the swarm's limits allow.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_id: BTreeMap<ConnectionId, Link>,
    by_swarm: HashMap<SwarmId, ConnectionId>,
    last: u64,
}

impl Links {
    pub(crate) fn insert(&mut self, swarm: SwarmId, peer: PeerId, node: NodeId, remote: Option<SocketAddr>) -> Link {
        self.last = self.last.saturating_add(1);
        let id = ConnectionId(self.last);
        let link = Link {
            id,
            swarm,
            peer,
            node,
            remote,
            second: Time::ZERO,
            asked: 0,
        };
        self.by_id.insert(id, link);
        self.by_swarm.insert(swarm, id);
        link
    }

    pub(crate) fn remove(&mut self, swarm: SwarmId) -> Option<Link> {
        let id = self.by_swarm.remove(&swarm)?;
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Link> {
        self.by_id.get(&id)
    }

    pub(crate) fn of_swarm(&self, swarm: SwarmId) -> Option<&Link> {
        self.get(*self.by_swarm.get(&swarm)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_id.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Where the connections of a node come from or go to.
    pub(crate) fn remotes(&self, node: NodeId) -> Vec<SocketAddr> {
        let own = self.iter().filter(|link| link.node == node);
        own.filter_map(|link| link.remote).collect()
    }

    /// Counts a request on this connection; whether it is one of those that are looked at.
    pub(crate) fn may_ask(&mut self, swarm: SwarmId, now: Time) -> bool {
        let id = self.by_swarm.get(&swarm);
        let Some(link) = id.and_then(|id| self.by_id.get_mut(id)) else {
            return false;
        };
        if now.since(link.second) >= SEC {
            link.second = now;
            link.asked = 0;
        }
        link.asked = link.asked.saturating_add(1);
        link.asked <= ASKED_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_used_again_and_requests_are_counted() {
        let mut links = Links::default();
        let (peer, node) = (PeerId::random(), NodeId([1; 32]));
        let swarm = SwarmId::new_unchecked;
        let first = links.insert(swarm(7), peer, node, None);
        assert_eq!(links.of_swarm(swarm(7)).map(|link| link.id), Some(first.id));
        let now = Time::at_ms(5_000);
        let answered = (0..100).filter(|_| links.may_ask(swarm(7), now)).count();
        assert_eq!(answered, 32);
        assert!(links.may_ask(swarm(7), now.plus(SEC)) && !links.may_ask(swarm(8), now));
        assert_eq!(links.remove(swarm(7)).map(|link| link.id), Some(first.id));
        assert!(links.is_empty() && links.get(first.id).is_none());
        assert_ne!(links.insert(swarm(8), peer, node, None).id, first.id);
    }
}
