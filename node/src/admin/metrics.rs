//! `/metrics`: the counters of the whole process, and gauges read at the moment of the scrape.
//!
//! Counters live in the process' registry and count whether anybody scrapes or not. What can be read off the routes,
//! the cache and the tasks is not kept twice: it goes into a registry made for one scrape, written behind the first,
//! so that both are one OpenMetrics document. Label values come from closed enums and the configuration only.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use detour_core::health::state::State as Health;
use detour_core::routes::{Place, Routes};
use detour_resolver::generation::Generation;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::AdminState;
use super::refusal::Refusal;
use crate::certificate::CertificateKeeper;
use crate::config::RESTART_KEYS;

/// What OpenMetrics 1.0 says a scraper is to be told.
const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type Ratio = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    endpoint: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    endpoint: String,
    place: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    key: &'static str,
}

/// Writes them.
pub(super) async fn metrics(State(state): State<AdminState>) -> Result<impl IntoResponse, Refusal> {
    // Writing into memory fails only where a metric of ours does.
    let text = document(&state).map_err(|fmt::Error| Refusal::Metrics)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn document(state: &AdminState) -> Result<String, fmt::Error> {
    let mut scraped = Registry::with_prefix("detour");
    let generation = state.shared.generation();
    let routes = generation.routes();
    add_endpoints(&mut scraped, &routes);
    add_providers(&mut scraped, &routes, &generation, state);
    add_process(&mut scraped, &generation, state);
    add_configuration(&mut scraped, state);
    if let Some(certificate) = &state.certificate {
        add_certificate(&mut scraped, certificate);
    }
    let mut text = String::new();
    encode_registry(&mut text, &state.registry)?;
    encode_registry(&mut text, &scraped)?;
    encode_eof(&mut text)?;
    Ok(text)
}

fn add_endpoints(registry: &mut Registry, routes: &Routes) {
    let states = Family::<StateLabels, Gauge>::default();
    let places = Family::<PlaceLabels, Gauge>::default();
    let medians = Family::<EndpointLabels, Ratio>::default();
    let p95s = Family::<EndpointLabels, Ratio>::default();
    for (endpoint, route) in routes.topology.endpoints.iter().zip(&routes.endpoints) {
        for state in Health::ALL {
            let labels = StateLabels {
                endpoint: endpoint.label.clone(),
                state: state.word(),
            };
            states.get_or_create(&labels).set((state == route.state).into());
        }
        for place in [Place::Normal, Place::Last, Place::Out] {
            let labels = PlaceLabels {
                endpoint: endpoint.label.clone(),
                place: place.word(),
            };
            places.get_or_create(&labels).set((place == route.place()).into());
        }
        let labels = EndpointLabels {
            endpoint: endpoint.label.clone(),
        };
        if let Some(p50_us) = route.timing.p50_us {
            medians.get_or_create(&labels).set(as_seconds(p50_us));
            p95s.get_or_create(&labels).set(as_seconds(route.timing.p95_us));
        }
    }
    registry.register("endpoint_state", "1 for the state an endpoint is in, else 0", states);
    registry.register("endpoint_place", "1 for where plans put an endpoint, else 0", places);
    let name = "endpoint_p50";
    registry.register_with_unit(name, "Median of recent answers", Unit::Seconds, medians);
    let name = "endpoint_p95";
    registry.register_with_unit(
        name,
        "Time that 19 of 20 recent answers took at most",
        Unit::Seconds,
        p95s,
    );
}

fn add_providers(registry: &mut Registry, routes: &Routes, generation: &Generation, state: &AdminState) {
    let now = state.clock.now();
    let shares = Family::<ProviderLabels, Ratio>::default();
    for (id, provider) in routes.topology.provider_ids().zip(&routes.topology.providers) {
        let labels = ProviderLabels {
            provider: provider.name.clone(),
        };
        let permille = generation.usage.lock().share_permille(id, now);
        shares.get_or_create(&labels).set(f64::from(permille) / 1_000.0);
    }
    registry.register(
        "provider_share_ratio",
        "Part of the first choices of the last 60 s",
        shares,
    );
    let paths = Family::<PathLabels, Gauge>::default();
    for endpoint in &routes.topology.endpoints {
        let path = endpoint.path();
        let labels = PathLabels { path: path.to_string() };
        let is_suspect = routes.uplink_suspect.contains(&path);
        paths.get_or_create(&labels).set(is_suspect.into());
    }
    registry.register("uplink_suspect", "1 for a path on which nobody answers, else 0", paths);
    add_gauge(
        registry,
        "nothing_up",
        "1 while no endpoint is usable, else 0",
        usize::from(routes.nothing_up),
    );
    let help = "1 while this machine's clock is known to be wrong, else 0";
    add_gauge(registry, "clock_wrong", help, usize::from(routes.clock_wrong.is_some()));
}

fn add_process(registry: &mut Registry, generation: &Generation, state: &AdminState) {
    let shared = &state.shared;
    let (entries, bytes) = (shared.cache.len(), shared.cache.size_bytes());
    add_gauge(registry, "cache_entries", "Answers held", entries);
    let size = Gauge::<i64>::default();
    size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    registry.register_with_unit("cache", "Memory of the answers held", Unit::Bytes, size);
    add_gauge(registry, "in_flight", "Questions being resolved", shared.in_flight());
    let tokens = usize::try_from(generation.usage.lock().budget.tokens()).unwrap_or(usize::MAX);
    add_gauge(registry, "hedge_budget", "Hedges that are paid for", tokens);
    let uptime = Ratio::default();
    uptime.set(as_seconds(state.clock.now().since(state.started)));
    registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, uptime);
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    add(registry, "build", "What runs", build);
    add_gauge(registry, "tasks", "Tasks that have not ended", shared.tasks().alive());
    let panics = Counter::<u64, AtomicU64>::default();
    panics.inc_by(shared.tasks().panics());
    add(registry, "panics", "Tasks that panicked", panics);
    let dropped = Counter::<u64, AtomicU64>::default();
    dropped.inc_by(shared.reports_dropped());
    let help = "Outcomes that were not judged because the control task was behind";
    add(registry, "reports_dropped", help, dropped);
}

