//! When queries may travel where anybody on the path can read them.
//!
//! By default they may once nothing encrypted answers any more: a network that blocks DoT and DoH, or a machine whose
//! clock makes every certificate look expired, must not be without names (its clock is set by names). What is merely
//! unknown does not count as failed, and nothing counts within two seconds of a start, a resume or a change of route.
//!
//! Each group is judged by itself. A route whose providers have no encrypted endpoint is asked in the clear whatever the
//! rule is: the operator named these very providers for these very names, and most resolvers of private networks speak
//! nothing else.

use crate::Encryption;
use crate::health::Health;
use crate::health::state::State;
use crate::time::{SEC, Time};
use crate::topology::{Endpoint, EndpointId, GroupId, ProviderId, Topology};

/// How long after a start, resume or change of route nothing counts; how long a suspect may still prove itself.
const PATIENCE_US: u64 = 2 * SEC;

/// From when on cleartext is allowed, as things stand; `None`: an encrypted endpoint may still answer, or never.
pub(super) fn allowed_from(
    policy: Encryption,
    topology: &Topology,
    group: GroupId,
    health: &[Health],
    settled: Time,
) -> Option<Time> {
    match policy {
        Encryption::Any => return Some(Time::ZERO),
        Encryption::Require if forbids(topology, group) => return None,
        Encryption::Require | Encryption::Prefer => {}
    }
    if !is_withheld(policy, topology, group) {
        return Some(Time::ZERO);
    }
    let mut from = settled.plus(PATIENCE_US);
    for (_, provider) in topology.members(group) {
        let encrypted = provider.endpoints.iter().filter(|id| {
            let endpoint = topology.endpoint(**id);
            endpoint.is_some_and(|endpoint| endpoint.transport.is_encrypted())
        });
        // A provider has had its time once its first endpoint in trouble had: the others are asked meanwhile.
        let mut suspect_since: Option<Time> = None;
        for own in encrypted.filter_map(|id| health.get(usize::from(id.0))) {
            match own.state() {
                State::Unknown | State::Up | State::Probation if own.has_way() => return None,
                State::Suspect => {
                    suspect_since = Some(suspect_since.map_or_else(|| own.since(), |t| t.min(own.since())))
                }
                State::Unknown | State::Up | State::Probation | State::Down => {}
            }
        }
        from = suspect_since.map_or(from, |since| from.max(since.plus(PATIENCE_US)));
    }
    Some(from)
}

/// Whether a provider is never asked in the clear, whatever group it is asked for.
#[must_use]
pub fn is_cleartext_forbidden(policy: Encryption, topology: &Topology, provider: ProviderId) -> bool {
    let is_own = |group: &GroupId| topology.is_member(*group, provider);
    let mut own = topology.group_ids().filter(is_own);
    policy == Encryption::Require && own.all(|group| forbids(topology, group))
}

/// Whether a group is not asked in the clear where encryption is required.
fn forbids(topology: &Topology, group: GroupId) -> bool {
    group.is_public() || is_encrypted(topology, group)
}

/// Whether cleartext has to wait for something: encryption is preferred, and some endpoint of the group is encrypted.
pub(super) fn is_withheld(policy: Encryption, topology: &Topology, group: GroupId) -> bool {
    policy == Encryption::Prefer && is_encrypted(topology, group)
}

/// Whether the group has somewhere to send what travels in the clear.
pub(super) fn has_clear(topology: &Topology, group: GroupId, health: &[Health]) -> bool {
    let is_clear = |id: &EndpointId| {
        let endpoint = topology.endpoint(*id);
        let has_way = health.get(usize::from(id.0)).is_some_and(Health::has_way);
        has_way && endpoint.is_some_and(|endpoint| !endpoint.transport.is_encrypted())
    };
    let mut endpoints = topology.members(group).flat_map(|(_, provider)| &provider.endpoints);
    endpoints.any(is_clear)
}

/// Whether some endpoint of the group is encrypted.
fn is_encrypted(topology: &Topology, group: GroupId) -> bool {
    let is_encrypted = |endpoint: &Endpoint| endpoint.transport.is_encrypted();
    let mut endpoints = topology.members(group).flat_map(|(_, provider)| &provider.endpoints);
    endpoints.any(|id| topology.endpoint(*id).is_some_and(is_encrypted))
}
