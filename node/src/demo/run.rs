//! One run: providers that are fakes in this process, nodes that are real and processes of their own, queries, a fault.

use std::path::Path;
use std::time::Duration;

use detour_rig::cluster::StartClusterError;
use detour_rig::process::provider_block;
use detour_rig::{
    Cluster, ClusterConfig, Fake, FakeConfig, Fault, FreshNames, Ledger, ListedTransports, Load, LoadConfig, LoadError,
    TransportSel, clock,
};
use tokio_util::sync::CancellationToken;

use super::outcome::Outcome;
use super::scenario::{BUSY_WINDOW, DOMAINS, FEW_NAMES, PROVIDERS, Scenario, WAKING, WAKING_NAMES};
use super::screen::Screen;
use super::stage::{RunError, Stage};
use super::times::{NodeTimes, span};
use super::watch::Watch;
use super::witness;

/// How long nodes may take to find each other: a dial that fails is tried again after a second.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any run: the load is stopped when there is nothing more to see.
const LOAD_MAX: Duration = Duration::from_secs(600);
/// Seeds of names: of the silent node's few, of its wakings, and of the working nodes from here on.
const SEED_FEW: u64 = 1;
const SEED_WAKING: u64 = 2;
const SEED_WAKING_END: u64 = 5;
const SEED_BUSY: u64 = 16;
/// Two providers that are silent for so long at once are a machine that stands still: the first hedge waits 150 ms.
const STALL_MAX: Duration = Duration::from_millis(100);
/// The silent node asks its few names this long after the others begin.
const FEW_AT: Duration = Duration::from_millis(300);
const FEW_FOR: Duration = Duration::from_secs(1);
/// How old what is known of a node may be: two looks at it.
const VIEW_AGE_MAX: Duration = Duration::from_millis(200);

/// The provider that fails.
#[derive(Debug)]
pub(super) struct Victim {
    index: usize,
    pub(super) name: &'static str,
    /// As the configuration of the nodes names it.
    pub(super) endpoint: String,
    /// Client queries to it in the 2 s before the fault.
    asked: u64,
    /// When it failed, in microseconds of the clock that nodes stamp their events with.
    pub(super) fault_us: u64,
}

impl Victim {
    fn fake<'f>(&self, fakes: &'f [Fake]) -> Option<&'f Fake> {
        fakes.get(self.index)
    }

    fn set(&self, fakes: &[Fake], fault: Fault) {
        if let Some(fake) = self.fake(fakes) {
            fake.set_fault(TransportSel::All, fault);
        }
    }
}

/// Carries a scenario out; all nodes are gone afterwards, whatever happened.
pub(super) async fn run(
    scenario: Scenario,
    binary: &Path,
    screen: &mut Screen,
    stop: &CancellationToken,
) -> Result<Outcome, RunError> {
    let start = |name: &&str| Fake::start(FakeConfig::new(name));
    let fakes = PROVIDERS.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let block = |fake: &Fake| provider_block(fake.name(), &fake.endpoints(ListedTransports::Udp));
    let config = ClusterConfig {
        binary,
        nodes: scenario.nodes,
        providers: fakes.iter().map(block).collect(),
        influence: scenario.has_mesh.then_some("full"),
        strangers: Vec::new(),
        is_relayed: false,
    };
    let mut cluster = tokio::select! {
        biased;
        // Cancel safe: the token stays cancelled. Nodes that run already end with the other branch.
        () = stop.cancelled() => return Err(RunError::Interrupted),
        cluster = start_cluster(&config) => cluster?,
    };
    let watch = Watch::start(&cluster.nodes);
    let stage = Stage {
        scenario,
        screen,
        stop,
        fakes,
        cluster: &mut cluster,
        watch,
        started: clock::now(),
        started_us: clock::boot_us(),
    };
    let outcome = stage.play().await;
    cluster.stop().await;
    outcome
}

