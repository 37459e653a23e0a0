//! The event queue, the shell's part of a node, and the invariants.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use detour_core::control::{Control, Event as ControlEvent, Output as ControlOutput, ProbeWhy};
use detour_core::health::{Begun, Finish, Purpose};
use detour_core::lookup::{Done, Heard, Lookup, Output, Slot, Via, View, Why};
use detour_core::outcome::Signal;
use detour_core::plan::{PROVIDERS_MAX, Question, plan};
use detour_core::routes::{Routes, Settings};
use detour_core::time::{MS, SEC, Time};
use detour_core::topology::{
    ClassId, Endpoint, EndpointId, Family, OperatorId, Provider, ProviderId, Topology, Transport, TransportClass,
};
use detour_core::usage::Usage;

use crate::provider::{CONNECT_TIMEOUT_US, CONNECT_US, Fault, FaultState, Law, Packet, Random, mix};

/// A lookup over this is no lookup.
const DEADLINE_US: u64 = 4 * SEC;
/// Beyond this a client counts as hurt.
const HURT_AFTER_US: u64 = 250 * MS;
/// Steps at one instant that mean a livelock.
const STEPS_AT_ONCE: u64 = 20_000;
/// The shells forget a query after this long.
const FORGET_US: u64 = 5 * SEC;
/// Registrable domains that clients ask for.
const DOMAINS: u64 = 10;

/// What a world is made of.
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

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client asks.
    Client,
    /// A connection stands, or does not.
    Connected(u64),
    /// What was put on its way to the attempt arrives.
    Arrive(u64, u64),
    /// A lookup's timer.
    LookupTimer(u64, u64),
    /// The control plane's timer.
    ControlTimer(u64),
    /// The routes changed.
    Routes,
}

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

/// What happened, for checks and hashes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Time,
    what: &'static str,
    a: u64,
    b: u64,
}

/// Counts since the last [`World::reset_counts`].
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

