//! A node as its shell sees it: the real control plane, real lookups, and what its clients get.

mod attempts;
mod lookups;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use detour_core::control::{Control, Event as ControlEvent, Output as ControlOutput, ProbeWhy};
use detour_core::health::{Begun, Purpose};
use detour_core::lookup::{Heard, Lookup, Slot, Via, Why};
use detour_core::plan::Question;
use detour_core::routes::{Place, Routes, Settings};
use detour_core::time::{MS, SEC, Time};
use detour_core::topology::{
    ClassId, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Topology, Transport,
};
use detour_core::usage::Usage;

use self::attempts::Wanted;
use crate::env::{Env, Event, Who};
use crate::provider::{Fault, Law, Packet, Random, mix};

/// A lookup over this is no lookup.
const DEADLINE_US: u64 = 4 * SEC;
/// The shells forget a query after this long.
const FORGET_US: u64 = 5 * SEC;

/// What a node is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) providers: u16,
    pub(crate) transports: &'static [Transport],
    pub(crate) law: Law,
    /// Microseconds between clients' questions; 0: none ask.
    pub(crate) interval_us: u64,
}

pub(crate) const UDP: &[Transport] = &[Transport::Udp];
pub(crate) const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];
/// What a node lists by itself, in short.
pub(crate) const SECURE: &[Transport] = &[Transport::Tls, Transport::Udp];

/// An attempt on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    endpoint: EndpointId,
    over_tcp: bool,
    without_edns: bool,
    begun: Begun,
    written: bool,
    latency_us: u64,
    waits: Option<(u64, Slot)>,
    honest: bool,
}

/// A lookup in flight.
#[derive(Debug)]
struct Running {
    lookup: Lookup,
    question: Question,
    started: Time,
    latency_us: u64,
    attempts: Vec<(EndpointId, u64, Option<Begun>)>,
    providers: Vec<ProviderId>,
    right: Vec<Slot>,
    stamp: u64,
    slept: bool,
}

#[derive(Debug)]
struct HeardTable(Vec<Time>);

impl Heard for HeardTable {
    fn last_heard(&self, endpoint: EndpointId) -> Time {
        self.0[usize::from(endpoint.0)]
    }

    fn connect_us(&self, _endpoint: EndpointId) -> u64 {
        0
    }
}

/// Counts since the last [`Node::reset_counts`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) hurt: u64,
    /// Of them, asked before the last change of a fault.
    pub(crate) hurt_in_flight: u64,
    pub(crate) lost: u64,
    pub(crate) first: Vec<u64>,
    pub(crate) why: BTreeMap<Why, u64>,
    pub(crate) probes: BTreeMap<ProbeWhy, u64>,
}

impl Counts {
    /// Queries beyond the first choices, retries after a definite failure left out.
    pub(crate) fn extra(&self) -> u64 {
        let of = |why| self.why.get(&why).copied().unwrap_or(0);
        of(Why::Hedge) + of(Why::HedgeSuspect) + of(Why::Pair) + self.all_probes()
    }

    pub(crate) fn all_probes(&self) -> u64 {
        self.probes.values().sum()
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) who: Who,
    config: Config,
    topology: Arc<Topology>,
    pub(crate) control: Control,
    usage: Usage,
    heard: HeardTable,
    packets: BTreeMap<u64, Packet>,
    attempts: BTreeMap<u64, Sent>,
    next_attempt: u64,
    next_socket: u64,
    lookups: BTreeMap<u64, Running>,
    next_question: u64,
    pub(crate) uplink_dead: bool,
    pub(crate) udp_blocked: bool,
    connections: BTreeMap<u16, u64>,
    control_stamp: u64,
    random: Random,
    pub(crate) interval_us: u64,
    client_scheduled: bool,
    forgot: Time,
    /// When the first attempt since a fault was set began and was not answered, by provider.
    pub(crate) first_lost: BTreeMap<u16, Time>,
    pub(crate) counts: Counts,
    pub(crate) events: Vec<(Time, ControlEvent)>,
    /// Attempts that anybody on the path could read.
    pub(crate) in_the_clear: u64,
    /// When a client's query last went to a provider.
    pub(crate) last_query: BTreeMap<u16, Time>,
    /// Whose black hole is measured, and since when.
    watch: Option<(u16, Time)>,
    /// Peers should hear of something at once.
    pub(crate) has_news: bool,
}

