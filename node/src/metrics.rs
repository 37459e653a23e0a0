//! What the control task counts; labels come from closed enums and the configuration only.

use detour_core::control::{Event, ProbeWhy};
use detour_core::{EndpointId, Topology};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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
