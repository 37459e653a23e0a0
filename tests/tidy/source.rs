//! Source files: how long, how they open, and what stands in none of them, or in few.
//!
//! Comments and string literals are not code; what is looked for here is looked for in what remains.

use std::fs;
use std::path::Path;

use super::{assert_none, files_below, members, root};

/// Lines of a file without its tests.
const LINES_MAX: usize = 800;
/// Lines of a file that is all tests; tables are long.
const TEST_LINES_MAX: usize = 1_000;
/// Places in src trees, tests apart, that may panic and say why they do not: `path: lint`. Only ever fewer.
const EXPECTED_PANICS: [&str; 0] = [];

/// The files that may read a clock.
const CLOCKS: [&str; 2] = ["node/src/clock.rs", "rig/src/clock.rs"];
/// The file that may spawn a task that nobody joins.
const TASKS: [&str; 1] = ["resolver/src/tasks.rs"];

/// A source file.
pub(crate) struct Source {
    /// From the root.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text without comments and string literals, line by line, up to its tests; empty for a file of tests.
    pub(crate) code: Vec<String>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root()).unwrap().display().to_string();
        let code = if is_test_file(&path) {
            Vec::new()
        } else {
            let count = line_count_without_tests(&text);
            blank(&text).lines().take(count).map(str::to_owned).collect()
        };
        Self { path, text, code }
    }

    /// Where the code contains one of these.
    pub(crate) fn places(&self, words: &[&str]) -> Vec<String> {
        let mut places = Vec::new();
        for (number, line) in (1..).zip(&self.code) {
            for word in words.iter().filter(|word| has_word(line, word)) {
                places.push(format!("{}:{number}: {word}", self.path));
            }
        }
        places
    }
}

/// All Rust files of the members and of `tests`.
pub(crate) fn all() -> Vec<Source> {
    let folders = members().into_iter().chain(["tests".to_owned()]);
    let files = folders.flat_map(|folder| files_below(&folder, ".rs"));
    files.map(|path| Source::read(&path)).collect()
}

/// Those of a member's src tree.
fn of_src(member: &str) -> Vec<Source> {
    let files = files_below(&format!("{member}/src"), ".rs");
    assert!(!files.is_empty(), "{member}");
    files.iter().map(|path| Source::read(path)).collect()
}

fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// Lines up to the module of tests at the end of a file; the line that names a file of tests does not count either.
fn line_count_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let is_cfg_test = |line: &&&str| **line == "#[cfg(test)]";
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, [attribute, module] if is_cfg_test(&attribute) && module.starts_with("mod ") && module.ends_with('{'))
    });
    let count = tests.unwrap_or(lines.len());
    count - 2 * lines.iter().take(count).filter(is_cfg_test).count()
}

/// Whether `word` stands in `line` and is not the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

/// What the scanner is in.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Code,
    Comment,
    Text,
    RawText(usize),
}

/// The text with comments and string literals made blank; line breaks stay where they are. Quotes as characters
/// (`'"'`) are seen as such; block comments are not used here.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = Within::Code;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        let mut shown = next;
        match within {
            Within::Code => {
                let raw = rest
                    .strip_prefix('r')
                    .map(|raw| raw.len() - raw.trim_start_matches('#').len());
                let raw = raw.filter(|hashes| rest.get(hashes + 1..).is_some_and(|quote| quote.starts_with('"')));
                if rest.starts_with("//") {
                    within = Within::Comment;
                    shown = ' ';
                } else if let Some(hashes) = raw.filter(|_| !out.ends_with(|c: char| c.is_alphanumeric())) {
                    within = Within::RawText(hashes);
                    taken = hashes + 2;
                } else if next == '"' {
                    within = Within::Text;
                } else if let Some(quote) = ["'\"'", "'\\\"'"].iter().find(|quote| rest.starts_with(**quote)) {
                    taken = quote.len();
                }
            }
            Within::Comment => {
                if next == '\n' {
                    within = Within::Code;
                } else {
                    shown = ' ';
                }
            }
            Within::Text => {
                if next == '\\' {
                    taken += rest
                        .chars()
                        .nth(1)
                        .filter(|escaped| *escaped != '\n')
                        .map_or(0, char::len_utf8);
                } else if next == '"' {
                    within = Within::Code;
                }
                shown = if next == '\n' { '\n' } else { ' ' };
            }
            Within::RawText(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                if rest.starts_with(&end) {
                    within = Within::Code;
                    taken = end.len();
                }
                shown = if next == '\n' { '\n' } else { ' ' };
            }
        }
        out.push(shown);
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

