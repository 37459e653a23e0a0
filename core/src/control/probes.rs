//! Own probes: which are due, whom else to ask beside them, and what their answers say.

use std::sync::Arc;

use super::paths::Way;
use super::{Control, Output, PROBE_IDS, ProbeWhy};
use crate::dice::Purpose as DicePurpose;
use crate::health::probe::NOTHING_UP_INTERVAL_US;
use crate::health::state::State;
use crate::health::{Begun, Health};
use crate::outcome::{Cause, Rcode, Reply};
use crate::time::{SEC, Time};
use crate::topology::{Endpoint, EndpointId, GroupId, OperatorId};

/// How long another operator's answer to the probe question stays a reference.
const REFERENCE_US: u64 = 60 * SEC;
/// An endpoint that answered so lately need not be asked whether it would.
const ANSWERED_US: u64 = 10 * SEC;
/// A probe without any word from the shell is forgotten after this long.
const PROBE_LOST_US: u64 = 3 * SEC;
/// Probes under way at once; more wait for their schedule's next turn.
pub(super) const PROBES_MAX: usize = 256;

/// How an operator answered the probe question lately.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reference {
    /// Last good answer.
    good: Option<Time>,
    /// Last bad rcode.
    bad: Option<Time>,
}

impl Control {
    /// What a probe's answer says: success, or a bad rcode that another operator's good answer proves wrong.
    ///
    /// Whoever answers at all is alive, which settles a doubt about the path. A doubt about rcodes is settled only
    /// by a good answer, unless nobody answers the probe question well: then it proves nothing.
    pub(super) fn judge_probe(
        &mut self,
        endpoint: EndpointId,
        (scope, operator): (GroupId, OperatorId),
        begun: Begun,
        reply: Reply,
        now: Time,
    ) -> (bool, Option<Rcode>) {
        let doubt = self.health.get(usize::from(endpoint.0)).and_then(Health::doubt);
        // A datagram that sends everybody to a stream says nothing of the stream, which may be what is broken.
        if reply == Reply::Truncated && doubt.is_some_and(|doubt| doubt.cause == Cause::Garbage) {
            return (false, None);
        }
        let Reply::Failed(rcode) = reply else {
            if reply.is_good() {
                self.references.entry((scope, operator)).or_default().good = Some(now);
            }
            return (true, None);
        };
        self.references.entry((scope, operator)).or_default().bad = Some(now);
        let recent = |at: Option<Time>| at.is_some_and(|at| now.since(at) < REFERENCE_US);
        let others = || self.others(scope, operator);
        // A private network's server may know its own zones and nothing else.
        if scope.is_public() && others().any(|reference| recent(reference.good)) {
            return (false, Some(rcode));
        }
        let by_rcode =
            doubt.is_some_and(|doubt| doubt.cause.is_rcode()) || self.peers.is_probe_for_rcodes(endpoint, begun);
        (!by_rcode || others().any(|reference| recent(reference.bad)), None)
    }

    /// Sends the probes that are due, if anybody is there to profit, or a peer's word is being checked.
    pub(super) fn send_probes(&mut self, now: Time) {
        let (clients, routes) = (self.has_clients(now), Arc::clone(&self.routes));
        let ids: Vec<EndpointId> = self.topology.endpoint_ids().collect();
        for id in ids {
            if !clients && !self.peers.is_checking(id, now) {
                continue;
            }
            let Some(health) = self.health.get_mut(usize::from(id.0)) else {
                continue;
            };
            // A private network that one has left may be gone for weeks: its own schedule is enough.
            if routes.nothing_up && self.topology.scope_of_endpoint(id).is_public() {
                health.probes.limit_interval(now, NOTHING_UP_INTERVAL_US);
            }
            let alone = health.pause().is_some() && routes.is_alone(id);
            if health.probe_due(alone).is_none_or(|at| at > now) {
                continue;
            }
            if health.pause().is_some() {
                // Nothing else is left, and it may have changed its mind.
                health.note_tried(now);
                self.probe_anyway(id, ProbeWhy::Schedule, now);
                continue;
            }
            let jitter = self
                .dice
                .below(250, DicePurpose::ProbeJitter, now.as_micros(), u64::from(id.0));
            health.probes.sent(now, jitter);
            self.probe(id, ProbeWhy::Schedule, now);
            self.probe_reference(id, now);
        }
    }

