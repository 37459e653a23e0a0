//! The first look at providers: a node that starts, or is given new endpoints, asks each provider once though no
//! client did, so that it can say at once who answers and over which transport.
//!
//! For three seconds it behaves as if a client had asked: doubts are probed and settled, and where a provider's first
//! choice does not answer, the next one gets its turn. Where nobody answers at all it looks for as long again, because
//! what travels in the clear has its turn only after a while. Then it is idle again until a client asks.

use std::collections::BTreeSet;

use super::{Control, ProbeWhy};
use crate::health::Health;
use crate::health::state::State;
use crate::time::{SEC, Time};
use crate::topology::EndpointId;

/// How long a node looks: two seconds show that a path is dead, and the operator is told within three.
pub const LOOK_US: u64 = 3 * SEC;

/// How long it looks while nobody answers: connecting to a black hole takes two seconds, and two more pass before
/// cleartext is allowed.
const LOOK_LONG_US: u64 = 6 * SEC;

/// The first look.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// When it began, last.
    since: Option<Time>,
    /// Endpoints that had their probe: at most as many as there are.
    asked: BTreeSet<EndpointId>,
}

impl Start {
    /// Whether this node looks at `now`; `answered` says whether any endpoint has.
    pub(super) fn is_looking(&self, now: Time, answered: impl FnOnce() -> bool) -> bool {
        match self.since.map(|since| now.since(since)) {
            None => false,
            Some(age_us) => age_us < LOOK_US || (age_us < LOOK_LONG_US && !answered()),
        }
    }

    /// Another configuration: if it brings new endpoints, a node that has looked before looks again.
    pub(super) fn note_new(&mut self, known: &[Option<EndpointId>], now: Time) {
        if self.since.is_some() && known.iter().any(Option::is_none) {
            self.since = Some(now);
        }
    }

    /// Endpoints have new ids.
    pub(super) fn renumber(&mut self, known: &[Option<EndpointId>]) {
        let ids = (0..=u16::MAX).map(EndpointId);
        let asked = ids
            .zip(known)
            .filter(|(_, old)| old.is_some_and(|old| self.asked.contains(&old)));
        self.asked = asked.map(|(new, _)| new).collect();
    }
}

impl Control {
    /// The node begins to serve.
    pub fn handle_start(&mut self, now: Time) {
        self.start.since = Some(now);
        self.settle(now);
    }

    /// Somebody can be asked who could not before: if the node has looked before, it looks again.
    pub(super) fn look_again(&mut self, now: Time) {
        if self.start.since.is_some() {
            self.start.since = Some(now);
            self.settle(now);
        }
    }

    /// Whether the node looks around, though no client asked.
    pub(super) fn is_looking(&self, now: Time) -> bool {
        let answers = |health: &Health| matches!(health.state(), State::Up | State::Probation);
        // That a private network's resolver answers says nothing of the others.
        let is_public = |id: &EndpointId| self.topology.scope_of_endpoint(*id).is_public();
        let mut all = self.topology.endpoint_ids().zip(&self.health);
        self.start
            .is_looking(now, || all.any(|(id, health)| is_public(&id) && answers(health)))
    }

    /// While this node looks: probes whom each provider would be asked at, if nothing is known and it was not probed
    /// for this before.
    pub(super) fn probe_choices(&mut self, now: Time) {
        if !self.is_looking(now) {
            return;
        }
        let choices = self.routes.all().flat_map(|table| &table.choices);
        let choices: Vec<EndpointId> = choices.map(|choice| choice.endpoint).collect();
        for endpoint in choices {
            let is_unknown = self
                .routes
                .endpoint(endpoint)
                .is_some_and(|route| route.state == State::Unknown);
            if is_unknown && self.start.asked.insert(endpoint) {
                self.probe(endpoint, ProbeWhy::Start, now);
            }
        }
    }
}
