//! Bytes as files: hex digits, and behind a `#` what they are.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of this crate.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file, from this crate's folder.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The bytes of a file of the corpus, or whatever it is.
pub(crate) fn raw(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder, in order; there is at least one.
pub(crate) fn below(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder}");
    paths
}

/// The bytes of a file of hex digits.
pub(crate) fn hex(path: &str) -> Vec<u8> {
    let text = text(path);
    let digits = text.lines().filter_map(|line| line.split('#').next());
    bytes(&digits.collect::<String>())
}

/// The bytes that these hex digits are.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    let nibbles = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap());
    let nibbles: Vec<_> = nibbles.collect();
    let (pairs, odd) = nibbles.as_chunks();
    assert!(odd.is_empty(), "{digits}");
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high * 16 + low).unwrap())
        .collect()
}
