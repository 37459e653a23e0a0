//! What can be wrong with the provider of the demo, and what is promised then.

use std::time::Duration;

use clap::ValueEnum;
use detour_rig::Fault;

/// How much later `slow` answers: longer than any client of the demo is to notice.
const SLOW_BY: Duration = Duration::from_millis(1_500);
/// How long `flap` is silent, and then honest, in turn.
pub(super) const FLAP_PERIOD: Duration = Duration::from_secs(4);

/// A fault to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoFault {
    /// Silence
    Blackhole,
    /// SERVFAIL to everything
    Servfail,
    /// REFUSED to everything
    Refused,
    /// Right answers, 1.5 s late
    Slow,
    /// Random bytes
    Garbage,
    /// "No such name" to everything
    Nxdomain,
    /// Wrong addresses
    Lie,
    /// Silence and right answers in turn
    Flap,
}

impl DemoFault {
    /// What the fake is told.
    pub(super) const fn fault(self) -> Fault {
        match self {
            Self::Blackhole => Fault::Blackhole,
            Self::Servfail => Fault::Servfail,
            Self::Refused => Fault::Refused,
            Self::Slow => Fault::Slow(SLOW_BY),
            Self::Garbage => Fault::Garbage,
            Self::Nxdomain => Fault::Nxdomain,
            Self::Lie => Fault::Lie,
            Self::Flap => Fault::Flap(FLAP_PERIOD),
        }
    }

    /// The word of the command line.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Servfail => "servfail",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Garbage => "garbage",
            Self::Nxdomain => "nxdomain",
            Self::Lie => "lie",
            Self::Flap => "flap",
        }
    }

    /// What happens to a provider: "birch …".
    pub(super) const fn happens(self) -> &'static str {
        match self {
            Self::Blackhole => "goes silent",
            Self::Servfail => "answers SERVFAIL to everything",
            Self::Refused => "refuses everything",
            Self::Slow => "answers 1.5 s late",
            Self::Garbage => "sends random bytes",
            Self::Nxdomain => "says that no name exists",
            Self::Lie => "gives wrong addresses",
            Self::Flap => "goes silent and back, in turn",
        }
    }

    /// Whether every answer must be right all the same. Well-formed lies are not told from the truth yet.
    pub(super) const fn is_handled(self) -> bool {
        !matches!(self, Self::Nxdomain | Self::Lie)
    }

    /// Whether every node must leave the provider, the one that nobody asks by word of the others.
    pub(super) const fn must_be_left(self) -> bool {
        self.is_handled()
    }

    /// Whether nothing comes back within the waking, so that a node by itself goes on asking for all of it.
    pub(super) const fn is_silent(self) -> bool {
        matches!(self, Self::Blackhole | Self::Slow | Self::Flap)
    }
}
