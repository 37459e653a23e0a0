//! The file as it was written: typed values, each with the place it stands at.
//!
//! What a single value can tell (its type, bounds, format) is judged here; what takes more than one of them is left
//! to `check`, because it makes no sense of a file that is broken off in the middle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use detour_core::{Encryption, Family, Strategy, TransportClass};
use detour_resolver::exchange::NamedAt;
use detour_resolver::exchange::tls::{GROUPS_MAX, Group, PINS_MAX, Pin};
use detour_resolver::sdns::Properties;
use toml::de::DeTable;

use super::bootstrap::{BOOTSTRAP_SERVERS_MAX, read_bootstrap};
use super::encrypted::{self, EncryptedSpec};
use super::endpoint::{Host, Stamped};
use super::mesh::MeshSpec;
use super::problem::Place;
use super::reader::{Item, Reader, Table};
use super::route::{self, RouteSpec};
use super::{
    Admin, CacheConfig, Dns64, EndpointConfig, Limits, Listen, LocalZones, Log, LogFormat, Network, PROGRAM_VERSION,
    Persist, Reload, Select, SourcePorts, Where, endpoint, local_zones, mesh, network, parse_listen_address,
};
/// Most providers. A plan is a sort of their endpoints for each query; more than a handful serve no purpose.
pub(super) const PROVIDERS_MAX: usize = 64;

/// Most endpoints of one provider as the file has them: four transports over two families, twice.
pub(super) const ENDPOINTS_OF_PROVIDER_MAX: usize = 16;

/// Most endpoints, those with host names counted twice: each holds sockets, and tables of the core are dense in them.
pub(super) const ENDPOINTS_MAX: usize = 256;

/// Most addresses to listen on; each takes a socket and a task or two.
pub(super) const LISTEN_MAX: usize = 32;

/// Most files of roots.
const TRUST_MAX: usize = 16;

/// Most prefixes of `allow`: the list is walked for each query.
const ALLOW_MAX: usize = 256;

pub(super) const ROOT_KEYS: &[&str] = &[
    "version",
    "state-dir",
    "trust",
    "tls-groups",
    "reload",
    "dns64",
    "listen",
    "provider",
    "bootstrap",
    "route",
    "network",
    "select",
    "local-zones",
    "mesh",
    "cache",
    "limits",
    "log",
];
pub(super) const LISTEN_KEYS: &[&str] = &[
    "dns", "tls", "https", "h3", "quic", "cert", "key", "doh-path", "admin", "allow",
];
pub(super) const PROVIDER_KEYS: &[&str] = &[
    "name",
    "operator",
    "asn",
    "jurisdiction",
    "filter",
    "validates",
    "tier",
    "max-share",
    "max-qps",
    "default",
    "trust",
    "pins",
    "ddr",
    "endpoints",
];
pub(super) const ENDPOINT_KEYS: &[&str] = &["url", "max-qps", "pins", "early-data", "ddr"];
pub(super) const BOOTSTRAP_KEYS: &[&str] = &["servers"];
pub(super) const SELECT_KEYS: &[&str] = &["strategy", "encryption", "mix-policies", "source-ports", "early-data"];
pub(super) const CACHE_KEYS: &[&str] = &["size", "min-ttl", "max-ttl", "max-stale", "persist"];
pub(super) const LIMITS_KEYS: &[&str] = &[
    "in-flight",
    "tcp-connections",
    "tls-connections",
    "quic-connections",
    "tcp-idle",
    "encrypted-idle",
];
pub(super) const LOG_KEYS: &[&str] = &["level", "format"];

