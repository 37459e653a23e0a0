//! What the control task, the store and the cache file count; labels come from closed enums and the configuration only.

use std::collections::BTreeSet;
use std::hash::Hash;

use detour_core::control::{Event, ProbeWhy};
use detour_core::{EndpointId, Topology};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ProbeLabels {
    endpoint: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct WayLabels {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct StateLabels {
    endpoint: String,
    to: &'static str,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ClaimLabels {
    endpoint: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct PlaceLabels {
    endpoint: String,
    place: &'static str,
    why: &'static str,
}

/// Labels that say which endpoint a series is of.
trait OfEndpoint: Clone + Hash + Eq + Ord {
    fn endpoint(&self) -> &str;
}

impl OfEndpoint for ProbeLabels {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl OfEndpoint for WayLabels {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl OfEndpoint for StateLabels {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl OfEndpoint for ClaimLabels {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl OfEndpoint for PlaceLabels {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// Counters that are shown as long as the configuration has their endpoint: else every reload could add some for ever.
#[derive(Debug)]
struct Series<L: OfEndpoint> {
    family: Family<L, Counter>,
    /// Labels that occurred: closed lists, times the endpoints of the configuration.
    shown: BTreeSet<L>,
}

impl<L: OfEndpoint> Default for Series<L> {
    fn default() -> Self {
        Self {
            family: Family::default(),
            shown: BTreeSet::new(),
        }
    }
}

impl<L: OfEndpoint> Series<L> {
    fn count(&mut self, labels: L) {
        self.family.get_or_create(&labels).inc();
        self.shown.insert(labels);
    }

    /// Shows those of other endpoints no more. One that returns begins at 0, as a counter does that was away.
    fn keep_only(&mut self, endpoints: &[String]) {
        self.shown.retain(|labels| {
            let stays = endpoints.iter().any(|endpoint| endpoint == labels.endpoint());
            if !stays {
                self.family.remove(labels);
            }
            stays
        });
    }
}

/// The counters.
#[derive(Debug)]
pub(crate) struct ControlMetrics {
    endpoints: Vec<String>,
    probes: Series<ProbeLabels>,
    states: Series<StateLabels>,
    places: Series<PlaceLabels>,
    claims: Series<ClaimLabels>,
    ways: Series<WayLabels>,
    uplink_suspect: Counter,
    resumes: Counter,
}

impl ControlMetrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry, topology: &Topology) -> Self {
        let metrics = Self {
            endpoints: labels(topology),
            probes: Series::default(),
            states: Series::default(),
            places: Series::default(),
            claims: Series::default(),
            ways: Series::default(),
            uplink_suspect: Counter::default(),
            resumes: Counter::default(),
        };
        registry.register(
            "probes",
            "Own probes of endpoints, by what for",
            metrics.probes.family.clone(),
        );
        registry.register(
            "endpoint_state_changes",
            "State changes of endpoints, by new state and cause",
            metrics.states.family.clone(),
        );
        registry.register(
            "endpoint_place_changes",
            "Place changes of endpoints, by new place and why",
            metrics.places.family.clone(),
        );
        registry.register(
            "claims",
            "Peers' statements that an endpoint is down, by what became of them",
            metrics.claims.family.clone(),
        );
        registry.register(
            "uplink_suspect_events",
            "Times no provider answered on a path",
            metrics.uplink_suspect.clone(),
        );
        registry.register(
            "route_changes",
            "Times packets to an endpoint took another way from then on",
            metrics.ways.family.clone(),
        );
        registry.register(
            "resumes",
            "Times the machine was found to have slept",
            metrics.resumes.clone(),
        );
        metrics
    }

    /// From here on endpoints are those of this topology.
    pub(crate) fn follow(&mut self, topology: &Topology) {
        self.endpoints = labels(topology);
        self.probes.keep_only(&self.endpoints);
        self.states.keep_only(&self.endpoints);
        self.places.keep_only(&self.endpoints);
        self.claims.keep_only(&self.endpoints);
        self.ways.keep_only(&self.endpoints);
    }

    fn label(&self, endpoint: EndpointId) -> String {
        self.endpoints.get(usize::from(endpoint.0)).cloned().unwrap_or_default()
    }

    /// A probe is sent.
    pub(crate) fn count_probe(&mut self, endpoint: EndpointId, why: ProbeWhy) {
        let why = why.word();
        let endpoint = self.label(endpoint);
        self.probes.count(ProbeLabels { endpoint, why });
    }

    /// Packets to these endpoints take another way.
    pub(crate) fn count_new_ways(&mut self, endpoints: &[EndpointId]) {
        for endpoint in endpoints {
            let endpoint = self.label(*endpoint);
            self.ways.count(WayLabels { endpoint });
        }
    }

    /// Something happened.
    pub(crate) fn count_event(&mut self, event: &Event) {
        match *event {
            Event::StateChanged {
                endpoint, to, cause, ..
            } => {
                let labels = StateLabels {
                    endpoint: self.label(endpoint),
                    to: to.word(),
                    cause: cause.word(),
                };
                self.states.count(labels);
            }
            Event::PlaceChanged { endpoint, to, .. } => {
                let labels = PlaceLabels {
                    endpoint: self.label(endpoint),
                    place: to.place().word(),
                    why: to.word(),
                };
                self.places.count(labels);
            }
            Event::UplinkSuspect(_) => {
                self.uplink_suspect.inc();
            }
            Event::Claimed { endpoint, claim } | Event::ClaimDecided { endpoint, claim } => {
                let labels = ClaimLabels {
                    endpoint: self.label(endpoint),
                    state: claim.state.word(),
                };
                self.claims.count(labels);
            }
            Event::Resumed { .. } => {
                self.resumes.inc();
            }
            Event::UplinkReturned(_) | Event::NothingUp(_) | Event::SomethingUp(_) => {}
            Event::InTheClear(_) | Event::EncryptedAgain(_) | Event::ClockWrong(_) | Event::ClockRight => {}
        }
    }
}

fn labels(topology: &Topology) -> Vec<String> {
    let endpoints = topology.endpoints.iter();
    endpoints.map(|endpoint| endpoint.label.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, to_topology};
    use prometheus_client::encoding::text::encode;

    fn topology(address: &str) -> Topology {
        let text = format!(
            "version = 1\n[[provider]]\nname = \"a\"\nendpoints = [\"udp://{address}\", \"udp://192.0.2.1\"]\n"
        );
        to_topology(&Config::parse(&text, std::path::Path::new("x.toml")).unwrap())
    }

    #[test]
    fn series_of_endpoints_that_are_gone_go_with_them() {
        let mut registry = Registry::default();
        let mut metrics = ControlMetrics::register(&mut registry, &topology("192.0.2.2"));
        let shown = |metrics: &mut ControlMetrics| {
            metrics.count_probe(EndpointId(0), ProbeWhy::Schedule);
            metrics.count_probe(EndpointId(1), ProbeWhy::Start);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("probes_total{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(&mut metrics).len(), 2);
        for n in 3..100 {
            metrics.follow(&topology(&format!("192.0.2.{n}")));
            let lines = shown(&mut metrics);
            assert_eq!(lines.len(), 2, "{lines:?}");
            let stays = format!("probes_total{{endpoint=\"udp://192.0.2.1\",why=\"start\"}} {}", n - 1);
            assert!(lines.contains(&stays), "{lines:?}");
        }
    }
}

/// Why something is not kept, or not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum StoreDropped {
    /// The store's thread was behind.
    queue,
    /// The key or the value was.
    too_long,
    /// There were as many values as there may be.
    full,
    /// It is not what was written.
    checksum,
    /// Another version of this program wrote it.
    version,
    /// Nobody can tell how old it is, or it is too old.
    age,
    /// It cannot be read for another reason.
    content,
}

/// What went wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum StoreFailure {
    /// It could not be opened.
    open,
    /// It could not be written.
    write,
    /// It was damaged.
    damaged,
    /// Its engine panicked.
    panic,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    why: StoreDropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    what: StoreFailure,
}

/// What the store counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreMetrics {
    on_disk: Gauge,
    writes: Counter,
    failures: Family<FailureLabels, Counter>,
    dropped: Family<DroppedLabels, Counter>,
    restored: Counter,
}

impl StoreMetrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "store_on_disk",
            "1 while what is learned is kept on disk, else 0",
            metrics.on_disk.clone(),
        );
        registry.register(
            "store_writes",
            "Times changes were written to disk",
            metrics.writes.clone(),
        );
        registry.register(
            "store_failures",
            "What went wrong with the store",
            metrics.failures.clone(),
        );
        registry.register(
            "store_dropped",
            "Values not kept, or not taken back, by why",
            metrics.dropped.clone(),
        );
        registry.register(
            "latencies_restored",
            "Endpoints whose answer times an earlier process had learned",
            metrics.restored.clone(),
        );
        metrics
    }

    pub(crate) fn set_on_disk(&self, on_disk: bool) {
        self.on_disk.set(on_disk.into());
    }

    pub(crate) fn count_write(&self) {
        self.writes.inc();
    }

    pub(crate) fn count_failure(&self, what: StoreFailure) {
        self.failures.get_or_create(&FailureLabels { what }).inc();
    }

    pub(crate) fn count_dropped(&self, why: StoreDropped) {
        self.dropped.get_or_create(&DroppedLabels { why }).inc();
    }

    pub(crate) fn count_restored(&self) {
        self.restored.inc();
    }
}

/// What came of resolving a host name of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum NameLookup {
    /// Addresses.
    found,
    /// It has none, or does not exist.
    empty,
    /// Nobody said.
    failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    outcome: NameLookup,
}

/// What came of asking for designated resolvers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum DesignationOutcome {
    /// There is one that showed what it must.
    proven,
    /// There are some, and none did.
    refused,
    /// Nobody is designated, or nobody answered.
    none,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DesignationLabels {
    outcome: DesignationOutcome,
}

/// Host names of endpoints, and what endpoints designate.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamesMetrics {
    lookups: Family<NameLabels, Counter>,
    designations: Family<DesignationLabels, Counter>,
}

