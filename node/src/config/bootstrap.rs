//! `[bootstrap]`: who is asked for the host names of endpoints.
//!
//! Never this node itself, nor whom the system asks: a name that is needed to answer questions cannot be one of them.
//! Without the table it is the file's own endpoints that have addresses, encrypted ones first; without those whoever the
//! stamps recommend. A file with host names that nobody can resolve is a mistake that would be found in the next outage.

use detour_core::{Family, Transport};
use detour_resolver::exchange::NamedAt;
use detour_resolver::exchange::tls::Trust;

use super::problem::{Place, Problems, quoted};
use super::reader::{Reader, Table};
use super::spec::{Spec, to_endpoints};
use super::{BootstrapConfig, EndpointConfig, ProviderConfig, Where, answers_to_itself, endpoint, route};

/// Most resolvers that are asked for a name: whoever is not answered by eight is not by more.
pub(super) const BOOTSTRAP_SERVERS_MAX: usize = 8;

/// Reads `servers`: endpoints, but with addresses.
pub(super) fn read_bootstrap(reader: &mut Reader, table: &Table<'_>) -> Vec<(Place, EndpointConfig)> {
    let Some(item) = reader.item(table, "servers") else {
        let message = "missing: name at least one, such as servers = [\"udp://9.9.9.9\"]";
        reader
            .problems
            .add(&table.place.child("servers", table.place.line), message);
        return Vec::new();
    };
    let elements = reader
        .elements(&item, "servers", BOOTSTRAP_SERVERS_MAX)
        .unwrap_or_default();
    let mut servers = Vec::with_capacity(elements.len());
    for element in elements {
        let Some(parsed) = reader.parsed(&element, endpoint::parse) else {
            continue;
        };
        let endpoints = to_endpoints(parsed);
        if endpoints.iter().any(|endpoint| endpoint.at.address().is_none()) {
            reader.wrong::<()>(
                &element,
                "has a host name: who resolves names is reached by its IP address",
            );
            continue;
        }
        servers.extend(endpoints.into_iter().map(|endpoint| (element.place.clone(), endpoint)));
    }
    servers
}

/// Says what is wrong with names and those who resolve them.
pub(super) fn check(problems: &mut Problems, spec: &Spec, is_public: &[bool]) {
    let encrypted = spec
        .encrypted
        .places
        .iter()
        .map(|(_, via, address)| (via.word(), *address));
    let listening = spec.listen.dns.iter().map(|address| ("dns", *address)).chain(encrypted);
    for (word, address) in listening {
        let is_here = |server: &EndpointConfig| {
            server
                .at
                .address()
                .is_some_and(|own| answers_to_itself(&[address], own))
        };
        for (place, server) in spec.bootstrap.iter().filter(|(_, server)| is_here(server)) {
            let label = quoted(&server.label);
            let message = format!("{label} is an address of listen.{word}: names would be asked for here");
            problems.add(place, message);
        }
    }
    if !spec.has_bootstrap {
        routed(problems, spec);
    }
    let mut named = None;
    for (provider, is_public) in spec.providers.iter().zip(is_public) {
        for endpoint in provider.endpoints.present().into_iter().flatten() {
            match &endpoint.config.at {
                Where::Address(_) if *is_public => return,
                Where::Address(_) => {}
                Where::Name(_) => named = named.or(Some(&endpoint.place)),
            }
        }
    }
    if let Some(place) = named.filter(|_| !spec.has_bootstrap && spec.recommended.is_empty()) {
        problems.add(
            place,
            "has a host name, as all endpoints have, and nobody is there to resolve it: add [bootstrap] with \
             servers = [\"udp://9.9.9.9\"], or an endpoint with an IP address",
        );
    }
}

/// Without the table a host name would be told to those who serve all names, though a route keeps it from them.
fn routed(problems: &mut Problems, spec: &Spec) {
    let all = spec.providers.iter().filter_map(|given| given.endpoints.present());
    for endpoint in all.flatten() {
        // One for each family, at one place.
        let Where::Name(at @ NamedAt { family: Family::V4, .. }) = &endpoint.config.at else {
            continue;
        };
        if let Some(route) = route::of_host(&spec.routes, &at.host) {
            let (host, route) = (quoted(&at.host), &route.place);
            let message = format!(
                "{host} is a name of {} (line {}), and public providers would be asked for it: add [bootstrap] with \
                 servers that know it, or write its IP address",
                route.key, route.line
            );
            problems.add(&endpoint.place, message);
        }
    }
}

/// Who is asked, best first; `trust` is that of the whole file.
pub(super) fn servers(
    spec: Vec<(Place, EndpointConfig)>,
    recommended: &[std::net::SocketAddr],
    providers: &[ProviderConfig],
    trust: &Trust,
) -> Vec<BootstrapConfig> {
    let all = providers.iter().flat_map(|provider| &provider.endpoints);
    if !all.clone().any(|endpoint| endpoint.at.address().is_none()) {
        return Vec::new();
    }
    let server = |endpoint: EndpointConfig| BootstrapConfig {
        endpoint,
        trust: trust.clone(),
    };
    let mut servers: Vec<BootstrapConfig> = spec.into_iter().map(|(_, endpoint)| server(endpoint)).collect();
    if servers.is_empty() {
        // Those of routes know names of their own, and hear of no others.
        for provider in providers.iter().filter(|provider| provider.is_public) {
            let with_address = provider
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.at.address().is_some());
            servers.extend(with_address.map(|endpoint| BootstrapConfig {
                endpoint: endpoint.clone(),
                trust: endpoint.trust.as_ref().unwrap_or(&provider.trust).clone(),
            }));
        }
        // Stable: within both halves the order of the file.
        servers.sort_by_key(|server| !server.endpoint.transport.is_encrypted());
        servers.truncate(BOOTSTRAP_SERVERS_MAX);
    }
    if servers.is_empty() {
        servers.extend(recommended.iter().map(|address| {
            server(EndpointConfig {
                label: format!("udp://{address}"),
                transport: Transport::Udp,
                at: Where::Address(*address),
                name: None,
                path: None,
                max_qps: None,
                early_data: None,
                hashes: Vec::new(),
                trust: None,
                ddr: false,
                proof: None,
            })
        }));
    }
    servers
}
