//! What this node itself knows of one endpoint: attempts in flight, failures, latencies, and the state they add
//! up to.
//!
//! Two signals are kept apart. *Liveness*: has anything come back (silence, loss, definite failures)? *Latency*:
//! how long do answers take? A slow recursion behind a healthy provider must not look like a dead one, and many
//! queries that fail in the same instant are one failure, not many. Nothing here condemns an endpoint: that needs
//! the knowledge that another operator answered meanwhile, which is [`crate::control`]'s.

mod attempt;
pub mod domains;
mod failures;
pub mod latency;
pub mod loss;
pub mod pause;
pub mod probe;
pub mod state;
#[cfg(test)]
mod tests;
mod watch;
mod way;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

pub use self::attempt::{Begun, Finish, Purpose};
use self::domains::Domains;
use self::failures::{DISTINCT_US, Failures};
use self::latency::{Latencies, Learned};
use self::loss::LossTest;
use self::pause::Pauses;
use self::probe::{RECOVERY_GAP_US, Schedule};
use self::state::{Event, State};
use crate::outcome::{Cause, Failure, Reply};
use crate::time::{MS, SEC, Time};

/// Attempts followed per endpoint. Beyond it an attempt's answer still counts, its silence does not: above some
/// thousand queries a second a sample shows the same.
const OPEN_MAX: usize = 4_096;
/// Silence is no shorter than this, and nothing is late before: where answers take a millisecond, a busy machine's own
/// stall looks the same.
const SILENCE_US_MIN: u64 = 50 * MS;
/// Loss is not judged before answers have come for this long: the first ones are the fast ones, and a p95 made of
/// them calls every slow answer lost.
const LOSS_AFTER_US: u64 = 2 * SEC;
/// Attempts older than p75, with nothing heard since the first, that are silence.
const SILENCE_ATTEMPTS: usize = 5;
/// A timed-out attempt is remembered this long, so that a late answer can withdraw its failure.
const LAPSED_US: u64 = 5 * SEC;
/// How long the share ramps up after a recovery.
pub const RAMP_US: u64 = 5 * SEC;
/// Falls within this time make the next hold-down longer.
const FALLS_WINDOW_US: u64 = 600 * SEC;
/// First hold-down, on the second fall.
const HOLD_MIN_US: u64 = 2 * SEC;
/// Each further fall multiplies it: 2, 8, 32, 60 s. Doubling would let a provider that flaps every 5 s change place
/// more than six times a minute.
const HOLD_GROWTH: u64 = 4;
/// Falls remembered; the hold-down is at its longest long before.
const FALLS_MAX: usize = 16;
/// Longest hold-down.
const HOLD_MAX_US: u64 = 60 * SEC;
/// Good answers in a row, begun 100 ms apart, that show a recovery.
const RECOVERY_ANSWERS: u8 = 3;

/// An attempt without an answer so far.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// As it began.
    begun: Begun,
    /// Its number in the loss test, once it is late.
    counted: Option<u64>,
}

/// An attempt that timed out.
#[derive(Debug, Clone, Copy)]
struct Lapsed {
    /// When it began.
    begun: Time,
    /// The failure it belongs to.
    failure: Time,
    /// Its number in the loss test.
    counted: Option<u64>,
}

/// Why an endpoint is suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// When the first failed attempt began: answers to attempts begun after this clear it.
    pub since: Time,
    /// When it was raised.
    pub raised: Time,
    /// What was seen.
    pub cause: Cause,
}