/// A file.
#[derive(Default)]
pub(super) struct Spec {
    pub(super) has_version: bool,
    pub(super) state_dir: Option<PathBuf>,
    /// More roots for all providers.
    pub(super) trust: Vec<(Place, PathBuf)>,
    /// How keys are agreed, if that is said.
    pub(super) tls_groups: Option<Vec<Group>>,
    pub(super) reload: Reload,
    pub(super) listen: Listen,
    /// Of `listen.dns`, in its order; empty when that is the default.
    pub(super) listen_dns_places: Vec<Place>,
    pub(super) listen_admin_place: Option<Place>,
    pub(super) encrypted: EncryptedSpec,
    /// Whether the key was there, readable or not.
    pub(super) has_providers: bool,
    pub(super) providers: Vec<ProviderSpec>,
    /// Whether the table was there, readable or not.
    pub(super) has_bootstrap: bool,
    /// `[bootstrap] servers`, with addresses.
    pub(super) bootstrap: Vec<(Place, EndpointConfig)>,
    /// Resolvers that stamps recommend for their own host names.
    pub(super) recommended: Vec<SocketAddr>,
    pub(super) routes: Vec<RouteSpec>,
    pub(super) network: Network,
    pub(super) dns64: Dns64,
    pub(super) select: Select,
    pub(super) local_zones: LocalZones,
    pub(super) mesh: Option<MeshSpec>,
    pub(super) cache: CacheConfig,
    pub(super) limits: Limits,
    pub(super) log: Log,
}

/// A provider, with the defaults of all that is optional.
pub(super) struct ProviderSpec {
    pub(super) place: Place,
    pub(super) name: Required<String>,
    pub(super) operator: Option<String>,
    pub(super) asn: Option<u32>,
    pub(super) jurisdiction: Option<String>,
    pub(super) filter: String,
    pub(super) validates: bool,
    pub(super) tier: u8,
    pub(super) max_share_permille: Option<u16>,
    pub(super) max_qps: Option<u32>,
    /// Whether it serves names that no route speaks of; without it, unless a route names it.
    pub(super) default: Option<bool>,
    /// More roots for this provider.
    pub(super) trust: Vec<(Place, PathBuf)>,
    /// One of these is its key, if there are any.
    pub(super) pins: Pins,
    /// Where it stands, and whether its plain endpoints are asked for designated ones.
    pub(super) ddr: Option<(Place, bool)>,
    pub(super) endpoints: Required<Vec<EndpointSpec>>,
}

/// An endpoint as it was written; one with a host name is two, at one place.
pub(super) struct EndpointSpec {
    pub(super) place: Place,
    /// Without what its pins make of it.
    pub(super) config: EndpointConfig,
    /// In the place of its provider's.
    pub(super) pins: Pins,
}

/// Pins, and where they stand.
#[derive(Clone, Default)]
pub(super) struct Pins {
    pub(super) place: Option<Place>,
    pub(super) list: Vec<Pin>,
}

/// A value that must be there.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Required<T> {
    #[default]
    Absent,
    /// It was there and has been reported.
    Wrong,
    Present(T),
}

impl<T> Required<T> {
    pub(super) fn present(&self) -> Option<&T> {
        match self {
            Self::Absent | Self::Wrong => None,
            Self::Present(value) => Some(value),
        }
    }
}

impl ProviderSpec {
    fn new(place: Place) -> Self {
        Self {
            place,
            name: Required::Absent,
            operator: None,
            asn: None,
            jurisdiction: None,
            filter: "none".to_owned(),
            validates: true,
            tier: 1,
            max_share_permille: None,
            max_qps: None,
            default: None,
            trust: Vec::new(),
            pins: Pins::default(),
            ddr: None,
            endpoints: Required::Absent,
        }
    }

    /// Whether it has an encrypted endpoint.
    pub(super) fn is_encrypted(&self) -> bool {
        let mut endpoints = self.endpoints.present().into_iter().flatten();
        endpoints.any(|endpoint| endpoint.config.transport.is_encrypted())
    }
}

/// Whether the file is written for this version of the format. If not, that is all there is to say about it.
pub(super) fn is_of_this_version(reader: &mut Reader, root: &DeTable<'_>) -> bool {
    let item = reader.item(&Table::root(root), "version");
    let other = item.filter(|item| item.as_integer().is_some_and(|version| version != 1));
    let Some(other) = other else {
        return true;
    };
    let message = format!("detour {PROGRAM_VERSION} reads files of version = 1 only");
    reader.wrong::<()>(&other, message);
    false
}

