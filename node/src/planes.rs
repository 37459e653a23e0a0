//! From a configuration to a control and a data plane: those of a start, and what a reload gives to both.
//!
//! Decides nothing: every value of the configuration goes where it belongs.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use detour_core::control::Control;
use detour_core::control::claims::MeshSettings;
use detour_core::routes::{Routes, Settings as RouteSettings};
use detour_core::{Clock, Time, Topology};
use detour_resolver::acl::Acl;
use detour_resolver::bootstrap::BootstrapServer;
use detour_resolver::exchange::{Remote, SourcePorts};
use detour_resolver::forwarder::{Parts, Settings, Shared};
use detour_resolver::listen::StreamLimits;
use detour_resolver::local;
use detour_resolver::report::{Report, Reporter};
use detour_resolver::tasks::Tasks;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::config::{self, Assembly, CacheConfig, Config, Encrypted, Limits, Listen, LocalZones, Select};
use crate::given::Given;
use crate::{descriptors, mesh};

/// What both planes take from a configuration.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topology: Arc<Topology>,
    /// Where each endpoint is, by `EndpointId`.
    pub(crate) remotes: Vec<Remote>,
    /// Who resolves the host names of endpoints.
    pub(crate) bootstrap: Vec<BootstrapServer>,
    pub(crate) routes: RouteSettings,
    /// How peers call the endpoints, and what they may say.
    pub(crate) mesh: MeshSettings,
    pub(crate) settings: Settings,
}

impl Plan {
    /// That of a configuration, and of what the network gave.
    #[must_use]
    pub(crate) fn of(config: &Config, given: &Given) -> Self {
        let Assembly {
            topology,
            remotes,
            zones,
            groups,
            translation,
        } = config::assemble(config, given);
        let Select {
            strategy,
            encryption,
            mix_policies: _,
            early_data: _,
            source_ports: _,
        } = config.select;
        Self {
            topology: Arc::new(topology),
            remotes,
            bootstrap: config::bootstrap_servers(config),
            routes: RouteSettings { strategy, encryption },
            mesh: mesh::of_control(config),
            settings: Settings {
                zones: Arc::new(zones),
                groups,
                translation,
                ..settings_of(config)
            },
        }
    }
}

/// What the data plane takes from a configuration, but for providers and routes.
fn settings_of(config: &Config) -> Settings {
    // No `..` here: whoever adds a key has to say where it goes.
    let Config {
        source: _,
        state_dir: _,
        reload: _,
        // In the trust of each provider.
        tls_groups: _,
        local_zones: LocalZones { off, hosts },
        mesh: _,
        listen:
            Listen {
                dns: _,
                admin: _,
                admin_is_named: _,
                allow,
                encrypted,
            },
        providers: _,
        bootstrap: _,
        routes: _,
        network: _,
        dns64: _,
        select,
        cache:
            CacheConfig {
                size_bytes,
                min_ttl,
                max_ttl,
                max_stale,
                persist: _,
            },
        limits,
        log: _,
    } = config;
    Settings {
        acl: Acl::new(allow.clone()),
        cache_bytes: *size_bytes,
        max_stale_us: u64::try_from(max_stale.as_micros()).unwrap_or(u64::MAX),
        ttl_bounds_s: (seconds(*min_ttl), seconds(*max_ttl)),
        in_flight: limits.in_flight,
        streams: stream_limits(limits, encrypted),
        doh_path: encrypted.doh_path.as_str().into(),
        classes: classes(config),
        zones: Arc::default(),
        groups: Vec::new(),
        translation: None,
        source_ports: match select.source_ports {
            config::SourcePorts::Pool => SourcePorts::Pool,
            config::SourcePorts::PerQuery => SourcePorts::PerQuery,
        },
        local: local::Settings {
            off: off.clone(),
            hosts: hosts.clone(),
        },
        version: format!("detour {}", env!("CARGO_PKG_VERSION")),
        identity: "detour".to_owned(),
    }
}

/// What clients' connections may take.
fn stream_limits(limits: &Limits, encrypted: &Encrypted) -> StreamLimits {
    let Limits {
        in_flight: _,
        tcp_connections: _,
        tls_connections: _,
        quic_connections,
        tcp_idle,
        encrypted_idle,
    } = limits;
    let connections = descriptors::for_connections(limits, encrypted);
    StreamLimits {
        tcp: connections.tcp,
        tls: connections.tls,
        quic: *quic_connections,
        tcp_idle: *tcp_idle,
        encrypted_idle: *encrypted_idle,
    }
}

/// Whole seconds; a configuration allows a week.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// What the providers of the public group do to answers, in words that are the same for the same.
fn classes(config: &Config) -> String {
    let public = config.providers.iter().filter(|provider| provider.is_public);
    let classes = public.map(config::class_text);
    let distinct: BTreeSet<String> = classes.collect();
    Vec::from_iter(distinct).join(" ")
}

/// Control and data plane of a start, connected.
pub(crate) struct Planes {
    pub(crate) control: Control,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) routes: watch::Sender<Arc<Routes>>,
    pub(crate) shared: Arc<Shared>,
    /// Of the endpoints, by `EndpointId`.
    pub(crate) remotes: Vec<Remote>,
    pub(crate) bootstrap: Vec<BootstrapServer>,
}

impl Planes {
    pub(crate) fn build(plan: Plan, clock: &Arc<dyn Clock>, tasks: &Tasks, registry: &mut Registry) -> Self {
        let now = clock.now();
        let mut control = Control::new(plan.topology, plan.routes, now, seed(now));
        control.handle_mesh(plan.mesh, now);
        // Readers always see the newest table; older ones coalesce.
        let (routes, table) = watch::channel(Arc::clone(control.routes()));
        let (reporter, reports) = Reporter::new();
        let reporter = Arc::new(reporter);
        let remotes = plan.remotes.clone();
        let parts = Parts {
            clock: Arc::clone(clock),
            tasks: tasks.clone(),
            routes: table,
            reporter: Arc::clone(&reporter),
            remotes: plan.remotes,
        };
        let shared = Shared::new(plan.settings, parts, registry);
        Self {
            control,
            reports,
            reporter,
            routes,
            shared,
            remotes,
            bootstrap: plan.bootstrap,
        }
    }
}

/// A seed nobody outside can guess: plans must not be predictable.
fn seed(now: Time) -> u64 {
    RandomState::new().hash_one(now.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_same_in_any_order_and_number() {
        let words = |blocks: &[&str]| {
            let blocks: Vec<String> = blocks
                .iter()
                .zip(1..)
                .map(|(class, n)| {
                    format!("[[provider]]\nname = \"p{n}\"\n{class}\nendpoints = [\"udp://192.0.2.{n}\"]\n")
                })
                .collect();
            let text = format!("version = 1\n[select]\nmix-policies = true\n{}", blocks.join(""));
            classes(&Config::parse(&text, std::path::Path::new("x.toml")).unwrap())
        };
        let (plain, ads) = ("", "filter = \"ads\"\nvalidates = false");
        assert_eq!(words(&[plain, ads]), words(&[ads, plain, ads]));
        assert_ne!(words(&[plain]), words(&[plain, ads]));
        assert_eq!(words(&[plain]), "none/validating");
    }
}
