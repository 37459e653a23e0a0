//! What peers say of endpoints, and what it may move here: place, own probes, never more.

use super::Control;
use crate::report::{EndpointKey, NodeId, OwnReport, PeerReport, SiteKey};
use crate::time::Time;

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

/// What the control plane must know to understand peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshSettings {
    /// What reports may do.
    pub influence: Influence,
    /// By [`crate::EndpointId`]: how each endpoint is called on the wire. Empty: no mesh.
    pub keys: Vec<EndpointKey>,
    /// Where this node stands.
    pub site: Option<SiteKey>,
}

impl Control {
    /// What peers may do here, and how endpoints are called; after each change of the configuration.
    pub fn handle_mesh(&mut self, _settings: MeshSettings, _now: Time) {}

    /// A peer says this; it replaces what it said before.
    pub fn handle_report(&mut self, _report: PeerReport, _now: Time) {}

    /// What this peer said counts no more.
    pub fn handle_forget(&mut self, _node: NodeId, _now: Time) {}

    /// What this node says of endpoints; changed whenever [`super::Output::OwnReport`] was drained.
    #[must_use]
    pub fn own_report(&self, _now: Time) -> OwnReport {
        OwnReport::default()
    }
}
