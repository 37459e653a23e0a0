//! Where the store lies, who has it, and what becomes of one that is damaged.
//!
//! In the state directory: `store/` is sled's, `store.lock` says that a process has it, `store.opening` counts the
//! attempts at opening it that did not come to an end, `store.corrupt-N` are damaged ones, two at most. Nothing is
//! followed out of the directory: a symbolic link in the place of one of these is refused.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::StoreError;

/// sled's directory.
const STORE: &str = "store";
/// Held while a process has the store.
const LOCK: &str = "store.lock";
/// How often opening was begun and not ended.
const OPENING: &str = "store.opening";
/// What a damaged store is called, before its number.
const CORRUPT: &str = "store.corrupt-";
/// Damaged stores that are kept, for whoever wants to look at one. Each is a few mebibytes.
const CORRUPT_MAX: usize = 2;
/// Processes that may die while opening a store before it is given up: sled could take the process with it (by memory
/// that a broken length asks for), and a node that does not start is the worst a store can do.
const DEATHS_MAX: u8 = 3;

/// The store's place, with nobody else in it as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    state: PathBuf,
    /// Unlocked when it is closed.
    _lock: File,
}

impl Place {
    /// Takes it.
    pub(super) fn take(state: &Path) -> Result<Self, StoreError> {
        let lock = open_own(&state.join(LOCK)).map_err(StoreError::Io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                state: state.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
            Err(TryLockError::Error(error)) => Err(StoreError::Io(error)),
        }
    }

    /// The store's directory, made if there is none.
    pub(super) fn directory(&self) -> Result<PathBuf, StoreError> {
        let directory = self.state.join(STORE);
        match fs::symlink_metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(directory),
            Ok(_) => Err(StoreError::Io(io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .mode(0o700)
                    .create(&directory)
                    .map_err(StoreError::Io)?;
                Ok(directory)
            }
            Err(error) => Err(StoreError::Io(error)),
        }
    }

    /// Notes that opening begins; true if processes keep dying of it.
    pub(super) fn note_opening(&self) -> bool {
        let path = self.state.join(OPENING);
        let deaths = fs::read(&path)
            .ok()
            .and_then(|bytes| bytes.first().copied())
            .unwrap_or(0);
        let text = [deaths.saturating_add(1)];
        // On a full disk nothing is counted; the others are.
        drop(open_own(&path).and_then(|mut file| io::Write::write_all(&mut file, &text)));
        deaths >= DEATHS_MAX
    }

    /// Notes that opening came to an end, good or bad.
    pub(super) fn note_opened(&self) {
        // Without the file there is nothing to remove.
        drop(fs::remove_file(self.state.join(OPENING)));
    }

    /// Sets a damaged store aside, and gives up the oldest of those that were; the new name.
    pub(super) fn set_aside(&self) -> io::Result<String> {
        let mut numbers = self.corrupt()?;
        while numbers.len() >= CORRUPT_MAX {
            let oldest = numbers.remove(0);
            fs::remove_dir_all(self.state.join(format!("{CORRUPT}{oldest}")))?;
        }
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        let name = format!("{CORRUPT}{next}");
        fs::rename(self.state.join(STORE), self.state.join(&name))?;
        Ok(name)
    }

    /// Numbers of the damaged stores, oldest first.
    fn corrupt(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.state)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(CORRUPT)?.parse::<u32>().ok());
            numbers.extend(number.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Opens a file of this folder for its owner alone; never through a link, and without waiting for what is no file.
fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(state: &Path) -> Vec<String> {
        let entries = fs::read_dir(state).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn one_process_at_a_time_has_the_place() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::take(state.path()).unwrap();
        assert!(matches!(Place::take(state.path()), Err(StoreError::Locked)));
        drop(place);
        assert!(Place::take(state.path()).is_ok());
    }

    #[test]
    fn two_damaged_stores_are_kept_and_the_oldest_goes() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::take(state.path()).unwrap();
        for number in 1..=4_u8 {
            fs::write(place.directory().unwrap().join("db"), [number]).unwrap();
            assert_eq!(place.set_aside().unwrap(), format!("store.corrupt-{number}"));
        }
        assert_eq!(
            names(state.path()),
            ["store.corrupt-3", "store.corrupt-4", "store.lock"]
        );
        assert_eq!(fs::read(state.path().join("store.corrupt-4/db")).unwrap(), [4]);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), state.path().join(STORE)).unwrap();
        let place = Place::take(state.path()).unwrap();
        assert!(matches!(place.directory(), Err(StoreError::Io(_))));
        drop(place);
        fs::remove_file(state.path().join(LOCK)).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("lock"), state.path().join(LOCK)).unwrap();
        assert!(matches!(Place::take(state.path()), Err(StoreError::Io(_))));
        assert_eq!(names(elsewhere.path()), [""; 0]);
    }

    #[test]
    fn a_store_that_kills_every_process_is_given_up() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::take(state.path()).unwrap();
        let verdicts: Vec<bool> = (0..4).map(|_| place.note_opening()).collect();
        assert_eq!(verdicts, [false, false, false, true]);
        place.note_opened();
        assert!(!place.note_opening());
    }

    #[test]
    fn damaged_stores_are_told_from_what_only_looks_like_one() {
        let state = tempfile::tempdir().unwrap();
        for name in ["store.corrupt-x", "store.corrupt-", "store.corrupt-7"] {
            fs::create_dir(state.path().join(name)).unwrap();
        }
        fs::write(state.path().join("store.corrupt-9"), b"").unwrap();
        let place = Place::take(state.path()).unwrap();
        assert_eq!(place.corrupt().unwrap(), [7]);
    }
}
