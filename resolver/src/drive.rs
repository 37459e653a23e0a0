//! Drives one `detour_core::lookup::Lookup`: attempts out, outcomes in, until it is done.
//!
//! Decides nothing: readiness becomes an [`Action`], the action becomes an input, outputs become attempts.

use std::sync::Arc;
use std::time::Duration;

use detour_core::health::Begun;
use detour_core::lookup::{Done, GaveUp, Lookup, Output, Slot, Via, View};
use detour_core::plan::plan;
use detour_core::routes::Routes;
use detour_core::{EndpointId, Time};
use tokio::sync::{mpsc, watch};

use crate::ask::Ask;
use crate::exchange::{Attempt, AttemptEvent};
use crate::forwarder::Shared;
use crate::generation::Generation;
use crate::report::Report;
use crate::wire::Accepted;

/// Events of one lookup that may wait: sixteen attempts with one outcome, one garbage and three mismatches each.
const EVENTS: usize = 80;

/// How a question ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer for the client and the cache.
    Answer(Accepted),
    /// A failure the providers agree on.
    Agreed(Accepted),
    /// Nobody answered.
    GaveUp(GaveUp),
}

/// Why the driver woke up.
enum Action {
    Event(AttemptEvent),
    Routes,
    Timeout,
}

/// Asks the providers.
pub(crate) async fn drive(shared: &Shared, ask: &Arc<Ask>, positive_known: bool) -> Outcome {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut driver = Driver::start(shared, ask, positive_known, sender);
    loop {
        if let Some(outcome) = driver.carry_out() {
            return outcome;
        }
        let action = driver.select(&mut events).await;
        driver.apply(action);
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    /// The one it began with, to its end.
    generation: Arc<Generation>,
    ask: &'a Arc<Ask>,
    changes: watch::Receiver<Arc<Routes>>,
    routes: Arc<Routes>,
    lookup: Lookup,
    sender: mpsc::Sender<AttemptEvent>,
    /// Endpoint and, once known, beginning of each attempt.
    attempts: Vec<(EndpointId, Option<Begun>)>,
    /// Answers by attempt; at most one of them leaves.
    answers: Vec<(Slot, Accepted)>,
}

impl<'a> Driver<'a> {
    fn start(shared: &'a Shared, ask: &'a Arc<Ask>, positive_known: bool, sender: mpsc::Sender<AttemptEvent>) -> Self {
        let generation = shared.generation();
        let mut changes = generation.routes.clone();
        let routes = Arc::clone(&changes.borrow_and_update());
        let now = shared.clock.now();
        let question = ask.for_plan(shared.next_number());
        let lookup = {
            let mut usage = generation.usage.lock();
            let plan = plan(&routes, &mut usage, question, now, &mut |_, _| {});
            let mut view = View {
                routes: &routes,
                usage: &mut usage,
                heard: &*generation.exchanges,
            };
            Lookup::start(plan, positive_known, now, &mut view)
        };
        Self {
            shared,
            generation,
            ask,
            changes,
            routes,
            lookup,
            sender,
            attempts: Vec::with_capacity(4),
            answers: Vec::new(),
        }
    }

    /// Does what the lookup wants; the outcome once it is done.
    fn carry_out(&mut self) -> Option<Outcome> {
        while let Some(output) = self.lookup.poll_output() {
            match output {
                Output::Begin {
                    slot,
                    endpoint,
                    via,
                    why,
                } => {
                    self.generation.counters.count_attempt(endpoint, why);
                    debug_assert_eq!(slot, self.attempts.len(), "slots count up");
                    self.attempts.push((endpoint, None));
                    let attempt = Attempt {
                        id: self.shared.next_attempt(),
                        purpose: why.purpose(),
                        ask: Arc::clone(self.ask),
                        slot,
                        reply_to: self.sender.clone(),
                        without_edns: via == Via::NoEdns,
                        made: self.shared.clock.now(),
                        via,
                    };
                    self.generation.exchanges.begin(endpoint, attempt);
                }
                Output::Disagreed { slot, endpoint, rcode } => {
                    if let Some(begun) = self.begun(slot) {
                        self.generation
                            .reporter
                            .send(Report::Disagreed(endpoint, begun, self.ask.domain, rcode));
                    }
                }
                Output::Mismatched { slot, endpoint } => {
                    if let Some(begun) = self.begun(slot) {
                        let now = self.shared.clock.now();
                        let finish = detour_core::health::Finish::Mismatched;
                        self.generation
                            .reporter
                            .send(Report::Finished(endpoint, begun, finish, now));
                    }
                }
                Output::Done(done) => return Some(self.outcome(done)),
            }
        }
        None
    }

    fn begun(&self, slot: Slot) -> Option<Begun> {
        self.attempts.get(slot).and_then(|(_, begun)| *begun)
    }

    fn outcome(&mut self, done: Done) -> Outcome {
        let mut take = |slot: Slot| {
            let index = self.answers.iter().position(|(own, _)| *own == slot)?;
            Some(self.answers.swap_remove(index).1)
        };
        match done {
            Done::Answer(slot) => take(slot).map_or(Outcome::GaveUp(GaveUp::NoAnswer), Outcome::Answer),
            Done::Agreed(slot) => take(slot).map_or(Outcome::GaveUp(GaveUp::NoAnswer), Outcome::Agreed),
            Done::GaveUp(why) => Outcome::GaveUp(why),
        }
    }

    async fn select(&mut self, events: &mut mpsc::Receiver<AttemptEvent>) -> Action {
        let now = self.shared.clock.now();
        let due = self.lookup.poll_timeout().map_or(Time::FAR, |(at, _)| at);
        tokio::select! {
            biased;
            // Cancel safe: recv of a channel. The driver holds a sender, so it never ends.
            Some(event) = events.recv() => Action::Event(event),
            // Cancel safe: the change stays marked as unseen. After a reload nobody changes this generation's routes.
            Ok(()) = self.changes.changed() => Action::Routes,
            // Cancel safe: a timer.
            () = tokio::time::sleep(Duration::from_micros(due.since(now))) => Action::Timeout,
        }
    }

    fn apply(&mut self, action: Action) {
        let now = self.shared.clock.now();
        if matches!(action, Action::Routes) {
            self.routes = Arc::clone(&self.changes.borrow_and_update());
        }
        let mut usage = self.generation.usage.lock();
        let mut view = View {
            routes: &self.routes,
            usage: &mut usage,
            heard: &*self.generation.exchanges,
        };
        match action {
            Action::Event(event) => {
                if let Some((endpoint, begun)) = self.attempts.get_mut(event.slot) {
                    *begun = Some(event.begun);
                    self.generation.counters.count_signal(*endpoint, event.signal);
                }
                if let Some(accepted) = event.accepted {
                    self.answers.push((event.slot, accepted));
                }
                self.lookup.handle_signal(event.slot, event.signal, now, &mut view);
            }
            Action::Routes => self.lookup.handle_routes(now, &mut view),
            Action::Timeout => self.lookup.handle_timeout(now, &mut view),
        }
    }
}
