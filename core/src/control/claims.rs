//! What peers say of endpoints, and what it may move here: place, own probes, never more.
//!
//! Reports are kept by node and by the endpoint's key, so they outlive a change of the configuration, and count until
//! they are stale. Each endpoint's case weighs them against own evidence; a lie can put an endpoint last
//! only, only where no own attempt has succeeded since, only until one own probe returns, and never so that fewer than
//! two operators stay in place. Reports open no budget and return no endpoint.

mod attribution;
mod case;
mod floor;
mod mutes;
mod own;
mod peers;
mod statement;

use self::case::{OwnView, Rules};
pub(super) use self::peers::Peers;
use super::{Control, Event, Output, ProbeWhy};
use crate::health::{Begun, Finish, Health};
use crate::outcome::{Cause, Reply};
use crate::report::{EndpointKey, NodeId, PeerReport, SiteKey};
use crate::time::{SEC, Time};
use crate::topology::{EndpointId, GroupId, OperatorId};
use crate::verdict::ClaimState;

/// What reports lead to is done once per endpoint in this time: a false alarm must not become an attack on a provider.
const PROBE_GAP_US: u64 = 5 * SEC;

/// `[mesh] influence`: what peers' reports may do here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Influence {
    /// As designed: a credible report of the own circle puts an endpoint last until an own probe has decided.
    #[default]
    Full,
    /// Own probes and hedges within the budget, no place.
    Hint,
    /// Nothing; reports are shown.
    None,
}

impl Influence {
    /// The word for configuration, log and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hint => "hint",
            Self::None => "none",
        }
    }
}

/// What the control plane must know to understand peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshSettings {
    /// What reports may do.
    pub influence: Influence,
    /// By [`crate::EndpointId`]: how each endpoint is called on the wire; those that only routes name are not, whatever
    /// stands here. Empty: no mesh.
    pub keys: Vec<EndpointKey>,
    /// Where this node stands.
    pub site: Option<SiteKey>,
}

impl Control {
    /// What peers may do here, and how endpoints are called; after each change of the configuration.
    pub fn handle_mesh(&mut self, settings: MeshSettings, now: Time) {
        self.notice_resume(now);
        self.peers.influence = settings.influence;
        self.peers.site = settings.site;
        let keys: Vec<Option<EndpointKey>> = settings
            .keys
            .iter()
            .zip(self.topology.endpoint_ids())
            // Whom a private name is asked of is known to nobody else, by whatever it could be called.
            .map(|(key, id)| Some(*key).filter(|_| self.topology.scope_of_endpoint(id).is_public()))
            .collect();
        self.peers.set_keys(&keys, self.topology.endpoints.len());
        self.settle(now);
    }

    /// A peer says this; it replaces what it said before. Of more than [`crate::mesh::NODES_MAX`] nodes none is
    /// taken, of more than [`crate::report::OPINIONS_MAX`] opinions the first ones.
    pub fn handle_report(&mut self, report: PeerReport, now: Time) {
        self.notice_resume(now);
        self.peers.take(report, now);
        self.settle(now);
    }

    /// What this peer said counts no more.
    pub fn handle_forget(&mut self, node: NodeId, now: Time) {
        self.notice_resume(now);
        self.peers.forget(node);
        self.settle(now);
    }

    /// Weighs what peers say against what this node saw, sends the probes that it leads to, and notes whose place moves.
    pub(super) fn judge_claims(&mut self, now: Time) {
        self.peers.expire(now);
        if self.peers.cases.is_empty() {
            return;
        }
        let clients = self.has_clients(now);
        let cleartext = self.is_cleartext_allowed(GroupId::PUBLIC, now);
        let mut contradicts = false;
        let mut wanted: Vec<(EndpointId, OwnView)> = Vec::new();
        let rules = Rules {
            influence: self.peers.influence,
            site: self.peers.site,
            mutes: &self.peers.mutes,
            clients,
        };
        let endpoints = self.topology.endpoint_ids().zip(&self.topology.endpoints);
        for ((id, endpoint), (health, case)) in endpoints.zip(self.health.iter_mut().zip(&mut self.peers.cases)) {
            if !case.wants_judgement(now) {
                continue;
            }
            let may_be_asked = (cleartext || endpoint.transport.is_encrypted()) && health.has_way();
            let own = OwnView::new(health, may_be_asked);
            let consequence = case.judge(&own, &rules, now);
            contradicts |= consequence.contradict;
            if consequence.hurry {
                health.probes.limit_interval(now, 0);
            }
            if consequence.confirmed
                && let Some(claim) = case.said.claim
            {
                let event = Event::ClaimDecided { endpoint: id, claim };
                self.outputs.push_back(Output::Event(event));
            }
            if case.wants_probe_now(now) {
                wanted.push((id, own));
            }
        }
        for (id, own) in wanted {
            self.probe_claim(id, &own, now);
        }
        self.apply_claims(now);
        if contradicts {
            self.peers.own.contradict();
            self.outputs.push_back(Output::OwnReport);
        }
    }

