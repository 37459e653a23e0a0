//! From configuration to what the core chooses from.
//!
//! Providers and endpoints keep the order of the file, so ids are positions in it. Operators, jurisdictions and
//! classes are numbered as they first appear; operators and jurisdictions are equal without regard to case, because
//! two spellings of one operator must not count as two that fail apart.

use std::net::IpAddr;

use detour_core::{ClassId, Endpoint, EndpointId, OperatorId, Provider, ProviderId, Topology};
use detour_resolver::bootstrap::BootstrapServer;
use detour_resolver::exchange::tls::{TlsName, Trust};
use detour_resolver::exchange::{Addresses, Remote, RemoteTls};
use http::Uri;

use super::{BootstrapConfig, Config, EndpointConfig, ProviderConfig, Where};

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

/// The network side of each endpoint, by [`EndpointId`] of [`to_topology`].
#[must_use]
pub(crate) fn remotes(config: &Config) -> Vec<Remote> {
    let of_provider = |provider: &ProviderConfig| -> Vec<Remote> {
        let endpoints = provider.endpoints.iter();
        endpoints
            .map(|endpoint| to_remote(endpoint, &provider.trust, config.select.early_data))
            .collect()
    };
    config.providers.iter().flat_map(of_provider).collect()
}

/// The network side of those who resolve host names, best first.
#[must_use]
pub(crate) fn bootstrap_servers(config: &Config) -> Vec<BootstrapServer> {
    let server = |server: &BootstrapConfig| BootstrapServer {
        transport: server.endpoint.transport,
        remote: to_remote(&server.endpoint, &server.trust, false),
    };
    config.bootstrap.iter().map(server).collect()
}

/// The network side of one endpoint.
pub(super) fn to_remote(endpoint: &EndpointConfig, trust: &Trust, early_data: bool) -> Remote {
    let host = match (&endpoint.name, &endpoint.at) {
        (Some(name), _) => name.to_string(),
        (None, Where::Address(address)) => address.ip().to_string(),
        (None, Where::Name(at)) => at.host.to_string(),
    };
    // A name, or an address: both can be in a certificate.
    let name = TlsName::new(&host).filter(|_| endpoint.transport.is_encrypted());
    let trust = endpoint.trust.as_ref().unwrap_or(trust);
    // What cannot be checked is not believed: without trust nothing is asked.
    let trust = match (endpoint.proof, endpoint.hashes.as_slice()) {
        (Some(proof), _) => trust.designated(proof).ok(),
        (None, []) => Some(trust.clone()),
        (None, hashes) => trust.with_hashes(hashes).ok(),
    };
    Remote {
        addresses: match &endpoint.at {
            Where::Address(address) => Addresses::fixed(*address),
            Where::Name(at) => Addresses::of_name(at.clone()),
        },
        tls: name.zip(trust).map(|(name, trust)| RemoteTls {
            name,
            trust,
            url: endpoint.path.as_ref().and_then(|path| url(endpoint, path)),
            early_data: endpoint.early_data.unwrap_or(early_data),
        }),
    }
}

/// The URL of DNS over HTTPS: the port is part of the authority unless it is the usual one.
fn url(endpoint: &EndpointConfig, path: &str) -> Option<Uri> {
    let host = match (&endpoint.name, &endpoint.at) {
        (Some(name), _) => name.to_string(),
        (None, Where::Name(at)) => at.host.to_string(),
        (None, Where::Address(address)) => match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
    };
    let port = match endpoint.at.port() {
        443 => String::new(),
        port => format!(":{port}"),
    };
    format!("https://{host}{port}{path}").parse().ok()
}

fn to_endpoint(endpoint: &EndpointConfig, provider: ProviderId) -> Endpoint {
    Endpoint {
        label: endpoint.label.clone(),
        provider,
        transport: endpoint.transport,
        family: endpoint.at.family(),
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
