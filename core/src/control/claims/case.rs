//! All that peers say of one endpoint, weighed against what this node saw itself.
//!
//! Local evidence dominates, compared by time of event: whoever says down is beaten by an own attempt that began after
//! the first failure told and succeeded. What is not beaten costs one own probe; a credible claim of the own circle moves
//! the place as well, until that probe has decided.

mod weigh;

use std::collections::BTreeMap;

use super::attribution::attribute;
use super::mutes::Mutes;
use super::statement::{CLOCK_ERROR_US, STANDS_US, Statement, is_same_event};
use super::{Influence, PROBE_GAP_US};
use crate::health::state::State;
use crate::health::{Begun, Health};
use crate::outcome::Rcode;
use crate::report::{EndpointKey, NodeId, SiteKey};
use crate::time::{SEC, Time};
use crate::verdict::{Claim, ClaimState, Said};

/// A claim's probe without any word from the shell is forgotten after this long.
const PROBE_LOST_US: u64 = 3 * SEC;
/// How long an own doubt that a claim led to is probed though no client asks: its probes, and some once more.
const CHECK_US: u64 = 5 * SEC;
/// How long a recovery that a peer told of is probed then: three answers 100 ms apart.
const HOPE_US: u64 = 2 * SEC;

/// What this node itself knows of the endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnView {
    /// Its state.
    state: State,
    /// Begin of the newest attempt that succeeded.
    last_success: Option<Time>,
    /// Begin of the first failure, while it is suspect or down.
    first_failure: Option<Time>,
    /// The network and the operator let it be asked.
    may_be_asked: bool,
}

impl OwnView {
    /// What `health` knows, where the network and the operator let it be asked or not.
    pub(super) fn new(health: &Health, may_be_asked: bool) -> Self {
        Self {
            state: health.state(),
            last_success: health.last_success(),
            first_failure: health.doubt().map(|doubt| doubt.since),
            may_be_asked,
        }
    }
}

/// By what it is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// What reports may do.
    pub(super) influence: Influence,
    /// Where this node stands.
    pub(super) site: Option<SiteKey>,
    /// Who has no say.
    pub(super) mutes: &'a Mutes,
    /// Clients asked lately.
    pub(super) clients: bool,
}

/// What follows from a judgement, besides what is [`Case::said`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Consequence {
    /// A credible claim is beaten: peers should hear of it.
    pub(super) contradict: bool,
    /// A peer was answered since it failed here: probe at once.
    pub(super) hurry: bool,
    /// Own evidence agrees with the claim since now.
    pub(super) confirmed: bool,
}

/// A probe that a claim led to.
#[derive(Debug, Clone, Copy)]
struct ClaimProbe {
    /// Number of the attempt.
    id: u64,
    /// When it was sent.
    sent: Time,
    /// The newest own success before it: claims of what failed since are what it decides.
    before: Option<Time>,
}

/// One endpoint.
#[derive(Debug, Default)]
pub(super) struct Case {
    /// How it is called on the wire.
    pub(super) key: Option<EndpointKey>,
    /// Fresh statements, by node.
    pub(super) statements: BTreeMap<NodeId, Statement>,
    /// For the table.
    pub(super) said: Said,
    /// A claim or hint is undecided.
    pub(super) hinted: bool,
    /// The begin of the first failure by which its place would move.
    pub(super) moves: Option<Time>,
    /// An own probe is wanted, as soon as the last one is five seconds ago.
    wants_probe: bool,
    /// The probe under way.
    probe: Option<ClaimProbe>,
    /// Who claimed credibly when it was sent: they do not escape its verdict by saying something else meanwhile.
    accusers: Vec<NodeId>,
    /// When the last one was sent.
    probed: Option<Time>,
    /// A bad rcode that answered the probe, while no other operator is known to answer the same question well.
    unjudged: Option<(Begun, Rcode)>,
    /// When a peer's success last hurried the own probes.
    hurried: Option<Time>,
    /// When it last made this node contradict.
    contradicted: Option<Time>,
    /// Until when its own probes are sent though no client asks.
    checking_until: Time,
    /// Something changed since it was judged.
    pub(super) is_dirty: bool,
    /// When it is to be judged again.
    due: Option<Time>,
}

impl Case {
    /// Nothing said yet of the endpoint of this key.
    pub(super) fn new(key: Option<EndpointKey>) -> Self {
        Self {
            key,
            is_dirty: true,
            ..Self::default()
        }
    }

    /// Whether own evidence may decide something, or time did.
    pub(super) fn wants_judgement(&self, now: Time) -> bool {
        self.is_dirty || self.is_open() || self.due.is_some_and(|at| at <= now)
    }

