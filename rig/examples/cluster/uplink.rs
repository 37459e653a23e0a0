//! A node whose own way to all providers breaks must not move anybody else.

use std::path::PathBuf;
use std::time::Duration;

use detour_rig::clock;
use detour_rig::events::What;
use detour_rig::stall::StallMeter;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::finding::{Finding, micros, ms};
use crate::world::{Setup, World, WorldError};

/// Nodes; the last one's way breaks.
const NODES: usize = 3;
/// Names per second at each node.
const RATE: u32 = 30;
/// Before the way breaks.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long it is broken.
const BROKEN: Duration = Duration::from_secs(12);
/// How long its return is watched.
const AFTER: Duration = Duration::from_secs(8);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Uplink {
    pub(crate) binary: PathBuf,
    pub(crate) runs: usize,
    /// One provider after the other, a second apart, instead of all at once.
    pub(crate) is_gradual: bool,
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    /// Changes of a place or a state at the other nodes.
    moved: usize,
    /// Client queries hurt there.
    hurt: usize,
    /// Runs in which the node itself said that its uplink is suspect.
    known: usize,
    /// `down` states of the node itself: what it would tell others.
    downs: usize,
    stall_us: u64,
}

impl Uplink {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Finding, WorldError> {
        let mut seen = Seen::default();
        for _ in 0..self.runs {
            self.one(&mut seen).await?;
        }
        let Seen {
            moved,
            hurt,
            known,
            downs,
            stall_us,
        } = seen;
        let manner = if self.is_gradual {
            "one after the other"
        } else {
            "at once"
        };
        Ok(Finding {
            figure: "uplink",
            setting: format!("{NODES} nodes, {manner}"),
            seen: format!(
                "{} runs: {moved} changes at peers, {hurt} hurt there; the node knew in {known}, and called {downs} down; \
                 stall {} ms",
                self.runs,
                ms(stall_us)
            ),
            json: json!({ "runs": self.runs, "moved": moved, "hurt": hurt, "known": known, "downs": downs, "stall_us": stall_us }),
            goal: "no peer changes any place",
            is_reached: Some(moved == 0),
        })
    }

    async fn one(&self, seen: &mut Seen) -> Result<(), WorldError> {
        let mut world = World::start(&Setup::new(&self.binary, NODES)).await?;
        let loads = (0..NODES)
            .map(|node| world.keep_asking(node, RATE))
            .collect::<Result<Vec<_>, _>>()?;
        sleep(WARM_UP).await;
        world.until_all_well(WARM_UP).await?;
        let last = world.cluster.nodes.last();
        let process = last.and_then(|node| Some(node.process()?.id()));
        let (since_us, stall) = (clock::boot_us(), StallMeter::start());
        for fake in &world.fakes {
            fake.cut_off(process);
            if self.is_gradual {
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(BROKEN).await;
        let status = match world.cluster.nodes.last() {
            Some(node) => node.get("/api/v1/status").await.unwrap_or_default(),
            None => Value::Null,
        };
        let is_known = status.get("uplink_suspect").and_then(Value::as_array);
        seen.known += usize::from(is_known.is_some_and(|paths| !paths.is_empty()));
        world.fakes.iter().for_each(|fake| fake.cut_off(None));
        sleep(AFTER).await;
        seen.stall_us = seen.stall_us.max(micros(stall.finish().await));
        for node in 0..NODES - 1 {
            seen.moved += world.events_since(node, since_us).count();
        }
        let own = world.events_since(NODES - 1, since_us);
        seen.downs += own
            .filter(|event| matches!(&event.what, What::State { to, .. } if &**to == "down"))
            .count();
        loads.iter().for_each(detour_rig::Load::stop);
        for (node, load) in loads.into_iter().enumerate() {
            let hurt = load.finish().await?.summary(None).hurt();
            seen.hurt += if node < NODES - 1 { hurt } else { 0 };
        }
        world.end().await;
        Ok(())
    }
}
