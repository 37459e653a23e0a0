//! What is said at the end: all runs beside each other, what was not as it must be, and one sentence that sums it up.

use serde_json::{Value, json};

use super::account::Account;
use super::outcome::{Failure, Outcome};
use super::screen::{WIDTH, wrap};
use super::times::span;

/// What a cell says of what did not happen.
const NEVER: &str = "never";

/// All runs, as text.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::from("\n");
    text.push_str(&table(outcomes));
    text.push('\n');
    let failures = failures(outcomes);
    for failure in &failures {
        for line in wrap(&format!("FAILED: {failure}"), WIDTH) {
            text.push_str(&format!("{line}\n"));
        }
    }
    if !failures.is_empty() {
        for hurt in outcomes.iter().flat_map(|outcome| &outcome.hurt) {
            text.push_str(&format!("  {hurt}\n"));
        }
    }
    let closing = if failures.is_empty() {
        closing(outcomes)
    } else {
        "This is not what Detour promises. If this machine was busy, try again; else it is a mistake of Detour's."
            .to_owned()
    };
    for line in wrap(&closing, WIDTH) {
        text.push_str(&format!("{line}\n"));
    }
    if failures.is_empty() {
        let is_default = outcomes
            .iter()
            .all(|outcome| outcome.scenario.fault.word() == "blackhole");
        let other = if is_default { "servfail" } else { "blackhole" };
        text.push_str(&format!(
            "Next: `detour demo --fault {other}`, or `detour run` for the real thing.\n"
        ));
    }
    text
}

/// All runs, for programs.
pub(super) fn json(outcomes: &[Outcome]) -> Value {
    let failures = failures(outcomes);
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    json!({
        "ok": failures.is_empty(),
        "failures": told,
        "runs": outcomes.iter().map(run_json).collect::<Vec<_>>(),
    })
}

/// Everything that must not be, of all runs.
pub(super) fn failures(outcomes: &[Outcome]) -> Vec<String> {
    let of = |outcome: &Outcome| {
        let lead = if outcome.scenario.has_mesh {
            "with the mesh: "
        } else {
            "each for itself: "
        };
        let told = |failure: &Failure| format!("{lead}{failure}");
        outcome.failures().iter().map(told).collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(of).collect()
}

fn run_json(outcome: &Outcome) -> Value {
    let node = |(number, times): (usize, &super::times::NodeTimes)| {
        json!({
            "node": format!("node{number}"),
            "down_us": times.down_us, "left_us": times.left_us, "doubted_us": times.doubted_us,
        })
    };
    let nodes = |all: &[super::times::NodeTimes]| (1..).zip(all).map(node).collect::<Vec<_>>();
    let Outcome {
        scenario,
        victim,
        victim_asked,
        account,
        nodes_before,
        nodes: nodes_after,
        waking,
        waking_to_victim,
        words,
        returned,
        hurt,
        stall,
    } = outcome;
    json!({
        "mesh": scenario.has_mesh,
        "fault": scenario.fault.word(),
        "provider": victim,
        "asked_in_2_s_before": victim_asked,
        "queries": account,
        "nodes_before_waking": nodes(nodes_before),
        "nodes": nodes(nodes_after),
        "first_down_to_silent_left_us": outcome.told_after_us(),
        "waking": { "queries": waking, "to_provider": waking_to_victim },
        "silent_node": { "provider": words.provider, "explain": words.explain },
        "returned_ms": returned.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        "hurt": hurt,
        "stall_ms": u64::try_from(stall.as_millis()).unwrap_or(u64::MAX),
    })
}

/// One line per figure, one column per run.
fn table(outcomes: &[Outcome]) -> String {
    let Some(first) = outcomes.first() else {
        return String::new();
    };
    let mut lines = vec![(
        format!(
            "{} failed ({})",
            first.victim_word(outcomes),
            first.scenario.fault.word()
        ),
        outcomes.iter().map(|outcome| heading(outcome).to_owned()).collect(),
    )];
    let mut line = |name: String, cell: &dyn Fn(&Outcome) -> String| {
        lines.push((name, outcomes.iter().map(cell).collect::<Vec<_>>()));
    };
    let count = |pick: fn(&Account) -> usize| move |outcome: &Outcome| pick(&outcome.account).to_string();
    line("names asked".to_owned(), &count(|account| account.asked));
    line("  answered rightly".to_owned(), &count(|account| account.answered));
    line("  lost".to_owned(), &count(|account| account.lost));
    line("  wrong".to_owned(), &count(|account| account.wrong));
    line("  in error".to_owned(), &count(|account| account.error));
    line(
        "  answered, but over 250 ms late".to_owned(),
        &count(|account| account.late),
    );
    let after = |us: Option<u64>| us.map_or_else(|| NEVER.to_owned(), span);
    let (nodes, silent) = (first.nodes.len(), first.scenario.silent_name());
    for index in 0..nodes.saturating_sub(1) {
        let down = |outcome: &Outcome| after(outcome.nodes.get(index).and_then(|times| times.down_us));
        line(
            format!("fault to node{} calling it down", index.saturating_add(1)),
            &down,
        );
    }
    for index in 0..nodes {
        // What the silent node does after its waking it does by its own, costly experience.
        let left = |outcome: &Outcome| {
            let is_silent = index.saturating_add(1) == nodes;
            let times = if is_silent {
                &outcome.nodes_before
            } else {
                &outcome.nodes
            };
            after(times.get(index).and_then(|times| times.left_us))
        };
        line(format!("fault to node{} leaving it", index.saturating_add(1)), &left);
    }
    line(format!("first down to {silent} leaving it"), &|outcome| {
        after(outcome.told_after_us())
    });
    line(format!("of {silent}'s 100 waking queries, to it"), &|outcome| {
        outcome.waking_to_victim.to_string()
    });
    line(
        "healed to all using it again".to_owned(),
        &|outcome| match (outcome.scenario.sees_return, outcome.returned) {
            (false, _) => "-".to_owned(),
            (true, returned) => after(returned.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX))),
        },
    );
    line("this machine's longest stall".to_owned(), &|outcome| {
        span(u64::try_from(outcome.stall.as_micros()).unwrap_or(u64::MAX))
    });
    render(&lines)
}