/// Reads all there is.
pub(super) fn read<'t>(reader: &mut Reader, root: &'t DeTable<'t>) -> Spec {
    let root = reader.root(root, ROOT_KEYS);
    let mut spec = Spec::default();
    if let Some(item) = reader.item(&root, "version") {
        spec.has_version = true;
        reader.integer(&item, 1..=1);
    }
    reader.set(&root, "state-dir", &mut spec.state_dir, |reader, item| {
        reader.path(item, "must be the path of a directory").map(Some)
    });
    spec.trust = read_trust(reader, &root);
    spec.tls_groups = reader
        .item(&root, "tls-groups")
        .and_then(|item| read_groups(reader, &item));
    let reloads = [("signal", Reload::Signal), ("watch", Reload::Watch)];
    reader.set(&root, "reload", &mut spec.reload, |r, item| r.choice(item, &reloads));
    reader.set(&root, "dns64", &mut spec.dns64, |r, item| r.parsed(item, str::parse));
    if let Some(table) = section(reader, &root, "listen", LISTEN_KEYS) {
        read_listen(reader, &table, &mut spec);
    }
    if let Some(item) = reader.item(&root, "provider") {
        spec.has_providers = true;
        spec.providers = read_providers(reader, &item, &mut spec.recommended);
    }
    if let Some(table) = section(reader, &root, "bootstrap", BOOTSTRAP_KEYS) {
        spec.has_bootstrap = true;
        spec.bootstrap = read_bootstrap(reader, &table);
    }
    if let Some(item) = reader.item(&root, "route") {
        spec.routes = route::read(reader, &item);
    }
    if let Some(item) = reader.item(&root, "network") {
        network::read(reader, &item, &mut spec.network);
    }
    if let Some(table) = section(reader, &root, "select", SELECT_KEYS) {
        read_select(reader, &table, &mut spec.select);
    }
    if let Some(item) = reader.item(&root, "local-zones") {
        local_zones::read(reader, &item, &mut spec.local_zones);
    }
    if let Some(item) = reader.item(&root, "mesh") {
        spec.mesh = mesh::read(reader, &item);
    }
    if let Some(table) = section(reader, &root, "cache", CACHE_KEYS) {
        read_cache(reader, &table, &mut spec.cache);
    }
    if let Some(table) = section(reader, &root, "limits", LIMITS_KEYS) {
        read_limits(reader, &table, &mut spec.limits);
    }
    if let Some(table) = section(reader, &root, "log", LOG_KEYS) {
        read_log(reader, &table, &mut spec.log);
    }
    spec
}

fn section<'t>(reader: &mut Reader, root: &Table<'t>, key: &str, known: &[&str]) -> Option<Table<'t>> {
    let item = reader.item(root, key)?;
    reader.table(&item, known)
}

fn read_listen(reader: &mut Reader, table: &Table<'_>, spec: &mut Spec) {
    if let Some(item) = reader.item(table, "dns")
        && let Some(elements) = reader.elements(&item, "addresses", LISTEN_MAX)
    {
        let read = |element: Item<'_>| {
            let address = reader.parsed(&element, parse_listen_address)?;
            Some((element.place, address))
        };
        let (places, dns): (Vec<Place>, Vec<SocketAddr>) = elements.into_iter().filter_map(read).unzip();
        spec.listen.dns = dns;
        spec.listen_dns_places = places;
    }
    if let Some(item) = reader.item(table, "admin") {
        spec.listen.admin_is_named = true;
        if let Some(admin) = reader.parsed(&item, str::parse::<Admin>) {
            spec.listen.admin = admin;
        }
        spec.listen_admin_place = Some(item.place);
    }
    if let Some(item) = reader.item(table, "allow")
        && let Some(elements) = reader.elements(&item, "address prefixes", ALLOW_MAX)
    {
        let prefixes = elements.iter().filter_map(|element| reader.parsed(element, str::parse));
        spec.listen.allow = prefixes.collect();
    }
    spec.encrypted = encrypted::read(reader, table);
}

/// Paths of PEM files.
fn read_trust(reader: &mut Reader, table: &Table<'_>) -> Vec<(Place, PathBuf)> {
    let Some(item) = reader.item(table, "trust") else {
        return Vec::new();
    };
    let elements = reader
        .elements(&item, "paths of PEM files", TRUST_MAX)
        .unwrap_or_default();
    let mut paths = Vec::with_capacity(elements.len());
    for element in elements {
        if let Some(path) = reader.path(&element, "must be the path of a PEM file") {
            paths.push((element.place, path));
        }
    }
    paths
}

