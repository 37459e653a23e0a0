//! What became of every single query, and what that adds up to.
//!
//! A query is *hurt* unless its answer was right, was no error and came within 250 ms of what it takes unfaulted,
//! counted from the instant it was scheduled for: a generator that falls behind may not hide that its queries waited.
//! An answer that says a name of ours does not exist is an error; one that says it has no address is wrong.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::load::FreshNames;
use crate::message::rcode;
use crate::zone;

/// How much longer than unfaulted an answer may take before its client is hurt (design, glossary).
pub const LATE_AFTER: Duration = Duration::from_millis(250);

/// The good and the ways to be hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Right and in time.
    Good,
    /// No answer while the generator waited, or the query could not be sent.
    Lost,
    /// NOERROR with another address than the name's, or with none.
    Wrong,
    /// Another rcode than NOERROR, or a truncated answer to a question whose answer is small.
    Error,
    /// Right, but more than [`LATE_AFTER`] after its time.
    Late,
}

/// One query. Instants are counted from the start of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, which [`Ledger::name`] turns into its name.
    pub index: u64,
    /// When it should have been sent.
    pub scheduled: Duration,
    /// When it was; `None` when the socket refused or too many were unanswered.
    pub sent: Option<Duration>,
    /// What its answer takes unfaulted.
    pub latency_unfaulted: Duration,
    /// What came back, if anything did in time.
    pub answer: Option<RecordedAnswer>,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedAnswer {
    /// When.
    pub at: Duration,
    /// The response code.
    pub rcode: u8,
    /// Whether it was cut.
    pub truncated: bool,
    /// Whether its addresses are the expected one and nothing else.
    pub right: bool,
}

impl Record {
    /// What its client got.
    #[must_use]
    pub fn grade(&self) -> Grade {
        let Some(answer) = self.answer else { return Grade::Lost };
        if answer.rcode != rcode::NOERROR || answer.truncated {
            Grade::Error
        } else if !answer.right {
            Grade::Wrong
        } else if answer.at > self.scheduled + self.latency_unfaulted + LATE_AFTER {
            Grade::Late
        } else {
            Grade::Good
        }
    }

    /// From its scheduled instant to its answer.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.answer.map(|answer| answer.at.saturating_sub(self.scheduled))
    }

    /// When its answer would have come unfaulted.
    fn due(&self) -> Duration {
        self.scheduled + self.latency_unfaulted
    }
}

/// Whether these addresses are the right answer for `name`.
#[must_use]
pub fn is_right(name: &str, addresses: &[Ipv4Addr]) -> bool {
    zone::expected_a(name).is_some_and(|expected| addresses == [expected])
}

/// The records of one load, in the order of their numbers.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// One per query.
    pub records: Vec<Record>,
    /// Datagrams that matched no open query: late, doubled or forged.
    pub strays: u64,
    /// The machine's own longest stall meanwhile.
    pub stall: Duration,
    /// Turns numbers into names.
    pub names: FreshNames,
}

impl Ledger {
    /// The name a record asked for.
    #[must_use]
    pub fn name(&self, record: &Record) -> String {
        self.names.name(record.index)
    }

    /// The hurt queries, in order.
    pub fn hurt(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.grade() != Grade::Good)
    }

    /// Adds everything up. `mark` is when something was done to the system (a fault), counted from the load's start.
    #[must_use]
    pub fn summary(&self, mark: Option<Duration>) -> Summary {
        let mut summary = Summary {
            total: self.records.len(),
            stall: self.stall,
            ..Summary::default()
        };
        summary.strays = self.strays;
        let (mut all, mut before, mut during) = (Vec::new(), Vec::new(), Vec::new());
        for record in &self.records {
            let grade = record.grade();
            *match grade {
                Grade::Good => &mut summary.good,
                Grade::Lost => &mut summary.lost,
                Grade::Wrong => &mut summary.wrong,
                Grade::Error => &mut summary.error,
                Grade::Late => &mut summary.late,
            } += 1;
            if let Some(latency) = record.latency() {
                all.push(latency);
                let side = if mark.is_some_and(|mark| record.scheduled >= mark) {
                    &mut during
                } else {
                    &mut before
                };
                side.push(latency);
            }
            if let (Some(mark), true) = (mark, grade != Grade::Good) {
                summary.count_hurt(record, mark);
            }
        }
        summary.latency = Percentiles::of(all);
        summary.latency_before = Percentiles::of(before);
        summary.latency_during = Percentiles::of(during);
        summary
    }
}

