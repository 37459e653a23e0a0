//! When queries may travel where anybody on the path can read them.
//!
//! By default they may once nothing encrypted answers any more: a network that blocks DoT and DoH, or a machine whose
//! clock makes every certificate look expired, must not be without names (its clock is set by names). What is merely
//! unknown does not count as failed, and nothing counts within two seconds of a start, a resume or a change of route.

use crate::Encryption;
use crate::health::Health;
use crate::health::state::State;
use crate::time::{SEC, Time};
use crate::topology::{Endpoint, Topology};

/// How long after a start, resume or change of route nothing counts; how long a suspect may still prove itself.
const PATIENCE_US: u64 = 2 * SEC;

/// From when on cleartext is allowed, as things stand; `None`: an encrypted endpoint may still answer, or never.
pub(super) fn allowed_from(policy: Encryption, topology: &Topology, health: &[Health], settled: Time) -> Option<Time> {
    match policy {
        Encryption::Any => return Some(Time::ZERO),
        Encryption::Require => return None,
        Encryption::Prefer => {}
    }
    if !is_withheld(policy, topology) {
        return Some(Time::ZERO);
    }
    let mut encrypted = health
        .iter()
        .zip(&topology.endpoints)
        .filter(|(_, endpoint)| endpoint.transport.is_encrypted())
        .map(|(own, _)| own);
    encrypted.try_fold(settled.plus(PATIENCE_US), |from, own| match own.state() {
        _ if own.has_no_route() => Some(from),
        State::Unknown | State::Up | State::Probation => None,
        State::Suspect => Some(from.max(own.since().plus(PATIENCE_US))),
        State::Down => Some(from),
    })
}

/// Whether cleartext has to wait for something: encryption is preferred, and some endpoint is encrypted.
pub(super) fn is_withheld(policy: Encryption, topology: &Topology) -> bool {
    let is_encrypted = |endpoint: &Endpoint| endpoint.transport.is_encrypted();
    policy == Encryption::Prefer && topology.endpoints.iter().any(is_encrypted)
}
