//! What the silent node itself says of the dead provider: what moved its place, and what confirmed it.

use std::net::SocketAddr;

use detour_rig::ClusterNode;
use detour_rig::events::What;
use serde_json::Value;

use super::run::Victim;
use super::times::{NodeTimes, span};
use super::watch::Watch;
use crate::admin::claims::short;
use crate::admin::client::get;
use crate::admin::explain::Explanation;

/// A name nobody asked, for `explain`.
const NAME: &str = "waking.alder-lane.com";
/// What a place that peers moved is reasoned with.
const REPORTED: &str = "reported";
/// How long after it left a provider what a node then found out belongs to that.
const STORY_US: u64 = 3_000_000;

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
pub(super) fn sentences(
    watch: &Watch,
    cluster: &[ClusterNode],
    victim: &Victim,
    nodes: &[NodeTimes],
    words: &Words,
) -> Vec<String> {
    let Some((silent, busy)) = nodes.split_last() else {
        return Vec::new();
    };
    let (name, number) = (victim.name, nodes.len());
    let mut said = Vec::new();
    let downs = busy.iter().zip(1..);
    let downs = downs.filter_map(|(times, number)| Some((times.down_us?, number)));
    if let Some((down_us, first)) = downs.min() {
        let after = span(down_us);
        said.push(format!("{after} after the fault node{first} was sure: {name} is down."));
    }
    let Some(left_us) = silent.left_us else {
        said.push(format!(
            "node{number} had not heard of it: {name} was as good as any to it."
        ));
        return said;
    };
    for event in watch.events_of(busy.len()) {
        let Some(after_us) = event.at_us.checked_sub(victim.fault_us) else {
            continue;
        };
        if *event.endpoint != *victim.endpoint || after_us > left_us.saturating_add(STORY_US) {
            continue;
        }
        let after = span(after_us);
        match &event.what {
            What::Place { place, why, .. } if &**why == REPORTED => {
                said.push(format!("{after}: by word of a peer node{number} put it {place}."));
            }
            // Follows the state, of which there is a sentence.
            What::Place { .. } => {}
            What::State { to, cause, .. } => {
                said.push(format!("{after}: its own probe made it {to} ({cause})."));
            }
        }
    }
    said.extend(explained(words, name).map(|words| {
        let words = with_names(words, cluster);
        format!("node{number} (`detour explain`): {words}.")
    }));
    said
}

/// What the node says of the report that moved the provider's place, and of its own probe.
fn explained(words: &Words, provider: &str) -> Option<String> {
    let explanation: Explanation = serde_json::from_value(words.explain.clone()).ok()?;
    let mut claims = explanation.claims.into_iter();
    let own = claims.find(|claim| claim.provider == provider)?;
    Some(own.said.claim?.words())
}

/// With the names of nodes in the place of their keys.
fn with_names(words: String, cluster: &[ClusterNode]) -> String {
    let ids = cluster.iter().filter_map(|node| {
        let id = node.mesh_address()?.rsplit('/').next()?;
        Some((short(id), node.name()))
    });
    ids.fold(words, |words, (id, name)| words.replace(&id, name))
}
