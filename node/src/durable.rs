//! Files that are there whole or not at all, whatever happens to the machine while they are written.
//!
//! A temporary file in the same directory, synced, renamed, and the directory synced: a power cut leaves the old file
//! or the new one (rename(2)). For their owner alone. Blocks, so it is called off the threads that serve.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts `bytes` into `directory/name`, readable by its owner alone.
///
/// # Errors
/// When the system refuses any of it; the file is the old one then.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, directory.join(name)));
    if let Err(error) = written {
        // What cannot be taken away either is overwritten by the next try.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    // The name is an entry of the directory, which has its own place in the cache of writes.
    File::open(directory)?.sync_all()
}

/// As [`write()`], but only where nothing of that name is there.
///
/// # Errors
/// `AlreadyExists` where something is; or when the system refuses any of it.
pub(crate) fn create(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    // Unlike a rename, a link takes nobody's place.
    let created = write_synced(&temporary, bytes).and_then(|()| fs::hard_link(&temporary, directory.join(name)));
    // What cannot be taken away is overwritten by the next try.
    drop(fs::remove_file(&temporary));
    created?;
    File::open(directory)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left by a process of this number that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        for content in ["one, the longer", "two"] {
            write(directory.path(), "kept", content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_created() {
        let directory = tempfile::tempdir().unwrap();
        create(directory.path(), "kept", b"one").unwrap();
        let again = create(directory.path(), "kept", b"two").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(directory.path().join("kept")).unwrap(), "one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("taken/x")).unwrap();
        assert!(write(directory.path(), "taken", b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("absent"), "x", b"x").is_err());
    }
}
