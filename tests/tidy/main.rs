//! The house rules that reading the source can hold: plain std, no tool to install, one test per rule.
//!
//! A rule that fails names every place at once. Limits are ratchets: they go down when the code allows it, and up only
//! with a reason in the commit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where its assumptions do")]

mod manifests;
mod metrics;
mod rfc;
mod scripts;
mod source;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The workspace's members: folders of the root.
fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let list = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .unwrap();
    let names: Vec<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(names.iter().any(|name| name == "core"), "{names:?}");
    names
}

/// The files below a folder of the root whose names end so, in order.
fn files_below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Fails with one line per objection.
fn assert_none(rule: &str, objections: &[String]) {
    assert!(objections.is_empty(), "{rule}:\n{}", objections.join("\n"));
}
