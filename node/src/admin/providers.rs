//! `/api/v1/providers`: every endpoint with its state, its place, and why.

use axum::Json;
use axum::extract::State;
use detour_core::routes::Routes;
use detour_core::{EndpointId, ProviderId, Time};
use detour_resolver::generation::Generation;
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::claims::SaidView;
use super::configuration::Told;

/// One provider; `detour status` reads it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProviderView {
    pub(crate) name: String,
    pub(crate) operator: String,
    pub(crate) class: String,
    /// Whose questions it gets: `public`, and the groups of routes it is of.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// First choices of the last 60 s.
    pub(crate) share_permille: u32,
    /// The endpoint it would be asked at.
    #[serde(default)]
    pub(crate) in_use: Option<String>,
    pub(crate) endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndpointView {
    /// The string of the configuration.
    pub(crate) endpoint: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) since_ms: u64,
    pub(crate) place: String,
    pub(crate) place_why: String,
    /// `None` before the first answer.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) ok_permille: u32,
    /// For how long it wants to be left alone.
    #[serde(default)]
    pub(crate) paused_ms: Option<u64>,
    /// How it takes what goes beyond plain DNS: `no-edns`, `cookies`, `no-0x20`.
    #[serde(default)]
    pub(crate) habits: Vec<String>,
    /// What other nodes say.
    #[serde(flatten)]
    pub(crate) said: SaidView,
}

/// Tells of all, in the order of the configuration.
pub(super) async fn providers(State(state): State<AdminState>) -> Json<Vec<ProviderView>> {
    let now = state.clock.now();
    let generation = state.shared.generation();
    let (routes, told) = (generation.routes(), state.configuration.told());
    let providers = routes.topology.provider_ids();
    let views = providers.filter_map(|id| view(&told, &generation, &routes, id, now));
    Json(views.collect())
}

fn view(told: &Told, generation: &Generation, routes: &Routes, id: ProviderId, now: Time) -> Option<ProviderView> {
    let provider = routes.topology.provider(id)?;
    let label = told.label(&provider.name);
    let endpoints = provider.endpoints.iter();
    let choices = routes.all().flat_map(|table| &table.choices);
    let in_use = choices
        .map(|choice| choice.endpoint)
        .find(|id| provider.endpoints.contains(id));
    let groups = routes
        .topology
        .group_ids()
        .filter(|group| routes.topology.is_member(*group, id));
    let endpoint = |id: &EndpointId| endpoint_view(routes, *id, generation.habits(*id, now), now);
    Some(ProviderView {
        in_use: in_use.and_then(|id| Some(routes.topology.endpoint(id)?.label.clone())),
        groups: groups
            .map(|group| routes.topology.group_name(group).to_owned())
            .collect(),
        name: provider.name.clone(),
        operator: label.map_or_else(|| provider.name.clone(), |label| label.operator.clone()),
        class: label.map_or_else(String::new, |label| label.class.clone()),
        share_permille: generation.usage.lock().share_permille(id, now),
        endpoints: endpoints.filter_map(endpoint).collect(),
    })
}

fn endpoint_view(routes: &Routes, id: EndpointId, habits: Vec<&str>, now: Time) -> Option<EndpointView> {
    let (route, endpoint) = (routes.endpoint(id)?, routes.topology.endpoint(id)?);
    Some(EndpointView {
        endpoint: endpoint.label.clone(),
        state: route.state.word().to_owned(),
        reason: route.cause.word().to_owned(),
        since_ms: now.since(route.since) / 1_000,
        place: route.place().word().to_owned(),
        place_why: route.why.word().to_owned(),
        p50_ms: route.timing.p50_us.map(as_ms),
        // Until an answer came it is a mere assumption.
        p95_ms: route.timing.p50_us.map(|_| as_ms(route.timing.p95_us)),
        ok_permille: route.ok_permille,
        paused_ms: route.paused_until.map(|until| until.since(now) / 1_000),
        habits: habits.into_iter().map(str::to_owned).collect(),
        said: SaidView::of(&routes.said(id), now),
    })
}

/// Microseconds as milliseconds; no latency comes near the 71 minutes where this ends.
fn as_ms(us: u64) -> f64 {
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
}
