//! Where a node keeps what it may forget: a pure choice among what the command line, the service manager, the file
//! and the user's environment say, in this order.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Under the XDG state directory.
const NAME: &str = "detour";

/// What was said about the state directory, each as it was found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StateDirSources<'a> {
    /// `--state-dir`
    pub(crate) flag: Option<&'a Path>,
    /// `$STATE_DIRECTORY`, set by systemd for `StateDirectory=`; a list with colons, the first one is ours.
    pub(crate) state_directory: Option<&'a OsStr>,
    /// `state-dir` of the file.
    pub(crate) key: Option<&'a Path>,
    /// `$XDG_STATE_HOME`
    pub(crate) xdg_state_home: Option<&'a OsStr>,
    /// `$HOME`
    pub(crate) home: Option<&'a OsStr>,
}

impl StateDirSources<'_> {
    /// The directory, which need not exist; `None` when nobody says: memory only.
    #[must_use]
    pub(crate) fn resolve(&self) -> Option<PathBuf> {
        let service = || {
            let list = self.state_directory?;
            std::env::split_paths(list).find(|path| !path.as_os_str().is_empty())
        };
        // The XDG Base Directory Specification: "If an implementation encounters a relative path […] it should
        // consider the path invalid and ignore it." An empty variable is one that is not set.
        let absolute = |value: Option<&OsStr>| {
            value
                .map(Path::new)
                .filter(|path| path.is_absolute())
                .map(Path::to_owned)
        };
        let xdg = || absolute(self.xdg_state_home).map(|path| path.join(NAME));
        let home = || absolute(self.home).map(|path| path.join(".local/state").join(NAME));
        self.flag
            .map(Path::to_owned)
            .or_else(service)
            .or_else(|| self.key.map(Path::to_owned))
            .or_else(xdg)
            .or_else(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_to_this_start_decides() {
        let mut all = StateDirSources {
            flag: Some(Path::new("flag")),
            state_directory: Some(OsStr::new("/var/lib/detour:/var/lib/other")),
            key: Some(Path::new("/etc/detour/state")),
            xdg_state_home: Some(OsStr::new("/xdg")),
            home: Some(OsStr::new("/home/me")),
        };
        let expect = |sources: &StateDirSources<'_>, path: &str| assert_eq!(sources.resolve(), Some(path.into()));
        expect(&all, "flag");
        all.flag = None;
        expect(&all, "/var/lib/detour");
        all.state_directory = Some(OsStr::new(""));
        expect(&all, "/etc/detour/state");
        all.key = None;
        expect(&all, "/xdg/detour");
        all.xdg_state_home = Some(OsStr::new("relative"));
        expect(&all, "/home/me/.local/state/detour");
        all.home = Some(OsStr::new(""));
        assert_eq!(all.resolve(), None);
    }
}
