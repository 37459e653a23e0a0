//! From configuration to what the core chooses from.
//!
//! Providers and endpoints keep the order of the file, so ids are positions in it. Operators, jurisdictions and
//! classes are numbered as they first appear; operators and jurisdictions are equal without regard to case, because
//! two spellings of one operator must not count as two that fail apart.

use std::net::SocketAddr;

use detour_core::{ClassId, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Topology};

use super::{Config, EndpointConfig, ProviderConfig};

/// What the core chooses from.
#[must_use]
pub(crate) fn to_topology(config: &Config) -> Topology {
    let mut operators = Numbering::default();
    let mut jurisdictions = Numbering::default();
    let mut classes = Numbering::default();
    let mut topology = Topology::default();
    for provider in &config.providers {
        let id = ProviderId(as_id(topology.providers.len()));
        let first_endpoint = topology.endpoints.len();
        topology
            .endpoints
            .extend(provider.endpoints.iter().map(|endpoint| to_endpoint(endpoint, id)));
        topology.providers.push(Provider {
            name: provider.name.clone(),
            operator: OperatorId(operators.number(provider.operator.to_lowercase())),
            asn: provider.asn,
            jurisdiction: provider
                .jurisdiction
                .as_ref()
                .map(|jurisdiction| jurisdictions.number(jurisdiction.to_lowercase())),
            class: ClassId(classes.number((provider.filter.clone(), provider.validates))),
            validates: provider.validates,
            tier: provider.tier,
            max_share_permille: provider.max_share_permille,
            max_qps: provider.max_qps,
            endpoints: (first_endpoint..topology.endpoints.len())
                .map(|index| EndpointId(as_id(index)))
                .collect(),
        });
    }
    topology
}

/// What a provider does to answers, in a word: `none/validating`.
#[must_use]
pub(crate) fn class_text(provider: &ProviderConfig) -> String {
    let validation = if provider.validates {
        "validating"
    } else {
        "not-validating"
    };
    format!("{}/{validation}", provider.filter)
}

/// The address of each endpoint, by [`EndpointId`] of [`to_topology`].
#[must_use]
pub(crate) fn addresses(config: &Config) -> Vec<SocketAddr> {
    let endpoints = config.providers.iter().flat_map(|provider| &provider.endpoints);
    endpoints.map(|endpoint| endpoint.address).collect()
}

fn to_endpoint(endpoint: &EndpointConfig, provider: ProviderId) -> Endpoint {
    Endpoint {
        label: endpoint.label.clone(),
        provider,
        transport: endpoint.transport,
        family: if endpoint.address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        },
        max_qps: endpoint.max_qps,
    }
}

/// Numbers of equal things, in order of first appearance.
struct Numbering<T> {
    seen: Vec<T>,
}

impl<T> Default for Numbering<T> {
    fn default() -> Self {
        Self { seen: Vec::new() }
    }
}

impl<T: PartialEq> Numbering<T> {
    fn number(&mut self, thing: T) -> u16 {
        let known = self.seen.iter().position(|seen| *seen == thing);
        as_id(known.unwrap_or_else(|| {
            self.seen.push(thing);
            self.seen.len() - 1
        }))
    }
}

/// A [`Config`] holds at most 256 endpoints, so nothing is lost.
fn as_id(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
