//! When each node found out: its events about one endpoint, counted from the fault.

use detour_rig::Event;
use serde::Serialize;

/// What one node went through, in microseconds from the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct NodeTimes {
    /// Its own opinion became `down`.
    pub(super) down_us: Option<u64>,
    /// The endpoint's place was no longer `normal`.
    pub(super) left_us: Option<u64>,
    /// Its own opinion was no longer good: by attempts or by a probe.
    pub(super) doubted_us: Option<u64>,
}

impl NodeTimes {
    /// From the first events at or after the fault.
    pub(super) fn of(events: &[Event], endpoint: &str, fault_us: u64) -> Self {
        let first = |wanted: &dyn Fn(&Event) -> bool| {
            let own = events.iter().filter(|event| &*event.endpoint == endpoint);
            own.filter(|event| wanted(event))
                .filter_map(|event| event.at_us.checked_sub(fault_us))
                .min()
        };
        Self {
            down_us: first(&|event| event.is_state("down")),
            left_us: first(&Event::is_leaving),
            doubted_us: first(&|event| event.is_state("suspect") || event.is_state("down")),
        }
    }
}

/// From the first node's `down` to this node's leaving; 0 if it had left before.
pub(super) fn told_after_us(all: &[NodeTimes], own: NodeTimes) -> Option<u64> {
    let first_down = all.iter().filter_map(|times| times.down_us).min()?;
    Some(own.left_us?.saturating_sub(first_down))
}

/// Microseconds as a person reads them: `1.04 s`, `31 ms`.
pub(super) fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{:02} s", us / 1_000_000, us / 10_000 % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detour_rig::events::What;

    fn event(at_us: u64, endpoint: &str, what: What) -> Event {
        Event {
            at_us,
            endpoint: endpoint.into(),
            what,
        }
    }

    fn state(to: &str) -> What {
        What::State {
            from: "up".into(),
            to: to.into(),
            cause: "timeout".into(),
        }
    }

    fn place(place: &str) -> What {
        What::Place {
            from: "healthy".into(),
            place: place.into(),
            why: "suspect".into(),
        }
    }

    #[test]
    fn the_first_of_each_after_the_fault_counts() {
        let events = [
            event(500, "a", place("last")),
            event(600, "a", place("normal")),
            event(1_200, "b", place("last")),
            event(1_300, "a", place("last")),
            event(1_310, "a", state("suspect")),
            event(2_000, "a", state("down")),
            event(9_000, "a", state("down")),
        ];
        let times = NodeTimes::of(&events, "a", 1_000);
        assert_eq!(
            (times.left_us, times.doubted_us, times.down_us),
            (Some(300), Some(310), Some(1_000))
        );
        let idle = NodeTimes::of(&events, "b", 1_000);
        assert_eq!(told_after_us(&[times, idle], idle), Some(0));
        let idle = NodeTimes {
            left_us: Some(1_250),
            ..NodeTimes::default()
        };
        assert_eq!(told_after_us(&[times, idle], idle), Some(250));
        assert_eq!(told_after_us(&[idle], idle), None);
        assert_eq!(told_after_us(&[times], NodeTimes::default()), None);
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([999, 31_999, 1_049_999].map(span), ["999 us", "31 ms", "1.04 s"]);
    }
}
