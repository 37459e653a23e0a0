//! What the tests stand on: fakes, clusters, single nodes, and ways to wait for them.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use detour_rig::process::{node_config, provider_block};
use detour_rig::{Cluster, ClusterConfig, ClusterNode, Fake, FakeConfig, ListedTransports, NodeProcess, clock, http};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_detour");
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !holds().await {
        assert!(clock::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Three fakes of three operators; every answer takes 10 ms.
pub(crate) fn fakes() -> Vec<Fake> {
    let names = ["amber", "birch", "cedar"];
    names.map(|name| Fake::start(FakeConfig::new(name)).unwrap()).into()
}

/// Their blocks for a configuration, over UDP.
pub(crate) fn blocks(fakes: &[Fake]) -> Vec<String> {
    let block = |fake: &Fake| provider_block(fake.name(), &fake.endpoints(ListedTransports::Udp));
    fakes.iter().map(block).collect()
}

/// Nodes that have found each other.
pub(crate) async fn cluster(nodes: usize, fakes: &[Fake], influence: &str) -> Cluster {
    let config = ClusterConfig {
        binary: Path::new(BINARY),
        nodes,
        providers: blocks(fakes),
        influence: Some(influence),
        strangers: Vec::new(),
        is_relayed: false,
    };
    let cluster = Cluster::start(&config).await.unwrap();
    cluster.await_joined(PATIENCE).await.unwrap();
    cluster
}

/// A page of JSON.
pub(crate) async fn json(admin: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&text(admin, path).await).unwrap()
}

/// A page.
pub(crate) async fn text(admin: SocketAddr, path: &str) -> String {
    let response = http::get(admin, path, PATIENCE).await.unwrap();
    assert_eq!(response.status, 200, "{path}");
    String::from_utf8(response.body).unwrap()
}

/// The sum of all series of a metric whose line contains all of `labels`; `None` if there is none.
pub(crate) async fn metric(admin: SocketAddr, name: &str, labels: &[&str]) -> Option<u64> {
    let page = text(admin, "/metrics").await;
    let series = page.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    });
    let values: Vec<u64> = series
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// The row of a provider's only endpoint.
pub(crate) async fn endpoint(node: &ClusterNode, provider: &str) -> Value {
    let providers = json(node.admin(), "/api/v1/providers").await;
    let mut all = providers.as_array().unwrap().iter();
    all.find(|row| row["name"] == provider).unwrap()["endpoints"][0].clone()
}

/// A node by itself, in a directory of its own with its identity made.
#[derive(Debug)]
pub(crate) struct Lone {
    directory: TempDir,
    process: Option<NodeProcess>,
    /// Its peer id.
    pub(crate) id: String,
    /// Where it is to listen for peers.
    pub(crate) port: u16,
}

impl Lone {
    /// One that does not run yet.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let id = peer_id(&directory.path().join("state"));
        // Free a moment ago; a test whose port was taken meanwhile fails and says so.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            directory,
            process: None,
            id,
            port,
        }
    }

    /// The line that lists it.
    pub(crate) fn line(&self) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", self.port, self.id)
    }

    /// Its configuration with these peers.
    pub(crate) fn config(&self, fakes: &[Fake], peers: &[String]) -> String {
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
        format!(
            "{}\n[mesh]\ncluster = \"tests\"\nlisten = [\"/ip4/127.0.0.1/udp/{}/quic-v1\"]\npeers = [{}]\n",
            plain_config(fakes),
            self.port,
            peers.join(", ")
        )
    }

    pub(crate) async fn start(&mut self, config: &str) {
        let started = NodeProcess::start(Path::new(BINARY), config, self.directory.path()).await;
        self.process = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Puts another text into its file and tells it to read that.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.file(), config).unwrap();
        signal(self.process().id(), "HUP");
    }

    pub(crate) fn process(&self) -> &NodeProcess {
        self.process.as_ref().unwrap()
    }

    /// Ends it in order; whether it did.
    pub(crate) async fn stop(&mut self) -> bool {
        self.process.take().unwrap().stop().await
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.process().admin()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("detour.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("node.log")).unwrap()
    }

    pub(crate) async fn peers(&self) -> Value {
        json(self.admin(), "/api/v1/peers").await
    }

    /// What it knows of a peer.
    pub(crate) async fn peer(&self, id: &str) -> Option<Value> {
        let peers = self.peers().await;
        let mut all = peers["peers"].as_array().unwrap().iter();
        all.find(|peer| peer["peer_id"] == id).cloned()
    }

    pub(crate) async fn has_peer_in(&self, id: &str, state: &str) -> bool {
        self.peer(id).await.is_some_and(|peer| peer["state"] == state)
    }

    /// What `detour status` shows of it.
    pub(crate) fn status(&self) -> String {
        let (code, stdout, stderr) = run(&["status", "--admin", &self.admin().to_string()]);
        assert_eq!(code, 0, "{stderr}");
        stdout
    }

    /// What a command about its identity says: exit code, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let (file, state) = (self.file(), self.state());
        let own = ["-c", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
        run(&[arguments, &own].concat())
    }
}

/// A configuration without a mesh.
pub(crate) fn plain_config(fakes: &[Fake]) -> String {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    node_config(any, any, &blocks(fakes))
}

/// The peer id of a state directory, made if there is none.
pub(crate) fn peer_id(state: &Path) -> String {
    let (code, stdout, stderr) = run(&["id", "--json", "--state-dir", state.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    shown["peer_id"].as_str().unwrap().to_owned()
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Whether the node answers a question.
pub(crate) fn answers(dns: SocketAddr, name: &str) -> bool {
    run(&["query", name, "--server", &dns.to_string()]).0 == 0
}

/// Sends a signal.
pub(crate) fn signal(id: u32, signal: &str) {
    let kill = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal, &id.to_string()])
        .status();
    assert!(kill.unwrap().success());
}
