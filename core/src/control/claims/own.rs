//! What this node says of endpoints to its mesh.

use std::cmp::Reverse;

use super::super::{Control, Output};
use crate::health::Health;
use crate::health::state::State;
use crate::report::{EndpointKey, OPINIONS_MAX, Opinion, OwnReport};
use crate::time::Time;
use crate::topology::{EndpointId, GroupId};

/// What peers care to hear of an endpoint at once when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It is used, or merely suspect.
    Fine,
    /// It keeps losing too much.
    Lossy,
    /// It is down.
    Down,
}

/// What this node said, counted up.
#[derive(Debug, Default)]
pub(super) struct OwnCounts {
    /// Changes that peers hear of at once.
    urgent: u64,
    /// Times that own evidence spoke against a peer's claim.
    contradiction: u64,
    /// Of endpoints that have a key, in order: what was told last.
    told: Vec<Told>,
    /// Whether a path was told to be suspect.
    uplink_suspect: bool,
}

impl OwnCounts {
    /// Own evidence speaks against what a peer says.
    pub(super) fn contradict(&mut self) {
        self.contradiction = self.contradiction.saturating_add(1);
    }
}

impl Control {
    /// What this node says of endpoints. Counters change when [`super::super::Output::OwnReport`] is put out; times go
    /// on all the while: ask again before each signature.
    #[must_use]
    pub fn own_report(&self, _now: Time) -> OwnReport {
        let mut opinions: Vec<(u8, Reverse<Option<Time>>, EndpointId, Opinion)> = Vec::new();
        for ((id, health), case) in self.topology.endpoint_ids().zip(&self.health).zip(&self.peers.cases) {
            if let Some(key) = case.key
                && self.topology.scope_of_endpoint(id).is_public()
                && opinions.iter().all(|(.., known)| known.endpoint != key)
            {
                let used = health.last_success().max(health.last_failure());
                opinions.push((order(health.state()), Reverse(used), id, self.opinion(id, health, key)));
            }
        }
        opinions.sort_by_key(|(order, used, id, _)| (*order, *used, *id));
        let opinions: Vec<Opinion> = opinions
            .into_iter()
            .map(|(.., opinion)| opinion)
            .take(OPINIONS_MAX)
            .collect();
        OwnReport {
            urgent: self.peers.own.urgent,
            contradiction: self.peers.own.contradiction,
            uplink_suspect: self.paths.suspect(GroupId::PUBLIC).next().is_some(),
            any_down: opinions.iter().any(|opinion| opinion.state == State::Down),
            opinions,
        }
    }

    /// What this node says of one endpoint.
    fn opinion(&self, id: EndpointId, health: &Health, endpoint: EndpointKey) -> Opinion {
        let doubt = health.doubt().filter(|_| !health.state().is_usable());
        let first_failure = doubt.map(|doubt| doubt.since);
        let witnessed = first_failure.is_some_and(|since| {
            self.way_and_operator(id)
                .is_some_and(|(way, operator)| self.paths.other_answered(way, operator, since))
        });
        // What came after it was found down says nothing about that finding.
        let found = (health.state() == State::Down).then(|| health.since());
        let stalled = self
            .stalled
            .is_some_and(|at| Some(at) >= first_failure && found.is_none_or(|found| at <= found));
        Opinion {
            endpoint,
            state: health.state(),
            cause: health.cause(),
            witnessed,
            stalled: stalled && first_failure.is_some(),
            first_failure,
            last_failure: health.last_failure(),
            last_success: health.last_success(),
        }
    }

    /// Notes whether something changed that peers should hear of at once.
    pub(in super::super) fn tell_peers(&mut self) {
        if self.peers.cases.is_empty() {
            return;
        }
        let told = || {
            // What has no name on the wire is nobody else's business, nor is the moment it changes.
            let named = self.health.iter().zip(&self.peers.cases);
            let named = named.filter(|(_, case)| case.key.is_some());
            named.map(|(health, _)| match health.state() {
                State::Down => Told::Down,
                State::Suspect if health.loss_lasts() => Told::Lossy,
                State::Suspect | State::Unknown | State::Up | State::Probation => Told::Fine,
            })
        };
        let uplink_suspect = self.paths.suspect(GroupId::PUBLIC).next().is_some();
        let own = &mut self.peers.own;
        if !told().eq(own.told.iter().copied()) || uplink_suspect != own.uplink_suspect {
            own.told = told().collect();
            own.uplink_suspect = uplink_suspect;
            own.urgent = own.urgent.saturating_add(1);
            self.outputs.push_back(Output::OwnReport);
        }
    }
}

/// What is not up goes first.
fn order(state: State) -> u8 {
    match state {
        State::Down => 0,
        State::Suspect => 1,
        State::Probation => 2,
        State::Up => 3,
        State::Unknown => 4,
    }
}
