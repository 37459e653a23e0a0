//! The immutable table that plans read: health and configuration, boiled down to where each endpoint stands.
//!
//! Built by [`crate::control`] whenever something changed, handed to the data plane by pointer. A query reads one
//! and the same table from its plan to its answer, unless it looks again.

use std::sync::Arc;

use crate::control::ClockWrong;
use crate::dice::Dice;
use crate::health::domains::DomainKey;
use crate::health::latency::Timing;
use crate::health::state::State;
use crate::outcome::Cause;
use crate::time::Time;
use crate::topology::{Endpoint, EndpointId, GroupId, Path, ProviderId, Topology};
use crate::verdict::Said;
use crate::{Encryption, Strategy};

/// Where plans put an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Like any other.
    Normal,
    /// After all others.
    Last,
    /// Only when nothing else is left.
    Out,
}

impl Place {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Last => "last",
            Self::Out => "out",
        }
    }
}

/// Why an endpoint has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceWhy {
    /// Nothing speaks against it.
    Healthy,
    /// Its share grows after a recovery.
    Ramp,
    /// A peer says that another endpoint of its provider is down.
    ReportedSibling,
    /// Another endpoint of its provider is in trouble.
    Sibling,
    /// A credible peer says that it is down, and the own probe has not decided.
    Reported,
    /// It is suspect itself.
    Suspect,
    /// It loses too much.
    Loss,
    /// It is down.
    Down,
    /// It asked to be left alone for a while.
    Throttled,
    /// Anybody on the path could read it, and encrypted endpoints may still answer.
    Cleartext,
    /// The network here has no route to its address family.
    NoRoute,
    /// It has a host name, and nobody knows its addresses of this family yet, or there are none.
    Unresolved,
}

impl PlaceWhy {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Ramp => "ramp",
            Self::ReportedSibling => "reported-sibling",
            Self::Sibling => "sibling",
            Self::Reported => "reported",
            Self::Suspect => "suspect",
            Self::Loss => "loss",
            Self::Down => "down",
            Self::Throttled => "throttled",
            Self::Cleartext => "cleartext",
            Self::NoRoute => "no-route",
            Self::Unresolved => "unresolved",
        }
    }

    /// For choosing, a growing share is as good as a full one.
    #[must_use]
    pub fn settled(self) -> Self {
        if self == Self::Ramp { Self::Healthy } else { self }
    }

    /// The place it leads to.
    #[must_use]
    pub fn place(self) -> Place {
        match self {
            Self::Healthy | Self::Ramp => Place::Normal,
            Self::ReportedSibling | Self::Sibling | Self::Reported | Self::Suspect => Place::Last,
            Self::Loss | Self::Down | Self::Throttled | Self::Cleartext | Self::NoRoute | Self::Unresolved => {
                Place::Out
            }
        }
    }

    /// Whether only peers say so: what they say opens no budget.
    #[must_use]
    pub fn is_hearsay(self) -> bool {
        matches!(self, Self::ReportedSibling | Self::Reported)
    }

    /// Whether an endpoint that stands like this may be asked at all; the network, the operator or the endpoint itself
    /// says no to others.
    #[must_use]
    pub fn may_be_asked(self) -> bool {
        !matches!(self, Self::Throttled | Self::Cleartext) && self.has_way()
    }

    /// Whether there is somewhere to send to, and a route there.
    #[must_use]
    pub fn has_way(self) -> bool {
        !matches!(self, Self::NoRoute | Self::Unresolved)
    }
}

/// One endpoint in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointRoute {
    /// Own opinion.
    pub state: State,
    /// Why that opinion.
    pub cause: Cause,
    /// Since when.
    pub since: Time,
    /// Why it is placed where it is; [`PlaceWhy::place`] is the place.
    pub why: PlaceWhy,
    /// When its answers are overdue or missing.
    pub timing: Timing,
    /// Good answers among recent attempts, permille.
    pub ok_permille: u32,
    /// So much is unanswered that hedges away from it may use the reserve of the budget.
    pub strained: bool,
    /// What peers say of it is undecided: attempts there are hedged early, paid by the budget.
    pub hinted: bool,
    /// Until when it asked to be left alone.
    pub paused_until: Option<Time>,
}

impl EndpointRoute {
    /// Where plans put it.
    #[must_use]
    pub fn place(&self) -> Place {
        self.why.place()
    }
}

/// One provider in the table: the endpoint it would be asked at, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Which provider.
    pub provider: ProviderId,
    /// The endpoint in use.
    pub endpoint: EndpointId,
    /// How that endpoint stands; the first criterion of every order.
    pub why: PlaceWhy,
    /// Median answer time; `None` before the first answer.
    pub p50_us: Option<u64>,
    /// Start of the ramp after a recovery.
    pub ramp_since: Option<Time>,
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// How the first choice falls.
    pub strategy: Strategy,
    /// When queries may travel in the clear.
    pub encryption: Encryption,
}