/// A state change, for events and routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// One endpoint's health.
#[derive(Debug)]
pub struct Health {
    /// Current state.
    state: State,
    /// Why it is in it.
    cause: Cause,
    /// Since when.
    since: Time,
    /// Changes not yet taken by the caller.
    changes: VecDeque<Change>,
    /// Answer times.
    latencies: Latencies,
    /// Attempts without an answer, by number.
    open: BTreeMap<u64, Open>,
    /// When open attempts count as failed; entries of answered ones are skipped.
    timeouts: BinaryHeap<Reverse<(Time, u64)>>,
    /// Client attempts in the order they become late.
    maturing: VecDeque<(Time, u64)>,
    /// Timed-out attempts that may still be answered.
    lapsed: BTreeMap<u64, Lapsed>,
    /// Distinct failures without later success, oldest first.
    failures: Failures,
    /// Why it is suspect, or was before it went down.
    doubt: Option<Doubt>,
    /// Begin of the newest attempt that got a good answer.
    last_success: Option<Time>,
    /// Begin of the newest attempt or probe that failed.
    last_failure: Option<Time>,
    /// What the last failure filed looked like.
    failed_by: Cause,
    /// Begin of the first client's attempt that got one.
    first_success: Option<Time>,
    /// Begin of the first attempts since anything was heard.
    unheard: Vec<Time>,
    /// Attempts begun up to here say nothing when they fail: the uplink was away.
    forgiven: Option<Time>,
    /// When garbage last came.
    garbage: Option<Time>,
    /// Loss of recent client attempts.
    loss: LossTest,
    /// Attempts begun up to here have no part in it.
    loss_from: Time,
    /// Probes that measure loss: number, and whether answered.
    loss_probes: Vec<(u64, bool)>,
    /// Since when loss is being measured.
    loss_watch: Option<Time>,
    /// Loss lasted: out until sixteen probes in a row show none.
    loss_lasts: bool,
    /// Answers and bad rcodes.
    domains: Domains,
    /// Own probes.
    pub(crate) probes: Schedule,
    /// Good answers in a row while down, and when the last one's attempt began.
    recovery: (u8, Time),
    /// When it went down in the last ten minutes.
    falls: Vec<Time>,
    /// Not used again before this.
    hold_until: Time,
    /// The network here has no route to it.
    no_route: bool,
    /// Its name is not resolved: there is nowhere to send to.
    no_address: bool,
    /// When it asked to be left alone.
    pauses: Pauses,
    /// Good answers among recent attempts, permille, smoothed by 1/16.
    ok_permille: u32,
}

