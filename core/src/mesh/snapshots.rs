//! Merging: the newest snapshot of each member, and when it was issued by our time.
//!
//! The last writer wins, by incarnation and sequence. What counts no more is refused on every way it may come, or it
//! would circulate for ever (solana issue 8150). Two contents under one edition end all trust in their signer.

use crate::report::{BootId, Circle, NodeId, PeerReport, Snapshot};
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::clocks::micros;
use super::contract::{Event, Merged, Output, RejectedSnapshot, Sealed, Via};

/// Fresh for this many of its periods.
const FRESH_PERIODS: u64 = 3;
/// No node signs more rarely; who says so is not believed.
const PERIOD_S_MAX: u8 = 60;
/// A snapshot may be this far in the future beyond the error of our reading of its signer's clock.
const FUTURE_US: i64 = 2_000_000;
/// What a signer says of a snapshot's age, handing it over itself, beats our reading of its clock from this difference
/// on: its clock was set.
const STEP_US: u64 = 2 * SEC;
/// Unless it makes it younger, by no more than this: somebody on the way may have held it back so long on a connection
/// that lives.
const HELD_BACK_US: u64 = 15 * SEC;
/// Forgotten this long after it was issued.
const KEPT_US: u64 = 900 * SEC;

/// A snapshot that is held.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// The snapshot.
    pub(super) sealed: Sealed,
    /// When it was issued, by our time.
    pub(super) issued: Time,
    /// When it came.
    pub(super) arrived: Time,
    /// It counts until then.
    pub(super) fresh_until: Time,
}

impl Held {
    /// What the control plane hears of it.
    fn report(&self, circle: Circle) -> PeerReport {
        let snapshot = &self.sealed.snapshot;
        PeerReport {
            node: snapshot.node,
            edition: snapshot.edition,
            circle,
            site: snapshot.site,
            issued: self.issued,
            arrived: self.arrived,
            fresh_until: self.fresh_until,
            uplink_suspect: snapshot.uplink_suspect,
            opinions: snapshot.opinions(self.issued),
        }
    }

    /// When it is forgotten.
    fn forgotten(&self) -> Time {
        self.issued.plus(KEPT_US)
    }
}

/// How long a snapshot counts after it was issued, microseconds.
fn fresh_us(snapshot: &Snapshot) -> u64 {
    let period = u64::from(snapshot.period_s.clamp(1, PERIOD_S_MAX));
    period.saturating_mul(FRESH_PERIODS).saturating_mul(SEC)
}

impl Via {
    /// Who brought it.
    fn bringer(self) -> NodeId {
        match self {
            Self::Push(node) | Self::Pull(node) | Self::Gossip(node) => node,
        }
    }
}

impl Cluster {
    /// A snapshot came whose signature is good. `age_ms` is what the bringer says of its age
    /// ([`super::Passed::age_ms`]).
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    pub fn handle_snapshot(
        &mut self,
        sealed: Sealed,
        via: Via,
        age_ms: Option<u32>,
        now: Time,
    ) -> Result<Merged, RejectedSnapshot> {
        let bringer = self.peers.get_mut(&via.bringer());
        let bringer = bringer.filter(|peer| peer.admitted).ok_or(RejectedSnapshot::NoHello)?;
        if !bringer.snapshots.take(now) {
            return Err(RejectedSnapshot::TooMuch);
        }
        if let Via::Pull(from) = via {
            self.note_pulled(from, now);
        }
        let node = sealed.snapshot.node;
        if node == self.settings.own {
            self.heard_own_snapshot(&sealed.snapshot, age_ms, now);
            self.advance(now);
            return Err(RejectedSnapshot::Own);
        }
        if let Merged::Known = self.compare(&sealed, now)? {
            return Ok(Merged::Known);
        }
        let issued = self.reckon_issued(&sealed.snapshot, via, age_ms, now);
        if let Ok(issued) = issued {
            self.take(sealed, issued, now);
        }
        self.run_pulls(now);
        issued.map(|_when| Merged::Newest)
    }

