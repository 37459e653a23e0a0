//! What happened, as an operator reads it: one line per event, what they care about at info, what needs somebody at warn.
//!
//! Each line carries `at_us`, the node's clock (CLOCK_BOOTTIME, microseconds): lines of several processes on one machine
//! can be put in order by it.

use detour_core::control::Event;
use detour_core::health::state::State;
use detour_core::routes::PlaceWhy;
use detour_core::{GroupId, Time, Topology};
use detour_mesh::name_of;

use crate::clock::wall_s;
use crate::clock_wrong;

/// Whether something answers that did not: remembered failures may be wrong from here on.
pub(super) fn is_return(event: &Event) -> bool {
    match event {
        Event::StateChanged { from, to, .. } => !from.is_usable() && to.is_usable(),
        Event::UplinkReturned(_) | Event::SomethingUp(_) | Event::Resumed { .. } => true,
        Event::PlaceChanged { .. } | Event::UplinkSuspect(_) | Event::NothingUp(_) => false,
        Event::Claimed { .. } | Event::ClaimDecided { .. } => false,
        Event::InTheClear(_) | Event::EncryptedAgain(_) | Event::ClockWrong(_) | Event::ClockRight => false,
    }
}

/// Writes the line of an event that happened at `at`.
pub(super) fn log(event: &Event, at: Time, topology: &Topology) {
    let at_us = at.as_micros();
    let label = |endpoint| topology.endpoint(endpoint).map_or("?", |e| e.label.as_str());
    let name = |group| topology.group_name(group);
    match *event {
        Event::StateChanged {
            endpoint,
            from,
            to,
            cause,
        } => {
            let endpoint = label(endpoint);
            let (from, to, cause) = (from.word(), to.word(), cause.word());
            if to == State::Down.word() {
                tracing::warn!(at_us, %endpoint, from, to, cause, "endpoint state changed");
            } else if from == State::Unknown.word() && to == State::Up.word() {
                tracing::debug!(at_us, %endpoint, from, to, cause, "endpoint state changed");
            } else {
                tracing::info!(at_us, %endpoint, from, to, cause, "endpoint state changed");
            }
        }
        Event::PlaceChanged { endpoint, from, to } => log_place(at_us, label(endpoint), from, to),
        Event::Claimed { endpoint, claim } => {
            let (endpoint, peer) = (label(endpoint), name_of(claim.by));
            let (cause, claim) = (claim.cause.word(), claim.state.word());
            tracing::info!(at_us, %endpoint, peer, cause, claim, "a peer says that an endpoint fails");
        }
        Event::ClaimDecided { endpoint, claim } => {
            let (endpoint, peer) = (label(endpoint), name_of(claim.by));
            let us = |at: Option<Time>| at.map(Time::as_micros);
            let (arrived_us, probed_us) = (claim.arrived.as_micros(), us(claim.probed));
            let (cause, claim) = (claim.cause.word(), claim.state.word());
            tracing::info!(
                at_us, %endpoint, peer, cause, claim, arrived_us, probed_us, "own evidence decided on a peer's word"
            );
        }
        Event::UplinkSuspect(path) => {
            tracing::warn!(at_us, %path, "no provider answers on this path: the uplink is suspect, nobody is condemned");
        }
        Event::UplinkReturned(path) => tracing::info!(at_us, %path, "providers answer on this path again"),
        Event::Resumed { gap_us } => {
            tracing::info!(
                at_us,
                gap_ms = gap_us / 1_000,
                "the machine slept: paths are judged anew"
            );
        }
        Event::NothingUp(group) => warn_of(at_us, name(group), nothing_up_text(topology, group)),
        Event::SomethingUp(group) => tell_of(at_us, name(group), "an endpoint is usable again"),
        Event::InTheClear(group) => warn_of(
            at_us,
            name(group),
            "nothing encrypted answers: queries travel in the clear",
        ),
        Event::EncryptedAgain(group) => tell_of(at_us, name(group), "queries travel encrypted again"),
        Event::ClockWrong(wrong) => {
            tracing::warn!(
                at_us,
                "{}: certificates cannot be judged by it",
                clock_wrong::text(&wrong, wall_s())
            );
        }
        Event::ClockRight => tracing::info!(at_us, "this machine's clock is right, as far as certificates tell"),
    }
}

/// An endpoint serves in another place, or for another reason.
fn log_place(at_us: u64, endpoint: &str, from: PlaceWhy, to: PlaceWhy) {
    let is_company = |why: PlaceWhy| matches!(why, PlaceWhy::Sibling | PlaceWhy::ReportedSibling | PlaceWhy::Cleartext);
    let quiet = is_company(from) || is_company(to);
    let (place, from, why) = (to.place().word(), from.word(), to.word());
    if quiet {
        // Nothing happened to it: it follows others, of which there was a line.
        tracing::debug!(at_us, %endpoint, place, from, why, "endpoint place changed");
    } else {
        tracing::info!(at_us, %endpoint, place, from, why, "endpoint place changed");
    }
}

/// What it means that nothing is usable.
fn nothing_up_text(topology: &Topology, group: GroupId) -> &'static str {
    if topology.is_encrypted_only(group) {
        "nothing encrypted answers, and there is nothing else to ask: stale answers are served at once"
    } else {
        "no endpoint is usable: stale answers are served at once"
    }
}

/// What is wrong with a whole group.
fn warn_of(at_us: u64, group: &str, what: &str) {
    tracing::warn!(at_us, group, "{what}");
}

/// What is well again with a whole group.
fn tell_of(at_us: u64, group: &str, what: &str) {
    tracing::info!(at_us, group, "{what}");
}
