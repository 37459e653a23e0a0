//! `/api/v1/providers`: every endpoint with its state, its place, and why.

use axum::Json;
use axum::extract::State;
use detour_core::routes::Routes;
use detour_core::{EndpointId, Provider, ProviderId, Time};
use serde::Serialize;

use super::AdminState;

/// One provider.
#[derive(Debug, Serialize)]
pub(super) struct ProviderView {
    name: String,
    operator: String,
    class: String,
    /// First choices of the last 60 s.
    share_permille: u32,
    endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Debug, Serialize)]
struct EndpointView {
    /// The string of the configuration.
    endpoint: String,
    state: &'static str,
    reason: &'static str,
    since_ms: u64,
    place: &'static str,
    place_why: &'static str,
    /// `None` before the first answer.
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    ok_permille: u32,
    /// What other nodes say: none, as there is no mesh.
    verdict: &'static str,
    verdict_source: Option<&'static str>,
}

/// Tells of all, in the order of the configuration.
pub(super) async fn providers(State(state): State<AdminState>) -> Json<Vec<ProviderView>> {
    let now = state.clock.now();
    let routes = state.routes();
    let providers = routes.topology.provider_ids().zip(&routes.topology.providers);
    Json(
        providers
            .map(|(id, provider)| view(&state, &routes, id, provider, now))
            .collect(),
    )
}

fn view(state: &AdminState, routes: &Routes, id: ProviderId, provider: &Provider, now: Time) -> ProviderView {
    let label = state.notes.label(usize::from(id.0));
    let endpoints = provider.endpoints.iter();
    ProviderView {
        name: provider.name.clone(),
        operator: label.map_or_else(|| provider.name.clone(), |label| label.operator.clone()),
        class: label.map_or_else(String::new, |label| label.class.clone()),
        share_permille: state.shared.usage.lock().share_permille(id, now),
        endpoints: endpoints.filter_map(|id| endpoint_view(routes, *id, now)).collect(),
    }
}

fn endpoint_view(routes: &Routes, id: EndpointId, now: Time) -> Option<EndpointView> {
    let (route, endpoint) = (routes.endpoint(id)?, routes.topology.endpoint(id)?);
    Some(EndpointView {
        endpoint: endpoint.label.clone(),
        state: route.state.word(),
        reason: route.cause.word(),
        since_ms: now.since(route.since) / 1_000,
        place: route.place().word(),
        place_why: route.why.word(),
        p50_ms: route.timing.p50_us.map(as_ms),
        // Until an answer came it is a mere assumption.
        p95_ms: route.timing.p50_us.map(|_| as_ms(route.timing.p95_us)),
        ok_permille: route.ok_permille,
        verdict: "none",
        verdict_source: None,
    })
}

/// Microseconds as milliseconds; no latency comes near the 71 minutes where this ends.
fn as_ms(us: u64) -> f64 {
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
}
