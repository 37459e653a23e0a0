//! Whom there is to look at: the endpoints of the configuration, the resolvers that the network gave, and if asked for
//! the transports that neither names.

use std::net::{IpAddr, SocketAddr};

use detour_core::control::is_cleartext_forbidden;
use detour_core::doctor::NotAsked;
use detour_core::{Family, GroupId, ProviderId, Transport};
use detour_resolver::exchange::tls::{TlsName, Trust};
use detour_resolver::exchange::{Remote, RemoteTls};
use detour_resolver::wire::NameBuf;
use detour_resolver::wire::code::rtype;
use http::Uri;

use crate::cli::DOCTOR_NAME;
use crate::config::{Assembly, Config, RouteTo};

/// All transports, in the order they are shown in.
const ALL: [Transport; 6] = [
    Transport::Udp,
    Transport::Tcp,
    Transport::Tls,
    Transport::Https,
    Transport::Quic,
    Transport::H3,
];
/// Where DNS over HTTPS is asked if no endpoint says: what nearly all providers use.
const PATH: &str = "/dns-query";

/// Where the addresses of most private networks are (RFC 6303 section 4.2): nobody else's resolver is asked about them.
const PRIVATE_ZONE: &str = "168.192.in-addr.arpa";

/// One endpoint to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The name of its provider.
    pub(super) provider: String,
    /// As in the configuration, or as it would be there.
    pub(super) label: String,
    pub(super) transport: Transport,
    pub(super) family: Family,
    pub(super) remote: Remote,
    pub(super) is_listed: bool,
    /// It is not to be asked.
    pub(super) skipped: Option<NotAsked>,
    /// Its provider serves all names.
    pub(super) is_public: bool,
    /// What it is asked for instead of a name that is none of its: a name, and a type of records.
    pub(super) instead: Option<(NameBuf, u16)>,
}

/// Everybody, by provider in the order of the configuration; with `all_transports` what is not listed stands behind what
/// is.
pub(super) fn of(config: &Config, assembly: &Assembly, name: &NameBuf, all_transports: bool) -> Vec<Target> {
    let topology = &assembly.topology;
    let routed = assembly.zones.find(&name.as_wire().to_ascii_lowercase());
    let asked = routed.map_or(GroupId::PUBLIC, |routed| routed.to);
    let mut targets = Vec::new();
    for (id, provider) in topology.provider_ids().zip(&topology.providers) {
        if is_quiet(id, assembly) {
            continue;
        }
        let instead = if topology.is_member(asked, id) {
            None
        } else if provider.is_public {
            DOCTOR_NAME.parse().ok().map(|name| (name, rtype::A))
        } else {
            zone_of(config, &provider.name).map(|zone| (zone, rtype::SOA))
        };
        let is_forbidden = is_cleartext_forbidden(config.select.encryption, topology, id);
        let listed = provider.endpoints.iter().filter_map(|id| {
            let endpoint = topology.endpoint(*id)?;
            let remote = assembly.remotes.get(usize::from(id.0))?;
            if is_without_family(remote, &assembly.remotes) {
                return None;
            }
            Some(Target {
                provider: provider.name.clone(),
                label: endpoint.label.clone(),
                transport: endpoint.transport,
                family: endpoint.family,
                remote: remote.clone(),
                is_listed: true,
                skipped: skipped(is_forbidden, endpoint.transport, remote),
                is_public: provider.is_public,
                instead: instead.clone(),
            })
        });
        let listed: Vec<Target> = listed.collect();
        let own = config.providers.iter().find(|own| own.name == provider.name);
        let trust = own.map(|own| &own.trust);
        let unlisted = trust
            .filter(|_| all_transports)
            .map(|trust| unlisted(is_forbidden, &listed, trust));
        targets.extend(listed);
        targets.extend(unlisted.unwrap_or_default());
    }
    targets
}

/// Whether nobody's names go to this provider: it is there to be asked about the network alone.
fn is_quiet(id: ProviderId, assembly: &Assembly) -> bool {
    let mut groups = assembly.topology.routed.iter();
    groups.any(|group| group.is_quiet && group.providers.contains(&id))
}

/// Whether the endpoint's host has addresses, and none of its family: no trouble, and nothing to ask.
fn is_without_family(remote: &Remote, all: &[Remote]) -> bool {
    let host = |remote: &Remote| remote.addresses.name().map(|at| at.host.clone());
    let own = host(remote);
    let is_same_host = |other: &&Remote| own.is_some() && host(other) == own;
    address_of(remote).is_none() && all.iter().filter(is_same_host).any(|other| address_of(other).is_some())
}

