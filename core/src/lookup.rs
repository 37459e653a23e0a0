//! One question on its way to an answer: first attempt, hedges, retries, deadline.
//!
//! Carries out a [`Plan`] by the outcome table. What an attempt says decides what happens next: a good answer
//! ends the lookup, a bad rcode asks the next provider at once, silence asks it when the answer is overdue. An
//! attempt once begun is never called back: its outcome still teaches health, and the first good answer wins.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::health::Purpose;
use crate::health::latency::{OVERDUE_US_MAX, OVERDUE_US_MIN};
use crate::outcome::{Failure, Rcode, Reply, Signal};
use crate::plan::{Plan, STEPS_MAX, Step};
use crate::routes::{EndpointRoute, Place, PlaceWhy, Routes};
use crate::time::{MS, SEC, Time};
use crate::topology::{EndpointId, ProviderId};
use crate::usage::Usage;

/// An answer later than this is none: stub resolvers give up after 5 s.
const DEADLINE_US: u64 = 4 * SEC;
/// The deadline once nothing is up: then only luck helps, and the client had better hear.
const DEADLINE_NOTHING_UP_US: u64 = 2 * SEC;
/// How long a doubtful denial waits for another provider's positive answer.
const DENIAL_WAIT_US: u64 = 200 * MS;
/// When a stream beside UDP counts as failed, connecting included.
const STREAM_TIMEOUT_US: u64 = SEC;
/// When an answer is overdue from an endpoint that has answered younger questions, if its 98th percentile lies beyond
/// the cap: most answers due between 200 ms and here come by themselves, and the budget is for the others.
const ALIVE_HEDGE_US: u64 = 240 * MS;
/// Most attempts of one lookup: every step, and the same endpoint once more without EDNS or over a stream.
const SLOTS_MAX: usize = STEPS_MAX * 2;

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By its own transport.
    Own,
    /// Over TCP beside a UDP endpoint: after TC, to settle a mismatch, or to confirm what could have been forged.
    Stream,
    /// By its own transport, without EDNS.
    NoEdns,
}

/// Why an attempt is made; the extra ones are counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The first choice.
    First,
    /// The second of a pair.
    Pair,
    /// The first is overdue.
    Hedge,
    /// The first became suspect while it was asked.
    HedgeSuspect,
    /// The one before failed.
    Retry,
    /// A denial without proof, or against a positive answer known: does another provider know better?
    Confirm,
    /// A validator said no: does another one agree?
    Validate,
    /// The answer was truncated.
    Truncated,
    /// A wrong answer came: ask over a stream.
    Mismatch,
    /// The answer could have been forged: ask over a stream.
    Forgeable,
    /// The endpoint does not speak EDNS.
    WithoutEdns,
}

impl Why {
    /// All, for metrics.
    pub const ALL: [Self; 11] = [
        Self::First,
        Self::Pair,
        Self::Hedge,
        Self::HedgeSuspect,
        Self::Retry,
        Self::Confirm,
        Self::Validate,
        Self::Truncated,
        Self::Mismatch,
        Self::Forgeable,
        Self::WithoutEdns,
    ];

    /// What health makes of an attempt begun for this.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::First | Self::Pair => Purpose::Client,
            Self::Hedge
            | Self::HedgeSuspect
            | Self::Retry
            | Self::Confirm
            | Self::Validate
            | Self::Truncated
            | Self::Mismatch
            | Self::Forgeable
            | Self::WithoutEdns => Purpose::Backup,
        }
    }

    /// The word for log and metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Pair => "pair",
            Self::Hedge => "hedge",
            Self::HedgeSuspect => "hedge-suspect",
            Self::Retry => "retry",
            Self::Confirm => "confirm",
            Self::Validate => "validate",
            Self::Truncated => "truncated",
            Self::Mismatch => "mismatch",
            Self::Forgeable => "forgeable",
            Self::WithoutEdns => "without-edns",
        }
    }
}

/// Which attempt of a lookup; an index.
pub type Slot = usize;

