//! Who is dialled when: for ever, never in bursts, and mostly by one side only.
//!
//! Of two nodes the one with the lower id (its key's bytes, compared from the first) dials at once, the other only
//! after 2 s; a lost peer is dialled again at once by the side that had dialled. Two connections that were made at the
//! same time both live: closing one could close the one that the other side keeps.

use crate::report::NodeId;
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::contract::{CloseWhy, Output};
use super::peer::Peer;

/// What the side waits that does not dial at once.
const OTHER_SIDE_US: u64 = 2 * SEC;
/// Between two connections that belong together, the second of them: after admission, after a restart of the peer.
const SOON_FROM_US: u64 = 50 * MS;
/// To this long.
const SOON_SPREAD_US: u64 = 200 * MS;
/// After a first failure; doubles.
const BACKOFF_US: u64 = 500 * MS;
/// At most.
const BACKOFF_MAX_US: u64 = 30 * SEC;
/// A connection that stood this long ends all backoff.
const STOOD_US: u64 = 60 * SEC;
/// Dials under way at once: a start with 500 members is no burst.
const AT_ONCE_MAX: usize = 16;
/// Failures of a peer after which its return means that a network came back.
const CAME_BACK_AFTER: u32 = 3;
/// Then the others are dialled within this time,
const HURRY_US: u64 = SEC;
/// at most once in this time.
const HURRY_AGAIN_US: u64 = 10 * SEC;
/// A dial of which the shell never told the end.
const LOST_US: u64 = 30 * SEC;

/// Dialling of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dial {
    /// The next one.
    pub(super) at: Option<Time>,
    /// One is under way since then.
    pub(super) under_way: Option<Time>,
    /// Failures and short connections since the last long one.
    step: u32,
    /// Failures since the last connection.
    pub(super) failed: u32,
    /// Where to next; addresses are tried in turn.
    address: u8,
}

impl Dial {
    /// A connection stands.
    pub(super) fn connected(&mut self, dialled: bool) {
        if dialled {
            self.under_way = None;
        }
        self.at = None;
        self.failed = 0;
    }
}

impl Cluster {
    /// A dial came to nothing.
    pub fn handle_dial_failed(&mut self, node: NodeId, _address: u8, now: Time) {
        self.dial_failed(node, now);
        self.advance(now);
    }

    /// A dial came to nothing; the next one waits longer.
    fn dial_failed(&mut self, node: NodeId, now: Time) {
        let peer = self.peers.get_mut(&node);
        let Some(peer) = peer.filter(|peer| peer.dial.under_way.is_some()) else {
            return;
        };
        peer.dial.under_way = None;
        peer.dial.failed = peer.dial.failed.saturating_add(1);
        let refused = peer.refusal.is_some();
        let step = self.take_step(node);
        let wait = if refused { BACKOFF_MAX_US } else { backoff_us(step) };
        let wait = self.dice_shortened(wait);
        self.dial_at(node, now.plus(wait));
        self.settle(node, now);
    }

    /// The first dial of a new member.
    pub(super) fn dial_new(&mut self, node: NodeId, now: Time) {
        let wait = if self.settings.own < node { 0 } else { OTHER_SIDE_US };
        self.dial_at(node, now.plus(wait));
    }

    /// The last connection of a peer was closed from here.
    pub(super) fn dial_after_close(&mut self, node: NodeId, dialled: bool, why: CloseWhy, now: Time) {
        let refused = self.peers.get(&node).is_some_and(|peer| peer.refusal.is_some());
        let wait = match why {
            CloseWhy::Stopping => return,
            CloseWhy::Refused(_) | CloseWhy::RefusedByPeer(_) if refused => self.dice_shortened(BACKOFF_MAX_US),
            // The operator added the line meanwhile.
            CloseWhy::Refused(_) | CloseWhy::RefusedByPeer(_) => return self.dial_new(node, now),
            CloseWhy::Admitted | CloseWhy::NewBoot | CloseWhy::TooMany if !dialled => OTHER_SIDE_US,
            CloseWhy::Admitted | CloseWhy::TooMany => self.soon_us(),
            CloseWhy::NewBoot | CloseWhy::HelloLate => {
                let step = self.take_step(node);
                if step == 0 {
                    self.soon_us()
                } else {
                    self.dice_shortened(backoff_us(step.saturating_sub(1)))
                }
            }
        };
        self.dial_at(node, now.plus(wait));
    }

