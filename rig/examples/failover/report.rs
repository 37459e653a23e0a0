//! What the runs of one fault under one law add up to, as a table, as JSON and as a verdict on the goals.

use std::time::Duration;

use detour_rig::{Fault, Law, Summary};
use serde_json::json;

use crate::experiment::Run;

/// The runs of one fault under one law.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) fault: Fault,
    pub(crate) law: Law,
    pub(crate) runs: Vec<Run>,
}

/// Median and worst of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spread {
    pub(crate) median: u128,
    pub(crate) worst: u128,
}

impl Spread {
    /// The upper median, so that of two runs the worse one shows.
    pub(crate) fn of(values: impl IntoIterator<Item = u128>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        let median = values.get(values.len() / 2).copied().unwrap_or_default();
        Self {
            median,
            worst: values.last().copied().unwrap_or_default(),
        }
    }

    fn text(self) -> String {
        format!("{}/{}", self.median, self.worst)
    }

    fn json(self) -> serde_json::Value {
        json!({ "median": count(self.median), "worst": count(self.worst) })
    }
}

/// The columns of the table, in their order.
const HEADINGS: [&str; 14] = [
    "law", "fault", "hurt", "control", "lost", "wrong", "error", "late", "1st s", "after", "last ms", "down ms",
    "stall ms", "goal",
];

impl Row {
    fn spread(&self, value: impl Fn(&Summary) -> usize) -> Spread {
        Spread::of(self.runs.iter().map(|run| wide(value(&run.summary))))
    }

    fn hurt(&self) -> Spread {
        self.spread(Summary::hurt)
    }

    fn last_hurt_ms(&self) -> Spread {
        Spread::of(
            self.runs
                .iter()
                .map(|run| run.summary.last_hurt.map_or(0, |since| since.as_millis())),
        )
    }

    fn downs(&self) -> Vec<Duration> {
        self.runs.iter().filter_map(|run| run.down_after).collect()
    }

    fn stall(&self) -> Duration {
        self.runs.iter().map(|run| run.summary.stall).max().unwrap_or_default()
    }

    /// `None` when the fault has no goal here.
    pub(crate) fn reaches_goal(&self) -> Option<bool> {
        match self.fault {
            Fault::Blackhole
            | Fault::Servfail
            | Fault::Refused
            | Fault::Garbage
            | Fault::Slow(_)
            | Fault::Truncate
            | Fault::Rst
            | Fault::Wrongid
            | Fault::TlsStall
            | Fault::TlsExpired
            | Fault::TlsNotYetValid
            | Fault::TlsWrongName
            | Fault::Http500
            | Fault::Http429(_)
            | Fault::Hostile(_) => Some(self.hurt().worst == 0),
            Fault::Loss(_) => Some(self.spread(Summary::hurt_after_first_second).worst == 0),
            Fault::None | Fault::Nxdomain | Fault::Nodata | Fault::Lie | Fault::Flap(_) => None,
        }
    }

