//! Other lives of this node: a former one that peers remember, or another process under the same key.

use crate::report::{BootId, Edition, NodeId, Snapshot};
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::clocks::{micros, wall_micros};
use super::contract::{Event, Output};
use super::own::{Audience, INCARNATION_MAX, INCARNATION_TOLD_MAX};

/// The lower of two processes under one key is silent until it has not heard of the other for this long.
const SILENT_US: u64 = 60 * SEC;
/// A snapshot issued this long after our start is not of a former life of ours, however wrong its age.
const ANOTHER_US: u64 = 2 * SEC;
/// Lives of ours whose editions were overcome; more of them are duplicates.
const LIVES_MAX: usize = 8;
/// How often one peer's unsigned word may lead to a higher incarnation.
const RAISED_MAX: u8 = 4;

impl Cluster {
    /// A peer holds this snapshot of ours, as its hello says. Nobody signed that: it may lead above a former life, a few
    /// times for each peer, and never to silence.
    pub(super) fn heard_of_own(&mut self, from: NodeId, yours: Option<(Edition, BootId)>) {
        let Some((edition, boot)) = yours else {
            return;
        };
        if boot == self.settings.boot || edition < self.own.reached() || self.own.silent_until.is_some() {
            return;
        }
        let peer = self.peers.get_mut(&from);
        if let Some(peer) = peer.filter(|peer| peer.raised_us < RAISED_MAX) {
            peer.raised_us = peer.raised_us.saturating_add(1);
            self.raise_above(edition);
        }
    }

    /// A snapshot under our own key came.
    pub(super) fn heard_own_snapshot(&mut self, snapshot: &Snapshot, age_ms: Option<u32>, now: Time) {
        if snapshot.boot == self.settings.boot {
            return;
        }
        let issued = age_ms.map(|age| now.minus(u64::from(age).saturating_mul(MS)));
        // The age is the bringer's word alone; the signer's wall clock is signed, and ours in a former life.
        let began = self.own.wall_bias.saturating_add(micros(self.own.started));
        let is_later = wall_micros(snapshot.issued_wall_ms) > began;
        if issued.is_some_and(|issued| issued > self.own.started.plus(ANOTHER_US))
            && (is_later || snapshot.edition >= self.own.reached())
        {
            self.another_process(snapshot.edition, now);
        } else {
            self.overcome(snapshot.edition, snapshot.boot, now);
        }
    }

    /// An edition of another life of ours that may be a former one: this life goes on above it.
    fn overcome(&mut self, edition: Edition, boot: BootId, now: Time) {
        if edition < self.own.reached() || self.own.silent_until.is_some() {
            return;
        }
        if self.own.overcome.contains(&boot) || self.own.overcome.len() >= LIVES_MAX {
            self.another_process(edition, now);
        } else {
            self.own.overcome.push(boot);
            self.raise_above(edition);
        }
    }

    /// Another process signs under our key.
    fn another_process(&mut self, edition: Edition, now: Time) {
        let own = &mut self.own;
        own.other = own.other.max(Some(edition));
        let own_is_lower = edition >= own.reached();
        if own_is_lower {
            own.silent_until = Some(now.plus(SILENT_US));
        }
        if own.told.is_none_or(|told| now.since(told) >= SILENT_US) {
            own.told = Some(now);
            self.output(Output::Event(Event::DuplicateInstance { own_is_lower }));
        }
    }

    /// Takes an incarnation above this edition's, if it can be believed.
    pub(super) fn raise_above(&mut self, edition: Edition) {
        let own = &mut self.own;
        let believed = edition.incarnation < INCARNATION_TOLD_MAX || edition.incarnation == own.incarnation;
        let next = edition.incarnation.saturating_add(1);
        if !believed || next > INCARNATION_MAX {
            return;
        }
        own.incarnation = next;
        own.sequence = 0;
        own.stored = false;
        own.signing = None;
        self.want(Audience::all());
        self.output(Output::StoreIncarnation(next));
    }

    /// Ends the silence once the other process was not heard of for a minute.
    pub(super) fn speak_again(&mut self, now: Time) {
        if self.own.silent_until.is_some_and(|until| until <= now) {
            self.own.silent_until = None;
            if let Some(other) = self.own.other
                && other >= self.own.reached()
            {
                self.raise_above(other);
            }
            self.want(Audience::all());
        }
    }
}