    /// Whether a claim or hint is undecided, or a probe under way.
    pub(super) fn is_open(&self) -> bool {
        self.hinted || self.wants_probe || self.probe.is_some()
    }

    /// Whether its own probes are sent though no client asks.
    pub(super) fn is_checking(&self, now: Time) -> bool {
        now < self.checking_until
    }

    /// When it is to be judged again.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Weighs everything anew.
    pub(super) fn judge(&mut self, own: &OwnView, rules: &Rules<'_>, now: Time) -> Consequence {
        self.is_dirty = false;
        if self.probe.is_some_and(|probe| now.since(probe.sent) >= PROBE_LOST_US) {
            self.probe = None;
        }
        let standings: Vec<(NodeId, ClaimState)> = self
            .statements
            .iter()
            .filter(|(_, statement)| statement.accuses())
            .map(|(node, statement)| (*node, self.standing(*node, statement, own, rules, now)))
            .collect();
        let is_askable = own.state.is_usable() && own.may_be_asked;
        self.moves = standings
            .iter()
            .filter(|(_, state)| is_askable && *state == ClaimState::Pending)
            .filter_map(|(node, _)| self.statements.get(node)?.first_failure)
            .min();
        self.wants_probe = is_askable && standings.iter().any(|s| self.is_worth_a_probe(*s, own, rules, now));
        let confirmed = self.follow(&standings, own, now);
        self.hinted = is_askable && standings.iter().any(|(_, state)| state.is_open());
        self.said.attribution = attribute(own.state, rules.site, self.statements.values());
        (self.said.verdict, self.said.verdict_by) = self.verdict(rules, now);
        let consequence = Consequence {
            contradict: self.contradict(own, rules, now),
            hurry: rules.influence != Influence::None && self.hurry(own, now),
            confirmed,
        };
        if confirmed {
            self.checking_until = now.plus(CHECK_US);
        } else if consequence.hurry {
            self.checking_until = now.plus(HOPE_US);
        } else if own.state == State::Down && self.hurried.is_none_or(|at| now.since(at) >= HOPE_US) {
            // It is settled.
            self.checking_until = Time::ZERO;
        }
        self.due = self.next_due(own, now);
        consequence
    }

    /// Keeps the claim that counts, or takes another; true if own evidence agrees with it since now.
    fn follow(&mut self, standings: &[(NodeId, ClaimState)], own: &OwnView, now: Time) -> bool {
        if !own.state.is_usable()
            && let Some(claim) = &mut self.said.claim
        {
            if matches!(claim.state, ClaimState::Confirmed { .. }) {
                return false;
            }
            if claim.state.is_open() {
                claim.state = ClaimState::Confirmed { at: now };
                claim.decided = Some(now);
                self.probe = None;
                return true;
            }
        }
        let current = self.said.claim;
        let is_current = |node: NodeId, statement: &Statement| {
            current.is_some_and(|claim| {
                claim.by == node && is_same_event(Some(claim.first_failure), statement.first_failure)
            })
        };
        let best = standings
            .iter()
            .filter_map(|(node, state)| Some((*node, *state, self.statements.get(node)?)))
            .min_by_key(|(node, state, s)| (state.rank(), !is_current(*node, s), s.first_failure, *node));
        let shown = |claim: &Claim| matches!(claim.state, ClaimState::Refuted { until, .. } if until > now);
        let Some((node, state, statement)) = best else {
            self.said.claim = current.filter(shown);
            return false;
        };
        if current.as_ref().is_some_and(shown) && !state.is_open() && state != ClaimState::Known {
            return false;
        }
        let fresh = Claim {
            by: node,
            cause: statement.cause,
            first_failure: statement.first_failure.unwrap_or(statement.arrived),
            arrived: statement.arrived,
            state,
            probed: self.probe.map(|probe| probe.sent),
            decided: None,
        };
        self.said.claim = Some(match current.filter(|_| is_current(node, statement)) {
            Some(claim) => Claim { state, ..claim },
            None => fresh,
        });
        false
    }

    /// Whether the last probe for a claim is long enough ago.
    fn may_probe(&self, now: Time) -> bool {
        is_over(self.probed, now)
    }

    /// Whether a probe is to be sent now.
    pub(super) fn wants_probe_now(&self, now: Time) -> bool {
        self.wants_probe && self.probe.is_none() && self.may_probe(now)
    }

