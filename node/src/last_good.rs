//! The copy of the last configuration that served for a minute: what a node starts from when its file is broken or
//! lost, so that a typing error and a reboot do not take an office offline.
//!
//! `<state-dir>/last-good.toml`: a head of four comment lines (what it is, whose copy it is, who wrote it, a sum over
//! the rest) and then the file's text with absolute paths inside. It stands in for the file it was copied from and
//! for no other. A copy whose sum is wrong is damaged: half a configuration may be valid and mean something else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, LoadError};
use crate::durable;

/// In the state directory.
pub(crate) const FILE: &str = "last-good.toml";

/// The first line; another number will be another form.
const FIRST_LINE: &str = "# detour last-good 1: the last configuration that served for a minute. Do not edit.";
/// How the first line of any form begins.
const FIRST_WORDS: &str = "# detour last-good ";

/// Why a node cannot start from its copy. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// There is none: the usual case of a first start.
    #[error("there is no {}", copy.display())]
    Absent {
        /// Where it would be.
        copy: PathBuf,
    },
    /// The disk's mistake, or somebody's who changed its permissions.
    #[error("cannot read {}", copy.display())]
    Read {
        /// Which.
        copy: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk's mistake, or somebody's who edited it.
    #[error("cannot start from {}: it is damaged", copy.display())]
    Damaged {
        /// Which.
        copy: PathBuf,
    },
    /// Written by a version that does it otherwise.
    #[error("cannot start from {}: another version of detour wrote it", copy.display())]
    OtherForm {
        /// Which.
        copy: PathBuf,
    },
    /// It stands in for another file: the usual case of two nodes with one state directory, or of a file that moved.
    #[error("cannot start from {}: it is a copy of {}", copy.display(), of.display())]
    OtherFile {
        /// Which.
        copy: PathBuf,
        /// Whose copy it is.
        of: PathBuf,
    },
    /// It means nothing to this version.
    #[error("cannot start from {}, which detour {by} wrote", copy.display())]
    Invalid {
        /// Which.
        copy: PathBuf,
        /// The version that wrote it.
        by: String,
        /// The mistakes in it.
        #[source]
        source: LoadError,
    },
}

/// A copy, as it lies on the disk.
#[derive(Debug, PartialEq, Eq)]
struct Copy<'t> {
    /// The absolute path of the file it stands in for.
    of: PathBuf,
    /// The version that wrote it.
    by: String,
    /// The file's text.
    body: &'t str,
}

/// Reads the copy in `directory` that stands in for `source`, an absolute path.
///
/// # Errors
/// When there is none for this file, or none that can be used.
pub(crate) fn load(directory: &Path, source: &Path) -> Result<Config, CopyError> {
    let copy = directory.join(FILE);
    let bytes = match config::read_bytes(&copy) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CopyError::Absent { copy }),
        Err(source) => return Err(CopyError::Read { copy, source }),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(CopyError::Damaged { copy });
    };
    if !text.starts_with(FIRST_LINE) && text.starts_with(FIRST_WORDS) {
        return Err(CopyError::OtherForm { copy });
    }
    let Some(Copy { of, by, body: _ }) = read(&text) else {
        return Err(CopyError::Damaged { copy });
    };
    if of != source {
        return Err(CopyError::OtherFile { copy, of });
    }
    // The head is comments, so that lines in messages are those of the copy.
    match Config::parse(&text, &copy) {
        Ok(config) => Ok(Config {
            source: config::Source::File(source.to_owned()),
            ..config
        }),
        Err(source) => Err(CopyError::Invalid { copy, by, source }),
    }
}

/// Keeps the text of a valid file at `source`, an absolute path. Writes nothing where that is what is there, nor for
/// what is no file: the next pipe of that name will carry something else.
///
/// # Errors
/// When it cannot be written, or a path in it or the file's own is no text.
pub(crate) fn keep(directory: &Path, source: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(source).is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(());
    }
    let no_text = || io::Error::new(io::ErrorKind::InvalidData, "a path that is not UTF-8 text");
    let body = config::with_absolute_paths(text, source).ok_or_else(no_text)?;
    let copy = write(source.to_str().ok_or_else(no_text)?, env!("CARGO_PKG_VERSION"), &body);
    let is_there = config::read_bytes(&directory.join(FILE)).is_ok_and(|bytes| bytes == copy.as_bytes());
    if is_there {
        return Ok(());
    }
    durable::write(directory, FILE, copy.as_bytes())
}

