//! The admin interface: HTTP on loopback, for people, scripts and scrapers.
//!
//! Nothing here decides anything, and what changes something takes the operator's token; every other answer is made from the routes, the cache and the counters as they
//! are when it is asked for. A browser on this machine can reach loopback too, so `guard` turns away every request
//! that was not meant for this address, and `listener` bounds what a connection can take. Schemas: docs/api/.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | `ok` while the process serves HTTP |
//! | `/readyz` | listeners and providers; never 503 because providers fail |
//! | `/metrics` | OpenMetrics |
//! | `/api/v1/status` | one sentence that says first what is wrong, and the numbers behind it |
//! | `/api/v1/providers` | every endpoint with its state and why |
//! | `/api/v1/peers` | the nodes of the cluster: how each stands, what it says, what is wrong with it |
//! | `/api/v1/explain` | whom a question would be sent to, and why |
//! | `/api/v1/cache` | what is cached of a name |
//! | `/api/v1/cache/flush` | by POST and with the token: has it forgotten |

pub(crate) mod cache;
pub(crate) mod claims;
pub(crate) mod client;
mod configuration;
pub(crate) mod explain;
mod guard;
mod health;
mod listener;
mod metrics;
mod notes;
pub(crate) mod peers;
pub(crate) mod providers;
mod refusal;
pub(crate) mod standing;
pub(crate) mod status;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use detour_core::{Clock, Time};
use detour_resolver::forwarder::Shared;
use prometheus_client::registry::Registry;

use self::guard::Hosts;
use self::refusal::Refusal;

use crate::certificate::CertificateKeeper;
use crate::config::Config;
use crate::mesh::MeshNotes;

pub(crate) use self::configuration::{Configuration, Mistakes};
pub(crate) use self::listener::serve;
pub(crate) use self::notes::Notes;

/// Where the cache is told to forget.
pub(crate) const FLUSH: &str = "/api/v1/cache/flush";

/// What the answers are made from.
#[derive(Clone)]
pub(crate) struct AdminState {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    started: Time,
    notes: Arc<Notes>,
    configuration: Arc<Configuration>,
    /// If the configuration has one.
    mesh: Option<Arc<MeshNotes>>,
    /// Where the operator's token is.
    token_in: Option<PathBuf>,
    /// What encrypted listeners show, if there are any.
    certificate: Option<Arc<CertificateKeeper>>,
}

impl AdminState {
    /// A view on a node that starts at this moment.
    #[must_use]
    pub(crate) fn new(
        shared: Arc<Shared>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        notes: Arc<Notes>,
        configuration: Arc<Configuration>,
        mesh: Option<Arc<MeshNotes>>,
    ) -> Self {
        Self {
            shared,
            registry,
            started: clock.now(),
            clock,
            notes,
            configuration,
            mesh,
            token_in: None,
            certificate: None,
        }
    }

    /// The same of a node that shows a certificate, if this configuration has it do so.
    #[must_use]
    pub(crate) fn with_certificate(mut self, config: &Config, certificate: &Arc<CertificateKeeper>) -> Self {
        self.certificate = config.listen.encrypted.is_used().then(|| Arc::clone(certificate));
        self
    }

    /// The same for whoever has the token of this directory.
    #[must_use]
    pub(crate) fn with_token_in(mut self, directory: Option<PathBuf>) -> Self {
        self.token_in = directory;
        self
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("started", &self.started)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

/// All paths, behind the guard, as served at `bound`.
fn router(state: AdminState, bound: SocketAddr) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/providers", get(providers::providers))
        .route("/api/v1/peers", get(peers::peers))
        .route("/api/v1/explain", get(explain::explain))
        .route("/api/v1/cache", get(cache::show))
        .route(FLUSH, post(cache::flush).fallback(async || Refusal::PostOnly))
        .fallback(async || Refusal::UnknownPath)
        .with_state(state)
        .layer(from_fn_with_state(Arc::new(Hosts::of(bound)), guard::guard))
}