/// What the shell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Ask this endpoint.
    Begin {
        /// The attempt.
        slot: Slot,
        /// Whom.
        endpoint: EndpointId,
        /// How.
        via: Via,
        /// What for.
        why: Why,
    },
    /// This endpoint failed a question that another provider answered well: tell health.
    Disagreed {
        /// The attempt.
        slot: Slot,
        /// Who failed.
        endpoint: EndpointId,
        /// What it said.
        rcode: Rcode,
    },
    /// The stream answered what the datagram of this attempt got wrong: tell health.
    Mismatched {
        /// The attempt over UDP.
        slot: Slot,
        /// Whose datagram.
        endpoint: EndpointId,
    },
    /// The lookup is over.
    Done(Done),
}

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The answer of this attempt goes to the client and into the cache.
    Answer(Slot),
    /// All providers asked agree on this failure; the answer of this attempt goes to the client.
    Agreed(Slot),
    /// Nobody answered.
    GaveUp(GaveUp),
}

/// Why nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// Providers were asked and stayed silent: EDE 22.
    NoAnswer,
    /// The network refused every attempt: EDE 23.
    Network,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No final word yet.
    Waiting,
    /// Answered, but the lookup goes on.
    Answered(Reply),
    /// Nothing more will come.
    Failed(Failure),
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    /// Who is asked.
    endpoint: EndpointId,
    /// Whose it is.
    provider: ProviderId,
    /// How.
    via: Via,
    /// What for.
    why: Why,
    /// When the shell was told to begin.
    begun: Time,
    /// When its answer is overdue.
    overdue: Time,
    /// When it counts as failed.
    timeout: Time,
    /// Another attempt was begun because of this one.
    backed: bool,
    /// A stream is settling a mismatch of this one.
    raced: bool,
    /// The attempt whose mismatch this one settles.
    settles: Option<Slot>,
    /// Its outcome.
    standing: Standing,
}

impl Attempt {
    /// Whether an answer is still expected, and nobody else was asked in its place.
    fn is_hopeful(&self) -> bool {
        self.standing == Standing::Waiting && !self.backed
    }
}

/// What a lookup reads besides its own state.
#[derive(Debug)]
pub struct View<'a> {
    /// The current table.
    pub routes: &'a Routes,
    /// Budget and rates.
    pub usage: &'a mut Usage,
    /// Which endpoints were heard lately.
    pub heard: &'a dyn Heard,
}

/// Which endpoints were heard lately.
pub trait Heard: core::fmt::Debug {
    /// When the newest attempt began that this endpoint answered; the time of arrival for what belongs to no attempt.
    /// Not when the answer came: an endpoint that turned slow still sends what it was asked before.
    fn last_heard(&self, endpoint: EndpointId) -> Time;

    /// How long an attempt begun now waits before its query can be written, microseconds: 0 where a connection stands or
    /// none is needed, else what connecting took lately.
    fn connect_us(&self, endpoint: EndpointId) -> u64;
}

/// One question in flight.
#[derive(Debug)]
pub struct Lookup {
    /// The plan being carried out.
    plan: Plan,
    /// Steps of it already used.
    used: usize,
    /// Steps that may not be asked as long as something encrypted may answer.
    barred: Vec<Step>,
    /// When the client's question came.
    started: Time,
    /// When the lookup gives up.
    deadline: Time,
    /// A positive answer to this question is known, if stale: a denial is doubtful.
    positive_known: bool,
    /// Attempts made.
    attempts: Vec<Attempt>,
    /// A doubtful denial, and until when a better answer is waited for.
    held: Option<(Slot, Time)>,
    /// Outputs not yet taken.
    outputs: VecDeque<Output>,
    /// Over.
    done: bool,
}

impl Lookup {
    /// Starts carrying out `plan`; the first outputs are ready.
    #[must_use]
    pub fn start(plan: Plan, positive_known: bool, now: Time, view: &mut View<'_>) -> Self {
        let mut lookup = Self {
            plan,
            used: 0,
            barred: Vec::new(),
            started: now,
            deadline: now.plus(DEADLINE_US),
            positive_known,
            attempts: Vec::with_capacity(4),
            held: None,
            outputs: VecDeque::new(),
            done: false,
        };
        lookup.read_deadline(view.routes);
        if let Some(step) = lookup.plan.steps.first() {
            view.usage.count_first_choice(step.provider, now);
        }
        lookup.begin_next(Why::First, now, view);
        if lookup.plan.pair {
            lookup.begin_next(Why::Pair, now, view);
        }
        lookup.conclude(now, view);
        lookup
    }