/// Names of key exchange groups.
fn read_groups(reader: &mut Reader, item: &Item<'_>) -> Option<Vec<Group>> {
    let choices = Group::ALL.map(|group| (group.name(), group));
    let elements = reader.elements(item, "names of groups", GROUPS_MAX)?;
    let mut groups = Vec::with_capacity(elements.len());
    for element in elements {
        match reader.choice(&element, &choices) {
            Some(group) if groups.contains(&group) => {
                reader.wrong::<()>(&element, format!("{} is listed twice", group.name()));
            }
            group => groups.extend(group),
        }
    }
    Some(groups).filter(|groups| !groups.is_empty())
}

fn read_pins(reader: &mut Reader, table: &Table<'_>) -> Pins {
    let Some(item) = reader.item(table, "pins") else {
        return Pins::default();
    };
    let elements = reader.elements(&item, "pins", PINS_MAX).unwrap_or_default();
    let list = elements
        .iter()
        .filter_map(|element| reader.parsed(element, str::parse::<Pin>));
    Pins {
        list: list.collect(),
        place: Some(item.place),
    }
}

fn read_select(reader: &mut Reader, table: &Table<'_>, select: &mut Select) {
    let strategies = [
        ("balanced", Strategy::Balanced),
        ("fastest", Strategy::Fastest),
        ("shard", Strategy::Shard),
    ];
    let source_ports = [("pool", SourcePorts::Pool), ("per-query", SourcePorts::PerQuery)];
    reader.set(table, "strategy", &mut select.strategy, |r, item| {
        r.choice(item, &strategies)
    });
    let encryption = [
        ("prefer", Encryption::Prefer),
        ("require", Encryption::Require),
        ("any", Encryption::Any),
    ];
    reader.set(table, "encryption", &mut select.encryption, |r, item| {
        r.choice(item, &encryption)
    });
    reader.set(table, "mix-policies", &mut select.mix_policies, Reader::flag);
    reader.set(table, "source-ports", &mut select.source_ports, |r, item| {
        r.choice(item, &source_ports)
    });
    reader.set(table, "early-data", &mut select.early_data, Reader::flag);
}

fn read_cache(reader: &mut Reader, table: &Table<'_>, cache: &mut CacheConfig) {
    let CacheConfig {
        size_bytes,
        min_ttl,
        max_ttl,
        max_stale,
        persist,
    } = cache;
    let places = [
        ("runtime", Persist::Runtime),
        ("disk", Persist::Disk),
        ("off", Persist::Off),
    ];
    reader.set(table, "persist", persist, |r, item| r.choice(item, &places));
    // Below the least a page load does not fit; above the most 32 bits of offsets end.
    reader.set(table, "size", size_bytes, |r, item| {
        r.size_bytes(item, (1 << 20)..=(4 << 30))
    });
    // RFC 8767 section 5: a week is the longest any zone can mean.
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    reader.set(table, "max-stale", max_stale, |r, item| {
        r.duration(item, Duration::ZERO..=week)
    });
    reader.set(table, "max-ttl", max_ttl, |r, item| {
        r.duration(item, Duration::from_secs(1)..=week)
    });
    // More than an hour would keep what moved long ago.
    let least_at_most = Duration::from_secs(60 * 60).min(*max_ttl);
    reader.set(table, "min-ttl", min_ttl, |r, item| {
        r.duration(item, Duration::ZERO..=least_at_most)
    });
}

fn read_limits(reader: &mut Reader, table: &Table<'_>, limits: &mut Limits) {
    let Limits {
        in_flight,
        tcp_connections,
        tls_connections,
        quic_connections,
        tcp_idle,
        encrypted_idle,
    } = limits;
    let idle = Duration::from_secs(1)..=Duration::from_secs(5 * 60);
    reader.set(table, "in-flight", in_flight, |r, item| r.integer(item, 64..=65_536));
    let connections = [
        ("tcp-connections", tcp_connections),
        ("tls-connections", tls_connections),
        ("quic-connections", quic_connections),
    ];
    for (key, slot) in connections {
        reader.set(table, key, slot, |r, item| r.integer(item, 1..=65_536));
    }
    for (key, slot) in [("tcp-idle", tcp_idle), ("encrypted-idle", encrypted_idle)] {
        reader.set(table, key, slot, |r, item| r.duration(item, idle.clone()));
    }
}

