//! One life of the mesh: a loop that turns what happens into inputs of the core, and does what the core says.
//!
//! `select` waits and does nothing else; `apply` takes what happened and drains the core. The core decides everything;
//! what is decided here are bounds of this shell alone: how many signatures, requests and bytes are looked at.

mod exchanges;
mod hello;
mod intake;
mod links;
mod listeners;
mod notes;
mod outputs;
mod storing;
mod swarm_events;
mod sync;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use detour_core::mesh::{Cluster, ConnectionId, Settings};
use detour_core::report::{BootId, NodeId, OwnReport};
use detour_core::time::{MS, SEC, Time};
use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::gossipsub::IdentTopic;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId as SwarmId, SwarmEvent};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::exchanges::LateAnswers;
use self::intake::Intake;
use self::links::Links;
use self::listeners::Listeners;
use self::notes::Notes;
use self::storing::Storing;
use self::sync::Asked;
use self::view::Busy;
use crate::config::{Member, MeshConfig, News};
use crate::gossip;
use crate::identity::peer_of;
use crate::incarnation;
use crate::metrics::Metrics;
use crate::news::NewsQueue;
use crate::status::MeshStatus;
use crate::swarm::{self, Mesh, MeshEvent, SwarmError};

/// The status is replaced at most this often when something happens,
const STATUS_APART_US: u64 = 200 * MS;
/// and at least this often.
const STATUS_US: u64 = SEC;
/// No longer sleep than this: timers stand still while the machine sleeps, and time does not.
const SLEEP_US: u64 = SEC;
/// A stop takes no longer than this, goodbye included.
const STOP_US: u64 = SEC;
/// After the last connection is closed its last packet still has to get out.
const LAST_PACKETS: Duration = Duration::from_millis(30);

/// What the mesh hears from and says to the rest of the process; the same for every life.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) own_reports: watch::Receiver<Arc<OwnReport>>,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) status: watch::Sender<Arc<MeshStatus>>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

/// Why a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop.
    Stopped,
    /// A connection's task panicked.
    Panicked,
}

/// What happened.
enum Action {
    Swarm(Box<SwarmEvent<MeshEvent>>),
    OwnReport,
    Members,
    Stored(Option<String>),
    NewsRoom,
    Stop,
    Panicked,
    Time,
}

pub use self::hello::explain;
pub(crate) use self::swarm_events::{chain, dial_error};

/// One life.
struct Driver {
    config: MeshConfig,
    around: Surroundings,
    boot: BootId,
    swarm: Swarm<Mesh>,
    cluster: Cluster,
    topic: IdentTopic,
    members: Arc<Vec<Member>>,
    intake: Intake,
    links: Links,
    listeners: Listeners,
    notes: Notes,
    news: NewsQueue,
    storing: Storing,
    late_answers: LateAnswers,
    /// Dials under way: whom, at which of its addresses.
    dials: HashMap<SwarmId, (NodeId, u8)>,
    /// Our hellos under way: on which connection, since when.
    hellos: HashMap<OutboundRequestId, (ConnectionId, Time)>,
    /// Our pulls and pushes under way.
    asked: HashMap<OutboundRequestId, Asked>,
    /// Pulls and pushes that had no connection to go out on.
    unasked: Vec<NodeId>,
    complaint: Option<String>,
    /// When another process was last found to have this node's identity.
    duplicate: Option<Time>,
    busy: Busy,
    panicked: CancellationToken,
    stopping: Option<Time>,
    /// When peers' gossip was counted from.
    second: Time,
    status_due: Time,
    is_status_old: bool,
}

/// Lives until it is told to stop or something breaks. Dropping it is a crash as peers see it.
///
/// # Errors
/// When it cannot begin.
pub(crate) async fn live(config: MeshConfig, around: Surroundings) -> Result<Ended, SwarmError> {
    let mut driver = Driver::new(config, around)?;
    driver.begin();
    let ended = loop {
        let action = driver.select().await;
        if matches!(action, Action::Panicked) {
            break Ended::Panicked;
        }
        driver.apply(action);
        if driver.is_done() {
            break Ended::Stopped;
        }
    };
    // A peer that dials again at once must not get a connection that nobody will serve or close. What the swarm still
    // has to say is for nobody; the last packets of its connections are for the peers.
    for listener in driver.listeners.ids() {
        driver.swarm.remove_listener(listener);
    }
    let packets = async { while driver.swarm.next().await.is_some() {} };
    drop(tokio::time::timeout(LAST_PACKETS, packets).await);
    Ok(ended)
}

impl Driver {
    fn new(config: MeshConfig, mut around: Surroundings) -> Result<Self, SwarmError> {
        let now = config.clock.now();
        let own = config.identity.node();
        let panicked = CancellationToken::new();
        let swarm = swarm::build(&config.identity, config.cluster, panicked.clone())?;
        // Another boot id for each life: to its peers, and to gossip, it is another process.
        let boot = BootId(rand::random());
        let (stored_incarnation, complaint) = match config.state_directory.as_deref().map(incarnation::load) {
            None => (0, None),
            Some(Ok(stored)) => (stored, None),
            Some(Err(error)) => (0, Some(format!("{error}; it counts as 0"))),
        };
        let members = around.members.borrow_and_update().clone();
        let settings = Settings {
            own,
            boot,
            cluster: config.cluster,
            site: config.site,
            members: core_members(&members),
            stored_incarnation,
            wall_ms: (config.wall_ms)(),
            software: config.software.clone(),
            seed: rand::random(),
        };
        Ok(Self {
            boot,
            swarm,
            cluster: Cluster::new(settings, now),
            topic: gossip::topic(config.cluster),
            intake: Intake::new(config.cluster, own),
            links: Links::default(),
            listeners: Listeners::new(&config.listen, now),
            notes: Notes::default(),
            news: NewsQueue::new(around.news.clone()),
            storing: Storing::default(),
            late_answers: LateAnswers::default(),
            dials: HashMap::new(),
            hellos: HashMap::new(),
            asked: HashMap::new(),
            unasked: Vec::new(),
            complaint,
            duplicate: None,
            busy: Busy::default(),
            panicked,
            stopping: None,
            second: now,
            status_due: now,
            is_status_old: true,
            members,
            config,
            around,
        })
    }

