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
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::wire::Via;

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
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabels {
    transport: &'static str,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    transport: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    transport: &'static str,
    status: u16,
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

/// Why a connection was turned away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many are open as there may be.
    Total,
    /// Its client has its share of them.
    Client,
    /// Too many handshakes are under way.
    Handshakes,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Well.
    Done,
    /// The client went, broke the rules, or wants what is not offered.
    Failed,
    /// It took too long.
    Timeout,
}

/// Why a connection was cut while its client still wanted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It did not take its replies.
    Slow,
    /// What it sent breaks the rules of its protocol.
    Protocol,
    /// It sent far more than queries: resets, requests without an end.
    Flood,
    /// All places were taken, its client had most of them, and somebody else came.
    Room,
}

impl Refused {
    const WORDS: [&str; 3] = ["total", "client", "handshakes"];
}

impl Handshake {
    const WORDS: [&str; 3] = ["done", "failed", "timeout"];
}

impl Cut {
    const WORDS: [&str; 4] = ["slow", "protocol", "flood", "room"];
}

/// What is counted of the connections of one kind.
#[derive(Debug)]
pub struct StreamCounters {
    open: Gauge,
    refused: [Counter; 3],
    handshakes: [Counter; 3],
    cut: [Counter; 4],
}

impl StreamCounters {
    /// A connection is open as long as what is returned lives.
    #[must_use]
    pub fn opened(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    /// A connection was turned away.
    pub fn count_refused(&self, why: Refused) {
        let [total, client, handshakes] = &self.refused;
        match why {
            Refused::Total => total.inc(),
            Refused::Client => client.inc(),
            Refused::Handshakes => handshakes.inc(),
        };
    }

    /// A handshake ended.
    pub fn count_handshake(&self, how: Handshake) {
        let [done, failed, timeout] = &self.handshakes;
        match how {
            Handshake::Done => done.inc(),
            Handshake::Failed => failed.inc(),
            Handshake::Timeout => timeout.inc(),
        };
    }

    /// A connection was cut.
    pub fn count_cut(&self, why: Cut) {
        let [slow, protocol, flood, room] = &self.cut;
        match why {
            Cut::Slow => slow.inc(),
            Cut::Protocol => protocol.inc(),
            Cut::Flood => flood.inc(),
            Cut::Room => room.inc(),
        };
    }
}

/// An open connection, for the gauge.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one topology, by [`EndpointId`].
#[derive(Debug)]
pub(crate) struct EndpointCounters {
    attempts: Vec<Vec<Counter>>,
    signals: Vec<[Counter; 5]>,
}

/// The counters, resolved to atomics once so that counting is one addition.
#[derive(Debug)]
pub struct Metrics {
    queries: [Counter<u64, AtomicU64>; 6],
    replies: Vec<Counter>,
    attempts: Family<AttemptLabels, Counter>,
    signals: Family<EventLabels, Counter>,
    /// Hot answers had anew before they expired.
    pub prefetches: Counter,
    /// Answers with IPv4 addresses translated for a network without IPv4.
    pub translated: Counter,
    /// By [`Via::index`]; a datagram has none, and its place stays empty.
    streams: [StreamCounters; 6],
    http_errors: Family<StatusLabels, Counter>,
    retries: [Counter; 2],
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
        let http_errors = Family::<StatusLabels, Counter>::default();
        registry.register(
            "http_errors",
            "Requests answered by an HTTP status other than 200",
            http_errors.clone(),
        );
        let retries = Family::<QueryLabels, Counter>::default();
        registry.register(
            "quic_retries",
            "Clients asked to prove their address before their handshake, because many were under way",
            retries.clone(),
        );
        Self {
            queries: Via::ALL.map(|via| queries.get_or_create(&query_labels(via)).clone()),
            replies: SOURCES
                .iter()
                .map(|source| replies.get_or_create(&ReplyLabels { source: *source }).clone())
                .collect(),
            attempts,
            signals,
            prefetches,
            translated,
            streams: stream_counters(registry),
            http_errors,
            retries: [Via::H3, Via::Quic].map(|via| retries.get_or_create(&query_labels(via)).clone()),
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

    /// So many queries came.
    pub fn count_queries(&self, via: Via, count: u64) {
        if let Some(counter) = self.queries.get(via.index()) {
            counter.inc_by(count);
        }
    }

    /// What is counted of connections of this kind.
    pub(crate) fn streams(&self, via: Via) -> &StreamCounters {
        let [udp, tcp, tls, https, h3, quic] = &self.streams;
        match via {
            Via::Udp => udp,
            Via::Tcp => tcp,
            Via::Tls => tls,
            Via::Https => https,
            Via::H3 => h3,
            Via::Quic => quic,
        }
    }

    /// A request was answered by this status, one of a few that this node knows.
    pub(crate) fn count_http_error(&self, via: Via, status: u16) {
        let labels = StatusLabels {
            transport: via.word(),
            status,
        };
        self.http_errors.get_or_create(&labels).inc();
    }

    /// A client was asked to prove its address.
    pub(crate) fn count_retry(&self, via: Via) {
        let [h3, quic] = &self.retries;
        if via == Via::H3 {
            h3.inc()
        } else {
            quic.inc()
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

fn query_labels(via: Via) -> QueryLabels {
    QueryLabels { transport: via.word() }
}

/// Registers what is counted of connections. Datagrams have counters too, which nobody sees.
fn stream_counters(registry: &mut Registry) -> [StreamCounters; 6] {
    let open = Family::<QueryLabels, Gauge>::default();
    registry.register("connections", "Client connections that are open", open.clone());
    let refused = Family::<WhyLabels, Counter>::default();
    registry.register(
        "connections_refused",
        "Client connections turned away at once, by what there was too much of",
        refused.clone(),
    );
    let handshakes = Family::<HandshakeLabels, Counter>::default();
    registry.register(
        "handshakes",
        "Handshakes of clients that ended, by how",
        handshakes.clone(),
    );
    let cut = Family::<WhyLabels, Counter>::default();
    registry.register(
        "connections_cut",
        "Client connections cut because of what their client did or did not do",
        cut.clone(),
    );
    Via::ALL.map(|via| {
        let transport = via.word();
        let of_why =
            |family: &Family<WhyLabels, Counter>, why| family.get_or_create(&WhyLabels { transport, why }).clone();
        if via == Via::Udp {
            return StreamCounters {
                open: Gauge::default(),
                refused: <[Counter; 3]>::default(),
                handshakes: <[Counter; 3]>::default(),
                cut: <[Counter; 4]>::default(),
            };
        }
        StreamCounters {
            open: open.get_or_create(&query_labels(via)).clone(),
            refused: Refused::WORDS.map(|why| of_why(&refused, why)),
            handshakes: if via.is_encrypted() {
                Handshake::WORDS.map(|result| handshakes.get_or_create(&HandshakeLabels { transport, result }).clone())
            } else {
                <[Counter; 3]>::default()
            },
            cut: Cut::WORDS.map(|why| of_why(&cut, why)),
        }
    })
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
