//! The text of a configuration, fit to be kept elsewhere: what it names relative to its directory is named from the root.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::check::against;
use super::{reader, spec};

/// The text of a valid file at `path`, with absolute paths inside; `None` where a path cannot be written as text.
#[must_use]
pub(crate) fn with_absolute_paths(text: &str, path: &Path) -> Option<String> {
    let file = std::path::absolute(path).ok()?;
    // A byte order mark belongs to the beginning of a file, which this may not be.
    let text = text.trim_start_matches('\u{feff}');
    let (document, _) = DeTable::parse_recoverable(text);
    let mut reader = reader::Reader::new(text);
    // What is wrong with it does not matter here: it was found valid.
    let _spec = spec::read(&mut reader, document.get_ref());
    let mut paths: Vec<(Range<usize>, PathBuf)> = reader.paths;
    paths.sort_by_key(|(span, _)| span.start);
    let mut copy = String::with_capacity(text.len());
    let mut copied = 0;
    for (span, relative) in paths {
        copy.push_str(text.get(copied..span.start)?);
        push_string(&mut copy, against(&file, relative).to_str()?);
        copied = span.end;
    }
    copy.push_str(text.get(copied..)?);
    Some(copy)
}

/// A basic string of TOML.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const REST: &str = "\n[[provider]]\nname = \"a\"\nendpoints = [\"udp://192.0.2.1\"]\n";

    #[test]
    fn a_copy_elsewhere_names_the_same_directory() {
        let text = format!("# \u{e9}\nversion = 1\nstate-dir = 'sta\"te' # kept{REST}");
        let path = Path::new("/etc/d\\x/detour.toml");
        let copy = with_absolute_paths(&text, path).unwrap();
        assert!(
            copy.contains("state-dir = \"/etc/d\\\\x/sta\\\"te\" # kept\n"),
            "{copy}"
        );
        let there = Config::parse(&copy, Path::new("/somewhere/else.toml")).unwrap();
        let here = Config::parse(&text, path).unwrap();
        assert_eq!(there.state_dir, here.state_dir);
        assert_eq!(there.providers, here.providers);
    }

    #[test]
    fn every_key_that_is_a_path_is_one_from_the_root() {
        let text = "version = 1\ntrust = [\"ca.pem\", '/etc/x.pem']\nstate-dir = \"s\"\n[local-zones]\nhosts = \"hosts\"\n\
                    [[provider]]\nname = \"a\"\ntrust = [\"../b.pem\"]\nendpoints = [\"udp://192.0.2.1\"]\n";
        let copy = with_absolute_paths(text, Path::new("/etc/detour/detour.toml")).unwrap();
        let wanted = text
            .replace("\"ca.pem\", '/etc/x.pem'", "\"/etc/detour/ca.pem\", \"/etc/x.pem\"")
            .replace("\"s\"", "\"/etc/detour/s\"")
            .replace("\"hosts\"", "\"/etc/detour/hosts\"")
            .replace("../b.pem", "/etc/detour/../b.pem");
        assert_eq!(copy, wanted);
    }

    #[test]
    fn what_has_no_relative_path_is_copied_as_it_is() {
        for text in [
            format!("version = 1{REST}"),
            format!("version=1\nstate-dir=\"/x\"{REST}"),
        ] {
            assert_eq!(with_absolute_paths(&text, Path::new("/etc/detour.toml")).unwrap(), text);
        }
    }
}
