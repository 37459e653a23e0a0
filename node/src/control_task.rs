//! Owns the control plane: feeds it what the data plane reports, carries out what it wants.
//!
//! `select` turns readiness into an [`Action`]; `apply` is the whole rest and never waits. If this task falls behind,
//! reports are dropped and counted at their queue; queries never wait for it.

mod events;

use std::sync::Arc;
use std::time::Duration;

use detour_core::control::{Control, Event, Output};
use detour_core::health::state::State;
use detour_core::network;
use detour_core::routes::Routes;
use detour_core::{Clock, EndpointId, Time};
use detour_mesh::News;
use detour_resolver::forwarder::{Parts, Shared};
use detour_resolver::report::{Report, Reporter};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Sleeps;
use crate::clock_wrong;
use crate::config::{has_resolver_of_network, is_designated};
use crate::ddr::{Notice, NoticeSender};
use crate::learned::LearnedKeeper;
use crate::mesh::MeshLink;
use crate::metrics::ControlMetrics;
use crate::names::{Change, Heard, NamesKeeper};
use crate::network::NetworkWatch;
use crate::planes::Plan;
use crate::store::Entry;

/// Reports applied per wake-up, so that timers get their turn under load.
const BATCH: usize = 256;
/// Rest after reports: a busy node has some for every query, and waking for each costs more than what it says. Nothing
/// here is decided by a difference of two milliseconds.
const REST_US: u64 = 2_000;

/// Why the task woke up.
enum Action {
    /// Reports are in the batch.
    Reports,
    /// The control plane asked to be woken, or what was learned is to be kept.
    Timeout,
    /// The network is to be looked at.
    Network,
    /// Another configuration.
    Succeed(Box<Succession>),
    /// What an earlier process learned is there.
    Learned(Vec<Entry>),
    /// Host names of endpoints.
    Names(Box<Heard>),
    /// The mesh runs from here on.
    Joined(Box<MeshLink>),
    /// A peer says something.
    News(Box<News>),
    /// Shutdown.
    Stop,
}

/// Another configuration, as control and data plane need it.
#[derive(Debug)]
pub(crate) struct Succession {
    pub(crate) plan: Plan,
    /// Told when queries are served by it.
    pub(crate) done: oneshot::Sender<()>,
}

/// The control plane and its surroundings.
#[derive(Debug)]
pub(crate) struct ControlTask {
    pub(crate) control: Control,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) routes: watch::Sender<Arc<Routes>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: ControlMetrics,
    pub(crate) network: NetworkWatch,
    pub(crate) designations: NoticeSender,
    /// Told when this machine may be in another network than before.
    pub(crate) elsewhere: Arc<Notify>,
    pub(crate) names: NamesKeeper,
    pub(crate) sleeps: Sleeps,
    pub(crate) successions: mpsc::Receiver<Succession>,
    pub(crate) learned: LearnedKeeper,
    /// Where the mesh's side comes from once it runs.
    pub(crate) links: mpsc::Receiver<MeshLink>,
    pub(crate) mesh: Option<MeshLink>,
    pub(crate) token: CancellationToken,
    /// Until when reports wait; zero at the start.
    pub(crate) rests_until: Time,
}