    /// A probe was sent under this number, or none could be: then it is tried again as late as if it had been.
    pub(super) fn probe_sent(&mut self, id: Option<u64>, own: &OwnView, now: Time) {
        self.probed = Some(now);
        self.unjudged = None;
        if let Some(id) = id {
            let probe = ClaimProbe {
                id,
                sent: now,
                before: own.last_success,
            };
            self.probe = Some(probe);
            self.accusers = self.undecided_by(&probe, now);
            self.checking_until = self.checking_until.max(now.plus(PROBE_LOST_US));
            if let Some(claim) = self.said.claim.as_mut().filter(|claim| claim.state.is_open()) {
                claim.probed = Some(now);
            }
        }
        self.due = self.next_due(own, now);
    }

    /// Whether the attempt of this number is a claim's probe.
    pub(super) fn is_probe(&self, id: u64) -> bool {
        self.probe.is_some_and(|probe| probe.id == id)
    }

    /// The probe ended without a good answer; health has filed what it says.
    pub(super) fn probe_ended(&mut self) {
        self.probe = None;
        self.is_dirty = true;
    }

    /// The probe brought a bad rcode, and nobody is known to answer the same question well.
    pub(super) fn probe_unjudged(&mut self, begun: Begun, rcode: Rcode) {
        self.unjudged = Some((begun, rcode));
    }

    /// The bad rcode that waits for another operator's answer to the same question.
    pub(super) fn take_unjudged(&mut self) -> Option<(Begun, Rcode)> {
        let found = self.unjudged.take()?;
        self.probe_ended();
        Some(found)
    }

    /// Whether the claim is of bad rcodes: then any answer is not enough.
    pub(super) fn is_about_rcodes(&self) -> bool {
        self.said.claim.is_some_and(|claim| claim.cause.is_rcode())
    }

    /// The probe was good: who claimed that the endpoint is down, and was not known to be wrong, has no say for a while.
    pub(super) fn refute(&mut self, mutes: &mut Mutes, now: Time) {
        let (Some(probe), Some(key)) = (self.probe.take(), self.key) else {
            return;
        };
        self.is_dirty = true;
        let mut wrong = std::mem::take(&mut self.accusers);
        wrong.extend(self.undecided_by(&probe, now));
        for node in wrong {
            if mutes.until(node, key, now).is_none() {
                let until = mutes.mute(node, key, now);
                if let Some(claim) = self.said.claim.as_mut().filter(|claim| claim.by == node) {
                    claim.state = ClaimState::Refuted { at: now, until };
                    claim.decided = Some(now);
                }
            }
        }
    }

    /// Whose credible claims this probe decides.
    fn undecided_by(&self, probe: &ClaimProbe, now: Time) -> Vec<NodeId> {
        let since = probe.before.map(|before| before.plus(CLOCK_ERROR_US));
        let undecided = |statement: &Statement| {
            statement.accuses()
                && statement.first_failure <= Some(probe.sent)
                && (statement.first_failure >= probe.before || statement.last_failure > since)
                && statement.shortcoming(now).is_none()
        };
        let by = self.statements.iter().filter(|(_, statement)| undecided(statement));
        by.map(|(node, _)| *node).collect()
    }

    /// What was under way is lost: the machine slept, or attempts have other numbers.
    pub(super) fn drop_probe(&mut self) {
        self.probe = None;
        self.unjudged = None;
        self.is_dirty = true;
    }

    /// When something changes by itself.
    fn next_due(&self, own: &OwnView, now: Time) -> Option<Time> {
        let lost = self.probe.map(|probe| probe.sent.plus(PROBE_LOST_US));
        let again = self.probed.map(|sent| sent.plus(PROBE_GAP_US));
        let again = again.filter(|_| self.wants_probe && self.probe.is_none());
        let lapses = self.statements.values().filter_map(|s| s.last_failure);
        let lapse = lapses.map(|at| at.plus(STANDS_US)).filter(|at| *at > now).min();
        let lapse = lapse.filter(|_| self.moves.is_some());
        let first_failure = own.first_failure.filter(|_| !own.state.is_usable());
        let hopes = first_failure.is_some_and(|first| self.statements.values().any(|s| is_hope(s, first)));
        let hurry = self.hurried.map(|at| at.plus(PROBE_GAP_US)).filter(|_| hopes);
        let dues = [lost, again, lapse, hurry].into_iter().flatten();
        dues.filter(|at| *at > now).min()
    }
}

/// Whether a peer's word is a reason to probe what failed here first at `first_failure`, and was none before.
fn is_hope(statement: &Statement, first_failure: Time) -> bool {
    statement.is_up()
        && statement.last_success > Some(first_failure.plus(CLOCK_ERROR_US))
        && statement.urged != Some(first_failure)
}

/// Whether what is done once per five seconds may be done again.
fn is_over(last: Option<Time>, now: Time) -> bool {
    last.is_none_or(|at| now.since(at) >= PROBE_GAP_US)
}
