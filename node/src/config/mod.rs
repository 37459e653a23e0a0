//! The configuration: a TOML file turned into a [`Config`] that is valid by construction.
//!
//! Reading goes in two steps. `spec` reads the file into typed values with their lines and reports unknown keys,
//! wrong types and wrong values; `check` judges the whole and builds the [`Config`]. Neither stops at the first
//! mistake: a [`LoadError`] lists all of them, one line each, with key path and line number.
//!
//! Rules: an unknown key is an error at every level, and a key that is not built yet is an unknown key; nothing is
//! clamped; durations and sizes are strings with units; a default lives in one place, the `Default` implementations
//! of this file (for a provider: `spec::ProviderSpec`). `configs/reference.toml` shows them all and a test holds the
//! two together. docs/CONFIG.md explains each key.

mod bootstrap;
mod change;
mod check;
mod copy;
mod designated;
mod encrypted;
mod endpoint;
#[cfg(any(test, fuzzing))]
pub(crate) mod exercise;
mod file;
mod listen;
mod local_zones;
mod mesh;
mod multiaddr;
mod network;
mod own;
mod problem;
mod reader;
mod route;
mod spec;
mod state_dir;
mod topology;
mod units;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use detour_core::control::claims::Influence;
use detour_core::ddr::Proof;
use detour_core::dns64::{Prefix, PrefixError};
use detour_core::report::NodeId;
use detour_core::{Encryption, Family, Strategy, Transport};
use detour_resolver::acl::Cidr;
use detour_resolver::exchange::NamedAt;
use detour_resolver::exchange::tls::{CertificateHash, Group, Trust};
use toml::de::DeTable;

pub(crate) use change::{RESTART_KEYS, keep_running};
pub(crate) use copy::{push_string, with_absolute_paths};
pub(crate) use designated::{
    Designating, Designations, designating, is_designated, is_enough, label_of, remote_of, with_designations,
};
pub(crate) use encrypted::Encrypted;
pub(crate) use file::{Loaded, Look, read_bytes};
pub(crate) use listen::{Admin, parse_listen_address};
pub(crate) use multiaddr::{peer_mistake, text as multiaddr_text};
pub(crate) use network::Network;
pub(crate) use own::answers_to_itself;
pub(crate) use problem::LoadError;
pub(crate) use state_dir::{StateDirSources, admin_line, state_dir_line};
pub(crate) use topology::{Assembly, assemble, bootstrap_servers, class_text, has_resolver_of_network};
#[cfg(test)]
pub(crate) use topology::{remotes, to_topology};
pub(crate) use units::parse_duration;

/// The version of this program, as messages name it.
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The port for DNS unless told otherwise: 53 needs a privilege and 5353 is multicast DNS.
const DEFAULT_DNS_PORT: u16 = 5300;

/// Where a node listens for DNS unless told otherwise.
pub(crate) const DEFAULT_DNS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_DNS_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), DEFAULT_DNS_PORT),
];

/// Where the admin interface listens unless told otherwise.
pub(crate) const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9353);

/// The port for peers unless told otherwise.
const DEFAULT_MESH_PORT: u16 = 4853;

/// Where a node listens for its peers unless told otherwise: everywhere, because they are on other machines and nobody
/// who is not listed gets beyond a greeting.
pub(crate) const DEFAULT_MESH_LISTEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_MESH_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_MESH_PORT),
];

/// What is compiled in for a start without a file.
const EMBEDDED: &str = include_str!("../../../configs/default-providers.toml");

/// What stands before the date of the data in it.
const EMBEDDED_DATE: &str = "Data of ";

/// When the data of this version were written, such as `2026-11-22`: it was made no earlier.
pub(crate) fn data_date() -> Option<&'static str> {
    let (_, rest) = EMBEDDED.split_once(EMBEDDED_DATE)?;
    rest.split_once('.').map(|(date, _)| date)
}

/// How the embedded configuration is named in messages.
const EMBEDDED_NAME: &str = "(embedded default)";