fn read_log(reader: &mut Reader, table: &Table<'_>, log: &mut Log) {
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    reader.set(table, "level", &mut log.level, |r, item| r.choice(item, &levels));
    reader.set(table, "format", &mut log.format, |r, item| r.choice(item, &formats));
}

fn read_providers(reader: &mut Reader, item: &Item<'_>, recommended: &mut Vec<SocketAddr>) -> Vec<ProviderSpec> {
    if item.is_table() {
        reader.wrong::<()>(item, "there can be several: write [[provider]] and not [provider]");
        return Vec::new();
    }
    let elements = reader.elements(item, "providers", PROVIDERS_MAX).unwrap_or_default();
    let mut providers = Vec::with_capacity(elements.len());
    for element in elements {
        if let Some(table) = reader.table(&element, PROVIDER_KEYS) {
            providers.push(read_provider(reader, &table, recommended));
        }
    }
    providers
}

fn read_provider(reader: &mut Reader, table: &Table<'_>, recommended: &mut Vec<SocketAddr>) -> ProviderSpec {
    let mut spec = ProviderSpec::new(table.place.clone());
    if let Some(item) = reader.item(table, "name") {
        spec.name = reader.name(&item).map_or(Required::Wrong, Required::Present);
    }
    reader.set(table, "operator", &mut spec.operator, |r, item| r.label(item).map(Some));
    // RFC 7607 and RFC 7300: 0 and the last number are nobody's.
    reader.set(table, "asn", &mut spec.asn, |r, item| {
        r.integer(item, 1..=u32::MAX - 1).map(Some)
    });
    reader.set(table, "jurisdiction", &mut spec.jurisdiction, |r, item| {
        r.label(item).map(Some)
    });
    reader.set(table, "filter", &mut spec.filter, Reader::name);
    reader.set(table, "validates", &mut spec.validates, Reader::flag);
    reader.set(table, "tier", &mut spec.tier, |r, item| r.integer(item, 1..=2));
    reader.set(table, "max-share", &mut spec.max_share_permille, |r, item| {
        r.share_permille(item).map(Some)
    });
    reader.set(table, "max-qps", &mut spec.max_qps, |r, item| {
        r.integer(item, 1..=u32::MAX).map(Some)
    });
    reader.set(table, "default", &mut spec.default, |r, item| r.flag(item).map(Some));
    spec.trust = read_trust(reader, table);
    spec.pins = read_pins(reader, table);
    if let Some(item) = reader.item(table, "ddr") {
        spec.ddr = reader.flag(&item).map(|ddr| (item.place, ddr));
    }
    let ddr = spec.ddr.as_ref().is_some_and(|(_, ddr)| *ddr);
    if let Some(item) = reader.item(table, "endpoints") {
        let elements = reader.elements(&item, "endpoints", ENDPOINTS_OF_PROVIDER_MAX);
        spec.endpoints = elements.map_or(Required::Wrong, |elements| {
            let mut endpoints = Vec::with_capacity(elements.len());
            for element in elements {
                let place = element.place.clone();
                let Some((read, stamp)) = read_endpoint(reader, element, ddr) else {
                    continue;
                };
                if let Some(stamp) = stamp {
                    agree(reader, table, &place, stamp.properties);
                    // The list is walked for each name, and nobody needs many.
                    let room = BOOTSTRAP_SERVERS_MAX.saturating_sub(recommended.len());
                    recommended.extend(stamp.bootstrap.iter().take(room));
                }
                endpoints.extend(read);
            }
            Required::Present(endpoints)
        });
    }
    spec
}

