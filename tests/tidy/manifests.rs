//! Manifests: who may depend on whom, lints for all, a reason for every dependency, one set of clippy settings.

use super::{assert_none, members, read};

/// Who may depend on which other member; who is not here may depend on nobody.
const EDGES: [(&str, &[&str]); 7] = [
    ("core", &[]),
    ("resolver", &["core"]),
    ("rig", &["core"]),
    ("mesh", &["core", "wire"]),
    ("mesh/wire", &["core"]),
    ("sim", &["core", "wire"]),
    ("node", &["core", "resolver", "mesh", "wire", "rig", "sim"]),
];

/// Who may use which other member in its tests and examples.
const TEST_EDGES: [(&str, &[&str]); 1] = [("node", &["rig"])];

/// The keys of a table of a manifest.
fn keys(manifest: &str, table: &str) -> Vec<String> {
    let header = format!("[{table}]");
    let lines = manifest.lines().skip_while(|line| *line != header).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let keys = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    keys.filter(|key| !key.is_empty() && !key.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Dependencies of a member on others that the list does not allow.
fn forbidden(member: &str, table: &str, edges: &[(&str, &[&str])]) -> Vec<String> {
    let allowed = edges
        .iter()
        .find(|(from, _)| *from == member)
        .map_or(&[][..], |(_, to)| *to);
    let keys = keys(&read(&format!("{member}/Cargo.toml")), table);
    let others = keys.iter().filter_map(|key| key.strip_prefix("detour-"));
    let others = others.filter(|other| !allowed.contains(other));
    others
        .map(|other| format!("{member} names {other} in [{table}]"))
        .collect()
}

#[test]
fn members_depend_on_each_other_as_designed() {
    let mut objections = Vec::new();
    for member in members() {
        objections.extend(forbidden(&member, "dependencies", &EDGES));
        objections.extend(forbidden(&member, "dev-dependencies", &TEST_EDGES));
    }
    assert_none("edges between crates (ARCHITECTURE.md)", &objections);
}

#[test]
fn core_depends_on_nothing() {
    assert_none("dependencies of core", &keys(&read("core/Cargo.toml"), "dependencies"));
}

#[test]
fn only_sled_stands_on_the_patched_parking_lot() {
    // Its condition variable does not wait by time: made for one crate, fit for no other.
    let lock = read("Cargo.lock");
    let packages = lock.split("[[package]]");
    let on_patched = packages.filter(|package| package.contains("\"parking_lot 0.11."));
    let names: Vec<_> = on_patched.filter_map(|package| package.split('"').nth(1)).collect();
    assert_eq!(names, ["sled"]);
}

#[test]
fn every_member_takes_the_workspaces_lints_and_versions() {
    let mut objections = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true\n") {
            objections.push(format!("{member}: no `[lints] workspace = true`"));
        }
        let own = manifest
            .lines()
            .filter(|line| line.contains("version = \"") || line.contains("path = \"../c"));
        objections.extend(own.map(|line| format!("{member}: {line}")));
    }
    assert_none("lints and versions are the workspace's", &objections);
}

#[test]
fn every_dependency_has_its_reason_above_it() {
    let manifest = read("Cargo.toml");
    let lines: Vec<_> = manifest.lines().collect();
    let start = lines
        .iter()
        .position(|line| *line == "[workspace.dependencies]")
        .unwrap();
    let mut objections = Vec::new();
    for pair in lines.iter().skip(start).collect::<Vec<_>>().windows(2) {
        let [above, line] = pair else { continue };
        if line.starts_with('[') {
            break;
        }
        let is_foreign = line.contains('=') && !line.starts_with('#') && !line.contains("path = ");
        let is_reason = above.starts_with("# ") && !above.starts_with("# ---");
        if is_foreign && !is_reason {
            objections.push((**line).to_owned());
        }
    }
    assert_none("dependencies of Cargo.toml without a comment line above", &objections);
}

#[test]
fn core_keeps_every_rule_of_the_root_clippy_file() {
    // Clippy takes the nearest file and merges nothing.
    let core = read("core/clippy.toml");
    let root = read("clippy.toml");
    let missing = root.lines().filter(|line| !core.lines().any(|own| own == *line));
    let missing: Vec<_> = missing.map(str::to_owned).collect();
    assert_none("lines of clippy.toml that core/clippy.toml lacks", &missing);
    for member in members().iter().filter(|member| *member != "core") {
        let own = super::root().join(member).join("clippy.toml");
        assert!(!own.exists(), "{} would replace the root's", own.display());
    }
}
