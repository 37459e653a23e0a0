//! What the nodes say of themselves while the demo runs: the latest view of each by its admin interface, and all events
//! of their logs.
//!
//! The views are what the table shows and may be a tenth of a second old. Times are taken from the logs alone, which
//! carry the instant of each event.

use std::net::SocketAddr;
use std::time::Duration;

use detour_rig::{ClusterNode, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::admin::client::get;
use crate::admin::providers::ProviderView;

/// How often a node is asked.
const LOOK_EVERY: Duration = Duration::from_millis(80);
/// Events kept per node: a run has a few dozen.
const EVENTS_MAX: usize = 10_000;

/// A line of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) node: String,
    pub(super) provider: String,
    pub(super) state: String,
    pub(super) place: String,
    pub(super) share_permille: u32,
    pub(super) verdict: String,
    pub(super) why: String,
}

/// An event, and at which node.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) node: usize,
    pub(super) event: Event,
}

/// Looks at all nodes; ends when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    names: Vec<String>,
    views: Vec<watch::Receiver<Vec<ProviderView>>>,
    /// By node.
    events: Vec<Vec<Event>>,
    _pollers: JoinSet<()>,
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(nodes: &[ClusterNode]) -> Self {
        let mut pollers = JoinSet::new();
        let views = nodes.iter().map(|node| {
            let (sender, receiver) = watch::channel(Vec::new());
            pollers.spawn(poll(node.admin(), sender));
            receiver
        });
        Self {
            views: views.collect(),
            names: nodes.iter().map(|node| node.name().to_owned()).collect(),
            events: vec![Vec::new(); nodes.len()],
            _pollers: pollers,
        }
    }

    /// What happened since the last call, in order.
    pub(super) fn read_events(&mut self, nodes: &mut [ClusterNode]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (index, (node, kept)) in nodes.iter_mut().zip(&mut self.events).enumerate() {
            for event in node.events.read() {
                seen.push(Seen {
                    node: index,
                    event: event.clone(),
                });
                if kept.len() < EVENTS_MAX {
                    kept.push(event);
                }
            }
        }
        seen.sort_by_key(|seen| seen.event.at_us);
        seen
    }

    /// Everything that happened at this node so far.
    pub(super) fn events_of(&self, node: usize) -> &[Event] {
        self.events.get(node).map_or(&[], Vec::as_slice)
    }

    /// The table: a row per node and provider.
    pub(super) fn rows(&self) -> Vec<Row> {
        let views = self.names.iter().zip(&self.views);
        let rows = views.flat_map(|(name, view)| {
            let providers = view.borrow();
            providers.iter().map(|provider| row(name, provider)).collect::<Vec<_>>()
        });
        rows.collect()
    }

    /// Whether every node uses this provider like any other.
    pub(super) fn all_use(&self, provider: &str) -> bool {
        let rows = self.rows();
        let own: Vec<&Row> = rows.iter().filter(|row| row.provider == provider).collect();
        let is_used = |row: &&Row| row.place == "normal" && matches!(row.state.as_str(), "up" | "probation");
        own.len() == self.names.len() && own.iter().all(is_used)
    }

    /// Where plans of this node put a provider; empty before it was asked.
    pub(super) fn place_of(&self, node: usize, provider: &str) -> String {
        let Some(view) = self.views.get(node) else {
            return String::new();
        };
        let providers = view.borrow();
        let own = providers.iter().find(|own| own.name == provider);
        let endpoint = own.and_then(|own| own.endpoints.first());
        endpoint.map_or_else(String::new, |endpoint| endpoint.place.clone())
    }
}

async fn poll(admin: SocketAddr, views: watch::Sender<Vec<ProviderView>>) {
    loop {
        if let Ok(answer) = get(admin, "/api/v1/providers").await
            && let Ok(view) = serde_json::from_slice(&answer.body)
        {
            views.send_replace(view);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A provider of the demo has one endpoint.
fn row(node: &str, provider: &ProviderView) -> Row {
    let mut row = Row {
        node: node.to_owned(),
        provider: provider.name.clone(),
        share_permille: provider.share_permille,
        ..Row::default()
    };
    if let Some(endpoint) = provider.endpoints.first() {
        row.state.clone_from(&endpoint.state);
        row.place.clone_from(&endpoint.place);
        row.verdict = match &endpoint.said.verdict_source {
            Some(source) => format!("{} ({source})", endpoint.said.verdict),
            None => endpoint.said.verdict.clone(),
        };
        row.why = match (endpoint.place_why.as_str(), endpoint.reason.as_str()) {
            ("healthy", reason) => reason.to_owned(),
            (why, reason) if why == endpoint.state => reason.to_owned(),
            (why, reason) => format!("{why}, {reason}"),
        };
    }
    row
}
