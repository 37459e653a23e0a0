//! Owns the control plane: feeds it what the data plane reports, carries out what it wants.
//!
//! `select` turns readiness into an [`Action`]; `apply` is the whole rest and never waits. If this task falls behind,
//! reports are dropped and counted at their queue; queries never wait for it.

use std::sync::Arc;
use std::time::Duration;

use detour_core::control::{Control, Event, Output};
use detour_core::health::state::State;
use detour_core::routes::Routes;
use detour_core::{Clock, EndpointId, Time};
use detour_resolver::forwarder::Shared;
use detour_resolver::report::{Report, Reporter};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::learned::LearnedKeeper;
use crate::metrics::ControlMetrics;
use crate::store::Entry;

/// Reports applied per wake-up, so that timers get their turn under load.
const BATCH: usize = 256;

/// Why the task woke up.
enum Action {
    /// Reports are in the batch.
    Reports,
    /// The control plane asked to be woken, or what was learned is to be kept.
    Timeout,
    /// What an earlier process learned is there.
    Learned(Vec<Entry>),
    /// Shutdown.
    Stop,
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
    pub(crate) learned: LearnedKeeper,
    pub(crate) token: CancellationToken,
}

impl ControlTask {
    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let action = self.select(&mut batch).await;
            if matches!(action, Action::Stop) {
                self.learned.keep(&self.control, &*self.clock);
                return;
            }
            self.apply(&action, &mut batch);
        }
    }

    async fn select(&mut self, batch: &mut Vec<Report>) -> Action {
        let now = self.clock.now();
        let due = self.control.poll_timeout(now).map_or(Time::FAR, |(at, _why)| at);
        let due = self.learned.due().map_or(due, |at| at.min(due));
        tokio::select! {
            // Cancel safe: the token stays cancelled.
            () = self.token.cancelled() => Action::Stop,
            // Cancel safe: recv_many takes messages only when it completes.
            count = self.reports.recv_many(batch, BATCH) => if count == 0 { Action::Stop } else { Action::Reports },
            // Cancel safe: what arrives stays until it was taken.
            entries = self.learned.arrived() => Action::Learned(entries),
            // Cancel safe: a timer.
            () = tokio::time::sleep(Duration::from_micros(due.since(now))) => Action::Timeout,
        }
    }

    fn apply(&mut self, action: &Action, batch: &mut Vec<Report>) {
        let asked = self.reporter.last_client();
        if asked > Time::ZERO {
            self.control.note_client(asked);
        }
        match action {
            Action::Reports => {
                for report in batch.drain(..) {
                    let now = self.clock.now();
                    match report {
                        Report::Begun(endpoint, begun) => self.control.handle_begun(endpoint, begun, now),
                        Report::Finished(endpoint, begun, finish, at) => {
                            self.control.handle_finished(endpoint, begun, finish, at);
                        }
                        Report::Disagreed(endpoint, begun, domain, rcode) => {
                            self.control.handle_disagreed(endpoint, begun, domain, rcode, now);
                        }
                        Report::Garbage(endpoint) => self.control.handle_garbage(endpoint, now),
                    }
                    drain(&mut self.control, &self.shared, &self.routes, &self.metrics);
                }
            }
            Action::Timeout => self.control.handle_timeout(self.clock.now()),
            Action::Learned(entries) => self.learned.restore(entries, &mut self.control, &*self.clock),
            Action::Stop => {}
        }
        drain(&mut self.control, &self.shared, &self.routes, &self.metrics);
        self.learned.look(&self.control, &*self.clock);
    }
}

/// Carries out everything the control plane wants.
fn drain(control: &mut Control, shared: &Shared, routes: &watch::Sender<Arc<Routes>>, metrics: &ControlMetrics) {
    while let Some(output) = control.poll_output() {
        match output {
            Output::Probe { id, endpoint, why } => {
                metrics.count_probe(endpoint, why);
                shared.probe(endpoint, id);
            }
            Output::RoutesChanged => {
                // Readers that are gone need no table.
                drop(routes.send_replace(Arc::clone(control.routes())));
            }
            Output::Event(event) => {
                let label = |endpoint: EndpointId| {
                    let topology = &control.routes().topology;
                    topology.endpoint(endpoint).map_or("?", |e| e.label.as_str()).to_owned()
                };
                metrics.count_event(&event);
                if is_return(&event) {
                    shared.forget_failures();
                }
                log(&event, label);
            }
        }
    }
}

/// Whether something answers that did not: remembered failures may be wrong from here on.
fn is_return(event: &Event) -> bool {
    match event {
        Event::StateChanged { from, to, .. } => !from.is_usable() && to.is_usable(),
        Event::UplinkReturned(_) | Event::SomethingUp | Event::Resumed { .. } => true,
        Event::PlaceChanged { .. } | Event::UplinkSuspect(_) | Event::NothingUp => false,
    }
}

/// One line per event: what an operator cares about at info, what needs somebody at warn.
fn log(event: &Event, label: impl Fn(EndpointId) -> String) {
    match *event {
        Event::StateChanged {
            endpoint,
            from,
            to,
            cause,
        } => {
            let endpoint = label(endpoint);
            let (from, to, cause) = (from.word(), to.word(), cause.word());
            if to == State::Down.word() {
                tracing::warn!(%endpoint, from, to, cause, "endpoint state changed");
            } else if from == State::Unknown.word() {
                tracing::debug!(%endpoint, from, to, cause, "endpoint state changed");
            } else {
                tracing::info!(%endpoint, from, to, cause, "endpoint state changed");
            }
        }
        Event::PlaceChanged { endpoint, from, to } => {
            let endpoint = label(endpoint);
            let (place, from, why) = (to.place().word(), from.word(), to.word());
            tracing::info!(%endpoint, place, from, why, "endpoint place changed");
        }
        Event::UplinkSuspect(path) => {
            tracing::warn!(%path, "no provider answers on this path: the uplink is suspect, nobody is condemned");
        }
        Event::UplinkReturned(path) => tracing::info!(%path, "providers answer on this path again"),
        Event::Resumed { gap_us } => {
            tracing::info!(gap_ms = gap_us / 1_000, "the machine slept: paths are judged anew");
        }
        Event::NothingUp => tracing::warn!("no endpoint is usable: stale answers are served at once"),
        Event::SomethingUp => tracing::info!("an endpoint is usable again"),
    }
}
