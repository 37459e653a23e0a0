//! What is running in one run of the demo, and looking at it while something is waited for.

use std::time::Duration;

use detour_rig::cluster::StartClusterError;
use detour_rig::{Cluster, Fake, Ledger, ListedTransports, Load, LoadError, StartError, clock};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::account::{Account, hurt_lines};
use super::scenario::{PROVIDERS, Scenario};
use super::screen::{Screen, WIDTH, wrap};
use super::watch::Watch;

/// How often the logs are read and the table is drawn.
const TICK: Duration = Duration::from_millis(50);
/// Queries that are told one by one.
const HURT_LINES_MAX: usize = 10;

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// Ctrl-C.
    #[error("stopped")]
    Interrupted,
    /// A fake did not start.
    #[error("a fake provider did not start")]
    Fake(#[from] StartError),
    /// The nodes did not.
    #[error(transparent)]
    Cluster(#[from] StartClusterError),
    /// The load broke.
    #[error("the load failed")]
    Load(#[from] LoadError),
    /// A node ended by itself.
    #[error("{0} ended during the run")]
    NodeEnded(String),
}

/// What is running.
pub(super) struct Stage<'s> {
    pub(super) scenario: Scenario,
    pub(super) screen: &'s mut Screen,
    pub(super) stop: &'s CancellationToken,
    pub(super) fakes: Vec<Fake>,
    pub(super) cluster: &'s mut Cluster,
    pub(super) watch: Watch,
    /// What the run's clock counts from.
    pub(super) started: Instant,
    pub(super) started_us: u64,
}

/// What all loads came to.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) account: Account,
    pub(super) waking: Account,
    pub(super) hurt: Vec<String>,
    pub(super) stall: Duration,
}

impl Stage<'_> {
    /// As the configuration of the nodes names it.
    pub(super) fn endpoint_of(&self, provider: usize) -> String {
        let endpoints = self
            .fakes
            .get(provider)
            .map(|fake| fake.endpoints(ListedTransports::Udp));
        endpoints.into_iter().flatten().next().unwrap_or_default()
    }

    /// Waits for a ledger and goes on looking meanwhile.
    pub(super) async fn finish(&mut self, load: Load) -> Result<Ledger, RunError> {
        let mut ledger = Box::pin(load.finish());
        loop {
            tokio::select! {
                // Cancel safe: the future is kept and polled again.
                ledger = &mut ledger => return Ok(ledger?),
                // Cancel safe: a timer.
                () = sleep_until(clock::now() + TICK) => self.tick()?,
            }
        }
    }

    /// Ends all loads; what became of all queries.
    pub(super) async fn finish_all(&mut self, loads: Vec<Load>, few: Load, waking: Ledger) -> Result<Ended, RunError> {
        loads.iter().for_each(Load::stop);
        let mut ledgers = Vec::with_capacity(loads.len().saturating_add(2));
        for (load, number) in loads.into_iter().zip(1_usize..) {
            ledgers.push((format!("node{number}"), self.finish(load).await?));
        }
        let silent = self.scenario.silent_name();
        ledgers.push((silent.clone(), self.finish(few).await?));
        let mut ended = Ended {
            waking: Account::of(&waking),
            ..Ended::default()
        };
        ledgers.push((format!("{silent} awake"), waking));
        for (node, ledger) in &ledgers {
            ended.account = ended.account.plus(Account::of(ledger));
            ended.stall = ended.stall.max(ledger.stall);
            let room = HURT_LINES_MAX.saturating_sub(ended.hurt.len());
            ended.hurt.extend(hurt_lines(ledger, node, room));
        }
        Ok(ended)
    }

    pub(super) async fn until(&mut self, at: Instant) -> Result<(), RunError> {
        self.until_or(at, |_| false).await.map(drop)
    }

    /// Looks on until then, or until something holds; whether it does.
    pub(super) async fn until_or(&mut self, at: Instant, holds: impl Fn(&Self) -> bool) -> Result<bool, RunError> {
        loop {
            self.tick()?;
            if holds(self) {
                return Ok(true);
            }
            let now = clock::now();
            if now >= at {
                return Ok(false);
            }
            sleep_until(at.min(now + TICK)).await;
        }
    }

    /// One look at everything.
    fn tick(&mut self) -> Result<(), RunError> {
        if self.stop.is_cancelled() {
            self.screen.settle();
            return Err(RunError::Interrupted);
        }
        self.tick_events();
        for node in &mut self.cluster.nodes {
            if !node.is_running() {
                self.screen.settle();
                return Err(RunError::NodeEnded(node.name().to_owned()));
            }
        }
        let clock = self.clock(clock::boot_us());
        self.screen.table(&clock, &self.watch.rows());
        Ok(())
    }

    pub(super) fn tick_events(&mut self) {
        for seen in self.watch.read_events(&mut self.cluster.nodes) {
            let clock = self.clock(seen.event.at_us);
            let node = self.cluster.nodes.get(seen.node);
            let node = node.map_or("", |node| node.name());
            let of = |index: &usize| self.endpoint_of(*index) == *seen.event.endpoint;
            let provider = (0..PROVIDERS.len()).find(of).and_then(|index| PROVIDERS.get(index));
            self.screen
                .event(&clock, node, provider.copied().unwrap_or_default(), &seen);
        }
    }

    /// Says what happens, with the time of the run.
    pub(super) fn say(&mut self, what: &str) {
        self.tick_events();
        let mut lead = format!("{}  ", self.clock(clock::boot_us()));
        let indent = lead.chars().count();
        for line in wrap(what, WIDTH.saturating_sub(indent)) {
            self.screen.say(&format!("{lead}{line}"));
            lead = " ".repeat(indent);
        }
    }

    /// Seconds since the run began.
    fn clock(&self, at_us: u64) -> String {
        let since_ms = at_us.saturating_sub(self.started_us) / 1_000;
        format!("{:>3}.{:03} s", since_ms / 1_000, since_ms % 1_000)
    }
}
