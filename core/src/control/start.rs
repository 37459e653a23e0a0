//! The first look at providers: a node that starts, or is given new endpoints, asks each provider once though no
//! client did, so that it can say at once who answers and over which transport.
//!
//! For three seconds it behaves as if a client had asked: doubts are probed and settled, and where a provider's first
//! choice does not answer, the next one gets its turn. Then it is idle again until a client asks.

use std::collections::BTreeSet;

use super::{Control, ProbeWhy};
use crate::health::state::State;
use crate::time::{SEC, Time};
use crate::topology::EndpointId;

/// How long a node looks: two seconds show that a path is dead, and the operator is told within three.
pub const LOOK_US: u64 = 3 * SEC;

/// The first look.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// Until when it lasts.
    until: Option<Time>,
    /// Endpoints that had their probe: at most as many as there are.
    asked: BTreeSet<EndpointId>,
}

impl Start {
    /// Whether this node looks at `now`.
    pub(super) fn is_looking(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Another configuration: if it brings new endpoints, a node that has looked before looks again.
    pub(super) fn note_new(&mut self, known: &[Option<EndpointId>], now: Time) {
        if self.until.is_some() && known.iter().any(Option::is_none) {
            self.until = Some(now.plus(LOOK_US));
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
        self.start.until = Some(now.plus(LOOK_US));
        self.settle(now);
    }

    /// While this node looks: probes whom each provider would be asked at, if nothing is known and it was not probed
    /// for this before.
    pub(super) fn probe_choices(&mut self, now: Time) {
        if !self.start.is_looking(now) {
            return;
        }
        let choices: Vec<EndpointId> = self.routes.choices.iter().map(|choice| choice.endpoint).collect();
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
