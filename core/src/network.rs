//! Which way packets to each endpoint take, and when that counts as changed.
//!
//! The system says that something about its network changed, and rarely what: then it is looked which way each
//! endpoint has now, at most every 100 ms however much is said. A way that is another one counts once it has been the
//! same for 500 ms, because a change of network is a dozen small ones; a way where there was none counts at once,
//! because nothing is lost by trying it. While nothing is said, nothing is looked at.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::time::{MS, Time};
use crate::topology::EndpointId;

/// How long a way must have been the same.
const SETTLED_AFTER_US: u64 = 500 * MS;
/// Between two looks.
const LOOK_GAP_US: u64 = 100 * MS;

/// The way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The system's number of the interface; 0 if unknown.
    pub interface: u32,
    /// Where packets come from.
    pub source: IpAddr,
    /// The next hop, where it is not the address itself.
    pub gateway: Option<IpAddr>,
}

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The system did not say: whatever was known stays.
    Unclear,
    /// The network here has no route to it.
    NoRoute,
    /// There is one.
    Way(Way),
}

/// What follows for the control plane; each list holds every endpoint at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Packets to these take another way: what was known of the old one is void.
    NewWay(Vec<EndpointId>),
    /// There is no way to these.
    Unrouted(Vec<EndpointId>),
    /// There is a way to these, new or not.
    Routed(Vec<EndpointId>),
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The way that counts: `NoRoute` or a way, once there was a look.
    settled: Option<Seen>,
    /// Another one, and since when it has been the same.
    candidate: Option<(Seen, Time)>,
}

/// The ways to all endpoints; as large as the topology.
#[derive(Debug, Default)]
pub struct Network {
    /// By [`EndpointId`].
    known: Vec<Known>,
    /// The last look.
    looked: Option<Time>,
    /// When to look next because something was said.
    due: Option<Time>,
    /// Outputs not yet taken: at most three for each look.
    outputs: VecDeque<Output>,
}

impl Network {
    /// So many endpoints, which are looked at at once.
    #[must_use]
    pub fn new(endpoints: usize, now: Time) -> Self {
        Self {
            known: vec![Known::default(); endpoints],
            due: Some(now),
            ..Self::default()
        }
    }

    /// The system said that something changed.
    pub fn handle_notice(&mut self, now: Time) {
        let earliest = self.looked.map_or(now, |looked| looked.plus(LOOK_GAP_US).max(now));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Endpoints are others, in another order; `known` has for each the number it had before.
    pub fn handle_configuration(&mut self, known: &[Option<EndpointId>], now: Time) {
        let older = std::mem::take(&mut self.known);
        let of = |id: &Option<EndpointId>| id.and_then(|id| older.get(usize::from(id.0)).copied());
        self.known = known.iter().map(|id| of(id).unwrap_or_default()).collect();
        self.due = Some(now);
    }

    /// A look at all endpoints, by [`EndpointId`]. What is missing is unclear.
    pub fn handle_look(&mut self, seen: &[Seen], now: Time) {
        self.looked = Some(now);
        self.due = None;
        let (mut new, mut unrouted, mut routed) = (Vec::new(), Vec::new(), Vec::new());
        for (id, (known, seen)) in (0..=u16::MAX).map(EndpointId).zip(self.known.iter_mut().zip(seen)) {
            if matches!(seen, Seen::Way(_)) {
                routed.push(id);
            }
            match known.look(*seen, now) {
                Some((_, Seen::NoRoute)) => unrouted.push(id),
                Some((Some(_), Seen::Way(_))) => new.push(id),
                Some((None | Some(_), _)) | None => {}
            }
        }
        let outputs = [
            (!new.is_empty()).then_some(Output::NewWay(new)),
            (!unrouted.is_empty()).then_some(Output::Unrouted(unrouted)),
            (!routed.is_empty()).then_some(Output::Routed(routed)),
        ];
        self.outputs.extend(outputs.into_iter().flatten());
    }

    /// What follows.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to look, and why; `None`: once the system says something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let settles = self.known.iter().filter_map(|known| known.candidate);
        let settles = settles
            .map(|(_, since)| (since.plus(SETTLED_AFTER_US), "a way settles"))
            .min();
        let due = self.due.map(|at| (at, "look at the ways"));
        [due, settles].into_iter().flatten().min()
    }

    /// Whether a notice would change anything: if not, nobody need be woken by one.
    #[must_use]
    pub fn wants_notices(&self) -> bool {
        self.due.is_none()
    }
}

