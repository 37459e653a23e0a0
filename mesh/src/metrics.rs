//! What the mesh counts; the only place in this crate that registers metrics.
//!
//! Label values come from closed lists, never from a peer.

use std::sync::atomic::AtomicU64;

use detour_core::mesh::{Event, PeerState, Refusal, RefusedBy, RejectedSnapshot};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All states of a peer, so that those without peers show 0.
const STATES: [PeerState; 6] = [
    PeerState::Waiting,
    PeerState::Dialling,
    PeerState::Greeting,
    PeerState::Connected,
    PeerState::Refused,
    PeerState::Quarantined,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SnapshotLabels {
    via: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    by: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

/// The counters and gauges of one mesh. Clones count together; they outlive each start of the mesh.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    up: Gauge,
    peers: Family<StateLabels, Gauge>,
    snapshots: Family<SnapshotLabels, Counter>,
    asked: Family<RequestLabels, Counter>,
    answered: Family<RequestLabels, Counter>,
    gossip: Family<ResultLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    events: Family<EventLabels, Counter>,
    bytes: Family<DirectionLabels, Counter>,
    denied: Counter,
    slow_peers: Counter,
    late_news: Counter,
    restarts: Counter,
    busy_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mesh_up", "Whether the mesh works and can be dialled", self.up.clone());
        registry.register("mesh_peers", "Peers by state", self.peers.clone());
        registry.register(
            "mesh_snapshots",
            "Snapshots of peers by way and by what became of them",
            self.snapshots.clone(),
        );
        registry.register(
            "mesh_requests",
            "Requests to peers by kind and result",
            self.asked.clone(),
        );
        registry.register(
            "mesh_requests_received",
            "Requests of peers by kind and result",
            self.answered.clone(),
        );
        registry.register(
            "mesh_gossip_published",
            "Own snapshots published by gossip, by result",
            self.gossip.clone(),
        );
        registry.register(
            "mesh_refusals",
            "Nodes turned away, by whom and why",
            self.refusals.clone(),
        );
        registry.register("mesh_events", "What an operator cares about", self.events.clone());
        registry.register(
            "mesh_message_bytes",
            "Bytes of messages to and from peers, without their envelopes",
            self.bytes.clone(),
        );
        registry.register(
            "mesh_connections_denied",
            "Connections beyond a limit, closed at once",
            self.denied.clone(),
        );
        registry.register(
            "mesh_slow_peers",
            "Times that a peer took gossip too slowly",
            self.slow_peers.clone(),
        );
        registry.register(
            "mesh_reports_late",
            "Reports of peers that the control plane could not take at once",
            self.late_news.clone(),
        );
        registry.register(
            "mesh_restarts",
            "Failures of the mesh, each followed by another start",
            self.restarts.clone(),
        );
        registry.register(
            "mesh_loop_busy_max_seconds",
            "Longest time that one event kept the mesh from others, in the last one to two minutes",
            self.busy_seconds.clone(),
        );
    }

    /// Failures so far.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.get()
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }

    pub(crate) fn set_peers(&self, states: impl Iterator<Item = PeerState> + Clone) {
        for state in STATES {
            let count = states.clone().filter(|other| *other == state).count();
            let gauge = self.peers.get_or_create(&StateLabels {
                state: state_word(state),
            });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn snapshot(&self, via: &'static str, result: &'static str) {
        self.snapshots.get_or_create(&SnapshotLabels { via, result }).inc();
    }

    pub(crate) fn asked(&self, kind: &'static str, result: &'static str) {
        self.asked.get_or_create(&RequestLabels { kind, result }).inc();
    }

    pub(crate) fn answered(&self, kind: &'static str, result: &'static str) {
        self.answered.get_or_create(&RequestLabels { kind, result }).inc();
    }

    pub(crate) fn gossip(&self, result: &'static str) {
        self.gossip.get_or_create(&ResultLabels { result }).inc();
    }

    pub(crate) fn event(&self, event: &Event) {
        let word = event_word(event);
        self.events.get_or_create(&EventLabels { event: word }).inc();
        let (by, refusal) = match event {
            Event::Refused(_, refusal) => (RefusedBy::Us, *refusal),
            Event::RefusedByPeer(_, refusal) => (RefusedBy::Peer, *refusal),
            Event::PeerUp(_)
            | Event::PeerDown(_)
            | Event::PeerRebooted(_)
            | Event::DuplicateInstance { .. }
            | Event::Equivocation(_)
            | Event::ClockOff { .. } => return,
        };
        self.refusal(by, refusal);
    }

    fn refusal(&self, by: RefusedBy, refusal: Refusal) {
        let by = match by {
            RefusedBy::Us => "us",
            RefusedBy::Peer => "peer",
        };
        let reason = refusal.word();
        self.refusals.get_or_create(&RefusalLabels { by, reason }).inc();
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.count_bytes("out", bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.count_bytes("in", bytes);
    }

    fn count_bytes(&self, direction: &'static str, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.get_or_create(&DirectionLabels { direction }).inc_by(bytes);
    }

    pub(crate) fn denied(&self) {
        self.denied.inc();
    }

    pub(crate) fn slow_peer(&self) {
        self.slow_peers.inc();
    }

    pub(crate) fn late_news(&self) {
        self.late_news.inc();
    }

    pub(crate) fn restarted(&self) {
        self.restarts.inc();
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit")]
    pub(crate) fn busy(&self, us: u64) {
        self.busy_seconds.set(us as f64 / 1_000_000.0);
    }
}

/// The label of a state; also its word in the API.
#[must_use]
pub fn state_word(state: PeerState) -> &'static str {
    match state {
        PeerState::Waiting => "waiting",
        PeerState::Dialling => "dialling",
        PeerState::Greeting => "greeting",
        PeerState::Connected => "connected",
        PeerState::Refused => "refused",
        PeerState::Quarantined => "quarantined",
    }
}

pub(crate) fn rejection_word(why: RejectedSnapshot) -> &'static str {
    match why {
        RejectedSnapshot::UnknownNode => "unknown-node",
        RejectedSnapshot::Older => "older",
        RejectedSnapshot::Stale => "stale",
        RejectedSnapshot::Own => "own",
        RejectedSnapshot::Equivocation => "equivocation",
        RejectedSnapshot::Quarantined => "quarantined",
        RejectedSnapshot::TooMuch => "too-much",
        RejectedSnapshot::NoHello => "no-hello",
    }
}

fn event_word(event: &Event) -> &'static str {
    match event {
        Event::PeerUp(_) => "peer-up",
        Event::PeerDown(_) => "peer-down",
        Event::Refused(..) => "refused",
        Event::RefusedByPeer(..) => "refused-by-peer",
        Event::PeerRebooted(_) => "peer-rebooted",
        Event::DuplicateInstance { .. } => "duplicate-instance",
        Event::Equivocation(_) => "equivocation",
        Event::ClockOff { .. } => "clock-off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_with_its_labels() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.set_up(true);
        metrics.set_peers([PeerState::Connected, PeerState::Connected].into_iter());
        metrics.snapshot("push", rejection_word(RejectedSnapshot::Older));
        metrics.event(&Event::Refused(
            detour_core::report::NodeId([1; 32]),
            Refusal::UnknownNode,
        ));
        metrics.busy(1_500);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "mesh_up 1",
            "mesh_peers{state=\"connected\"} 2",
            "mesh_peers{state=\"refused\"} 0",
            "mesh_snapshots_total{via=\"push\",result=\"older\"} 1",
            "mesh_refusals_total{by=\"us\",reason=\"unknown-node\"} 1",
            "mesh_events_total{event=\"refused\"} 1",
            "mesh_loop_busy_max_seconds 0.0015",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