    /// Asks another operator on the same path, if none is known to have answered since this endpoint's trouble
    /// began, or if none is known to answer the probe question.
    fn probe_reference(&mut self, suspect: EndpointId, now: Time) {
        let Some((way, operator)) = self.way_and_operator(suspect) else {
            return;
        };
        let Some(doubt) = self
            .health
            .get(usize::from(suspect.0))
            .filter(|health| health.state() == State::Suspect)
            .and_then(Health::doubt)
        else {
            return;
        };
        let answered = self.paths.other_answered(way, operator, doubt.since);
        let known = !doubt.cause.is_rcode() || self.has_reference(way.scope, operator, now);
        if !answered || !known {
            self.probe_another(way, operator, now);
        }
    }

    /// How other operators of a scope answered the probe question.
    fn others(&self, scope: GroupId, operator: OperatorId) -> impl Iterator<Item = &Reference> {
        let all = self.references.iter();
        all.filter(move |((other_scope, other), _)| *other_scope == scope && *other != operator)
            .map(|(_, reference)| reference)
    }

    /// Whether an operator of this scope other than this one answered the probe question well lately.
    pub(super) fn has_reference(&self, scope: GroupId, operator: OperatorId, now: Time) -> bool {
        let recent = |reference: &Reference| reference.good.is_some_and(|at| now.since(at) < REFERENCE_US);
        self.others(scope, operator).any(recent)
    }

    /// Asks the best endpoint of another operator on this way.
    pub(super) fn probe_another(&mut self, way: Way, operator: OperatorId, now: Time) {
        let best = self
            .topology
            .endpoint_ids()
            .zip(&self.topology.endpoints)
            .filter(|(_, endpoint)| {
                endpoint.path() == way.path && self.topology.scope_of(endpoint.provider) == way.scope
            })
            .filter(|(_, endpoint)| {
                self.topology
                    .provider(endpoint.provider)
                    .is_some_and(|p| p.operator != operator)
            })
            .filter_map(|(id, _)| {
                let route = self.routes.endpoint(id).filter(|route| route.why.may_be_asked())?;
                Some((route.why, route.timing.p50_us.unwrap_or(u64::MAX), id))
            })
            .min();
        if let Some((_, _, id)) = best {
            self.probe(id, ProbeWhy::Reference, now);
        }
    }

    /// Connecting to this endpoint takes long. The other address family is another path, judged by itself: an endpoint of the
    /// same provider there, over the same class of transport, is asked meanwhile, unless it answered lately (RFC 8305
    /// section 5). If this one fails then, it is known whether that one works.
    pub fn handle_slow(&mut self, slow: EndpointId, now: Time) {
        let (Some(path), Some(provider)) = (
            self.topology.endpoint(slow).map(Endpoint::path),
            self.topology.provider_of(slow),
        ) else {
            return;
        };
        let is_other = |id: &EndpointId| {
            let other = self.topology.endpoint(*id).map(Endpoint::path);
            other.is_some_and(|other| other.class == path.class && other.family != path.family)
        };
        let has_answered = |health: &Health| health.last_success().is_some_and(|at| now.since(at) < ANSWERED_US);
        let is_wanted = |id: &EndpointId| {
            let health = self.health.get(usize::from(id.0));
            health.is_some_and(|health| health.has_way() && health.state().is_usable())
        };
        let mut others = provider.endpoints.iter().copied().filter(is_other).filter(is_wanted);
        if let Some(other) = others.next()
            && !self.health.get(usize::from(other.0)).is_some_and(has_answered)
        {
            self.probe(other, ProbeWhy::Family, now);
        }
    }

    /// Has an endpoint probed; the attempt's number, unless it may not be asked or too many are under way.
    pub(super) fn probe(&mut self, endpoint: EndpointId, why: ProbeWhy, now: Time) -> Option<u64> {
        let may_be_asked = |own: &Endpoint| {
            let mut groups = self.topology.group_ids();
            own.transport.is_encrypted()
                || groups
                    .any(|group| self.topology.is_member(group, own.provider) && self.is_cleartext_allowed(group, now))
        };
        let barred = !self.topology.endpoint(endpoint).is_some_and(may_be_asked);
        let is_paused = |health: &Health| health.pause().is_some();
        if barred || self.health.get(usize::from(endpoint.0)).is_some_and(is_paused) {
            return None;
        }
        self.probe_anyway(endpoint, why, now)
    }

    /// The same, though it asked to be left alone.
    fn probe_anyway(&mut self, endpoint: EndpointId, why: ProbeWhy, now: Time) -> Option<u64> {
        if self.probes.len() >= PROBES_MAX {
            return None;
        }
        let id = self.next_probe;
        self.next_probe = self.next_probe.wrapping_add(1) | PROBE_IDS;
        self.probes.insert(id, now.plus(PROBE_LOST_US));
        self.outputs.push_back(Output::Probe { id, endpoint, why });
        Some(id)
    }
}
