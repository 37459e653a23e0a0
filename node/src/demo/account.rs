//! What became of the queries, of several loads together.

use detour_rig::{Ledger, Summary};
use serde::Serialize;

/// Queries by what their clients got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    pub(super) asked: usize,
    /// With the right answer, in time or late.
    pub(super) answered: usize,
    pub(super) lost: usize,
    pub(super) wrong: usize,
    pub(super) error: usize,
    /// Of those answered, more than 250 ms after their time.
    pub(super) late: usize,
}

impl Account {
    /// Of one load.
    pub(super) fn of(ledger: &Ledger) -> Self {
        let Summary {
            total,
            good,
            lost,
            wrong,
            error,
            late,
            ..
        } = ledger.summary(None);
        Self {
            asked: total,
            answered: good.saturating_add(late),
            lost,
            wrong,
            error,
            late,
        }
    }

    /// Of both.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            asked: self.asked.saturating_add(other.asked),
            answered: self.answered.saturating_add(other.answered),
            lost: self.lost.saturating_add(other.lost),
            wrong: self.wrong.saturating_add(other.wrong),
            error: self.error.saturating_add(other.error),
            late: self.late.saturating_add(other.late),
        }
    }
}
