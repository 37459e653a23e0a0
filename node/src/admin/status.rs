//! `/api/v1/status`: the sentence, and the numbers behind it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use detour_core::routes::Routes;
use detour_core::time::SEC;
use detour_core::{GroupId, Time};
use detour_resolver::wire::Via;
use serde::{Deserialize, Serialize};

use super::configuration::Told;
use super::standing::{View, answering_providers, summary};
use super::{AdminState, peers};
use crate::given::Given;

/// How long a cap that was ignored is told of.
const CAP_IGNORED_SHOWN_US: u64 = 60 * SEC;

/// How the node does; `detour status` reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) summary: String,
    pub(crate) version: String,
    pub(crate) uptime_s: u64,
    pub(crate) listening: Vec<SocketAddr>,
    /// Such as `tls://127.0.0.1:853`.
    #[serde(default)]
    pub(crate) encrypted: Vec<String>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) configuration: ConfigurationView,
    pub(crate) nothing_up: bool,
    pub(crate) uplink_suspect: Vec<String>,
    pub(crate) providers: ProviderCount,
    /// Those of routes, in the order of the configuration.
    #[serde(default)]
    pub(crate) groups: Vec<GroupView>,
    /// What the network gave this machine; null if nobody looks.
    #[serde(default)]
    pub(crate) network: Option<NetworkView>,
    /// Behind which prefix IPv4 addresses are translated; null where they are not.
    #[serde(default)]
    pub(crate) dns64: Option<Dns64View>,
    #[serde(default)]
    pub(crate) mesh: MeshCount,
    pub(crate) cache: CacheSize,
    pub(crate) in_flight: usize,
    pub(crate) budget_tokens: u64,
    pub(crate) warnings: Vec<String>,
}

/// Whether the configuration in force is the one it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigurationView {
    /// Seconds since it is in force.
    pub(crate) age_s: u64,
    /// The copy of the last good file runs, because of this.
    pub(crate) degraded: Option<String>,
    /// The last reload, if there was one.
    pub(crate) reload: Option<ReloadView>,
    /// Keys whose new values wait for a restart.
    pub(crate) restart: Vec<String>,
}

/// How a reload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadView {
    /// Seconds since then.
    pub(crate) age_s: u64,
    /// It changed nothing, because of this.
    pub(crate) rejected: Option<String>,
}

/// The providers of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupView {
    /// Their names, joined.
    pub(crate) name: String,
    pub(crate) providers: Vec<String>,
    /// No endpoint of theirs is usable.
    pub(crate) nothing_up: bool,
    /// Their questions travel in the clear, though they have encrypted endpoints.
    pub(crate) in_the_clear: bool,
}

impl GroupView {
    fn of(table: &Routes) -> Self {
        let topology = &table.topology;
        let members = topology.members(table.group);
        Self {
            name: topology.group_name(table.group).to_owned(),
            providers: members.map(|(_, provider)| provider.name.clone()).collect(),
            nothing_up: table.nothing_up,
            in_the_clear: table.in_the_clear,
        }
    }
}

/// What the network gave this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkView {
    /// The file that says so.
    pub(crate) source: Option<String>,
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Absolute.
    pub(crate) search_domains: Vec<String>,
}

impl NetworkView {
    fn of(given: &Given) -> Self {
        Self {
            source: given.source.as_ref().map(|path| path.display().to_string()),
            resolvers: given.resolvers.clone(),
            search_domains: given.search_texts(),
        }
    }
}

/// What is translated for a network without IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns64View {
    pub(crate) prefix: String,
    /// Whether the network told it; else the configuration did.
    pub(crate) is_discovered: bool,
}

/// How many of all that serve names of no route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProviderCount {
    pub(crate) up: usize,
    pub(crate) total: usize,
}