impl NamesMetrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "host_name_lookups",
            "Times the host name of an endpoint was resolved",
            metrics.lookups.clone(),
        );
        registry.register(
            "designations",
            "Times an endpoint was asked for designated resolvers",
            metrics.designations.clone(),
        );
        metrics
    }

    pub(crate) fn count_designation(&self, outcome: DesignationOutcome) {
        self.designations.get_or_create(&DesignationLabels { outcome }).inc();
    }

    pub(crate) fn count(&self, outcome: NameLookup) {
        self.lookups.get_or_create(&NameLabels { outcome }).inc();
    }
}

/// What became of an answer in a cache file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum FileEntry {
    /// It is in the cache.
    restored,
    /// Something younger was there.
    known,
    /// It was too old.
    expired,
    /// It was of a group of providers that there is not any more.
    stranger,
    /// It did not pass for an answer that may be kept.
    rejected,
    /// A stretch of the file that could not be read.
    damaged,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    outcome: FileEntry,
}

/// What the cache file counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheFileMetrics {
    writes: Counter,
    failures: Counter,
    entries: Family<FileLabels, Counter>,
}

impl CacheFileMetrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "cache_file_writes",
            "Times the cache file was written",
            metrics.writes.clone(),
        );
        registry.register(
            "cache_file_failures",
            "Times the cache file could not be read or written",
            metrics.failures.clone(),
        );
        registry.register(
            "cache_file_entries",
            "Answers found in the cache file at the start, by what became of them",
            metrics.entries.clone(),
        );
        metrics
    }

    pub(crate) fn count_write(&self) {
        self.writes.inc();
    }

    pub(crate) fn count_failure(&self) {
        self.failures.inc();
    }

    pub(crate) fn count_entries(&self, outcome: FileEntry, count: u64) {
        if count > 0 {
            self.entries.get_or_create(&FileLabels { outcome }).inc_by(count);
        }
    }
}
