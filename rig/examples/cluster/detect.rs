//! From the first lost query to the first node's `down`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use detour_rig::random::Random;
use detour_rig::{Fault, Law};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::finding::{Finding, Spread, ms};
use crate::world::{PROVIDERS, Setup, World, WorldError};

/// Nodes; one works, the others look on.
const NODES: usize = 3;
/// How long a `down` may take.
const PATIENCE: Duration = Duration::from_secs(20);
const JITTER_MS: u64 = 1_000;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Detect {
    pub(crate) binary: PathBuf,
    pub(crate) rate: u32,
    pub(crate) law: Law,
    pub(crate) runs: usize,
    /// Clusters at the same time.
    pub(crate) side_by_side: usize,
}

/// Of one run, in microseconds: from the first lost query, and from the fault.
type Times = (u64, u64);

impl Detect {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Finding, WorldError> {
        let (mut running, mut begun, mut times) = (JoinSet::new(), 0, Vec::new());
        loop {
            while begun < self.runs && running.len() < self.side_by_side.max(1) {
                let (binary, rate, law) = (self.binary.clone(), self.rate, self.law);
                running.spawn(async move { one(&binary, rate, law, begun).await });
                begun += 1;
            }
            let Some(done) = running.join_next().await else {
                break;
            };
            times.push(done??);
        }
        let from_lost = Spread::of(times.iter().map(|(lost_us, _)| *lost_us).collect());
        let from_fault = Spread::of(times.iter().map(|(_, fault_us)| *fault_us).collect());
        let (limit_us, goal) = match self.law {
            Law::Flat(_) => (1_000_000, "1 s"),
            Law::Bimodal => (2_000_000, "2 s"),
        };
        Ok(Finding {
            figure: "detect",
            setting: format!("{} names/s, {}", self.rate, self.law),
            seen: format!("{}; from the fault max {} ms", from_lost.text(), ms(from_fault.max_us)),
            json: json!({ "from_first_lost": from_lost.json(), "from_fault": from_fault.json() }),
            goal,
            // To the hundredth of a second: both ends are stamped by different processes.
            is_reached: Some(from_lost.max_us < limit_us + 10_000),
        })
    }
}

async fn one(binary: &Path, rate: u32, law: Law, run: usize) -> Result<Times, WorldError> {
    let setup = Setup {
        law,
        ..Setup::new(binary, NODES)
    };
    let mut world = World::start(&setup).await?;
    let load = world.keep_asking(0, rate)?;
    // Until a node knows how long answers take, it waits longer for them: 32 of each provider, and some seconds.
    let known = Duration::from_secs(u64::from(100 * 3 / rate.max(1)).max(5));
    let mut random = Random::new(u64::try_from(run).unwrap_or(0));
    sleep(known + Duration::from_millis(random.below(JITTER_MS))).await;
    let victim = run % PROVIDERS;
    let fault_us = world.set_fault(victim, Fault::Blackhole);
    let mut down_us = None;
    let is_down = |world: &mut World| {
        down_us = world.first_us(0, victim, fault_us, |event| event.is_state("down"));
        down_us.is_some()
    };
    if !world.until(PATIENCE, is_down).await {
        return Err(WorldError::Late {
            what: format!("the dead provider is down, at {rate} names/s"),
            patience: PATIENCE,
        });
    }
    let lost_us = world.fakes.get(victim).and_then(detour_rig::Fake::first_asked_us);
    let (down_us, lost_us) = (down_us.unwrap_or(fault_us), lost_us.unwrap_or(fault_us));
    load.stop();
    load.finish().await?;
    world.end().await;
    Ok((down_us.saturating_sub(lost_us), down_us.saturating_sub(fault_us)))
}
