//! Snapshots on their way in: the cheap checks first, the signature last, and never more signatures than a budget.
//!
//! Ed25519 takes some fifty microseconds; a peer that floods must not get a core for that. What is known to the byte has
//! been verified before; what is older, or of nobody in the configuration, is not worth it.

use std::collections::BTreeMap;
use std::sync::Arc;

use detour_core::mesh::{RejectedSnapshot, Sealed};
use detour_core::report::{ClusterKey, Edition, NodeId};
use detour_core::time::{SEC, Time};
use detour_wire::snapshot;

use crate::identity::is_signed_by;

/// Signatures verified in a second at most for one bringer: above what a whole cluster of 512 nodes says in calm
/// weather, and of what a second of one core can do a third of a percent.
const PER_BRINGER: u32 = 64;
/// And for all together: one percent of a core.
const TOGETHER: u32 = 200;
/// Of each bringer so many are verified whatever others bring: what one node says at most in a second. Without it four
/// that flood would keep all others from being heard.
const RESERVED: u32 = 10;

/// What a snapshot turned out to be before the core saw it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Signed by its node, and of this cluster.
    Good(Sealed),
    /// No snapshot of this cluster.
    Unreadable,
    /// Of a later version: nobody's fault.
    Later,
    /// Its signature is wrong.
    BadSignature,
    /// Not worth verifying, or beyond the budget.
    Rejected(RejectedSnapshot),
}

/// The newest snapshot of each node, and what was spent on verifying.
#[derive(Debug)]
pub(crate) struct Intake {
    cluster: ClusterKey,
    own: NodeId,
    members: BTreeMap<NodeId, Option<Sealed>>,
    second: Time,
    spent: u32,
    spent_on: BTreeMap<NodeId, u32>,
}

impl Intake {
    pub(crate) fn new(cluster: ClusterKey, own: NodeId) -> Self {
        Self {
            cluster,
            own,
            members: BTreeMap::new(),
            second: Time::ZERO,
            spent: 0,
            spent_on: BTreeMap::new(),
        }
    }

    /// Whose snapshots may be taken.
    pub(crate) fn set_members(&mut self, members: impl Iterator<Item = NodeId>) {
        let mut before = std::mem::take(&mut self.members);
        self.members = members.map(|node| (node, before.remove(&node).flatten())).collect();
    }

    /// The core took this one.
    pub(crate) fn taken(&mut self, sealed: Sealed) {
        if let Some(held) = self.members.get_mut(&sealed.snapshot.node) {
            *held = Some(sealed);
        }
    }

    /// Opens what `bringer` brought.
    pub(crate) fn open(&mut self, bytes: &[u8], bringer: NodeId, now: Time) -> Opened {
        let head = match snapshot::head(bytes, self.cluster) {
            Ok(head) => head,
            Err(error) if error.is_later_version() => return Opened::Later,
            Err(_) => return Opened::Unreadable,
        };
        if let Some(decided) = self.known(head.node, head.edition, bytes) {
            return decided;
        }
        let opened = match snapshot::open(bytes, self.cluster) {
            Ok(opened) => opened,
            Err(error) if error.is_later_version() => return Opened::Later,
            Err(_) => return Opened::Unreadable,
        };
        if !self.may_verify(bringer, now) {
            return Opened::Rejected(RejectedSnapshot::TooMuch);
        }
        if !is_signed_by(head.node, opened.signed, &opened.signature) {
            return Opened::BadSignature;
        }
        Opened::Good(Sealed {
            snapshot: Arc::new(opened.snapshot),
            bytes: Arc::from(bytes),
        })
    }

    /// What can be said without its signature. One of this node's own key says something of another process, or nothing,
    /// so it has to be verified.
    fn known(&self, node: NodeId, edition: Edition, bytes: &[u8]) -> Option<Opened> {
        if node == self.own {
            return None;
        }
        let Some(member) = self.members.get(&node) else {
            return Some(Opened::Rejected(RejectedSnapshot::UnknownNode));
        };
        let held = member.as_ref()?;
        if *held.bytes == *bytes {
            return Some(Opened::Good(held.clone()));
        }
        (edition < held.snapshot.edition).then_some(Opened::Rejected(RejectedSnapshot::Older))
    }

