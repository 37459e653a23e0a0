//! What the data plane counts; the only place in this crate that registers metrics.
//!
//! Label values come from closed enums or from the configuration, never from a query, a client or an error text.

use std::sync::atomic::AtomicU64;

use detour_core::EndpointId;
use detour_core::Topology;
use detour_core::lookup::Why;
use detour_core::outcome::{Reply, Signal};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How a query came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub enum Transport {
    /// One datagram.
    udp,
    /// A connection.
    tcp,
}

/// Where a reply came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub enum Source {
    /// A fresh cache entry.
    cache,
    /// A stale cache entry.
    stale,
    /// A provider.
    provider,
    /// Another client's identical question.
    merged,
    /// A failure remembered.
    failure_cache,
    /// This node, without asking anybody.
    local,
    /// The client may not ask.
    refused,
    /// The query could not be read or is not served.
    rejected,
    /// No provider answered.
    no_answer,
    /// Too many queries were being resolved.
    overload,
    /// A query task panicked.
    panic,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    transport: Transport,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplyLabels {
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    endpoint: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    endpoint: String,
    event: &'static str,
}

/// A reply's source, countable without a lock.
const SOURCES: [Source; 11] = [
    Source::cache,
    Source::stale,
    Source::provider,
    Source::merged,
    Source::failure_cache,
    Source::local,
    Source::refused,
    Source::rejected,
    Source::no_answer,
    Source::overload,
    Source::panic,
];

/// What came of attempts, as counted.
const SIGNALS: [&str; 5] = ["answered", "failed", "garbage", "mismatch", "forgeable"];

/// The counters of one topology, by [`EndpointId`].
#[derive(Debug)]
pub(crate) struct EndpointCounters {
    attempts: Vec<Vec<Counter>>,
    signals: Vec<[Counter; 5]>,
}

/// The counters, resolved to atomics once so that counting is one addition.
#[derive(Debug)]
pub struct Metrics {
    queries: [Counter<u64, AtomicU64>; 2],
    replies: Vec<Counter>,
    attempts: Family<AttemptLabels, Counter>,
    signals: Family<EventLabels, Counter>,
    /// Hot answers had anew before they expired.
    pub prefetches: Counter,
    /// Answers with IPv4 addresses translated for a network without IPv4.
    pub translated: Counter,
    /// Connections turned away because too many were open.
    pub connections_refused: Counter,
    /// Connections closed because their clients did not read.
    connections_cut: Counter,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let queries = Family::<QueryLabels, Counter>::default();
        registry.register("dns_queries", "Client queries received", queries.clone());
        let replies = Family::<ReplyLabels, Counter>::default();
        registry.register("dns_replies", "Replies sent, by where they came from", replies.clone());
        let attempts = Family::<AttemptLabels, Counter>::default();
        registry.register(
            "attempts",
            "Attempts at endpoints for clients, by what for",
            attempts.clone(),
        );
        let signals = Family::<EventLabels, Counter>::default();
        registry.register("attempt_outcomes", "What came back from attempts", signals.clone());
        let prefetches = Counter::default();
        registry.register(
            "cache_prefetches",
            "Hot answers had anew before they expired",
            prefetches.clone(),
        );
        let translated = Counter::default();
        registry.register(
            "dns64_translated",
            "Answers with IPv4 addresses translated for a network without IPv4",
            translated.clone(),
        );
        let connections_refused = Counter::default();
        registry.register(
            "tcp_connections_refused",
            "Client connections closed at once because too many were open",
            connections_refused.clone(),
        );
        let connections_cut = Counter::default();
        registry.register(
            "tcp_connections_cut",
            "Client connections closed because too many replies waited to be read",
            connections_cut.clone(),
        );
        Self {
            queries: [Transport::udp, Transport::tcp]
                .map(|transport| queries.get_or_create(&QueryLabels { transport }).clone()),
            replies: SOURCES
                .iter()
                .map(|source| replies.get_or_create(&ReplyLabels { source: *source }).clone())
                .collect(),
            attempts,
            signals,
            prefetches,
            translated,
            connections_refused,
            connections_cut,
        }
    }

    /// The counters of a topology. Endpoints that had some before go on with them.
    #[must_use]
    pub(crate) fn counters_of(&self, topology: &Topology) -> EndpointCounters {
        let labels = topology.endpoints.iter().map(|endpoint| &endpoint.label);
        EndpointCounters {
            attempts: labels
                .clone()
                .map(|label| {
                    let counter = |why| self.attempts.get_or_create(&attempt_labels(label, why)).clone();
                    Why::ALL.into_iter().map(counter).collect()
                })
                .collect(),
            signals: labels
                .map(|label| SIGNALS.map(|event| self.signals.get_or_create(&event_labels(label, event)).clone()))
                .collect(),
        }
    }

    /// Shows no series of endpoints any more that `newer` does not have: else every reload could add some for ever. An
    /// endpoint that returns begins at 0, which is what a counter does that was away.
    pub(crate) fn forget_gone(&self, older: &Topology, newer: &Topology) {
        let stays = |label: &String| newer.endpoints.iter().any(|endpoint| endpoint.label == *label);
        let labels = older.endpoints.iter().map(|endpoint| &endpoint.label);
        for label in labels.filter(|label| !stays(label)) {
            for why in Why::ALL {
                self.attempts.remove(&attempt_labels(label, why));
            }
            for event in SIGNALS {
                self.signals.remove(&event_labels(label, event));
            }
        }
    }

    /// A connection ends because its client does not read.
    pub(crate) fn note_cut(&self) {
        self.connections_cut.inc();
    }

    /// So many queries came.
    pub fn count_queries(&self, transport: Transport, count: u64) {
        let [udp, tcp] = &self.queries;
        match transport {
            Transport::udp => udp.inc_by(count),
            Transport::tcp => tcp.inc_by(count),
        };
    }

    /// A reply leaves.
    pub fn count_reply(&self, source: Source) {
        self.count_replies(source, 1);
    }

    /// So many replies leave; none is not counted at all, which spares the readers of a busy counter.
    pub fn count_replies(&self, source: Source, count: u64) {
        let index = SOURCES.iter().position(|s| *s == source);
        if let Some(counter) = index.and_then(|i| self.replies.get(i)).filter(|_| count > 0) {
            counter.inc_by(count);
        }
    }
}

fn attempt_labels(label: &str, why: Why) -> AttemptLabels {
    AttemptLabels {
        endpoint: label.to_owned(),
        why: why.word(),
    }
}

fn event_labels(label: &str, event: &'static str) -> EventLabels {
    EventLabels {
        endpoint: label.to_owned(),
        event,
    }
}

impl EndpointCounters {
    /// An attempt begins.
    pub(crate) fn count_attempt(&self, endpoint: EndpointId, why: Why) {
        let index = Why::ALL.iter().position(|w| *w == why);
        let counters = self.attempts.get(usize::from(endpoint.0));
        if let Some(counter) = counters.and_then(|c| c.get(index?)) {
            counter.inc();
        }
    }

    /// Something came back.
    pub(crate) fn count_signal(&self, endpoint: EndpointId, signal: Signal) {
        if let Some([answered, failed, garbage, mismatch, forgeable]) = self.signals.get(usize::from(endpoint.0)) {
            match signal {
                Signal::Answered(Reply::Forgeable) => forgeable.inc(),
                Signal::Answered(_) => answered.inc(),
                Signal::Failed(_) => failed.inc(),
                Signal::Garbage => garbage.inc(),
                Signal::Mismatch => mismatch.inc(),
            };
        }
    }
}