impl Health {
    /// An endpoint nothing is known of.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Unknown,
            cause: Cause::Untried,
            since: now,
            changes: VecDeque::new(),
            latencies: Latencies::default(),
            open: BTreeMap::new(),
            timeouts: BinaryHeap::new(),
            maturing: VecDeque::new(),
            lapsed: BTreeMap::new(),
            failures: Failures::default(),
            doubt: None,
            last_success: None,
            last_failure: None,
            failed_by: Cause::Untried,
            first_success: None,
            unheard: Vec::new(),
            forgiven: None,
            garbage: None,
            loss: LossTest::default(),
            loss_from: Time::ZERO,
            loss_probes: Vec::new(),
            loss_watch: None,
            loss_lasts: false,
            domains: Domains::default(),
            probes: Schedule::default(),
            recovery: (0, Time::ZERO),
            falls: Vec::new(),
            hold_until: Time::ZERO,
            no_route: false,
            no_address: false,
            pauses: Pauses::default(),
            ok_permille: 1_000,
        }
    }

    /// An attempt was written to the wire.
    pub fn begin(&mut self, begun: Begun) {
        let queued = self.timeouts.len().max(self.maturing.len());
        if self.open.len() >= OPEN_MAX || queued >= OPEN_MAX.saturating_mul(2) {
            return;
        }
        let timing = self.latencies.timing();
        let timeout = match begun.purpose {
            Purpose::Client | Purpose::Backup => timing.timeout_us,
            Purpose::Probe => timing.probe_timeout_us,
        };
        self.open.insert(begun.id, Open { begun, counted: None });
        self.timeouts.push(Reverse((begun.at.plus(timeout), begun.id)));
        match begun.purpose {
            Purpose::Client => {
                let late_us = timing.late_us.max(SILENCE_US_MIN);
                self.maturing.push_back((begun.at.plus(late_us), begun.id));
                if self.unheard.len() < SILENCE_ATTEMPTS {
                    self.unheard.push(begun.at);
                }
            }
            Purpose::Backup => {}
            Purpose::Probe => {
                let is_new = self.loss_probes.iter().all(|(id, _)| *id != begun.id);
                if self.loss_watch.is_some() && is_new && self.loss_probes.len() < 32 {
                    self.loss_probes.push((begun.id, false));
                }
            }
        }
    }

    /// An attempt ended. `good` says whether the caller takes an answer as success (a probe's may be judged by
    /// what other operators say to the same question).
    pub fn finish(&mut self, begun: Begun, finish: Finish, good: bool, now: Time) {
        let open = self.open.remove(&begun.id);
        let lapsed = self.lapsed.remove(&begun.id);
        match finish {
            Finish::Answered { reply, latency_us } => {
                self.unheard.clear();
                self.found_route(now);
                self.pauses.answered(begun.at);
                self.answered(begun, open, lapsed, reply, latency_us, now);
                if good && lapsed.is_none() {
                    // Probes ask what everybody has at hand: how long they are answered says little of clients' names.
                    if begun.purpose != Purpose::Probe {
                        self.first_success.get_or_insert(begun.at);
                    }
                    self.succeeded(begun.at, now);
                }
            }
            Finish::Failed(Failure::Throttled { retry_after_s }) => {
                // It answers, after all.
                self.unheard.clear();
                self.pauses.begin(retry_after_s, now);
            }
            Finish::Failed(failure) => {
                // A reset or an ICMP message is also a sign of life of the path, but not of the endpoint.
                if failure == Failure::NoRoute && self.forgiven.is_none_or(|until| until < begun.at) {
                    self.no_route = true;
                    self.probes.no_route(now);
                }
                if let Some(cause) = Cause::of_failure(failure)
                    && lapsed.is_none()
                {
                    self.failed(begun, cause, now);
                }
            }
            Finish::Mismatched => {
                if lapsed.is_none() {
                    self.failed(begun, Cause::Mismatch, now);
                }
            }
            Finish::Abandoned => {}
        }
        self.advance(now);
    }

    /// The bookkeeping of an answer: latency, loss, withdrawal of a failure by timeout.
    fn answered(
        &mut self,
        begun: Begun,
        open: Option<Open>,
        lapsed: Option<Lapsed>,
        reply: Reply,
        latency_us: u64,
        now: Time,
    ) {
        if begun.purpose != Purpose::Probe {
            self.domains.answered(now);
            // An error must never make an endpoint look fast.
            let timed = match reply {
                Reply::Positive | Reply::Denial { .. } | Reply::Filtered | Reply::Bogus | Reply::Forgeable => true,
                Reply::NoEdns | Reply::Failed(_) | Reply::Truncated => false,
            };
            if timed && begun.purpose == Purpose::Client {
                self.latencies.record(latency_us);
            }
            if reply.is_good() {
                self.score(true);
            }
        }
        if let Some(probe) = self.loss_probes.iter_mut().find(|(id, _)| *id == begun.id) {
            probe.1 = true;
        }
        let counted = open
            .and_then(|open| open.counted)
            .or_else(|| lapsed.and_then(|lapsed| lapsed.counted));
        match counted {
            Some(number) => self.loss.take_back(number),
            None if begun.purpose == Purpose::Client && open.is_some() => {
                self.loss.count(true);
            }
            None => {}
        }
        if let Some(lapsed) = lapsed {
            self.failures.withdraw(lapsed.failure);
        }
    }

    /// A good answer to an attempt begun at `begun`, in its time.
    fn succeeded(&mut self, begun: Time, now: Time) {
        self.last_success = Some(self.last_success.map_or(begun, |t| t.max(begun)));
        self.failures.forget_until(begun);
        match self.state {
            State::Unknown => self.transition(Event::Succeeded, Cause::Answering, now),
            State::Suspect => {
                let Some(doubt) = self.doubt else { return };
                // The silence of an attempt ends with its own answer.
                let since = begun > doubt.since || (begun == doubt.since && doubt.cause == Cause::Silence);
                if doubt.cause == Cause::Loss {
                    self.count_recovery(begun);
                    if self.loss_lasts && self.has_recovered(now) {
                        self.return_to_use(now);
                    }
                } else if since && self.failures.is_empty() {
                    self.clear_doubt(now);
                }
            }
            State::Down => {
                self.count_recovery(begun);
                if self.loss_watch.is_some() {
                    // Its probes decide.
                } else if self.has_recovered(now) {
                    self.return_to_use(now);
                } else if self.recovery.0 < RECOVERY_ANSWERS {
                    self.probes.recovering(now);
                } else {
                    self.probes.repeat(now);
                    self.probes
                        .limit_interval(now, self.hold_until.since(now).max(RECOVERY_GAP_US));
                }
            }
            State::Up | State::Probation => {}
        }
    }

    /// Counts good answers in a row whose attempts began 100 ms apart.
    fn count_recovery(&mut self, begun: Time) {
        if self.recovery.0 == 0 || begun.since(self.recovery.1) >= RECOVERY_GAP_US {
            self.recovery = (self.recovery.0.saturating_add(1), begun);
        }
    }

    /// Whether it has answered often enough, and is not held down.
    fn has_recovered(&self, now: Time) -> bool {
        self.recovery.0 >= RECOVERY_ANSWERS && now >= self.hold_until && self.loss_watch.is_none()
    }

    /// It answers again. Of a third lost, three answers in a row are nothing special, one case of three: what fell by
    /// loss is measured first.
    fn return_to_use(&mut self, now: Time) {
        if self.doubt.is_some_and(|doubt| doubt.cause == Cause::Loss) {
            self.measure_loss(now);
        } else {
            self.recover(now);
        }
    }

    /// From down to probation: what was before it fell says nothing about it any more.
    fn recover(&mut self, now: Time) {
        self.transition(Event::Recovered, Cause::Answering, now);
        self.forget_loss(now);
        self.failures.clear();
        self.doubt = None;
        self.probes.stop();
    }

    /// The doubt is over.
    fn clear_doubt(&mut self, now: Time) {
        self.transition(Event::Cleared, Cause::Answering, now);
        self.doubt = None;
        self.failures.clear();
        self.stop_probes(now);
        self.forget_loss(now);
        self.recovery = (0, Time::ZERO);
        self.domains.restart_tally(now);
    }

    /// No more probes, except for one that waits for a route: nothing else would find it again.
    fn stop_probes(&mut self, now: Time) {
        if self.no_route {
            self.probes.no_route(now);
        } else {
            self.probes.stop();
        }
    }

    /// A failure; returns the failure it is filed under.
    fn failed(&mut self, begun: Begun, cause: Cause, now: Time) -> Time {
        self.score(false);
        let void_until = self.last_success.max(self.forgiven);
        if void_until.is_some_and(|until| until >= begun.at) {
            return begun.at;
        }
        self.recovery = (0, Time::ZERO);
        self.last_failure = self.last_failure.max(Some(begun.at));
        self.failed_by = cause;
        let filed = self.failures.file(begun);
        self.raise_doubt(begun.at, cause, now);
        filed
    }

    /// Files a failure that no open attempt stands for: a bad rcode that another provider proved wrong.
    pub fn fail_by_rcode(&mut self, begun: Begun, cause: Cause, now: Time) {
        self.failed(begun, cause, now);
    }

    /// A client's question in this domain failed here and was answered well elsewhere.
    pub fn fail_domain(&mut self, begun: Begun, domain: u64, cause: Cause, now: Time) {
        if self.domains.failed(domain, now) || !self.state.is_usable() {
            self.failed(begun, cause, now);
        }
    }

    /// Makes the endpoint suspect, if it is not already worse.
    fn raise_doubt(&mut self, since: Time, cause: Cause, now: Time) {
        if !self.state.is_usable() {
            return;
        }
        self.doubt = Some(Doubt {
            since,
            raised: now,
            cause,
        });
        self.transition(Event::Doubted, cause, now);
        self.loss_lasts = false;
        self.loss_watch = None;
        if cause == Cause::Loss {
            self.measure_loss(now);
        } else {
            // Timeouts of a busy endpoint would be one failure with its first probe.
            if now.since(since) < DISTINCT_US {
                self.probes.doubted_early(now);
            } else {
                self.probes.doubted(now);
            }
        }
    }

    /// Another operator answered meanwhile: the failures are the endpoint's.
    pub fn condemn(&mut self, now: Time) {
        let doubted = self.doubt.map_or(self.cause, |doubt| doubt.cause);
        // Loss was the first sign; what condemns are three failures in a row, and peers believe those.
        let cause = if doubted == Cause::Loss {
            self.failed_by
        } else {
            doubted
        };
        self.transition(Event::Condemned, cause, now);
        self.fall(now);
    }

    /// It is out of use: holds it down from the second fall in ten minutes, and probes it at intervals.
    fn fall(&mut self, now: Time) {
        self.falls.retain(|fall| now.since(*fall) < FALLS_WINDOW_US);
        let earlier = u32::try_from(self.falls.len()).unwrap_or(u32::MAX);
        if let Some(steps) = earlier.checked_sub(1) {
            let hold = HOLD_MIN_US.saturating_mul(HOLD_GROWTH.saturating_pow(steps.min(4)));
            self.hold_until = now.plus(hold.min(HOLD_MAX_US));
        }
        if self.falls.len() < FALLS_MAX {
            self.falls.push(now);
        }
        self.recovery = (0, Time::ZERO);
        self.loss_watch = None;
        self.probes.repeat(now);
    }

    /// Whether three distinct failures over two sockets stand, and since when.
    #[must_use]
    pub fn condemnable_since(&self) -> Option<Time> {
        self.failures
            .condemning_since()
            .filter(|_| self.state == State::Suspect)
    }

    /// The uplink returned with an attempt begun at `before`: older failures say nothing about this endpoint.
    pub fn forgive(&mut self, before: Time, now: Time) {
        self.forgiven = self.forgiven.max(Some(before));
        self.failures.forget_until(before);
        self.unheard.retain(|begun| *begun > before);
        let older = self.doubt.is_some_and(|doubt| doubt.since <= before);
        if self.state == State::Suspect && older && self.failures.is_empty() {
            self.forget(Event::Forgiven, Cause::Forgiven, now);
        }
    }

    /// Route change or resume: what is in flight is lost and what was known of the path is void.
    pub fn new_path(&mut self, now: Time) {
        self.drop_open(now);
        self.no_route = false;
        match self.state {
            State::Suspect => self.forget(Event::NewPath, Cause::NewPath, now),
            State::Down => {
                self.hold_until = Time::ZERO;
                self.forget(Event::NewPath, Cause::NewPath, now);
            }
            State::Unknown | State::Up | State::Probation => {
                self.failures.clear();
                self.probes.stop();
            }
        }
    }

    /// Nobody will tell how the attempts end that are under way: they count neither as lost nor as answered.
    pub fn drop_open(&mut self, now: Time) {
        self.open.clear();
        self.timeouts.clear();
        self.maturing.clear();
        self.lapsed.clear();
        self.unheard.clear();
        // Their connections may still break, which says nothing about what comes.
        self.forgiven = self.forgiven.max(Some(now));
        if self.loss_watch.is_some() {
            // Its probes are among them.
            self.measure_loss(now);
        }
    }

    /// Leaves suspect or down without an answer.
    fn forget(&mut self, event: Event, cause: Cause, now: Time) {
        self.transition(event, cause, now);
        self.failures.clear();
        self.last_failure = None;
        self.doubt = None;
        self.forget_loss(now);
        self.stop_probes(now);
    }

    /// Garbage came from it.
    pub fn note_garbage(&mut self, now: Time) {
        self.garbage = Some(now);
        self.unheard.clear();
    }

    /// Whether so much is unanswered that hedges away from it are worth the reserve, loss or not.
    #[must_use]
    pub fn is_strained(&self) -> bool {
        self.loss.is_strained()
    }

    /// Does everything that is due at `now`: timeouts, loss, silence, the end of a ramp.
    pub fn advance(&mut self, now: Time) {
        self.pauses.advance(now);
        self.lapse(now);
        while let Some((at, id)) = self.maturing.front().copied()
            && at <= now
        {
            self.maturing.pop_front();
            if let Some(open) = self.open.get_mut(&id)
                && open.counted.is_none()
            {
                open.counted = Some(self.loss.count(false));
            }
        }
        let settled = self
            .first_success
            .is_some_and(|first| now.since(first) >= LOSS_AFTER_US);
        // Where nothing at all comes any more, it is for silence to say so.
        let heard = self.unheard.len() < SILENCE_ATTEMPTS;
        if self.state.is_usable() && settled && heard && self.loss.is_loss() {
            self.raise_doubt(now, Cause::Loss, now);
        }
        if let Some(silent_at) = self.silence_due()
            && silent_at <= now
            && let Some(first) = self.unheard.first().copied()
        {
            self.raise_doubt(first, Cause::Silence, now);
        }
        if self.loss_due().is_some_and(|at| at <= now) {
            self.judge_loss(now);
        }
        if self.state == State::Probation && now.since(self.since) >= RAMP_US {
            self.transition(Event::Ramped, Cause::Answering, now);
        }
        self.lapsed.retain(|_, lapsed| now.since(lapsed.begun) <= LAPSED_US);
    }

    /// Attempts whose time is over become failures.
    fn lapse(&mut self, now: Time) {
        while let Some(Reverse((at, id))) = self.timeouts.peek().copied()
            && at <= now
        {
            self.timeouts.pop();
            let Some(open) = self.open.remove(&id) else {
                continue;
            };
            let cause = match self.garbage {
                Some(garbage) if garbage >= open.begun.at => Cause::Garbage,
                _ => Cause::Timeout,
            };
            let counted = match open.counted {
                None if open.begun.purpose == Purpose::Client && open.begun.at > self.loss_from => {
                    Some(self.loss.count(false))
                }
                seen => seen,
            };
            let failure = self.failed(open.begun, cause, now);
            if self.lapsed.len() < OPEN_MAX {
                let lapsed = Lapsed {
                    begun: open.begun.at,
                    failure,
                    counted,
                };
                self.lapsed.insert(id, lapsed);
            }
        }
    }

    /// When five unanswered attempts will be older than p75.
    fn silence_due(&self) -> Option<Time> {
        if !self.state.is_usable() || self.unheard.len() < SILENCE_ATTEMPTS {
            return None;
        }
        let last = self.unheard.last()?;
        Some(last.plus(self.latencies.timing().p75_us.max(SILENCE_US_MIN)))
    }

    /// The next point in time at which [`Self::advance`] has something to do, probes aside.
    pub fn next_due(&mut self) -> Option<(Time, &'static str)> {
        while let Some(Reverse((_, id))) = self.timeouts.peek()
            && !self.open.contains_key(id)
        {
            self.timeouts.pop();
        }
        let timeout = self.timeouts.peek().map(|Reverse((at, _))| (*at, "attempt timeout"));
        let silence = self.silence_due().map(|at| (at, "silence"));
        let ramp = (self.state == State::Probation).then(|| (self.since.plus(RAMP_US), "end of probation"));
        let loss = self.loss_due().map(|at| (at, "loss measured"));
        let pause = self.paused_until().map(|at| (at, "end of pause"));
        [timeout, silence, ramp, loss, pause].into_iter().flatten().min()
    }

    /// Moves to another state, if the table has the transition.
    fn transition(&mut self, event: Event, cause: Cause, now: Time) {
        if let Some(to) = self.state.after(event) {
            let from = self.state;
            self.changes.push_back(Change { from, to, cause });
            self.state = to;
            self.cause = cause;
            self.since = now;
        }
    }

    /// Feeds the share of good answers; rounds towards the new value, so that both ends are reached.
    fn score(&mut self, good: bool) {
        let kept = self.ok_permille.saturating_mul(15);
        self.ok_permille = if good {
            kept.saturating_add(1_000).div_ceil(16).min(1_000)
        } else {
            kept >> 4
        };
    }

    /// Whether state changes wait to be taken.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The next state change the caller has not seen.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is in its state.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Since when it is in its state.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Answer times.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Takes what an earlier process learned of its answer times; its state stays what it is.
    pub fn restore(&mut self, learned: &Learned) -> bool {
        self.latencies.restore(learned)
    }

    /// Why it is suspect or down.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Begin of the newest attempt that got a good answer.
    #[must_use]
    pub fn last_success(&self) -> Option<Time> {
        self.last_success
    }

    /// Begin of the newest attempt or probe that failed and was not forgiven.
    #[must_use]
    pub fn last_failure(&self) -> Option<Time> {
        self.last_failure
    }

    /// Whether loss lasted and put it out.
    #[must_use]
    pub fn loss_lasts(&self) -> bool {
        self.loss_lasts
    }

    /// Good answers among recent attempts, permille.
    #[must_use]
    pub fn ok_permille(&self) -> u32 {
        self.ok_permille
    }

    /// Domains to avoid here.
    #[must_use]
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// Attempts currently followed; for bounds and tests.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
}
