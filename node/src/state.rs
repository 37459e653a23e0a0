//! The state directory: found, made, and tried out at the start.
//!
//! A node without one runs from memory and says so; nothing about the disk ever keeps DNS from starting.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::StateDirSources;

/// How long a start waits to know whether the directory can be written; a disk that sleeps or hangs takes longer.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where a node keeps what it learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// In this directory.
    Directory(PathBuf),
    /// Nowhere, and why.
    Memory(String),
}

impl State {
    /// The directory, if there is one.
    #[must_use]
    pub(crate) fn directory(&self) -> Option<&PathBuf> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Memory(_) => None,
        }
    }
}

/// Where the directory is, or would be, by all that say so.
#[must_use]
pub(crate) fn find(flag: Option<&Path>, key: Option<&Path>) -> Option<PathBuf> {
    StateDirSources {
        flag,
        state_directory: std::env::var_os("STATE_DIRECTORY").as_deref(),
        key,
        xdg_state_home: std::env::var_os("XDG_STATE_HOME").as_deref(),
        home: std::env::var_os("HOME").as_deref(),
    }
    .resolve()
}

/// Whether something goes before what the file says.
#[must_use]
pub(crate) fn is_given(flag: Option<&Path>) -> bool {
    flag.is_some() || std::env::var_os("STATE_DIRECTORY").is_some_and(|list| !list.is_empty())
}

/// Finds the directory, makes it for its owner alone, and tries to write in it.
pub(crate) fn open(flag: Option<&Path>, key: Option<&Path>) -> State {
    match find(flag, key) {
        None => State::Memory("no --state-dir, $STATE_DIRECTORY, state-dir, $XDG_STATE_HOME or $HOME".to_owned()),
        Some(path) => match prepare_in_time(&path) {
            Some(Err(error)) => State::Memory(format!("{}: {error}", path.display())),
            // Whoever writes there finds out, without delaying anybody else.
            Some(Ok(())) | None => State::Directory(path),
        },
    }
}

/// Prepares the directory; `None` if the disk takes longer for it than a start may wait.
fn prepare_in_time(path: &Path) -> Option<io::Result<()>> {
    let (done, prepared) = mpsc::sync_channel(1);
    let own = path.to_owned();
    let thread = thread::Builder::new().name("state".to_owned());
    let spawned = thread.spawn(move || {
        // Whoever asked may have stopped waiting.
        drop(done.send(prepare(&own)));
    });
    match spawned {
        Ok(_thread) => prepared.recv_timeout(PATIENCE).ok(),
        Err(error) => Some(Err(error)),
    }
}

fn prepare(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let probe = path.join(format!(".write-test-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        assert_eq!(open(Some(&path), None), State::Directory(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_memory_only() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        let State::Memory(why) = open(Some(&file.join("x")), None) else {
            panic!("a file is no directory");
        };
        assert!(why.contains("file/x"), "{why}");
    }
}
