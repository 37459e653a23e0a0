//! What is no one provider's: this machine's clock, its network, and what stands between it and all of them.

use core::fmt;

use super::finding::{Count, Names, Severity, Span};
use crate::control::{ClockError, ClockWrong};
use crate::topology::{Family, Path};

/// What was found of all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Common {
    /// This machine's clock is wrong.
    ClockWrong(ClockWrong),
    /// Nobody answers over anything.
    NothingAnswers {
        /// How many operators were asked.
        operators: usize,
    },
    /// Nobody answers over one path while other paths work.
    PathBlocked {
        /// Which.
        path: Path,
        /// How many operators were asked over it.
        operators: usize,
    },
    /// Nobody answers over an address family while the other one works.
    FamilyBlocked {
        /// Which.
        family: Family,
        /// How many operators were asked over it.
        operators: usize,
    },
    /// Several operators show one certificate, which is none of theirs.
    Intercepted {
        /// For whom it is.
        names: Vec<String>,
        /// How many operators show it.
        operators: usize,
    },
    /// All say that a name does not exist which does.
    DeniedByAll {
        /// The name.
        name: String,
        /// How many operators say so.
        operators: usize,
    },
    /// This machine has no way to addresses of a family.
    NoRoute {
        /// Which.
        family: Family,
        /// How many endpoints have such an address.
        endpoints: usize,
    },
}

impl Common {
    /// The word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClockWrong(_) => "clock-wrong",
            Self::NothingAnswers { .. } => "nothing-answers",
            Self::PathBlocked { .. } => "path-blocked",
            Self::FamilyBlocked { .. } => "family-blocked",
            Self::Intercepted { .. } => "intercepted",
            Self::DeniedByAll { .. } => "denied-by-all",
            Self::NoRoute { .. } => "no-route",
        }
    }

    /// How bad it is. A machine without IPv6 is in order, and endpoints that it cannot use cost it nothing.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::ClockWrong(_)
            | Self::NothingAnswers { .. }
            | Self::PathBlocked { .. }
            | Self::Intercepted { .. }
            | Self::DeniedByAll { .. } => Severity::Fault,
            Self::FamilyBlocked { .. } | Self::NoRoute { .. } => Severity::Notice,
        }
    }
}

impl fmt::Display for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockWrong(wrong) => clock(*wrong, f),
            Self::NothingAnswers { operators } => write!(
                f,
                "nothing answers, whichever of {operators} operators is asked: look at this machine's own network first"
            ),
            Self::PathBlocked { path, operators } => write!(
                f,
                "over {path} none of {operators} operators answers, and in other ways they do: something between this \
                 machine and them blocks it"
            ),
            Self::FamilyBlocked { family, operators } => {
                let family = family_text(*family);
                write!(
                    f,
                    "over {family} none of {operators} operators answers, and in other ways they do: {family} does not \
                     work from here"
                )
            }
            Self::Intercepted { names, operators } => write!(
                f,
                "{operators} operators show one certificate that is none of theirs, for {}: something between this \
                 machine and them answers in their place",
                Names(names)
            ),
            Self::DeniedByAll { name, operators } => write!(
                f,
                "{operators} operators say that {name} does not exist, and it does: something between this machine and \
                 them answers in their place"
            ),
            Self::NoRoute { family, endpoints } => {
                let (family, endpoints) = (family_text(*family), Count(*endpoints, "endpoint"));
                write!(
                    f,
                    "this machine has no way to {family} addresses: {endpoints} cannot be used from here"
                )
            }
        }
    }
}

/// An address family as people write it.
fn family_text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// How the clock is wrong; who knows the date can say more.
fn clock(wrong: ClockWrong, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (seconds, way) = match wrong.error {
        ClockError::Ahead { seconds } => (seconds, "ahead"),
        ClockError::Behind { seconds } => (seconds, "behind"),
    };
    write!(
        f,
        "this machine's clock is wrong: it is {} {way} at least",
        Span(seconds)
    )
}
