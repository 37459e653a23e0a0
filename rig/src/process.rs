//! The real `detour` binary as a child process, on ports of its own choice.
//!
//! It is started with a config written for it, says on its standard output where it listens, and is killed when the
//! value is dropped: also when a test fails half-way. It holds on to its parent by its standard input, a pipe that the
//! system closes when the parent dies in whatever way, so none is left behind. It is in a process group of its own: a
//! Ctrl-C is its parent's to act on. Its standard error goes to `node.log` beside the config, and the end of that file
//! is in the error when it does not start.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How long a node may take to say where it listens. Its promise is 150 ms; this is for a busy machine.
pub const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long a node may take to stop in order; the node itself takes 5 s at most, with queries under way.
pub const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// What standard error of a node is written to, beside its config.
pub const LOG_FILE: &str = "node.log";
/// A node's state directory, beside its config.
pub const STATE_DIRECTORY: &str = "state";
/// How often it is looked whether a node has stopped.
const STOP_TICK: Duration = Duration::from_millis(10);
/// Lines of output that wait to be looked at; the reader thread waits when there are more.
const LINES_MAX: usize = 64;
/// How much of the log an error shows.
const LOG_LINES_SHOWN: usize = 12;

/// A `[[provider]]` block for a node's config, with these endpoints in this order.
#[must_use]
pub fn provider_block(name: &str, endpoints: &[String]) -> String {
    let endpoints = endpoints.iter().map(|endpoint| quoted(endpoint)).collect::<Vec<_>>();
    let endpoints = endpoints.join(", ");
    format!("[[provider]]\nname = \"{name}\"\noperator = \"{name}\"\nendpoints = [{endpoints}]\n")
}

/// A whole config: DNS and admin at the given addresses, then the blocks. What the network gave this machine stays out of
/// it, because a test must not ask it anything ([`without_network_switch`]).
#[must_use]
pub fn node_config(dns: SocketAddr, admin: SocketAddr, provider_blocks: &[String]) -> String {
    config(dns, admin, "", provider_blocks)
}

/// The same for a node that trusts the certificate authority in this file; a relative path is one from the config's own
/// directory.
#[must_use]
pub fn node_config_trusting(dns: SocketAddr, admin: SocketAddr, trust: &Path, provider_blocks: &[String]) -> String {
    let trust = format!("trust = [{}]\n", quoted(&trust.display().to_string()));
    config(dns, admin, &trust, provider_blocks)
}

fn config(dns: SocketAddr, admin: SocketAddr, top: &str, provider_blocks: &[String]) -> String {
    let mut config = format!("version = 1\n{top}\n[listen]\ndns = [\"{dns}\"]\nadmin = \"{admin}\"\n{NO_NETWORK}");
    for block in provider_blocks {
        config.push('\n');
        config.push_str(block);
    }
    config
}

/// What keeps a node from looking for the resolvers this machine was given.
const NO_NETWORK: &str = "\n[network]\nenabled = false\n";

