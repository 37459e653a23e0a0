//! What a measurement found, as a line of a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// Which figure.
    pub(crate) figure: &'static str,
    /// Under which circumstances.
    pub(crate) setting: String,
    /// What was seen, for people.
    pub(crate) seen: String,
    /// What was seen, for programs.
    pub(crate) json: Value,
    /// What it should be.
    pub(crate) goal: &'static str,
    /// Whether it is; `None` where nothing is promised.
    pub(crate) is_reached: Option<bool>,
}

/// The middle, the tail and the end of a set of times, microseconds (nearest rank).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50_us: u64,
    pub(crate) p95_us: u64,
    pub(crate) max_us: u64,
}

impl Spread {
    pub(crate) fn of(mut times_us: Vec<u64>) -> Self {
        times_us.sort_unstable();
        let count = times_us.len();
        let rank = |percent: usize| {
            let index = (count * percent).div_ceil(100).saturating_sub(1);
            times_us.get(index).copied().unwrap_or_default()
        };
        Self {
            count,
            p50_us: rank(50),
            p95_us: rank(95),
            max_us: rank(100),
        }
    }

    pub(crate) fn text(self) -> String {
        let Self {
            count,
            p50_us,
            p95_us,
            max_us,
        } = self;
        format!(
            "{count} times: p50 {} p95 {} max {} ms",
            ms(p50_us),
            ms(p95_us),
            ms(max_us)
        )
    }

    pub(crate) fn json(self) -> Value {
        json!({ "count": self.count, "p50_us": self.p50_us, "p95_us": self.p95_us, "max_us": self.max_us })
    }
}

/// Milliseconds, to the tenth below a hundred.
pub(crate) fn ms(us: u64) -> String {
    if us < 100_000 {
        format!("{}.{}", us / 1_000, us / 100 % 10)
    } else {
        (us / 1_000).to_string()
    }
}

/// As microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// All of them, for people.
pub(crate) fn table(findings: &[Finding]) -> String {
    let width = |cell: fn(&Finding) -> &str| findings.iter().map(|one| cell(one).chars().count()).max().unwrap_or(0);
    let (figures, settings) = (width(|one| one.figure), width(|one| &one.setting));
    let (seens, goals) = (width(|one| &one.seen), width(|one| one.goal));
    let mut text = String::new();
    for one in findings {
        let verdict = one.is_reached.map_or("", |is| if is { "ok" } else { "MISSED" });
        let (figure, setting, seen, goal) = (one.figure, &one.setting, &one.seen, one.goal);
        let line = format!("{figure:figures$}  {setting:settings$}  {seen:seens$}  {goal:goals$}  {verdict}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// All of them, for programs.
pub(crate) fn json(findings: &[Finding]) -> Value {
    let one = |one: &Finding| {
        json!({
            "figure": one.figure, "setting": one.setting, "seen": one.json, "goal": one.goal,
            "reached": one.is_reached,
        })
    };
    findings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_nearest_rank() {
        let spread = Spread::of((1..=200).rev().map(|number| number * 1_000).collect());
        assert_eq!(spread.text(), "200 times: p50 100 p95 190 max 200 ms");
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        assert_eq!(ms(31_250), "31.2");
    }

    #[test]
    fn a_line_says_whether_the_goal_is_reached() {
        let finding = |is_reached| Finding {
            figure: "onsets",
            setting: "3 nodes".to_owned(),
            seen: "p95 20 ms".to_owned(),
            json: json!({ "p95_us": 20_000 }),
            goal: "p95 250 ms",
            is_reached,
        };
        let findings = [finding(Some(true)), finding(Some(false)), finding(None)];
        let table = table(&findings);
        let ends: Vec<&str> = table.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(ends, ["ok", "MISSED", "p95 250 ms"]);
        assert_eq!(json(&findings)[1]["reached"], false);
    }
}
