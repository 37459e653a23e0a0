//! `/healthz` and `/readyz`: does the process live, and does it serve.
//!
//! A node whose providers are all down still serves: hits, stale answers, and the first query that gets through. An
//! orchestrator that took it out of service would only make things worse, so readiness does not look at providers;
//! it names them.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::AdminState;
use super::standing::answering_endpoints;

/// Lives: whoever reads this got an answer.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// What is served, and by whom.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    ready: bool,
    listeners: Vec<SocketAddr>,
    /// The copy of the last good configuration runs, because of this.
    degraded: Option<String>,
    providers: Vec<ReadyProvider>,
}

#[derive(Debug, Serialize)]
struct ReadyProvider {
    name: String,
    /// Endpoints that answer.
    up: usize,
    /// Endpoints in all.
    of: usize,
}

/// Serves: nothing is bound or run before everything is, so the answer has no other value.
pub(super) async fn readyz(State(state): State<AdminState>) -> Json<Ready> {
    let routes = state.shared.generation().routes();
    let told = state.configuration.told();
    let providers = routes.topology.providers.iter().map(|provider| ReadyProvider {
        name: provider.name.clone(),
        up: answering_endpoints(&routes, provider),
        of: provider.endpoints.len(),
    });
    Json(Ready {
        ready: true,
        listeners: state.notes.dns.clone(),
        degraded: told.degraded.map(|mistakes| mistakes.to_string()),
        providers: providers.collect(),
    })
}