/// A stamp says what its resolver does to answers. Where that is not what a provider does that says nothing of it, the
/// file has to say who is right: whoever is mistaken here mixes answers that differ.
fn agree(reader: &mut Reader, table: &Table<'_>, place: &Place, properties: Properties) {
    if !properties.filters_nothing() && reader.item(table, "filter").is_none() {
        reader.problems.add(
            place,
            "the stamp says that answers are filtered: say what with the provider's filter, or filter = \"none\" if nothing is",
        );
    }
    if !properties.validates() && reader.item(table, "validates").is_none() {
        reader.problems.add(
            place,
            "the stamp says that DNSSEC is not validated: say so with the provider's validates = false, or true if it is",
        );
    }
}

/// An endpoint as read: one, or with a host name one for each address family; and what only a stamp says.
type EndpointRead = (Vec<EndpointSpec>, Option<Stamped>);

fn read_endpoint(reader: &mut Reader, item: Item<'_>, ddr_of_provider: bool) -> Option<EndpointRead> {
    let (mut max_qps, mut pins) = (None, Pins::default());
    let mut early_data = None;
    let mut early_place = None;
    let mut ddr = None;
    let mut ddr_place = None;
    let url = if item.is_table() {
        let table = reader.table(&item, ENDPOINT_KEYS)?;
        reader.set(&table, "max-qps", &mut max_qps, |r, item| {
            r.integer(item, 1..=u32::MAX).map(Some)
        });
        pins = read_pins(reader, &table);
        ddr_place = reader.item(&table, "ddr");
        reader.set(&table, "ddr", &mut ddr, |r, item| r.flag(item).map(Some));
        early_place = reader.item(&table, "early-data");
        reader.set(&table, "early-data", &mut early_data, |r, item| r.flag(item).map(Some));
        match reader.item(&table, "url") {
            Some(url) => url,
            None => return reader.wrong(&item, "has no url"),
        }
    } else {
        item
    };
    let parsed = reader.parsed(&url, endpoint::parse)?;
    let is_over_quic = parsed.transport.class() == TransportClass::Quic;
    if let Some(item) = early_place.filter(|_| !is_over_quic) {
        return reader.wrong(
            &item,
            "is for quic and h3 endpoints: over others nothing is sent before a handshake",
        );
    }
    let can_designate = !parsed.transport.is_encrypted() && matches!(parsed.host, Host::Address(_));
    if let Some(item) = ddr_place.filter(|_| !can_designate) {
        return reader.wrong(
            &item,
            "is for udp and tcp endpoints with an IP address: others are encrypted, or have no address to prove",
        );
    }
    let stamp = parsed.stamp.clone();
    let endpoints = to_endpoints(parsed).into_iter().map(|endpoint| EndpointSpec {
        place: url.place.clone(),
        config: EndpointConfig {
            max_qps,
            early_data,
            ddr: can_designate && ddr.unwrap_or(ddr_of_provider),
            ..endpoint
        },
        pins: pins.clone(),
    });
    Some((endpoints.collect(), stamp))
}

/// One endpoint, or with a host name one for each address family: each fails by itself. IPv6 first, as hosts have it that
/// have both (RFC 6724, RFC 8305 section 4).
pub(super) fn to_endpoints(parsed: endpoint::Parsed) -> Vec<EndpointConfig> {
    let endpoint::Parsed {
        label,
        transport,
        host,
        port,
        name,
        path,
        stamp,
    } = parsed;
    let places = match host {
        Host::Address(ip) => vec![(label, Where::Address(SocketAddr::new(ip, port)))],
        Host::Name(host) => [(Family::V6, "ipv6"), (Family::V4, "ipv4")]
            .map(|(family, word)| {
                let host = host.clone();
                (format!("{label}@{word}"), Where::Name(NamedAt { host, port, family }))
            })
            .into(),
    };
    let hashes = stamp.map(|stamp| stamp.hashes).unwrap_or_default();
    let endpoint = |(label, at)| EndpointConfig {
        label,
        transport,
        at,
        name: name.clone(),
        path: path.clone(),
        trust: None,
        max_qps: None,
        early_data: None,
        hashes: hashes.clone(),
        ddr: false,
        proof: None,
    };
    places.into_iter().map(endpoint).collect()
}
