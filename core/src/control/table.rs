//! Health, reports and configuration, boiled down to a table: where each endpoint stands and why.

use std::sync::Arc;

use super::claims::Peers;
use super::cleartext;
use super::clock::ClockWrong;
use super::paths::Paths;
use crate::Encryption;
use crate::dice::Dice;
use crate::health::Health;
use crate::health::domains::DomainKey;
use crate::health::state::State;
use crate::routes::{EndpointRoute, PlaceWhy, Routes, Settings};
use crate::time::Time;
use crate::topology::{EndpointId, GroupId, ProviderId, Topology};

/// Everything a table is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ingredients<'a> {
    /// What there is.
    pub(super) topology: &'a Arc<Topology>,
    /// What the operator chose.
    pub(super) settings: Settings,
    /// Randomness.
    pub(super) dice: Dice,
    /// By [`EndpointId`].
    pub(super) health: &'a [Health],
    /// Which paths are suspect.
    pub(super) paths: &'a Paths,
    /// What peers say.
    pub(super) peers: &'a Peers,
    /// The last start, resume or change of route.
    pub(super) settled: Time,
    /// What is wrong with this machine's clock.
    pub(super) clock_wrong: Option<ClockWrong>,
}

impl Ingredients<'_> {
    /// By [`GroupId`]: whether its queries may travel in the clear at `now`.
    pub(super) fn clear(&self, now: Time) -> Vec<bool> {
        let policy = self.settings.encryption;
        let from = |group| cleartext::allowed_from(policy, self.topology, group, self.health, self.settled);
        let groups = self.topology.group_ids();
        groups
            .map(|group| from(group).is_some_and(|from| from <= now))
            .collect()
    }

    /// What decides on places in a group's table, where these groups' queries may travel in the clear.
    pub(super) fn grounds_of<'b>(&'b self, group: GroupId, clear: &'b [bool]) -> Grounds<'b> {
        Grounds {
            topology: self.topology,
            health: self.health,
            group,
            clear,
        }
    }

    /// The tables of all groups at `now`.
    pub(super) fn build(&self, version: u64, now: Time) -> Routes {
        let clear = self.clear(now);
        let mut public = self.build_one(GroupId::PUBLIC, &clear, version, now);
        let routed = self.topology.group_ids().filter(|group| !group.is_public());
        public.routed = routed
            .map(|group| Arc::new(self.build_one(group, &clear, version, now)))
            .collect();
        public.said = self.topology.endpoint_ids().map(|id| self.peers.said(id)).collect();
        public
    }

    /// The table of a group.
    fn build_one(&self, group: GroupId, clear: &[bool], version: u64, now: Time) -> Routes {
        let (topology, settings) = (self.topology, self.settings);
        let grounds = self.grounds_of(group, clear);
        let endpoints: Vec<EndpointRoute> = topology
            .endpoint_ids()
            .zip(self.health)
            .map(|(id, own)| EndpointRoute {
                state: own.state(),
                cause: own.cause(),
                since: own.since(),
                why: grounds.why(id, self.peers.reported()),
                timing: own.latencies().timing(),
                ok_permille: own.ok_permille(),
                strained: own.is_strained(),
                hinted: self.peers.is_hinted(id),
                paused_until: own.paused_until(),
            })
            .collect();
        // What is not asked yet for want of encryption is still a hope, unless it never may be.
        let hope = settings.encryption != Encryption::Require;
        let is_usable = |own: &Health, why: PlaceWhy| {
            let may_be_asked = why.may_be_asked() || (hope && why == PlaceWhy::Cleartext);
            may_be_asked && own.state().is_usable()
        };
        let is_member = |id: EndpointId| {
            let endpoint = topology.endpoint(id);
            endpoint.is_some_and(|endpoint| topology.is_member(group, endpoint.provider))
        };
        let nothing_up = !topology
            .endpoint_ids()
            .zip(self.health.iter().zip(&endpoints))
            .any(|(id, (own, route))| is_member(id) && is_usable(own, route.why));
        let mut avoided: Vec<(DomainKey, EndpointId, Time)> = Vec::new();
        for (id, own) in topology.endpoint_ids().zip(self.health) {
            for (domain, until) in own.domains().avoided(now) {
                avoided.push((domain, id, until));
            }
        }
        avoided.sort_unstable();
        let choices = Routes::choose_of(topology, group, &endpoints);
        Routes {
            version,
            group,
            routed: Vec::new(),
            warm: Routes::choose_warm(topology, &choices),
            choices,
            topology: Arc::clone(topology),
            settings,
            dice: self.dice,
            endpoints,
            said: Vec::new(),
            nothing_up,
            in_the_clear: grounds.may_be_clear(group)
                && cleartext::is_withheld(settings.encryption, topology, group)
                && cleartext::has_clear(topology, group, self.health),
            uplink_suspect: self.paths.suspect(group).collect(),
            clock_wrong: self.clock_wrong,
            avoided,
        }
    }
}

