//! What one process learns of its endpoints' answer times, and the next one takes back.
//!
//! Memory gives timing and nothing else. An endpoint that answered yesterday is as unknown as any other at a start:
//! its state, its place and what condemns it come from this process' own outcomes only. How old a memory is, the
//! caller knows: wall clocks do not enter here.

use super::Control;
use crate::health::Health;
use crate::health::latency::Learned;
use crate::time::{SEC, Time};
use crate::topology::EndpointId;

/// What was learned longer ago says nothing any more: providers move their servers, and machines their networks.
const LEARNED_FOR_US: u64 = 7 * 24 * 3_600 * SEC;

/// What an earlier process learned of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Of which, in this process' numbers.
    pub endpoint: EndpointId,
    /// Its answer times.
    pub learned: Learned,
    /// How long ago, microseconds.
    pub age_us: u64,
}

/// What became of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// It gives the endpoint its timing.
    Taken,
    /// It is older than a week.
    TooOld,
    /// This process knows enough by itself, or remembers already.
    KnownBetter,
    /// There is no such endpoint.
    Stranger,
}

impl Control {
    /// Takes back what an earlier process learned; says of each memory, in their order, what became of it.
    pub fn handle_learned(&mut self, memories: &[Memory], now: Time) -> Vec<Remembered> {
        let verdicts: Vec<Remembered> = memories.iter().map(|memory| self.remember(memory)).collect();
        if verdicts.contains(&Remembered::Taken) {
            self.rebuild(now);
        }
        verdicts
    }

    /// Takes one memory, if it is of use.
    fn remember(&mut self, memory: &Memory) -> Remembered {
        if memory.age_us > LEARNED_FOR_US {
            return Remembered::TooOld;
        }
        let Some(health) = self.health.get_mut(usize::from(memory.endpoint.0)) else {
            return Remembered::Stranger;
        };
        if health.restore(&memory.learned) {
            Remembered::Taken
        } else {
            Remembered::KnownBetter
        }
    }

    /// What the next process should know of an endpoint, once this one has answers enough.
    #[must_use]
    pub fn learned(&self, endpoint: EndpointId) -> Option<Learned> {
        self.health.get(usize::from(endpoint.0))?.latencies().learned()
    }

    /// Answers of an endpoint that fed its latencies; what was learned changes only with it.
    #[must_use]
    pub fn answers(&self, endpoint: EndpointId) -> u64 {
        self.health
            .get(usize::from(endpoint.0))
            .map_or(0, |health: &Health| health.latencies().answers())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::Output;
    use crate::health::state::State;
    use crate::routes::{PlaceWhy, Settings};
    use crate::testing::providers;
    use crate::time::MS;

    const WEEK_US: u64 = 7 * 86_400 * SEC;

    fn memory(endpoint: u16, us: u64, age_us: u64) -> Memory {
        Memory {
            endpoint: EndpointId(endpoint),
            learned: Learned::new(vec![us; 32]).unwrap(),
            age_us,
        }
    }

    #[test]
    fn a_memory_gives_timing_and_neither_state_nor_place() {
        let mut control = Control::new(Arc::new(providers(3)), Settings::default(), Time::ZERO, 1);
        let version = control.routes().version;
        let memories = [
            memory(0, 20 * MS, 0),
            memory(1, 20 * MS, WEEK_US),
            memory(9, MS, 0),
            memory(2, MS, WEEK_US + 1),
        ];
        let verdicts = control.handle_learned(&memories, Time::at_ms(5));
        let wanted = [
            Remembered::Taken,
            Remembered::Taken,
            Remembered::Stranger,
            Remembered::TooOld,
        ];
        assert_eq!(verdicts, wanted);
        assert_eq!(control.poll_output(), Some(Output::RoutesChanged));
        assert_eq!(control.poll_output(), None);
        let routes = control.routes();
        assert_eq!(routes.version, version + 1);
        let remembering = routes.endpoint(EndpointId(0)).unwrap();
        assert_eq!(
            (remembering.state, remembering.why),
            (State::Unknown, PlaceWhy::Healthy)
        );
        assert!(remembering.timing.p50_us.is_some_and(|p50| p50 < 22 * MS));
        assert_eq!(remembering.timing.timeout_us, 250 * MS);
        let cold = routes.endpoint(EndpointId(2)).unwrap();
        assert_eq!((cold.timing.p50_us, cold.timing.timeout_us), (None, 1_000 * MS));
        // Nothing is learned from what is only remembered, and nobody remembers twice.
        assert_eq!(
            (control.learned(EndpointId(0)), control.answers(EndpointId(0))),
            (None, 0)
        );
        let again = control.handle_learned(&[memory(0, MS, 0)], Time::at_ms(6));
        assert_eq!(again, [Remembered::KnownBetter]);
        assert_eq!(control.poll_output(), None);
    }
}
