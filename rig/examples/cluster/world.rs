//! One small world per measurement: three fakes, some nodes, and everything that has happened to endpoints in it.

use std::path::Path;
use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{
    Cluster, ClusterConfig, Event, Fake, FakeConfig, Fault, FreshNames, Law, Ledger, ListedTransports, Load,
    LoadConfig, LoadError, StartClusterError, StartError, TransportSel, clock,
};
use serde_json::Value;
use tokio::time::sleep;

/// Providers of a world.
pub(crate) const PROVIDERS: usize = 3;
/// Registrable domains that names are in.
const DOMAINS: u32 = 2_000;
/// How often logs are read.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long nodes may take to find each other.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any measurement.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Setup<'s> {
    pub(crate) binary: &'s Path,
    pub(crate) nodes: usize,
    /// `[mesh] influence`.
    pub(crate) influence: &'s str,
    pub(crate) law: Law,
    pub(crate) is_relayed: bool,
    pub(crate) strangers: Vec<String>,
}

impl<'s> Setup<'s> {
    /// Flat answers, full influence, nobody between the nodes.
    pub(crate) fn new(binary: &'s Path, nodes: usize) -> Self {
        Self {
            binary,
            nodes,
            influence: "full",
            law: Law::default(),
            is_relayed: false,
            strangers: Vec::new(),
        }
    }
}

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    /// A fake did not start.
    #[error("a fake provider did not start")]
    Fake(#[from] StartError),
    /// The nodes did not.
    #[error(transparent)]
    Cluster(#[from] StartClusterError),
    /// The load broke.
    #[error("the load failed")]
    Load(#[from] LoadError),
    /// What was waited for did not come.
    #[error("not within {} s: {what}", patience.as_secs())]
    Late { what: String, patience: Duration },
    /// A measurement that ran beside others was lost.
    #[error("a measurement was lost")]
    Lost(#[from] tokio::task::JoinError),
    /// Something that belongs to the system is not there.
    #[error("cannot read {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// Fakes and nodes, running.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fakes: Vec<Fake>,
    pub(crate) cluster: Cluster,
    /// As the nodes' configuration names them, in the order of the fakes.
    pub(crate) endpoints: Vec<String>,
    /// By node.
    events: Vec<Vec<Event>>,
    law: Law,
    next_seed: u64,
}

impl World {
    /// Starts everything and waits until all nodes know each other.
    pub(crate) async fn start(setup: &Setup<'_>) -> Result<Self, WorldError> {
        let fake = |number| Fake::start(FakeConfig::new(&format!("fake{number}")).law(setup.law));
        let fakes = (1..=PROVIDERS).map(fake).collect::<Result<Vec<_>, _>>()?;
        let listed = |fake: &Fake| fake.endpoints(ListedTransports::Udp);
        let config = ClusterConfig {
            binary: setup.binary,
            nodes: setup.nodes,
            providers: fakes
                .iter()
                .map(|fake| provider_block(fake.name(), &listed(fake)))
                .collect(),
            influence: Some(setup.influence),
            strangers: setup.strangers.clone(),
            is_relayed: setup.is_relayed,
        };
        let cluster = Cluster::start(&config).await?;
        cluster.await_joined(JOIN_PATIENCE).await?;
        Ok(Self {
            endpoints: fakes
                .iter()
                .filter_map(|fake| listed(fake).into_iter().next())
                .collect(),
            fakes,
            events: vec![Vec::new(); cluster.nodes.len()],
            cluster,
            law: setup.law,
            next_seed: 1,
        })
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        self.cluster.stop().await;
        for fake in self.fakes {
            fake.shutdown().await;
        }
    }

    /// New names for a node, at this rate; the load, and the seed that fakes count it by.
    pub(crate) fn ask(&mut self, node: usize, rate: u32, duration: Duration) -> Result<(Load, u64), LoadError> {
        let seed = self.next_seed;
        self.next_seed += 1;
        let nowhere = ([127, 0, 0, 1], 0).into();
        let dns = self
            .cluster
            .nodes
            .get(node)
            .map_or(nowhere, detour_rig::ClusterNode::dns);
        let config = LoadConfig::new(dns, rate, duration);
        let names = FreshNames::of_many_domains(seed, DOMAINS);
        let load = Load::start(LoadConfig {
            names,
            law: self.law,
            ..config
        })?;
        Ok((load, seed))
    }

    /// As [`Self::ask`], until it is stopped.
    pub(crate) fn keep_asking(&mut self, node: usize, rate: u32) -> Result<Load, LoadError> {
        self.ask(node, rate, FOR_EVER).map(|(load, _)| load)
    }

    /// As [`Self::ask`], to the end: what became of the queries, and their seed.
    pub(crate) async fn ask_out(
        &mut self,
        node: usize,
        rate: u32,
        duration: Duration,
    ) -> Result<(Ledger, u64), WorldError> {
        let (load, seed) = self.ask(node, rate, duration)?;
        Ok((load.finish().await?, seed))
    }

    /// Switches a fault; when, by the clock of the nodes' logs.
    pub(crate) fn set_fault(&self, provider: usize, fault: Fault) -> u64 {
        let at_us = clock::boot_us();
        if let Some(fake) = self.fakes.get(provider) {
            fake.set_fault(TransportSel::All, fault);
        }
        at_us
    }

    /// How many queries of this load reached a provider.
    pub(crate) fn asked(&self, provider: usize, seed: u64) -> u64 {
        self.fakes.get(provider).map_or(0, |fake| fake.asked(seed))
    }

    /// Everything that happened at a node since then.
    pub(crate) fn events_since(&mut self, node: usize, since_us: u64) -> impl Iterator<Item = &Event> {
        self.read();
        let all = self.events.get(node).map_or(&[][..], Vec::as_slice);
        all.iter().filter(move |event| event.at_us >= since_us)
    }

    /// When something happened first to a provider at a node.
    pub(crate) fn first_us(
        &mut self,
        node: usize,
        provider: usize,
        since_us: u64,
        wanted: impl Fn(&Event) -> bool,
    ) -> Option<u64> {
        let endpoint = self.endpoints.get(provider).cloned().unwrap_or_default();
        let own = self
            .events_since(node, since_us)
            .filter(|event| *event.endpoint == *endpoint);
        own.filter(|event| wanted(event)).map(|event| event.at_us).min()
    }

    fn read(&mut self) {
        for (node, kept) in self.cluster.nodes.iter_mut().zip(&mut self.events) {
            kept.extend(node.events.read());
        }
    }

    /// Waits until something holds; whether it did in time.
    pub(crate) async fn until(&mut self, patience: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = clock::now() + patience;
        loop {
            if holds(self) {
                return true;
            }
            if clock::now() > deadline {
                return false;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until every node uses every provider.
    pub(crate) async fn until_all_well(&self, patience: Duration) -> Result<(), WorldError> {
        let deadline = clock::now() + patience;
        for node in &self.cluster.nodes {
            loop {
                let view = node.get("/api/v1/providers").await.unwrap_or_default();
                if is_all_well(&view) {
                    break;
                }
                if clock::now() > deadline {
                    let what = format!("{} uses every provider", node.name());
                    return Err(WorldError::Late { what, patience });
                }
                sleep(LOOK_AGAIN.saturating_mul(4)).await;
            }
        }
        Ok(())
    }
}

/// Whether `/api/v1/providers` says so.
fn is_all_well(providers: &Value) -> bool {
    let is = |endpoint: &Value, key: &str, wanted: &[&str]| {
        endpoint
            .get(key)
            .and_then(Value::as_str)
            .is_some_and(|word| wanted.contains(&word))
    };
    let endpoints = |provider: &Value| provider.get("endpoints")?.as_array().cloned();
    let list = providers.as_array();
    list.is_some_and(|list| {
        let mut all = list.iter().filter_map(endpoints).flatten();
        !list.is_empty() && all.all(|one| is(&one, "place", &["normal"]) && is(&one, "state", &["up"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_is_well_when_every_endpoint_is_used() {
        let view = |state: &str, place: &str| {
            let well = json!({"endpoints": [{"state": "up", "place": "normal"}]});
            json!([well, {"endpoints": [{"state": state, "place": place}]}])
        };
        assert!(is_all_well(&view("up", "normal")));
        assert!(!is_all_well(&view("probation", "normal")));
        assert!(!is_all_well(&view("up", "last")));
        assert!(!is_all_well(&json!([])));
        assert!(!is_all_well(&json!({"error": "x"})));
    }
}
