//! What each node's word weighs against own evidence and other nodes' words.

use super::super::Influence;
use super::super::statement::{CLOCK_ERROR_US, Statement};
use super::{Case, OwnView, Rules, is_hope, is_over};
use crate::health::state::State;
use crate::report::{Circle, NodeId};
use crate::time::Time;
use crate::verdict::{ClaimState, Verdict, VerdictSource};

impl Case {
    /// What becomes of one node's accusation.
    pub(super) fn standing(
        &self,
        node: NodeId,
        statement: &Statement,
        own: &OwnView,
        rules: &Rules<'_>,
        now: Time,
    ) -> ClaimState {
        if rules.influence == Influence::None {
            return ClaimState::Ignored;
        }
        if let Some(until) = self.key.and_then(|key| rules.mutes.until(node, key, now)) {
            return ClaimState::Muted { until };
        }
        let beats = |first: Time| own.last_success.is_some_and(|success| success > first);
        if statement.first_failure.is_some_and(beats) {
            return ClaimState::Beaten;
        }
        if !own.state.is_usable() {
            return ClaimState::Known;
        }
        if let Some(shortcoming) = statement.shortcoming(now) {
            return shortcoming;
        }
        if rules.influence == Influence::Hint {
            return ClaimState::Hint;
        }
        if let Some(by) = self.contested_by(node, statement) {
            return ClaimState::Contested { by };
        }
        // Whoever lies in turn with others must not keep it away between two probes.
        let is_proven = self.probed.is_some_and(|sent| own.last_success >= Some(sent));
        if self.probe.is_none() && !self.may_probe(now) && is_proven {
            return ClaimState::Waiting;
        }
        ClaimState::Pending
    }

    /// Another node of the own circle that was answered since this one's first failure.
    fn contested_by(&self, node: NodeId, statement: &Statement) -> Option<NodeId> {
        let since = statement.first_failure?.plus(CLOCK_ERROR_US);
        let mut others = self.statements.iter().filter(|(other, _)| **other != node);
        others
            .find(|(_, other)| other.circle == Circle::Own && other.last_success > Some(since))
            .map(|(other, _)| *other)
    }

    /// Whether a probe would tell something.
    pub(super) fn is_worth_a_probe(
        &self,
        (node, state): (NodeId, ClaimState),
        own: &OwnView,
        rules: &Rules<'_>,
        now: Time,
    ) -> bool {
        let Some(statement) = self.statements.get(&node) else {
            return false;
        };
        if state == ClaimState::Beaten {
            // Both began within a moment: the reporter has failed since, and nothing was asked here.
            let newer = statement.last_failure > own.last_success.map(|success| success.plus(CLOCK_ERROR_US));
            return newer && statement.shortcoming(now).is_none();
        }
        // Others must not keep a node busy that nobody asks.
        state.is_open() && (statement.circle == Circle::Own || rules.clients)
    }

    /// What others' fresh reports add up to.
    pub(super) fn verdict(&self, rules: &Rules<'_>, now: Time) -> (Verdict, Option<(VerdictSource, NodeId)>) {
        let has_say = |node: NodeId| self.key.is_none_or(|key| rules.mutes.until(node, key, now).is_none());
        let own = || self.statements.iter().filter(|(_, s)| s.circle == Circle::Own);
        // One of them, but the same each time: mere times do not change the table.
        let followed = self.said.claim.map(|claim| claim.by);
        let down = own()
            .filter(|(node, s)| s.shortcoming(now).is_none() && has_say(**node))
            .filter(|(node, s)| self.contested_by(**node, s).is_none())
            .min_by_key(|(node, _)| (Some(**node) != followed, **node));
        if let Some((node, _)) = down {
            return (Verdict::Down, Some((VerdictSource::Own, *node)));
        }
        match own().find(|(_, s)| s.is_up()) {
            Some((node, _)) => (Verdict::Up, Some((VerdictSource::Own, *node))),
            None => (Verdict::None, None),
        }
    }

    /// Whether peers should hear that this node was answered since: once per claim, at most one per five seconds.
    pub(super) fn contradict(&mut self, own: &OwnView, rules: &Rules<'_>, now: Time) -> bool {
        if !matches!(own.state, State::Up | State::Probation) || !is_over(self.contradicted, now) {
            return false;
        }
        let mut any = false;
        let key = self.key;
        let has_say = |node: NodeId| key.is_none_or(|key| rules.mutes.until(node, key, now).is_none());
        for (node, statement) in self.statements.iter_mut().filter(|(_, s)| !s.contradicted) {
            // Who has no say here is not argued with: each word of a liar would make every node publish.
            if !has_say(*node) {
                continue;
            }
            let since = statement.first_failure.map(|first| first.plus(CLOCK_ERROR_US));
            if statement.shortcoming(now).is_none() && own.last_success > since {
                statement.contradicted = true;
                any = true;
            }
        }
        if any {
            self.contradicted = Some(now);
        }
        any
    }

    /// Whether a peer was answered since the first failure here, as was not known before; at most once per five seconds.
    pub(super) fn hurry(&mut self, own: &OwnView, now: Time) -> bool {
        let Some(first_failure) = own.first_failure.filter(|_| !own.state.is_usable()) else {
            return false;
        };
        if !is_over(self.hurried, now) {
            return false;
        }
        let mut any = false;
        for statement in self.statements.values_mut() {
            if is_hope(statement, first_failure) {
                statement.urged = Some(first_failure);
                any = true;
            }
        }
        if any {
            self.hurried = Some(now);
        }
        any
    }
}
