//! From the first node's `down` to each idle node's change of place, and what idle nodes ask after that.
//!
//! One node works, all others have asked a few names and are silent. Providers fail one after the other, at an instant
//! that has nothing to do with any timer; a cluster sees each fail once, because a second fall is held down longer and
//! would be another measurement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use detour_rig::random::Random;
use detour_rig::stall::StallMeter;
use detour_rig::{Event, Fault};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::finding::{Finding, Spread, micros, ms};
use crate::world::{PROVIDERS, Setup, World, WorldError};

/// Names per second at the working node.
const RATE: u32 = 300;
/// Before the first onset: the working node is to know how fast answers are.
const WARM_UP: Duration = Duration::from_secs(2);
/// What idle nodes ask before an onset: 9 names.
const FEW: (u32, Duration) = (30, Duration::from_millis(300));
/// What they ask after it: 40 names.
const MANY: (u32, Duration) = (200, Duration::from_millis(200));
/// How long nobody asks idle nodes before an onset, and at most so much longer.
const SILENCE: Duration = Duration::from_millis(1_200);
const JITTER_MS: u64 = 500;
/// How long the first `down` may take.
const DOWN_PATIENCE: Duration = Duration::from_secs(8);
/// How long after it idle nodes are given.
const TOLD_PATIENCE: Duration = Duration::from_secs(2);
/// How long a provider that is well again may be avoided.
const RETURN_PATIENCE: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Onsets {
    pub(crate) binary: PathBuf,
    pub(crate) nodes: usize,
    pub(crate) influence: &'static str,
    pub(crate) onsets: usize,
    /// Clusters at the same time.
    pub(crate) side_by_side: usize,
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    onsets: usize,
    /// From the first `down` to each idle node's place.
    told_us: Vec<u64>,
    /// From the fault to the first `down`.
    down_us: Vec<u64>,
    /// Idle nodes that stayed.
    stayed: usize,
    /// Client queries of idle nodes after that, and those of them to the dead provider.
    asked: u64,
    asked_dead: u64,
    hurt: usize,
    stall_us: u64,
}

impl Onsets {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Finding, WorldError> {
        let clusters = self.onsets.div_ceil(PROVIDERS);
        let (mut running, mut total, mut begun) = (JoinSet::new(), Seen::default(), 0);
        loop {
            while begun < clusters && running.len() < self.side_by_side.max(1) {
                let (nodes, influence, binary) = (self.nodes, self.influence, self.binary.clone());
                let number = u64::try_from(begun).unwrap_or(0);
                running.spawn(async move { one_cluster(&binary, nodes, influence, number).await });
                begun += 1;
            }
            let Some(seen) = running.join_next().await else {
                break;
            };
            total.add(seen??);
        }
        Ok(self.finding(&total))
    }

    fn finding(&self, seen: &Seen) -> Finding {
        let spread = Spread::of(seen.told_us.clone());
        let downs = Spread::of(seen.down_us.clone());
        let is_told = self.influence == "full";
        let is_reached = if is_told {
            spread.p95_us <= 250_000 && seen.stayed == 0 && seen.asked_dead == 0
        } else {
            seen.told_us.is_empty() && seen.asked_dead > 0
        };
        let Seen {
            onsets,
            stayed,
            asked,
            asked_dead,
            hurt,
            stall_us,
            ..
        } = seen;
        Finding {
            figure: "onsets",
            setting: format!("{} nodes, influence {}", self.nodes, self.influence),
            seen: format!(
                "{onsets} onsets, {}; {stayed} stayed; {asked_dead} of {asked} queries to the dead; {hurt} hurt; down after \
                 p50 {} max {} ms; stall {} ms",
                spread.text(),
                ms(downs.p50_us),
                ms(downs.max_us),
                ms(*stall_us)
            ),
            json: json!({
                "onsets": onsets, "told": spread.json(), "down": downs.json(), "stayed": stayed, "asked": asked,
                "asked_dead": asked_dead, "hurt": hurt, "stall_us": stall_us,
            }),
            goal: if is_told {
                "p95 250 ms, 0 queries to the dead"
            } else {
                "nobody leaves"
            },
            is_reached: Some(is_reached),
        }
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.onsets += other.onsets;
        self.told_us.extend(other.told_us);
        self.down_us.extend(other.down_us);
        self.stayed += other.stayed;
        self.asked += other.asked;
        self.asked_dead += other.asked_dead;
        self.hurt += other.hurt;
        self.stall_us = self.stall_us.max(other.stall_us);
    }
}

async fn one_cluster(binary: &Path, nodes: usize, influence: &str, number: u64) -> Result<Seen, WorldError> {
    let setup = Setup {
        influence,
        ..Setup::new(binary, nodes)
    };
    let mut world = World::start(&setup).await?;
    let mut random = Random::new(number);
    let load = world.keep_asking(0, RATE)?;
    sleep(WARM_UP).await;
    let mut seen = Seen::default();
    let first = usize::try_from(number).unwrap_or(0);
    for turn in 0..PROVIDERS {
        let victim = (first + turn) % PROVIDERS;
        one_onset(&mut world, victim, influence == "full", &mut random, &mut seen).await?;
    }
    load.stop();
    seen.hurt += load.finish().await?.summary(None).hurt();
    world.end().await;
    Ok(seen)
}

async fn one_onset(
    world: &mut World,
    victim: usize,
    is_told: bool,
    random: &mut Random,
    seen: &mut Seen,
) -> Result<(), WorldError> {
    let nodes = world.cluster.nodes.len();
    for node in 1..nodes {
        world.ask_out(node, FEW.0, FEW.1).await?;
    }
    world.until_all_well(RETURN_PATIENCE).await?;
    sleep(SILENCE + Duration::from_millis(random.below(JITTER_MS))).await;
    let stall = StallMeter::start();
    let fault_us = world.set_fault(victim, Fault::Blackhole);

    let mut down_us = None;
    let is_down = |world: &mut World| {
        let downs =
            (0..nodes).filter_map(|node| world.first_us(node, victim, fault_us, |event| event.is_state("down")));
        down_us = downs.collect::<Vec<_>>().into_iter().min();
        down_us.is_some()
    };
    if !world.until(DOWN_PATIENCE, is_down).await {
        return Err(WorldError::Late {
            what: "a node calls the dead provider down".to_owned(),
            patience: DOWN_PATIENCE,
        });
    }
    let first_down = down_us.unwrap_or(fault_us);
    let left = |world: &mut World, node| world.first_us(node, victim, fault_us, Event::is_leaving);
    let all_left = |world: &mut World| (1..nodes).all(|node| left(world, node).is_some());
    world.until(TOLD_PATIENCE, all_left).await;
    seen.stall_us = seen.stall_us.max(micros(stall.finish().await));
    seen.onsets += 1;
    seen.down_us.push(first_down.saturating_sub(fault_us));
    for node in 1..nodes {
        match left(world, node) {
            Some(at_us) => seen.told_us.push(at_us.saturating_sub(first_down)),
            None => seen.stayed += usize::from(is_told),
        }
    }
    for node in 1..nodes {
        let (ledger, seed) = world.ask_out(node, MANY.0, MANY.1).await?;
        seen.asked += u64::try_from(ledger.records.len()).unwrap_or(0);
        seen.asked_dead += world.asked(victim, seed);
        seen.hurt += ledger.summary(None).hurt();
    }
    world.set_fault(victim, Fault::None);
    world.until_all_well(RETURN_PATIENCE).await
}
