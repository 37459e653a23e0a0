//! Open-loop load: a query leaves at its scheduled instant, whatever became of the ones before it.
//!
//! A closed loop asks less while answers are slow and so hides the very thing to be measured (coordinated omission).
//! Here query `i` of `rate` per second belongs to the instant `start + i / rate`, its latency counts from there, and
//! each name is asked once, so no cache can answer. The queries are dealt out to a few sockets, one task each; a task
//! owns its socket and its records, and they are merged at the end. Answers are matched by id and whole question.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lane::{Lane, LaneResult, Queries, connect};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::law::Law;
use crate::ledger::Ledger;
use crate::random::mix;
use crate::stall::StallMeter;
use crate::zone;

mod lane;

/// How long an answer is waited for: a stub resolver's 5 s, and one more to see what comes just after.
pub const PATIENCE: Duration = Duration::from_secs(6);
/// Sockets unless told otherwise: a few clients, not one flow.
const SOCKETS: usize = 4;
/// Names nobody asked before: `q<number>-<seed>.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshNames {
    /// Another seed gives other names.
    pub seed: u64,
    /// Where they are; each name's domain is drawn by its number.
    pub domains: Vec<Box<str>>,
    /// After so many the first comes again, so that a cache can answer; 0: never.
    pub cycle: u64,
}

impl FreshNames {
    /// Of so many numbered domains.
    #[must_use]
    pub fn of_many_domains(seed: u64, domains: u32) -> Self {
        Self {
            seed,
            domains: (0..domains)
                .map(|number| zone::numbered_domain(number).into())
                .collect(),
            cycle: 0,
        }
    }

    /// The name with this number.
    #[must_use]
    pub fn name(&self, index: u64) -> String {
        let index = index.checked_rem(self.cycle).unwrap_or(index);
        let seed = self.seed;
        let count = u64::try_from(self.domains.len()).unwrap_or(u64::MAX);
        let pick = mix(index ^ mix(seed))
            .checked_rem(count)
            .and_then(|pick| usize::try_from(pick).ok());
        let domain = pick
            .and_then(|pick| self.domains.get(pick))
            .map_or("invalid", |domain| domain);
        format!("q{index}-{seed:x}.{domain}")
    }
}

impl Default for FreshNames {
    /// Seed 1, all ten domains.
    fn default() -> Self {
        Self {
            seed: 1,
            domains: zone::DOMAINS.iter().copied().map(Into::into).collect(),
            cycle: 0,
        }
    }
}

/// What to ask, whom and how fast.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// Asked over UDP.
    pub target: SocketAddr,
    /// Queries per second over all sockets.
    pub rate: u32,
    /// For how long queries are sent; the load ends when the last is answered or given up.
    pub duration: Duration,
    /// What is asked.
    pub names: FreshNames,
    /// What the providers' answers take.
    pub law: Law,
    /// How long each answer is waited for.
    pub patience: Duration,
    /// Client sockets.
    pub sockets: usize,
}

impl LoadConfig {
    /// Fresh names of all ten domains under the default law.
    #[must_use]
    pub fn new(target: SocketAddr, rate: u32, duration: Duration) -> Self {
        let (names, law) = (FreshNames::default(), Law::default());
        Self {
            target,
            rate,
            duration,
            names,
            law,
            patience: PATIENCE,
            sockets: SOCKETS,
        }
    }

    /// How many queries that is.
    #[must_use]
    pub fn total(&self) -> u64 {
        let total = self.duration.as_nanos().saturating_mul(u128::from(self.rate)) / 1_000_000_000;
        u64::try_from(total).unwrap_or(u64::MAX)
    }
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No client socket towards the target.
    #[error("cannot open a client socket towards {target}")]
    Socket {
        /// Whom to ask.
        target: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A client socket failed while it was used.
    #[error("a client socket failed")]
    Receive {
        /// The system's reason.
        source: io::Error,
    },
    /// A client task ended without its records; this does not happen in normal operation.
    #[error("a client task was lost")]
    Lane {
        /// What became of it.
        source: tokio::task::JoinError,
    },
}

/// A load under way. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    started: Instant,
    names: FreshNames,
    stall: StallMeter,
    token: CancellationToken,
    lanes: JoinSet<io::Result<LaneResult>>,
}

