//! Pulling: how every node comes to hold every snapshot, whatever was lost on the way.

use std::collections::BTreeMap;

use crate::report::{AGE_MS_MAX, Edition, NodeId};
use crate::time::{MS, SEC, Time};

use super::Cluster;
use super::contract::{ClockSample, DigestLine, NODES_MAX, Output, Passed, Refusal};
use super::peer::Peer;

/// Between rounds, up to a fifth more or less.
const ROUND_US: u64 = 5 * SEC;
/// Peers asked in a round.
const PEERS_PER_ROUND: usize = 3;
/// In clusters of up to three nodes.
const PEERS_PER_SMALL_ROUND: usize = 2;
/// Snapshots in an answer; the rest next time.
const ANSWER_MAX: usize = 64;
/// After a full answer the next pull comes this soon.
const MORE_US: u64 = SEC;
/// A pull of which the shell never told the end.
const LOST_US: u64 = 10 * SEC;

/// How a node stands in a digest: the first eight bytes of its key.
fn short(node: NodeId) -> [u8; 8] {
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(node.0) {
        *to = from;
    }
    short
}

/// How old something issued at `issued` is, for the wire.
pub(super) fn age_ms(issued: Time, now: Time) -> u32 {
    let age = now.since(issued).checked_div(MS).unwrap_or(0);
    u32::try_from(age).unwrap_or(AGE_MS_MAX).min(AGE_MS_MAX)
}

impl Cluster {
    /// A peer asks for what is newer than its digest. The answer holds at most 64 snapshots, and only such as count.
    ///
    /// # Errors
    ///
    /// Why it gets nothing.
    pub fn handle_pull(&mut self, from: NodeId, digest: &[DigestLine], now: Time) -> Result<Vec<Passed>, Refusal> {
        let peer = self.peers.get_mut(&from);
        let peer = peer.filter(|peer| peer.admitted).ok_or(Refusal::NoHello)?;
        if !peer.requests.take(now) {
            return Err(Refusal::TooMuch);
        }
        let known = digest.iter().take(NODES_MAX.saturating_add(1));
        let known: BTreeMap<[u8; 8], Edition> = known.map(|line| (line.node, line.edition)).collect();
        let lacks = |node, edition| known.get(&short(node)).is_none_or(|known| *known < edition);
        let mut answer = Vec::new();
        if let Some((newest, issued)) = self.own.newest_fresh(now)
            && lacks(self.settings.own, newest.snapshot.edition)
        {
            answer.push(Passed {
                bytes: newest.bytes.clone(),
                age_ms: age_ms(issued, now),
            });
        }
        let newer = self.peers.iter().filter_map(|(node, peer)| {
            let held = peer.held.as_ref()?;
            let counts = now <= held.fresh_until && lacks(*node, held.sealed.snapshot.edition);
            counts.then(|| Passed {
                bytes: held.sealed.bytes.clone(),
                age_ms: age_ms(held.issued, now),
            })
        });
        let mut newer: Vec<Passed> = newer.collect();
        // Another part of them each time, if they are too many.
        let room = ANSWER_MAX.saturating_sub(answer.len());
        if newer.len() > room {
            let start = self.draw_index(newer.len());
            newer.rotate_left(start);
            newer.truncate(room);
        }
        answer.append(&mut newer);
        self.own_is_asked_for(from, now);
        self.advance(now);
        Ok(answer)
    }

    /// Our pull was answered; its snapshots come by [`Self::handle_snapshot`]. A push's answer samples clocks as well.
    pub fn handle_answered(&mut self, from: NodeId, sample: ClockSample, now: Time) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.pulls.asked = None;
            peer.unanswered = 0;
            self.sample(from, sample);
        }
        self.advance(now);
    }

    /// Our pull or push to this peer was not answered. Nothing follows from it: whether a connection lives is QUIC's to
    /// say, and the next round asks again.
    pub fn handle_unanswered(&mut self, from: NodeId, now: Time) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.pulls.asked = None;
            peer.unanswered = peer.unanswered.saturating_add(1);
        }
        self.advance(now);
    }

    /// A snapshot came in an answer: a full one is followed by another pull.
    pub(super) fn note_pulled(&mut self, from: NodeId, now: Time) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.pulls.taken = peer.pulls.taken.saturating_add(1);
            if peer.pulls.taken == ANSWER_MAX {
                peer.pulls.due = Some(now.plus(MORE_US));
            }
        }
    }

    /// Begins a round if it is time, and pulls from who is due.
    pub(super) fn run_pulls(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        if self.next_round <= now {
            let fifth = ROUND_US.checked_div(5).unwrap_or(0);
            let wait = ROUND_US.saturating_sub(fifth).saturating_add(self.draw(fifth << 1));
            self.next_round = now.plus(wait);
            let small = self.order.len() < 3;
            let count = if small { PEERS_PER_SMALL_ROUND } else { PEERS_PER_ROUND };
            let mut usable = self.ids_where(|peer| peer.up && !peer.quarantined);
            for _ in 0..count.min(usable.len()) {
                let node = usable.swap_remove(self.draw_index(usable.len()));
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.pulls.due = Some(now);
                }
            }
        }
        for node in self.ids_where(|peer| peer.pulls.due.is_some_and(|due| due <= now)) {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            peer.pulls.due = None;
            let waits = peer.pulls.asked.is_some_and(|asked| now.since(asked) < LOST_US);
            if peer.up && !waits {
                peer.pulls.asked = Some(now);
                peer.pulls.taken = 0;
                let digest = self.digest();
                self.output(Output::Pull { from: node, digest });
            }
        }
    }

    /// When [`Self::run_pulls`] has something to do.
    pub(super) fn next_pull(&self) -> Option<Time> {
        let due = self.peers.values().filter_map(|peer: &Peer| peer.pulls.due);
        due.chain([self.next_round]).min().filter(|_| self.stopping.is_none())
    }

    /// What is held, the own snapshot included.
    fn digest(&self) -> Vec<DigestLine> {
        let held = self.peers.iter().filter_map(|(node, peer)| {
            let highest = peer.highest.filter(|_| peer.held.is_some())?;
            Some((*node, highest.0))
        });
        let own = self.own.newest_edition().map(|edition| (self.settings.own, edition));
        let lines = own.into_iter().chain(held);
        let line = |(node, edition)| DigestLine {
            node: short(node),
            edition,
        };
        lines.map(line).collect()
    }
}
