//! Several real nodes on loopback, joined by the mesh or each for itself.
//!
//! Every node has a directory of its own (config, log, state) below one that is gone with the [`Cluster`]. Identities
//! are made by the binary itself (`detour id`), so that each config can name the others before anybody runs. Mesh ports
//! are chosen by the system a moment before; a node whose port was taken meanwhile is one that does not join, and is
//! said so by [`Cluster::await_joined`].

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::clock;
use crate::events::EventLog;
use crate::http;
use crate::process::{LOG_FILE, NodeProcess, STATE_DIRECTORY, StartNodeError, node_config};
use crate::relay::Relay;

/// The cluster's name.
pub const CLUSTER: &str = "rig";
/// How long an admin interface may take to answer.
const GET_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether all have joined.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterConfig<'a> {
    /// The detour binary.
    pub binary: &'a Path,
    /// How many nodes.
    pub nodes: usize,
    /// A `[[provider]]` block for each provider, the same at every node.
    pub providers: Vec<String>,
    /// `[mesh] influence`; `None`: no mesh.
    pub influence: Option<&'a str>,
    /// Multiaddresses of peers besides the nodes, which all of them admit.
    pub strangers: Vec<String>,
    /// Nodes dial each other through relays that count what passes.
    pub is_relayed: bool,
}

/// Why there is no cluster. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartClusterError {
    /// No directory, no port, or no log.
    #[error("cannot prepare the nodes")]
    Prepare(#[source] io::Error),
    /// `detour id` failed.
    #[error("`{} id` gave no identity: {said}", binary.display())]
    Identity {
        /// Whose.
        binary: PathBuf,
        /// What it wrote.
        said: Box<str>,
    },
    /// A node did not start.
    #[error("{node} did not start")]
    Node {
        /// Which.
        node: Box<str>,
        /// Why.
        source: StartNodeError,
    },
    /// They do not find each other.
    #[error("after {} s {node} is connected to {connected} of {wanted} peers", waited.as_secs())]
    Apart {
        /// The first that does not.
        node: Box<str>,
        /// How many it is connected to.
        connected: usize,
        /// How many there are.
        wanted: usize,
        /// For how long that was waited.
        waited: Duration,
    },
}

/// One node of a cluster.
#[derive(Debug)]
pub struct ClusterNode {
    name: Box<str>,
    binary: PathBuf,
    directory: PathBuf,
    config: String,
    mesh_address: Option<String>,
    process: Option<NodeProcess>,
    /// What happens to its endpoints.
    pub events: EventLog,
}

impl ClusterNode {
    /// `node1` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process, unless it was killed.
    #[must_use]
    pub const fn process(&self) -> Option<&NodeProcess> {
        self.process.as_ref()
    }

    /// Where it answers DNS; an address that nobody answers at if it does not run.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        self.process.as_ref().map_or(nowhere, NodeProcess::dns)
    }

    /// Where it answers HTTP; an address that nobody answers at if it does not run.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        self.process.as_ref().map_or(nowhere, NodeProcess::admin)
    }

    /// Its directory, with `detour.toml`, `node.log` and `state`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where peers dial it, peer id included; `None` without a mesh.
    #[must_use]
    pub fn mesh_address(&self) -> Option<&str> {
        self.mesh_address.as_deref()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(NodeProcess::is_running)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`Self::kill`], with the state it left; its log begins anew.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&mut self) -> Result<(), StartClusterError> {
        self.process = None;
        let (process, events) = start(&self.name, &self.binary, &self.config, &self.directory).await?;
        (self.process, self.events) = (Some(process), events);
        Ok(())
    }

    /// A page of its admin interface; `None` when there is none, or no JSON.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let response = http::get(self.admin(), path, GET_PATIENCE).await.ok()?;
        serde_json::from_slice(&response.body).ok()
    }

    /// Peers it is connected to.
    pub async fn connected(&self) -> usize {
        self.get("/api/v1/peers").await.map_or(0, |peers| connected(&peers))
    }
}

/// Running nodes and their directory.
#[derive(Debug)]
pub struct Cluster {
    /// In order.
    pub nodes: Vec<ClusterNode>,
    /// One for each node and peer, if there are any.
    relays: Vec<Relay>,
    /// The last to go.
    _directory: TempDir,
}