/// Everything a node is told. Valid: whoever holds one need not check it again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Where it came from.
    pub(crate) source: Source,
    /// `state-dir`, absolute or as the file's directory makes it; [`StateDirSources`] says what goes before it.
    pub(crate) state_dir: Option<PathBuf>,
    /// When the file is read again.
    pub(crate) reload: Reload,
    /// How keys of TLS sessions with providers are agreed, best first; at least one, none twice.
    pub(crate) tls_groups: Vec<Group>,
    /// Sockets and who may use them.
    pub(crate) listen: Listen,
    /// At least one for all names, in the order of the file.
    pub(crate) providers: Vec<ProviderConfig>,
    /// Who is asked for the host names of endpoints, best first; at least one if there is such a name.
    pub(crate) bootstrap: Vec<BootstrapConfig>,
    /// Names that have providers of their own.
    pub(crate) routes: Vec<RouteConfig>,
    /// The resolvers this machine was given.
    pub(crate) network: Network,
    /// Whether IPv4 addresses are translated for a network without IPv4.
    pub(crate) dns64: Dns64,
    /// How providers are chosen.
    pub(crate) select: Select,
    /// What is answered here.
    pub(crate) local_zones: LocalZones,
    /// The cluster, if this node is of one.
    pub(crate) mesh: Option<MeshConfig>,
    /// The answer cache.
    pub(crate) cache: CacheConfig,
    /// Bounds on what clients can take.
    pub(crate) limits: Limits,
    /// What is logged, and how.
    pub(crate) log: Log,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Compiled in: no file was named.
    Embedded,
    /// This file, as an absolute path where the working directory could be told.
    File(PathBuf),
}

/// `reload`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reload {
    /// On SIGHUP.
    #[default]
    Signal,
    /// When it has changed, too.
    Watch,
}

/// `[listen]`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listen {
    /// UDP and TCP, at least one; port 0 lets the kernel choose.
    pub(crate) dns: Vec<SocketAddr>,
    /// The admin interface.
    pub(crate) admin: Admin,
    /// Whether the operator named `admin`: a port that is taken is fatal then, else the node runs without it.
    pub(crate) admin_is_named: bool,
    /// Who may ask; everybody else gets REFUSED.
    pub(crate) allow: Vec<Cidr>,
    /// Over TLS, HTTPS and QUIC.
    pub(crate) encrypted: Encrypted,
}

/// One `[[provider]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProviderConfig {
    /// Unique.
    pub(crate) name: String,
    /// Who fails together; compared without regard to case.
    pub(crate) operator: String,
    /// Autonomous system.
    pub(crate) asn: Option<u32>,
    /// Jurisdiction; compared without regard to case.
    pub(crate) jurisdiction: Option<String>,
    /// What is filtered from its answers, as a label; with `validates` its class.
    pub(crate) filter: String,
    /// Whether it validates DNSSEC.
    pub(crate) validates: bool,
    /// 1, or 2 for a cold standby.
    pub(crate) tier: u8,
    /// Largest share of first choices, permille, 1 to 1000.
    pub(crate) max_share_permille: Option<u16>,
    /// Most queries per second, at least 1.
    pub(crate) max_qps: Option<u32>,
    /// Whether it serves the names that no route speaks of.
    pub(crate) is_public: bool,
    /// Whose certificates are believed, and which keys.
    pub(crate) trust: Trust,
    /// At least one; the first usable one is used.
    pub(crate) endpoints: Vec<EndpointConfig>,
}

/// One resolver for the host names of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootstrapConfig {
    /// How it is spoken to; it has an address.
    pub(crate) endpoint: EndpointConfig,
    /// Whose certificates are believed.
    pub(crate) trust: Trust,
}