/// Providers of different operators with these transports.
fn topology_of(config: Config) -> Topology {
    let mut topology = Topology::default();
    for id in 0..config.providers {
        let mut endpoints = Vec::new();
        for transport in config.transports {
            endpoints.push(EndpointId(u16::try_from(topology.endpoints.len()).unwrap()));
            topology.endpoints.push(Endpoint {
                label: format!("{transport:?}://p{id}").to_lowercase(),
                provider: ProviderId(id),
                transport: *transport,
                family: Family::V4,
                max_qps: None,
            });
        }
        topology.providers.push(Provider {
            name: format!("p{id}"),
            operator: OperatorId(id),
            asn: Some(64_500 + u32::from(id)),
            jurisdiction: None,
            class: ClassId(0),
            validates: true,
            tier: 1,
            max_share_permille: None,
            max_qps: None,
            is_public: true,
            endpoints,
        });
    }
    topology
}

impl Node {
    /// A process begins.
    pub(crate) fn new(who: Who, config: Config, env: &mut Env) -> Self {
        let topology = Arc::new(topology_of(config));
        let now = env.now;
        let mut node = Self {
            who,
            config,
            control: Control::new(Arc::clone(&topology), Settings::default(), now, config.seed),
            usage: Usage::new(&topology, now),
            heard: HeardTable(vec![Time::ZERO; topology.endpoints.len()]),
            packets: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_attempt: 1,
            next_socket: 1,
            lookups: BTreeMap::new(),
            next_question: config.seed << 20,
            uplink_dead: false,
            udp_blocked: false,
            connections: BTreeMap::new(),
            control_stamp: 0,
            random: Random(mix(config.seed)),
            interval_us: config.interval_us,
            client_scheduled: false,
            forgot: now,
            first_lost: BTreeMap::new(),
            counts: Counts::default(),
            events: Vec::new(),
            in_the_clear: 0,
            last_query: BTreeMap::new(),
            watch: None,
            has_news: false,
            topology,
        };
        node.reset_counts();
        node.schedule_client(env);
        node
    }

    /// Starts counting anew.
    pub(crate) fn reset_counts(&mut self) {
        self.counts = Counts {
            first: vec![0; usize::from(self.config.providers)],
            ..Counts::default()
        };
    }

    /// A fault of a provider was set.
    pub(crate) fn note_fault(&mut self, provider: u16, fault: Fault, now: Time) {
        self.watch = (fault == Fault::Blackhole).then_some((provider, now));
        self.first_lost.remove(&provider);
        if fault == Fault::Blackhole {
            // Answers on their way are lost too. Those of attempts begun before one that was answered prove nothing.
            let in_flight = self
                .attempts
                .values()
                .filter(|sent| sent.written && self.provider_of(sent.endpoint) == provider)
                .filter(|sent| Some(sent.begun.at) > self.control.health(sent.endpoint).unwrap().last_success())
                .map(|sent| sent.begun.at)
                .min();
            if let Some(begun) = in_flight {
                self.first_lost.insert(provider, begun);
            }
        }
    }

    /// Clients ask at this interval from here on.
    pub(crate) fn set_interval(&mut self, interval_us: u64, env: &mut Env) {
        self.interval_us = interval_us;
        self.schedule_client(env);
    }

    /// The machine slept.
    pub(crate) fn slept(&mut self) {
        for running in self.lookups.values_mut() {
            running.slept = true;
        }
    }

    fn schedule_client(&mut self, env: &mut Env) {
        if self.interval_us > 0 && !self.client_scheduled {
            self.client_scheduled = true;
            let wait = self.interval_us / 2 + self.random.below(self.interval_us);
            env.push(env.now.plus(wait), self.who, Event::Client);
        }
    }

