//! Where the cache file lies, if anywhere: a pure choice, and the files in that place.
//!
//! Its name carries a checksum of the state directory, so that two nodes of one user do not take turns at one file.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::Uid;

use crate::config::Persist;
use crate::state::State;

/// What every cache file's name begins with.
const NAME: &str = "cache";
/// Under the XDG runtime directory.
const FOLDER: &str = "detour";
/// How many leftovers of processes that died while writing are looked for.
const LEFTOVERS_MAX: usize = 64;

/// What the environment says about directories that do not survive a reboot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RuntimeDirs<'a> {
    /// `$RUNTIME_DIRECTORY`, set by systemd for `RuntimeDirectory=`; a list with colons, the first one is ours.
    pub(crate) service: Option<&'a OsStr>,
    /// `$XDG_RUNTIME_DIR`
    pub(crate) xdg: Option<&'a OsStr>,
}

impl RuntimeDirs<'_> {
    /// The directory for the file, and whether it has to be made.
    fn resolve(&self) -> Option<(PathBuf, bool)> {
        let absolute = |path: &Path| path.is_absolute().then(|| path.to_owned());
        let service = self.service.and_then(|list| std::env::split_paths(list).next());
        let xdg = self.xdg.map(Path::new).and_then(absolute);
        let service = service.as_deref().and_then(absolute).map(|path| (path, false));
        service.or_else(|| xdg.map(|path| (path.join(FOLDER), true)))
    }
}

/// Where the file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    directory: PathBuf,
    /// Whether the directory is ours to make.
    is_ours: bool,
    name: String,
    /// Whether it has to survive a loss of power.
    is_disk: bool,
}

/// Where the file lies, and where it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// `None`: there is no file.
    pub(super) chosen: Option<Place>,
    /// Where an earlier process may have left one that has to go: names are where they are wanted and nowhere else.
    pub(super) others: Vec<Place>,
}

