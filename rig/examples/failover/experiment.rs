//! One run: three fakes, a node, a load, and a fault into the provider that works most.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use detour_rig::authority::{Authority, AuthorityError, CA_FILE};
use detour_rig::ledger::LATE_AFTER;
use detour_rig::process::{node_config, node_config_trusting, provider_block};
use detour_rig::{
    Fake, FakeConfig, Fault, FreshNames, Law, Ledger, ListedTransports, Load, LoadConfig, LoadError, NodeProcess,
    StartError, StartNodeError, Summary, TransportSel, clock, http,
};
use tokio::time::{Instant, sleep, sleep_until};

/// Providers of the experiment.
const PROVIDERS: u64 = 3;
/// The busiest provider is the one with the most queries in this long before the fault.
const BUSY_WINDOW: Duration = Duration::from_secs(2);
/// How often the node is asked what it thinks.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How long it may take to say so.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// What one run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) node: &'a Path,
    pub(crate) fault: Fault,
    pub(crate) law: Law,
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
    pub(crate) fault_at: Duration,
    pub(crate) listed: ListedTransports,
    pub(crate) seed: u64,
}

/// What one run showed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) summary: Summary,
    /// From the fault to the node calling an endpoint of the provider `down`, as polled.
    pub(crate) down_after: Option<Duration>,
    /// One line per hurt query.
    pub(crate) hurt_lines: Vec<String>,
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
    /// The node ended while it was asked.
    #[error("the node ended during the run")]
    NodeEnded,
}

/// Carries it out; the node is gone afterwards, whatever happened.
pub(crate) async fn run(setup: Setup<'_>) -> Result<Run, RunError> {
    let directory = tempfile::tempdir().map_err(RunError::Directory)?;
    let authority = Authority::new()?;
    authority.write_pem(directory.path()).map_err(RunError::Directory)?;
    let start = |index| {
        let config = FakeConfig::new(&format!("fake{index}")).law(setup.law);
        let config = if setup.listed.is_encrypted() {
            config.encrypted(&authority)
        } else {
            config
        };
        Fake::start(config.seed(setup.seed.wrapping_mul(PROVIDERS).wrapping_add(index)))
    };
    let fakes = (1..=PROVIDERS).map(start).collect::<Result<Vec<_>, _>>()?;
    let config = node_config_for(&fakes, setup.listed);
    let mut node = NodeProcess::start(setup.node, &config, directory.path()).await?;

    let names = FreshNames {
        seed: setup.seed,
        ..FreshNames::default()
    };
    let config = LoadConfig::new(node.dns(), setup.rate, setup.duration);
    let load = Load::start(LoadConfig {
        names,
        law: setup.law,
        ..config
    })?;
    let started = load.started();
    let (victim, mark) = break_busiest(&fakes, setup, started).await;
    let (ledger, down_after) = finish(load, node.admin(), &victim, mark, setup.fault).await?;
    if !node.is_running() {
        return Err(RunError::NodeEnded);
    }
    drop(node);
    for fake in fakes {
        fake.shutdown().await;
    }
    let mark = mark.saturating_duration_since(started);
    Ok(Run {
        summary: ledger.summary(Some(mark)),
        down_after,
        hurt_lines: hurt_lines(&ledger, mark),
    })
}

/// A node is told of an authority only if it needs one.
fn node_config_for(fakes: &[Fake], listed: ListedTransports) -> String {
    let block = |fake: &Fake| provider_block(fake.name(), &fake.endpoints(listed));
    let blocks: Vec<_> = fakes.iter().map(block).collect();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    if listed.is_encrypted() {
        node_config_trusting(any, any, Path::new(CA_FILE), &blocks)
    } else {
        node_config(any, any, &blocks)
    }
}