    fn begin(&mut self) {
        let now = self.config.clock.now();
        if let Some(complaint) = &self.complaint {
            tracing::warn!(complaint, "incarnation");
        }
        self.note_members();
        let report = self.around.own_reports.borrow_and_update().clone();
        self.cluster.handle_own_report(report, now);
        self.settle(now);
    }

    /// Waits for the next thing to happen.
    async fn select(&mut self) -> Action {
        let now = self.config.clock.now();
        let sleep = Duration::from_micros(self.next(now).since(now).min(SLEEP_US));
        // Every arm may be dropped half-way: a watch keeps its change, the swarm its events, the disk its result in its
        // channel, room in a channel is not taken by waiting for it, and the sleep is computed anew.
        tokio::select! {
            biased;
            () = self.panicked.cancelled() => Action::Panicked,
            () = self.around.stop.cancelled(), if self.stopping.is_none() => Action::Stop,
            done = self.storing.done() => Action::Stored(done),
            Ok(()) = self.around.own_reports.changed() => Action::OwnReport,
            Ok(()) = self.around.members.changed() => Action::Members,
            () = self.news.room() => Action::NewsRoom,
            event = self.swarm.select_next_some() => Action::Swarm(Box::new(event)),
            () = tokio::time::sleep(sleep) => Action::Time,
        }
    }

    /// When something has to be done at the latest.
    fn next(&self, now: Time) -> Time {
        let status = if self.is_status_old {
            self.status_due
        } else {
            self.status_due.plus(STATUS_US)
        };
        let times = [
            self.cluster.poll_timeout(now).map(|(at, _why)| at),
            self.listeners.next(),
            self.late_answers.next(),
            self.stopping,
            Some(status),
            Some(now).filter(|_| !self.unasked.is_empty()),
        ];
        times.into_iter().flatten().min().unwrap_or(now)
    }

    fn apply(&mut self, action: Action) {
        let now = self.config.clock.now();
        self.is_status_old |= !matches!(action, Action::Time);
        match action {
            Action::Swarm(event) => self.apply_swarm(*event, now),
            Action::OwnReport => {
                let report = self.around.own_reports.borrow_and_update().clone();
                self.cluster.handle_own_report(report, now);
            }
            Action::Members => {
                self.members = self.around.members.borrow_and_update().clone();
                self.note_members();
                self.cluster.handle_members(core_members(&self.members), now);
            }
            Action::Stored(complaint) => {
                if let Some(complaint) = &complaint {
                    tracing::warn!(complaint, "the incarnation is not kept");
                }
                self.complaint = complaint.or_else(|| self.complaint.take());
                if let Some(incarnation) = self.storing.end() {
                    self.cluster.handle_incarnation_stored(incarnation, now);
                }
            }
            Action::NewsRoom => self.news.flush(),
            Action::Stop => {
                self.stopping = Some(now.plus(STOP_US));
                self.cluster.handle_stop(now);
            }
            Action::Time | Action::Panicked => self.cluster.handle_timeout(now),
        }
        self.settle(now);
        self.busy.note(now, self.config.clock.now(), &self.around.metrics);
    }

    /// Does what the core wants done and what is due, until nothing is left.
    fn settle(&mut self, now: Time) {
        if self.cluster.poll_timeout(now).is_some_and(|(at, _why)| at <= now) {
            self.cluster.handle_timeout(now);
        }
        // What could not be asked becomes an input only once, so that an answer of the core to it that cannot be asked
        // either waits for the next event.
        for node in std::mem::take(&mut self.unasked) {
            self.cluster.handle_unanswered(node, now);
        }
        while let Some(output) = self.cluster.poll_output() {
            self.apply_output(output, now);
        }
        if now.since(self.second) >= SEC {
            self.second = now;
            self.swarm.behaviour_mut().gate.begin_second();
        }
        let swarm = &mut self.swarm;
        self.listeners
            .run(now, |address| swarm.listen_on(address).map_err(|error| chain(&error)));
        self.send_late_answers(now);
        if self.status_due <= now && (self.is_status_old || self.status_due.plus(STATUS_US) <= now) {
            self.status_due = now.plus(STATUS_APART_US);
            self.is_status_old = false;
            self.publish_status();
        }
    }

    /// Who is a member is known to the gate, to the intake and to the core.
    fn note_members(&mut self) {
        let peers: HashSet<_> = self.members.iter().filter_map(|member| peer_of(member.node)).collect();
        self.swarm.behaviour_mut().gate.set_members(peers);
        self.intake.set_members(self.members.iter().map(|member| member.node));
    }

    fn is_done(&self) -> bool {
        let now = self.config.clock.now();
        self.stopping.is_some_and(|at| at <= now || self.links.is_empty())
    }
}

fn core_members(members: &[Member]) -> Vec<detour_core::mesh::Member> {
    let members = members.iter().map(|member| detour_core::mesh::Member {
        node: member.node,
        circle: member.circle,
        addresses: u8::try_from(member.addresses.len()).unwrap_or(u8::MAX),
    });
    members.collect()
}
