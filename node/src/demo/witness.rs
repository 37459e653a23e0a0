//! What the silent node itself says of the dead provider: what moved its place, and what confirmed it.

use std::net::SocketAddr;

use serde_json::Value;

use super::run::Victim;
use super::times::{NodeTimes, span};
use super::watch::Watch;
use crate::admin::client::get;
use detour_rig::events::What;

/// A name nobody asked, for `explain`.
const NAME: &str = "waking.alder-lane.com";

/// Pages of the silent node's admin interface; null where there was none.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    /// Its entry for the provider in `/api/v1/providers`.
    pub(super) provider: Value,
    /// `/api/v1/explain` of a new name.
    pub(super) explain: Value,
}

/// Asks the node.
pub(super) async fn ask(admin: SocketAddr, provider: &str) -> Words {
    let providers = page(admin, "/api/v1/providers").await;
    let is_own = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some(provider);
    let own = providers.as_array().and_then(|all| all.iter().find(is_own));
    Words {
        provider: own.cloned().unwrap_or_default(),
        explain: page(admin, &format!("/api/v1/explain?name={NAME}")).await,
    }
}

async fn page(admin: SocketAddr, path: &str) -> Value {
    let answer = get(admin, path).await.ok();
    answer
        .and_then(|answer| serde_json::from_slice(&answer.body).ok())
        .unwrap_or_default()
}

/// The story of the silent node, the last one, in sentences.
pub(super) fn sentences(watch: &Watch, victim: &Victim, nodes: &[NodeTimes], words: &Words) -> Vec<String> {
    let Victim {
        name: victim,
        endpoint,
        fault_us,
        ..
    } = victim;
    let Some((silent, busy)) = nodes.split_last() else {
        return Vec::new();
    };
    let mut said = Vec::new();
    let downs = busy
        .iter()
        .zip(1..)
        .filter_map(|(times, number)| Some((times.down_us?, number)));
    if let Some((down_us, number)) = downs.min() {
        said.push(format!(
            "{} after the fault node{number} called {victim} down.",
            span(down_us)
        ));
    }
    let Some(left_us) = silent.left_us else {
        said.push(format!(
            "node{} had not heard of it: {victim} was as good as any to it.",
            nodes.len()
        ));
        return said;
    };
    let events = watch.events_of(busy.len());
    let own = events
        .iter()
        .filter(|event| *event.endpoint == **endpoint && event.at_us >= *fault_us);
    for event in own.take_while(|event| event.at_us.saturating_sub(*fault_us) <= left_us.saturating_add(3_000_000)) {
        let after = span(event.at_us.saturating_sub(*fault_us));
        said.push(match &event.what {
            What::Place { place, why, .. } => format!("{after}: node{} put it {place} ({why}).", nodes.len()),
            What::State { to, cause, .. } => format!("{after}: its own probe made it {to} ({cause})."),
        });
    }
    said.extend(explained(words, victim));
    said
}

/// Why it is not the first choice, in the node's own words.
fn explained(words: &Words, victim: &str) -> Option<String> {
    let skipped = words.explain.get("skipped")?.as_array()?;
    let is_own = |entry: &&Value| entry.get("provider").and_then(Value::as_str) == Some(victim);
    let reason = skipped.iter().find(is_own)?.get("reason")?.as_str()?;
    Some(format!(
        "`detour explain` there: {victim} is not the first choice: {reason}."
    ))
}
