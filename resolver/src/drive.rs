//! Drives `detour_core::lookup::Lookup`s: attempts out, outcomes in, until each is done.
//!
//! Decides nothing: what happens becomes an [`Action`], the action becomes an input, outputs become attempts. A lookup is
//! no task: whoever brings it something to work on does its work, so that an answer is on its way to the client before
//! the thread that read it reads the next. One task looks after all their timers, and after changes of the routes.
//!
//! What one lookup does may be news for others: a socket that fails takes all its queries with it. A thread that is at work
//! on one lookup has the others wait for their turn, so that however many fail at once, none is worked on within another.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::Time;
use detour_core::health::Begun;
use detour_core::lookup::{Done, GaveUp, Lookup, Output, Slot, Via, View};
use detour_core::outcome::Signal;
use detour_core::plan::{Plan, plan};
use detour_core::routes::Routes;
use detour_core::{EndpointId, health::Finish};
use parking_lot::Mutex;

use crate::ask::Ask;
use crate::cache::Entry;
use crate::exchange::{Attempt, AttemptEvent, Listener};
use crate::forwarder::Shared;
use crate::generation::Generation;
use crate::inflight::Waiter;
use crate::report::Report;
use crate::wire::Accepted;

/// Things that may wait for a lookup while another thread works on it: sixteen attempts with one outcome, one garbage
/// and three mismatches each, and the table changing meanwhile. More garbage and mismatches are nothing new.
const WAITING_MAX: usize = 96;

/// Lookups that one task has work before others get their turn.
const TURN: usize = 32;

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

/// What there is to work on.
#[derive(Debug)]
enum Action {
    Event(AttemptEvent),
    Routes,
    Timeout,
}

impl Action {
    /// Whether a lookup comes to its end without it too.
    fn is_spare(&self) -> bool {
        matches!(self, Self::Event(event) if matches!(event.signal, Signal::Garbage | Signal::Mismatch))
    }
}

/// A lookup's turn: what it is to work on, if it is not to begin, and when that was.
type Turn = (Arc<Running>, Option<Action>, Time);

thread_local! {
    /// Turns that wait until this thread is done with another; none: it is at work on no lookup. As many as one failure of
    /// a socket or connection ends attempts, and the next ones theirs.
    static TURNS: RefCell<Option<VecDeque<Turn>>> = const { RefCell::new(None) };
}

/// A lookup under way.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    ask: Arc<Ask>,
    /// The expired answer it is to refresh.
    stale: Option<Arc<Entry>>,
    /// Where it is found among those in flight.
    place: u64,
    /// Tells it from earlier ones of the same place.
    number: u64,
    is_over: AtomicBool,
    /// What came while somebody else worked on it, and when.
    waiting: Mutex<Vec<(Action, Time)>>,
    /// Until it is over. Never waited for: who cannot have it leaves word in `waiting`.
    driver: Mutex<Option<Driver>>,
}

