//! Files of the state directory that are there whole or not at all: a temporary file, synced, then put in place, and the
//! directory synced.
//!
//! For their owner alone (0600). Root may make them in somebody else's directory (`sudo detour id`): they belong to the
//! owner of the directory then, or the node could not read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// The number of root.
const ROOT: u32 = 0;

/// Replaces `directory/name`.
///
/// # Errors
/// When the system refuses any of it; the file is the old one then.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(directory, name, bytes, |temporary, place| fs::rename(temporary, place))
}

/// Makes `directory/name`, which must not exist: of two that try at once one gets [`io::ErrorKind::AlreadyExists`].
///
/// # Errors
/// When it exists, or the system refuses any of it.
pub(crate) fn create(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // A name given by link(2) replaces nothing, unlike one given by rename(2).
    put(directory, name, bytes, |temporary, place| {
        fs::hard_link(temporary, place)?;
        fs::remove_file(temporary)
    })
}

/// The first `most` bytes of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_start(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn put(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_path(directory, name);
    let written = write_synced(directory, &temporary, bytes).and_then(|()| place(&temporary, &directory.join(name)));
    if let Err(error) = written {
        // What cannot be taken away either is taken away by the next try.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    // The name is an entry of the directory, which has its own place in the cache of writes.
    File::open(directory)?.sync_all()
}

fn temporary_path(directory: &Path, name: &str) -> PathBuf {
    // Several nodes may live in one process; each call has its own file.
    let number: u64 = rand::random();
    directory.join(format!(".{name}.{number:016x}.tmp"))
}

fn write_synced(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let owner = fs::metadata(directory)?;
    if file.metadata()?.uid() == ROOT && owner.uid() != ROOT {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_or_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        create(directory.path(), "x", b"first, the longer").unwrap();
        let again = create(directory.path(), "x", b"second").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first, the longer");
        replace(directory.path(), "x", b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
        assert!(replace(&directory.path().join("absent"), "x", b"").is_err());
    }
}
