//! What a node costs that nobody asks: CPU, memory, and what the mesh sends.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::finding::Finding;
use crate::world::{Setup, World, WorldError};

/// Nodes: each has three peers.
const NODES: usize = 4;
/// After the start, before it is measured.
const SETTLE: Duration = Duration::from_secs(10);
/// Clock ticks per second of /proc: 100 on every Linux that matters (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;
/// The promises: of a core, per thousand and a tenth of it; kilobytes; bytes per second.
const CPU_PER_MYRIAD: u64 = 50;
const MEMORY_KB: u64 = 40_000;
const BYTES_PER_SECOND: u64 = 2_000;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Idle {
    pub(crate) binary: PathBuf,
    pub(crate) duration: Duration,
}

impl Idle {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Finding, WorldError> {
        let setup = Setup {
            is_relayed: true,
            ..Setup::new(&self.binary, NODES)
        };
        let world = World::start(&setup).await?;
        sleep(SETTLE).await;
        let (ticks, bytes) = (ticks(&world)?, world.cluster.mesh_bytes());
        sleep(self.duration).await;
        let seconds = self.duration.as_secs().max(1);
        let spent = self::ticks(&world)?.into_iter().zip(ticks);
        let spent = spent
            .map(|(after, before)| after.saturating_sub(before))
            .max()
            .unwrap_or(0);
        let cpu_per_myriad = spent * 10_000 / (TICKS_PER_SECOND * seconds);
        let memory = world
            .cluster
            .nodes
            .iter()
            .map(|node| memory_kb(node.process().map_or(0, detour_rig::NodeProcess::id)));
        let memory_kb = memory.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
        // What passes a relay is sent by one node and received by another: it counts at both.
        let nodes = u64::try_from(NODES).unwrap_or(1);
        let bytes = world.cluster.mesh_bytes().saturating_sub(bytes) * 2 / nodes / seconds;
        world.end().await;
        let is_reached = cpu_per_myriad <= CPU_PER_MYRIAD && memory_kb <= MEMORY_KB && bytes <= BYTES_PER_SECOND;
        Ok(Finding {
            figure: "idle",
            setting: format!("3 peers, {seconds} s"),
            seen: format!(
                "{}.{:02} % of a core, {} MB, {bytes} bytes/s sent and received",
                cpu_per_myriad / 100,
                cpu_per_myriad % 100,
                memory_kb / 1_000
            ),
            json: json!({ "cpu_per_myriad": cpu_per_myriad, "memory_kb": memory_kb, "bytes_per_second": bytes }),
            goal: "0.5 % of a core, 40 MB, 2 kB/s",
            is_reached: Some(is_reached),
        })
    }
}

/// CPU time of each node so far: proc(5), /proc/PID/stat, utime and stime.
fn ticks(world: &World) -> Result<Vec<u64>, WorldError> {
    let nodes = world.cluster.nodes.iter().filter_map(|node| Some(node.process()?.id()));
    let of = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        let stat = stat.map_err(|source| WorldError::System("/proc/PID/stat", source))?;
        // The name in brackets may hold anything; fields are counted from behind it.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let fields = rest.split_whitespace().skip(11).take(2);
        Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
    };
    nodes.map(of).collect()
}

/// Resident memory of a process: proc(5), /proc/PID/status.
fn memory_kb(id: u32) -> Result<u64, WorldError> {
    let status = fs::read_to_string(format!("/proc/{id}/status"));
    let status = status.map_err(|source| WorldError::System("/proc/PID/status", source))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}