/// A config of the above without the section that switches the network's resolvers off, for tests that have their own.
#[must_use]
pub fn without_network_switch(config: &str) -> String {
    config.replace(NO_NETWORK, "")
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Why a node did not start. The child, if there was one, is gone.
#[derive(Debug, thiserror::Error)]
pub enum StartNodeError {
    /// The config or the log could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The binary could not be run.
    #[error("cannot run {}", binary.display())]
    Run {
        /// Which.
        binary: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended, or did not say in time where it listens.
    #[error("{} did not say where it listens; the end of its log:\n{log}", binary.display())]
    Silent {
        /// Which.
        binary: PathBuf,
        /// The last lines it wrote to standard error.
        log: Box<str>,
    },
}

/// A running node.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    dns: SocketAddr,
    admin: SocketAddr,
    /// Everything it listens for, with where.
    listening: Vec<(Box<str>, SocketAddr)>,
}

impl NodeProcess {
    /// Writes `config` to `directory/detour.toml`, runs `binary` with it and waits until it says where it listens.
    ///
    /// # Errors
    /// When it cannot be run or says nothing within [`START_PATIENCE`].
    pub async fn start(binary: &Path, config: &str, directory: &Path) -> Result<Self, StartNodeError> {
        let write = |path: &Path, source| StartNodeError::Write {
            path: path.into(),
            source,
        };
        let run = |source| StartNodeError::Run {
            binary: binary.into(),
            source,
        };
        let config_path = directory.join("detour.toml");
        let log_path = directory.join(LOG_FILE);
        let state = directory.join(STATE_DIRECTORY);
        fs::write(&config_path, config).map_err(|source| write(&config_path, source))?;
        fs::create_dir_all(&state).map_err(|source| write(&state, source))?;
        let log = File::create(&log_path).map_err(|source| write(&log_path, source))?;
        let mut command = Command::new(binary);
        command
            .arg("run")
            .arg("-c")
            .arg(&config_path)
            .arg("--state-dir")
            .arg(&state)
            .arg("--stop-with-stdin");
        // The session's directory is for the node its owner uses.
        command.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        command.process_group(0);
        let mut guard = KillOnDrop(Some(command.spawn().map_err(run)?));
        let stdout = guard.0.as_mut().and_then(|child| child.stdout.take());
        let listening = match stdout.map(read_lines).transpose().map_err(run)? {
            Some(lines) => timeout(START_PATIENCE, await_listening(lines)).await.ok().flatten(),
            None => None,
        };
        match (guard.0.take(), listening) {
            (Some(child), Some(Listening { dns, admin, all })) => Ok(Self {
                child,
                dns,
                admin,
                listening: all,
            }),
            (child, _) => {
                drop(KillOnDrop(child));
                Err(StartNodeError::Silent {
                    binary: binary.into(),
                    log: log_end(&log_path),
                })
            }
        }
    }

    /// Where it answers DNS.
    #[must_use]
    pub const fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Where it answers HTTP.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where it listens for this: the first one it named of `tls`, `https`, `h3`, `quic`.
    #[must_use]
    pub fn listening(&self, what: &str) -> Option<SocketAddr> {
        let mut listening = self.listening.iter();
        listening.find(|(own, _)| &**own == what).map(|(_, address)| *address)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it in order, and if that takes longer than [`STOP_PATIENCE`], at once. True: in order, with exit code 0.
    pub async fn stop(mut self) -> bool {
        drop(self.child.stdin.take());
        let ended = timeout(STOP_PATIENCE, async {
            loop {
                match self.child.try_wait() {
                    Ok(None) => sleep(STOP_TICK).await,
                    Ok(Some(status)) => return status.success(),
                    Err(_) => return false,
                }
            }
        });
        ended.await.unwrap_or(false)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// A child that does not outlive an early return or a cancelled start.
struct KillOnDrop(Option<Child>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            kill(child);
        }
    }
}

/// Both can only fail when the child has ended already, which is what is wanted.
fn kill(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// A thread that reads to the end, also when nobody looks any more: a full pipe would block the node.
fn read_lines(stdout: ChildStdout) -> io::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    thread::Builder::new().name("node-stdout".into()).spawn(move || {
        let mut wanted = true;
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            wanted = wanted && sender.blocking_send(line).is_ok();
        }
    })?;
    Ok(receiver)
}

/// What a node said of where it listens, up to the admin interface, which it names last.
struct Listening {
    dns: SocketAddr,
    admin: SocketAddr,
    all: Vec<(Box<str>, SocketAddr)>,
}

async fn await_listening(mut lines: mpsc::Receiver<String>) -> Option<Listening> {
    let mut all: Vec<(Box<str>, SocketAddr)> = Vec::new();
    while let Some(line) = lines.recv().await {
        if let Some((what, address)) = listening_of(&line) {
            all.push((what.into(), address));
        }
        let first = |what| all.iter().find(|(own, _)| &**own == what).map(|(_, address)| *address);
        if let (Some(dns), Some(admin)) = (first("dns"), first("admin")) {
            return Some(Listening { dns, admin, all });
        }
    }
    None
}

/// What is listened for and where, in `listening <what> <address> …`.
fn listening_of(line: &str) -> Option<(&str, SocketAddr)> {
    let mut words = line.split_whitespace();
    (words.next()? == "listening").then_some(())?;
    Some((words.next()?, words.next()?.parse().ok()?))
}

/// The address in `listening <what> <address> …`.
#[must_use]
pub fn parse_listening(line: &str, what: &str) -> Option<SocketAddr> {
    listening_of(line)
        .filter(|(own, _)| *own == what)
        .map(|(_, address)| address)
}

fn log_end(path: &Path) -> Box<str> {
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.get(from..).unwrap_or_default().join("\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn listening_lines_are_read() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 41234)));
        assert_eq!(parse_listening("listening dns 127.0.0.1:41234 udp+tcp", "dns"), address);
        assert_eq!(parse_listening("listening admin 127.0.0.1:41234", "admin"), address);
        assert_eq!(parse_listening("listening admin 127.0.0.1:41234", "dns"), None);
        assert_eq!(parse_listening("listening dns soon", "dns"), None);
        assert_eq!(parse_listening("", "dns"), None);
    }

    #[test]
    fn configs_list_the_endpoints_in_order() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoints = ["udp://127.0.0.1:5401", "tcp://127.0.0.1:5401"].map(str::to_owned);
        let block = provider_block("fake1", &endpoints);
        let rest = "\n[listen]\ndns = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\n\
                    [network]\nenabled = false\n\n[[provider]]\n\
                    name = \"fake1\"\noperator = \"fake1\"\n\
                    endpoints = [\"udp://127.0.0.1:5401\", \"tcp://127.0.0.1:5401\"]\n";
        assert_eq!(
            node_config(any, any, std::slice::from_ref(&block)),
            format!("version = 1\n{rest}")
        );
        assert_eq!(
            node_config_trusting(any, any, Path::new("/a \"b\"/ca.pem"), &[block]),
            format!("version = 1\ntrust = [\"/a \\\"b\\\"/ca.pem\"]\n{rest}")
        );
        assert!(!without_network_switch(&node_config(any, any, &[])).contains("network"));
    }

    /// A shell script in the place of the node.
    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("node.sh");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_node_is_found_where_it_says_and_ends_with_its_value() {
        let directory = tempfile::tempdir().unwrap();
        let body = "echo starting\necho listening dns 127.0.0.1:1001 udp+tcp\necho listening tls 127.0.0.1:1003 tcp\n\
                    echo listening admin 127.0.0.1:1002\nexec sleep 60";
        let binary = script(directory.path(), body);
        let node = NodeProcess::start(&binary, "version = 1\n", directory.path())
            .await
            .unwrap();
        assert_eq!((node.dns().port(), node.admin().port()), (1001, 1002));
        assert_eq!(node.listening("tls").map(|address| address.port()), Some(1003));
        assert_eq!(node.listening("quic"), None);
        let proc = PathBuf::from(format!("/proc/{}", node.id()));
        drop(node);
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn a_node_is_stopped_by_the_end_of_its_standard_input() {
        let directory = tempfile::tempdir().unwrap();
        let body = "echo listening dns 127.0.0.1:1001\necho listening admin 127.0.0.1:1002\nread -r line\nexit 0";
        let binary = script(directory.path(), body);
        let node = NodeProcess::start(&binary, "version = 1\n", directory.path())
            .await
            .unwrap();
        assert!(node.stop().await);
    }

    #[tokio::test]
    async fn a_node_that_ends_shows_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let binary = script(directory.path(), "echo no such key >&2\nexit 78");
        let error = NodeProcess::start(&binary, "", directory.path()).await.unwrap_err();
        assert!(
            error.to_string().ends_with("the end of its log:\nno such key"),
            "{error}"
        );
    }
}
