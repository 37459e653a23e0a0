//! One word per thing: the glossary of ARCHITECTURE.md, as far as a word that is never used can be looked for.

use super::{assert_none, members};
use crate::source::{Source, all};

/// What the glossary never calls a provider or an endpoint.
const NEVER: [&str; 4] = ["upstream", "nameserver", "name_server", "vendor"];

#[test]
fn no_name_in_the_code_is_one_the_glossary_rules_out() {
    let members = members();
    let is_src = |source: &Source| {
        members
            .iter()
            .any(|member| source.path.starts_with(&format!("{member}/src/")))
    };
    let mut objections = Vec::new();
    for source in all().into_iter().filter(is_src) {
        for (number, line) in (1..).zip(&source.code) {
            // Hickory calls them so.
            let line = line.to_lowercase().replace("nameserverconfig", "");
            let found = NEVER.iter().filter(|word| line.contains(**word));
            objections.extend(found.map(|word| format!("{}:{number}: {word}", source.path)));
        }
    }
    assert_none("words the glossary does not have", &objections);
}