/// Sets the fault when its time has come; returns whose it is and since when.
async fn break_busiest(fakes: &[Fake], setup: Setup<'_>, started: Instant) -> (String, Instant) {
    let queries = || fakes.iter().map(|fake| fake.stats().queries()).collect::<Vec<_>>();
    sleep_until(started + setup.fault_at.saturating_sub(BUSY_WINDOW)).await;
    let before = queries();
    sleep_until(started + setup.fault_at).await;
    let recent = queries()
        .into_iter()
        .zip(before)
        .map(|(now, then)| now.saturating_sub(then));
    let busiest = fakes.iter().zip(recent).max_by_key(|(_, recent)| *recent);
    if let Some((fake, _)) = busiest {
        fake.set_fault(TransportSel::All, setup.fault);
    }
    (
        busiest.map(|(fake, _)| fake.name().to_owned()).unwrap_or_default(),
        clock::now(),
    )
}

/// Waits for the ledger, and meanwhile for the node to call the provider down.
async fn finish(
    load: Load,
    admin: SocketAddr,
    victim: &str,
    mark: Instant,
    fault: Fault,
) -> Result<(Ledger, Option<Duration>), RunError> {
    let mut ledger = Box::pin(load.finish());
    let mut down = Box::pin(await_down(admin, victim));
    let mut down_after = None;
    loop {
        tokio::select! {
            // Cancel-safe: the future is kept and polled again.
            ledger = &mut ledger => return Ok((ledger?, down_after)),
            // Cancel-safe: the future is kept and polled again.
            () = &mut down, if fault != Fault::None && down_after.is_none() => {
                down_after = Some(clock::now().saturating_duration_since(mark));
            }
        }
    }
}

async fn await_down(admin: SocketAddr, provider: &str) {
    loop {
        let response = http::get(admin, "/api/v1/providers", POLL_PATIENCE).await;
        if response.is_ok_and(|response| is_down(&response.body, provider)) {
            return;
        }
        sleep(POLL_EVERY).await;
    }
}

/// Whether `/api/v1/providers` says that an endpoint of this provider is down.
fn is_down(body: &[u8], provider: &str) -> bool {
    let Ok(providers) = serde_json::from_slice::<serde_json::Value>(body) else {
        return false;
    };
    let named = |value: &&serde_json::Value| value.get("name").and_then(|name| name.as_str()) == Some(provider);
    let endpoints = providers
        .as_array()
        .and_then(|list| list.iter().find(named))
        .and_then(|it| it.get("endpoints"));
    endpoints.and_then(|list| list.as_array()).is_some_and(|list| {
        list.iter()
            .any(|endpoint| endpoint.get("state").and_then(|state| state.as_str()) == Some("down"))
    })
}

fn hurt_lines(ledger: &Ledger, mark: Duration) -> Vec<String> {
    let line = |record: &detour_rig::Record| {
        let sign = if record.scheduled < mark { '-' } else { '+' };
        let since_ms = record.scheduled.abs_diff(mark).as_millis();
        let allowed_ms = (record.latency_unfaulted + LATE_AFTER).as_millis();
        let took = record
            .latency()
            .map_or_else(|| "-".to_owned(), |took| took.as_millis().to_string());
        let rcode = record
            .answer
            .map_or_else(|| "-".to_owned(), |answer| answer.rcode.to_string());
        let (grade, name) = (record.grade(), ledger.name(record));
        format!("{sign}{since_ms} ms {grade:?} {name} rcode {rcode} took {took} ms, allowed {allowed_ms} ms")
    };
    ledger.hurt().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_is_read_from_the_admin_listing() {
        let body = br#"[{"name":"fake1","endpoints":[{"endpoint":"udp://127.0.0.1:1","state":"up"}]},
            {"name":"fake2","endpoints":[{"endpoint":"udp://127.0.0.1:2","state":"suspect"},{"state":"down"}]}]"#;
        assert!(!is_down(body, "fake1"));
        assert!(is_down(body, "fake2"));
        assert!(!is_down(body, "fake3"));
        assert!(!is_down(b"not json", "fake1"));
        assert!(!is_down(b"{}", "fake1"));
    }
}