#[test]
fn the_scanner_tells_code_from_the_rest() {
    let text =
        "let a = \"x \\\" // y\"; // z\nlet b = r#\"q\" w\"#; let c = '\"'; d();\n#[cfg(test)]\nmod tests {\n}\n";
    let blanked = blank(text);
    for gone in ["x", "y", "z", "q", "w"] {
        assert!(!blanked.contains(gone), "{gone}: {blanked}");
    }
    assert!(
        blanked.contains("d();") && blanked.lines().count() == text.lines().count(),
        "{blanked}"
    );
    assert_eq!(line_count_without_tests(text), 2);
    assert!(has_word("a = Instant::now()", "Instant::now") && !has_word("MyInstant::now()", "Instant::now"));
}

#[test]
fn files_are_short() {
    let mut objections = Vec::new();
    for Source { path, text, .. } in all() {
        let (count, limit) = if is_test_file(&path) {
            (text.lines().count(), TEST_LINES_MAX)
        } else {
            (line_count_without_tests(&text), LINES_MAX)
        };
        if count > limit {
            objections.push(format!("{path}: {count} lines, at most {limit}"));
        }
    }
    assert_none("split by decision", &objections);
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = all().into_iter().filter(|source| !source.text.starts_with("//!"));
    let silent: Vec<_> = silent.map(|source| source.path).collect();
    assert_none("files that do not open with `//!`", &silent);
}

#[test]
fn clocks_and_tasks_stay_in_their_files() {
    let mut objections = Vec::new();
    for source in all() {
        if !CLOCKS.contains(&source.path.as_str()) {
            objections.extend(source.places(&["Instant::now", "SystemTime::now", "clock_gettime"]));
        }
        if !TASKS.contains(&source.path.as_str()) {
            objections.extend(source.places(&["tokio::spawn", "task::spawn", "spawn_blocking"]));
        }
        objections.extend(source.places(&["unbounded_channel", "UnboundedSender", "thread::sleep"]));
    }
    assert_none("clocks, detached tasks and queues without end", &objections);
}

#[test]
fn core_has_no_clock_no_chance_and_no_sockets() {
    let words = [
        "std::time",
        "HashMap",
        "HashSet",
        "RandomState",
        "tokio",
        "rand::",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "std::fs",
        "std::env",
        "std::thread",
        "Mutex",
        "f32",
        "f64",
        "println",
    ];
    let objections: Vec<_> = of_src("core").iter().flat_map(|source| source.places(&words)).collect();
    assert_none("core decides and does nothing else", &objections);
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, or this file would object to itself.
    let in_text = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let in_code = [concat!("todo", "!"), concat!("unimplemented", "!"), concat!("dbg", "!")];
    let in_tests = [
        concat!("#[", "ignore"),
        concat!("#[", "should_panic"),
        concat!("fn ", "test_"),
    ];
    let mut objections = Vec::new();
    for source in all() {
        for (number, line) in (1..).zip(source.text.lines()) {
            let words = in_text.iter().chain(&in_code).chain(&in_tests);
            let found = words.filter(|word| has_word(line, word));
            objections.extend(found.map(|word| format!("{}:{number}: {word}", source.path)));
        }
    }
    assert_none("an issue is the place for what is not done", &objections);
}

#[test]
fn places_that_may_panic_do_not_become_more() {
    let lints = [
        "clippy::unwrap_used",
        "clippy::expect_used",
        "clippy::panic",
        "clippy::unreachable",
        "clippy::indexing_slicing",
        "clippy::string_slice",
        "clippy::get_unwrap",
        "clippy::arithmetic_side_effects",
    ];
    let mut places = Vec::new();
    for source in members().iter().flat_map(|member| of_src(member)) {
        let code = source.code.join(" ");
        for attribute in code.split("[expect(").skip(1) {
            let list = attribute.split(']').next().unwrap_or_default();
            let found = lints.iter().filter(|lint| list.contains(**lint));
            places.extend(found.map(|lint| format!("{}: {lint}", source.path)));
        }
    }
    assert_eq!(places, EXPECTED_PANICS, "places that may panic, and those on record");
}
