//! What is seen while the demo runs. On a terminal: a table that is drawn again in its place, under the story so far.
//! Elsewhere: the story, and a line for each change. With `--json`: nothing.

use std::io::{self, IsTerminal as _, Write as _};

use detour_rig::events::What;

use super::watch::{Row, Seen};

/// Columns of a terminal that nobody made wider.
pub(super) const WIDTH: usize = 80;
/// Rows that fit on a terminal of 24 lines beside the story.
const ROWS_MAX: usize = 18;
/// Headings and widths of the table; the last column takes what is left.
const COLUMNS: [(&str, usize); 6] = [
    ("NODE", 6),
    ("PROVIDER", 8),
    ("STATE", 9),
    ("PLACE", 6),
    ("SHARE", 6),
    ("VERDICT", 12),
];
const LAST_HEADING: &str = "WHY";

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Terminal { has_colour: bool },
    Lines,
    Silent,
}

/// Where it is shown.
#[derive(Debug)]
pub(super) struct Screen {
    manner: Manner,
    /// Lines of the table on the terminal, below which the cursor stands.
    drawn: usize,
    /// The table as it was drawn last.
    last: Vec<String>,
}

impl Screen {
    /// As standard output is, for so many rows.
    pub(super) fn new(is_silent: bool, rows: usize) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let manner = if is_silent {
            Manner::Silent
        } else if io::stdout().is_terminal() && !is_dumb && rows <= ROWS_MAX {
            Manner::Terminal {
                has_colour: !is_set("NO_COLOR"),
            }
        } else {
            Manner::Lines
        };
        Self {
            manner,
            drawn: 0,
            last: Vec::new(),
        }
    }

    /// Says something that stays.
    pub(super) fn say(&mut self, line: &str) {
        match self.manner {
            Manner::Silent => {}
            Manner::Lines => write(&format!("{line}\n")),
            Manner::Terminal { .. } => {
                let table = std::mem::take(&mut self.last);
                let text = format!("{}{line}\x1b[K\n", self.back());
                write(&text);
                self.draw(table);
            }
        }
    }

    /// Shows how things stand; `clock` is the time of the run.
    pub(super) fn table(&mut self, clock: &str, rows: &[Row]) {
        let Manner::Terminal { has_colour } = self.manner else {
            return;
        };
        let mut lines = vec![String::new(), heading(clock)];
        let mut last_node = "";
        for row in rows {
            if row.node != last_node && !last_node.is_empty() && rows.len() < ROWS_MAX {
                lines.push(String::new());
            }
            let is_first = row.node != last_node;
            last_node = &row.node;
            lines.push(row_text(row, is_first, has_colour));
        }
        if lines != self.last {
            write(&self.back());
            self.draw(lines);
        }
    }

    /// A line for an event, where there is no table.
    pub(super) fn event(&mut self, clock: &str, node: &str, provider: &str, seen: &Seen) {
        if self.manner == Manner::Lines {
            let what = match &seen.event.what {
                What::State { from, to, cause } => format!("state {from} -> {to} ({cause})"),
                What::Place { place, why, .. } => format!("place {place} ({why})"),
            };
            write(&format!("{clock}  {node}  {provider}  {what}\n"));
        }
    }

    /// Leaves the table as it is; what is said next comes below it.
    pub(super) fn settle(&mut self) {
        self.drawn = 0;
        self.last.clear();
    }

    /// To the beginning of the table.
    fn back(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            // The rest of the screen goes too: the next table may be shorter.
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn draw(&mut self, lines: Vec<String>) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        write(&text);
        self.drawn = lines.len();
        self.last = lines;
    }
}

/// A text in lines of so many columns; a longer word has its own.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A reader that went away is no reason to stop: the verdict is in the exit code.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn heading(clock: &str) -> String {
    let mut line = String::new();
    for (title, width) in COLUMNS {
        line.push_str(&format!("{title:width$}  "));
    }
    line.push_str(LAST_HEADING);
    let used = line.chars().count();
    let width = WIDTH.saturating_sub(used);
    format!("{line}{clock:>width$}")
}

fn row_text(row: &Row, is_first: bool, has_colour: bool) -> String {
    let share = format!("{} %", row.share_permille.saturating_add(5) / 10);
    let node = if is_first { row.node.as_str() } else { "" };
    let cells = [node, &row.provider, &row.state, &row.place, &share, &row.verdict];
    let mut line = String::new();
    let mut used = 0_usize;
    for (cell, (title, width)) in cells.iter().zip(COLUMNS) {
        let cell = match title {
            "SHARE" => format!("{cell:>5} "),
            _ => format!("{cell:width$}"),
        };
        used = used.saturating_add(cell.chars().count()).saturating_add(2);
        line.push_str(&coloured(&cell, has_colour));
        line.push_str("  ");
    }
    line.extend(row.why.chars().take(WIDTH.saturating_sub(used)));
    line.trim_end().to_owned()
}

/// Good green, doubtful yellow, bad red; other words as they are.
fn coloured(cell: &str, has_colour: bool) -> String {
    let code = match cell.split_whitespace().next() {
        Some("up" | "normal") => 32,
        Some("suspect" | "probation" | "last") => 33,
        Some("down" | "out") => 31,
        Some(_) | None => 0,
    };
    if has_colour && code != 0 {
        format!("\x1b[{code}m{cell}\x1b[0m")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn row(node: &str, state: &str, place: &str, verdict: &str, why: &str) -> Row {
        Row {
            node: node.to_owned(),
            provider: "birch".to_owned(),
            state: state.to_owned(),
            place: place.to_owned(),
            share_permille: 333,
            verdict: verdict.to_owned(),
            why: why.to_owned(),
        }
    }

    #[test]
    fn the_table_fits_into_80_columns() {
        let rows = [
            row("node1", "probation", "normal", "none", "ramp, answering"),
            row(
                "node16",
                "suspect",
                "last",
                "down (quorum)",
                "an overlong reason that is cut where the line ends",
            ),
        ];
        let lines: Vec<String> = rows.iter().map(|row| row_text(row, true, false)).collect();
        let all = format!("{}\n{}\n", heading("12.4 s"), lines.join("\n"));
        expect![[r#"
            NODE    PROVIDER  STATE      PLACE   SHARE   VERDICT       WHY            12.4 s
            node1   birch     probation  normal   33 %   none          ramp, answering
            node16  birch     suspect    last     33 %   down (quorum)  an overlong reason t
        "#]]
        .assert_eq(&all);
        assert!(all.lines().all(|line| line.chars().count() <= WIDTH), "{all}");
    }

    #[test]
    fn colour_adds_nothing_that_is_seen_as_width() {
        let plain = row_text(&row("node1", "down", "out", "none", "timeout"), true, false);
        let coloured = row_text(&row("node1", "down", "out", "none", "timeout"), true, true);
        assert_eq!(coloured.replace("\x1b[31m", "").replace("\x1b[0m", ""), plain);
        assert!(coloured.contains("\x1b[31mdown     \x1b[0m"), "{coloured:?}");
    }
}
