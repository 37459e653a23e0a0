//! Cached answers of a node while one of its admitted peers stalls, floods, forges or sends garbage.
//!
//! The same names again and again, so that no provider takes part; their tail without the peer before and after says
//! what the machine itself does. The peer is an example of detour-mesh and a process of its own: on a machine with two
//! cores it takes one of them, which is part of what is seen.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use detour_rig::cluster::{CLUSTER, identity};
use detour_rig::ledger::Percentiles;
use detour_rig::{FreshNames, Load, LoadConfig, Summary};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::finding::{Finding, micros, ms};
use crate::world::{Setup, World, WorldError};

/// Nodes besides the peer.
const NODES: usize = 2;
/// Cached names, and how often one is asked.
const NAMES: u64 = 100;
const RATE: u32 = 500;
/// How long each is measured, and how long a peer misbehaves before.
const MEASURED: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(2);
/// What the tail may grow by: a slice of the scheduler on a machine that is full.
const TOLERANCE_US: u64 = 5_000;
/// What the peer does.
const MODES: [&str; 4] = ["stall", "flood", "forge", "garbage"];

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    pub(crate) binary: PathBuf,
    /// The peer's binary.
    pub(crate) peer: PathBuf,
}

/// A child that is gone with its value.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Both can only fail when it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Hostile {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Vec<Finding>, WorldError> {
        let system = |source| WorldError::System("a directory for the peer", source);
        let home = tempfile::tempdir().map_err(system)?;
        let id = identity(&self.binary, home.path())?;
        let setup = Setup {
            strangers: vec![format!("/ip4/127.0.0.1/udp/9/quic-v1/p2p/{id}")],
            ..Setup::new(&self.binary, NODES)
        };
        let world = World::start(&setup).await?;
        cached(&world).await?;
        let calm = cached(&world).await?;
        let mut found = vec![finding("nobody misbehaves", &calm, None, "")];
        for mode in MODES {
            let peer = self.start(mode, &home, &world)?;
            sleep(SETTLE).await;
            let seen = cached(&world).await?;
            drop(peer);
            let did = fs::read_to_string(home.path().join(format!("{mode}.log"))).map_err(system)?;
            found.push(finding(
                mode,
                &seen,
                Some(calm.latency),
                did.lines().last().unwrap_or_default(),
            ));
            sleep(SETTLE).await;
        }
        world.end().await;
        Ok(found)
    }

    fn start(&self, mode: &str, home: &TempDir, world: &World) -> Result<Peer, WorldError> {
        let system = |source| WorldError::System("the peer's binary", source);
        let address = world.cluster.nodes.first().and_then(|node| node.mesh_address());
        let log = File::create(home.path().join(format!("{mode}.log"))).map_err(system)?;
        let mut command = Command::new(&self.peer);
        command
            .arg(mode)
            .arg(home.path())
            .arg(CLUSTER)
            .arg(address.unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().map(Peer).map_err(system)
    }
}

/// Asks the first node for what it knows.
async fn cached(world: &World) -> Result<Summary, WorldError> {
    let nowhere = ([127, 0, 0, 1], 0).into();
    let dns = world
        .cluster
        .nodes
        .first()
        .map_or(nowhere, detour_rig::ClusterNode::dns);
    let names = FreshNames {
        cycle: NAMES,
        ..FreshNames::default()
    };
    let config = LoadConfig::new(dns, RATE, MEASURED);
    let load = Load::start(LoadConfig { names, ..config })?;
    Ok(load.finish().await?.summary(None))
}

fn finding(mode: &str, seen: &Summary, calm: Option<Percentiles>, did: &str) -> Finding {
    let Percentiles { p50, p99, max } = seen.latency;
    let hurt = seen.hurt();
    let is_same = |calm: Percentiles| micros(p99) <= micros(calm.p99) + TOLERANCE_US && hurt == 0;
    Finding {
        figure: "hostile",
        setting: mode.to_owned(),
        seen: format!(
            "{} cached answers: p50 {} p99 {} max {} ms; {hurt} hurt; stall {} ms; peer: {}",
            seen.total,
            ms(micros(p50)),
            ms(micros(p99)),
            ms(micros(max)),
            ms(micros(seen.stall)),
            if did.is_empty() { "none" } else { did }
        ),
        json: json!({
            "answers": seen.total, "p50_us": micros(p50), "p99_us": micros(p99), "max_us": micros(max), "hurt": hurt,
            "stall_us": micros(seen.stall), "peer": did,
        }),
        goal: "p99 unchanged",
        is_reached: calm.map(is_same),
    }
}