/// A copy as it is written.
fn write(of: &str, by: &str, body: &str) -> String {
    let mut text = format!("{FIRST_LINE}\n# of = ");
    config::push_string(&mut text, of);
    text.push_str("\n# by = ");
    config::push_string(&mut text, by);
    text.push_str(&format!("\n# sum = \"{:016x}\"\n", sum([of, by, body])));
    text.push_str(body);
    text
}

/// Takes a copy apart; `None` if it is not as it was written.
fn read(text: &str) -> Option<Copy<'_>> {
    let rest = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
    let (of, rest) = value(rest, "of")?;
    let (by, rest) = value(rest, "by")?;
    let (told, body) = value(rest, "sum")?;
    (told == format!("{:016x}", sum([&of, &by, body]))).then_some(Copy {
        of: of.into(),
        by,
        body,
    })
}

/// The value of a line of the head, and what follows the line.
fn value<'t>(text: &'t str, key: &str) -> Option<(String, &'t str)> {
    let (line, rest) = text.split_once('\n')?;
    let table: toml::Table = line.strip_prefix("# ")?.parse().ok()?;
    Some((table.get(key)?.as_str()?.to_owned(), rest))
}

/// FNV-1a over all, with a byte behind each that no path and no version has: against disks, not against people.
fn sum(parts: [&str; 3]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const TEXT: &str =
        "version = 1\nstate-dir = \"state\"\n[[provider]]\nname = \"a\"\nendpoints = [\"udp://192.0.2.1\"]\n";

    fn kept() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let source = PathBuf::from("/etc/de\"tour\\x/detour.toml");
        keep(directory.path(), &source, TEXT).unwrap();
        let copy = directory.path().join(FILE);
        (directory, source, copy)
    }

    #[test]
    fn a_copy_stands_in_for_its_file_and_for_no_other() {
        let (directory, source, copy) = kept();
        let config = load(directory.path(), &source).unwrap();
        assert_eq!(config, Config::parse(TEXT, &source).unwrap());
        assert_eq!(config.state_dir, Some("/etc/de\"tour\\x/state".into()));
        let other = load(directory.path(), Path::new("/etc/other.toml")).unwrap_err();
        assert!(
            matches!(&other, CopyError::OtherFile { of, .. } if *of == source),
            "{other}"
        );
        let before = fs::metadata(&copy).unwrap();
        keep(directory.path(), &source, TEXT).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().ino(), before.ino(), "written twice");
        assert_eq!(before.mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_file_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        keep(directory.path(), Path::new("/dev/null"), TEXT).unwrap();
        assert!(matches!(
            load(directory.path(), Path::new("/dev/null")),
            Err(CopyError::Absent { .. })
        ));
    }

    #[test]
    fn whatever_is_damaged_is_not_started_from() {
        let (directory, source, copy) = kept();
        let good = fs::read(&copy).unwrap();
        for end in 0..good.len() {
            fs::write(&copy, &good[..end]).unwrap();
            assert!(load(directory.path(), &source).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&copy, &bad).unwrap();
            assert!(load(directory.path(), &source).is_err(), "flipped at {at}");
        }
        fs::write(&copy, vec![b'#'; 2 * 1024 * 1024]).unwrap();
        assert!(load(directory.path(), &source).is_err());
        fs::remove_file(&copy).unwrap();
        assert!(matches!(load(directory.path(), &source), Err(CopyError::Absent { .. })));
        fs::create_dir(&copy).unwrap();
        assert!(matches!(load(directory.path(), &source), Err(CopyError::Read { .. })));
    }

    #[test]
    fn a_copy_of_a_later_version_says_so() {
        let (directory, source, copy) = kept();
        let later = write(source.to_str().unwrap(), "9.9.9", &format!("mesh = 1\n{TEXT}"));
        fs::write(&copy, later).unwrap();
        let error = load(directory.path(), &source).unwrap_err();
        assert!(error.to_string().contains("which detour 9.9.9 wrote"), "{error}");
        fs::write(&copy, "# detour last-good 2: whatever\n").unwrap();
        assert!(matches!(
            load(directory.path(), &source),
            Err(CopyError::OtherForm { .. })
        ));
        // What it means to this version is what counts, not who wrote it.
        fs::write(&copy, write(source.to_str().unwrap(), "9.9.9", TEXT)).unwrap();
        assert!(load(directory.path(), &source).is_ok());
    }
}
