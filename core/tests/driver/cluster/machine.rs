//! One process of a cluster: the node, its mesh machine, its wall clock, and what it lies.

use std::collections::BTreeSet;
use std::sync::Arc;

use detour_core::control::claims::MeshSettings;
use detour_core::health::state::State;
use detour_core::mesh::{Cluster, Event as MeshEvent, Member, Settings};
use detour_core::outcome::Cause;
use detour_core::report::{BootId, Circle, ClusterKey, EndpointKey, NodeId, Opinion, OwnReport, SiteKey};
use detour_core::time::{MS, Time};
use detour_core::topology::EndpointId;

use super::world::Config;
use crate::env::{Env, Who};
use crate::node::{self, Node};
use crate::provider::mix;

/// What right wall clocks say at the zero of time.
const WALL_MS: u64 = 1_700_000_000_000;
/// The one cluster there is.
const CLUSTER: ClusterKey = ClusterKey([9; 8]);

/// What a lying node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// This provider is down, credibly.
    Down(u16),
    /// Everything is up and answers this very moment.
    AllUp,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) mesh: Cluster,
    /// Of the mesh machine's timer.
    pub(super) stamp: u64,
    /// It has begun.
    pub(super) running: bool,
    /// The stored incarnation.
    pub(super) disk: u64,
    /// How far its wall clock is off.
    pub(super) skew_ms: i64,
    pub(crate) events: Vec<(Time, MeshEvent)>,
    /// Gossip that was seen.
    pub(super) seen: BTreeSet<Vec<u8>>,
    /// When it asked for signatures.
    pub(super) signed: Option<Time>,
    lied: u64,
}

/// A node's key.
pub(crate) fn id_of(node: u16) -> NodeId {
    let hash = mix(0x6b65_7900 + u64::from(node)).to_be_bytes();
    let mut id = [0; 32];
    id[..8].copy_from_slice(&hash);
    id[30..].copy_from_slice(&node.to_be_bytes());
    NodeId(id)
}

/// Which node has this key.
pub(crate) fn index_of(node: NodeId) -> usize {
    usize::from(u16::from_be_bytes([node.0[30], node.0[31]]))
}

/// How an endpoint is called among nodes.
fn key_of(endpoint: EndpointId) -> EndpointKey {
    EndpointKey(mix(u64::from(endpoint.0)).to_be_bytes())
}

fn site_of(node: u16) -> SiteKey {
    SiteKey(u32::from(node % 2).to_be_bytes())
}

impl Machine {
    /// A process that begins at `now` and has not met anybody; it does nothing before it is started.
    pub(super) fn new(who: Who, config: &Config, now: Time, env: &mut Env) -> Self {
        let index = usize::from(who.node);
        let seed = mix(config.seed ^ u64::from(who.node) << 32 ^ u64::from(who.life) << 48) >> 24;
        let node_config = node::Config {
            seed,
            providers: config.providers,
            transports: config.transports,
            law: config.law,
            interval_us: 0,
        };
        let skew_ms = config.skews_ms.get(index).copied().unwrap_or(0);
        let mut machine = Self {
            node: Node::new(who, node_config, env),
            mesh: Cluster::new(settings(who, config, seed, 0, 0), now),
            stamp: 0,
            running: false,
            disk: 0,
            skew_ms,
            events: Vec::new(),
            seen: BTreeSet::new(),
            signed: None,
            lied: 0,
        };
        machine.set_mesh(config, now);
        machine
    }

    fn set_mesh(&mut self, config: &Config, now: Time) {
        let endpoints = config.providers * u16::try_from(config.transports.len()).unwrap();
        let keys = (0..endpoints).map(|endpoint| key_of(EndpointId(endpoint)));
        let settings = MeshSettings {
            influence: config.influence,
            keys: keys.collect(),
            site: Some(site_of(self.node.who.node)),
        };
        self.node.control.handle_mesh(settings, now);
    }

    /// The process begins.
    pub(super) fn start(&mut self, config: &Config, env: &mut Env) {
        let who = self.node.who;
        let seed = mix(config.seed ^ mix(u64::from(who.node)) ^ u64::from(who.life));
        let settings = settings(who, config, seed, self.disk, self.wall_ms(env.now));
        self.mesh = Cluster::new(settings, env.now);
        self.running = true;
        self.node.set_interval(config.intervals_us[usize::from(who.node)], env);
        self.node.drain_control(env);
    }

    /// What its wall clock says.
    pub(crate) fn wall_ms(&self, now: Time) -> u64 {
        let right = WALL_MS + now.as_micros() / MS;
        right.saturating_add_signed(self.skew_ms)
    }

    /// What it says of endpoints.
    pub(super) fn report(&mut self, lie: Option<Lie>, config: &Config, now: Time) -> Arc<OwnReport> {
        let Some(lie) = lie else {
            return Arc::new(self.node.control.own_report(now));
        };
        let per_provider = u16::try_from(config.transports.len()).unwrap();
        let all = 0..config.providers * per_provider;
        let opinions = all.map(|endpoint| {
            let down = lie == Lie::Down(endpoint / per_provider);
            let ago = |ms: u64| down.then(|| now.minus(ms * MS));
            Opinion {
                endpoint: key_of(EndpointId(endpoint)),
                state: if down { State::Down } else { State::Up },
                cause: if down { Cause::Timeout } else { Cause::Answering },
                witnessed: down,
                stalled: false,
                first_failure: ago(800),
                last_failure: ago(10),
                last_success: (!down).then_some(now),
            }
        });
        let mut opinions: Vec<Opinion> = opinions.collect();
        opinions.sort_by_key(|opinion| opinion.state == State::Up);
        self.lied += 1;
        Arc::new(OwnReport {
            // A new outrage every five seconds.
            urgent: self.lied / 5,
            contradiction: 0,
            uplink_suspect: false,
            any_down: lie != Lie::AllUp,
            opinions,
        })
    }
}

/// What the mesh machine of a process is made of.
fn settings(who: Who, config: &Config, seed: u64, stored_incarnation: u64, wall_ms: u64) -> Settings {
    let count = u16::try_from(config.intervals_us.len()).unwrap();
    let members = (0..count).filter(|node| *node != who.node).map(|node| Member {
        node: id_of(node),
        circle: Circle::Own,
        addresses: 1,
    });
    Settings {
        own: id_of(who.node),
        boot: BootId(mix(seed ^ 0x626f_6f74)),
        cluster: CLUSTER,
        site: site_of(who.node),
        members: members.collect(),
        stored_incarnation,
        wall_ms,
        software: "detour/driver".to_owned(),
        seed,
    }
}