    /// Something happens to this process.
    pub(crate) fn handle(&mut self, event: Event, env: &mut Env) {
        match event {
            Event::Client => self.client(env),
            Event::Connected(id) => self.connected(id, env),
            Event::Arrive(id, packet) => self.arrive(id, packet, env),
            Event::LookupTimer(id, stamp) => {
                if self.lookups.get(&id).is_some_and(|running| running.stamp == stamp) {
                    self.feed(id, env, |lookup, now, view| lookup.handle_timeout(now, view));
                }
            }
            Event::ControlTimer(stamp) => {
                if self.control_stamp == stamp {
                    self.control.handle_timeout(env.now);
                    self.drain_control(env);
                }
            }
            Event::Routes => {
                let ids: Vec<u64> = self.lookups.keys().copied().collect();
                for id in ids {
                    self.feed(id, env, |lookup, now, view| lookup.handle_routes(now, view));
                }
            }
            Event::Mesh(_) | Event::MeshTimer(_) | Event::MeshReport => self.fail("no event of a node", env),
        }
        self.check(env);
    }

    /// Does what the control plane wants, and says when it wants to be woken.
    pub(crate) fn drain_control(&mut self, env: &mut Env) {
        let mut drained = 0;
        loop {
            let now = env.now;
            let wakeup = self.control.poll_timeout(now);
            let Some(output) = self.control.poll_output() else {
                self.control_stamp += 1;
                if let Some((at, _)) = wakeup {
                    env.push(at.max(now), self.who, Event::ControlTimer(self.control_stamp));
                }
                return;
            };
            drained += 1;
            if drained > 1_000 {
                self.fail("one input makes a thousand outputs", env);
            }
            if wakeup.is_none_or(|(at, _)| at > now) {
                self.fail("the control plane has outputs and does not say now", env);
            }
            match output {
                ControlOutput::Probe { id, endpoint, why } => {
                    *self.counts.probes.entry(why).or_default() += 1;
                    env.log("probe", id & 0xffff, u64::from(endpoint.0));
                    let wanted = Wanted {
                        id,
                        endpoint,
                        via: Via::Own,
                        purpose: Purpose::Probe,
                        latency_us: 10 * MS,
                        waits: None,
                    };
                    self.begin(wanted, env);
                }
                ControlOutput::OwnReport => self.has_news = true,
                ControlOutput::RoutesChanged => env.push(now, self.who, Event::Routes),
                ControlOutput::Event(event) => {
                    self.events.push((now, event));
                    if self.events.len() > 10_000 {
                        self.fail("ten thousand events", env);
                    }
                    if let ControlEvent::StateChanged { endpoint, to, .. } = event {
                        env.log(to.word(), u64::from(endpoint.0), 0);
                    } else {
                        env.log("event", 0, 0);
                    }
                }
            }
        }
    }

    fn check(&mut self, env: &mut Env) {
        let now = env.now;
        if let Some((id, oldest)) = self.lookups.first_key_value()
            && now.since(oldest.started) > DEADLINE_US
            && !oldest.slept
        {
            env.log("overdue", *id, 0);
            self.fail("a lookup outlives its deadline", env);
        }
        if now.since(self.forgot) >= SEC {
            self.forgot = now;
            self.attempts.retain(|_, sent| now.since(sent.begun.at) < FORGET_US);
            for endpoint in self.topology.endpoint_ids() {
                let health = self.control.health(endpoint).unwrap();
                if health.open_count() > 4_096 || health.domains().avoided(now).count() > 64 {
                    self.fail("a collection is over its cap", env);
                }
            }
        }
    }

    fn provider_of(&self, endpoint: EndpointId) -> u16 {
        self.topology.endpoint(endpoint).unwrap().provider.0
    }

    fn fault(&self, endpoint: EndpointId, over_tcp: bool, env: &Env) -> Fault {
        if self.uplink_dead || (self.udp_blocked && !over_tcp) {
            return Fault::Blackhole;
        }
        env.providers.fault(self.provider_of(endpoint), over_tcp, env.now)
    }

    /// The current table.
    pub(crate) fn routes(&self) -> &Arc<Routes> {
        self.control.routes()
    }

    /// Whether plans use every endpoint like any other.
    pub(crate) fn all_normal(&self) -> bool {
        self.routes()
            .endpoints
            .iter()
            .all(|route| route.place() == Place::Normal)
    }
}
