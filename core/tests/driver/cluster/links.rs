//! Connections of a cluster: made, closed, and found dead.

use detour_core::Time;
use detour_core::mesh::ConnectionId;

use super::machine::id_of;
use super::net::{DIAL_US, End, HANDSHAKE_AGAIN_US, IDLE_US, KEEP_ALIVE_US, Link, Parcel};
use super::world::World;
use crate::env::Who;

impl World {
    /// Handshake packets reach the other host, or are sent again.
    pub(super) fn handshake(&mut self, who: Who, to: u16, address: u8, since: Time) {
        let now = self.env.now;
        let other = &self.machines[usize::from(to)];
        let other_who = other.node.who;
        let passes = !self.net.is_cut(who.node, to) && !self.net.is_cut(to, who.node);
        if other.running && passes {
            let link = self.env.number();
            let end = |who| End {
                who,
                came: false,
                open: false,
                full: false,
            };
            let ends = [end(who), end(other_who)];
            self.net.links.insert(link, Link { ends });
            let back = self.net.delay_us(to, who.node);
            let forth = self.net.delay_us(who.node, to);
            self.send(who, back, Parcel::Established { link, dialled: true });
            let parcel = Parcel::Established { link, dialled: false };
            self.send(other_who, back + forth, parcel);
        } else if now.since(since) >= DIAL_US {
            self.mesh(who).handle_dial_failed(id_of(to), address, now);
        } else {
            self.send(who, HANDSHAKE_AGAIN_US, Parcel::Handshake { to, address, since });
        }
    }

    /// A connection stands at this end.
    pub(super) fn established(&mut self, who: Who, link: u64, dialled: bool) {
        let now = self.env.now;
        let Some((_, other)) = self.net.links.get(&link).and_then(|link| link.of(who)) else {
            return;
        };
        let node = id_of(other.who.node);
        let full = self.mesh(who).is_admitted(node);
        let Some(end) = self.net.links.get_mut(&link).and_then(|link| link.end_mut(who)) else {
            return;
        };
        if std::mem::replace(&mut end.came, true) {
            return;
        }
        end.open = true;
        end.full = full;
        // Gossip says on every connection that passed the gate what it listens to.
        if full {
            let after = self.net.delay_us(who.node, other.who.node);
            self.send(other.who, after, Parcel::Listens { link });
        }
        self.mesh(who).handle_connected(ConnectionId(link), node, dialled, now);
        let lives = self.machines[usize::from(other.who.node)].node.who == other.who;
        if !lives || self.net.is_cut(who.node, other.who.node) || self.net.is_cut(other.who.node, who.node) {
            self.send(who, IDLE_US, Parcel::Idle { link });
        }
    }

    /// Closes this process's end; the other one hears of it, or finds out.
    pub(super) fn close(&mut self, who: Who, link: u64) {
        let Some(entry) = self.net.links.get_mut(&link) else {
            return;
        };
        let Some((_, other)) = entry.of(who) else {
            return;
        };
        self.over(who, link, Parcel::Closed { link });
        if !self.net.is_cut(who.node, other.who.node) {
            // If that was lost, the next packet on a connection that is no more is answered with a reset.
            self.send(other.who, KEEP_ALIVE_US, Parcel::Closed { link });
        }
        self.send(who, 0, Parcel::Closed { link });
        self.send(other.who, IDLE_US, Parcel::Idle { link });
    }

    /// This end is closed.
    pub(super) fn end_closed(&mut self, who: Who, link: u64) {
        let Some(end) = self.net.links.get_mut(&link).and_then(|link| link.end_mut(who)) else {
            return;
        };
        end.came = true;
        if !std::mem::take(&mut end.open) {
            return;
        }
        let (now, ends) = (self.env.now, self.net.links[&link].ends);
        if ends.iter().all(|end| !end.open) {
            self.net.links.remove(&link);
        }
        let pending = self.net.pending.iter();
        let failed = pending.filter(|(_, pending)| pending.link == link && pending.from == who);
        let failed: Vec<u64> = failed.map(|(number, _)| *number).collect();
        for number in failed {
            self.send(who, 0, Parcel::Late { number });
        }
        let [a, b] = ends.map(|end| end.who);
        let other = if a == who { b } else { a };
        let mut left = self.net.open_links(who).into_iter();
        if !left.any(|(link, end)| end.who == other && self.net.is_full(link, who)) {
            self.net.listening.remove(&(other, who));
        }
        self.mesh(who).handle_disconnected(ConnectionId(link), now);
    }
}
