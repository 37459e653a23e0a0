//! A node that is killed and comes back under its identity: how soon it hears others, and others hear it.

use std::path::PathBuf;
use std::time::Duration;

use detour_rig::clock;
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until};

use crate::finding::{Finding, Spread, micros};
use crate::world::{Setup, World, WorldError};

/// Nodes; the last one is killed.
const NODES: usize = 3;
/// From the first kill to the second.
const BETWEEN: Duration = Duration::from_secs(4);
/// How long reports may take to flow.
const PATIENCE: Duration = Duration::from_secs(20);
/// The promise.
const LIMIT_US: u64 = 10_000_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    pub(crate) binary: PathBuf,
    pub(crate) runs: usize,
}

impl Restart {
    /// Measures.
    pub(crate) async fn run(self) -> Result<Finding, WorldError> {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let mut world = World::start(&Setup::new(&self.binary, NODES)).await?;
            sleep(Duration::from_secs(1)).await;
            let first_at = clock::now();
            once.push(restart(&mut world).await?);
            sleep_until(first_at + BETWEEN).await;
            twice.push(restart(&mut world).await?);
            world.end().await;
        }
        let (once, twice) = (Spread::of(once), Spread::of(twice));
        Ok(Finding {
            figure: "restart",
            setting: format!("{NODES} nodes, kill -9, twice within 5 s"),
            seen: format!("first {}; second {}", once.text(), twice.text()),
            json: json!({ "first": once.json(), "second": twice.json() }),
            goal: "reports flow both ways within 10 s",
            is_reached: Some(once.max_us.max(twice.max_us) <= LIMIT_US),
        })
    }
}

/// Kills the last node and starts it again; from the kill until reports of its new life are everywhere and it has
/// everybody's, microseconds.
async fn restart(world: &mut World) -> Result<u64, WorldError> {
    let Some(last) = world.cluster.nodes.last_mut() else {
        return Ok(0);
    };
    let killed_at = clock::now();
    last.kill();
    last.start_again().await?;
    loop {
        if flows_both_ways(world).await {
            return Ok(micros(clock::now().saturating_duration_since(killed_at)));
        }
        if clock::now() > killed_at + PATIENCE {
            return Err(WorldError::Late {
                what: "reports flow both ways".to_owned(),
                patience: PATIENCE,
            });
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn flows_both_ways(world: &World) -> bool {
    let Some((last, others)) = world.cluster.nodes.split_last() else {
        return false;
    };
    let own = last.get("/api/v1/peers").await.unwrap_or_default();
    let (Some(id), Some(boot)) = (text(&own, &["own", "peer_id"]), text(&own, &["own", "boot"])) else {
        return false;
    };
    if peers(&own).filter(|peer| is_fresh(peer)).count() < others.len() {
        return false;
    }
    for node in others {
        let view = node.get("/api/v1/peers").await.unwrap_or_default();
        let is_heard = |peer: &Value| {
            text(peer, &["peer_id"]) == Some(id) && text(peer, &["boot"]) == Some(boot) && is_fresh(peer)
        };
        if !peers(&view).any(is_heard) {
            return false;
        }
    }
    true
}

fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

fn peers(view: &Value) -> impl Iterator<Item = &Value> {
    view.get("peers").and_then(Value::as_array).into_iter().flatten()
}

/// Whether there is a report of its that counts, of the life that is connected.
fn is_fresh(peer: &Value) -> bool {
    let is_fresh = peer.get("fresh").and_then(Value::as_bool).unwrap_or(false);
    is_fresh && text(peer, &["state"]) == Some("connected")
}
