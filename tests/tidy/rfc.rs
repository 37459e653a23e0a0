//! Every test that docs/rfc.md names exists, every row but the deviations names one, and every file it names is there.

use std::collections::BTreeSet;

use super::{assert_none, files_below, members, read, root};

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all test functions.
fn tests() -> BTreeSet<String> {
    let folders = members().into_iter().chain(["tests".to_owned()]);
    let files = folders.flat_map(|folder| files_below(&folder, ".rs"));
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for (_, after) in text
            .split("#[test]")
            .skip(1)
            .chain(text.split("#[tokio::test").skip(1))
            .map(|after| ((), after))
        {
            let name = after.split("fn ").nth(1).and_then(|from| from.split(['(', '<']).next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

/// Whether the word is the name of a test: they are sentences.
fn is_sentence(word: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.matches('_').count() >= 2 && word.chars().all(is_letter)
}

/// Whether a place such as `wire/name.rs` or `node/telemetry.rs` is a file of the code.
fn is_there(place: &str) -> bool {
    let (folder, rest) = place.split_once('/').unwrap_or(("", place));
    let of_crate = root().join(folder).join("src").join(rest);
    root().join("resolver/src").join(place).is_file() || of_crate.is_file()
}

#[test]
fn what_the_rfc_page_names_exists() {
    let page = read("docs/rfc.md");
    let tests = tests();
    let mut objections = Vec::new();
    let mut rows = 0;
    let (table, deviations) = page.split_once("## Deviations").unwrap();
    for word in quoted(&page).filter(|word| is_sentence(word)) {
        if !tests.contains(word) {
            objections.push(format!("no test is called {word}"));
        }
    }
    for row in table
        .lines()
        .filter(|line| line.contains("| M |") || line.contains("| S |"))
    {
        rows += 1;
        let cells: Vec<_> = row.split(" | ").collect();
        let (Some(place), Some(shown)) = (cells.get(3), cells.get(4)) else {
            objections.push(format!("not five cells: {row}"));
            continue;
        };
        if !quoted(shown).any(is_sentence) {
            objections.push(format!("no test: {row}"));
        }
        let places = quoted(place).filter(|place| place.ends_with(".rs"));
        objections.extend(
            places
                .filter(|place| !is_there(place))
                .map(|place| format!("no file {place}")),
        );
    }
    // Where a row says that there is a deviation, there is one of that name.
    for name in table
        .split("see [")
        .skip(1)
        .filter_map(|after| after.split_once("](#deviations)"))
    {
        if !deviations.contains(&format!("\n| {} |", name.0)) {
            objections.push(format!("no deviation is called {}", name.0));
        }
    }
    assert!(rows > 50, "{rows} rows: the page was not understood");
    assert_none("docs/rfc.md names what is there", &objections);
}