fn heading(outcome: &Outcome) -> &'static str {
    if outcome.scenario.has_mesh {
        "with the mesh"
    } else {
        "each for itself"
    }
}

impl Outcome {
    /// What to call the provider: runs may have had different ones.
    fn victim_word(&self, outcomes: &[Self]) -> &'static str {
        let is_same = outcomes.iter().all(|other| other.victim == self.victim);
        if is_same { self.victim } else { "the busiest provider" }
    }
}

/// Names to the left, cells to the right.
fn render(lines: &[(String, Vec<String>)]) -> String {
    let width = |cells: &mut dyn Iterator<Item = &String>| cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
    let name_width = width(&mut lines.iter().map(|(name, _)| name));
    let cell_width = width(&mut lines.iter().flat_map(|(_, cells)| cells));
    let mut text = String::new();
    for (name, cells) in lines {
        let mut line = format!("{name:name_width$}");
        for cell in cells {
            line.push_str(&format!("   {cell:>cell_width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What it comes to.
fn closing(outcomes: &[Outcome]) -> String {
    let mesh = outcomes.iter().find(|outcome| outcome.scenario.has_mesh);
    let alone = outcomes.iter().find(|outcome| !outcome.scenario.has_mesh);
    let Some(first) = mesh.or(alone) else {
        return String::new();
    };
    let (silent, victim) = (first.scenario.silent_name(), first.victim);
    let without = alone.map(|alone| alone.waking_to_victim);
    if !first.scenario.fault.is_handled() {
        return "Not handled yet: answers that are wrong but well-formed are counted above, and no node leaves a \
                provider because of them."
            .to_owned();
    }
    let lead = "Every client got its answer.";
    let Some(mesh) = mesh else {
        let count = first.waking_to_victim;
        return format!(
            "{lead} But {silent} had to find out by itself: {count} of its 100 queries went to {victim}. With the mesh \
             (`detour demo`) none does."
        );
    };
    let told = mesh.told_after_us();
    let told = told.map_or_else(String::new, |us| format!(" {} after the first node was sure", span(us)));
    let compared = without.map_or_else(String::new, |count| format!("; without the mesh it sent {count}"));
    format!("{lead} {silent}, which was not asking, left {victim}{told} and sent it none of its 100 queries{compared}.")
}

#[cfg(test)]
mod tests {
    use super::super::fault::DemoFault;
    use super::super::outcome::tests::outcome;
    use super::*;
    use expect_test::expect;

    #[test]
    fn both_runs_stand_beside_each_other() {
        let outcomes = [
            outcome(DemoFault::Blackhole, true),
            outcome(DemoFault::Blackhole, false),
        ];
        let text = text(&outcomes);
        expect![[r#"

            birch failed (blackhole)                 with the mesh   each for itself
            names asked                                       1630              1630
              answered rightly                                1630              1630
              lost                                               0                 0
              wrong                                              0                 0
              in error                                           0                 0
              answered, but over 250 ms late                     0                 0
            fault to node1 calling it down                  1.04 s            1.04 s
            fault to node2 calling it down                  1.19 s            1.19 s
            fault to node1 leaving it                       310 ms            310 ms
            fault to node2 leaving it                       330 ms            330 ms
            fault to node3 leaving it                       1.07 s             never
            first down to node3 leaving it                   31 ms             never
            of node3's 100 waking queries, to it                 0                34
            healed to all using it again                    2.30 s                 -
            this machine's longest stall                      3 ms              3 ms

            Every client got its answer. node3, which was not asking, left birch 31 ms after
            the first node was sure and sent it none of its 100 queries; without the mesh it
            sent 34.
            Next: `detour demo --fault servfail`, or `detour run` for the real thing.
        "#]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn what_failed_is_told_to_people_and_programs() {
        let mut bad = outcome(DemoFault::Blackhole, true);
        bad.account.lost = 2;
        let outcomes = [bad];
        assert!(text(&outcomes).contains("FAILED: with the mesh: 2 queries were lost\n"));
        let json = json(&outcomes);
        assert_eq!(
            (&json["ok"], &json["runs"][0]["queries"]["lost"]),
            (&json!(false), &json!(2))
        );
        let lies = [outcome(DemoFault::Lie, true)];
        assert!(text(&lies).contains("Not handled yet"));
    }
}