    fn cells(&self, control: Option<&Self>) -> [String; 14] {
        let downs = self.downs();
        let down = Spread::of(downs.iter().map(Duration::as_millis)).text();
        let goal = self
            .reaches_goal()
            .map_or("", |reached| if reached { "ok" } else { "MISSED" });
        [
            self.law.to_string(),
            self.fault.to_string(),
            self.hurt().text(),
            control.map_or_else(String::new, |control| control.hurt().text()),
            self.spread(|summary| summary.lost).text(),
            self.spread(|summary| summary.wrong).text(),
            self.spread(|summary| summary.error).text(),
            self.spread(|summary| summary.late).text(),
            self.spread(Summary::hurt_first_second).text(),
            self.spread(Summary::hurt_after_first_second).text(),
            self.last_hurt_ms().text(),
            if downs.is_empty() {
                "-".into()
            } else {
                format!("{down} ({} of {})", downs.len(), self.runs.len())
            },
            self.stall().as_millis().to_string(),
            goal.to_owned(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        let run = |run: &Run| {
            let Summary {
                total,
                good,
                lost,
                wrong,
                error,
                late,
                hurt_before,
                hurt_per_second,
                ..
            } = &run.summary;
            let (before, during) = (run.summary.latency_before, run.summary.latency_during);
            json!({
                "total": total, "good": good, "lost": lost, "wrong": wrong, "error": error, "late": late,
                "hurt_before": hurt_before, "hurt_per_second": hurt_per_second, "strays": run.summary.strays,
                "last_hurt_ms": run.summary.last_hurt.map(milliseconds),
                "down_ms": run.down_after.map(milliseconds),
                "stall_ms": milliseconds(run.summary.stall),
                "p50_before_ms": milliseconds(before.p50), "p99_before_ms": milliseconds(before.p99),
                "p50_during_ms": milliseconds(during.p50), "p99_during_ms": milliseconds(during.p99),
                "max_during_ms": milliseconds(during.max),
            })
        };
        json!({
            "law": self.law.to_string(), "fault": self.fault.to_string(), "hurt": self.hurt().json(),
            "hurt_first_second": self.spread(Summary::hurt_first_second).json(),
            "hurt_after_first_second": self.spread(Summary::hurt_after_first_second).json(),
            "last_hurt_ms": self.last_hurt_ms().json(),
            "reaches_goal": self.reaches_goal(),
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }
}

/// All rows as one JSON array, controls (fault `none`) among them.
pub(crate) fn json(rows: &[Row]) -> serde_json::Value {
    rows.iter().map(Row::json).collect()
}

/// All rows as a table of `median/worst` cells.
pub(crate) fn table(rows: &[Row]) -> String {
    let control = |law| rows.iter().find(|row| row.fault == Fault::None && row.law == law);
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| row.cells(control(row.law))));
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..HEADINGS.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let cells: Vec<_> = line
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn wide(count: usize) -> u128 {
    u128::try_from(count).unwrap_or(u128::MAX)
}

fn count(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    count(duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: Fault, hurt: &[(usize, usize)]) -> Row {
        let run = |&(first, after): &(usize, usize)| {
            let summary = Summary {
                total: 100,
                good: 100 - first - after,
                late: first + after,
                hurt_per_second: vec![first, after],
                ..Summary::default()
            };
            Run {
                summary,
                down_after: None,
                hurt_lines: Vec::new(),
            }
        };
        Row {
            fault,
            law: Law::default(),
            runs: hurt.iter().map(run).collect(),
        }
    }

    #[test]
    fn spread_shows_the_worse_of_two() {
        assert_eq!(Spread::of([3, 1, 2]), Spread { median: 2, worst: 3 });
        assert_eq!(Spread::of([0, 4]), Spread { median: 4, worst: 4 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn goals_are_judged_by_the_worst_run() {
        assert_eq!(row(Fault::Blackhole, &[(0, 0), (0, 0)]).reaches_goal(), Some(true));
        assert_eq!(row(Fault::Blackhole, &[(0, 0), (1, 0)]).reaches_goal(), Some(false));
        assert_eq!(row(Fault::Loss(0.3), &[(9, 0), (9, 0)]).reaches_goal(), Some(true));
        assert_eq!(row(Fault::Loss(0.3), &[(0, 0), (0, 1)]).reaches_goal(), Some(false));
        assert_eq!(row(Fault::Lie, &[(50, 50)]).reaches_goal(), None);
    }

    #[test]
    fn tables_and_json_hold_every_row() {
        let rows = [row(Fault::None, &[(0, 0)]), row(Fault::Garbage, &[(1, 0), (2, 3)])];
        let table = table(&rows);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.lines().all(|line| line.len() < 140), "{table}");
        let last = table.lines().last().unwrap();
        assert!(
            last.starts_with("flat  garbage  5/5") && last.ends_with("MISSED"),
            "{table}"
        );
        let json = json(&rows);
        assert_eq!(json[1]["hurt"]["worst"], 5);
        assert_eq!(json[1]["runs"][0]["late"], 1);
    }
}