/// What decides where an endpoint stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grounds<'a> {
    /// What there is.
    pub(super) topology: &'a Topology,
    /// By [`EndpointId`].
    health: &'a [Health],
    /// Whose table it is.
    group: GroupId,
    /// By [`GroupId`]: whether its queries may travel in the clear.
    clear: &'a [bool],
}

impl<'a> Grounds<'a> {
    /// Whether a group's queries may travel in the clear.
    fn may_be_clear(&self, group: GroupId) -> bool {
        self.clear.get(usize::from(group.0)).copied().unwrap_or(false)
    }

    /// By which group's rule an endpoint of this provider may be asked in the clear: that of the table, or of the first
    /// one it is of where it is not of that one.
    fn ruled_by(&self, provider: ProviderId) -> GroupId {
        if self.topology.is_member(self.group, provider) {
            self.group
        } else {
            self.topology.scope_of(provider)
        }
    }

    /// Health of an endpoint.
    fn health(&self, id: EndpointId) -> Option<&'a Health> {
        self.health.get(usize::from(id.0))
    }

    /// Where an endpoint stands and why, where reports move these: by [`EndpointId`], when their first failures began.
    pub(super) fn why(&self, id: EndpointId, reported: &[Option<Time>]) -> PlaceWhy {
        let (Some(own), Some(endpoint)) = (self.health(id), self.topology.endpoint(id)) else {
            return PlaceWhy::NoRoute;
        };
        if own.has_no_address() {
            return PlaceWhy::Unresolved;
        }
        if own.has_no_route() {
            return PlaceWhy::NoRoute;
        }
        if !endpoint.transport.is_encrypted() && !self.may_be_clear(self.ruled_by(endpoint.provider)) {
            return PlaceWhy::Cleartext;
        }
        if own.paused_until().is_some() {
            return PlaceWhy::Throttled;
        }
        match own.state() {
            State::Down => return PlaceWhy::Down,
            State::Suspect if own.loss_lasts() => return PlaceWhy::Loss,
            State::Suspect => return PlaceWhy::Suspect,
            State::Unknown | State::Up | State::Probation => {}
        }
        let reported = |id: EndpointId| reported.get(usize::from(id.0)).copied().flatten();
        if reported(id).is_some() {
            return PlaceWhy::Reported;
        }
        // One endpoint in trouble makes its siblings doubtful, until one of them answers a question asked since.
        let (mut trouble, mut hearsay, mut proven): (Option<Time>, Option<Time>, Option<Time>) = (None, None, None);
        let provider = self.topology.provider(endpoint.provider);
        for sibling in provider.into_iter().flat_map(|provider| &provider.endpoints) {
            let Some(health) = self.health(*sibling) else { continue };
            if health.pause().is_some() {
                // Who asks for less is asked after all others, whichever of its doors it said so at.
                return PlaceWhy::Sibling;
            } else if health.state().is_usable() {
                proven = proven.max(health.last_success());
                hearsay = earlier(hearsay, reported(*sibling));
            } else {
                trouble = earlier(trouble, health.doubt().map(|doubt| doubt.since));
            }
        }
        let stands = |since: Time| proven.is_none_or(|success| success <= since);
        if trouble.is_some_and(stands) {
            PlaceWhy::Sibling
        } else if hearsay.is_some_and(stands) {
            PlaceWhy::ReportedSibling
        } else if own.state() == State::Probation {
            PlaceWhy::Ramp
        } else {
            PlaceWhy::Healthy
        }
    }
}

/// The earlier of two times that may not be.
fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