/// One address of a provider and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointConfig {
    /// Exactly the string of the file, with the family behind it where that has a host name; of a stamp the URL it
    /// stands for.
    pub(crate) label: String,
    /// How it is spoken to.
    pub(crate) transport: Transport,
    /// Where it is.
    pub(crate) at: Where,
    /// SNI, name in the certificate and HTTP authority of encrypted endpoints; without it the address must be in the
    /// certificate.
    pub(crate) name: Option<Box<str>>,
    /// Of `https` and `h3`.
    pub(crate) path: Option<Box<str>>,
    /// Whom to believe here, where it has pins of its own; else as its provider.
    pub(crate) trust: Option<Trust>,
    /// Most queries per second, at least 1.
    pub(crate) max_qps: Option<u32>,
    /// Of `quic` and `h3`: whether queries leave with the first packet of a resumed session, if this endpoint is not as
    /// `[select]` has it.
    pub(crate) early_data: Option<bool>,
    /// One of these certificates is in the chain of an encrypted endpoint, if there are any.
    pub(crate) hashes: Vec<CertificateHash>,
    /// Of `udp` and `tcp` with an address: whether it is asked for encrypted resolvers it designates (RFC 9462).
    pub(crate) ddr: bool,
    /// Of a designated one: what it must show. No file has such an endpoint.
    pub(crate) proof: Option<Proof>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Where {
    /// A unicast address and a port other than 0.
    Address(SocketAddr),
    /// At those addresses of a host that are of one family; the file's one endpoint is two here.
    Name(NamedAt),
}

impl Where {
    /// Its address, if it has one by itself.
    #[must_use]
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name(_) => None,
        }
    }

    /// Its port.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(at) => at.port,
        }
    }

    /// Its address family.
    #[must_use]
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::Address(address) if address.is_ipv4() => Family::V4,
            Self::Address(_) => Family::V6,
            Self::Name(at) => at.family,
        }
    }
}

/// `dns64`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dns64 {
    /// If the network tells a prefix.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Behind this prefix.
    Behind(Prefix),
}

impl FromStr for Dns64 {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            prefix => prefix.parse().map(Self::Behind),
        }
    }
}

/// One `[[route]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteConfig {
    /// At least one, in wire form, lower case.
    pub(crate) zones: Vec<Box<[u8]>>,
    /// Names in these zones that are not meant.
    pub(crate) except: Vec<Box<[u8]>>,
    /// Who is asked.
    pub(crate) to: RouteTo,
}

/// Who is asked by a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteTo {
    /// Those who serve all names.
    Public,
    /// The resolvers this machine was given.
    Network,
    /// Providers of these names, at least one, each once.
    Providers(Vec<String>),
}

/// `[select]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Select {
    /// How the first choice falls.
    pub(crate) strategy: Strategy,
    /// When queries may travel in the clear.
    pub(crate) encryption: Encryption,
    /// Whether providers of different classes may stand side by side.
    pub(crate) mix_policies: bool,
    /// Where queries over UDP leave from.
    pub(crate) source_ports: SourcePorts,
    /// Whether queries over QUIC leave with the first packet of a resumed session.
    pub(crate) early_data: bool,
}

/// Where queries over UDP leave from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SourcePorts {
    /// One of many sockets on ports the kernel chose, at random, each retired after a while.
    #[default]
    Pool,
    /// A new socket for each query.
    PerQuery,
}

/// `[local-zones]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalZones {
    /// Zones that are forwarded like all others, each one of `detour_resolver::local::zone_names`.
    pub(crate) off: Vec<&'static str>,
    /// The hosts file, if one is used.
    pub(crate) hosts: Option<PathBuf>,
}

/// `[mesh]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshConfig {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// Whose node this is, and its peers.
    pub(crate) operator: String,
    /// Where it stands: nodes behind one uplink.
    pub(crate) site: String,
    /// QUIC, at least one; port 0 lets the kernel choose.
    pub(crate) listen: Vec<SocketAddr>,
    /// Who is admitted, each node once; this one may be among them.
    pub(crate) peers: Vec<PeerConfig>,
    /// What their reports may do here.
    pub(crate) influence: Influence,
}

/// One node of `mesh.peers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerConfig {
    /// Its key.
    pub(crate) node: NodeId,
    /// Where it can be dialled, in the order of the file; none: it dials us.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// `[cache]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheConfig {
    /// Most memory, bytes.
    pub(crate) size_bytes: u64,
    /// Answers are kept at least so long, whole seconds; denials are not meant.
    pub(crate) min_ttl: Duration,
    /// Answers are kept at most so long, whole seconds.
    pub(crate) max_ttl: Duration,
    /// How long after its expiry an answer may still be served when no provider gives a fresh one.
    pub(crate) max_stale: Duration,
    /// Whether and where answers survive a restart.
    pub(crate) persist: Persist,
}