/// Chooses the place.
#[must_use]
pub(crate) fn choose(persist: Persist, state: &State, dirs: &RuntimeDirs<'_>) -> Places {
    let owner = match state {
        State::Directory(path) => std::path::absolute(path).unwrap_or_else(|_unknown_cwd| path.clone()),
        State::Memory(_) => PathBuf::new(),
    };
    let runtime = dirs.resolve().map(|(directory, is_ours)| Place {
        directory,
        is_ours,
        name: format!("{NAME}-{:08x}", crc32fast::hash(owner.as_os_str().as_bytes())),
        is_disk: false,
    });
    let disk = match state {
        State::Directory(path) => Some(Place {
            directory: path.clone(),
            is_ours: false,
            name: NAME.to_owned(),
            is_disk: true,
        }),
        State::Memory(_) => None,
    };
    let (chosen, others) = match persist {
        Persist::Runtime => (runtime, [disk, None]),
        Persist::Disk => (disk, [runtime, None]),
        Persist::Off => (None, [runtime, disk]),
    };
    if chosen.is_none() {
        tracing::debug!(?persist, "no cache file: answers do not survive a restart");
    }
    Places {
        chosen,
        others: others.into_iter().flatten().collect(),
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        // Mostly there is none.
        drop(fs::remove_file(self.path()));
    }

    /// The file for reading, `None` if there is none. Refuses what is not a file of this user's alone.
    pub(super) fn open(&self) -> io::Result<Option<File>> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(self.path());
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        let is_private = about.is_file() && about.uid() == Uid::effective().as_raw() && about.mode() & 0o077 == 0;
        if is_private {
            Ok(Some(file))
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// A new file beside it.
    pub(super) fn create(&self) -> io::Result<File> {
        if self.is_ours {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        }
        let path = self.temporary(std::process::id());
        // Of an earlier process with this number.
        drop(fs::remove_file(&path));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// Puts the new file in its place.
    pub(super) fn install(&self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(self.temporary(std::process::id()), self.path())?;
        if self.is_disk {
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Gives the new file up.
    pub(super) fn abandon(&self) {
        drop(fs::remove_file(self.temporary(std::process::id())));
    }

    fn temporary(&self, process: u32) -> PathBuf {
        self.directory.join(format!("{}.new-{process}", self.name))
    }

    /// Removes what processes left that died while writing.
    pub(super) fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten().take(LEFTOVERS_MAX) {
            let name = entry.file_name();
            let process = name.to_str().and_then(|name| {
                name.strip_prefix(&self.name)?
                    .strip_prefix(".new-")?
                    .parse::<u32>()
                    .ok()
            });
            if let Some(process) = process
                && !Path::new(&format!("/proc/{process}")).exists()
            {
                drop(fs::remove_file(self.temporary(process)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn dirs<'a>(service: Option<&'a str>, xdg: Option<&'a str>) -> RuntimeDirs<'a> {
        RuntimeDirs {
            service: service.map(OsStr::new),
            xdg: xdg.map(OsStr::new),
        }
    }

    fn at(state: &Path) -> State {
        State::Directory(state.to_owned())
    }

    #[test]
    fn the_service_manager_goes_before_the_session() {
        let both = dirs(Some("/run/detour:/run/other"), Some("/run/user/1000"));
        assert_eq!(both.resolve(), Some(("/run/detour".into(), false)));
        let session = dirs(Some(""), Some("/run/user/1000"));
        assert_eq!(session.resolve(), Some(("/run/user/1000/detour".into(), true)));
        for nothing in [dirs(None, None), dirs(Some(""), Some("")), dirs(None, Some("relative"))] {
            assert_eq!(nothing.resolve(), None);
        }
    }

    #[test]
    fn a_file_lies_where_the_configuration_says_and_nowhere_else() {
        let session = dirs(Some("/run/detour"), None);
        let state = at(Path::new("/state"));
        let paths = |persist, state: &State, dirs: &RuntimeDirs<'_>| {
            let places = choose(persist, state, dirs);
            let others = places.others.iter().map(Place::path).collect::<Vec<_>>();
            (places.chosen.as_ref().map(Place::path), others)
        };
        let (in_run, _) = paths(Persist::Runtime, &state, &session);
        let in_run = in_run.unwrap();
        let in_state = PathBuf::from("/state/cache");
        assert_eq!(in_run.parent(), Some(Path::new("/run/detour")));
        let expected = [
            (Persist::Runtime, Some(in_run.clone()), vec![in_state.clone()]),
            (Persist::Disk, Some(in_state.clone()), vec![in_run.clone()]),
            (Persist::Off, None, vec![in_run, in_state.clone()]),
        ];
        for (persist, chosen, others) in expected {
            assert_eq!(paths(persist, &state, &session), (chosen, others), "{persist:?}");
        }
        assert_eq!(paths(Persist::Disk, &State::Memory(String::new()), &session).0, None);
        assert_eq!(
            paths(Persist::Runtime, &state, &dirs(None, None)),
            (None, vec![in_state])
        );
    }

    #[test]
    fn two_nodes_of_one_user_have_a_file_each() {
        let session = dirs(None, Some("/run/user/1000"));
        let path = |state: &str| {
            choose(Persist::Runtime, &at(Path::new(state)), &session)
                .chosen
                .unwrap()
                .path()
        };
        assert_ne!(path("/a"), path("/b"));
        assert_eq!(path("/a"), path("/a"));
    }

    #[test]
    fn only_a_file_of_ones_own_is_read() {
        let run = tempfile::tempdir().unwrap();
        let place = choose(Persist::Disk, &at(run.path()), &dirs(None, None))
            .chosen
            .unwrap();
        assert!(place.open().unwrap().is_none());
        let mut file = place.create().unwrap();
        io::Write::write_all(&mut file, b"whole").unwrap();
        assert!(place.open().unwrap().is_none(), "not before it is whole");
        place.install(&file).unwrap();
        assert!(place.open().unwrap().is_some());
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(place.open().is_err(), "others may have seen to it");
        fs::rename(place.path(), run.path().join("elsewhere")).unwrap();
        symlink(run.path().join("elsewhere"), place.path()).unwrap();
        assert!(place.open().is_err(), "a link");
        place.remove();
        assert!(place.open().unwrap().is_none());
    }

    #[test]
    fn leftovers_of_dead_processes_are_removed() {
        let run = tempfile::tempdir().unwrap();
        let place = choose(Persist::Disk, &at(run.path()), &dirs(None, None))
            .chosen
            .unwrap();
        let own = place.temporary(std::process::id());
        // Beyond the kernel's largest number.
        let dead = place.temporary(u32::MAX);
        for path in [&own, &dead] {
            fs::write(path, b"x").unwrap();
        }
        place.clean();
        assert_eq!((own.exists(), dead.exists()), (true, false));
        place.abandon();
        assert!(!own.exists());
    }
}