impl Load {
    /// Opens the sockets and begins to ask. Must be called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(config: LoadConfig) -> Result<Self, LoadError> {
        let target = config.target;
        let total = config.total();
        let count = u64::try_from(config.sockets.max(1)).unwrap_or(u64::MAX);
        let socket = |source| LoadError::Socket { target, source };
        let sockets = (0..count)
            .map(|_| connect(target))
            .collect::<io::Result<Vec<_>>>()
            .map_err(socket)?;
        let names = config.names.clone();
        let stall = StallMeter::start();
        let (started, token) = (clock::now(), CancellationToken::new());
        let mut lanes = JoinSet::new();
        for (first, socket) in (0..count).zip(sockets) {
            let queries = Queries {
                next: first,
                step: count,
                total,
                rate: config.rate.max(1),
                started,
                token: token.clone(),
            };
            lanes.spawn(Lane::new(socket, queries, config.clone()).run());
        }
        Ok(Self {
            started,
            names,
            stall,
            token,
            lanes,
        })
    }

    /// The instant all times of the ledger count from.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Asks nothing more from here on; what is under way is waited for.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Waits until every query is answered or given up.
    ///
    /// # Errors
    /// When a client socket or its task failed.
    pub async fn finish(mut self) -> Result<Ledger, LoadError> {
        let mut records = Vec::new();
        let mut strays = 0;
        while let Some(lane) = self.lanes.join_next().await {
            let lane = lane.map_err(|source| LoadError::Lane { source })?;
            let (lane_records, lane_strays) = lane.map_err(|source| LoadError::Receive { source })?;
            records.extend(lane_records);
            strays += lane_strays;
        }
        records.sort_unstable_by_key(|record| record.index);
        Ok(Ledger {
            records,
            strays,
            stall: self.stall.finish().await,
            names: self.names,
        })
    }
}

/// Starts a load and waits for its ledger.
///
/// # Errors
/// As [`Load::start`] and [`Load::finish`].
pub async fn run(config: LoadConfig) -> Result<Ledger, LoadError> {
    Load::start(config)?.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, FakeConfig};
    use crate::fault::Fault;
    use crate::ledger::{Grade, Record};
    use crate::transport::TransportSel;

    #[test]
    fn names_are_fresh_and_spread() {
        let names = FreshNames {
            seed: 0xbeef,
            ..FreshNames::default()
        };
        let list: std::collections::BTreeSet<String> = (0..1_000).map(|index| names.name(index)).collect();
        assert_eq!(list.len(), 1_000);
        for domain in zone::DOMAINS {
            let count = list.iter().filter(|name| name.ends_with(domain)).count();
            assert!((60..140).contains(&count), "{domain}: {count}");
        }
        assert!(names.name(3).starts_with("q3-beef."));
        let again = FreshNames { cycle: 10, ..names };
        assert_eq!(again.name(13), again.name(3));
    }

    #[tokio::test]
    async fn an_honest_fake_hurts_nobody() {
        let fake = Fake::start(FakeConfig::new("fake1")).unwrap();
        let ledger = run(LoadConfig::new(fake.address(), 200, Duration::from_secs(1)))
            .await
            .unwrap();
        let summary = ledger.summary(None);
        assert_eq!(
            (summary.total, summary.lost, summary.wrong, summary.error),
            (200, 0, 0, 0),
            "{summary:?}"
        );
        assert!(
            summary.late == 0 || summary.stall > Duration::from_millis(100),
            "{summary:?}"
        );
        assert!(summary.latency.p50 >= Duration::from_millis(10), "{summary:?}");
        assert_eq!(fake.stats().udp.answered, 200);
        fake.shutdown().await;
    }

    #[tokio::test]
    async fn a_load_that_is_stopped_asks_no_more_and_keeps_what_it_asked() {
        let fake = Fake::start(FakeConfig::new("fake1")).unwrap();
        let load = Load::start(LoadConfig::new(fake.address(), 200, Duration::from_secs(3_600))).unwrap();
        while fake.asked_by_clients() < 20 {
            tokio::task::yield_now().await;
        }
        load.stop();
        let summary = load.finish().await.unwrap().summary(None);
        assert!(summary.total >= 20 && summary.lost == 0, "{summary:?}");
        assert_eq!(fake.asked(1), u64::try_from(summary.total).unwrap());
        fake.shutdown().await;
    }

    #[tokio::test]
    async fn each_kind_of_hurt_is_told_apart() {
        for (fault, grade) in [
            (Fault::Servfail, Grade::Error),
            (Fault::Nxdomain, Grade::Error),
            (Fault::Truncate, Grade::Error),
            (Fault::Nodata, Grade::Wrong),
            (Fault::Lie, Grade::Wrong),
            (Fault::Blackhole, Grade::Lost),
            (Fault::Wrongid, Grade::Lost),
            (Fault::Rst, Grade::Lost),
            (Fault::Slow(Duration::from_millis(300)), Grade::Late),
        ] {
            let fake = Fake::start(FakeConfig::new("fake1")).unwrap();
            fake.set_fault(TransportSel::All, fault);
            let patience = Duration::from_millis(if grade == Grade::Lost { 100 } else { 5_000 });
            let config = LoadConfig::new(fake.address(), 200, Duration::from_millis(50));
            let ledger = run(LoadConfig { patience, ..config }).await.unwrap();
            let grades: Vec<_> = ledger.records.iter().map(Record::grade).collect();
            assert_eq!(grades, vec![grade; 10], "{fault}");
            fake.shutdown().await;
        }
    }
}
