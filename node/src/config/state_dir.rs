//! Where a node keeps what it may forget: a pure choice among what the command line, the service manager, the file
//! and the user's environment say, in this order.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::check::against;
use super::{Admin, DEFAULT_ADMIN};

/// Under the XDG state directory.
const NAME: &str = "detour";

/// The key, in a file.
const KEY: &[u8] = b"state-dir";

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

/// What the `state-dir` line of a file says, however broken the rest is: the way to what was kept when it was not.
/// Relative to the directory of `file`, as ever.
#[must_use]
pub(crate) fn state_dir_line(bytes: &[u8], file: &Path) -> Option<PathBuf> {
    // Top-level keys come before the first table.
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut lines = lines.take_while(|line| !line.starts_with(b"["));
    let path = &*lines.find_map(|line| value_of(line, KEY))??;
    let is_path = !path.is_empty() && !path.contains('\0');
    is_path.then(|| {
        against(
            &std::path::absolute(file).unwrap_or_else(|_no_cwd| file.to_owned()),
            path.into(),
        )
    })
}

/// Where the node of a broken file has its admin interface, as far as the file tells line by line; `None`: it cannot be
/// told. A file that does not speak of it means the default.
#[must_use]
pub(crate) fn admin_line(bytes: &[u8]) -> Option<Admin> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let (mut table, mut is_spoken_of) = (&b""[..], false);
    for line in lines.filter(|line| !line.starts_with(b"#")) {
        if let Some(rest) = line.strip_prefix(b"[") {
            table = rest.split(|byte| *byte == b']').next().unwrap_or_default().trim_ascii();
        }
        let value = match table {
            b"listen" => value_of(line, b"admin"),
            b"" => value_of(line, b"listen.admin"),
            _ => None,
        };
        if let Some(value) = value {
            return value?.parse().ok();
        }
        is_spoken_of |= line.windows(5).any(|word| word == b"admin");
    }
    (!is_spoken_of).then_some(Admin::At(DEFAULT_ADMIN))
}

/// The string that a line gives this key: `None` where the line is another key's, `Some(None)` where it is no string.
fn value_of(line: &[u8], key: &[u8]) -> Option<Option<String>> {
    let value = line.strip_prefix(key)?.trim_ascii_start().strip_prefix(b"=")?;
    let read = || {
        let value = std::str::from_utf8(value).ok()?.trim();
        let quote = value.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
        let whole: Option<toml::Table> = format!("v = {value}").parse().ok();
        match whole.as_ref().and_then(|table| table.get("v")) {
            Some(value) => value.as_str().map(str::to_owned),
            // Something else is wrong with the line; the value most likely is not.
            None => value.strip_prefix(quote)?.split(quote).next().map(str::to_owned),
        }
    };
    Some(read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_address_is_found_in_a_broken_file() {
        let at = |text: &str| Some(Admin::At(text.parse().unwrap()));
        let own = at("127.0.0.1:9999");
        for (text, wanted) in [
            (
                &b"version = = 1\n[listen]\ndns = []\nadmin = \"127.0.0.1:9999\" # here\n"[..],
                own,
            ),
            (b"[ listen ]\n  admin='127.0.0.1:9999'\r\n[listen\n", own),
            (b"listen.admin = \"127.0.0.1:9999\n", own),
            (b"[listen]\nadmin = \"off\"\n\xff", Some(Admin::Off)),
            (b"version = 1\n[listen\n", at("127.0.0.1:9353")),
            (b"# admin\n[listen]\n", at("127.0.0.1:9353")),
            (b"", at("127.0.0.1:9353")),
            // Whatever that is: the default it is not.
            (b"[listen]\nadmin = 7", None),
            (b"[listen]\nadmin", None),
            (b"[listen]\nadmin = \"192.0.2.1:9353\"", None),
            (b"[listne]\nadmin = \"127.0.0.1:9999\"", None),
            (b"listen = { admin = \"127.0.0.1:9999\", }", None),
        ] {
            assert_eq!(admin_line(text), wanted, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_state_directory_is_found_in_a_broken_file() {
        let said = |text: &[u8]| state_dir_line(text, Path::new("/etc/detour/detour.toml"));
        for text in [
            &b"version = 1\nstate-dir = \"/var/x\"\n[listen\n"[..],
            b"version = = \xff\n  state-dir=\"/var/x\" # here",
            b"state-dir = '/var/x'\r\n",
            b"state-dir = \"/var/x",
            b"state-dir = \"/var/x\" oops",
        ] {
            assert_eq!(said(text), Some("/var/x".into()), "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(said(b"state-dir = \"state\""), Some("/etc/detour/state".into()));
        for text in [
            &b""[..],
            b"state-dir",
            b"state-dir = 7",
            b"state-dir = \"\"",
            b"# state-dir = \"/var/x\"",
            b"state-dirs = \"/var/x\"",
            b"[listen]\nstate-dir = \"/var/x\"",
        ] {
            assert_eq!(said(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

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
