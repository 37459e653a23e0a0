//! What there is to choose from: providers and their endpoints, as the configuration gave them.
//!
//! Immutable once built. Everything else refers to it by small ids, so that health, routes and plans stay
//! dense tables. Nothing here assumes that an endpoint speaks DNS.

use core::fmt;

/// Index of a provider in [`Topology::providers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u16);

/// Index of an endpoint in [`Topology::endpoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// Who fails together: providers of one operator never back each other up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(pub u16);

/// What a provider does to answers (`filter` label and `validates`); a plan never leaves its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u16);

/// Providers that serve the public pool ([`GroupId::PUBLIC`]), or those of one route: a place in
/// [`Topology::routed`], counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

impl GroupId {
    /// Whoever serves the names that no route speaks of.
    pub const PUBLIC: Self = Self(0);

    /// Whether it is the public group.
    #[must_use]
    pub fn is_public(self) -> bool {
        self == Self::PUBLIC
    }
}

/// The providers of a route. Plans, hedges, retries and confirmations never leave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique; for status and explanations.
    pub name: String,
    /// In the order of the configuration, each once. None: nobody may be asked, and nobody is.
    pub providers: Vec<ProviderId>,
    /// No client's names are asked of it: its trouble is nobody's, and nobody is told.
    pub is_quiet: bool,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// DNS over UDP, with the retry over TCP that a truncated answer asks for.
    Udp,
    /// DNS over TCP (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS, HTTP/2 (RFC 8484).
    Https,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTPS, HTTP/3 (RFC 8484, RFC 9114).
    H3,
}

impl Transport {
    /// The class whose path this transport shares.
    #[must_use]
    pub fn class(self) -> TransportClass {
        match self {
            Self::Udp => TransportClass::Udp,
            Self::Tcp | Self::Tls | Self::Https => TransportClass::Stream,
            Self::Quic | Self::H3 => TransportClass::Quic,
        }
    }

    /// What endpoints of it begin with in a configuration: the word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::H3 => "h3",
        }
    }

    /// Whether nobody on the path can read it.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Udp | Self::Tcp => false,
            Self::Tls | Self::Https | Self::Quic | Self::H3 => true,
        }
    }
}

/// Transports that a network lets through, or blocks, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportClass {
    /// Plain datagrams.
    Udp,
    /// Everything over TCP.
    Stream,
    /// Everything over QUIC: datagrams to ports that networks treat unlike that of plain DNS.
    Quic,
}

impl TransportClass {
    /// Whether an endpoint is spoken to over connections, which take time to open and can be kept.
    #[must_use]
    pub fn has_connections(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Stream | Self::Quic => true,
        }
    }
}

/// Address family of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What one path failure hits: each pair is judged on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Transport class.
    pub class: TransportClass,
    /// Address family.
    pub family: Family,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.class, self.family) {
            (TransportClass::Udp, Family::V4) => "udp/ipv4",
            (TransportClass::Udp, Family::V6) => "udp/ipv6",
            (TransportClass::Stream, Family::V4) => "stream/ipv4",
            (TransportClass::Stream, Family::V6) => "stream/ipv6",
            (TransportClass::Quic, Family::V4) => "quic/ipv4",
            (TransportClass::Quic, Family::V6) => "quic/ipv6",
        })
    }
}

/// One address and transport of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The string of the configuration; the name in every log line, metric and report.
    pub label: String,
    /// Whose it is.
    pub provider: ProviderId,
    /// How it is spoken to.
    pub transport: Transport,
    /// Address family.
    pub family: Family,
    /// Most queries per second sent to it; `None`: no cap.
    pub max_qps: Option<u32>,
}

impl Endpoint {
    /// The path its packets take.
    #[must_use]
    pub fn path(&self) -> Path {
        Path {
            class: self.transport.class(),
            family: self.family,
        }
    }

    /// Whether this is the same place to ask at as `other` of an older configuration. Whose it is and how much it may
    /// be asked can have changed: what is known of it holds all the same.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.label, self.transport, self.family) == (&other.label, other.transport, other.family)
    }
}

/// One failure domain that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Unique name from the configuration.
    pub name: String,
    /// Who fails together with it.
    pub operator: OperatorId,
    /// Autonomous system, where told.
    pub asn: Option<u32>,
    /// Jurisdiction, where told, as an index of equal strings.
    pub jurisdiction: Option<u16>,
    /// Class of its answers.
    pub class: ClassId,
    /// Whether it validates DNSSEC.
    pub validates: bool,
    /// 1 normally; 2 is a cold standby, used when nothing of tier 1 is eligible.
    pub tier: u8,
    /// Largest share of first choices over 60 s, permille.
    pub max_share_permille: Option<u16>,
    /// Most queries per second sent to it; `None`: no cap.
    pub max_qps: Option<u32>,
    /// Whether it is of the public group. What others say of it and what is said of it to others concerns such only.
    pub is_public: bool,
    /// Its endpoints in listed order: the first usable one is used.
    pub endpoints: Vec<EndpointId>,
}

