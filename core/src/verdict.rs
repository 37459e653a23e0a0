//! What peers' reports add up to at this node, and what became of the one that counts.
//!
//! A *claim* is a peer's statement that an endpoint is down, on its way through this node's own judgement: by its words
//! `explain`, status, log and test tell which report moved a place and which own probe decided.

use crate::outcome::Cause;
use crate::report::NodeId;
use crate::time::Time;

/// What others' fresh reports add up to, whether or not it moved anything here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing that counts.
    #[default]
    None,
    /// It answers others.
    Up,
    /// It does not.
    Down,
}

impl Verdict {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Whose reports a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerdictSource {
    /// One credible report of the own circle.
    Own,
    /// Operators enough. None is counted yet: foreign reports are hints.
    Quorum,
}

impl VerdictSource {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Quorum => "quorum",
        }
    }
}

/// Why a report of the own circle that says down moves no place: it is taken as a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubtful {
    /// It does not say when the failures began.
    Undated,
    /// No other operator answered the reporter meanwhile.
    Unwitnessed,
    /// The reporter itself stood still meanwhile.
    Stalled,
    /// The reporter's own uplink is suspect.
    Uplink,
    /// The reporter sees nothing up.
    NothingUp,
    /// It was two seconds old when it came.
    Late,
    /// The reporter's last failure is ten seconds old, or it was answered since.
    Lapsed,
}

impl Doubtful {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Undated => "undated",
            Self::Unwitnessed => "unwitnessed",
            Self::Stalled => "stalled",
            Self::Uplink => "uplink",
            Self::NothingUp => "nothing-up",
            Self::Late => "late",
            Self::Lapsed => "lapsed",
        }
    }
}

/// What became of a claim here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// The endpoint is last, its own probe is under way.
    Pending,
    /// An own probe was good less than five seconds ago: the place moves when the next one is sent.
    Waiting,
    /// The place would move, but fewer than two operators would stay in place: probe only.
    Floor,
    /// This node of the own circle had an answer since: probe only.
    Contested {
        /// Who.
        by: NodeId,
    },
    /// Not credible: probe only.
    NotCredible(Doubtful),
    /// Its cause, its circle or `influence = "hint"` makes it a hint: probe only.
    Hint,
    /// An own attempt begun since succeeded: nothing moves.
    Beaten,
    /// This node had left the endpoint by its own evidence before.
    Known,
    /// Own evidence found the same.
    Confirmed {
        /// When.
        at: Time,
    },
    /// The own probe was good.
    Refuted {
        /// When.
        at: Time,
        /// Until when the reporter has no say about this endpoint here.
        until: Time,
    },
    /// The reporter has no say about this endpoint here for now.
    Muted {
        /// Until when.
        until: Time,
    },
    /// `influence = "none"`: shown, no more.
    Ignored,
}

impl ClaimState {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Floor => "floor",
            Self::Contested { .. } => "contested",
            Self::NotCredible(_) => "not-credible",
            Self::Hint => "hint",
            Self::Beaten => "beaten",
            Self::Known => "known",
            Self::Confirmed { .. } => "confirmed",
            Self::Refuted { .. } => "refuted",
            Self::Muted { .. } => "muted",
            Self::Ignored => "ignored",
        }
    }

    /// Whether it is still to be decided: an own probe is wanted, and attempts there are hedged early.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Waiting | Self::Floor | Self::Contested { .. } | Self::Hint => true,
            Self::NotCredible(doubtful) => doubtful != Doubtful::Undated,
            Self::Beaten | Self::Known | Self::Confirmed { .. } | Self::Refuted { .. } => false,
            Self::Muted { .. } | Self::Ignored => false,
        }
    }

    /// What comes first when several nodes say down.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Confirmed { .. } | Self::Refuted { .. } => 0,
            Self::Pending => 1,
            Self::Waiting | Self::Floor => 2,
            Self::Contested { .. } => 3,
            Self::Known => 4,
            Self::NotCredible(_) => 5,
            Self::Hint => 6,
            Self::Beaten => 7,
            Self::Muted { .. } => 8,
            Self::Ignored => 9,
        }
    }
}

/// The report that counts most against an endpoint, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub by: NodeId,
    /// Why, by its words.
    pub cause: Cause,
    /// When its first failure began, by this node's clock; when the report came, if it does not say.
    pub first_failure: Time,
    /// When the report that said so first arrived.
    pub arrived: Time,
    /// What became of it.
    pub state: ClaimState,
    /// When this node's own probe was sent.
    pub probed: Option<Time>,
    /// When that probe, or other own evidence, had decided.
    pub decided: Option<Time>,
}

/// Whose trouble it is that an endpoint is down, here or elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribution {
    /// It is down nowhere.
    #[default]
    None,
    /// Seen from elsewhere it is down, too: the provider's.
    TheirOutage,
    /// It is down here, and up seen from elsewhere.
    MyPath,
    /// It is up here, and down for a peer while others see it up, too, or from elsewhere.
    OtherPath,
    /// Elsewhere some say this, others that.
    Mixed,
    /// All reporters share this site.
    OneSite,
    /// Nobody else reports on it.
    NoReports,
}

impl Attribution {
    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TheirOutage => "their-outage",
            Self::MyPath => "my-path",
            Self::OtherPath => "other-path",
            Self::Mixed => "mixed",
            Self::OneSite | Self::NoReports => "unknown",
        }
    }

    /// The words for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "down nowhere",
            Self::TheirOutage => "their outage",
            Self::MyPath => "my path",
            Self::OtherPath => "another node's path",
            Self::Mixed => "reports from elsewhere differ",
            Self::OneSite => "unknown: all reporters share this site",
            Self::NoReports => "unknown: nobody else reports on it",
        }
    }
}

/// What the mesh says of one endpoint, beside its row in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// What others' fresh reports add up to.
    pub verdict: Verdict,
    /// On whose reports it rests; the node is one of them.
    pub verdict_by: Option<(VerdictSource, NodeId)>,
    /// The report that counts most against it.
    pub claim: Option<Claim>,
    /// Whose trouble it is.
    pub attribution: Attribution,
}