/// Why an endpoint is not asked.
fn skipped(is_cleartext_forbidden: bool, transport: Transport, remote: &Remote) -> Option<NotAsked> {
    if is_cleartext_forbidden && !transport.is_encrypted() {
        Some(NotAsked::Cleartext)
    } else if address_of(remote).is_none() {
        Some(NotAsked::NoAddress)
    } else {
        None
    }
}

/// Where packets go, as far as that is known.
fn address_of(remote: &Remote) -> Option<SocketAddr> {
    remote.addresses.first()
}

/// A zone whose names are this provider's: of a route of the file, or else one that every network has for itself.
fn zone_of(config: &Config, provider: &str) -> Option<NameBuf> {
    let is_its = |to: &RouteTo| match to {
        RouteTo::Providers(names) => names.iter().any(|name| name == provider),
        RouteTo::Public | RouteTo::Network => false,
    };
    let mut routes = config.routes.iter().filter(|route| is_its(&route.to));
    let zone = routes.find_map(|route| NameBuf::from_wire(route.zones.first()?));
    zone.or_else(|| PRIVATE_ZONE.parse().ok())
}

/// What a provider could speak too at the addresses it has, at the usual ports.
fn unlisted(is_cleartext_forbidden: bool, listed: &[Target], trust: &Trust) -> Vec<Target> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in listed.iter().filter_map(|target| address_of(&target.remote)) {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    let mut found = Vec::new();
    for ip in addresses {
        let is_there = |target: &&Target| address_of(&target.remote).is_some_and(|address| address.ip() == ip);
        let here: Vec<&Target> = listed.iter().filter(is_there).collect();
        for transport in ALL {
            let is_listed = here.iter().any(|target| target.transport == transport);
            // What the configuration forbids is not tried either.
            let is_forbidden = is_cleartext_forbidden && !transport.is_encrypted();
            if is_listed || is_forbidden {
                continue;
            }
            // The name is that of a neighbour at this address, or of the provider's at another one.
            let named = here
                .iter()
                .copied()
                .chain(listed)
                .find_map(|target| name_of(&target.label));
            found.extend(here.first().and_then(|first| {
                let address = SocketAddr::new(ip, port(transport));
                let path = here.iter().copied().chain(listed).find_map(path_of);
                Some(Target {
                    label: label(transport, ip, named),
                    transport,
                    remote: Remote {
                        tls: tls(transport, ip, named, path.as_deref(), trust)?,
                        ..Remote::from(address)
                    },
                    is_listed: false,
                    skipped: None,
                    ..(*first).clone()
                })
            }));
        }
    }
    found
}

/// The `#name` of an endpoint.
fn name_of(label: &str) -> Option<&str> {
    label.split_once('#').map(|(_, name)| name)
}

/// Where an endpoint is asked over HTTP.
fn path_of(target: &Target) -> Option<String> {
    let url = target.remote.tls.as_ref()?.url.as_ref()?;
    Some(url.path().to_owned())
}

/// The usual port (RFC 1035 section 4.2, RFC 7858 section 3.1, RFC 9250 section 4.1.1, RFC 8484).
fn port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 53,
        Transport::Tls | Transport::Quic => 853,
        Transport::Https | Transport::H3 => 443,
    }
}

/// As it would stand in a configuration.
fn label(transport: Transport, ip: IpAddr, name: Option<&str>) -> String {
    let name = name.filter(|_| transport.is_encrypted());
    let name = name.map_or_else(String::new, |name| format!("#{name}"));
    format!("{}://{}{name}", transport.word(), host(ip))
}

/// An address in a URL.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// What an encrypted one would have to prove: that it is the neighbour's name, or the address. The outer `None`: nothing
/// can be both a name in a certificate and this.
fn tls(
    transport: Transport,
    ip: IpAddr,
    name: Option<&str>,
    path: Option<&str>,
    trust: &Trust,
) -> Option<Option<RemoteTls>> {
    if !transport.is_encrypted() {
        return Some(None);
    }
    let proven = name.map_or_else(|| ip.to_string(), str::to_owned);
    let authority = name.map_or_else(|| host(ip), str::to_owned);
    let url: Option<Uri> = match transport {
        Transport::Https | Transport::H3 => format!("https://{authority}{}", path.unwrap_or(PATH)).parse().ok(),
        Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Quic => None,
    };
    Some(Some(RemoteTls {
        name: TlsName::new(&proven)?,
        trust: trust.clone(),
        url,
        early_data: false,
    }))
}