    /// The last connection of a peer is gone, and not by us.
    pub(super) fn dial_after_loss(&mut self, node: NodeId, dialled: bool, stood_us: u64, now: Time) {
        if let Some(peer) = self.peers.get_mut(&node)
            && stood_us >= STOOD_US
        {
            peer.dial.step = 0;
        }
        let refused = self.peers.get(&node).is_some_and(|peer| peer.refusal.is_some());
        let wait = if refused {
            self.dice_shortened(BACKOFF_MAX_US)
        } else if !dialled {
            OTHER_SIDE_US
        } else {
            match self.take_step(node) {
                0 => 0,
                step => self.dice_shortened(backoff_us(step.saturating_sub(1))),
            }
        };
        self.dial_at(node, now.plus(wait));
    }

    /// Dials who is due.
    pub(super) fn run_dials(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        let lost = |peer: &Peer| peer.dial.under_way.is_some_and(|since| now.since(since) >= LOST_US);
        let lost: Vec<NodeId> = self.ids_where(|peer| lost(peer));
        for node in lost {
            self.dial_failed(node, now);
        }
        let due = |peer: &Peer| peer.next_dial().is_some_and(|at| at <= now);
        let mut free = AT_ONCE_MAX.saturating_sub(self.dials_under_way());
        for node in self.ids_where(due) {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            if free == 0 {
                break;
            }
            free = free.saturating_sub(1);
            let addresses = peer.member.map_or(1, |member| member.addresses.max(1));
            let address = peer.dial.address.checked_rem(addresses).unwrap_or(0);
            peer.dial.address = address.wrapping_add(1);
            peer.dial.at = None;
            peer.dial.under_way = Some(now);
            self.output(Output::Dial { node, address });
            self.settle(node, now);
        }
    }

    /// A peer is there again that had not been for a while: so may be all the others.
    pub(super) fn hurry(&mut self, failed: u32, now: Time) {
        if failed < CAME_BACK_AFTER || self.hurried.is_some_and(|last| now.since(last) < HURRY_AGAIN_US) {
            return;
        }
        self.hurried = Some(now);
        let soon = now.plus(HURRY_US);
        let waits = |peer: &Peer| peer.refusal.is_none() && peer.next_dial().is_some_and(|at| at > soon);
        for node in self.ids_where(waits) {
            let at = now.plus(self.draw(HURRY_US));
            self.dial_at(node, at);
        }
    }

    /// When [`Self::run_dials`] has something to do.
    pub(super) fn next_dial(&self) -> Option<Time> {
        if self.stopping.is_some() {
            return None;
        }
        let lost = self.peers.values().filter_map(|peer| peer.dial.under_way);
        let lost = lost.min().map(|since| since.plus(LOST_US));
        let due = self.peers.values().filter_map(Peer::next_dial).min();
        let due = due.filter(|_| self.dials_under_way() < AT_ONCE_MAX);
        lost.into_iter().chain(due).min()
    }

    /// How many dials are under way.
    fn dials_under_way(&self) -> usize {
        let under_way = self.peers.values().filter(|peer| peer.dial.under_way.is_some());
        under_way.count()
    }

    /// Sets a peer's next dial.
    fn dial_at(&mut self, node: NodeId, at: Time) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.dial.under_way.is_none()
        {
            peer.dial.at = Some(at);
        }
    }

    /// The step a peer is at; it goes on by one.
    fn take_step(&mut self, node: NodeId) -> u32 {
        let Some(peer) = self.peers.get_mut(&node) else {
            return 0;
        };
        let step = peer.dial.step;
        peer.dial.step = step.saturating_add(1);
        step
    }

    /// 50 to 250 ms.
    fn soon_us(&mut self) -> u64 {
        SOON_FROM_US.saturating_add(self.draw(SOON_SPREAD_US))
    }

    /// This, or up to a quarter less: both sides of a failure shall not meet again and again.
    fn dice_shortened(&mut self, us: u64) -> u64 {
        us.saturating_sub(self.draw(us >> 2))
    }
}

impl Peer {
    /// When it is dialled next.
    pub(super) fn next_dial(&self) -> Option<Time> {
        let can = self.member.is_some_and(|member| member.addresses > 0);
        let idle = self.connections.is_empty() && self.dial.under_way.is_none();
        self.dial.at.filter(|_| can && idle)
    }
}

/// What is waited after this many failures.
fn backoff_us(step: u32) -> u64 {
    (BACKOFF_US << step.min(8)).min(BACKOFF_MAX_US)
}
