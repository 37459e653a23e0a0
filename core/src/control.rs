//! Puts the endpoints together: who answered while another failed, which paths are this machine's own trouble,
//! which probes are due, and the routes that follow.
//!
//! One owner feeds it the outcomes of attempts and drains its outputs; see the contract in the crate's root.
//! An endpoint is condemned here, because only here it is known that another operator answered meanwhile: three
//! failures while nobody else answers are the uplink's, not the provider's.

pub mod claims;
mod cleartext;
pub mod clock;
mod configuration;
mod learned;
mod network;
mod paths;
mod probes;
pub mod start;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::claims::Peers;
pub use self::cleartext::is_cleartext_forbidden;
use self::clock::ClockWatch;
pub use self::clock::{CertificateTime, ClockError, ClockWitness, ClockWrong};
pub use self::learned::{Memory, Remembered};
use self::paths::{Paths, Way};
use self::probes::Reference;
use self::start::Start;
use self::table::Ingredients;
use crate::dice::Dice;
use crate::health::domains::DomainKey;
use crate::health::state::State;
use crate::health::{Begun, Finish, Health, Purpose};
use crate::outcome::{Cause, Rcode};
use crate::routes::{PlaceWhy, Routes, Settings};
use crate::time::{MS, SEC, Time};
use crate::topology::{EndpointId, GroupId, OperatorId, Path, Topology};
use crate::verdict::Claim;

/// Without a client's question for this long nothing is probed.
pub const CLIENTS_WITHIN_US: u64 = 60 * SEC;
/// A timer this late means that the machine slept.
const RESUME_GAP_US: u64 = 2 * SEC;
/// An avoided domain is published anew once it would be avoided for less than this: a second after the last time.
const AVOID_REFRESH_US: u64 = 59 * SEC;
/// How often mere latencies are published.
const REFRESH_US: u64 = 200 * MS;
/// A timer this late means that this machine, or this process, stood still: what it saw meanwhile may be its own doing.
const STALL_US: u64 = 250 * MS;
/// Probes carry numbers from here, so that they never meet a client attempt's.
const PROBE_IDS: u64 = 1 << 63;

/// Why a probe is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeWhy {
    /// Its own schedule: a doubt, a re-probe, a recovery, loss.
    Schedule,
    /// Another endpoint failed: does this operator answer?
    Reference,
    /// Another transport of the same provider failed: does this one work?
    Standby,
    /// The node starts, or was given this endpoint: who answers?
    Start,
    /// A peer says that it fails: does it?
    Claim,
    /// Connecting to an endpoint of this provider is slow: does the other address family work?
    Family,
}

impl ProbeWhy {
    /// The word for log and metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Reference => "reference",
            Self::Standby => "standby",
            Self::Start => "start",
            Self::Claim => "claim",
            Self::Family => "family",
        }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Probe this endpoint on a fresh socket; report the attempt under this number.
    Probe {
        /// Number of the attempt.
        id: u64,
        /// Whom.
        endpoint: EndpointId,
        /// What for.
        why: ProbeWhy,
    },
    /// [`Control::routes`] changed.
    RoutesChanged,
    /// [`Control::own_report`] changed in a way that peers should hear of at once.
    OwnReport,
    /// Something an operator cares about.
    Event(Event),
}

/// What an operator cares about; the log line, the metric and the test read this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An endpoint's state changed.
    StateChanged {
        /// Which.
        endpoint: EndpointId,
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// An endpoint's place changed.
    PlaceChanged {
        /// Which.
        endpoint: EndpointId,
        /// Why it stood where it stood.
        from: PlaceWhy,
        /// Why it stands where it stands.
        to: PlaceWhy,
    },
    /// A peer says that an endpoint fails: an own probe is sent, and its place may have moved.
    Claimed {
        /// Which.
        endpoint: EndpointId,
        /// What is said, and by whom.
        claim: Claim,
    },
    /// Own evidence has decided on what a peer said: [`crate::verdict::ClaimState`] says how.
    ClaimDecided {
        /// Which.
        endpoint: EndpointId,
        /// What was said, by whom, and what became of it.
        claim: Claim,
    },
    /// Nothing answers on this path: it is this machine's own.
    UplinkSuspect(Path),
    /// Something answered on it again.
    UplinkReturned(Path),
    /// The machine slept, or its clock jumped.
    Resumed {
        /// For how long, microseconds.
        gap_us: u64,
    },
    /// Nothing of this group is usable.
    NothingUp(GroupId),
    /// Something of it is usable again.
    SomethingUp(GroupId),
    /// Nothing encrypted of this group answers: its queries travel in the clear.
    InTheClear(GroupId),
    /// Something encrypted may answer again: they do not any more.
    EncryptedAgain(GroupId),
    /// This machine's clock is wrong: certificates cannot be judged by it.
    ClockWrong(ClockWrong),
    /// It is not any more.
    ClockRight,
}