impl Known {
    /// Takes a look; the way that counted before and the one that does from now on, if it is another.
    fn look(&mut self, seen: Seen, now: Time) -> Option<(Option<Seen>, Seen)> {
        if seen == Seen::Unclear {
            // A change that nobody can confirm is none.
            self.candidate = None;
            return None;
        }
        if self.settled == Some(seen) {
            self.candidate = None;
            return None;
        }
        let since = match self.candidate {
            Some((candidate, since)) if candidate == seen => since,
            Some(_) | None => now,
        };
        let at_once = matches!(self.settled, None | Some(Seen::NoRoute));
        if at_once || now.since(since) >= SETTLED_AFTER_US {
            self.candidate = None;
            return Some((self.settled.replace(seen), seen));
        }
        self.candidate = Some((seen, since));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const BOTH: [EndpointId; 2] = [EndpointId(0), EndpointId(1)];

    fn way(interface: u32) -> Seen {
        Seen::Way(Way {
            interface,
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            gateway: None,
        })
    }

    /// Two endpoints, looked at at 0 ms.
    fn network(seen: [Seen; 2]) -> (Network, Vec<Output>) {
        let mut network = Network::new(2, Time::ZERO);
        assert_eq!(network.poll_timeout(), Some((Time::ZERO, "look at the ways")));
        let outputs = look(&mut network, seen, 0);
        (network, outputs)
    }

    fn look(network: &mut Network, seen: [Seen; 2], ms: u64) -> Vec<Output> {
        network.handle_look(&seen, Time::at_ms(ms));
        std::iter::from_fn(|| network.poll_output()).collect()
    }

    fn due(network: &Network) -> Option<u64> {
        network.poll_timeout().map(|(at, _)| at.as_micros() / MS)
    }

    #[test]
    fn the_first_look_tells_who_has_no_route_and_nothing_is_looked_at_after_it() {
        let (network, outputs) = network([way(1), Seen::NoRoute]);
        let expected = [
            Output::Unrouted(vec![EndpointId(1)]),
            Output::Routed(vec![EndpointId(0)]),
        ];
        assert_eq!(outputs, expected);
        assert_eq!((due(&network), network.wants_notices()), (None, true));
    }

    #[test]
    fn another_way_counts_once_it_has_been_the_same_for_500_ms() {
        let (mut network, _) = network([way(1), way(1)]);
        network.handle_notice(Time::at_ms(1_000));
        assert_eq!((due(&network), network.wants_notices()), (Some(1_000), false));
        let same = [Output::Routed(BOTH.into())];
        assert_eq!(look(&mut network, [way(1), way(2)], 1_000), same);
        assert_eq!((due(&network), network.wants_notices()), (Some(1_500), true));
        // It became yet another one meanwhile.
        assert_eq!(look(&mut network, [way(1), way(3)], 1_400), same);
        assert_eq!(due(&network), Some(1_900));
        assert_eq!(look(&mut network, [way(1), way(3)], 1_899), same);
        let changed = [Output::NewWay(vec![EndpointId(1)]), Output::Routed(BOTH.into())];
        assert_eq!(look(&mut network, [way(1), way(3)], 1_900), changed);
        assert_eq!(due(&network), None);
    }

    #[test]
    fn a_way_that_returns_within_500_ms_is_no_change() {
        let (mut network, _) = network([way(1), way(1)]);
        network.handle_notice(Time::at_ms(1_000));
        look(&mut network, [Seen::NoRoute, way(1)], 1_000);
        network.handle_notice(Time::at_ms(1_200));
        let same = [Output::Routed(BOTH.into())];
        assert_eq!(look(&mut network, [way(1), way(1)], 1_200), same);
        assert_eq!(due(&network), None);
    }

    #[test]
    fn a_way_that_is_gone_for_500_ms_is_gone_and_its_return_counts_at_once() {
        let (mut network, _) = network([way(1), way(1)]);
        network.handle_notice(Time::at_ms(1_000));
        look(&mut network, [Seen::NoRoute; 2], 1_000);
        let gone = [Output::Unrouted(BOTH.into())];
        assert_eq!(look(&mut network, [Seen::NoRoute; 2], 1_500), gone);
        network.handle_notice(Time::at_ms(9_000));
        let back = [Output::NewWay(vec![EndpointId(0)]), Output::Routed(vec![EndpointId(0)])];
        assert_eq!(look(&mut network, [way(1), Seen::NoRoute], 9_000), back);
    }

    #[test]
    fn a_burst_of_notices_costs_a_look_per_100_ms() {
        let (mut network, _) = network([way(1), way(1)]);
        let mut looks = 0;
        for ms in 0..1_000 {
            network.handle_notice(Time::at_ms(ms));
            if due(&network).is_some_and(|due| due <= ms) {
                looks += 1;
                look(&mut network, [way(1), way(1)], ms);
            }
        }
        assert_eq!(looks, 9);
    }

    #[test]
    fn what_the_system_does_not_say_changes_nothing() {
        let (mut network, _) = network([way(1), way(1)]);
        assert_eq!(look(&mut network, [Seen::Unclear, Seen::Unclear], 1_000), []);
        network.handle_look(&[], Time::at_ms(2_000));
        assert_eq!((network.poll_output(), due(&network)), (None, None));
    }

    #[test]
    fn another_configuration_keeps_the_ways_of_those_who_stay_and_looks_at_once() {
        let (mut network, _) = network([way(1), way(2)]);
        network.handle_configuration(&[None, Some(EndpointId(1)), Some(EndpointId(0))], Time::at_ms(10));
        assert_eq!(due(&network), Some(10));
        network.handle_look(&[way(7), way(2), way(1)], Time::at_ms(10));
        let all: Vec<EndpointId> = (0..3).map(EndpointId).collect();
        assert_eq!(network.poll_output(), Some(Output::Routed(all)));
        assert_eq!((network.poll_output(), due(&network)), (None, None));
    }
}
