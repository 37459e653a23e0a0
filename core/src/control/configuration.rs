//! Another configuration while the node runs: what is known of an endpoint that stays goes on to hold, an endpoint
//! that is gone is forgotten, a new one starts unknown.
//!
//! Where endpoints keep their ids (a cap, a strategy, a name changed), attempts under way go on to be followed.
//! Where they do not, the shell throws away what is still reported under the old ids, so attempts under way are
//! dropped without a judgement: their silence here is the shell's doing and nobody's fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::paths::Numbers;
use super::{Control, Event, Output};
use crate::health::Health;
use crate::routes::Settings;
use crate::time::Time;
use crate::topology::{EndpointId, GroupId, OperatorId, Topology};

impl Control {
    /// The operator gave this node another configuration. Whether the shell must throw away reports under the old ids
    /// is [`Topology::numbers_endpoints_like`]'s to say.
    pub fn handle_configuration(&mut self, topology: Arc<Topology>, settings: Settings, now: Time) {
        self.notice_resume(now);
        let older = std::mem::replace(&mut self.topology, topology);
        self.settings = settings;
        let known = self.topology.endpoints_known_from(&older);
        if !self.topology.numbers_endpoints_like(&older) {
            self.renumber(&known, now);
        }
        let numbers = Numbers {
            operators: operators_known(&older, &self.topology, &known),
            groups: groups_known(&older, &self.topology),
        };
        let ways = self.topology.endpoint_ids().filter_map(|id| self.way_and_operator(id));
        let in_use = ways.map(|(way, _)| way).collect();
        self.paths = self.paths.renumbered(&numbers, &in_use);
        let references = std::mem::take(&mut self.references);
        for ((scope, operator), reference) in references {
            if let (Some(scope), Some(operator)) = (numbers.groups.get(&scope), numbers.operators.get(&operator)) {
                self.references.insert((*scope, *operator), reference);
            }
        }
        self.clock.forget_operators();
        self.publish_under(&known, now);
        self.start.note_new(&known, now);
        self.settle(now);
    }

    /// Moves what is known of endpoints to their new ids.
    fn renumber(&mut self, known: &[Option<EndpointId>], now: Time) {
        let mut old: Vec<Option<Health>> = std::mem::take(&mut self.health).into_iter().map(Some).collect();
        let mut take = |id: EndpointId| old.get_mut(usize::from(id.0)).and_then(Option::take);
        for id in known {
            let mut health = id.and_then(&mut take).unwrap_or_else(|| Health::new(now));
            health.drop_open(now);
            // What probes under way would have told is asked again.
            health.probes.hurry(now);
            self.health.push(health);
        }
        self.probes.clear();
        self.start.renumber(known);
        self.peers.renumber(known);
    }

    /// Publishes the first table of a configuration, and what it changes for endpoints that stay.
    fn publish_under(&mut self, known: &[Option<EndpointId>], now: Time) {
        let older = Arc::clone(&self.routes);
        let version = older.version.saturating_add(1);
        let routes = self.ingredients().build(version, now);
        for (id, (old, new)) in self.topology.endpoint_ids().zip(known.iter().zip(&routes.endpoints)) {
            if let Some(old) = old.and_then(|old| older.endpoint(old))
                && old.why.place() != new.why.place()
            {
                self.outputs.push_back(Output::Event(Event::PlaceChanged {
                    endpoint: id,
                    from: old.why,
                    to: new.why,
                }));
            }
        }
        self.take_table(routes, now);
    }
}

/// By old number: the new number of each operator that still has an endpoint it had. One that was split is nobody in
/// particular, and left out.
fn operators_known(
    older: &Topology,
    newer: &Topology,
    known: &[Option<EndpointId>],
) -> BTreeMap<OperatorId, OperatorId> {
    let mut found: BTreeMap<OperatorId, BTreeSet<OperatorId>> = BTreeMap::new();
    for (new, old) in newer.endpoint_ids().zip(known) {
        if let Some(old) = old.and_then(|old| older.provider_of(old))
            && let Some(new) = newer.provider_of(new)
        {
            found.entry(old.operator).or_default().insert(new.operator);
        }
    }
    let one = |(old, new): (OperatorId, BTreeSet<OperatorId>)| match (new.len(), new.first()) {
        (1, Some(new)) => Some((old, *new)),
        _ => None,
    };
    found.into_iter().filter_map(one).collect()
}

/// By old number: the new number of each group that is still called the same.
fn groups_known(older: &Topology, newer: &Topology) -> BTreeMap<GroupId, GroupId> {
    let new_id = |old: GroupId| {
        let name = older.group_name(old);
        newer.group_ids().find(|new| newer.group_name(*new) == name)
    };
    older.group_ids().filter_map(|old| Some((old, new_id(old)?))).collect()
}