/// What became of the configuration.
fn add_configuration(registry: &mut Registry, state: &AdminState) {
    let (told, now) = (state.configuration.told(), state.clock.now());
    let reloads = Family::<ReloadLabels, Counter>::default();
    for (result, count) in [("applied", told.reloads.applied), ("rejected", told.reloads.rejected)] {
        reloads.get_or_create(&ReloadLabels { result }).inc_by(count);
    }
    add(registry, "config_reloads", "Reloads, by how they ended", reloads);
    let failed = usize::from(told.reloads.mistakes.is_some());
    let help = "1 if the last reload changed nothing because of mistakes, else 0";
    add_gauge(registry, "config_reload_failed", help, failed);
    let help = "1 while the copy of the last good configuration runs, else 0";
    add_gauge(registry, "config_degraded", help, usize::from(told.degraded.is_some()));
    let waiting = Family::<KeyLabels, Gauge>::default();
    for key in RESTART_KEYS {
        waiting
            .get_or_create(&KeyLabels { key })
            .set(told.restart.contains(&key).into());
    }
    let help = "1 for a key whose new value waits for a restart, else 0";
    add(registry, "config_restart_needed", help, waiting);
    let age = Ratio::default();
    age.set(as_seconds(now.since(told.since)));
    let help = "Time since the configuration is in force";
    registry.register_with_unit("config_age", help, Unit::Seconds, age);
}

/// What became of the certificate.
fn add_certificate(registry: &mut Registry, keeper: &CertificateKeeper) {
    let told = keeper.reloads();
    let reloads = Family::<ReloadLabels, Counter>::default();
    for (result, count) in [("applied", told.applied), ("rejected", told.rejected)] {
        reloads.get_or_create(&ReloadLabels { result }).inc_by(count);
    }
    let help = "Certificates that were to take the place of the one in use, by what became of them";
    add(registry, "certificate_reloads", help, reloads);
    let help = "1 while the certificate's files cannot be used, else 0";
    add_gauge(registry, "certificate_broken", help, usize::from(told.is_broken));
    if let Some(ends_in_s) = keeper.ends_in_s() {
        let ends = Gauge::<i64>::default();
        ends.set(ends_in_s);
        let help = "Seconds until the certificate in use ends; negative: since it did";
        add(registry, "certificate_expires_seconds", help, ends);
    }
}

fn add(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: impl EncodeMetric + fmt::Debug + Send + Sync + 'static,
) {
    registry.register(name, help, metric);
}

fn add_gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    add(registry, name, help, gauge);
}

fn as_seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}
