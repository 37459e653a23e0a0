//! A node that is started again and again in the same place, each start measured: from the begin of the process to its
//! first answer, which is about the node itself and needs no provider.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use detour_rig::http;
use detour_rig::process::parse_listening;
use detour_rig::{Fake, clock, zone};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{PATIENCE, Udp};
use crate::message::{CLASS_CH, Message, Reply, question, rtype};
use crate::node::{BINARY, config, udp_blocks, until};

/// From the start of the process to its first local answer, at most. The promise is 150 ms, which `scripts/bench.sh start`
/// measures: these tests run beside each other, unoptimised, on machines that do other things. What they hold is that no
/// disk is waited for; one that is in the way takes seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Where a node lives.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
    /// What is run in front of the binary, such as a shell that sets a limit.
    wrapper: Vec<String>,
    state: PathBuf,
    runtime: Option<PathBuf>,
    took: Vec<Duration>,
}

impl Home {
    /// A place for a node before these fakes; `more` is the end of its configuration.
    pub(crate) fn before(fakes: &[&Fake], more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Self {
            state: directory.path().join("state"),
            directory,
            wrapper: Vec::new(),
            runtime: None,
            took: Vec::new(),
        };
        home.configure(fakes, more);
        home
    }

    pub(crate) fn configure(&self, fakes: &[&Fake], more: &str) {
        let text = format!("{}\n{more}\n", config(&udp_blocks(fakes)));
        fs::write(self.directory.path().join("detour.toml"), text).unwrap();
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn set_state(&mut self, state: &Path) {
        self.state = state.to_owned();
    }

    /// A session with a runtime directory.
    pub(crate) fn set_runtime(&mut self, runtime: &Path) {
        self.runtime = Some(runtime.to_owned());
    }

    /// A shell that does this before it becomes the node.
    pub(crate) fn set_preamble(&mut self, preamble: &str) {
        let script = format!("{preamble}; exec \"$0\" \"$@\"");
        self.wrapper = ["sh", "-c", &script].map(str::to_owned).to_vec();
    }

    /// Starts the node and waits for its first answer.
    pub(crate) async fn start(&mut self) -> Running {
        let started = clock::now();
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(BINARY);
                command
            }
            None => Command::new(BINARY),
        };
        command
            .args(["run", "-c"])
            .arg(self.directory.path().join("detour.toml"))
            .arg("--state-dir")
            .arg(&self.state)
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("RUNTIME_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(runtime) = &self.runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = read_lines(&mut child);
        let log = read_log(&mut child);
        let mut running = Running {
            child,
            dns: SocketAddr::from(([0; 4], 0)),
            admin: SocketAddr::from(([0; 4], 0)),
            log,
            said: String::new(),
        };
        running.dns = next_address(&mut lines, "dns").await;
        let marker = Message::of_question(question("version.bind", rtype::TXT, CLASS_CH));
        Udp::to(running.dns).await.ask(&marker).await;
        self.took.push(started.elapsed());
        running.admin = next_address(&mut lines, "admin").await;
        running
    }

    /// No start so far waited for a disk.
    pub(crate) fn assert_quick(&self, what: &str) {
        let late: Vec<_> = self.took.iter().filter(|took| **took > AT_ONCE).collect();
        assert!(late.is_empty(), "{what}: starts took longer than {AT_ONCE:?}: {late:?}");
    }
}

/// A running node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: mpsc::Receiver<String>,
    said: String,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Asks it to stop; its exit code.
    pub(crate) async fn stop(&mut self) -> i32 {
        self.signal("TERM");
        let mut status = None;
        until("the end", PATIENCE, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code().unwrap_or_else(|| panic!("{status:?}"))
    }

    /// What it has written to standard error.
    pub(crate) fn log(&mut self) -> &str {
        while let Ok(more) = self.log.try_recv() {
            self.said.push_str(&more);
            self.said.push('\n');
        }
        &self.said
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let response = http::get(self.admin, path, PATIENCE).await.unwrap();
        assert_eq!(response.status, 200, "{path}");
        String::from_utf8(response.body).unwrap()
    }

    /// What the status warns of.
    pub(crate) async fn warnings(&self) -> Vec<String> {
        let status: Value = serde_json::from_str(&self.text("/api/v1/status").await).unwrap();
        let warnings = status["warnings"].as_array().unwrap().iter();
        warnings.map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// The value of a series; 0 if it is not there.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let text = self.text("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Whether there is a median of a provider's answers, and its first endpoint's state.
    pub(crate) async fn knowledge_of(&self, provider: &str) -> (bool, String) {
        let providers: Value = serde_json::from_str(&self.text("/api/v1/providers").await).unwrap();
        let mut all = providers.as_array().unwrap().iter();
        let own = all.find(|entry| entry["name"] == provider).unwrap();
        let endpoint = &own["endpoints"][0];
        (
            endpoint["p50_ms"].is_number(),
            endpoint["state"].as_str().unwrap().to_owned(),
        )
    }

    /// Asks for all of these at once; every answer that comes must be right. Replies in the order of the names.
    pub(crate) async fn ask_all(&self, names: &[String]) -> Vec<Reply> {
        let mut asks = JoinSet::new();
        for (index, name) in names.iter().enumerate() {
            let (dns, name) = (self.dns, name.clone());
            asks.spawn(async move {
                let reply = Udp::to(dns)
                    .await
                    .ask(&Message::query(&name, rtype::A).edns(1232))
                    .await;
                let right = zone::expected_a(&name).unwrap();
                assert!(
                    reply.addresses().iter().all(|address| *address == right),
                    "{name}: {reply:?}"
                );
                (index, reply)
            });
        }
        let mut replies = asks.join_all().await;
        replies.sort_by_key(|(index, _)| *index);
        replies.into_iter().map(|(_, reply)| reply).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both can only fail when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `count` names that every honest provider knows.
pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}.hazel-print.org")).collect()
}

/// A thread that reads to the end, also when nobody looks any more: a full pipe would stop the node.
fn read_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(64);
    let stdout = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            sender.blocking_send(line).ok();
        }
    });
    receiver
}

fn read_log(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(10_000);
    let stderr = child.stderr.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            sender.try_send(line).ok();
        }
    });
    receiver
}

async fn next_address(lines: &mut mpsc::Receiver<String>, what: &str) -> SocketAddr {
    loop {
        let line = timeout(PATIENCE, lines.recv()).await.expect("a line in time");
        let line = line.unwrap_or_else(|| panic!("the node ended before it said its {what} address"));
        if let Some(address) = parse_listening(&line, what) {
            return address;
        }
    }
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// All files below a directory.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Damages a file in a way that follows from the random numbers; says how.
pub(crate) fn damage(path: &Path, random: &mut detour_rig::random::Random) -> String {
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let size = bytes.len();
    let at = |random: &mut detour_rig::random::Random| {
        usize::try_from(random.below(u64::try_from(size.max(1)).unwrap())).unwrap()
    };
    let how = match random.below(4) {
        0 => {
            bytes.truncate(at(random));
            format!("cut off at {}", bytes.len())
        }
        1 => {
            let (from, length) = (at(random), 512);
            bytes.iter_mut().skip(from).take(length).for_each(|byte| *byte = 0);
            format!("zeros from {from}")
        }
        kind => {
            let count = if kind == 2 { 1 } else { 8 };
            let places: Vec<_> = (0..count).map(|_| (at(random), random.below(8))).collect();
            for (place, bit) in &places {
                bytes.iter_mut().skip(*place).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            format!("bits flipped at {places:?}")
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{}: {how}", path.display())
}