    /// Decides whose place moves by reports.
    fn apply_claims(&mut self, now: Time) {
        let cases = self.topology.endpoint_ids().zip(&self.peers.cases);
        let claims: Vec<(Time, EndpointId)> = cases.filter_map(|(id, case)| Some((case.moves?, id))).collect();
        if claims.is_empty() {
            self.peers.reported.clear();
            return;
        }
        let ingredients = self.ingredients();
        let clear = ingredients.clear(now);
        let reported = floor::applied(&ingredients.grounds_of(GroupId::PUBLIC, &clear), claims);
        self.peers.reported = reported;
        for (case, applied) in self.peers.cases.iter_mut().zip(&self.peers.reported) {
            if case.moves.is_some()
                && applied.is_none()
                && let Some(claim) = case.said.claim.as_mut().filter(|c| c.state == ClaimState::Pending)
            {
                claim.state = ClaimState::Floor;
            }
        }
    }

    /// Probes an endpoint because of what peers say.
    fn probe_claim(&mut self, id: EndpointId, own: &OwnView, now: Time) {
        let sent = self.probe(id, ProbeWhy::Claim, now);
        let Some(case) = self.peers.cases.get_mut(usize::from(id.0)) else {
            return;
        };
        case.probe_sent(sent, own, now);
        let (claim, about_rcodes) = (case.said.claim, case.is_about_rcodes());
        if sent.is_none() {
            return;
        }
        if let Some(claim) = claim.filter(|claim| claim.state.is_open()) {
            let event = Event::Claimed { endpoint: id, claim };
            self.outputs.push_back(Output::Event(event));
        }
        // A bad rcode is only proven wrong by another operator's good answer.
        if about_rcodes
            && let Some((way, operator)) = self.way_and_operator(id)
            && !self.has_reference(way.scope, operator, now)
            && self.peers.referenced.is_none_or(|at| now.since(at) >= SEC)
        {
            // Of many claims at once each probe is a reference for the others.
            self.peers.referenced = Some(now);
            self.probe_another(way, operator, now);
        }
    }

    /// A probe ended, and health has filed it: was it for a claim?
    pub(super) fn claim_probe_ended(
        &mut self,
        id: EndpointId,
        begun: Begun,
        finish: Finish,
        is_filed: bool,
        now: Time,
    ) {
        let index = usize::from(id.0);
        let Some(case) = self.peers.cases.get_mut(index).filter(|case| case.is_probe(begun.id)) else {
            return;
        };
        let is_good = self
            .health
            .get(index)
            .is_some_and(|health| health.state().is_usable() && health.last_success() >= Some(begun.at));
        match finish {
            Finish::Answered { .. } if is_good => {
                case.refute(&mut self.peers.mutes, now);
                if let Some(claim) = case.said.claim.filter(|claim| claim.decided == Some(now)) {
                    let event = Event::ClaimDecided { endpoint: id, claim };
                    self.outputs.push_back(Output::Event(event));
                }
            }
            Finish::Answered {
                reply: Reply::Failed(rcode),
                ..
            } if !is_filed => case.probe_unjudged(begun, rcode),
            Finish::Answered { .. } | Finish::Failed(_) | Finish::Mismatched | Finish::Abandoned => case.probe_ended(),
        }
    }

    /// An operator of the public group answered the probe question well: what others said to it for a claim is proven
    /// wrong.
    pub(super) fn file_unjudged(&mut self, operator: OperatorId, now: Time) {
        let endpoints = self.topology.endpoint_ids().zip(&mut self.peers.cases);
        for ((id, case), health) in endpoints.zip(&mut self.health) {
            let is_other = self.topology.provider_of(id).is_some_and(|p| p.operator != operator);
            if is_other && let Some((begun, rcode)) = case.take_unjudged() {
                Health::fail_by_rcode(health, begun, Cause::of_rcode(rcode), now);
            }
        }
    }
}
