//! From configuration to what the core chooses from.
//!
//! Providers and endpoints keep the order of the file, so ids are positions in it. Operators, jurisdictions and
//! classes are numbered as they first appear; operators and jurisdictions are equal without regard to case, because
//! two spellings of one operator must not count as two that fail apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use detour_core::dns64::WELL_KNOWN_NAME;
use detour_core::zones::{Route, Zones, reverse_zones};
use detour_core::{
    ClassId, Endpoint, EndpointId, Family, Group, GroupId, OperatorId, Provider, ProviderId, Topology, Transport,
};
use detour_resolver::ask::GroupKey;
use detour_resolver::bootstrap::BootstrapServer;
use detour_resolver::exchange::tls::{TlsName, Trust};
use detour_resolver::exchange::{Addresses, Remote, RemoteTls};
use detour_resolver::translate::Translation;
use http::Uri;

use super::route::NETWORK;
use super::{BootstrapConfig, Config, Dns64, EndpointConfig, ProviderConfig, RouteTo, Where};
use crate::given::Given;

/// What both planes take from providers and routes.
#[derive(Debug, Clone)]
pub(crate) struct Assembly {
    /// What the core chooses from.
    pub(crate) topology: Topology,
    /// The network side of each endpoint, by [`EndpointId`].
    pub(crate) remotes: Vec<Remote>,
    /// Which names are asked of the groups of routes.
    pub(crate) zones: Zones,
    /// What these groups are called in the cache, by [`GroupId`] from 1 on.
    pub(crate) groups: Vec<GroupKey>,
    /// What is translated for a network without IPv4.
    pub(crate) translation: Option<Translation>,
}

/// Puts together a configuration and what the network gave.
#[must_use]
pub(crate) fn assemble(config: &Config, given: &Given) -> Assembly {
    let nothing = Given::default();
    let given = if config.network.enabled { given } else { &nothing };
    let mut assembly = Assembly {
        topology: providers_of(config),
        remotes: remotes_of(config),
        zones: Zones::default(),
        groups: Vec::new(),
        translation: None,
    };
    let mut routes = Vec::with_capacity(config.routes.len().saturating_add(1));
    for route in &config.routes {
        let to = match &route.to {
            RouteTo::Public => GroupId::PUBLIC,
            RouteTo::Network => network_of(given, &mut assembly),
            RouteTo::Providers(names) => group_of(config, names, &mut assembly.topology, &mut assembly.groups),
        };
        routes.push(Route {
            zones: route.zones.clone(),
            except: route.except.clone(),
            to,
        });
    }
    let is_local = !given.resolvers.is_empty() && !given.search.is_empty();
    if config.network.search_domains && is_local {
        // Behind those of the file: of two routes with one zone the first counts.
        routes.push(Route {
            zones: given.search.iter().cloned().chain(private_reverse_zones()).collect(),
            except: Vec::new(),
            to: network_of(given, &mut assembly),
        });
    }
    if config.dns64 == Dns64::Auto && !given.resolvers.is_empty() {
        // What the network says of its translator only the network's resolvers say (RFC 8880 section 7.1).
        let is_used = assembly.topology.routed.iter().any(|group| group.name == NETWORK);
        let to = network_of(given, &mut assembly);
        routes.push(Route {
            zones: vec![WELL_KNOWN_NAME.into()],
            except: Vec::new(),
            to,
        });
        let index = usize::from(to.0).checked_sub(1);
        if let Some(group) = index.and_then(|index| assembly.topology.routed.get_mut(index)) {
            group.is_quiet = !is_used;
        }
    }
    assembly.translation = match (config.dns64, given.prefix) {
        (Dns64::Auto, Some(prefix)) => Some(Translation {
            prefix,
            is_discovered: true,
        }),
        (Dns64::Behind(prefix), _) => Some(Translation {
            prefix,
            is_discovered: false,
        }),
        (Dns64::Auto, None) | (Dns64::Off, _) => None,
    };
    assembly.zones = Zones::new(&routes);
    assembly
}

