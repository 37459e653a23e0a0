//! Who has no say about an endpoint for a while, because an own probe of what it claimed was good.

use std::collections::BTreeMap;

use crate::report::{EndpointKey, NodeId};
use crate::time::{SEC, Time};

/// How long the first time. Shorter, and a liar costs a probe more often than that.
const FIRST_US: u64 = 60 * SEC;
/// The longest: what doubling ends at.
const LONGEST_US: u64 = 3_600 * SEC;
/// After a quiet day it begins anew: a node's bad path must not count against it for ever.
const FORGOTTEN_US: u64 = 24 * 3_600 * SEC;
/// Pairs remembered; the one that has its say again first makes room. 512 nodes that lie about eight endpoints each.
pub(super) const MUTES_MAX: usize = 4_096;

/// One node about one endpoint.
#[derive(Debug, Clone, Copy)]
struct Mute {
    /// No say until then.
    until: Time,
    /// For how long that was.
    length_us: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    /// By node and endpoint: they outlive a change of the configuration.
    known: BTreeMap<(NodeId, EndpointKey), Mute>,
}

impl Mutes {
    /// An own probe showed this node to be wrong about this endpoint; until when it has no say.
    pub(super) fn mute(&mut self, node: NodeId, endpoint: EndpointKey, now: Time) -> Time {
        self.known.retain(|_, mute| now.since(mute.until) < FORGOTTEN_US);
        let before = self.known.get(&(node, endpoint));
        let length_us = before.map_or(FIRST_US, |mute| mute.length_us.saturating_mul(2).min(LONGEST_US));
        let until = now.plus(length_us);
        if self.known.len() >= MUTES_MAX && before.is_none() {
            let first = self
                .known
                .iter()
                .min_by_key(|(_, mute)| mute.until)
                .map(|(key, _)| *key);
            first.and_then(|key| self.known.remove(&key));
        }
        self.known.insert((node, endpoint), Mute { until, length_us });
        until
    }

    /// Until when this node has no say about this endpoint.
    pub(super) fn until(&self, node: NodeId, endpoint: EndpointKey, now: Time) -> Option<Time> {
        let mute = self.known.get(&(node, endpoint))?;
        (mute.until > now).then_some(mute.until)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const KEY: EndpointKey = EndpointKey([2; 8]);

    #[test]
    fn a_mute_lasts_a_minute_doubling_to_an_hour_and_is_forgotten_after_a_quiet_day() {
        let mut mutes = Mutes::default();
        let mut now = Time::ZERO;
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let until = mutes.mute(NODE, KEY, now);
            assert_eq!(mutes.until(NODE, KEY, until.minus(1)), Some(until));
            assert_eq!(mutes.until(NODE, KEY, until), None);
            lengths.push(until.since(now) / SEC);
            now = until;
        }
        assert_eq!(lengths, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        let other = EndpointKey([3; 8]);
        assert_eq!(mutes.mute(NODE, other, now).since(now), FIRST_US);
        now = now.plus(FORGOTTEN_US);
        assert_eq!(mutes.mute(NODE, KEY, now).since(now), FIRST_US);
        assert_eq!(mutes.len(), 2, "the other one's day is not over");
    }

    #[test]
    fn memory_is_bounded_and_the_first_to_end_makes_room() {
        let mut mutes = Mutes::default();
        let key = |n: u64| EndpointKey(n.to_be_bytes());
        for n in 0..=MUTES_MAX as u64 {
            mutes.mute(NODE, key(n), Time::from_micros(n));
        }
        assert_eq!(mutes.len(), MUTES_MAX);
        assert_eq!(mutes.until(NODE, key(0), Time::ZERO), None);
        assert!(mutes.until(NODE, key(1), Time::ZERO).is_some());
    }
}
