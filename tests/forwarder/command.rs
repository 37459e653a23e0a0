//! The binary run with arguments of the test's own, and everything it writes and returns.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use detour_rig::process::parse_listening;
use tempfile::TempDir;

use crate::client::PATIENCE;
use crate::node::{BINARY, until};

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    /// Where it runs and what it writes is.
    path: PathBuf,
    /// If the directory is its own.
    own: Option<TempDir>,
}

impl Run {
    /// `detour run` with a state directory of its own; `config`, if there is one, is its file `detour.toml`.
    pub(crate) fn node(config: Option<&str>, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = vec!["run", "--state-dir", "state"];
        if let Some(config) = config {
            fs::write(directory.path().join("detour.toml"), config).unwrap();
            all.extend(["-c", "detour.toml"]);
        }
        all.extend(arguments);
        Self::start(&all, directory)
    }

    /// The binary in a directory.
    pub(crate) fn start(arguments: &[&str], directory: TempDir) -> Self {
        let mut run = Self::inside(arguments, directory.path());
        run.own = Some(directory);
        run
    }

    /// The binary in a directory of somebody else's, one at a time.
    pub(crate) fn inside(arguments: &[&str], directory: &Path) -> Self {
        let file = |name| File::create(directory.join(name)).unwrap();
        let child = Command::new(BINARY)
            .args(arguments)
            .current_dir(directory)
            // The session's directory is for the node its owner uses.
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("RUNTIME_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self {
            child,
            path: directory.to_owned(),
            own: None,
        }
    }

    /// Runs it to its end: exit code, standard output, standard error.
    pub(crate) async fn to_the_end(arguments: &[&str]) -> (i32, String, String) {
        let mut run = Self::start(arguments, tempfile::tempdir().unwrap());
        let code = run.exit_code().await;
        (code, run.stdout(), run.stderr())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.path
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.directory().join("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.directory().join("stderr")).unwrap()
    }

    /// Waits until it has started.
    pub(crate) async fn ready(&mut self) {
        until("ready", PATIENCE, async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.stderr());
            self.stdout().lines().any(|line| line == "ready")
        })
        .await;
    }

    /// The addresses it says it listens on.
    pub(crate) fn listening(&self, what: &str) -> Vec<SocketAddr> {
        let stdout = self.stdout();
        stdout.lines().filter_map(|line| parse_listening(line, what)).collect()
    }

    /// Sends a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, signal: &str) {
        crate::node::signal(self.child.id(), signal);
    }

    /// Waits until it ends.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let mut status = None;
        until("the end", PATIENCE, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code().unwrap_or_else(|| panic!("{status:?}"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both can only fail when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