impl Listener for Running {
    fn hear(self: Arc<Self>, event: AttemptEvent, now: Time) {
        take_turn((self, Some(Action::Event(event)), now));
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Asks the providers for `waiter`, or has it wait for what somebody else asked.
    pub(crate) fn ask_providers(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        stale: Option<&Arc<Entry>>,
        waiter: Box<dyn Waiter>,
        now: Time,
    ) {
        let number = self.next_number();
        let running = self.inflight.join(ask, waiter, |place| {
            Arc::new(Running {
                shared: Arc::clone(self),
                ask: Arc::clone(ask),
                stale: stale.map(Arc::clone),
                place,
                number,
                is_over: AtomicBool::new(false),
                waiting: Mutex::default(),
                driver: Mutex::default(),
            })
        });
        let Some(running) = running else {
            return;
        };
        tracing::trace!(name = %ask.name, qtype = ask.qtype, "resolving");
        if self.ask_for_pointer(&running, now) {
            return;
        }
        if self.tasks.token().is_cancelled() {
            // Nobody looks after timers any more.
            running.give_up();
        } else {
            take_turn((running, None, now));
        }
    }

    /// Looks after the timers of all lookups, until shutdown; then those left are dropped, and who waits for them helps
    /// itself.
    pub(crate) async fn tend_lookups(self: Arc<Self>) {
        let mut routes = self.generation().watch_routes();
        loop {
            let now = self.clock.now();
            let (due, next) = self.inflight.take_due(now);
            wake(due, &|| Action::Timeout, now).await;
            let all = tokio::select! {
                // Cancel safe: a timer.
                () = tokio::time::sleep(Duration::from_micros(next.since(now))) => false,
                // Cancel safe: it says that the timers are to be looked at, which they are after any of these.
                () = self.inflight.earlier() => false,
                // Cancel safe: the change stays marked as unseen.
                changed = routes.changed() => {
                    if changed.is_err() {
                        // Another generation: those of the old one go on by its last table.
                        tokio::select! {
                            () = self.succeeded.notified() => {}
                            // Cancel safe: the token stays cancelled.
                            () = self.tasks.token().cancelled() => {}
                        }
                        routes = self.generation().watch_routes();
                    }
                    true
                }
                // Cancel safe: the token stays cancelled.
                () = self.tasks.token().cancelled() => break,
            };
            if all {
                wake(self.inflight.all(), &|| Action::Routes, self.clock.now()).await;
            }
        }
        for running in self.inflight.all() {
            running.give_up();
        }
    }
}

/// Gives a lookup its turn: at once, and then all those that wait for theirs by the end of it, or after the one this thread
/// is at work on.
fn take_turn(turn: Turn) {
    /// Whatever happens, this thread is at work on nothing afterwards.
    struct Done;

    impl Drop for Done {
        fn drop(&mut self) {
            TURNS.set(None);
        }
    }

    let first = TURNS.with_borrow_mut(|turns| match turns {
        Some(turns) => {
            turns.push_back(turn);
            None
        }
        None => {
            *turns = Some(VecDeque::new());
            Some(turn)
        }
    });
    let Some(first) = first else {
        return;
    };
    let _done = Done;
    let mut next = Some(first);
    while let Some((running, action, now)) = next {
        running.guarded(action, now);
        next = TURNS.with_borrow_mut(|turns| turns.as_mut().and_then(VecDeque::pop_front));
    }
}

/// Has lookups work, with turns for others in between.
async fn wake(all: Vec<Arc<Running>>, action: &(dyn Fn() -> Action + Sync), now: Time) {
    for (count, running) in all.into_iter().enumerate() {
        take_turn((running, Some(action()), now));
        if count % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
}

impl Running {
    /// What is asked.
    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Works on `action`, or begins; if that panics, it is over without an answer, and nothing else is.
    fn guarded(self: &Arc<Self>, action: Option<Action>, now: Time) {
        let worked = self.shared.tasks.guard(|| match action {
            Some(action) => self.work(Some(action), now),
            None => self.start(now),
        });
        if worked.is_none() {
            if let Some(mut driver) = self.driver.try_lock() {
                *driver = None;
            }
            self.give_up();
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Keeps what it came to, and tells all who wait.
    pub(crate) fn end(&self, outcome: Outcome, now: Time) {
        let resolved = self.shared.keep(&self.ask, self.stale.as_ref(), outcome, now);
        let place = (self.place, self.number);
        self.shared.inflight.finish(place, Some((&resolved, now)));
    }

    /// Ends without an answer: who waits for one helps itself.
    pub(crate) fn give_up(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.shared.inflight.finish((self.place, self.number), None);
    }

    fn start(self: &Arc<Self>, now: Time) {
        let started = Driver::start(self, now);
        *self.driver.lock() = Some(started);
        self.work(None, now);
    }

    /// Works on `action`, or leaves it to the thread that works on others.
    fn work(self: &Arc<Self>, mut action: Option<Action>, now: Time) {
        loop {
            let Some(mut driver) = self.driver.try_lock() else {
                let Some(action) = action.take() else {
                    return;
                };
                let mut waiting = self.waiting.lock();
                if waiting.len() < WAITING_MAX || !action.is_spare() {
                    waiting.push((action, now));
                }
                drop(waiting);
                // Whoever it was may have looked before this was there.
                continue;
            };
            let Some(own) = driver.as_mut() else {
                return;
            };
            let outcome = own.work(self, action.take(), now);
            if let Some(outcome) = outcome {
                let generation = Arc::clone(&own.generation);
                *driver = None;
                drop(driver);
                self.is_over.store(true, Ordering::Relaxed);
                self.shared.conclude(self, &generation, outcome, now);
                return;
            }
            drop(driver);
            if self.waiting.lock().is_empty() {
                return;
            }
        }
    }
}

/// What a lookup under way has.
#[derive(Debug)]
struct Driver {
    /// The one it began with, to its end.
    generation: Arc<Generation>,
    /// The table of its group.
    routes: Arc<Routes>,
    lookup: Lookup,
    /// Endpoint and, once known, beginning of each attempt.
    attempts: Vec<(EndpointId, Option<Begun>)>,
    /// Answers by attempt; at most one of them leaves.
    answers: Vec<(Slot, Accepted)>,
    /// When it will be woken.
    wakes: Time,
}

impl Driver {
    fn start(running: &Running, now: Time) -> Self {
        let shared = &running.shared;
        let generation = shared.generation();
        // A reload a moment ago may have taken the group away. Then nobody is asked: the public group least of all.
        let own = generation.routes_of(running.ask.group);
        let has_group = own.is_some();
        let routes = own.unwrap_or_else(|| generation.routes());
        let question = running.ask.for_plan(running.number);
        let positive_known = running.stale.as_ref().is_some_and(|entry| entry.is_positive());
        let lookup = {
            let mut usage = generation.usage.lock();
            let plan = if has_group {
                plan(&routes, &mut usage, question, now, &mut |_, _| {})
            } else {
                Plan::default()
            };
            let mut view = View {
                routes: &routes,
                usage: &mut usage,
                heard: &*generation.exchanges,
            };
            Lookup::start(plan, positive_known, now, &mut view)
        };
        Self {
            generation,
            routes,
            lookup,
            attempts: Vec::new(),
            answers: Vec::new(),
            wakes: Time::FAR,
        }
    }

    /// Works on what there is; the outcome once it is done.
    fn work(&mut self, running: &Arc<Running>, action: Option<Action>, now: Time) -> Option<Outcome> {
        let mut actions: Vec<(Action, Time)> = Vec::new();
        if let Some(action) = action {
            self.apply(running, action, now);
        }
        loop {
            if let Some(outcome) = self.carry_out(running, now) {
                return Some(outcome);
            }
            std::mem::swap(&mut actions, &mut *running.waiting.lock());
            if actions.is_empty() {
                break;
            }
            for (action, at) in actions.drain(..) {
                // A timer that another thread found due is due: by this one's time it may lie ahead.
                self.apply(running, action, now.max(at));
            }
        }
        let due = self.lookup.poll_timeout().map_or(Time::FAR, |(at, _)| at);
        if due < self.wakes {
            self.wakes = due;
            running.shared.inflight.wake_at(due, running.place, running.number);
        }
        None
    }

    /// Does what the lookup wants; the outcome once it is done.
    fn carry_out(&mut self, running: &Arc<Running>, now: Time) -> Option<Outcome> {
        let shared = &running.shared;
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
                        id: shared.next_attempt(),
                        purpose: why.purpose(),
                        ask: Arc::clone(&running.ask),
                        slot,
                        reply_to: Some(Arc::<Running>::clone(running)),
                        without_edns: via == Via::NoEdns,
                        made: now,
                        via,
                    };
                    self.generation.exchanges.begin(endpoint, attempt);
                }
                Output::Disagreed { slot, endpoint, rcode } => {
                    if let Some(begun) = self.begun(slot) {
                        let domain = running.ask.domain;
                        self.generation
                            .reporter
                            .send(Report::Disagreed(endpoint, begun, domain, rcode));
                    }
                }
                Output::Mismatched { slot, endpoint } => {
                    if let Some(begun) = self.begun(slot) {
                        let finish = Finish::Mismatched;
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

    fn apply(&mut self, running: &Running, action: Action, now: Time) {
        if matches!(action, Action::Routes) {
            let own = self.generation.routes_of(running.ask.group);
            self.routes = own.unwrap_or_else(|| Arc::clone(&self.routes));
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
            Action::Timeout => {
                if now >= self.wakes {
                    self.wakes = Time::FAR;
                }
                self.lookup.handle_timeout(now, &mut view);
            }
        }
    }
}