pub(crate) struct World {
    config: Config,
    pub(crate) now: Time,
    topology: Arc<Topology>,
    pub(crate) control: Control,
    usage: Usage,
    heard: HeardTable,
    queue: BinaryHeap<Reverse<(Time, u64, Event)>>,
    sequence: u64,
    packets: BTreeMap<u64, Packet>,
    attempts: BTreeMap<u64, Sent>,
    next_attempt: u64,
    next_socket: u64,
    lookups: BTreeMap<u64, Running>,
    next_question: u64,
    faults: Vec<[FaultState; 2]>,
    pub(crate) uplink_dead: bool,
    pub(crate) udp_blocked: bool,
    connections: BTreeMap<u16, u64>,
    control_stamp: u64,
    random: Random,
    pub(crate) interval_us: u64,
    client_scheduled: bool,
    log: VecDeque<Entry>,
    pub(crate) hash: u64,
    steps_now: u64,
    forgot: Time,
    /// When the first attempt since a fault was set began and was not answered, by provider.
    pub(crate) first_lost: BTreeMap<u16, Time>,
    pub(crate) counts: Counts,
    pub(crate) events: Vec<(Time, ControlEvent)>,
    /// Attempts that anybody on the path could read.
    pub(crate) in_the_clear: u64,
    /// Whose black hole is measured, and since when.
    watch: Option<(u16, Time)>,
    /// When a fault was last set.
    faulted: Time,
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
            endpoints,
        });
    }
    topology
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let topology = Arc::new(topology_of(config));
        let now = Time::at_ms(1_000_000);
        let well = FaultState {
            fault: Fault::None,
            since: now,
        };
        let mut world = Self {
            config,
            now,
            control: Control::new(Arc::clone(&topology), Settings::default(), now, config.seed),
            usage: Usage::new(&topology, now),
            heard: HeardTable(vec![Time::ZERO; topology.endpoints.len()]),
            queue: BinaryHeap::new(),
            sequence: 0,
            packets: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_attempt: 1,
            next_socket: 1,
            lookups: BTreeMap::new(),
            next_question: config.seed << 20,
            faults: vec![[well; 2]; usize::from(config.providers)],
            uplink_dead: false,
            udp_blocked: false,
            connections: BTreeMap::new(),
            control_stamp: 0,
            random: Random(mix(config.seed)),
            interval_us: config.interval_us,
            client_scheduled: false,
            log: VecDeque::new(),
            hash: 0,
            steps_now: 0,
            forgot: now,
            first_lost: BTreeMap::new(),
            counts: Counts::default(),
            events: Vec::new(),
            in_the_clear: 0,
            watch: None,
            faulted: now,
            topology,
        };
        world.reset_counts();
        world.schedule_client();
        world
    }

    /// Starts counting anew.
    pub(crate) fn reset_counts(&mut self) {
        self.counts = Counts {
            first: vec![0; usize::from(self.config.providers)],
            ..Counts::default()
        };
    }

    /// Sets a fault of a provider over UDP, TCP or both.
    pub(crate) fn set_fault(&mut self, provider: u16, transports: &[Transport], fault: Fault) {
        for transport in transports {
            self.faults[usize::from(provider)][usize::from(transport.class() == TransportClass::Stream)] =
                FaultState { fault, since: self.now };
        }
        self.faulted = self.now;
        self.watch = (fault == Fault::Blackhole).then_some((provider, self.now));
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
        self.log("fault", u64::from(provider), fault_number(fault));
    }

    /// Everything works again.
    pub(crate) fn heal(&mut self) {
        for provider in 0..self.config.providers {
            self.set_fault(provider, BOTH, Fault::None);
        }
        self.uplink_dead = false;
        self.udp_blocked = false;
        self.log("heal", 0, 0);
    }

    /// Clients ask at this interval from here on.
    pub(crate) fn set_interval(&mut self, interval_us: u64) {
        self.interval_us = interval_us;
        self.schedule_client();
    }

    /// The machine sleeps.
    pub(crate) fn sleep(&mut self, us: u64) {
        self.now = self.now.plus(us);
        for running in self.lookups.values_mut() {
            running.slept = true;
        }
        self.log("sleep", us, 0);
    }

    fn schedule_client(&mut self) {
        if self.interval_us > 0 && !self.client_scheduled {
            self.client_scheduled = true;
            let wait = self.interval_us / 2 + self.random.below(self.interval_us);
            self.push(self.now.plus(wait), Event::Client);
        }
    }

    fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, event)));
    }

    /// Runs until `us` from here.
    pub(crate) fn run(&mut self, us: u64) {
        let end = self.now.plus(us);
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && *at <= end
        {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Runs until `done`, at most `us`; says whether it was.
    pub(crate) fn run_until(&mut self, us: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.plus(us);
        while self.now < end {
            if done(self) {
                return true;
            }
            self.run(20 * MS);
        }
        done(self)
    }

    fn step(&mut self) {
        let Some(Reverse((at, _, event))) = self.queue.pop() else {
            return;
        };
        if at > self.now {
            self.now = at;
            self.steps_now = 0;
        }
        // What a sleep has left behind is no livelock.
        if at == self.now {
            self.steps_now += 1;
        }
        if self.steps_now > STEPS_AT_ONCE {
            self.fail("livelock");
        }
        match event {
            Event::Client => self.client(),
            Event::Connected(id) => self.connected(id),
            Event::Arrive(id, packet) => self.arrive(id, packet),
            Event::LookupTimer(id, stamp) => {
                if self.lookups.get(&id).is_some_and(|running| running.stamp == stamp) {
                    self.feed(id, |lookup, now, view| lookup.handle_timeout(now, view));
                }
            }
            Event::ControlTimer(stamp) => {
                if self.control_stamp == stamp {
                    self.control.handle_timeout(self.now);
                    self.drain_control();
                }
            }
            Event::Routes => {
                let ids: Vec<u64> = self.lookups.keys().copied().collect();
                for id in ids {
                    self.feed(id, |lookup, now, view| lookup.handle_routes(now, view));
                }
            }
        }
        self.check();
    }

    fn client(&mut self) {
        self.client_scheduled = false;
        self.schedule_client();
        self.next_question += 1;
        let id = self.next_question;
        let question = Question {
            number: id,
            domain: mix(id) % DOMAINS,
        };
        self.counts.asked += 1;
        self.control.note_client(self.now);
        let routes = Arc::clone(self.control.routes());
        let planned = plan(&routes, &mut self.usage, question, self.now, &mut |_, _| {});
        let mut view = View {
            routes: &routes,
            usage: &mut self.usage,
            heard: &self.heard,
        };
        let running = Running {
            lookup: Lookup::start(planned, false, self.now, &mut view),
            question,
            started: self.now,
            latency_us: self.config.law.latency_us(id),
            attempts: Vec::new(),
            providers: Vec::new(),
            right: Vec::new(),
            stamp: 0,
            slept: false,
        };
        self.lookups.insert(id, running);
        self.drain_lookup(id);
    }

    /// One input to a lookup.
    fn feed(&mut self, id: u64, input: impl FnOnce(&mut Lookup, Time, &mut View<'_>)) {
        let routes = Arc::clone(self.control.routes());
        if let Some(running) = self.lookups.get_mut(&id) {
            let mut view = View {
                routes: &routes,
                usage: &mut self.usage,
                heard: &self.heard,
            };
            input(&mut running.lookup, self.now, &mut view);
            self.drain_lookup(id);
        }
    }

    fn drain_lookup(&mut self, id: u64) {
        loop {
            let now = self.now;
            let Some(running) = self.lookups.get_mut(&id) else {
                return;
            };
            let wakeup = running.lookup.poll_timeout();
            let Some(output) = running.lookup.poll_output() else {
                running.stamp = running.stamp.wrapping_add(1);
                let stamp = running.stamp;
                match wakeup {
                    Some((at, _)) => self.push(at.max(now), Event::LookupTimer(id, stamp)),
                    None => self.fail("a lookup without a result wants no timer"),
                }
                return;
            };
            if wakeup.is_none_or(|(at, _)| at > now) {
                self.fail("a lookup has outputs and does not say now");
            }
            match output {
                Output::Begin {
                    slot,
                    endpoint,
                    via,
                    why,
                } => self.begin_client(id, slot, endpoint, via, why),
                Output::Disagreed { slot, endpoint, rcode } => {
                    let (question, begun) = (running.question, running.attempts[slot].2);
                    if let Some(begun) = begun {
                        self.control
                            .handle_disagreed(endpoint, begun, question.domain, rcode, now);
                        self.log("disagreed", id, u64::from(endpoint.0));
                        self.drain_control();
                    }
                }
                Output::Mismatched { slot, endpoint } => {
                    if let Some(begun) = running.attempts[slot].2 {
                        self.control.handle_finished(endpoint, begun, Finish::Mismatched, now);
                        self.log("mismatched", id, u64::from(endpoint.0));
                        self.drain_control();
                    }
                }
                Output::Done(done) => self.done(id, done),
            }
        }
    }

    fn begin_client(&mut self, id: u64, slot: Slot, endpoint: EndpointId, via: Via, why: Why) {
        let provider = self.topology.endpoint(endpoint).unwrap().provider;
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        *self.counts.why.entry(why).or_default() += 1;
        if why == Why::First {
            self.counts.first[usize::from(provider.0)] += 1;
        }
        let running = self.lookups.get_mut(&id).unwrap();
        if slot != running.attempts.len() {
            self.fail("slots do not count up");
        }
        running.attempts.push((endpoint, attempt, None));
        if !running.providers.contains(&provider) {
            running.providers.push(provider);
        }
        if running.providers.len() > PROVIDERS_MAX {
            self.fail("a lookup told a fourth provider");
        }
        let latency_us = running.latency_us;
        self.log(why.word(), id, u64::from(endpoint.0));
        self.begin(attempt, endpoint, via, why.purpose(), latency_us, Some((id, slot)));
    }

    fn begin(
        &mut self,
        id: u64,
        endpoint: EndpointId,
        via: Via,
        purpose: Purpose,
        latency_us: u64,
        waits: Option<(u64, Slot)>,
    ) {
        let over_tcp =
            via == Via::Stream || self.topology.endpoint(endpoint).unwrap().transport.class() == TransportClass::Stream;
        let fault = self.fault(endpoint, over_tcp);
        let transport = self.topology.endpoint(endpoint).unwrap().transport;
        self.in_the_clear += u64::from(!transport.is_encrypted());
        self.next_socket += 1;
        let socket = match purpose {
            Purpose::Probe => 1_000_000 + self.next_socket,
            Purpose::Client | Purpose::Backup if over_tcp => 1_000 + u64::from(endpoint.0),
            Purpose::Client | Purpose::Backup => self.random.below(256),
        };
        let sent = Sent {
            endpoint,
            over_tcp,
            without_edns: via == Via::NoEdns,
            begun: Begun {
                id,
                at: self.now,
                socket,
                purpose,
            },
            written: false,
            latency_us,
            waits,
            honest: fault.is_honest(),
        };
        self.attempts.insert(id, sent);
        let provider = self.provider_of(endpoint);
        let connected = purpose != Purpose::Probe
            && self
                .connections
                .get(&provider)
                .is_some_and(|used| self.now.as_micros().saturating_sub(*used) < 9 * SEC);
        if !over_tcp || connected {
            self.write(id, fault);
        } else if self.uplink_dead {
            self.push_packet(
                id,
                CONNECT_TIMEOUT_US,
                Packet::Fail(detour_core::outcome::Failure::ConnectTimeout),
            );
        } else {
            self.push(self.now.plus(CONNECT_US), Event::Connected(id));
        }
    }

    fn connected(&mut self, id: u64) {
        if let Some(sent) = self.attempts.get(&id).copied() {
            let fault = self.fault(sent.endpoint, true);
            if sent.begun.purpose != Purpose::Probe && fault != Fault::Rst {
                let provider = self.provider_of(sent.endpoint);
                self.connections.insert(provider, self.now.as_micros());
            }
            self.write(id, fault);
        }
    }

    /// The query goes on the wire.
    fn write(&mut self, id: u64, fault: Fault) {
        let roll = self.random.below(1_000);
        let now = self.now;
        let Some(sent) = self.attempts.get_mut(&id) else {
            return;
        };
        sent.begun.at = now;
        sent.written = true;
        sent.honest = fault.is_honest();
        let sent = *sent;
        if let Some((lookup, slot)) = sent.waits
            && let Some(running) = self.lookups.get_mut(&lookup)
        {
            running.attempts[slot].2 = Some(sent.begun);
        }
        if fault != Fault::NoRoute {
            self.control.handle_begun(sent.endpoint, sent.begun, now);
            self.drain_control();
        }
        let provider = self.provider_of(sent.endpoint);
        if let Some((watched, since)) = self.watch
            && watched == provider
            && now >= since
            && sent.begun.purpose != Purpose::Probe
        {
            self.first_lost.entry(provider).or_insert(now);
        }
        if let Some((after, packet)) = fault.reply(sent.over_tcp, sent.without_edns, sent.latency_us, roll) {
            self.push_packet(id, after, packet);
        }
    }

    fn push_packet(&mut self, id: u64, after: u64, packet: Packet) {
        self.sequence += 1;
        let number = self.sequence;
        self.packets.insert(number, packet);
        self.push(self.now.plus(after), Event::Arrive(id, number));
    }

    fn arrive(&mut self, id: u64, number: u64) {
        let now = self.now;
        let Some(packet) = self.packets.remove(&number) else {
            return;
        };
        let Some(sent) = self.attempts.get(&id).copied() else {
            return;
        };
        let fault = self.fault(sent.endpoint, sent.over_tcp);
        let failed = matches!(packet, Packet::Fail(_));
        if !failed && fault.withholds() {
            return;
        }
        if !failed {
            let heard = &mut self.heard.0[usize::from(sent.endpoint.0)];
            *heard = (*heard).max(sent.begun.at);
        }
        let mut begun = sent.begun;
        let (finish, signal) = match packet {
            Packet::Answer(reply) => {
                let latency_us = now.since(begun.at);
                (Some(Finish::Answered { reply, latency_us }), Signal::Answered(reply))
            }
            Packet::Garbage => {
                self.control.handle_garbage(sent.endpoint, now);
                (None, Signal::Garbage)
            }
            Packet::Mismatch => (None, Signal::Mismatch),
            Packet::Fail(failure) => {
                if !sent.written {
                    begun.at = now;
                }
                (Some(Finish::Failed(failure)), Signal::Failed(failure))
            }
        };
        if let Some(finish) = finish {
            self.attempts.remove(&id);
            self.control.handle_finished(sent.endpoint, begun, finish, now);
        }
        self.log("arrive", id, u64::from(sent.endpoint.0));
        self.drain_control();
        if let Some((lookup, slot)) = sent.waits
            && let Some(running) = self.lookups.get_mut(&lookup)
        {
            running.attempts[slot].2 = Some(begun);
            if sent.honest {
                running.right.push(slot);
            }
            self.feed(lookup, |lookup, now, view| {
                lookup.handle_signal(slot, signal, now, view)
            });
        }
    }

    fn drain_control(&mut self) {
        let mut drained = 0;
        loop {
            let now = self.now;
            let wakeup = self.control.poll_timeout(now);
            let Some(output) = self.control.poll_output() else {
                self.control_stamp += 1;
                if let Some((at, _)) = wakeup {
                    self.push(at.max(now), Event::ControlTimer(self.control_stamp));
                }
                return;
            };
            drained += 1;
            if drained > 1_000 {
                self.fail("one input makes a thousand outputs");
            }
            if wakeup.is_none_or(|(at, _)| at > now) {
                self.fail("the control plane has outputs and does not say now");
            }
            match output {
                ControlOutput::Probe { id, endpoint, why } => {
                    *self.counts.probes.entry(why).or_default() += 1;
                    self.log("probe", id & 0xffff, u64::from(endpoint.0));
                    self.begin(id, endpoint, Via::Own, Purpose::Probe, 10 * MS, None);
                }
                ControlOutput::OwnReport => {}
                ControlOutput::RoutesChanged => self.push(now, Event::Routes),
                ControlOutput::Event(event) => {
                    self.events.push((now, event));
                    if self.events.len() > 10_000 {
                        self.fail("ten thousand events");
                    }
                    if let ControlEvent::StateChanged { endpoint, to, .. } = event {
                        self.log(to.word(), u64::from(endpoint.0), 0);
                    } else {
                        self.log("event", 0, 0);
                    }
                }
            }
        }
    }

    fn done(&mut self, id: u64, done: Done) {
        let Some(running) = self.lookups.remove(&id) else {
            return;
        };
        let took = self.now.since(running.started);
        if took > DEADLINE_US && !running.slept {
            self.fail("a client waited longer than the deadline");
        }
        let (right, word) = match done {
            Done::Answer(slot) => (running.right.contains(&slot), "answer"),
            Done::Agreed(_) => (false, "agreed"),
            Done::GaveUp(_) => (false, "gave-up"),
        };
        if let Done::Answer(_) = done {
            self.counts.answered += 1;
        }
        self.log(word, id, took);
        if !right {
            self.counts.lost += 1;
        }
        if !right || took > running.latency_us + HURT_AFTER_US {
            self.counts.hurt += 1;
            if running.started < self.faulted {
                self.counts.hurt_in_flight += 1;
            }
            self.log("hurt", id, took);
            if std::env::var_os("DETOUR_SHOW_HURT").is_some() {
                eprintln!(
                    "hurt at {}: question {id} {word} after {took} us, law {} us",
                    self.now, running.latency_us
                );
                for (endpoint, attempt, begun) in &running.attempts {
                    eprintln!(
                        "  attempt {attempt} at {endpoint:?} begun {:?}",
                        begun.map(|b| b.at.to_string())
                    );
                }
                for (endpoint, why) in running.lookup.attempts() {
                    eprintln!("  {endpoint:?} {}", why.word());
                }
            }
        }
    }

    fn check(&mut self) {
        if let Some((id, oldest)) = self.lookups.first_key_value()
            && self.now.since(oldest.started) > DEADLINE_US
            && !oldest.slept
        {
            let id = *id;
            self.log("overdue", id, 0);
            self.fail("a lookup outlives its deadline");
        }
        if self.now.since(self.forgot) >= SEC {
            self.forgot = self.now;
            let now = self.now;
            self.attempts.retain(|_, sent| now.since(sent.begun.at) < FORGET_US);
            for endpoint in self.topology.endpoint_ids() {
                let health = self.control.health(endpoint).unwrap();
                if health.open_count() > 4_096 || health.domains().avoided(now).count() > 64 {
                    self.fail("a collection is over its cap");
                }
            }
        }
    }

    fn provider_of(&self, endpoint: EndpointId) -> u16 {
        self.topology.endpoint(endpoint).unwrap().provider.0
    }

    fn fault(&self, endpoint: EndpointId, over_tcp: bool) -> Fault {
        if self.uplink_dead || (self.udp_blocked && !over_tcp) {
            return Fault::Blackhole;
        }
        self.faults[usize::from(self.provider_of(endpoint))][usize::from(over_tcp)].effective(self.now)
    }

    /// The current table.
    pub(crate) fn routes(&self) -> &Arc<Routes> {
        self.control.routes()
    }

    /// Whether plans use every endpoint like any other.
    pub(crate) fn all_normal(&self) -> bool {
        let normal = detour_core::routes::Place::Normal;
        self.routes().endpoints.iter().all(|route| route.place() == normal)
    }

    fn log(&mut self, what: &'static str, a: u64, b: u64) {
        let word = what.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        self.hash = mix(self.hash ^ word ^ mix(self.now.as_micros()) ^ mix(a).rotate_left(7) ^ mix(b).rotate_left(13));
        if self.log.len() >= 50 {
            self.log.pop_front();
        }
        self.log.push_back(Entry {
            at: self.now,
            what,
            a,
            b,
        });
    }

    /// Ends the test, telling how to see it again.
    pub(crate) fn fail(&self, message: &str) -> ! {
        let mut text = format!("{message}\nDETOUR_SEED={} {:?}\n", self.config.seed, self.config);
        for entry in &self.log {
            text.push_str(&format!("{} {} {} {}\n", entry.at, entry.what, entry.a, entry.b));
        }
        for (id, route) in self.routes().endpoints.iter().enumerate() {
            text.push_str(&format!(
                "endpoint {id}: {} ({}) place {} since {}\n",
                route.state,
                route.cause,
                route.why.word(),
                route.since
            ));
        }
        panic!("{text}");
    }
}

/// A fault as a number, for the hash.
fn fault_number(fault: Fault) -> u64 {
    format!("{fault:?}")
        .bytes()
        .fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}
