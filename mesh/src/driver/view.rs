//! How this life of the mesh is, for people and metrics.

use std::sync::Arc;

use detour_core::mesh::{PeerView, Refusal, RefusedBy};
use detour_core::report::NodeId;
use detour_core::time::{SEC, Time};

use super::Driver;
use crate::identity::name_of;
use crate::metrics::Metrics;
use crate::status::{Condition, MeshStatus, MissingLine, PeerStatus};

/// Another process under this node's key is told of for this long; while it runs it is found again every minute.
const DUPLICATE_US: u64 = 3 * 60 * SEC;

/// The longest time is forgotten after one to two of these.
const WINDOW_US: u64 = 60 * SEC;

/// How long single events kept the loop busy.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    window: Time,
    longest_us: u64,
    before_us: u64,
}

impl Busy {
    pub(crate) fn note(&mut self, from: Time, until: Time, metrics: &Metrics) {
        if until.since(self.window) >= WINDOW_US {
            self.window = until;
            self.before_us = std::mem::take(&mut self.longest_us);
        }
        self.longest_us = self.longest_us.max(until.since(from));
        metrics.busy(self.longest_us.max(self.before_us));
    }
}

impl Driver {
    pub(crate) fn publish_status(&self) {
        let now = self.config.clock.now();
        let peers = self.cluster.peers((self.config.wall_ms)(), now);
        let metrics = &self.around.metrics;
        metrics.set_peers(peers.iter().map(|view| view.state));
        let condition = if self.listeners.is_well() {
            Condition::Up
        } else {
            Condition::Deaf
        };
        metrics.set_up(condition == Condition::Up);
        let before = self.around.status.borrow().clone();
        let since = if before.condition == condition {
            before.since
        } else {
            now
        };
        let listen = self.listeners.status();
        let deaf = listen.iter().filter_map(|listener| {
            let error = listener.error.as_ref()?;
            Some(format!("cannot listen at {}: {error}", listener.address))
        });
        let is_recent = |found: &Time| now.since(*found) < DUPLICATE_US;
        let duplicate = self.duplicate.filter(is_recent).map(|_| {
            "another process has this node's identity: every node needs a state directory of its own, not a copy"
                .to_owned()
        });
        let status = MeshStatus {
            condition,
            since,
            complaints: self.complaint.iter().cloned().chain(duplicate).chain(deaf).collect(),
            node: before.node,
            peer_id: before.peer_id.clone(),
            boot: self.boot,
            edition: self.cluster.own_edition(),
            peers: peers.into_iter().map(|view| self.peer_status(view)).collect(),
            restarts: metrics.restarts(),
            listen,
        };
        self.around.status.send_replace(Arc::new(status));
    }

    fn peer_status(&self, view: PeerView) -> PeerStatus {
        let member = self.members.iter().find(|member| member.node == view.node);
        let addresses = member.map(|member| member.addresses.iter().map(ToString::to_string).collect());
        PeerStatus {
            peer_id: name_of(view.node),
            addresses: addresses.unwrap_or_default(),
            connected: self.links.remotes(view.node),
            last_error: self.notes.error(view.node),
            line: self.missing_line(view.node, view.refusal),
            view,
        }
    }

    fn missing_line(&self, node: NodeId, refusal: Option<(Refusal, RefusedBy)>) -> Option<MissingLine> {
        let own = self.config.identity.node();
        self.notes.line(node, refusal, own, self.listeners.port())
    }

    /// The line as log fields show it.
    pub(crate) fn line_of(&self, node: NodeId, refusal: Option<(Refusal, RefusedBy)>) -> Option<String> {
        match self.missing_line(node, refusal)? {
            MissingLine::Here(line) | MissingLine::There(line) => Some(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_is_forgotten_in_two_windows() {
        let metrics = Metrics::default();
        let mut busy = Busy::default();
        let at = |s: u64| Time::from_micros(s * SEC);
        busy.note(at(100), at(100).plus(500), &metrics);
        busy.note(at(101), at(101).plus(5), &metrics);
        assert_eq!(busy.longest_us, 500);
        busy.note(at(161), at(161).plus(5), &metrics);
        assert_eq!((busy.longest_us, busy.before_us), (5, 500));
        busy.note(at(222), at(222).plus(6), &metrics);
        assert_eq!((busy.longest_us, busy.before_us), (6, 5));
    }
}