/// What a ledger adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All queries.
    pub total: usize,
    /// Right and in time.
    pub good: usize,
    /// Without an answer.
    pub lost: usize,
    /// With a wrong answer.
    pub wrong: usize,
    /// With an error.
    pub error: usize,
    /// With a late answer.
    pub late: usize,
    /// Hurt queries that should have been answered before the mark. Without a mark: 0, as in the next two.
    pub hurt_before: usize,
    /// Hurt queries by the second after the mark they were scheduled in; those under way at the mark in the first.
    pub hurt_per_second: Vec<usize>,
    /// From the mark to the scheduled instant of the last hurt query.
    pub last_hurt: Option<Duration>,
    /// Of all answers.
    pub latency: Percentiles,
    /// Of queries scheduled before the mark (all, without a mark).
    pub latency_before: Percentiles,
    /// Of queries scheduled from the mark on.
    pub latency_during: Percentiles,
    /// Datagrams that matched no open query.
    pub strays: u64,
    /// The machine's own longest stall.
    pub stall: Duration,
}

impl Summary {
    /// All but the good.
    #[must_use]
    pub const fn hurt(&self) -> usize {
        self.total - self.good
    }

    /// Hurt in the first second after the mark.
    #[must_use]
    pub fn hurt_first_second(&self) -> usize {
        self.hurt_per_second.first().copied().unwrap_or(0)
    }

    /// Hurt after that.
    #[must_use]
    pub fn hurt_after_first_second(&self) -> usize {
        self.hurt_per_second.iter().skip(1).sum()
    }

    fn count_hurt(&mut self, record: &Record, mark: Duration) {
        if record.due() < mark {
            self.hurt_before += 1;
            return;
        }
        let since = record.scheduled.saturating_sub(mark);
        let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX).min(86_400);
        if self.hurt_per_second.len() <= second {
            self.hurt_per_second.resize(second + 1, 0);
        }
        if let Some(count) = self.hurt_per_second.get_mut(second) {
            *count += 1;
        }
        self.last_hurt = self.last_hurt.max(Some(since));
    }
}

/// The middle, the tail and the end of a set of durations (nearest rank).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half are no longer.
    pub p50: Duration,
    /// 99 of 100 are no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Percentiles {
    /// Of these; all zero without any.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let rank = |percent: usize| {
            let index = (durations.len() * percent).div_ceil(100).saturating_sub(1);
            durations.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn record(index: u64, scheduled_ms: u64, answer: Option<(u64, u8, bool)>) -> Record {
        let answer = answer.map(|(at, rcode, right)| RecordedAnswer {
            at: ms(at),
            rcode,
            truncated: false,
            right,
        });
        Record {
            index,
            scheduled: ms(scheduled_ms),
            sent: Some(ms(scheduled_ms)),
            latency_unfaulted: ms(10),
            answer,
        }
    }

    #[test]
    fn grades_follow_the_glossary() {
        assert_eq!(record(0, 100, Some((360, 0, true))).grade(), Grade::Good);
        assert_eq!(record(0, 100, Some((361, 0, true))).grade(), Grade::Late);
        assert_eq!(record(0, 100, Some((110, 0, false))).grade(), Grade::Wrong);
        assert_eq!(record(0, 100, Some((110, 3, false))).grade(), Grade::Error);
        assert_eq!(record(0, 100, None).grade(), Grade::Lost);
        let mut cut = record(0, 100, Some((110, 0, true)));
        cut.answer.as_mut().unwrap().truncated = true;
        assert_eq!(cut.grade(), Grade::Error);
    }

    #[test]
    fn hurt_is_counted_from_the_mark() {
        let records = vec![
            record(0, 500, None),                      // due before the mark
            record(1, 995, None),                      // under way at the mark
            record(2, 1_100, Some((1_400, 0, true))),  // late, first second
            record(3, 1_200, Some((1_210, 0, true))),  // good
            record(4, 3_100, Some((3_110, 2, false))), // error, third second
        ];
        let names = FreshNames::default();
        let ledger = Ledger {
            records,
            strays: 1,
            stall: ms(3),
            names,
        };
        let summary = ledger.summary(Some(ms(1_000)));
        assert_eq!((summary.total, summary.good, summary.hurt()), (5, 1, 4));
        assert_eq!((summary.lost, summary.wrong, summary.error, summary.late), (2, 0, 1, 1));
        assert_eq!(summary.hurt_before, 1);
        assert_eq!(summary.hurt_per_second, [2, 0, 1]);
        assert_eq!((summary.hurt_first_second(), summary.hurt_after_first_second()), (2, 1));
        assert_eq!(summary.last_hurt, Some(ms(2_100)));
        assert_eq!(summary.latency_before, Percentiles::default());
        assert_eq!(
            summary.latency_during,
            Percentiles {
                p50: ms(10),
                p99: ms(300),
                max: ms(300)
            }
        );
        assert_eq!(
            ledger.hurt().map(|record| record.index).collect::<Vec<_>>(),
            [0, 1, 2, 4]
        );
        assert_eq!(ledger.summary(None).hurt_per_second, [0_usize; 0]);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let percentiles = Percentiles::of((1..=200).rev().map(ms).collect());
        assert_eq!(
            percentiles,
            Percentiles {
                p50: ms(100),
                p99: ms(198),
                max: ms(200)
            }
        );
    }
}