/// The reverse zones of networks whose addresses say nothing elsewhere (RFC 1918, RFC 4193).
fn private_reverse_zones() -> impl Iterator<Item = Box<[u8]>> {
    let prefixes: [(IpAddr, u8); 4] = [
        (Ipv4Addr::new(10, 0, 0, 0).into(), 8),
        (Ipv4Addr::new(172, 16, 0, 0).into(), 12),
        (Ipv4Addr::new(192, 168, 0, 0).into(), 16),
        (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
    ];
    prefixes
        .into_iter()
        .flat_map(|(address, length)| reverse_zones(address, length))
}

/// The group of the network's resolvers, one provider in plain text, as if it stood in the file. Without a resolver it is
/// empty: then there is nobody to ask about its names, and nobody is asked.
fn network_of(given: &Given, assembly: &mut Assembly) -> GroupId {
    let Assembly {
        topology,
        remotes,
        groups,
        ..
    } = assembly;
    if let Some(index) = topology.routed.iter().position(|group| group.name == NETWORK) {
        return GroupId(as_id(index.saturating_add(1)));
    }
    let id = ProviderId(as_id(topology.providers.len()));
    let mut group = Group {
        name: NETWORK.to_owned(),
        providers: Vec::new(),
        is_quiet: false,
    };
    if !given.resolvers.is_empty() {
        group.providers.push(id);
        let next = |numbers: &mut dyn Iterator<Item = u16>| numbers.max().map_or(0, |most| most.saturating_add(1));
        let first_endpoint = topology.endpoints.len();
        for address in &given.resolvers {
            topology.endpoints.push(Endpoint {
                label: label_of(*address),
                provider: id,
                transport: Transport::Udp,
                family: if address.is_ipv4() { Family::V4 } else { Family::V6 },
                max_qps: None,
            });
            remotes.push((*address).into());
        }
        let provider = Provider {
            name: NETWORK.to_owned(),
            operator: OperatorId(next(&mut topology.providers.iter().map(|known| known.operator.0))),
            asn: None,
            jurisdiction: None,
            class: ClassId(next(&mut topology.providers.iter().map(|known| known.class.0))),
            validates: false,
            tier: 1,
            max_share_permille: None,
            max_qps: None,
            is_public: false,
            endpoints: (first_endpoint..topology.endpoints.len())
                .map(|index| EndpointId(as_id(index)))
                .collect(),
        };
        topology.providers.push(provider);
    }
    // Another network's names are other names, though they are spelled the same.
    let mut identity: Vec<String> = given.resolvers.iter().map(ToString::to_string).collect();
    identity.sort();
    let mut search = given.search_texts();
    search.sort();
    identity.extend(search);
    identity.push(given.epoch.to_string());
    groups.push(GroupKey::of(&format!("{NETWORK}\n{}", identity.join("\n"))));
    topology.routed.push(group);
    GroupId(as_id(topology.routed.len()))
}

/// Whether one of these endpoints is a resolver of the network's.
#[must_use]
pub(crate) fn has_resolver_of_network(topology: &Topology, endpoints: &[EndpointId]) -> bool {
    let of_group = topology.routed.iter().filter(|group| group.name == NETWORK);
    let mut providers = of_group.flat_map(|group| &group.providers);
    providers.any(|id| {
        let provider = topology.providers.get(usize::from(id.0));
        provider.is_some_and(|provider| provider.endpoints.iter().any(|own| endpoints.contains(own)))
    })
}

/// An endpoint over UDP as an operator would write it.
fn label_of(address: SocketAddr) -> String {
    match (address.port(), address.ip()) {
        (53, IpAddr::V4(ip)) => format!("udp://{ip}"),
        (53, IpAddr::V6(ip)) => format!("udp://[{ip}]"),
        (_, IpAddr::V4(_) | IpAddr::V6(_)) => format!("udp://{address}"),
    }
}

/// The group of these providers, the same for routes that name the same ones.
fn group_of(config: &Config, names: &[String], topology: &mut Topology, keys: &mut Vec<GroupKey>) -> GroupId {
    let is_named = |provider: &&ProviderConfig| names.contains(&provider.name);
    let members: Vec<&ProviderConfig> = config.providers.iter().filter(is_named).collect();
    let ids = topology.provider_ids().zip(&config.providers);
    let group = Group {
        name: Vec::from_iter(members.iter().map(|provider| provider.name.as_str())).join("+"),
        providers: ids
            .filter(|(_, provider)| is_named(provider))
            .map(|(id, _)| id)
            .collect(),
        is_quiet: false,
    };
    if let Some(index) = topology.routed.iter().position(|known| *known == group) {
        return GroupId(as_id(index.saturating_add(1)));
    }
    let mut identity: Vec<String> = members
        .iter()
        .map(|provider| format!("{} {}", provider.name, class_text(provider)))
        .collect();
    identity.sort();
    keys.push(GroupKey::of(&identity.join("\n")));
    topology.routed.push(group);
    GroupId(as_id(topology.routed.len()))
}

/// What the core chooses from.
#[cfg(test)]
pub(crate) fn to_topology(config: &Config) -> Topology {
    assemble(config, &Given::default()).topology
}

/// The network side of each endpoint.
#[cfg(test)]
pub(crate) fn remotes(config: &Config) -> Vec<Remote> {
    assemble(config, &Given::default()).remotes
}

/// All providers.
fn providers_of(config: &Config) -> Topology {
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
            is_public: provider.is_public,
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

/// The network side of each endpoint, by [`EndpointId`].
fn remotes_of(config: &Config) -> Vec<Remote> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn networks_that_give_the_same_are_told_apart() {
        let provider = "[[provider]]\nname = \"p\"\nendpoints = [\"udp://192.0.2.1\"]\n";
        let config = Config::parse(&format!("version = 1\n{provider}"), Path::new("x.toml")).unwrap();
        let of = |search: &[&[u8]], epoch: u64| {
            let given = Given {
                resolvers: vec!["192.168.1.1:53".parse().unwrap()],
                search: search.iter().map(|name| (*name).into()).collect(),
                epoch,
                ..Given::default()
            };
            assemble(&config, &given)
        };
        let (lan, office): (&[u8], &[u8]) = (b"\x03lan\x00", b"\x06office\x00");
        let home = of(&[lan, office], 1);
        assert_eq!(home.groups.len(), 1);
        assert_eq!(home.groups, of(&[office, lan], 1).groups, "in any order");
        assert_ne!(home.groups, of(&[lan, office], 2).groups);
        assert_ne!(home.groups, of(&[lan], 1).groups);
        // The file's provider is none of the network's.
        let is_of_network = |id| has_resolver_of_network(&home.topology, &[EndpointId(id)]);
        assert_eq!([0, 1, 2].map(is_of_network), [false, true, false]);
    }
}