impl Cluster {
    /// Starts all nodes; whether they have joined is another matter.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(config: &ClusterConfig<'_>) -> Result<Self, StartClusterError> {
        let directory = tempfile::Builder::new()
            .prefix("detour-cluster-")
            .tempdir()
            .map_err(StartClusterError::Prepare)?;
        let names: Vec<String> = (1..=config.nodes).map(|number| format!("node{number}")).collect();
        let homes: Vec<PathBuf> = names.iter().map(|name| directory.path().join(name)).collect();
        let addresses = match config.influence {
            Some(_) => mesh_addresses(config.binary, &homes)?,
            None => Vec::new(),
        };
        let mut cluster = Self {
            nodes: Vec::with_capacity(config.nodes),
            relays: Vec::new(),
            _directory: directory,
        };
        for (index, (name, home)) in names.iter().zip(homes).enumerate() {
            let mut peers: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let own = (index < peers.len()).then(|| peers.remove(index));
            let peers = cluster.ways_to(&peers, config.is_relayed).await?;
            let text = node_text(config, name, own, &peers);
            fs::create_dir_all(&home).map_err(StartClusterError::Prepare)?;
            let (process, events) = start(name, config.binary, &text, &home).await?;
            cluster.nodes.push(ClusterNode {
                name: name.as_str().into(),
                binary: config.binary.to_owned(),
                directory: home,
                config: text,
                mesh_address: addresses.get(index).cloned(),
                process: Some(process),
                events,
            });
        }
        Ok(cluster)
    }

    /// Where peers at these addresses are dialled.
    async fn ways_to(&mut self, peers: &[&str], is_relayed: bool) -> Result<Vec<String>, StartClusterError> {
        let mut ways = Vec::with_capacity(peers.len());
        for peer in peers {
            let Some((port, id)) = port_and_id(peer).filter(|_| is_relayed) else {
                ways.push((*peer).to_owned());
                continue;
            };
            let relay = Relay::start(([127, 0, 0, 1], port).into()).await;
            let relay = relay.map_err(StartClusterError::Prepare)?;
            ways.push(format!("{}/p2p/{id}", listen_address(relay.address().port())));
            self.relays.push(relay);
        }
        Ok(ways)
    }

    /// Bytes that passed between nodes through relays so far, both ways, headers of IP and UDP included.
    #[must_use]
    pub fn mesh_bytes(&self) -> u64 {
        self.relays.iter().map(Relay::bytes).sum()
    }

    /// Waits until every node is connected to every other.
    ///
    /// # Errors
    /// When that is not so in time.
    pub async fn await_joined(&self, patience: Duration) -> Result<(), StartClusterError> {
        let wanted = self.nodes.len().saturating_sub(1);
        let deadline = clock::now() + patience;
        for node in &self.nodes {
            loop {
                let connected = node.connected().await;
                if connected >= wanted {
                    break;
                }
                if clock::now() > deadline {
                    return Err(StartClusterError::Apart {
                        node: node.name.clone(),
                        connected,
                        wanted,
                        waited: patience,
                    });
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Ends all nodes in order and removes their directory. True: each ended by itself, with exit code 0.
    pub async fn stop(mut self) -> bool {
        let mut in_order = true;
        for process in self.nodes.iter_mut().filter_map(|node| node.process.take()) {
            in_order &= process.stop().await;
        }
        in_order
    }
}

async fn start(
    name: &str,
    binary: &Path,
    config: &str,
    directory: &Path,
) -> Result<(NodeProcess, EventLog), StartClusterError> {
    let process = NodeProcess::start(binary, config, directory).await;
    let process = process.map_err(|source| StartClusterError::Node {
        node: name.into(),
        source,
    })?;
    let events = EventLog::open(&directory.join(LOG_FILE)).map_err(StartClusterError::Prepare)?;
    Ok((process, events))
}

/// Whom each node will be: makes an identity in each directory, and takes a port for each.
fn mesh_addresses(binary: &Path, homes: &[PathBuf]) -> Result<Vec<String>, StartClusterError> {
    let ports = free_ports(homes.len()).map_err(StartClusterError::Prepare)?;
    let identities = homes.iter().map(|home| identity(binary, &home.join(STATE_DIRECTORY)));
    let identities = identities.collect::<Result<Vec<_>, _>>()?;
    let addresses = ports.iter().zip(identities);
    Ok(addresses
        .map(|(port, peer)| format!("{}/p2p/{peer}", listen_address(*port)))
        .collect())
}

fn listen_address(port: u16) -> String {
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
}

/// UDP ports of loopback that are free and differ.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let sockets = (0..count).map(|_| UdpSocket::bind(("127.0.0.1", 0)));
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

/// Makes an identity in this state directory, or finds the one there; its peer id.
///
/// # Errors
/// When the binary says none.
pub fn identity(binary: &Path, state: &Path) -> Result<String, StartClusterError> {
    fs::create_dir_all(state).map_err(StartClusterError::Prepare)?;
    let mut command = Command::new(binary);
    command
        .args(["id", "--json", "--state-dir"])
        .arg(state)
        .stdin(Stdio::null());
    let Output { stdout, stderr, .. } = command.output().map_err(StartClusterError::Prepare)?;
    let peer = serde_json::from_slice::<Value>(&stdout).ok();
    let peer = peer.and_then(|said| said.get("peer_id")?.as_str().map(str::to_owned));
    peer.ok_or_else(|| StartClusterError::Identity {
        binary: binary.to_owned(),
        said: String::from_utf8_lossy(&stderr).trim().into(),
    })
}

/// The port and the peer id of an address that [`listen_address`] began.
fn port_and_id(address: &str) -> Option<(u16, &str)> {
    let (listen, id) = address.split_once("/p2p/")?;
    let port = listen.split('/').nth(4)?;
    Some((port.parse().ok()?, id))
}

/// The config of a node that peers reach at `own` and that dials `peers`.
fn node_text(config: &ClusterConfig<'_>, name: &str, own: Option<&str>, peers: &[String]) -> String {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut text = node_config(any, any, &config.providers);
    text.push_str("\n[log]\nformat = \"json\"\n");
    let (Some(influence), Some(own)) = (config.influence, own) else {
        return text;
    };
    let listen = own.split("/p2p/").next().unwrap_or_default();
    let peers = peers.iter().chain(&config.strangers);
    let peers: Vec<String> = peers.map(|address| format!("    \"{address}\",\n")).collect();
    text.push_str(&format!(
        "\n[mesh]\ncluster = \"{CLUSTER}\"\nsite = \"site-of-{name}\"\ninfluence = \"{influence}\"\n\
         listen = [\"{listen}\"]\npeers = [\n{}]\n",
        peers.concat()
    ));
    text
}

/// Peers that are connected, by `/api/v1/peers`.
fn connected(peers: &Value) -> usize {
    let list = peers.as_array().or_else(|| peers.get("peers")?.as_array());
    let is_connected = |peer: &&Value| peer.get("state").and_then(Value::as_str) == Some("connected");
    list.map_or(0, |list| list.iter().filter(is_connected).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn config<'a>(binary: &'a Path, influence: Option<&'a str>) -> ClusterConfig<'a> {
        ClusterConfig {
            binary,
            nodes: 2,
            providers: vec!["[[provider]]\nname = \"a\"\n".to_owned()],
            influence,
            strangers: vec!["/ip4/127.0.0.1/udp/9/quic-v1/p2p/X".to_owned()],
            is_relayed: true,
        }
    }

    #[test]
    fn each_config_names_the_others() {
        let config = config(Path::new("/bin/false"), Some("full"));
        let [other, own] = [1, 2].map(|port| format!("{}/p2p/P{port}", listen_address(port)));
        assert_eq!(port_and_id(&own), Some((2, "P2")));
        let text = node_text(&config, "node2", Some(&own), &[other]);
        let mesh = "[mesh]\ncluster = \"rig\"\nsite = \"site-of-node2\"\ninfluence = \"full\"\n\
                    listen = [\"/ip4/127.0.0.1/udp/2/quic-v1\"]\npeers = [\n    \"/ip4/127.0.0.1/udp/1/quic-v1/p2p/P1\",\n    \
                    \"/ip4/127.0.0.1/udp/9/quic-v1/p2p/X\",\n]\n";
        assert!(text.ends_with(mesh), "{text}");
        assert!(!node_text(&config, "node2", None, &[]).contains("[mesh]"));
    }

    #[test]
    fn peers_are_counted_that_are_connected() {
        let list = serde_json::json!([{"state": "connected"}, {"state": "refused"}, {"state": "connected"}]);
        assert_eq!(connected(&list), 2);
        assert_eq!(connected(&serde_json::json!({ "peers": list })), 2);
        assert_eq!(connected(&serde_json::json!({"error": "no mesh"})), 0);
    }

    #[tokio::test]
    async fn nodes_are_killed_started_again_and_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("node.sh");
        let body = "#!/bin/sh\n[ \"$1\" = id ] && { echo '{\"peer_id\": \"P\"}'; exit 0; }\n\
                    echo listening dns 127.0.0.1:1001\necho listening admin 127.0.0.1:1002\nread -r line\nexit 0\n";
        fs::write(&binary, body).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let mut cluster = Cluster::start(&config(&binary, Some("full"))).await.unwrap();
        let home = cluster.nodes[0].directory().to_owned();
        assert!(cluster.nodes[0].mesh_address().unwrap().ends_with("/p2p/P"));
        cluster.nodes[0].kill();
        assert!(!cluster.nodes[0].is_running());
        cluster.nodes[0].start_again().await.unwrap();
        assert!(cluster.nodes[0].is_running());
        assert!(cluster.stop().await);
        assert!(!home.exists());
    }
}
