//! Small topologies for this crate's own tests.

use crate::health::state::State;
use crate::outcome::Cause;
use crate::report::{EndpointKey, Opinion};
use crate::time::Time;
use crate::topology::{ClassId, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Topology, Transport};

/// `count` providers of different operators, each with one UDP endpoint over IPv4.
pub(crate) fn providers(count: u16) -> Topology {
    with_transports(count, &[Transport::Udp])
}

/// `count` providers of different operators with these transports.
pub(crate) fn with_transports(count: u16, transports: &[Transport]) -> Topology {
    let mut topology = Topology::default();
    for id in 0..count {
        let mut endpoints = Vec::new();
        for transport in transports {
            endpoints.push(EndpointId(u16::try_from(topology.endpoints.len()).unwrap()));
            topology.endpoints.push(Endpoint {
                label: format!("{transport:?}://p{id}").to_lowercase(),
                provider: ProviderId(id),
                transport: *transport,
                family: Family::V4,
                max_qps: None,
            });
        }
        topology.providers.push(Provider {
            name: format!("p{id}"),
            operator: OperatorId(id),
            asn: Some(64_500 + u32::from(id)),
            jurisdiction: None,
            class: ClassId(0),
            validates: true,
            tier: 1,
            max_share_permille: None,
            max_qps: None,
            is_public: true,
            endpoints,
        });
    }
    topology
}

/// That an endpoint is up and answered at 900 ms.
pub(crate) fn opinion(endpoint: u8) -> Opinion {
    Opinion {
        endpoint: EndpointKey([endpoint; 8]),
        state: State::Up,
        cause: Cause::Answering,
        witnessed: false,
        stalled: false,
        first_failure: None,
        last_failure: None,
        last_success: Some(Time::at_ms(900)),
    }
}