/// The control plane of one node.
#[derive(Debug)]
pub struct Control {
    /// What there is.
    topology: Arc<Topology>,
    /// What the operator chose.
    settings: Settings,
    /// Randomness.
    dice: Dice,
    /// By [`EndpointId`].
    health: Vec<Health>,
    /// Answers and troubles by path.
    paths: Paths,
    /// By scope: latest answers of operators to the probe question, good and bad.
    references: BTreeMap<(GroupId, OperatorId), Reference>,
    /// Probes under way, and when they are forgotten.
    probes: BTreeMap<u64, Time>,
    /// Number of the next probe.
    next_probe: u64,
    /// When a client last asked.
    clients_asked: Option<Time>,
    /// Outputs not yet taken.
    outputs: VecDeque<Output>,
    /// The current table.
    routes: Arc<Routes>,
    /// Latencies changed since the table was built.
    stale_stats: bool,
    /// When the table was built.
    built: Time,
    /// What was last promised by `poll_timeout`.
    promised: Option<Time>,
    /// Some endpoint is not usable: every answer may settle or condemn it.
    any_trouble: bool,
    /// Nobody asked for a minute: due probes were not sent.
    was_idle: bool,
    /// The last start, resume or change of route.
    settled: Time,
    /// The first look at providers.
    start: Start,
    /// What peers say, and what is said to them.
    peers: Peers,
    /// When a timer was last found to be late by a quarter of a second.
    stalled: Option<Time>,
    /// What certificates say of this machine's clock.
    clock: ClockWatch,
}

impl Control {
    /// A node that knows nothing yet.
    #[must_use]
    pub fn new(topology: Arc<Topology>, settings: Settings, now: Time, seed: u64) -> Self {
        let health: Vec<Health> = topology.endpoints.iter().map(|_| Health::new(now)).collect();
        let dice = Dice::new(seed);
        let (paths, peers) = (Paths::default(), Peers::default());
        let ingredients = Ingredients {
            topology: &topology,
            settings,
            dice,
            health: &health,
            paths: &paths,
            peers: &peers,
            settled: now,
            clock_wrong: None,
        };
        let routes = ingredients.build(0, now);
        Self {
            topology,
            settings,
            dice,
            health,
            paths,
            references: BTreeMap::new(),
            probes: BTreeMap::new(),
            next_probe: PROBE_IDS,
            clients_asked: None,
            outputs: VecDeque::new(),
            routes: Arc::new(routes),
            stale_stats: false,
            built: now,
            promised: None,
            any_trouble: false,
            was_idle: true,
            settled: now,
            start: Start::default(),
            peers,
            stalled: None,
            clock: ClockWatch::default(),
        }
    }