/// Everything there is to choose from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Providers, by [`ProviderId`].
    pub providers: Vec<Provider>,
    /// Endpoints, by [`EndpointId`].
    pub endpoints: Vec<Endpoint>,
    /// The groups of routes, by [`GroupId`] from 1 on. The public one follows from [`Provider::is_public`].
    pub routed: Vec<Group>,
}

impl Topology {
    /// The endpoint of this id, if it is one of ours.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(id.0))
    }

    /// The provider of this id, if it is one of ours.
    #[must_use]
    pub fn provider(&self, id: ProviderId) -> Option<&Provider> {
        self.providers.get(usize::from(id.0))
    }

    /// The provider an endpoint belongs to.
    #[must_use]
    pub fn provider_of(&self, id: EndpointId) -> Option<&Provider> {
        self.endpoint(id).and_then(|e| self.provider(e.provider))
    }

    /// Ids of all endpoints, in order.
    pub fn endpoint_ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..u16::try_from(self.endpoints.len()).unwrap_or(u16::MAX)).map(EndpointId)
    }

    /// Ids of all providers, in order.
    pub fn provider_ids(&self) -> impl Iterator<Item = ProviderId> + use<> {
        (0..u16::try_from(self.providers.len()).unwrap_or(u16::MAX)).map(ProviderId)
    }

    /// Ids of all groups, the public one first.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=u16::try_from(self.routed.len()).unwrap_or(u16::MAX)).map(GroupId)
    }

    /// A route's group; `None` for the public one, and for what is none of ours.
    #[must_use]
    pub fn routed(&self, group: GroupId) -> Option<&Group> {
        self.routed.get(usize::from(group.0).checked_sub(1)?)
    }

    /// What a group is called.
    #[must_use]
    pub fn group_name(&self, group: GroupId) -> &str {
        let routed = self.routed(group);
        routed.map_or("public", |group| group.name.as_str())
    }

    /// Whether all groups that a provider is of are quiet ones.
    #[must_use]
    pub fn is_quiet(&self, provider: ProviderId) -> bool {
        let is_own = |group: &GroupId| self.is_member(*group, provider);
        let is_quiet = |group| self.routed(group).is_some_and(|group| group.is_quiet);
        self.group_ids().filter(is_own).all(is_quiet)
    }

    /// Whether a provider is of a group.
    #[must_use]
    pub fn is_member(&self, group: GroupId, provider: ProviderId) -> bool {
        if group.is_public() {
            return self.provider(provider).is_some_and(|provider| provider.is_public);
        }
        let routed = self.routed(group);
        routed.is_some_and(|group| group.providers.contains(&provider))
    }

    /// The providers of a group, in order.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = (ProviderId, &Provider)> {
        let all = self.provider_ids().zip(&self.providers);
        all.filter(move |(id, _)| self.is_member(group, *id))
    }

    /// Whether no endpoint of a group is in the clear.
    #[must_use]
    pub fn is_encrypted_only(&self, group: GroupId) -> bool {
        let mut endpoints = self.members(group).flat_map(|(_, provider)| &provider.endpoints);
        endpoints.all(|id| self.endpoint(*id).is_some_and(|own| own.transport.is_encrypted()))
    }

    /// The first group a provider is of. Evidence is weighed among providers for whom it is the same: that an office's
    /// resolver answers says nothing of the way to the Internet. Whoever is in no group has none in common with anybody
    /// either.
    #[must_use]
    pub fn scope_of(&self, provider: ProviderId) -> GroupId {
        let mut groups = self.group_ids();
        let found = groups.find(|group| self.is_member(*group, provider));
        found.unwrap_or(GroupId(u16::MAX))
    }

    /// The scope of an endpoint's provider.
    #[must_use]
    pub fn scope_of_endpoint(&self, id: EndpointId) -> GroupId {
        let provider = self.endpoint(id).map(|endpoint| endpoint.provider);
        provider.map_or(GroupId(u16::MAX), |provider| self.scope_of(provider))
    }

    /// By new id: which endpoint of an older topology each one is; `None` for those that are new.
    #[must_use]
    pub fn endpoints_known_from(&self, older: &Self) -> Vec<Option<EndpointId>> {
        let old_id = |endpoint: &Endpoint| {
            let mut old = older.endpoint_ids().zip(&older.endpoints);
            old.find(|(_, old)| endpoint.is_same_place(old)).map(|(id, _)| id)
        };
        self.endpoints.iter().map(old_id).collect()
    }

    /// Whether ids of endpoints mean the same places here and in `other`: outcomes reported by such an id hold in both.
    #[must_use]
    pub fn numbers_endpoints_like(&self, other: &Self) -> bool {
        let pairs = self.endpoints.iter().zip(&other.endpoints);
        self.endpoints.len() == other.endpoints.len() && pairs.into_iter().all(|(own, other)| own.is_same_place(other))
    }
}