/// Where answers survive a restart; the only file that may hold names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Persist {
    /// In a directory that does not survive a reboot, if there is one.
    #[default]
    Runtime,
    /// In the state directory.
    Disk,
    /// Nowhere.
    Off,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Misses being resolved at once.
    pub(crate) in_flight: usize,
    /// Client connections over TCP at once.
    pub(crate) tcp_connections: usize,
    /// The same over TLS and HTTPS.
    pub(crate) tls_connections: usize,
    /// The same over QUIC and HTTP/3.
    pub(crate) quic_connections: usize,
    /// How long a client connection over TCP may be silent.
    pub(crate) tcp_idle: Duration,
    /// The same of an encrypted one.
    pub(crate) encrypted_idle: Duration,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Log {
    /// Least severe level that is written.
    pub(crate) level: tracing::Level,
    /// Shape of a line.
    pub(crate) format: LogFormat,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Listen {
    fn default() -> Self {
        /// Loopback, private (RFC 1918), link-local and unique local addresses: an open resolver is a weapon, so
        /// the rest of the world has to be let in by name.
        const ALLOW: [&str; 8] = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        Self {
            dns: DEFAULT_DNS.to_vec(),
            admin: Admin::At(DEFAULT_ADMIN),
            admin_is_named: false,
            // A test counts what is left of these.
            allow: ALLOW.iter().filter_map(|prefix| prefix.parse().ok()).collect(),
            encrypted: Encrypted::default(),
        }
    }
}

impl Default for LocalZones {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            // hosts(5)
            hosts: Some("/etc/hosts".into()),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            // About 100,000 answers: more names than an office asks for in a day.
            size_bytes: 32 * 1024 * 1024,
            // Whoever publishes a short time to live means it.
            min_ttl: Duration::ZERO,
            // RFC 8767 section 4.
            max_ttl: Duration::from_secs(7 * 24 * 60 * 60),
            // RFC 8767 section 5 suggests one to three days.
            max_stale: Duration::from_secs(3 * 24 * 60 * 60),
            persist: Persist::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At the 4 s deadline 1,000 lost queries a second; each takes a few kilobytes.
            in_flight: 4096,
            // The usual limit on open files, with room for sockets to providers after it was raised.
            tcp_connections: 1024,
            tls_connections: 1024,
            quic_connections: 1024,
            // RFC 7766 section 6.2.3: "of the order of a few seconds".
            tcp_idle: Duration::from_secs(10),
            // A handshake costs more than a connection that waits.
            encrypted_idle: Duration::from_secs(30),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            format: LogFormat::Text,
        }
    }
}

impl Config {
    /// The configuration of a start without a file: public providers from `configs/default-providers.toml`.
    ///
    /// # Errors
    /// None in a build whose tests pass; it is a `Result` so that it reads like [`Config::load`] and cannot panic.
    pub(crate) fn embedded() -> Result<Self, LoadError> {
        let config = Self::parse(EMBEDDED, Path::new(EMBEDDED_NAME))?;
        Ok(Self {
            source: Source::Embedded,
            ..config
        })
    }

    /// Judges the text of a file that is, or would be, at `path`.
    ///
    /// # Errors
    /// With every mistake in it.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_unknown_cwd| path.to_owned());
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        let mut reader = reader::Reader::new(text);
        let root = document.get_ref();
        let spec = if spec::is_of_this_version(&mut reader, root) {
            let broken_from_line = reader.report_syntax(text, &syntax_errors);
            let spec = spec::read(&mut reader, root);
            // Behind a syntax error keys may be missing or stand in the wrong table: what is before it counts.
            reader.problems.keep_before(broken_from_line);
            Some(spec).filter(|_| broken_from_line.is_none())
        } else {
            None
        };
        let config = spec.and_then(|spec| check::config(&mut reader.problems, spec, &absolute));
        match (config, reader.problems.into_sorted()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(LoadError::Invalid {
                path: path.to_owned(),
                problems,
            }),
        }
    }
}
