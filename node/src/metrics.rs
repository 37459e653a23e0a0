//! What the control task, the store and the cache file count; labels come from closed enums and the configuration only.

use detour_core::control::{Event, ProbeWhy};
use detour_core::{EndpointId, Topology};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    endpoint: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    endpoint: String,
    to: &'static str,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    endpoint: String,
    place: &'static str,
    why: &'static str,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct ControlMetrics {
    endpoints: Vec<String>,
    probes: Family<ProbeLabels, Counter>,
    states: Family<StateLabels, Counter>,
    places: Family<PlaceLabels, Counter>,
    uplink_suspect: Counter,
    resumes: Counter,
}

impl ControlMetrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry, topology: &Topology) -> Self {
        let metrics = Self {
            endpoints: topology.endpoints.iter().map(|e| e.label.clone()).collect(),
            probes: Family::default(),
            states: Family::default(),
            places: Family::default(),
            uplink_suspect: Counter::default(),
            resumes: Counter::default(),
        };
        registry.register("probes", "Own probes of endpoints, by what for", metrics.probes.clone());
        registry.register(
            "endpoint_state_changes",
            "State changes of endpoints, by new state and cause",
            metrics.states.clone(),
        );
        registry.register(
            "endpoint_place_changes",
            "Place changes of endpoints, by new place and why",
            metrics.places.clone(),
        );
        registry.register(
            "uplink_suspect_events",
            "Times no provider answered on a path",
            metrics.uplink_suspect.clone(),
        );
        registry.register(
            "resumes",
            "Times the machine was found to have slept",
            metrics.resumes.clone(),
        );
        metrics
    }

    fn label(&self, endpoint: EndpointId) -> String {
        self.endpoints.get(usize::from(endpoint.0)).cloned().unwrap_or_default()
    }

    /// A probe is sent.
    pub(crate) fn count_probe(&self, endpoint: EndpointId, why: ProbeWhy) {
        let why = match why {
            ProbeWhy::Schedule => "schedule",
            ProbeWhy::Reference => "reference",
            ProbeWhy::Standby => "standby",
        };
        let endpoint = self.label(endpoint);
        self.probes.get_or_create(&ProbeLabels { endpoint, why }).inc();
    }

    /// Something happened.
    pub(crate) fn count_event(&self, event: &Event) {
        match *event {
            Event::StateChanged {
                endpoint, to, cause, ..
            } => {
                let labels = StateLabels {
                    endpoint: self.label(endpoint),
                    to: to.word(),
                    cause: cause.word(),
                };
                self.states.get_or_create(&labels).inc();
            }
            Event::PlaceChanged { endpoint, to, .. } => {
                let labels = PlaceLabels {
                    endpoint: self.label(endpoint),
                    place: to.place().word(),
                    why: to.word(),
                };
                self.places.get_or_create(&labels).inc();
            }
            Event::UplinkSuspect(_) => {
                self.uplink_suspect.inc();
            }
            Event::Resumed { .. } => {
                self.resumes.inc();
            }
            Event::UplinkReturned(_) | Event::NothingUp | Event::SomethingUp => {}
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
