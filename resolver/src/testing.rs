//! A data plane for this crate's own tests: one provider that nobody runs, and a clock that stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::control::Control;
use detour_core::routes::Settings as RouteSettings;
use detour_core::{
    ClassId, Clock, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Time, Topology, Transport,
};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::acl::Acl;
use crate::exchange::SourcePorts;
use crate::forwarder::{Parts, Settings, Shared};
use crate::listen::StreamLimits;
use crate::local;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::wire::TTL_S_MAX;

/// Time that does not pass.
#[derive(Debug)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time::at_ms(1_000)
    }
}

/// One provider of this address; nobody runs it.
pub(crate) fn topology(address: &str) -> Topology {
    let endpoint = Endpoint {
        label: format!("udp://{address}"),
        provider: ProviderId(0),
        transport: Transport::Udp,
        family: Family::V4,
        max_qps: None,
    };
    let provider = Provider {
        name: "nobody".to_owned(),
        operator: OperatorId(0),
        asn: None,
        jurisdiction: None,
        class: ClassId(0),
        validates: true,
        tier: 1,
        max_share_permille: None,
        max_qps: None,
        is_public: true,
        endpoints: vec![EndpointId(0)],
    };
    Topology {
        providers: vec![provider],
        endpoints: vec![endpoint],
        routed: Vec::new(),
    }
}

/// Settings with room for this many queries in flight.
pub(crate) fn settings(in_flight: usize) -> Settings {
    Settings {
        acl: Acl::new(vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]),
        cache_bytes: 1 << 20,
        max_stale_us: 0,
        ttl_bounds_s: (0, TTL_S_MAX),
        in_flight,
        streams: StreamLimits {
            tcp: 16,
            tls: 16,
            quic: 16,
            tcp_idle: Duration::from_secs(10),
            encrypted_idle: Duration::from_secs(30),
        },
        doh_path: "/dns-query".into(),
        classes: String::new(),
        zones: Arc::default(),
        groups: Vec::new(),
        translation: None,
        source_ports: SourcePorts::Pool,
        local: local::Settings::default(),
        version: String::new(),
        identity: String::new(),
    }
}

/// What goes with a topology at `address`, and the control plane that feeds it.
pub(crate) fn parts(topology: Topology, address: &str, reporter: Arc<Reporter>) -> (Parts, Control) {
    let control = Control::new(Arc::new(topology), RouteSettings::default(), Still.now(), 1);
    let (_, routes) = watch::channel(Arc::clone(control.routes()));
    let parts = Parts {
        clock: Arc::new(Still),
        tasks: Tasks::default(),
        routes,
        reporter,
        remotes: vec![address.parse::<SocketAddr>().unwrap().into()],
    };
    (parts, control)
}

/// A data plane with room for this many queries in flight and without a hosts file, and the control plane that feeds it.
pub(crate) fn shared(in_flight: usize) -> (Arc<Shared>, Control) {
    shared_with(in_flight, local::Settings::default())
}

/// As [`shared`], with answers that are served for this many microseconds after their expiry.
pub(crate) fn shared_with_stale(in_flight: usize, max_stale_us: u64) -> (Arc<Shared>, Control) {
    let (shared, control) = shared(in_flight);
    shared.cache.set_max_stale(max_stale_us);
    (shared, control)
}

/// As [`shared`], with these local names.
pub(crate) fn shared_with(in_flight: usize, local: local::Settings) -> (Arc<Shared>, Control) {
    const ADDRESS: &str = "127.0.0.1:9";
    let (reporter, _) = Reporter::new();
    let (parts, control) = parts(topology(ADDRESS), ADDRESS, Arc::new(reporter));
    let settings = Settings {
        local,
        ..settings(in_flight)
    };
    (Shared::new(settings, parts, &mut Registry::default()), control)
}
