//! A cluster of nodes: one event queue, shared providers, a network between them.

use std::collections::BTreeMap;

use detour_core::control::claims::Influence;
use detour_core::mesh::PeerState;
use detour_core::report::Edition;
use detour_core::routes::Place;
use detour_core::time::{MS, SEC, Time};
use detour_core::topology::{EndpointId, Transport};

use super::machine::{Lie, Machine, index_of};
use super::net::{IDLE_US, Net, Parcel, Weather};
use super::notary::Notary;
use crate::env::{Env, Event, Who};
use crate::node::{BOTH, Node, UDP};
use crate::provider::{Fault, Law};

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) providers: u16,
    pub(crate) transports: &'static [Transport],
    pub(crate) law: Law,
    /// Of each node: microseconds between its clients' questions; 0: none ask.
    pub(crate) intervals_us: Vec<u64>,
    pub(crate) influence: Influence,
    /// How far each node's wall clock is off, milliseconds; those not named: not at all.
    pub(crate) skews_ms: Vec<i64>,
}

impl Config {
    /// Three providers over UDP with flat answers.
    pub(crate) fn new(seed: u64, intervals_us: Vec<u64>) -> Self {
        Self {
            seed,
            providers: 3,
            transports: UDP,
            law: Law::Flat,
            intervals_us,
            influence: Influence::Full,
            skews_ms: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(super) config: Config,
    pub(crate) env: Env,
    pub(super) net: Net,
    pub(super) notary: Notary,
    pub(super) machines: Vec<Machine>,
    /// What nodes lie.
    pub(super) lies: BTreeMap<u16, Lie>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let again = format!("DETOUR_SEED={} {config:?}", config.seed);
        let mut env = Env::new(config.providers, again);
        let mut net = Net::new(config.seed);
        let machines = (0..config.intervals_us.len()).map(|index| {
            let who = Who {
                node: u16::try_from(index).unwrap(),
                life: 0,
            };
            // Nobody starts a cluster at one instant.
            let after = net.random.below(300 * MS);
            Machine::new(who, &config, env.now.plus(after), &mut env)
        });
        let machines: Vec<Machine> = machines.collect();
        let mut world = Self {
            config,
            env,
            net,
            notary: Notary::default(),
            machines,
            lies: BTreeMap::new(),
        };
        for index in 0..world.machines.len() {
            let after = world.net.random.below(300 * MS);
            let who = world.machines[index].node.who;
            world.send(who, after, Parcel::Start);
        }
        world
    }

    pub(crate) fn now(&self) -> Time {
        self.env.now
    }

    pub(crate) fn nodes(&self) -> std::ops::Range<u16> {
        0..u16::try_from(self.machines.len()).unwrap()
    }

    pub(crate) fn node(&self, node: u16) -> &Node {
        &self.machines[usize::from(node)].node
    }

    /// Runs until `us` from here.
    pub(crate) fn run(&mut self, us: u64) {
        let end = self.env.now.plus(us);
        while let Some((who, event)) = self.env.pop(end) {
            self.step(who, event);
        }
        self.env.now = self.env.now.max(end);
    }

    /// Runs until `done`, at most `us`; says whether it was.
    pub(crate) fn run_until(&mut self, us: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.env.now.plus(us);
        while self.env.now < end {
            if done(self) {
                return true;
            }
            self.run(20 * MS);
        }
        done(self)
    }

    fn step(&mut self, who: Who, event: Event) {
        let index = usize::from(who.node);
        if self.machines[index].node.who != who {
            // Of a former life.
            if let Event::Mesh(number) = event {
                self.net.parcels.remove(&number);
            }
            return;
        }
        match event {
            Event::Mesh(number) => {
                if let Some(parcel) = self.net.parcels.remove(&number) {
                    self.deliver(who, parcel);
                }
            }
            Event::MeshTimer(stamp) => {
                let machine = &mut self.machines[index];
                if machine.stamp != stamp {
                    return;
                }
                machine.mesh.handle_timeout(self.env.now);
            }
            Event::MeshReport => {
                self.env.push(self.env.now.plus(SEC), who, Event::MeshReport);
                self.machines[index].node.has_news = true;
            }
            Event::Client
            | Event::Connected(_)
            | Event::Arrive(..)
            | Event::LookupTimer(..)
            | Event::ControlTimer(_)
            | Event::Routes => {
                if self.machines[index].running {
                    self.machines[index].node.handle(event, &mut self.env);
                }
            }
        }
        self.drain(who);
    }

    /// Puts something on its way to a process.
    pub(super) fn send(&mut self, to: Who, after: u64, parcel: Parcel) {
        let number = self.env.number();
        self.net.parcels.insert(number, parcel);
        self.env.push(self.env.now.plus(after), to, Event::Mesh(number));
    }

    /// Sets a fault of a provider over UDP, TCP or both.
    pub(crate) fn set_fault(&mut self, provider: u16, fault: Fault) {
        self.env.set_fault(provider, BOTH, fault);
        for machine in &mut self.machines {
            machine.node.note_fault(provider, fault, self.env.now);
        }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.net.weather = weather;
    }

    pub(crate) fn set_interval(&mut self, node: u16, interval_us: u64) {
        self.config.intervals_us[usize::from(node)] = interval_us;
        self.machines[usize::from(node)]
            .node
            .set_interval(interval_us, &mut self.env);
    }

    /// The machine's own way to providers; the mesh is another network.
    pub(crate) fn set_uplink_dead(&mut self, node: u16, dead: bool) {
        self.machines[usize::from(node)].node.uplink_dead = dead;
        self.env.log("uplink", u64::from(node), u64::from(dead));
    }

    /// What a node says from here on, whatever it sees.
    pub(crate) fn lie(&mut self, node: u16, lie: Lie) {
        self.lies.insert(node, lie);
        self.env.log("lie", u64::from(node), 0);
    }

    /// Nothing passes from these to those any more; and back, if `both`.
    pub(crate) fn cut(&mut self, from: &[u16], to: &[u16], both: bool) {
        for (a, b) in from.iter().flat_map(|a| to.iter().map(|b| (*a, *b))) {
            if a == b {
                continue;
            }
            self.net.cut(a, b, self.env.now);
            if both {
                self.net.cut(b, a, self.env.now);
            }
            let of_pair = |ends: [u16; 2]| ends == [a, b] || ends == [b, a];
            let links = self.net.links.iter();
            let links = links.filter(|(_, link)| of_pair(link.ends.map(|end| end.who.node)));
            let links: Vec<_> = links.map(|(number, link)| (*number, link.ends)).collect();
            for (link, ends) in links {
                for end in ends {
                    self.send(end.who, IDLE_US, Parcel::Idle { link });
                }
            }
        }
        self.env.log("cut", u64::from(from[0]), u64::from(both));
    }

    /// All paths between nodes are whole again.
    pub(crate) fn mend(&mut self) {
        self.net.mend_all();
        self.env.log("mend", 0, 0);
    }

    /// The process is killed and begins anew after a while; the others notice when nothing comes any more.
    pub(crate) fn restart(&mut self, node: u16, down_us: u64) {
        let before = self.machines[usize::from(node)].node.who;
        let links: Vec<_> = self.net.open_links(before);
        for (link, other) in links {
            if let Some(link) = self.net.links.get_mut(&link)
                && let Some(end) = link.end_mut(before)
            {
                end.open = false;
            }
            self.send(other.who, IDLE_US, Parcel::Idle { link });
        }
        self.net.pending.retain(|_, pending| pending.from != before);
        let who = Who {
            life: before.life + 1,
            ..before
        };
        self.net.listening.retain(|(a, b)| *a != before && *b != before);
        self.env.log("restart", u64::from(node), down_us);
        let config = self.config.clone();
        let Machine { disk, skew_ms, .. } = self.machines[usize::from(node)];
        let begin = self.env.now.plus(down_us);
        let mut machine = Machine::new(who, &config, begin, &mut self.env);
        machine.disk = disk;
        machine.skew_ms = skew_ms;
        self.machines[usize::from(node)] = machine;
        self.send(who, down_us, Parcel::Start);
    }

    /// The file of the incarnation is gone, and the clock is far behind.
    pub(crate) fn lose_disk(&mut self, node: u16) {
        self.machines[usize::from(node)].disk = 0;
    }

    /// Whether every running node is connected to every other, and gossip passes both ways.
    pub(crate) fn all_connected(&self) -> bool {
        let machines = || self.machines.iter();
        machines().all(|machine| {
            let who = machine.node.who;
            let others = machines().filter(|other| other.node.who != who);
            let heard = others
                .clone()
                .all(|other| self.net.listening.contains(&(other.node.who, who)));
            let peers = machine.mesh.peers(0, self.env.now);
            let connected = peers.iter().all(|peer| peer.state == PeerState::Connected);
            machine.running && heard && connected && peers.len() == others.count()
        })
    }

    /// What every node said last.
    pub(crate) fn editions(&self) -> Vec<Option<Edition>> {
        self.machines.iter().map(|machine| machine.mesh.own_edition()).collect()
    }

    /// Whether every node holds what every other one had said then, or what it said later.
    pub(crate) fn all_hold(&self, editions: &[Option<Edition>]) -> bool {
        self.machines.iter().all(|machine| {
            let peers = machine.mesh.peers(0, self.env.now);
            peers
                .iter()
                .all(|peer| peer.edition.is_some() && peer.edition >= editions[index_of(peer.node)])
        })
    }

    /// Whether reports flow between a node's present life and everybody.
    pub(crate) fn flows(&self, node: u16) -> bool {
        let one = &self.machines[usize::from(node)];
        let hears = one
            .mesh
            .peers(0, self.env.now)
            .iter()
            .all(|peer| peer.edition.is_some());
        let life = one.mesh.own_edition().map(|edition| edition.incarnation);
        let mut others = self.machines.iter().filter(|machine| machine.node.who != one.node.who);
        let heard = others.all(|other| {
            let peers = other.mesh.peers(0, self.env.now);
            let held = peers.iter().find(|peer| index_of(peer.node) == usize::from(node));
            held.and_then(|peer| peer.edition).map(|edition| edition.incarnation) == life
        });
        hears && heard && life.is_some()
    }

    /// What happened to a node so far is no longer looked at.
    pub(crate) fn forget_events(&mut self, node: u16) {
        let node = &mut self.machines[usize::from(node)].node;
        node.events.clear();
        node.last_query.clear();
        node.reset_counts();
    }

    pub(crate) fn reset_counts(&mut self, node: u16) {
        self.machines[usize::from(node)].node.reset_counts();
    }

    /// How far a node's wall clock is off from here on.
    pub(crate) fn set_skew(&mut self, node: u16, skew_ms: i64) {
        self.machines[usize::from(node)].skew_ms = skew_ms;
    }

    /// Where a node's plans put a provider's first endpoint.
    pub(crate) fn place(&self, node: u16, provider: u16) -> Place {
        let per_provider = u16::try_from(self.config.transports.len()).unwrap();
        let endpoint = EndpointId(provider * per_provider);
        self.node(node).routes().endpoint(endpoint).unwrap().place()
    }

    /// Ends the test, telling how to see it again.
    pub(crate) fn fail(&self, message: &str) -> ! {
        let states: String = self.machines.iter().map(|machine| self.state_of(machine)).collect();
        self.env.fail(message, &states);
    }

    fn state_of(&self, machine: &Machine) -> String {
        let mut text = machine.node.state();
        for peer in machine.mesh.peers(machine.wall_ms(self.env.now), self.env.now) {
            let age = peer.issued.map(|issued| self.env.now.since(issued) / MS);
            let other = self.machines[index_of(peer.node)].node.who;
            let heard = self.net.listening.contains(&(other, machine.node.who));
            let links = self.net.open_links(machine.node.who).into_iter();
            let links: Vec<u64> = links
                .filter(|(_, end)| end.who.node == other.node)
                .map(|(link, _)| link)
                .collect();
            text.push_str(&format!(
                "  peer {}: heard {heard} {links:?} {:?} since {} {:?} age {age:?} ms, clock {:?} ms, dial {:?}\n",
                index_of(peer.node),
                peer.state,
                peer.since,
                peer.edition,
                peer.clock_offset_ms,
                peer.next_dial
            ));
        }
        text
    }
}
