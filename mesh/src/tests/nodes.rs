//! A node of a test: a mesh with a directory, an identity and both ends of its channels.

use std::sync::Arc;
use std::time::Duration;

use detour_core::Clock;
use detour_core::health::state::State;
use detour_core::mesh::PeerState;
use detour_core::outcome::Cause;
use detour_core::report::{Circle, ClusterKey, EndpointKey, NodeId, Opinion, OwnReport, PeerReport, SiteKey};
use detour_core::time::Time;
use detour_wire::keys;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::{
    Condition, Handle, Identity, Member, MeshConfig, MeshStatus, Metrics, News, PeerAddress, peer_line, start,
};

/// What must happen happens within this time; most of it within a few milliseconds.
pub(super) const SOON: Duration = Duration::from_secs(15);

/// A clock that goes by the test's.
#[derive(Debug)]
pub(super) struct TestClock(Instant);

impl Default for TestClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        let us = u64::try_from(self.0.elapsed().as_micros()).unwrap();
        // As if the machine had been up for a while.
        Time::from_micros(us + 100_000_000)
    }
}

/// A wall clock that goes by the test's, too.
pub(super) fn wall_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    1_800_000_000_000 + u64::try_from(elapsed.as_millis()).unwrap()
}

pub(super) fn cluster() -> ClusterKey {
    keys::cluster("test")
}

/// A report whose only opinion tells it from others.
pub(super) fn report(mark: u8) -> Arc<OwnReport> {
    let opinion = Opinion {
        endpoint: EndpointKey([mark; 8]),
        state: State::Up,
        cause: Cause::Timeout,
        witnessed: false,
        stalled: false,
        first_failure: None,
        last_failure: None,
        last_success: Some(Time::ZERO),
    };
    Arc::new(OwnReport {
        urgent: u64::from(mark),
        opinions: vec![opinion],
        ..OwnReport::default()
    })
}

/// The mark of a report.
pub(super) fn mark(report: &PeerReport) -> Option<u8> {
    report.opinions.first().map(|opinion| opinion.endpoint.0[0])
}

/// A node.
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) directory: TempDir,
    pub(super) handle: Handle,
    pub(super) own: watch::Sender<Arc<OwnReport>>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) metrics: Metrics,
}

/// What a node is started with.
pub(super) struct Start {
    pub(super) directory: TempDir,
    pub(super) cluster: ClusterKey,
    pub(super) port: u16,
    pub(super) members: Vec<Member>,
    pub(super) mark: u8,
    pub(super) wall_ms: fn() -> u64,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            cluster: cluster(),
            port: 0,
            members: Vec::new(),
            mark: 0,
            wall_ms,
        }
    }
}

impl Start {
    pub(super) fn node(self) -> Node {
        let (identity, _is_new) = Identity::load_or_create(self.directory.path()).unwrap();
        let config = MeshConfig {
            identity: identity.clone(),
            state_directory: Some(self.directory.path().to_owned()),
            cluster: self.cluster,
            site: SiteKey([1; 4]),
            listen: vec![format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.port).parse().unwrap()],
            software: "detour test".to_owned(),
            clock: Arc::new(TestClock::default()),
            wall_ms: self.wall_ms,
        };
        let (own, own_seen) = watch::channel(report(self.mark));
        let (news_sender, news) = mpsc::channel(64);
        let metrics = Metrics::default();
        let handle = start(config, self.members, own_seen, news_sender, metrics.clone()).unwrap();
        Node {
            identity,
            directory: self.directory,
            handle,
            own,
            news,
            metrics,
        }
    }
}

impl Node {
    pub(super) fn with_mark(mark: u8) -> Self {
        Start {
            mark,
            ..Start::default()
        }
        .node()
    }

    pub(super) fn id(&self) -> NodeId {
        self.identity.node()
    }

    /// Waits until this holds of the status.
    pub(super) async fn until(&self, what: &str, holds: impl FnMut(&Arc<MeshStatus>) -> bool) -> Arc<MeshStatus> {
        let mut status = self.handle.status();
        let waited = tokio::time::timeout(SOON, status.wait_for(holds)).await;
        let found = waited.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_elapsed| panic!("{what}: {:#?}", self.handle.status().borrow().clone()))
    }

    pub(super) async fn port(&self) -> u16 {
        let status = self
            .until("listens", |status| {
                status.condition == Condition::Up && !status.listen[0].bound.is_empty()
            })
            .await;
        let bound = status.listen[0].bound[0].clone();
        bound.parse::<crate::ListenAddress>().unwrap().socket().port()
    }

    pub(super) async fn address(&self) -> PeerAddress {
        let line = peer_line("127.0.0.1".parse().unwrap(), self.port().await, self.id());
        line.parse().unwrap()
    }

    /// Waits until this node is connected with that one.
    pub(super) async fn connected(&self, with: NodeId) -> Arc<MeshStatus> {
        self.until("connected", |status| {
            status
                .peers
                .iter()
                .any(|peer| peer.view.node == with && peer.view.state == PeerState::Connected)
        })
        .await
    }

    /// Waits for news of which this holds; others are passed over.
    pub(super) async fn hears(&mut self, what: &str, mut holds: impl FnMut(&News) -> bool) -> News {
        let heard = async {
            loop {
                let news = self.news.recv().await.unwrap();
                if holds(&news) {
                    return news;
                }
            }
        };
        match tokio::time::timeout(SOON, heard).await {
            Ok(news) => news,
            Err(_elapsed) => panic!("{what}: {:#?}", self.handle.status().borrow().clone()),
        }
    }

    /// Waits for the report of `node` with this mark.
    pub(super) async fn hears_mark(&mut self, node: NodeId, wanted: u8) {
        self.hears(
            &format!("mark {wanted}"),
            |news| matches!(news, News::Report(report) if report.node == node && mark(report) == Some(wanted)),
        )
        .await;
    }

    /// A crash; what is left of it.
    pub(super) fn kill(self) -> TempDir {
        self.handle.kill();
        self.directory
    }

    /// The counters as text, those that begin so.
    pub(super) fn counted(&self, start: &str) -> Vec<String> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines()
            .filter(|line| line.starts_with(start))
            .map(str::to_owned)
            .collect()
    }

    /// Snapshots that came by gossip, whatever became of them.
    pub(super) fn gossiped(&self) -> u32 {
        let lines = self.counted("mesh_snapshots_total{via=\"gossip\"");
        let counts = lines.iter().filter_map(|line| line.rsplit(' ').next());
        counts.filter_map(|count| count.parse::<u32>().ok()).sum()
    }
}

/// Makes each of them a member of each other.
pub(super) async fn introduce(nodes: &[&Node]) {
    let mut addresses = Vec::new();
    for node in nodes {
        addresses.push(node.address().await);
    }
    for node in nodes {
        let others: Vec<_> = addresses
            .iter()
            .filter(|address| address.node() != node.id())
            .copied()
            .collect();
        node.handle.set_members(Member::of(&others, Circle::Own));
    }
}