    fn may_verify(&mut self, bringer: NodeId, now: Time) -> bool {
        if now.since(self.second) >= SEC {
            self.second = now;
            self.spent = 0;
            self.spent_on.clear();
        }
        let on = self.spent_on.entry(bringer).or_default();
        if (self.spent >= TOGETHER && *on >= RESERVED) || *on >= PER_BRINGER {
            return false;
        }
        self.spent = self.spent.saturating_add(1);
        *on = on.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use detour_core::report::{BootId, SiteKey, Snapshot};

    const CLUSTER: ClusterKey = ClusterKey([1; 8]);

    fn sealed(identity: &Identity, sequence: u32, boot: u64) -> Vec<u8> {
        let snapshot = Snapshot {
            node: identity.node(),
            boot: BootId(boot),
            edition: Edition {
                incarnation: 1,
                sequence,
            },
            issued_wall_ms: 0,
            period_s: 10,
            site: SiteKey([0; 4]),
            uplink_suspect: false,
            leaving: false,
            entries: Vec::new(),
        };
        let signed = snapshot::signed_part(&snapshot, CLUSTER).unwrap();
        let signature = identity.sign(&signed);
        snapshot::seal(signed, signature)
    }

    #[test]
    fn what_is_known_old_or_nobodys_is_not_verified() {
        let [own, member, stranger] = [0, 1, 2].map(|_| Identity::generate().unwrap());
        let mut intake = Intake::new(CLUSTER, own.node());
        intake.set_members([member.node()].into_iter());
        let now = Time::at_ms(10_000);
        let newest = sealed(&member, 5, 1);
        let Opened::Good(good) = intake.open(&newest, member.node(), now) else {
            panic!("signed by a member");
        };
        intake.taken(good.clone());
        let spent = intake.spent;
        assert_eq!(intake.open(&newest, member.node(), now), Opened::Good(good));
        let mut older = sealed(&member, 4, 1);
        older.pop();
        older.push(0);
        assert_eq!(
            intake.open(&older, member.node(), now),
            Opened::Rejected(RejectedSnapshot::Older)
        );
        assert_eq!(
            intake.open(&sealed(&stranger, 1, 1), member.node(), now),
            Opened::Rejected(RejectedSnapshot::UnknownNode)
        );
        assert_eq!(intake.open(b"garbage", member.node(), now), Opened::Unreadable);
        assert_eq!(intake.spent, spent);
        // The same edition with other bytes is what equivocation looks like: the signature decides.
        assert!(matches!(
            intake.open(&sealed(&member, 5, 2), member.node(), now),
            Opened::Good(_)
        ));
        assert!(matches!(
            intake.open(&sealed(&own, 1, 1), member.node(), now),
            Opened::Good(_)
        ));
        let mut forged = sealed(&member, 6, 1);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(intake.open(&forged, member.node(), now), Opened::BadSignature);
    }

    #[test]
    fn a_flood_is_verified_within_the_budget() {
        let [own, member, other] = [0, 1, 2].map(|_| Identity::generate().unwrap());
        let mut intake = Intake::new(CLUSTER, own.node());
        intake.set_members([member.node(), other.node()].into_iter());
        let now = Time::at_ms(10_000);
        let flood = |intake: &mut Intake, bringer: &Identity, now| {
            let verified = (1..=100).filter(|sequence| {
                !matches!(
                    intake.open(&sealed(&member, *sequence, 1), bringer.node(), now),
                    Opened::Rejected(RejectedSnapshot::TooMuch)
                )
            });
            u32::try_from(verified.count()).unwrap()
        };
        assert_eq!(flood(&mut intake, &member, now), PER_BRINGER);
        assert_eq!(flood(&mut intake, &other, now), PER_BRINGER);
        assert_eq!(flood(&mut intake, &member, now.plus(SEC)), PER_BRINGER);
        // Many that flood do not keep an honest one from being heard.
        let now = now.plus(3 * SEC);
        for _ in 0..4 {
            flood(&mut intake, &Identity::generate().unwrap(), now);
        }
        assert!(intake.spent >= TOGETHER);
        assert_eq!(flood(&mut intake, &other, now), RESERVED);
    }
}
