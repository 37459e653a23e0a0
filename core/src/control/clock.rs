//! Whether this machine's clock is wrong: the one clock by which all certificates are read.
//!
//! One operator can let a certificate expire. When several operators' certificates are all of another time, and none
//! that was looked at since is right, it is the clock; and a clock that stands before this version was made is wrong
//! by itself. Only differences come in here, never a date: how far a certificate's end or begin is from what the clock
//! says. What follows from it is the operator's to mend: nothing is trusted the more for it.

use std::collections::BTreeMap;

use super::{Control, Event, Output};
use crate::time::Time;
use crate::topology::{EndpointId, OperatorId};

/// Operators whose certificates must agree against the clock.
const OPERATORS_MIN: usize = 2;

/// What a certificate says of the time, beside this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateTime {
    /// It ended before what the clock says.
    ExpiredFor {
        /// How long before, seconds.
        seconds: u64,
    },
    /// It begins after what the clock says.
    ValidIn {
        /// How long after, seconds.
        seconds: u64,
    },
}

/// How a clock is wrong; it may be worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockError {
    /// It is ahead.
    Ahead {
        /// By this much at least, seconds.
        seconds: u64,
    },
    /// It is behind.
    Behind {
        /// By this much at least, seconds.
        seconds: u64,
    },
}

/// Who says that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockWitness {
    /// The certificates of all operators that were asked.
    Certificates {
        /// How many operators.
        operators: u16,
    },
    /// This version itself: it was made later than the clock says it is.
    Release,
}

/// That this machine's clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockWrong {
    /// How.
    pub error: ClockError,
    /// Who says so.
    pub witness: ClockWitness,
}

impl ClockWrong {
    /// Whether both say the same, exact amounts and numbers aside.
    fn is_like(&self, other: &Self) -> bool {
        let is_ahead = |wrong: &Self| matches!(wrong.error, ClockError::Ahead { .. });
        let is_release = |wrong: &Self| wrong.witness == ClockWitness::Release;
        (is_ahead(self), is_release(self)) == (is_ahead(other), is_release(other))
    }
}

/// What one operator's certificates said last.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Of another time, and when that was seen.
    wrong: Option<(CertificateTime, Time)>,
    /// Begin of the newest attempt that was answered over an encrypted connection.
    right: Option<Time>,
}

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    /// At most one for each operator there is.
    seen: BTreeMap<OperatorId, Seen>,
    /// How long before this version was made the clock says it is, seconds.
    before_release_s: u64,
    /// What was last said about it.
    told: Option<ClockWrong>,
}

impl ClockWatch {
    /// One of an operator's certificates was refused because it is of another time.
    pub(crate) fn note_wrong(&mut self, operator: OperatorId, certificate: CertificateTime, now: Time) {
        self.seen.entry(operator).or_default().wrong = Some((certificate, now));
    }

    /// The clock says that it is this many seconds before this version was made; 0: it does not.
    pub(crate) fn note_release(&mut self, before_s: u64) {
        self.before_release_s = before_s;
    }

    /// An operator's certificate was accepted, or had been when its connection was made.
    pub(crate) fn note_right(&mut self, operator: OperatorId, begun: Time) {
        let seen = self.seen.entry(operator).or_default();
        seen.right = seen.right.max(Some(begun));
        seen.wrong = seen.wrong.filter(|(_, at)| *at > begun);
    }

    /// What follows from all that was seen.
    pub(crate) fn judge(&self) -> Option<ClockWrong> {
        let behind_s = |certificate| match certificate {
            CertificateTime::ValidIn { seconds } => Some(seconds),
            CertificateTime::ExpiredFor { .. } => None,
        };
        let ahead_s = |certificate| match certificate {
            CertificateTime::ExpiredFor { seconds } => Some(seconds),
            CertificateTime::ValidIn { .. } => None,
        };
        let behind = self.agreed(behind_s);
        if self.before_release_s > 0 {
            let seconds = behind.map_or(0, |(seconds, _)| seconds).max(self.before_release_s);
            return Some(ClockWrong {
                error: ClockError::Behind { seconds },
                witness: ClockWitness::Release,
            });
        }
        let (error, operators) = match (behind, self.agreed(ahead_s)) {
            (Some((seconds, operators)), _) => (ClockError::Behind { seconds }, operators),
            (None, Some((seconds, operators))) => (ClockError::Ahead { seconds }, operators),
            (None, None) => return None,
        };
        Some(ClockWrong {
            error,
            witness: ClockWitness::Certificates { operators },
        })
    }

    /// The most that certificates are off by, and of how many operators, where enough say so and none the contrary.
    fn agreed(&self, off_s: impl Fn(CertificateTime) -> Option<u64>) -> Option<(u64, u16)> {
        let wrong = || {
            let all = self.seen.values().filter_map(|seen| seen.wrong);
            all.filter_map(|(certificate, at)| Some((off_s(certificate)?, at)))
        };
        let count = wrong().count();
        let first = wrong().map(|(_, at)| at).min()?;
        let is_contradicted = self.seen.values().any(|seen| seen.right.is_some_and(|at| at >= first));
        let most = wrong().map(|(seconds, _)| seconds).max()?;
        (count >= OPERATORS_MIN && !is_contradicted).then_some((most, u16::try_from(count).unwrap_or(u16::MAX)))
    }

    /// What was last said.
    pub(super) fn told(&self) -> Option<ClockWrong> {
        self.told
    }

    /// Operators have other numbers from here on.
    pub(super) fn forget_operators(&mut self) {
        self.seen.clear();
    }
}

impl Control {
    /// A handshake failed because the certificate is of another time than this machine's clock says it is.
    pub fn handle_certificate(&mut self, endpoint: EndpointId, certificate: CertificateTime, now: Time) {
        if let Some((_, operator)) = self.way_and_operator(endpoint) {
            self.clock.note_wrong(operator, certificate, now);
            self.judge_clock(now);
        }
    }

    /// The clock says that it is this many seconds before this version was made; 0: it does not.
    pub fn handle_release(&mut self, before_s: u64, now: Time) {
        if self.clock.before_release_s != before_s {
            self.clock.note_release(before_s);
            self.judge_clock(now);
        }
    }

    /// An attempt begun at `begun` was answered over an encrypted connection.
    pub(super) fn note_encrypted_answer(&mut self, endpoint: EndpointId, begun: Time, now: Time) {
        if self.clock.told.is_none() && self.clock.seen.values().all(|seen| seen.wrong.is_none()) {
            return;
        }
        let is_encrypted = |id| self.topology.endpoint(id).is_some_and(|e| e.transport.is_encrypted());
        if let Some((_, operator)) = self.way_and_operator(endpoint)
            && is_encrypted(endpoint)
        {
            self.clock.note_right(operator, begun);
            self.judge_clock(now);
        }
    }

    /// Says what is new about the clock.
    fn judge_clock(&mut self, now: Time) {
        let wrong = self.clock.judge();
        let is_new = match (&wrong, &self.clock.told) {
            (Some(wrong), Some(told)) => !wrong.is_like(told),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        self.clock.told = wrong;
        if is_new {
            let event = wrong.map_or(Event::ClockRight, Event::ClockWrong);
            self.outputs.push_back(Output::Event(event));
            self.rebuild(now);
        }
    }
}
