//! Which start of this node this is, in a file of its own: each start takes a higher number than any before.
//!
//! Not in the store, which may be thrown away: a node that forgot its incarnation would publish what its peers take for
//! old. A file that is lost or makes no sense counts as 0; the wall clock, and peers that return the newest snapshot
//! they hold, lead above what was.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::files;

/// In the state directory.
pub(crate) const INCARNATION_FILE: &str = "incarnation";
/// A decimal number of at most 48 bits and a line break are shorter.
const BYTES_MAX: u64 = 32;
/// Incarnations have 48 bits on the wire.
const MAX: u64 = (1 << 48) - 1;

/// Why the incarnation is taken for 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncarnationError {
    /// The system says no.
    #[error("cannot read the file `{INCARNATION_FILE}`")]
    Unreadable(#[source] io::Error),
    /// There is no number in it.
    #[error("the file `{INCARNATION_FILE}` holds no incarnation")]
    Malformed,
}

/// The incarnation kept in `directory`; 0 if none was.
///
/// # Errors
/// When the file cannot be read or makes no sense; it counts as 0.
pub(crate) fn load(directory: &Path) -> Result<u64, IncarnationError> {
    let file = match File::open(directory.join(INCARNATION_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(IncarnationError::Unreadable(error)),
    };
    let bytes = files::read_start(file, BYTES_MAX).map_err(IncarnationError::Unreadable)?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_suffix('\n'));
    let number = text.and_then(|text| text.parse().ok());
    number
        .filter(|number| *number <= MAX)
        .ok_or(IncarnationError::Malformed)
}

/// Keeps `incarnation` in `directory`, safe against a power cut. Blocks.
///
/// # Errors
/// When the system refuses it; the one kept before stays.
pub(crate) fn store(directory: &Path, incarnation: u64) -> io::Result<()> {
    files::replace(directory, INCARNATION_FILE, format!("{incarnation}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_incarnation_is_kept_and_nonsense_is_said() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()).unwrap(), 0);
        for number in [1, 7, MAX] {
            store(directory.path(), number).unwrap();
            assert_eq!(load(directory.path()).unwrap(), number);
        }
        let path = directory.path().join(INCARNATION_FILE);
        // The second is a number cut short by a power cut: it would be too low.
        for garbage in ["", "17", "-1\n", "281474976710656\n", "x\n", "\u{0}\u{0}\n"] {
            fs::write(&path, garbage).unwrap();
            assert!(
                matches!(load(directory.path()), Err(IncarnationError::Malformed)),
                "{garbage:?}"
            );
        }
        fs::write(&path, [0xff; 5_000]).unwrap();
        assert!(load(directory.path()).is_err());
        assert!(store(&directory.path().join("absent"), 1).is_err());
    }
}
