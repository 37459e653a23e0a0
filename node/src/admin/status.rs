//! `/api/v1/status`: the sentence, and the numbers behind it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use detour_core::time::SEC;
use serde::Serialize;

use super::AdminState;
use super::standing::{answering_providers, summary};

/// How the node does.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    summary: String,
    version: &'static str,
    uptime_s: u64,
    listening: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    config: String,
    nothing_up: bool,
    uplink_suspect: Vec<String>,
    providers: ProviderCount,
    cache: CacheSize,
    in_flight: usize,
    budget_tokens: u64,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ProviderCount {
    up: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
struct CacheSize {
    entries: usize,
    bytes: u64,
}

/// Tells it.
pub(super) async fn status(State(state): State<AdminState>) -> Json<Status> {
    let now = state.clock.now();
    let routes = state.routes();
    let shared = &state.shared;
    let budget_tokens = shared.usage.lock().budget.tokens();
    Json(Status {
        summary: summary(&routes, now),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now.since(state.started) / SEC,
        listening: state.notes.dns.clone(),
        admin: state.notes.admin,
        config: state.notes.config.clone(),
        nothing_up: routes.nothing_up,
        uplink_suspect: routes.uplink_suspect.iter().map(ToString::to_string).collect(),
        providers: ProviderCount {
            up: answering_providers(&routes),
            total: routes.topology.providers.len(),
        },
        cache: CacheSize {
            entries: shared.cache.len(),
            bytes: shared.cache.size_bytes(),
        },
        in_flight: shared.in_flight(),
        budget_tokens,
        warnings: warnings(&state),
    })
}

/// What went wrong at the start, what is wrong at this moment, and what must not happen but did since.
fn warnings(state: &AdminState) -> Vec<String> {
    let mut warnings: Vec<String> = state.notes.warnings().map(str::to_owned).collect();
    warnings.extend(state.notes.said());
    let panics = state.shared.tasks().panics();
    if panics > 0 {
        warnings.push(format!(
            "{panics} tasks panicked: a mistake of Detour's, please report it"
        ));
    }
    let dropped = state.shared.reports_dropped();
    if dropped > 0 {
        warnings.push(format!("{dropped} outcomes were not judged: health rests on a sample"));
    }
    warnings
}
