//! The last report of each node, and the statements of all by endpoint.

use std::collections::BTreeMap;

use super::Influence;
use super::case::Case;
use super::mutes::Mutes;
use super::own::OwnCounts;
use super::statement::Statement;
use crate::health::Begun;
use crate::mesh::NODES_MAX;
use crate::report::{EndpointKey, NodeId, OPINIONS_MAX, Opinion, PeerReport, SiteKey};
use crate::time::Time;
use crate::topology::EndpointId;
use crate::verdict::Said;

/// What peers say, and what this node says to them.
#[derive(Debug, Default)]
pub(in crate::control) struct Peers {
    /// What reports may do.
    pub(super) influence: Influence,
    /// Where this node stands.
    pub(super) site: Option<SiteKey>,
    /// The last report of each node; at most [`NODES_MAX`], of more none is taken.
    reports: BTreeMap<NodeId, PeerReport>,
    /// When the first of them is stale.
    stale: Option<Time>,
    /// By [`EndpointId`]; empty without a mesh.
    pub(super) cases: Vec<Case>,
    /// Who has no say about what.
    pub(super) mutes: Mutes,
    /// When a claim last had another operator asked.
    pub(super) referenced: Option<Time>,
    /// By [`EndpointId`]: begin of the first failure by which a claim moves its place.
    pub(super) reported: Vec<Option<Time>>,
    /// What this node says counted up.
    pub(super) own: OwnCounts,
}

impl Peers {
    /// By [`EndpointId`]: begin of the first failure by which a claim moves its place.
    pub(in crate::control) fn reported(&self) -> &[Option<Time>] {
        &self.reported
    }

    /// What peers say of an endpoint.
    pub(in crate::control) fn said(&self, id: EndpointId) -> Said {
        self.case(id).map_or_else(Said::default, |case| case.said)
    }

    /// Whether a claim or hint about an endpoint is undecided.
    pub(in crate::control) fn is_hinted(&self, id: EndpointId) -> bool {
        self.case(id).is_some_and(|case| case.hinted)
    }

    /// An endpoint's case.
    fn case(&self, id: EndpointId) -> Option<&Case> {
        self.cases.get(usize::from(id.0))
    }

    /// Whether an endpoint's own probes are sent though no client asks.
    pub(in crate::control) fn is_checking(&self, id: EndpointId, now: Time) -> bool {
        self.case(id).is_some_and(|case| case.is_checking(now))
    }

    /// Whether own evidence about this endpoint may decide something.
    pub(in crate::control) fn is_open(&self, id: EndpointId) -> bool {
        self.case(id).is_some_and(|case| case.is_dirty || case.is_open())
    }

    /// Own evidence changed.
    pub(in crate::control) fn touch(&mut self, id: EndpointId) {
        if let Some(case) = self.cases.get_mut(usize::from(id.0)) {
            case.is_dirty = true;
        }
    }

    /// Whether this attempt probes a claim of bad rcodes.
    pub(in crate::control) fn is_probe_for_rcodes(&self, id: EndpointId, begun: Begun) -> bool {
        self.case(id)
            .is_some_and(|case| case.is_probe(begun.id) && case.is_about_rcodes())
    }

    /// Probes under way are lost.
    pub(in crate::control) fn drop_probes(&mut self) {
        for case in &mut self.cases {
            case.drop_probe();
        }
    }

    /// Moves what is said of endpoints to their new ids; new ones have no key yet.
    pub(in crate::control) fn renumber(&mut self, known: &[Option<EndpointId>]) {
        if self.cases.is_empty() {
            return;
        }
        let mut old: Vec<Option<Case>> = std::mem::take(&mut self.cases).into_iter().map(Some).collect();
        let older = std::mem::take(&mut self.reported);
        for id in known {
            let index = id.map(|id| usize::from(id.0));
            let case = index.and_then(|index| old.get_mut(index)).and_then(Option::take);
            self.cases.push(case.unwrap_or_else(|| Case::new(None)));
            self.reported
                .push(index.and_then(|index| older.get(index).copied().flatten()));
        }
        self.drop_probes();
    }

    /// How `count` endpoints are called from here on.
    pub(super) fn set_keys(&mut self, keys: &[Option<EndpointKey>], count: usize) {
        let count = if keys.is_empty() { 0 } else { count };
        self.cases.truncate(count);
        self.cases.resize_with(count, || Case::new(None));
        self.reported = Vec::new();
        for (index, case) in self.cases.iter_mut().enumerate() {
            let key = keys.get(index).copied().flatten();
            if case.key != key {
                *case = Case::new(key);
                for (node, report) in &self.reports {
                    if let Some(opinion) = key.and_then(|key| opinion_on(report, key)) {
                        case.statements.insert(*node, Statement::new(report, opinion, None));
                    }
                }
            }
            case.is_dirty = true;
        }
    }

    /// A node says this from here on.
    pub(super) fn take(&mut self, report: PeerReport, now: Time) {
        let node = report.node;
        if report.fresh_until <= now {
            self.forget(node);
            return;
        }
        if self.reports.len() >= NODES_MAX && !self.reports.contains_key(&node) {
            return;
        }
        for case in &mut self.cases {
            let before = case.statements.remove(&node);
            let opinion = case.key.and_then(|key| opinion_on(&report, key));
            case.is_dirty |= before.is_some() || opinion.is_some();
            if let Some(opinion) = opinion {
                let statement = Statement::new(&report, opinion, before.as_ref());
                case.statements.insert(node, statement);
            }
        }
        self.reports.insert(node, report);
        self.note_stale();
    }

    /// Notes when the first report is stale.
    fn note_stale(&mut self) {
        self.stale = self.reports.values().map(|report| report.fresh_until).min();
    }

    /// What a node said counts no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.reports.remove(&node);
        for case in &mut self.cases {
            case.is_dirty |= case.statements.remove(&node).is_some();
        }
        self.note_stale();
    }

    /// What is stale at `now` counts no more.
    pub(super) fn expire(&mut self, now: Time) {
        if self.stale.is_none_or(|at| at > now) {
            return;
        }
        let stale: Vec<NodeId> = self
            .reports
            .values()
            .filter(|report| report.fresh_until <= now)
            .map(|report| report.node)
            .collect();
        for node in stale {
            self.forget(node);
        }
    }

    /// When something changes by itself.
    pub(in crate::control) fn next_due(&self) -> Option<(Time, &'static str)> {
        let case = self.cases.iter().filter_map(Case::due).min();
        let dues = [self.stale.map(|at| (at, "stale report")), case.map(|at| (at, "claim"))];
        dues.into_iter().flatten().min()
    }
}

/// What a report says of the endpoint of this key, among its first [`OPINIONS_MAX`] opinions.
fn opinion_on(report: &PeerReport, key: EndpointKey) -> Option<&Opinion> {
    let mut counted = report.opinions.iter().take(OPINIONS_MAX);
    counted.find(|opinion| opinion.endpoint == key)
}
