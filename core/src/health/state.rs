//! The states of an endpoint and the one table of their transitions.
//!
//! ```text
//!              succeeded                 doubted               condemned
//!   unknown ───────────────► up ───────────────────► suspect ────────────► down
//!      │                     ▲ ▲  cleared              │ ▲                   │
//!      │ doubted             │ └───────────────────────┘ │ doubted           │ recovered, new path
//!      └──► suspect          │ ramped        forgiven,   │                   ▼
//!                            └────────────── new path    └────────────── probation
//!                                            ▼
//!                                         unknown
//! ```

use core::fmt;

/// This node's own opinion of an endpoint, from its own outcomes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not tried, or nothing that is known still holds.
    Unknown,
    /// It answers.
    Up,
    /// It failed and nothing has shown yet that it was the endpoint and not the path here.
    Suspect,
    /// It failed three times while another operator answered.
    Down,
    /// It answers again; its share grows over five seconds.
    Probation,
}

/// What moves an endpoint from state to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An attempt got a good answer.
    Succeeded,
    /// First failure without later success, silence, or loss.
    Doubted,
    /// A good answer begun since the doubt.
    Cleared,
    /// Three distinct failures, and another operator answered meanwhile.
    Condemned,
    /// Three answers 100 ms apart, after any hold-down.
    Recovered,
    /// Five seconds of probation passed.
    Ramped,
    /// The uplink returned: failures begun before that are forgotten.
    Forgiven,
    /// Route change or resume.
    NewPath,
}

impl State {
    /// All states, for tables and metrics.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Up, Self::Suspect, Self::Down, Self::Probation];

    /// The state that follows, or `None` where the event changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Unknown, Event::Succeeded) | (Self::Suspect, Event::Cleared) | (Self::Probation, Event::Ramped) => {
                Some(Self::Up)
            }
            (Self::Unknown | Self::Up | Self::Probation, Event::Doubted) => Some(Self::Suspect),
            (Self::Suspect, Event::Condemned) => Some(Self::Down),
            (Self::Down, Event::Recovered | Event::NewPath) => Some(Self::Probation),
            (Self::Suspect, Event::Forgiven | Event::NewPath) => Some(Self::Unknown),
            (Self::Unknown, Event::Cleared | Event::Condemned | Event::Recovered | Event::Ramped)
            | (Self::Unknown, Event::Forgiven | Event::NewPath)
            | (Self::Up, Event::Succeeded | Event::Cleared | Event::Condemned | Event::Recovered)
            | (Self::Up, Event::Ramped | Event::Forgiven | Event::NewPath)
            | (Self::Suspect, Event::Succeeded | Event::Doubted | Event::Recovered | Event::Ramped)
            | (Self::Down, Event::Succeeded | Event::Doubted | Event::Cleared | Event::Condemned)
            | (Self::Down, Event::Ramped | Event::Forgiven)
            | (Self::Probation, Event::Succeeded | Event::Cleared | Event::Condemned)
            | (Self::Probation, Event::Recovered | Event::Forgiven | Event::NewPath) => None,
        }
    }

    /// Whether plans may use it like any other.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Up | Self::Probation)
    }

    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Probation => "probation",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_transition_table_is_as_printed() {
        let events = [
            Event::Succeeded,
            Event::Doubted,
            Event::Cleared,
            Event::Condemned,
            Event::Recovered,
            Event::Ramped,
            Event::Forgiven,
            Event::NewPath,
        ];
        let mut table = String::new();
        for state in State::ALL {
            for event in events {
                if let Some(next) = state.after(event) {
                    table.push_str(&format!("{state:?} --{event:?}--> {next:?}\n"));
                }
            }
        }
        expect![[r#"
            Unknown --Succeeded--> Up
            Unknown --Doubted--> Suspect
            Up --Doubted--> Suspect
            Suspect --Cleared--> Up
            Suspect --Condemned--> Down
            Suspect --Forgiven--> Unknown
            Suspect --NewPath--> Unknown
            Down --Recovered--> Probation
            Down --NewPath--> Probation
            Probation --Doubted--> Suspect
            Probation --Ramped--> Up
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn no_state_is_a_dead_end() {
        for from in State::ALL {
            let mut reached = vec![from];
            let mut index = 0;
            while index < reached.len() {
                for event in [
                    Event::Succeeded,
                    Event::Doubted,
                    Event::Cleared,
                    Event::Condemned,
                    Event::Recovered,
                    Event::Ramped,
                ] {
                    if let Some(next) = reached[index].after(event)
                        && !reached.contains(&next)
                    {
                        reached.push(next);
                    }
                }
                index += 1;
            }
            assert!(reached.contains(&State::Up), "{from:?} never returns to up");
        }
    }
}