async fn start_cluster(config: &ClusterConfig<'_>) -> Result<Cluster, StartClusterError> {
    let cluster = Cluster::start(config).await?;
    if config.influence.is_some() {
        cluster.await_joined(JOIN_PATIENCE).await?;
    }
    Ok(cluster)
}

impl Stage<'_> {
    /// From the first query to the last.
    async fn play(mut self) -> Result<Outcome, RunError> {
        let scenario = self.scenario;
        let (busy, silent) = (scenario.busy_words(), scenario.silent_name());
        self.say(&format!("{busy}: 300 new names a second. {silent}: 30 in all."));
        let loads = self.start_loads()?;
        self.until(self.started + FEW_AT).await?;
        let few = self.ask_silent(FEW_NAMES, FEW_FOR, SEED_FEW)?;
        let victim = self.break_busiest().await?;

        self.until_waking(&victim).await?;
        let nodes_before = self.node_times(&victim);
        let words = witness::ask(self.silent_admin(), victim.name).await;
        let (waking, waking_to_victim) = self.wake(&victim).await?;
        let nodes = &self.cluster.nodes;
        for sentence in witness::sentences(&self.watch, nodes, &victim, &nodes_before, &words) {
            self.say(&sentence);
        }

        let returned = self.heal(&victim).await?;
        let nodes = self.node_times(&victim);
        let ended = self.finish_all(loads, few, waking).await?;
        self.screen.settle();
        for fake in std::mem::take(&mut self.fakes) {
            fake.shutdown().await;
        }
        Ok(Outcome {
            scenario,
            victim: victim.name,
            victim_asked: victim.asked,
            account: ended.account,
            nodes_before,
            nodes,
            waking: ended.waking,
            waking_to_victim,
            words,
            returned,
            hurt: ended.hurt,
            stall: ended.stall,
        })
    }

    /// Waits for the time of the fault and sets it where it hurts most.
    async fn break_busiest(&mut self) -> Result<Victim, RunError> {
        let asked = |stage: &Self| stage.fakes.iter().map(Fake::asked_by_clients).collect::<Vec<_>>();
        let (fault, fault_at) = (self.scenario.fault, self.started + self.scenario.times.fault);
        let window_at = fault_at.checked_sub(BUSY_WINDOW).unwrap_or(self.started);
        self.until(window_at).await?;
        let before = asked(self);
        self.until(fault_at).await?;
        let recent = asked(self).into_iter().zip(before);
        let recent = recent.map(|(now, then)| now.saturating_sub(then)).enumerate();
        let (index, asked) = recent.max_by_key(|(_, asked)| *asked).unwrap_or_default();
        let victim = Victim {
            index,
            name: PROVIDERS.get(index).copied().unwrap_or_default(),
            endpoint: self.endpoint_of(index),
            asked,
            fault_us: clock::boot_us(),
        };
        victim.set(&self.fakes, fault.fault());
        let (name, happens) = (victim.name, fault.happens());
        self.say(&format!("{name}, the busiest ({asked} queries in 2 s), {happens}."));
        Ok(victim)
    }

    /// Sleeps till the silent node is to wake. With the mesh it may take a little longer to be told: a busy machine is
    /// not what is to be shown.
    async fn until_waking(&mut self, victim: &Victim) -> Result<(), RunError> {
        let times = self.scenario.times;
        self.until(clock::now() + times.wake).await?;
        if self.scenario.has_mesh && self.scenario.fault.must_be_left() {
            let silent = self.cluster.nodes.len().saturating_sub(1);
            let place = |stage: &Self| stage.watch.place_of(silent, victim.name);
            let has_left = |stage: &Self| !matches!(place(stage).as_str(), "normal" | "");
            self.until_or(clock::now() + times.wake_patience, has_left).await?;
        }
        Ok(())
    }

    /// Wakes the silent node: what became of its queries, and how many of them went to the provider that failed. While
    /// the machine stands still nobody answers anybody, and every provider there is may be asked; that is no waking.
    async fn wake(&mut self, victim: &Victim) -> Result<(Ledger, u64), RunError> {
        let silent = self.scenario.silent_name();
        let is_to_be_spared = self.scenario.has_mesh && self.scenario.fault.must_be_left();
        let mut seed = SEED_WAKING;
        loop {
            self.say(&format!("{silent} wakes: 100 queries within 300 ms."));
            let waking = self.ask_silent(WAKING_NAMES, WAKING, seed)?;
            let waking = self.finish(waking).await?;
            let to_victim = victim.fake(&self.fakes).map_or(0, |fake| fake.asked(seed));
            self.say(&format!("{to_victim} of them went to {}.", victim.name));
            seed = seed.saturating_add(1);
            let stood_still = waking.stall > STALL_MAX && to_victim > 0 && is_to_be_spared;
            if !stood_still || seed == SEED_WAKING_END {
                return Ok((waking, to_victim));
            }
            let stall = span(u64::try_from(waking.stall.as_micros()).unwrap_or(u64::MAX));
            self.say(&format!(
                "The machine itself stood still for {stall} meanwhile: once more."
            ));
        }
    }

    /// Ends the fault, and waits until all nodes have noticed; how long that took.
    async fn heal(&mut self, victim: &Victim) -> Result<Option<Duration>, RunError> {
        let times = self.scenario.times;
        self.until(clock::now() + times.heal).await?;
        victim.set(&self.fakes, Fault::None);
        if !self.scenario.sees_return {
            return Ok(None);
        }
        let (healed_at, name) = (clock::now(), victim.name);
        self.say(&format!("{name} is well again."));
        // A view from before the healing is not one of a return.
        self.until(healed_at + VIEW_AGE_MAX).await?;
        let all_use = |stage: &Self| stage.watch.all_use(name);
        let mut returned = None;
        if self.until_or(healed_at + times.return_patience, all_use).await? {
            let after = clock::now().saturating_duration_since(healed_at);
            let text = span(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
            self.say(&format!("All nodes use it again, {text} later."));
            returned = Some(after);
        }
        self.until(clock::now() + times.after).await?;
        Ok(returned)
    }

    /// The working nodes' loads.
    fn start_loads(&self) -> Result<Vec<Load>, LoadError> {
        let busy = self.cluster.nodes.iter().take(self.scenario.busy_nodes());
        let loads = busy.enumerate().map(|(index, node)| {
            let config = LoadConfig::new(node.dns(), self.scenario.rate_of(index), LOAD_MAX);
            let offset = u64::try_from(index).unwrap_or(0);
            Load::start(with_seed(config, SEED_BUSY.saturating_add(offset)))
        });
        loads.collect()
    }

    /// So many queries to the silent node, within this long.
    fn ask_silent(&self, count: u32, within: Duration, seed: u64) -> Result<Load, LoadError> {
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX).max(1);
        let rate = u64::from(count).saturating_mul(1_000_000).div_ceil(u64::from(micros));
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        let last = self.cluster.nodes.last();
        let dns = last.map_or_else(|| ([127, 0, 0, 1], 0).into(), detour_rig::ClusterNode::dns);
        Load::start(with_seed(LoadConfig::new(dns, rate, within), seed))
    }

    fn silent_admin(&self) -> std::net::SocketAddr {
        let last = self.cluster.nodes.last();
        last.map_or_else(|| ([127, 0, 0, 1], 0).into(), detour_rig::ClusterNode::admin)
    }

    fn node_times(&mut self, victim: &Victim) -> Vec<NodeTimes> {
        self.tick_events();
        let nodes = 0..self.cluster.nodes.len();
        let times = nodes.map(|node| NodeTimes::of(self.watch.events_of(node), &victim.endpoint, victim.fault_us));
        times.collect()
    }
}

fn with_seed(config: LoadConfig, seed: u64) -> LoadConfig {
    let names = FreshNames::of_many_domains(seed, DOMAINS);
    LoadConfig { names, ..config }
}
