//! Every metric that the code registers is in docs/METRICS.md, and nothing else is. Types and labels are compared by
//! the black-box tests, which see what is really shown; here is what has not occurred when they look.

use std::collections::BTreeSet;

use super::{assert_none, files_below, read, root};

/// Where metrics are registered, and nowhere else.
const FILES: [&str; 4] = [
    "mesh/src/metrics.rs",
    "resolver/src/metrics.rs",
    "node/src/metrics.rs",
    "node/src/admin/metrics.rs",
];
/// The ways to register one, each followed by the registry (perhaps) and the name.
const CALLS: [&str; 4] = ["register(", "register_with_unit(", "add(", "add_gauge("];
/// What OpenMetrics appends.
const SUFFIXES: [&str; 4] = ["_total", "_seconds", "_bytes", "_info"];

/// The names registered in a file. A name given by a variable is the one last assigned to it.
fn registered(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in CALLS {
        for (at, _) in text.match_indices(call) {
            let (before, after) = text.split_at(at);
            // A function of this name, its declaration, or the end of a longer name.
            if before.ends_with("fn ") || before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let arguments = after.trim_start_matches(call).trim_start();
            let arguments = arguments.strip_prefix("registry,").unwrap_or(arguments).trim_start();
            let (name_from, is_variable) = match arguments.strip_prefix('"') {
                Some(literal) => (Some(literal), false),
                None => (before.rsplit("let name = \"").next(), arguments.starts_with("name")),
            };
            let is_name = is_variable || arguments.starts_with('"');
            if let (Some(from), true) = (name_from, is_name) {
                names.insert(from.split('"').next().unwrap_or_default().to_owned());
            }
        }
    }
    names
}

/// The names of docs/METRICS.md without prefix, and without what OpenMetrics appends to this registered name.
fn documented() -> BTreeSet<String> {
    let page = read("docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `detour_"));
    rows.map(|row| row.split('`').next().unwrap_or_default().to_owned())
        .collect()
}

fn is_same(registered: &str, documented: &str) -> bool {
    let suffix = documented.strip_prefix(registered);
    suffix.is_some_and(|suffix| suffix.is_empty() || SUFFIXES.contains(&suffix))
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let registered: BTreeSet<_> = FILES.iter().flat_map(|file| registered(&read(file))).collect();
    let documented = documented();
    assert!(registered.len() > 20 && documented.len() > 20, "{registered:?}");
    let mut objections = Vec::new();
    for name in registered
        .iter()
        .filter(|name| !documented.iter().any(|own| is_same(name, own)))
    {
        objections.push(format!("{name} is not in docs/METRICS.md"));
    }
    for name in documented
        .iter()
        .filter(|own| !registered.iter().any(|name| is_same(name, own)))
    {
        objections.push(format!("{name} is in docs/METRICS.md only"));
    }
    assert_none("metrics", &objections);
}

#[test]
fn metrics_are_registered_in_their_files_only() {
    let others = ["resolver/src", "node/src", "core/src", "mesh/src"]
        .iter()
        .flat_map(|folder| files_below(folder, ".rs"));
    let mut objections = Vec::new();
    for path in others {
        let own = path.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        if !FILES.contains(&own.as_str()) && text.contains("registry.register") {
            objections.push(own);
        }
    }
    assert_none("files that register metrics", &objections);
}