/// How the mesh does; `/api/v1/peers` has all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MeshCount {
    /// As in `/api/v1/peers`.
    pub(crate) state: String,
    /// Peers of the configuration that are connected.
    pub(crate) connected: usize,
    /// Peers of the configuration.
    pub(crate) listed: usize,
}

/// What the cache holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheSize {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

impl ConfigurationView {
    fn of(told: &Told, now: Time) -> Self {
        Self {
            age_s: now.since(told.since) / SEC,
            degraded: told.degraded.as_ref().map(ToString::to_string),
            reload: told.reloads.last.map(|last| ReloadView {
                age_s: now.since(last) / SEC,
                rejected: told.reloads.mistakes.as_ref().map(ToString::to_string),
            }),
            restart: told.restart.iter().map(|key| (*key).to_owned()).collect(),
        }
    }
}

/// Tells it.
pub(super) async fn status(State(state): State<AdminState>) -> Json<Status> {
    let now = state.clock.now();
    let shared = &state.shared;
    let generation = shared.generation();
    let told = state.configuration.told();
    let mesh = peers::view(state.mesh.as_deref(), now);
    let (summary, up) = View::of(&generation, |view| {
        (summary(view, &told, mesh.troubles(), now), answering_providers(view))
    });
    let routes = generation.routes();
    let budget_tokens = generation.usage.lock().budget.tokens();
    Json(Status {
        summary,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: now.since(state.started) / SEC,
        listening: state.notes.dns.clone(),
        encrypted: encrypted(&state, &generation.doh_path),
        admin: state.notes.admin,
        configuration: ConfigurationView::of(&told, now),
        config: told.source,
        nothing_up: routes.nothing_up,
        uplink_suspect: routes.uplink_suspect.iter().map(ToString::to_string).collect(),
        providers: ProviderCount {
            up,
            total: routes.topology.members(GroupId::PUBLIC).count(),
        },
        network: told.network.as_ref().map(NetworkView::of),
        dns64: generation.translation().map(|translation| Dns64View {
            prefix: translation.prefix.to_string(),
            is_discovered: translation.is_discovered,
        }),
        groups: routes.routed.iter().map(|table| GroupView::of(table)).collect(),
        mesh: MeshCount {
            connected: mesh.connected(),
            listed: mesh.listed(),
            state: mesh.state,
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

/// Where encrypted DNS is asked.
fn encrypted(state: &AdminState, doh_path: &str) -> Vec<String> {
    let all = state.notes.encrypted.iter();
    all.map(|(via, address)| {
        let path = if matches!(via, Via::Https | Via::H3) {
            doh_path
        } else {
            ""
        };
        format!("{}://{address}{path}", via.word())
    })
    .collect()
}

/// What went wrong at the start or is wrong, and what must not happen but did since.
fn warnings(state: &AdminState) -> Vec<String> {
    let mut warnings = state.notes.warnings();
    if let Some(trouble) = state.certificate.as_ref().and_then(|keeper| keeper.trouble()) {
        warnings.push(format!("certificate: {trouble}"));
    }
    if let Some((path, why)) = state.shared.local().hosts_trouble(state.clock.now()) {
        let path = path.display();
        warnings.push(format!("hosts file {path}: {why}; its names stay what they were"));
    }
    let panics = state.shared.tasks().panics();
    if panics > 0 {
        warnings.push(format!(
            "{panics} tasks panicked: a mistake of Detour's, please report it"
        ));
    }
    let cap_ignored = state.shared.generation().usage.lock().cap_ignored();
    if let Some(age_us) = cap_ignored.map(|at| state.clock.now().since(at))
        && age_us < CAP_IGNORED_SHOWN_US
    {
        let seconds = age_us / SEC;
        warnings.push(format!(
            "{seconds} s ago a max-share or max-qps was ignored: no other provider was left"
        ));
    }
    let dropped = state.shared.reports_dropped();
    if dropped > 0 {
        warnings.push(format!("{dropped} outcomes were not judged: health rests on a sample"));
    }
    warnings
}