    /// Something came back from an attempt.
    pub fn handle_signal(&mut self, slot: Slot, signal: Signal, now: Time, view: &mut View<'_>) {
        if self.done {
            return;
        }
        let Some(attempt) = self.attempts.get_mut(slot) else {
            return;
        };
        match signal {
            Signal::Answered(reply) => {
                attempt.standing = Standing::Answered(reply);
                if let Some(raced) = attempt.settles
                    && let Some(datagram) = self.attempts.get(raced)
                {
                    let endpoint = datagram.endpoint;
                    self.outputs.push_back(Output::Mismatched { slot: raced, endpoint });
                }
                self.handle_reply(slot, reply, now, view);
            }
            Signal::Failed(failure) => {
                attempt.standing = Standing::Failed(failure);
                self.begin_next_once(slot, Why::Retry, now, view);
            }
            // The right answer may still come; whoever sent this must not be able to delay it.
            Signal::Garbage => self.begin_next_once(slot, Why::Retry, now, view),
            Signal::Mismatch => {
                if !attempt.raced && attempt.via != Via::Stream {
                    attempt.raced = true;
                    let (endpoint, provider) = (attempt.endpoint, attempt.provider);
                    let race = self.begin(endpoint, provider, Via::Stream, Why::Mismatch, now, view);
                    if let Some(attempt) = race.and_then(|race| self.attempts.get_mut(race)) {
                        attempt.settles = Some(slot);
                    }
                }
                self.begin_next_once(slot, Why::Retry, now, view);
            }
        }
        self.conclude(now, view);
    }

    /// The outcome table, client's column.
    fn handle_reply(&mut self, slot: Slot, reply: Reply, now: Time, view: &mut View<'_>) {
        match reply {
            Reply::Positive | Reply::Filtered => self.answer(slot, reply),
            Reply::Denial { soa } => {
                let doubtful = !soa || self.positive_known;
                let seconded = self.held.is_some();
                if !doubtful || seconded {
                    // A denial with proof is preferred to the one held.
                    let held = self.held.filter(|_| !soa).map(|(slot, _)| slot);
                    self.answer(held.unwrap_or(slot), reply);
                } else {
                    self.held = Some((slot, now.plus(DENIAL_WAIT_US)));
                    let provider = self.attempts.get(slot).map(|attempt| attempt.provider);
                    let asked = self
                        .attempts
                        .iter()
                        .any(|attempt| attempt.is_hopeful() && Some(attempt.provider) != provider);
                    if !asked && !self.begin_next(Why::Confirm, now, view) {
                        self.answer(slot, reply);
                    }
                }
            }
            Reply::Bogus => {
                let agreed = self
                    .attempts
                    .iter()
                    .filter(|attempt| attempt.standing == Standing::Answered(Reply::Bogus))
                    .count();
                if agreed >= 2 || !self.begin_validating(now, view) {
                    self.answer(slot, reply);
                }
            }
            Reply::NoEdns => self.again(slot, Via::NoEdns, Why::WithoutEdns, now, view),
            Reply::Truncated => self.again(slot, Via::Stream, Why::Truncated, now, view),
            Reply::Forgeable => self.again(slot, Via::Stream, Why::Forgeable, now, view),
            Reply::Failed(_) => self.begin_next_once(slot, Why::Retry, now, view),
        }
    }