/// The table of one group: that of the public one, which carries those of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// Counts up with every change; for logs and tests.
    pub version: u64,
    /// Whose table it is: its choices are of this group, and what it says of all is about this group.
    pub group: GroupId,
    /// In the public group's table those of routes, by [`GroupId`] from 1 on; in these none.
    pub routed: Vec<Arc<Self>>,
    /// What there is.
    pub topology: Arc<Topology>,
    /// What the operator chose.
    pub settings: Settings,
    /// Randomness of plans.
    pub dice: Dice,
    /// By [`EndpointId`].
    pub endpoints: Vec<EndpointRoute>,
    /// What peers say, by [`EndpointId`]; apart, because plans do not read it.
    pub said: Vec<Said>,
    /// One per provider of the group that has an endpoint with a route, in the order of the configuration; all of the
    /// group if none has.
    pub choices: Vec<Choice>,
    /// No endpoint of the group is usable: queries go to two at a time, deadlines are short, stale answers are served at
    /// once.
    pub nothing_up: bool,
    /// Queries travel in the clear, though encryption is preferred and listed: nothing encrypted answers.
    pub in_the_clear: bool,
    /// Streams worth keeping connected while clients ask: of the two best providers, in no order.
    pub warm: [Option<EndpointId>; 2],
    /// Paths whose failures are this machine's own.
    pub uplink_suspect: Vec<Path>,
    /// What is wrong with this machine's clock.
    pub clock_wrong: Option<ClockWrong>,
    /// Domains to avoid at an endpoint, and until when; sorted.
    pub avoided: Vec<(DomainKey, EndpointId, Time)>,
}

impl Routes {
    /// The table by which a group's queries are planned; `None`: there is no such group.
    #[must_use]
    pub fn of(self: &Arc<Self>, group: GroupId) -> Option<&Arc<Self>> {
        match usize::from(group.0).checked_sub(1) {
            None => Some(self),
            Some(index) => self.routed.get(index),
        }
    }

    /// This table and those of routes.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.routed.iter().map(Arc::as_ref))
    }

    /// An endpoint's row.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&EndpointRoute> {
        self.endpoints.get(usize::from(id.0))
    }

    /// Whether nothing of the group that may be asked is usable; what may not be, as things stand, is no hope here.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let is_usable = |route: &EndpointRoute| route.why.may_be_asked() && route.state.is_usable();
        let is_member = |endpoint: &Endpoint| self.topology.is_member(self.group, endpoint.provider);
        let mut endpoints = self.endpoints.iter().zip(&self.topology.endpoints);
        !endpoints.any(|(route, endpoint)| is_usable(route) && is_member(endpoint))
    }

    /// Whether nothing else is left for those who would ask this endpoint.
    #[must_use]
    pub fn is_alone(self: &Arc<Self>, id: EndpointId) -> bool {
        let scope = self.topology.scope_of_endpoint(id);
        self.of(scope).is_none_or(|table| table.is_exhausted())
    }

    /// What peers say of an endpoint.
    #[must_use]
    pub fn said(&self, id: EndpointId) -> Said {
        self.said.get(usize::from(id.0)).copied().unwrap_or_default()
    }

    /// Whether this domain failed lately at this endpoint and was answered well elsewhere.
    #[must_use]
    pub fn avoids(&self, domain: DomainKey, endpoint: EndpointId, now: Time) -> bool {
        let start = self.avoided.partition_point(|(d, e, _)| (*d, *e) < (domain, endpoint));
        self.avoided
            .get(start)
            .is_some_and(|(d, e, until)| *d == domain && *e == endpoint && *until > now)
    }

    /// The endpoint each provider of the public group would be asked at: the first in listed order with the best place.
    #[must_use]
    pub fn choose(topology: &Topology, endpoints: &[EndpointRoute]) -> Vec<Choice> {
        Self::choose_of(topology, GroupId::PUBLIC, endpoints)
    }

    /// The same of any group.
    #[must_use]
    pub fn choose_of(topology: &Topology, group: GroupId, endpoints: &[EndpointRoute]) -> Vec<Choice> {
        let mut choices = Vec::with_capacity(topology.providers.len());
        for (id, provider) in topology.members(group) {
            let best = provider
                .endpoints
                .iter()
                .filter_map(|e| Some((*e, endpoints.get(usize::from(e.0))?)))
                .min_by_key(|(_, route)| route.why.settled());
            if let Some((endpoint, route)) = best {
                choices.push(Choice {
                    provider: id,
                    endpoint,
                    why: route.why,
                    p50_us: route.timing.p50_us,
                    ramp_since: (route.why == PlaceWhy::Ramp).then_some(route.since),
                });
            }
        }
        // Without a route anywhere they are tried all the same: it costs no packet, and the first one that connects
        // shows that the network is back.
        choices.retain(|choice| !matches!(choice.why, PlaceWhy::Cleartext | PlaceWhy::Throttled));
        if choices.iter().any(|choice| choice.why.has_way()) {
            choices.retain(|choice| choice.why.has_way());
        }
        choices
    }

    /// The connections worth keeping: those of the two best providers.
    #[must_use]
    pub fn choose_warm(topology: &Topology, choices: &[Choice]) -> [Option<EndpointId>; 2] {
        let tier = |choice: &Choice| topology.provider(choice.provider).map_or(u8::MAX, |p| p.tier);
        let mut best: Vec<&Choice> = choices.iter().collect();
        best.sort_by_key(|choice| (choice.why.settled(), tier(choice), choice.p50_us.unwrap_or(u64::MAX)));
        let mut connected = best.into_iter().take(2).map(|choice| {
            let endpoint = topology.endpoint(choice.endpoint)?;
            endpoint.transport.class().has_connections().then_some(choice.endpoint)
        });
        [connected.next().flatten(), connected.next().flatten()]
    }
}
