//! What became of the queries, of several loads together.

use detour_rig::{Grade, Ledger, Summary};
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

/// Clients that got no answer, a wrong one or an error, one line each, at most so many: whom to look for in the logs.
pub(super) fn hurt_lines(ledger: &Ledger, node: &str, count_max: usize) -> Vec<String> {
    let is_hurt = |grade: Grade| matches!(grade, Grade::Lost | Grade::Wrong | Grade::Error);
    let hurt = ledger.hurt().filter(|record| is_hurt(record.grade()));
    let lines = hurt.map(|record| {
        let (grade, name) = (record.grade(), ledger.name(record));
        let at_ms = record.scheduled.as_millis();
        format!("{node}, {at_ms} ms after its first: {grade:?} {name}")
    });
    lines.take(count_max).collect()
}