    /// Asks the same endpoint once more in another way, or the next one.
    fn again(&mut self, slot: Slot, via: Via, why: Why, now: Time, view: &mut View<'_>) {
        let Some(attempt) = self.attempts.get(slot).copied() else {
            return;
        };
        let begun = attempt.via != via
            && attempt.via != Via::Stream
            && self
                .begin(attempt.endpoint, attempt.provider, via, why, now, view)
                .is_some();
        if !begun {
            self.begin_next_once(slot, Why::Retry, now, view);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time, view: &mut View<'_>) {
        if self.done {
            return;
        }
        self.read_deadline(view.routes);
        if let Some((slot, until)) = self.held
            && until <= now
        {
            self.answer(slot, Reply::Denial { soa: false });
            return;
        }
        for slot in 0..self.attempts.len() {
            let Some(attempt) = self.attempts.get(slot).copied() else {
                continue;
            };
            if attempt.standing != Standing::Waiting || attempt.backed {
                continue;
            }
            if attempt.timeout <= now {
                self.begin_next_once(slot, Why::Retry, now, view);
            } else if attempt.overdue <= now {
                self.hedge(slot, attempt, now, view);
            }
        }
        self.conclude(now, view);
    }

    /// The table changed: what became suspect is hedged at once, and the deadline may be shorter.
    pub fn handle_routes(&mut self, now: Time, view: &mut View<'_>) {
        if self.done {
            return;
        }
        self.read_deadline(view.routes);
        if self.unbar(view.routes) && !self.attempts.iter().any(Attempt::is_hopeful) {
            self.begin_next(Why::HedgeSuspect, now, view);
        }
        for slot in 0..self.attempts.len() {
            let Some(attempt) = self.attempts.get(slot).copied() else {
                continue;
            };
            if attempt.standing != Standing::Waiting || attempt.backed {
                continue;
            }
            let route = view.routes.endpoint(attempt.endpoint);
            let strained = route.is_some_and(|route| route.strained);
            let hinted = route.is_some_and(|route| route.hinted) && attempt.via != Via::Stream;
            if is_suspect(view.routes, attempt.endpoint) {
                self.begin_next_once(slot, Why::HedgeSuspect, now, view);
            } else if strained && attempt.begun.plus(ALIVE_HEDGE_US) <= now {
                // The budget refused it when the endpoint looked healthy.
                self.hedge(slot, attempt, now, view);
            } else if hinted && let Some(attempt) = self.attempts.get_mut(slot) {
                attempt.overdue = attempt.overdue.min(attempt.begun.plus(OVERDUE_US_MIN).max(now));
            }
        }
        self.conclude(now, view);
    }

    /// An answer is overdue: asks the next provider if that is free or the budget pays.
    fn hedge(&mut self, slot: Slot, attempt: Attempt, now: Time, view: &mut View<'_>) {
        if is_suspect(view.routes, attempt.endpoint) {
            self.begin_next_once(slot, Why::HedgeSuspect, now, view);
            return;
        }
        if self.used >= self.plan.steps.len() {
            return;
        }
        let silent = attempt.via != Via::Stream && view.heard.last_heard(attempt.endpoint) < attempt.begun;
        let patient = attempt.begun.plus(ALIVE_HEDGE_US);
        let route = view.routes.endpoint(attempt.endpoint);
        let overdue_us = route.map_or(0, |route| route.timing.overdue_us);
        // What peers say makes it early, and does not open the reserve.
        let usual = attempt.begun.plus(overdue_us);
        let early = now < usual && route.is_some_and(|route| route.hinted);
        let urgent = (silent && !early) || route.is_some_and(|route| route.strained);
        if !silent && !early && overdue_us >= OVERDUE_US_MAX && now < patient {
            if let Some(attempt) = self.attempts.get_mut(slot) {
                attempt.overdue = patient;
            }
            return;
        }
        if view.usage.budget.take(urgent, now) {
            self.begin_next_once(slot, Why::Hedge, now, view);
        } else if let Some(attempt) = self.attempts.get_mut(slot) {
            // Asked again when it is late by itself, or counts as failed.
            attempt.overdue = if early { usual } else { attempt.timeout };
        }
    }

    /// Begins the next step because of `slot`, unless one was begun for it already.
    fn begin_next_once(&mut self, slot: Slot, why: Why, now: Time, view: &mut View<'_>) {
        let Some(attempt) = self.attempts.get_mut(slot) else {
            return;
        };
        if attempt.backed {
            return;
        }
        attempt.backed = true;
        self.begin_next(why, now, view);
    }

    /// Begins the next step of the plan; false if there is none.
    fn begin_next(&mut self, why: Why, now: Time, view: &mut View<'_>) -> bool {
        while let Some(step) = self.plan.steps.get(self.used).copied() {
            self.used = self.used.saturating_add(1);
            // Whoever has answered has nothing to add.
            let answered = self
                .attempts
                .iter()
                .any(|attempt| attempt.provider == step.provider && matches!(attempt.standing, Standing::Answered(_)));
            if answered {
                continue;
            }
            if is_barred(view.routes, step.endpoint) {
                self.barred.push(step);
                continue;
            }
            if self
                .begin(step.endpoint, step.provider, Via::Own, why, now, view)
                .is_some()
            {
                return true;
            }
        }
        false
    }

    /// Puts the steps that may be asked now at the end of the plan; whether there were any.
    fn unbar(&mut self, routes: &Routes) -> bool {
        let (barred, free): (Vec<Step>, Vec<Step>) = std::mem::take(&mut self.barred)
            .into_iter()
            .partition(|step| is_barred(routes, step.endpoint));
        self.barred = barred;
        let any = !free.is_empty();
        self.plan.steps.extend(free);
        any
    }

    /// Begins the next step at a validating provider that has not been asked; false if there is none.
    fn begin_validating(&mut self, now: Time, view: &mut View<'_>) -> bool {
        let asked: Vec<ProviderId> = self.attempts.iter().map(|a| a.provider).collect();
        let next = self.plan.steps.get(self.used..).and_then(|rest| {
            rest.iter().position(|step| {
                let validates = view
                    .routes
                    .topology
                    .provider(step.provider)
                    .is_some_and(|p| p.validates);
                validates && !asked.contains(&step.provider) && !is_barred(view.routes, step.endpoint)
            })
        });
        let Some(step) = next.and_then(|offset| {
            let index = self.used.saturating_add(offset);
            (index < self.plan.steps.len()).then(|| self.plan.steps.remove(index))
        }) else {
            // Somebody asked already may still answer.
            return self.attempts.iter().any(Attempt::is_hopeful);
        };
        self.begin(step.endpoint, step.provider, Via::Own, Why::Validate, now, view)
            .is_some()
    }

    /// Begins one attempt.
    fn begin(
        &mut self,
        endpoint: EndpointId,
        provider: ProviderId,
        via: Via,
        why: Why,
        now: Time,
        view: &mut View<'_>,
    ) -> Option<Slot> {
        let slot = self.attempts.len();
        if slot >= SLOTS_MAX || is_barred(view.routes, endpoint) {
            return None;
        }
        // The plan may be older than its wish to be left alone.
        let route = view.routes.endpoint(endpoint);
        let route = route.filter(|route| route.why != PlaceWhy::Throttled)?;
        let timing = route.timing;
        // A stream beside UDP connects first; the datagrams' times say nothing about it.
        let (overdue_us, timeout_us) = match via {
            // The handshake is no answer's latency, and waiting for it no reason to hedge; but who takes half again as
            // long to connect as lately is late, and nobody waits for an answer longer than usual because of it.
            Via::Own | Via::NoEdns => {
                let connect_us = view.heard.connect_us(endpoint);
                let patience_us = connect_us.saturating_add(connect_us >> 1);
                let overdue_us = if route.hinted {
                    OVERDUE_US_MIN
                } else {
                    timing.overdue_us
                };
                let overdue_us = overdue_us
                    .saturating_add(patience_us)
                    .min(OVERDUE_US_MAX.saturating_add(connect_us));
                (overdue_us, timing.timeout_us.saturating_add(patience_us))
            }
            Via::Stream => (OVERDUE_US_MAX, STREAM_TIMEOUT_US),
        };
        self.attempts.push(Attempt {
            endpoint,
            provider,
            via,
            why,
            begun: now,
            overdue: now.plus(overdue_us),
            timeout: now.plus(timeout_us),
            backed: false,
            raced: false,
            settles: None,
            standing: Standing::Waiting,
        });
        view.usage.count_sent(provider, endpoint);
        self.outputs.push_back(Output::Begin {
            slot,
            endpoint,
            via,
            why,
        });
        Some(slot)
    }

    /// Ends with this attempt's answer, and tells who was proven wrong by it.
    fn answer(&mut self, slot: Slot, reply: Reply) {
        if reply.is_good() {
            let winner = self.attempts.get(slot).map(|attempt| attempt.provider);
            for (other, attempt) in self.attempts.iter().enumerate() {
                if let Standing::Answered(Reply::Failed(rcode)) = attempt.standing
                    && Some(attempt.provider) != winner
                {
                    self.outputs.push_back(Output::Disagreed {
                        slot: other,
                        endpoint: attempt.endpoint,
                        rcode,
                    });
                }
            }
        }
        self.finish(Done::Answer(slot));
    }

    /// Ends.
    fn finish(&mut self, done: Done) {
        if !self.done {
            self.done = true;
            self.outputs.push_back(Output::Done(done));
        }
    }

    /// Ends if the deadline is over, or if nobody is left to answer and nobody to ask.
    fn conclude(&mut self, now: Time, view: &mut View<'_>) {
        if self.done {
            return;
        }
        // With that in hand and nobody left to ask, an attempt past its time is not waited for.
        let settled = self.is_settled();
        let waiting = self
            .attempts
            .iter()
            .any(|attempt| attempt.standing == Standing::Waiting && !(settled && attempt.timeout <= now));
        if waiting && now < self.deadline {
            return;
        }
        if !waiting && now < self.deadline {
            if self.begin_next(Why::Retry, now, view) {
                return;
            }
            // Nothing encrypted is left: the rest may be asked soon.
            if !self.barred.is_empty() && !settled && self.held.is_none() {
                return;
            }
        }
        if let Some((slot, _)) = self.held {
            self.answer(slot, Reply::Denial { soa: false });
            return;
        }
        let answered = |wanted: &dyn Fn(Reply) -> bool| {
            self.attempts
                .iter()
                .position(|attempt| matches!(attempt.standing, Standing::Answered(reply) if wanted(reply)))
        };
        // What could be confirmed nowhere is the last resort: in a network that lets no stream through the name would not
        // resolve at all, and who is off the path cannot stop streams.
        let done = if let Some(slot) = answered(&|reply| matches!(reply, Reply::Bogus | Reply::Forgeable)) {
            Done::Answer(slot)
        } else if let Some(slot) = answered(&|reply| reply == Reply::Failed(Rcode::SERVFAIL))
            .or_else(|| answered(&|reply| matches!(reply, Reply::Failed(_) | Reply::NoEdns)))
        {
            Done::Agreed(slot)
        } else if self.is_network_failure(view.routes) {
            Done::GaveUp(GaveUp::Network)
        } else {
            Done::GaveUp(GaveUp::NoAnswer)
        };
        self.finish(done);
    }

    /// Whether a provider's rcode, or what could be confirmed nowhere, is the answer unless an attempt under way brings a
    /// better one.
    fn is_settled(&self) -> bool {
        self.used >= self.plan.steps.len()
            && self.attempts.iter().any(|attempt| {
                matches!(
                    attempt.standing,
                    Standing::Answered(Reply::Failed(_) | Reply::Bogus | Reply::NoEdns | Reply::Forgeable)
                )
            })
    }

    /// Whether the network here, and no provider's silence, is why nobody answered.
    fn is_network_failure(&self, routes: &Routes) -> bool {
        let is_refused = |attempt: &Attempt| {
            matches!(
                attempt.standing,
                Standing::Failed(Failure::Unreachable | Failure::NoRoute | Failure::Local)
            )
        };
        // Of those who asked to be left alone nobody was asked, and that is not the network's doing.
        let is_throttled = |route: &EndpointRoute| route.why == PlaceWhy::Throttled;
        let has_asked = !self.attempts.is_empty() || !routes.endpoints.iter().any(is_throttled);
        has_asked && self.attempts.iter().all(is_refused)
    }

    /// Reads the deadline anew.
    fn read_deadline(&mut self, routes: &Routes) {
        let length = if routes.nothing_up {
            DEADLINE_NOTHING_UP_US
        } else {
            DEADLINE_US
        };
        self.deadline = self.started.plus(length);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called, and why; now if outputs wait.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        if !self.outputs.is_empty() {
            return Some((Time::ZERO, "output"));
        }
        if self.done {
            return None;
        }
        let mut next = (self.deadline, "deadline");
        if let Some((_, until)) = self.held {
            next = next.min((until, "denial held"));
        }
        if self.used < self.plan.steps.len() {
            for attempt in self.attempts.iter().filter(|attempt| attempt.is_hopeful()) {
                let due = attempt.overdue.min(attempt.timeout);
                next = next.min((due, "overdue"));
            }
        } else if self.is_settled() {
            let waiting = self.attempts.iter().filter(|a| a.standing == Standing::Waiting);
            if let Some(last) = waiting.map(|attempt| attempt.timeout).max() {
                next = next.min((last, "last attempt"));
            }
        }
        Some(next)
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Attempts made so far, with what for; for traces and tests.
    pub fn attempts(&self) -> impl Iterator<Item = (EndpointId, Why)> {
        self.attempts.iter().map(|attempt| (attempt.endpoint, attempt.why))
    }
}

/// Whether the endpoint must not be asked, because something encrypted may still answer.
fn is_barred(routes: &Routes, endpoint: EndpointId) -> bool {
    routes
        .endpoint(endpoint)
        .is_some_and(|route| route.why == PlaceWhy::Cleartext)
}

/// Whether this node has left the endpoint by its own evidence: only then hedges away from it are free.
fn is_suspect(routes: &Routes, endpoint: EndpointId) -> bool {
    routes
        .endpoint(endpoint)
        .is_some_and(|route| route.place() != Place::Normal && !route.why.is_hearsay())
}
