//! Scripts can be run as they are, and stop at the first thing that goes wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{assert_none, files_below};

#[test]
fn scripts_can_be_run_and_stop_at_the_first_failure() {
    let scripts = files_below("scripts", "");
    assert!(!scripts.is_empty());
    let mut objections = Vec::new();
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let first = text
            .lines()
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .unwrap_or_default();
        let is_executable = fs::metadata(&path).unwrap().permissions().mode() & 0o111 == 0o111;
        for (holds, rule) in [
            (text.starts_with("#!/"), "no interpreter"),
            (first.starts_with("set -e"), "does not begin with `set -e`"),
            (is_executable, "not executable"),
        ] {
            if !holds {
                objections.push(format!("{}: {rule}", path.display()));
            }
        }
    }
    assert_none("scripts", &objections);
}