    /// Whether it is newer than what is held of its node, or the same.
    fn compare(&mut self, sealed: &Sealed, now: Time) -> Result<Merged, RejectedSnapshot> {
        let snapshot = &sealed.snapshot;
        let peer = self.peers.get_mut(&snapshot.node);
        let peer = peer
            .filter(|peer| peer.member.is_some())
            .ok_or(RejectedSnapshot::UnknownNode)?;
        if peer.quarantined {
            return Err(RejectedSnapshot::Quarantined);
        }
        let named: (_, BootId) = (snapshot.edition, snapshot.boot);
        let Some(highest) = peer.highest else {
            return Ok(Merged::Newest);
        };
        if named.0 > highest.0 {
            return Ok(Merged::Newest);
        }
        let Some(held) = peer.held.as_ref().filter(|_| named == highest) else {
            return Err(RejectedSnapshot::Older);
        };
        if held.sealed.bytes == sealed.bytes {
            return Ok(Merged::Known);
        }
        peer.quarantined = true;
        peer.held = None;
        self.output(Output::Event(Event::Equivocation(snapshot.node)));
        self.output(Output::Forget(snapshot.node));
        self.settle(snapshot.node, now);
        Err(RejectedSnapshot::Equivocation)
    }

    /// When it was issued, by our time.
    fn reckon_issued(
        &mut self,
        snapshot: &Snapshot,
        via: Via,
        age_ms: Option<u32>,
        now: Time,
    ) -> Result<Time, RejectedSnapshot> {
        let peer = self
            .peers
            .get_mut(&snapshot.node)
            .ok_or(RejectedSnapshot::UnknownNode)?;
        let told = age_ms.map(|age| now.minus(u64::from(age).saturating_mul(MS)));
        let by_clock = peer.clock.issued(snapshot.issued_wall_ms, told.is_none(), now);
        let (earliest, issued) = match (by_clock, told) {
            (None, None) => return Err(RejectedSnapshot::Stale),
            (None, Some(told)) => (micros(told), told),
            (Some(by_clock), told) => {
                let middle = u64::try_from(by_clock.middle).map_or(Time::ZERO, Time::from_micros);
                let told = told.filter(|_| via.bringer() == snapshot.node);
                match told {
                    // A fresh reading tells which of the two it was.
                    Some(told) if (STEP_US.saturating_add(1)..=HELD_BACK_US).contains(&told.since(middle)) => {
                        peer.pulls.due = Some(now);
                        (by_clock.earliest, middle)
                    }
                    Some(told) if told.since(middle).max(middle.since(told)) > STEP_US => {
                        peer.clock.forget();
                        (micros(told), told)
                    }
                    _ => (by_clock.earliest, middle),
                }
            }
        };
        let future = earliest > micros(now).saturating_add(FUTURE_US);
        if future || now.since(issued) > fresh_us(snapshot) {
            return Err(RejectedSnapshot::Stale);
        }
        Ok(issued.min(now))
    }

    /// It is its node's newest.
    fn take(&mut self, sealed: Sealed, issued: Time, now: Time) {
        let snapshot = &sealed.snapshot;
        let Some(peer) = self.peers.get_mut(&snapshot.node) else {
            return;
        };
        let (node, leaving) = (snapshot.node, snapshot.leaving);
        peer.highest = Some((snapshot.edition, snapshot.boot));
        let fresh_until = issued.plus(fresh_us(snapshot));
        let held = Held {
            sealed,
            issued,
            arrived: now,
            fresh_until,
        };
        let report = peer.member.map(|member| held.report(member.circle));
        peer.held = Some(held);
        match report {
            Some(report) if !leaving => self.output(Output::Report(report)),
            _ => self.output(Output::Forget(node)),
        }
    }

    /// A member is another operator's from here on: what it said is weighed anew.
    pub(super) fn report_again(&mut self, node: NodeId, now: Time) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let held = peer.held.as_ref().filter(|held| now <= held.fresh_until);
        let held = held.filter(|held| !held.sealed.snapshot.leaving);
        if let (Some(held), Some(member)) = (held, peer.member) {
            let report = held.report(member.circle);
            self.output(Output::Report(report));
        }
    }

    /// Forgets what is too old.
    pub(super) fn run_expiry(&mut self, now: Time) {
        let expired = self.ids_where(|peer| peer.held.as_ref().is_some_and(|held| held.forgotten() <= now));
        for node in expired {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.held = None;
                self.output(Output::Forget(node));
            }
        }
    }

    /// When [`Self::run_expiry`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        let held = self.peers.values().filter_map(|peer| peer.held.as_ref());
        held.map(Held::forgotten).min()
    }
}
