//! A data plane for this crate's own tests: one provider that nobody runs, and a clock that stands still.

use std::net::SocketAddr;
use std::sync::Arc;

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
use crate::report::Reporter;
use crate::tasks::Tasks;

/// Time that does not pass.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time::at_ms(1_000)
    }
}

/// A data plane with room for this many queries in flight, and the control plane that feeds it.
pub(crate) fn shared(in_flight: usize) -> (Arc<Shared>, Control) {
    shared_with_stale(in_flight, 0)
}

/// As above, with answers that are served for this many microseconds after their expiry.
pub(crate) fn shared_with_stale(in_flight: usize, max_stale_us: u64) -> (Arc<Shared>, Control) {
    let endpoint = Endpoint {
        label: "udp://127.0.0.1:9".to_owned(),
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
        endpoints: vec![EndpointId(0)],
    };
    let topology = Arc::new(Topology {
        providers: vec![provider],
        endpoints: vec![endpoint],
    });
    let control = Control::new(topology, RouteSettings::default(), Still.now(), 1);
    let (_, routes) = watch::channel(Arc::clone(control.routes()));
    let (reporter, _) = Reporter::new();
    let parts = Parts {
        clock: Arc::new(Still),
        tasks: Tasks::default(),
        routes,
        reporter: Arc::new(reporter),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
    };
    let settings = Settings {
        acl: Acl::new(vec!["127.0.0.0/8".parse().unwrap()]),
        cache_bytes: 1 << 20,
        max_stale_us,
        in_flight,
        source_ports: SourcePorts::Pool,
        version: String::new(),
        identity: String::new(),
    };
    (Shared::new(settings, parts, &mut Registry::default()), control)
}