    /// An attempt's query was written to the wire.
    pub fn handle_begun(&mut self, endpoint: EndpointId, begun: Begun, now: Time) {
        self.notice_resume(now);
        if begun.purpose != Purpose::Probe {
            self.note_client(begun.at);
        }
        if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
            health.begin(begun);
        }
        self.settle_if_needed(endpoint, now);
    }

    /// An attempt ended, or one given up was answered after all.
    pub fn handle_finished(&mut self, endpoint: EndpointId, begun: Begun, finish: Finish, now: Time) {
        self.notice_resume(now);
        self.probes.remove(&begun.id);
        let Some((way, operator)) = self.way_and_operator(endpoint) else {
            return;
        };
        let mut good = false;
        let mut bad_rcode = None;
        if let Finish::Answered { reply, .. } = finish {
            self.paths.answered(way, operator, begun.at);
            self.note_encrypted_answer(endpoint, begun.at, now);
            if let Some(back) = self.paths.end_trouble(way, begun.at) {
                self.uplink_returned(way, endpoint, begun.at, back.was_suspect, now);
            }
            (good, bad_rcode) = match begun.purpose {
                Purpose::Client | Purpose::Backup => (reply.is_good(), None),
                Purpose::Probe => self.judge_probe(endpoint, (way.scope, operator), begun, reply, now),
            };
        }
        if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
            health.finish(begun, finish, good, now);
            if let Some(rcode) = bad_rcode {
                health.fail_by_rcode(begun, Cause::of_rcode(rcode), now);
            }
            self.stale_stats = true;
        }
        if begun.purpose == Purpose::Probe {
            self.claim_probe_ended(endpoint, begun, finish, bad_rcode.is_some(), now);
            if let Finish::Answered { reply, .. } = finish
                && reply.is_good()
                && way.scope.is_public()
            {
                self.file_unjudged(operator, now);
            }
        }
        self.settle_if_needed(endpoint, now);
    }

    /// A client's question in `domain` got a bad rcode here and a good answer from another provider.
    pub fn handle_disagreed(&mut self, endpoint: EndpointId, begun: Begun, domain: DomainKey, rcode: Rcode, now: Time) {
        self.notice_resume(now);
        if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
            health.fail_domain(begun, domain, Cause::of_rcode(rcode), now);
        }
        // A domain that fails a hundred times a second need not wake every lookup as often.
        if !self.routes.avoids(domain, endpoint, now.plus(AVOID_REFRESH_US)) {
            self.rebuild(now);
        }
        self.settle(now);
    }

    /// A datagram that is no DNS answer came from this endpoint.
    pub fn handle_garbage(&mut self, endpoint: EndpointId, now: Time) {
        if let Some(health) = self.health.get_mut(usize::from(endpoint.0)) {
            health.note_garbage(now);
        }
    }

    /// A client asked at `at`, whether or not a provider had to be. Changes nothing by itself: what follows from it
    /// comes with the next input.
    pub fn note_client(&mut self, at: Time) {
        self.clients_asked = Some(self.clients_asked.map_or(at, |before| before.max(at)));
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.notice_resume(now);
        self.settle(now);
    }

    /// Whether clients asked lately, or the node looks around at its start, so that probing serves somebody.
    fn has_clients(&self, now: Time) -> bool {
        self.is_looking(now)
            || self
                .clients_asked
                .is_some_and(|asked| now.since(asked) < CLIENTS_WITHIN_US)
    }

    /// Where an endpoint's packets go and who runs it.
    fn way_and_operator(&self, id: EndpointId) -> Option<(Way, OperatorId)> {
        let endpoint = self.topology.endpoint(id)?;
        let way = Way {
            scope: self.topology.scope_of(endpoint.provider),
            path: endpoint.path(),
        };
        Some((way, self.topology.provider(endpoint.provider)?.operator))
    }

    /// The first answer after nobody answered: older failures of the others were the uplink's.
    fn uplink_returned(&mut self, way: Way, by: EndpointId, begun: Time, was_suspect: bool, now: Time) {
        if was_suspect && way.scope.is_public() {
            self.outputs.push_back(Output::Event(Event::UplinkReturned(way.path)));
        }
        for id in self.topology.endpoint_ids() {
            if id != by
                && self.way_and_operator(id).is_some_and(|(own, _)| own == way)
                && let Some(health) = self.health.get_mut(usize::from(id.0))
            {
                health.forgive(begun, now);
                health.probes.hurry(now);
            }
        }
        self.rebuild(now);
    }

    /// Most inputs change nothing but counts: only what can follow from this one endpoint is looked at.
    fn settle_if_needed(&mut self, endpoint: EndpointId, now: Time) {
        let changed = self.health.get(usize::from(endpoint.0)).is_some_and(|health| {
            let route = self.routes.endpoint(endpoint);
            health.has_changes()
                || route.is_some_and(|r| {
                    r.why.has_way() != health.has_way()
                        || r.paused_until != health.paused_until()
                        || (!r.strained && health.is_strained())
                })
        });
        let refresh = self.stale_stats && now.since(self.built) >= REFRESH_US;
        let woken = self.was_idle && self.has_clients(now);
        if changed || refresh || woken || self.any_trouble || self.peers.is_open(endpoint) {
            self.settle(now);
        }
    }

    /// Brings everything up to `now`: timeouts, verdicts on endpoints, uplink, probes, routes.
    fn settle(&mut self, now: Time) {
        for health in &mut self.health {
            health.advance(now);
        }
        let uplink = self.judge_uplink(now);
        self.condemn(now);
        let changed = self.take_changes(now) || uplink;
        self.judge_claims(now);
        let changed = changed || self.has_moved(now);
        self.was_idle = !self.has_clients(now);
        let refresh = self.stale_stats && now.since(self.built) >= REFRESH_US;
        if changed || refresh {
            self.rebuild(now);
        }
        self.send_probes(now);
        self.probe_choices(now);
        self.probes.retain(|_, until| *until > now);
        self.tell_peers();
    }

    /// Whether the table changes though no state did: a route was lost, loss lasted, a sibling answered, a peer said
    /// something, an endpoint is strained. That it no longer is may wait for the next table.
    fn has_moved(&self, now: Time) -> bool {
        let ingredients = self.ingredients();
        let clear = ingredients.clear(now);
        let has_moved = |table: &Routes| {
            let grounds = ingredients.grounds_of(table.group, &clear);
            let mut routes = self.topology.endpoint_ids().zip(&table.endpoints);
            routes.any(|(id, route)| grounds.why(id, self.peers.reported()) != route.why)
        };
        let mut routes = self
            .topology
            .endpoint_ids()
            .zip(&self.routes.endpoints)
            .zip(&self.health);
        routes.any(|((id, route), own)| {
            own.paused_until() != route.paused_until
                || self.peers.is_hinted(id) != route.hinted
                || self.peers.said(id) != self.routes.said(id)
                || (!route.strained && own.is_strained())
        }) || self.routes.all().any(has_moved)
    }

    /// What the table is made of.
    fn ingredients(&self) -> Ingredients<'_> {
        Ingredients {
            topology: &self.topology,
            settings: self.settings,
            dice: self.dice,
            health: &self.health,
            paths: &self.paths,
            peers: &self.peers,
            settled: self.settled,
            clock_wrong: self.clock.told(),
        }
    }

    /// From when on a group's queries may travel in the clear, as things stand.
    fn cleartext_from(&self, group: GroupId) -> Option<Time> {
        let policy = self.settings.encryption;
        cleartext::allowed_from(policy, &self.topology, group, &self.health, self.settled)
    }

    /// Whether they may now.
    fn is_cleartext_allowed(&self, group: GroupId, now: Time) -> bool {
        self.cleartext_from(group).is_some_and(|from| from <= now)
    }

    /// Notes troubles by path, and whether a path is this machine's own.
    fn judge_uplink(&mut self, now: Time) -> bool {
        for id in self.topology.endpoint_ids() {
            let Some(health) = self.health.get(usize::from(id.0)) else {
                continue;
            };
            if health.state() == State::Suspect
                && let Some(doubt) = health.doubt()
                && let Some((way, operator)) = self.way_and_operator(id)
            {
                self.paths.note_doubt(way, operator, doubt);
            }
        }
        let found = self.paths.newly_suspect(now);
        for way in found.iter().filter(|way| way.scope.is_public()) {
            self.outputs.push_back(Output::Event(Event::UplinkSuspect(way.path)));
        }
        !found.is_empty()
    }

    /// Condemns what failed three times while another operator answered.
    fn condemn(&mut self, now: Time) {
        for id in self.topology.endpoint_ids() {
            let since = self.health(id).and_then(Health::condemnable_since);
            if let Some(since) = since
                && let Some((way, operator)) = self.way_and_operator(id)
                && self.paths.other_answered(way, operator, since)
                && let Some(health) = self.health.get_mut(usize::from(id.0))
            {
                health.condemn(now);
            }
        }
    }

    /// Turns state changes into events; new doubts also wake the standbys.
    fn take_changes(&mut self, now: Time) -> bool {
        let mut any = false;
        let mut doubted = Vec::new();
        for (id, health) in self.topology.endpoint_ids().zip(&mut self.health) {
            while let Some(change) = health.poll_change() {
                any = true;
                self.peers.touch(id);
                if change.to == State::Suspect {
                    doubted.push(id);
                }
                self.outputs.push_back(Output::Event(Event::StateChanged {
                    endpoint: id,
                    from: change.from,
                    to: change.to,
                    cause: change.cause,
                }));
            }
        }
        let clients = self.has_clients(now);
        for id in doubted {
            if !clients && !self.peers.is_checking(id, now) {
                continue;
            }
            let siblings = self
                .topology
                .provider_of(id)
                .map(|provider| provider.endpoints.clone())
                .unwrap_or_default();
            for sibling in siblings {
                let usable = self
                    .health
                    .get(usize::from(sibling.0))
                    .is_some_and(|health| health.state().is_usable() && health.has_way());
                if sibling != id && usable {
                    self.probe(sibling, ProbeWhy::Standby, now);
                }
            }
        }
        any
    }

    /// Builds the table anew and says what it changed.
    fn rebuild(&mut self, now: Time) {
        let version = self.routes.version.saturating_add(1);
        let routes = self.ingredients().build(version, now);
        for (id, (old, new)) in self
            .topology
            .endpoint_ids()
            .zip(self.routes.endpoints.iter().zip(&routes.endpoints))
        {
            if old.why.place() != new.why.place() {
                self.outputs.push_back(Output::Event(Event::PlaceChanged {
                    endpoint: id,
                    from: old.why,
                    to: new.why,
                }));
            }
        }
        self.take_table(routes, now);
    }

    /// Makes a table the current one.
    fn take_table(&mut self, routes: Routes, now: Time) {
        self.stale_stats = false;
        self.built = now;
        let is_quiet = |table: &&Routes| {
            let group = routes.topology.routed(table.group);
            group.is_some_and(|group| group.is_quiet)
        };
        for new in routes.all().filter(|table| !is_quiet(table)) {
            let name = routes.topology.group_name(new.group);
            let older = &self.routes.topology;
            let mut before = self.routes.all();
            let before = before.find(|old| older.group_name(old.group) == name);
            let (nothing_up, in_the_clear) = before.map_or((false, false), |old| (old.nothing_up, old.in_the_clear));
            if new.nothing_up != nothing_up {
                self.outputs.push_back(Output::Event(if new.nothing_up {
                    Event::NothingUp(new.group)
                } else {
                    Event::SomethingUp(new.group)
                }));
            }
            if new.in_the_clear != in_the_clear {
                self.outputs.push_back(Output::Event(if new.in_the_clear {
                    Event::InTheClear(new.group)
                } else {
                    Event::EncryptedAgain(new.group)
                }));
            }
        }
        self.any_trouble = routes
            .endpoints
            .iter()
            .any(|e| !matches!(e.why, PlaceWhy::Healthy | PlaceWhy::Cleartext) && e.why.has_way());
        self.routes = Arc::new(routes);
        self.outputs.push_back(Output::RoutesChanged);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called, and why; now if outputs wait.
    pub fn poll_timeout(&mut self, now: Time) -> Option<(Time, &'static str)> {
        if !self.outputs.is_empty() {
            return Some((now, "output"));
        }
        let (clients, routes) = (self.has_clients(now), &self.routes);
        let groups = self.topology.group_ids();
        let cleartext = groups.filter_map(|group| self.cleartext_from(group).filter(|from| *from > now));
        let cleartext = cleartext.min();
        let mut next: Option<(Time, &'static str)> = [self.paths.next_due(), self.peers.next_due()]
            .into_iter()
            .flatten()
            .min();
        if let Some(from) = cleartext {
            next = Some(next.map_or((from, "cleartext"), |n| n.min((from, "cleartext"))));
        }
        for (id, health) in self.topology.endpoint_ids().zip(&mut self.health) {
            let is_sent = clients || self.peers.is_checking(id, now);
            let alone = health.pause().is_some() && routes.is_alone(id);
            let probe = health.probe_due(alone);
            let probe = probe.filter(|_| is_sent).map(|at| (at, "probe"));
            for due in [health.next_due(), probe].into_iter().flatten() {
                next = Some(next.map_or(due, |n| n.min(due)));
            }
        }
        self.promised = next.map(|(at, _)| at.max(now));
        next
    }

    /// The current table.
    #[must_use]
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Health of an endpoint; for status and tests.
    #[must_use]
    pub fn health(&self, endpoint: EndpointId) -> Option<&Health> {
        self.health.get(usize::from(endpoint.0))
    }
}