impl ControlTask {
    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        self.control.handle_start(self.clock.now());
        self.drain();
        loop {
            let action = self.select(&mut batch).await;
            if matches!(action, Action::Stop) {
                self.learned.keep(&self.control, &*self.clock);
                return;
            }
            self.apply(action, &mut batch);
        }
    }

    async fn select(&mut self, batch: &mut Vec<Report>) -> Action {
        let now = self.clock.now();
        let due = self.control.poll_timeout(now).map_or(Time::FAR, |(at, _why)| at);
        let due = self.learned.due().map_or(due, |at| at.min(due));
        let owed = self.mesh.as_ref().and_then(MeshLink::due);
        let due = owed.map_or(due, |at| at.min(due));
        let (reports, rest_us) = (&mut self.reports, self.rests_until.since(now));
        let reported = async {
            if rest_us > 0 {
                tokio::time::sleep(Duration::from_micros(rest_us)).await;
            }
            reports.recv_many(batch, BATCH).await
        };
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.token.cancelled() => Action::Stop,
            // Cancel safe: a timer, and recv_many takes messages only when it completes.
            count = reported => if count == 0 { Action::Stop } else { Action::Reports },
            // Cancel safe: recv of a channel. Without a sender nothing comes any more, and nothing need.
            Some(succession) = self.successions.recv() => Action::Succeed(Box::new(succession)),
            // Cancel safe: as above.
            Some(link) = self.links.recv() => Action::Joined(Box::new(link)),
            // Cancel safe: as above.
            news = MeshLink::next(&mut self.mesh) => Action::News(Box::new(news)),
            // Cancel safe: what arrives stays until it was taken.
            entries = self.learned.arrived() => Action::Learned(entries),
            // Cancel safe: a timer, or what stays in its socket.
            () = self.network.wait(now) => Action::Network,
            // Cancel safe: as above.
            heard = self.names.wait(now) => Action::Names(Box::new(heard)),
            // Cancel safe: a timer.
            () = tokio::time::sleep(Duration::from_micros(due.since(now))) => Action::Timeout,
        }
    }

    fn apply(&mut self, action: Action, batch: &mut Vec<Report>) {
        let asked = self.reporter.last_client();
        if asked > Time::ZERO {
            self.control.note_client(asked);
        }
        let now = self.clock.now();
        self.control.handle_gap(self.sleeps.take_us(now), now);
        self.control.handle_release(clock_wrong::before_release_s(), now);
        self.drain();
        // What a peer says changes nothing that this node says of endpoints.
        let is_own = !matches!(action, Action::News(_));
        match action {
            Action::Reports => {
                if batch.len() < BATCH {
                    self.rests_until = now.plus(REST_US);
                }
                for report in batch.drain(..) {
                    self.take(report, now);
                }
            }
            Action::Timeout => self.control.handle_timeout(self.clock.now()),
            Action::Network => self.look_at_network(),
            Action::Names(heard) => {
                let changes = self.names.take(*heard, &*self.clock);
                self.move_endpoints(changes);
            }
            Action::Succeed(succession) => self.succeed(*succession),
            Action::Learned(entries) => self.learned.restore(&entries, &mut self.control, &*self.clock),
            Action::Joined(link) => {
                self.mesh = Some(*link);
                self.tell_peers();
            }
            Action::News(news) => {
                if let Some(mesh) = &self.mesh {
                    mesh.take(*news, &mut self.control, self.clock.now());
                }
            }
            Action::Stop => {}
        }
        self.drain();
        if let Some(mesh) = self.mesh.as_mut().filter(|_| is_own) {
            // Not with new tables only: a probe that fails once more changes none, and keeps this node's word alive.
            mesh.tell_times(&self.control, self.clock.now());
        }
        self.learned.look(&self.control, &*self.clock);
    }

    /// Tells control and data plane what became of the ways to endpoints.
    pub(crate) fn look_at_network(&mut self) {
        let now = self.clock.now();
        for output in self.network.look(now) {
            match output {
                network::Output::NewWay(endpoints) => {
                    tracing::info!(endpoints = endpoints.len(), "the way to endpoints changed");
                    self.metrics.count_new_ways(&endpoints);
                    let changes = self.note_new_network(&endpoints);
                    self.move_endpoints(changes);
                    self.control.handle_new_path(&endpoints, now);
                    self.shared.renew(&endpoints);
                }
                network::Output::Unrouted(endpoints) => self.control.handle_unrouted(&endpoints, now),
                network::Output::Routed(endpoints) => self.control.handle_routed(&endpoints, now),
            }
            self.drain();
        }
    }

    /// What could not be found out may be, by now; and where the way to these leads may be another network.
    fn note_new_network(&mut self, endpoints: &[EndpointId]) -> Vec<Change> {
        if has_resolver_of_network(&self.control.routes().topology, endpoints) {
            self.elsewhere.notify_one();
        }
        // Where that is full it has been told already.
        drop(self.designations.try_send(Notice::Network));
        self.names.note_new_network(self.clock.now())
    }

    /// A designated endpoint that fails may be another one by now.
    fn tell_if_designated(&self, endpoint: EndpointId, to: State) {
        let topology = &self.control.routes().topology;
        let failed = topology.endpoint(endpoint).filter(|_| !to.is_usable());
        if let Some(failed) = failed.filter(|failed| is_designated(&failed.label)) {
            drop(self.designations.try_send(Notice::Failed(failed.label.clone())));
        }
    }

    /// Tells control and data plane what became of endpoints with host names.
    pub(crate) fn move_endpoints(&mut self, changes: Vec<Change>) {
        let now = self.clock.now();
        for change in changes {
            match change {
                Change::Unresolved(endpoints) => self.control.handle_unresolved(&endpoints, now),
                Change::Resolved(endpoints) => {
                    // What is under way goes on where it is; what comes goes to the new place.
                    self.shared.renew(&endpoints);
                    self.control.handle_resolved(&endpoints, now);
                }
                Change::Elsewhere(endpoint) => self.shared.renew(&[endpoint]),
            }
            self.network.note_moved(now);
        }
    }

    fn take(&mut self, report: Report, now: Time) {
        match report {
            Report::Begun(endpoint, begun) => self.control.handle_begun(endpoint, begun, now),
            Report::Finished(endpoint, begun, finish, at) => {
                self.control.handle_finished(endpoint, begun, finish, at);
            }
            Report::Disagreed(endpoint, begun, domain, rcode) => {
                self.control.handle_disagreed(endpoint, begun, domain, rcode, now);
            }
            Report::Garbage(endpoint) => self.control.handle_garbage(endpoint, now),
            Report::Slow(endpoint) => self.control.handle_slow(endpoint, now),
            Report::Certificate(endpoint, certificate) => {
                self.control.handle_certificate(endpoint, certificate, now);
            }
        }
        self.drain();
    }

    /// Puts another configuration in force: health first, then what queries are served by.
    fn succeed(&mut self, succession: Succession) {
        let Succession { plan, done } = succession;
        let Plan {
            topology,
            mut remotes,
            bootstrap,
            routes,
            mesh,
            settings,
        } = plan;
        let older = Arc::clone(&self.control.routes().topology);
        if !topology.numbers_endpoints_like(&older) {
            // What was told so far still counts; what is told from here on under the old numbers goes to nobody.
            let now = self.clock.now();
            for _ in 0..self.reports.len() {
                if let Ok(report) = self.reports.try_recv() {
                    self.take(report, now);
                }
            }
            let (reporter, reports) = self.reporter.renumbered();
            (self.reporter, self.reports) = (Arc::new(reporter), reports);
        }
        self.control
            .handle_configuration(Arc::clone(&topology), routes, self.clock.now());
        // Without a mesh it has nothing to say and there is nothing to tell.
        self.control.handle_mesh(mesh, self.clock.now());
        self.names.adopt(&mut remotes, &topology);
        let addresses = remotes.iter().map(|remote| remote.addresses.clone()).collect();
        let known = topology.endpoints_known_from(&older);
        self.network.follow(addresses, &known, self.clock.now());
        if *topology != *older {
            // Lookups under way go on by the last table of the providers they began with.
            (self.routes, _) = watch::channel(Arc::clone(self.control.routes()));
            self.learned.ask_again();
        }
        let moved = self.names.follow(&remotes, &topology, bootstrap, self.clock.now());
        let parts = Parts {
            clock: Arc::clone(&self.clock),
            tasks: self.shared.tasks().clone(),
            routes: self.routes.subscribe(),
            reporter: Arc::clone(&self.reporter),
            remotes,
        };
        self.shared.succeed(&settings, &parts);
        self.move_endpoints(moved);
        self.metrics.follow(&topology);
        self.drain();
        self.tell_peers();
        if done.send(()).is_err() {
            tracing::debug!("nobody waits for the configuration any more");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            self.carry_out(output);
        }
    }

    /// Does what the control plane wants.
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Probe { id, endpoint, why } => {
                self.metrics.count_probe(endpoint, why);
                self.shared.probe(endpoint, id);
            }
            Output::RoutesChanged => {
                self.shared.note_routes(self.control.routes());
                // Readers that are gone need no table.
                drop(self.routes.send_replace(Arc::clone(self.control.routes())));
            }
            Output::OwnReport => self.tell_peers(),
            Output::Event(event) => self.tell(&event),
        }
    }

    /// Says to peers what this node sees, as it changed.
    fn tell_peers(&mut self) {
        if let Some(mesh) = &mut self.mesh {
            mesh.tell(&self.control, self.clock.now());
        }
    }

    /// Something happened that an operator cares about.
    fn tell(&mut self, event: &Event) {
        self.metrics.count_event(event);
        let changes = match event {
            Event::Resumed { .. } => {
                let all: Vec<EndpointId> = self.control.routes().topology.endpoint_ids().collect();
                self.shared.renew(&all);
                self.note_new_network(&all)
            }
            Event::StateChanged {
                endpoint, to, cause, ..
            } => {
                self.tell_if_designated(*endpoint, *to);
                self.names.note_state(*endpoint, *to, *cause, self.clock.now())
            }
            Event::PlaceChanged { .. }
            | Event::Claimed { .. }
            | Event::ClaimDecided { .. }
            | Event::UplinkSuspect(_)
            | Event::UplinkReturned(_)
            | Event::NothingUp(_)
            | Event::SomethingUp(_)
            | Event::InTheClear(_)
            | Event::EncryptedAgain(_)
            | Event::ClockWrong(_)
            | Event::ClockRight => Vec::new(),
        };
        self.move_endpoints(changes);
        if events::is_return(event) {
            self.shared.forget_failures();
        }
        events::log(event, self.clock.now(), &self.control.routes().topology);
    }
}
