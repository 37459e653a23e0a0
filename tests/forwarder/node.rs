//! A node under test: the real binary with a config of the test's own, and what it says about itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use detour_rig::http::{self, Response};
use detour_rig::process::{node_config, provider_block};
use detour_rig::{Fake, FakeConfig, Law, ListedTransports, NodeProcess, clock};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::PATIENCE;

/// How long between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_detour");

/// A running node; ends when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    process: NodeProcess,
    directory: TempDir,
}

impl Node {
    /// A node that forwards to these fakes over UDP, in this order, and has sent each of them its probe of the start.
    pub(crate) async fn before(fakes: &[&Fake]) -> Self {
        let node = Self::start(&config(&udp_blocks(fakes))).await;
        node.has_looked(fakes.len()).await;
        node
    }

    /// Waits until so many providers were sent their probe of the start.
    pub(crate) async fn has_looked(&self, providers: usize) {
        let providers = u64::try_from(providers).unwrap();
        until("providers were looked at", PATIENCE, async || {
            self.metric("detour_probes_total", &["why=\"start\""]).await >= providers
        })
        .await;
    }

    pub(crate) async fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = NodeProcess::start(Path::new(BINARY), config, directory.path())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self { process, directory }
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        self.process.dns()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.process.admin()
    }

    /// Where it serves this encrypted transport.
    pub(crate) fn listening(&self, what: &str) -> SocketAddr {
        self.process.listening(what).expect("it listens for that")
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has in memory, without what is of its own file: in a debug build that is most, and it comes as it is used.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many connections of clients it has open, by the system's word.
    pub(crate) fn connections(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let sockets: BTreeSet<_> = files
            .filter_map(|file| {
                let target = fs::read_link(file.unwrap().path()).ok()?;
                let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                Some(inode.to_owned())
            })
            .collect();
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.id())).unwrap();
        let own = format!(":{:04X}", self.dns().port());
        let is_connection = |line: &&str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let listens = words[3] == "0A";
            words[1].ends_with(&own) && !listens && sockets.contains(words[9])
        };
        table.lines().skip(1).filter(is_connection).count()
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join(detour_rig::process::STATE_DIRECTORY)
    }

    /// Its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("detour.toml")
    }

    /// Puts another text into its file and tells it to read that.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.file(), config).unwrap();
        signal(self.process.id(), "HUP");
    }

    /// As [`Self::reload`], and waits until the node has judged it.
    pub(crate) async fn reloaded(&self, config: &str) {
        let before = self.reloads("").await;
        self.reload(config);
        until("the file was judged", PATIENCE, async || {
            self.reloads("").await > before
        })
        .await;
    }

    /// How many reloads ended so; all, if `result` is empty.
    pub(crate) async fn reloads(&self, result: &str) -> u64 {
        self.metric("detour_config_reloads_total", &[result]).await
    }

    /// Its status.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.text("/api/v1/status").await).unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("node.log")).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        http::get(self.admin(), path, PATIENCE).await.unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}");
        String::from_utf8(response.body).unwrap()
    }

    /// The sum of all series of a metric whose line contains all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.text("/metrics").await;
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        });
        series
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or_default();
                value.parse::<u64>().unwrap_or_else(|_| panic!("no counter: {line}"))
            })
            .sum()
    }

    /// How many replies came from this source.
    pub(crate) async fn replies(&self, source: &str) -> u64 {
        let label = format!("source=\"{source}\"");
        self.metric("detour_dns_replies_total", &[&label]).await
    }

    /// The state of a provider's first endpoint.
    pub(crate) async fn state_of(&self, provider: &str) -> String {
        let providers: Value = serde_json::from_str(&self.text("/api/v1/providers").await).unwrap();
        let mut all = providers.as_array().unwrap().iter();
        let own = all.find(|entry| entry["name"] == provider).unwrap();
        own["endpoints"][0]["state"].as_str().unwrap().to_owned()
    }
}

/// Sends a signal: `TERM`, `INT`, `HUP`.
pub(crate) fn signal(id: u32, signal: &str) {
    let kill = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal, &id.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// A config on ports of the system's choice.
pub(crate) fn config(blocks: &[String]) -> String {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    node_config(any, any, blocks)
}

pub(crate) fn udp_blocks(fakes: &[&Fake]) -> Vec<String> {
    blocks(fakes, ListedTransports::Udp)
}

pub(crate) fn blocks(fakes: &[&Fake], listed: ListedTransports) -> Vec<String> {
    fakes
        .iter()
        .map(|fake| provider_block(fake.name(), &fake.endpoints(listed)))
        .collect()
}

/// A fake with the default law: every answer takes 10 ms.
pub(crate) fn fake(name: &str) -> Fake {
    Fake::start(FakeConfig::new(name)).unwrap()
}

pub(crate) fn fake_with(name: &str, law: Law) -> Fake {
    Fake::start(FakeConfig::new(name).law(law)).unwrap()
}

/// Waits until something holds, for `patience` at most.
pub(crate) async fn until(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = clock::now() + patience;
    while !holds().await {
        assert!(clock::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
