//! One run: a provider breaks and is mended, under a load of new names.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use detour_rig::authority::{Authority, AuthorityError, CA_FILE};
use detour_rig::process::{node_config_trusting, provider_block};
use detour_rig::{
    Fake, FakeConfig, Fault, FreshNames, Load, LoadConfig, LoadError, NodeProcess, StartError, StartNodeError, Summary,
    Transport, TransportSel, TransportStats, clock, http,
};
use tokio::time::{Instant, sleep, sleep_until};

/// Providers of the experiment.
const PROVIDERS: u64 = 3;
/// When the provider breaks: health has learned by then what answers take.
const BREAKS_AT: Duration = Duration::from_secs(4);
/// How often the node is asked what it thinks.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How long it may take to say so.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// How long what lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) broken: Duration,
    pub(crate) after: Duration,
}

/// What one run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) node: &'a Path,
    pub(crate) transport: Transport,
    pub(crate) fault: Fault,
    pub(crate) rate: u32,
    pub(crate) times: Times,
}

/// What one run showed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) summary: Summary,
    /// From the fault until the endpoint's place was not the normal one; `None`: it always was.
    pub(crate) left_after: Option<Duration>,
    /// What the node gave as its cause then.
    pub(crate) cause: Option<String>,
    /// From the end of the fault until its place was the normal one again; its share may still grow then.
    pub(crate) back_after: Option<Duration>,
    /// What the provider saw from the fault on.
    pub(crate) handshakes: Handshakes,
}

/// Connections, and how they began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Handshakes {
    pub(crate) connections: u64,
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    pub(crate) failed: u64,
}

impl Handshakes {
    fn between(before: TransportStats, after: TransportStats) -> Self {
        Self {
            connections: after.connections - before.connections,
            full: after.handshakes_full - before.handshakes_full,
            resumed: after.handshakes_resumed - before.handshakes_resumed,
            failed: after.handshakes_failed - before.handshakes_failed,
        }
    }
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// No directory for the node, or nothing can be written there.
    #[error("cannot write to a directory for the node")]
    Directory(#[source] std::io::Error),
    /// Nobody the node could trust.
    #[error("cannot make a certificate authority")]
    Authority(#[from] AuthorityError),
    /// A fake did not start.
    #[error("a fake provider did not start")]
    Fake(#[from] StartError),
    /// The node did not start.
    #[error("the node did not start")]
    Node(#[from] StartNodeError),
    /// The load broke.
    #[error("the load failed")]
    Load(#[from] LoadError),
    /// There is nobody to break.
    #[error("there are no providers")]
    NoProvider,
}

/// Carries it out; the node is gone afterwards, whatever happened.
pub(crate) async fn run(setup: Setup<'_>) -> Result<Run, RunError> {
    let directory = tempfile::tempdir().map_err(RunError::Directory)?;
    let authority = Authority::new()?;
    authority.write_pem(directory.path()).map_err(RunError::Directory)?;
    let start = |index| {
        Fake::start(
            FakeConfig::new(&format!("fake{index}"))
                .encrypted(&authority)
                .seed(index),
        )
    };
    let fakes = (1..=PROVIDERS).map(start).collect::<Result<Vec<_>, _>>()?;
    let block = |fake: &Fake| {
        let address = fake.address_of(setup.transport)?;
        let endpoint = setup.transport.endpoint(address, Some(&fake.server_name()));
        Some(provider_block(fake.name(), &[endpoint]))
    };
    let blocks: Vec<_> = fakes.iter().filter_map(block).collect();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = node_config_trusting(any, any, Path::new(CA_FILE), &blocks);
    let node = NodeProcess::start(setup.node, &config, directory.path()).await?;

    let Times { broken, after } = setup.times;
    let mut load = LoadConfig::new(node.dns(), setup.rate, BREAKS_AT + broken + after);
    load.names = FreshNames::default();
    let load = Load::start(load)?;
    let started = load.started();
    sleep_until(started + BREAKS_AT).await;
    let queries = |fake: &&Fake| fake.stats().queries();
    let victim = fakes.iter().max_by_key(queries).ok_or(RunError::NoProvider)?;
    let before = *victim.stats().of(setup.transport);
    let watched = watch(setup, victim, node.admin());
    let (ledger, watched) = tokio::join!(load.finish(), watched);
    let after = *victim.stats().of(setup.transport);
    let (left_after, cause, back_after) = watched;
    Ok(Run {
        summary: ledger?.summary(Some(BREAKS_AT)),
        left_after,
        cause,
        back_after,
        handshakes: Handshakes::between(before, after),
    })
}

/// Breaks the provider, mends it, and notes when the node leaves and takes it again.
async fn watch(
    setup: Setup<'_>,
    victim: &Fake,
    admin: SocketAddr,
) -> (Option<Duration>, Option<String>, Option<Duration>) {
    let Times { broken, after } = setup.times;
    let broke = clock::now();
    victim.set_fault(TransportSel::All, setup.fault);
    let left = stands(admin, victim.name(), broke + broken, |stand| stand.place != "normal").await;
    sleep_until(broke + broken).await;
    let mended = clock::now();
    victim.set_fault(TransportSel::All, Fault::None);
    let back = stands(admin, victim.name(), mended + after, |stand| stand.place == "normal").await;
    let left_after = left.as_ref().map(|(at, _)| at.saturating_duration_since(broke));
    (
        left_after,
        left.map(|(_, stand)| stand.reason),
        back.map(|(at, _)| at.saturating_duration_since(mended)),
    )
}

/// Where the node has an endpoint.
#[derive(Debug)]
struct Stand {
    place: String,
    reason: String,
}

/// Waits until the provider's endpoint stands so; when that was.
async fn stands(
    admin: SocketAddr,
    provider: &str,
    until: Instant,
    is_so: impl Fn(&Stand) -> bool,
) -> Option<(Instant, Stand)> {
    while clock::now() < until {
        if let Ok(response) = http::get(admin, "/api/v1/providers", POLL_PATIENCE).await
            && let Some(stand) = stand_of(&response.body, provider)
            && is_so(&stand)
        {
            return Some((clock::now(), stand));
        }
        sleep(POLL_EVERY).await;
    }
    None
}

/// What `/api/v1/providers` says of the first endpoint of this provider.
fn stand_of(body: &[u8], provider: &str) -> Option<Stand> {
    let providers: serde_json::Value = serde_json::from_slice(body).ok()?;
    let named = |value: &&serde_json::Value| value.get("name").and_then(|name| name.as_str()) == Some(provider);
    let own = providers.as_array()?.iter().find(named)?;
    let endpoint = own.get("endpoints")?.as_array()?.first()?;
    let text = |key: &str| Some(endpoint.get(key)?.as_str()?.to_owned());
    let place = text("place")?;
    let reason = text("reason").unwrap_or_default();
    let place_why = text("place_why").unwrap_or_default();
    // A place of its own has a reason of its own.
    let reason = if place_why == "throttled" { place_why } else { reason };
    Some(Stand { place, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_is_read_from_the_admin_listing() {
        let body = br#"[{"name":"fake1","endpoints":[{"state":"up","place":"normal","reason":"answering"}]},
            {"name":"fake2","endpoints":[{"state":"up","place":"out","reason":"answering","place_why":"throttled"}]}]"#;
        let stand = stand_of(body, "fake1").unwrap();
        assert_eq!([stand.place, stand.reason], ["normal", "answering"]);
        assert_eq!(stand_of(body, "fake2").unwrap().reason, "throttled");
        assert!(stand_of(body, "fake3").is_none());
        assert!(stand_of(b"not json", "fake1").is_none());
    }
}
