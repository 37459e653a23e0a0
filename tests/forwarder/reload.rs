//! Another configuration while the node runs: no query is lost, a file with mistakes changes nothing, and nothing is
//! left behind.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use detour_rig::{Authority, Fake, FakeConfig, FreshNames, ListedTransports, Load, LoadConfig, Transport, zone};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{PATIENCE, Tcp, Udp};
use crate::faults::hurt;
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, blocks, config, fake, udp_blocks, until};

/// Queries a second during reloads.
const RATE: u32 = 100;

/// Providers that speak everything, and what a configuration needs to trust them.
struct Providers {
    fakes: [Fake; 3],
    pem: PathBuf,
    _directory: TempDir,
}

impl Providers {
    fn start() -> Self {
        let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
        let start = |name| Fake::start(FakeConfig::new(name).encrypted(&authority)).unwrap();
        Self {
            fakes: ["one", "two", "three"].map(start),
            pem: authority.write_pem(directory.path()).unwrap(),
            _directory: directory,
        }
    }

    /// A configuration with these of them, by their numbers.
    fn config(&self, numbers: &[usize], listed: ListedTransports) -> String {
        let fakes: Vec<&Fake> = numbers.iter().map(|number| &self.fakes[*number]).collect();
        let trust = format!("version = 1\ntrust = [{:?}]\n", self.pem.display().to_string());
        config(&blocks(&fakes, listed)).replacen("version = 1\n", &trust, 1)
    }
}

fn load(node: &Node, seed: u64, lasts: Duration) -> Load {
    let names = FreshNames {
        seed,
        ..FreshNames::default()
    };
    let config = LoadConfig {
        names,
        ..LoadConfig::new(node.dns(), RATE, lasts)
    };
    Load::start(config).unwrap()
}

async fn providers(node: &Node) -> Vec<String> {
    let providers: Value = serde_json::from_str(&node.text("/api/v1/providers").await).unwrap();
    let names = providers.as_array().unwrap().iter();
    names
        .map(|provider| provider["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn providers_come_and_go_under_load_and_no_query_is_lost() {
    let site = Providers::start();
    let node = Node::start(&site.config(&[0], ListedTransports::Udp)).await;
    let load = load(&node, 1, Duration::from_secs(8));
    let sets: [(&[usize], ListedTransports); 7] = [
        (&[1, 2], ListedTransports::Udp),
        (&[2, 0, 1], ListedTransports::Tcp),
        (&[1, 0], ListedTransports::DohDotUdp),
        (&[1], ListedTransports::UdpTcp),
        (&[1, 0, 2], ListedTransports::Dot),
        (&[2, 0], ListedTransports::Doh),
        (&[2], ListedTransports::Udp),
    ];
    for (second, (set, listed)) in (1..).zip(sets) {
        tokio::time::sleep_until(load.started() + Duration::from_secs(second)).await;
        node.reloaded(&site.config(set, listed)).await;
        let names: Vec<_> = set.iter().map(|number| site.fakes[*number].name().to_owned()).collect();
        assert_eq!(providers(&node).await, names);
    }
    let ledger = load.finish().await.unwrap();
    assert_eq!(ledger.records.len(), 800);
    assert_eq!(hurt(&ledger), [""; 0], "stalled {:?}\n{}", ledger.stall, node.log());
    assert_eq!(node.metric("detour_panics_total", &[]).await, 0);
    assert_eq!(node.metric("detour_reports_dropped_total", &[]).await, 0);

    // Who is gone is neither asked nor shown.
    let [one, two, _] = &site.fakes;
    let asked = one.stats().queries() + two.stats().queries();
    let client = Udp::to(node.dns()).await;
    for index in 0..20 {
        let query = Message::query(&format!("late{index}.alder-lane.com"), rtype::A);
        assert_eq!(client.ask(&query).await.rcode, rcode::NOERROR);
    }
    assert_eq!(one.stats().queries() + two.stats().queries(), asked);
    let metrics = node.text("/metrics").await;
    for gone in [one, two] {
        for endpoint in gone.endpoints(ListedTransports::DohDotUdp) {
            assert!(!metrics.contains(&endpoint), "{metrics}");
        }
    }
}

#[tokio::test]
async fn the_same_file_again_keeps_connections_health_and_answers() {
    let fakes = ["one", "two"].map(fake);
    let [one, two] = &fakes;
    let own = config(&blocks(&[one, two], ListedTransports::Tcp));
    let node = Node::start(&own).await;
    node.has_looked(2).await;
    let client = Udp::to(node.dns()).await;
    for index in 0..20 {
        client
            .ask(&Message::query(&format!("n{index}.alder-lane.com"), rtype::A))
            .await;
    }
    let connections = || [one, two].map(|fake| fake.stats().of(Transport::Tcp).connections);
    let (before, asked) = (connections(), one.stats().queries() + two.stats().queries());
    let shown = |text: String| -> Value {
        let providers: Value = serde_json::from_str(&text).unwrap();
        let endpoints = providers.as_array().unwrap().iter();
        endpoints
            .map(|provider| {
                let endpoint = &provider["endpoints"][0];
                json!([provider["share_permille"], endpoint["state"], endpoint["p50_ms"]])
            })
            .collect()
    };
    let states = shown(node.text("/api/v1/providers").await);
    node.reloaded(&own).await;
    // A cap and another order of the same endpoints.
    node.reloaded(&own.replace("name = \"one\"", "name = \"one\"\nmax-qps = 5000"))
        .await;
    assert_eq!(shown(node.text("/api/v1/providers").await), states);
    client.ask(&Message::query("n0.alder-lane.com", rtype::A)).await;
    assert_eq!(
        one.stats().queries() + two.stats().queries(),
        asked,
        "the cache was lost"
    );
    for index in 20..40 {
        client
            .ask(&Message::query(&format!("n{index}.alder-lane.com"), rtype::A))
            .await;
    }
    assert_eq!(connections(), before, "connections were lost");
}

#[tokio::test]
async fn a_file_with_mistakes_changes_nothing_and_is_told_everywhere() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let good = config(&udp_blocks(&[&fake]));
    let client = Udp::to(node.dns()).await;
    for (bad, mistakes) in [
        ("version = 1\n[listen\n".to_owned(), &["detour.toml:2: "][..]),
        (
            format!("colour = 1\n{good}validates = 7\n"),
            &["detour.toml:1: colour: ", "provider[0].validates: "],
        ),
        (String::new(), &["version: ", "provider: "]),
        (
            good.replace(&fake.address().to_string(), &node.dns().to_string()),
            &["which is this node"],
        ),
    ] {
        node.reloaded(&bad).await;
        let (status, log) = (node.status().await, node.log());
        let rejected = status["configuration"]["reload"]["rejected"].as_str().unwrap();
        assert!(rejected.contains(mistakes[0]), "{rejected}");
        let summary = status["summary"].as_str().unwrap();
        assert!(
            summary.starts_with("the reload ") && summary.contains(rejected),
            "{summary}"
        );
        for mistake in mistakes {
            let told = log.lines().any(|line| line.contains("ERROR") && line.contains(mistake));
            assert!(told, "{mistake} in {log}");
        }
        assert_eq!(node.metric("detour_config_reload_failed", &[]).await, 1);
        let reply = client.ask(&Message::query("still.alder-lane.com", rtype::A)).await;
        assert_eq!(reply.addresses(), [zone::expected_a("still.alder-lane.com").unwrap()]);
    }
    fs::remove_file(node.file()).unwrap();
    crate::node::signal(node.id(), "HUP");
    until("a lost file is told", PATIENCE, async || {
        node.reloads("rejected").await == 5
    })
    .await;
    let status = node.status().await;
    assert!(
        status["summary"].to_string().contains("cannot read configuration file"),
        "{status}"
    );

    node.reloaded(&good).await;
    let status = node.status().await;
    assert_eq!(status["summary"], "the one provider answers");
    assert_eq!(status["configuration"]["reload"]["rejected"], Value::Null);
    assert_eq!(node.metric("detour_config_reload_failed", &[]).await, 0);
    assert_eq!((node.reloads("applied").await, node.reloads("rejected").await), (1, 5));
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_applied() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let good = config(&udp_blocks(&[&fake]));
    let (stranger, friend) = (Udp::to(node.dns()).await, Udp::from_to("127.0.0.2", node.dns()).await);
    let query = Message::query("named.alder-lane.com", rtype::A);
    let changed = good
        .replace("dns = [\"127.0.0.1:0\"]", "dns = [\"127.0.0.1:1\"]")
        .replace("admin = \"127.0.0.1:0\"", "admin = \"off\"\nallow = [\"127.0.0.2\"]")
        + "[cache]\nsize = \"1MiB\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n";
    node.reloaded(&changed).await;
    let keys = ["listen.dns", "listen.admin", "cache.size", "log.format"];
    let status = node.status().await;
    assert_eq!(status["configuration"]["restart"], json!(keys));
    assert!(status["summary"].to_string().contains("listen.dns"), "{status}");
    for key in keys {
        let label = format!("key=\"{key}\"");
        assert_eq!(node.metric("detour_config_restart_needed", &[&label]).await, 1);
        assert!(node.log().contains(key), "{}", node.log());
    }
    assert_eq!(
        node.metric("detour_config_restart_needed", &["key=\"state-dir\""])
            .await,
        0
    );
    assert_eq!(stranger.ask(&query).await.rcode, rcode::REFUSED);
    assert_eq!(friend.ask(&query).await.rcode, rcode::NOERROR);
    // What runs agrees with the file again.
    node.reloaded(&good).await;
    assert_eq!(node.status().await["configuration"]["restart"], json!([]));
    assert_eq!(stranger.ask(&query).await.rcode, rcode::NOERROR);
}

#[tokio::test]
async fn limits_of_connections_and_the_level_of_logs_follow_the_file() {
    let [fake, other] = ["fake", "other"].map(fake);
    let node = Node::before(&[&fake]).await;
    let good = config(&udp_blocks(&[&fake]));
    let query = Message::query("limits.alder-lane.com", rtype::A);
    let mut patient = Tcp::to(node.dns()).await;
    assert_eq!(patient.ask(&query).await.rcode, rcode::NOERROR);
    assert!(!node.log().contains("DEBUG"));
    let both = config(&udp_blocks(&[&fake, &other]));
    let tight = format!("{both}[limits]\ntcp-connections = 1\ntcp-idle = \"1s\"\n[log]\nlevel = \"debug\"\n");
    node.reloaded(&tight).await;
    // The new one answers its first question.
    until("more is logged", PATIENCE, async || node.log().contains("DEBUG")).await;
    // The one that is open fills the place there is.
    until("a second connection is refused", PATIENCE, async || {
        Tcp::to(node.dns()).await.receive().await;
        node.metric("detour_connections_refused_total", &["transport=\"tcp\""])
            .await
            > 0
    })
    .await;
    assert_eq!(patient.ask(&query).await.rcode, rcode::NOERROR);
    assert_eq!(patient.receive().await, None, "silent for longer than a second");
    let mut next = Tcp::to(node.dns()).await;
    assert_eq!(next.ask(&query).await.rcode, rcode::NOERROR);
    node.reloaded(&good.replace(&fake.address().to_string(), "127.0.0.1:9"))
        .await;
    let (mut first, mut second) = (Tcp::to(node.dns()).await, Tcp::to(node.dns()).await);
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.ask(&query).await.rcode, rcode::NOERROR, "from memory");
    }
}

#[tokio::test]
async fn a_watched_file_is_read_when_it_has_changed() {
    let fakes = ["one", "two"].map(fake);
    let [one, two] = &fakes;
    let watched = |fakes: &[&Fake]| format!("reload = \"watch\"\n{}", config(&udp_blocks(fakes)));
    let node = Node::start(&watched(&[one])).await;
    // As editors and orchestrators do it.
    let other = node.file().with_extension("new");
    fs::write(&other, watched(&[one, two])).unwrap();
    fs::rename(&other, node.file()).unwrap();
    until("the change is in force", PATIENCE, async || {
        providers(&node).await == ["one", "two"]
    })
    .await;
    fs::write(node.file(), "version = 2").unwrap();
    until("a mistake is told", PATIENCE, async || {
        node.reloads("rejected").await == 1
    })
    .await;
    assert_eq!(providers(&node).await, ["one", "two"]);
    // The switch itself is read, and thrown.
    fs::write(node.file(), config(&udp_blocks(&[two]))).unwrap();
    until("the last change is in force", PATIENCE, async || {
        providers(&node).await == ["two"]
    })
    .await;
}

/// What a process holds: descriptors, threads, resident KiB.
fn held(node: &Node) -> (usize, u64, u64) {
    let proc = format!("/proc/{}", node.id());
    let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (descriptors, number("Threads:"), number("VmRSS:"))
}

#[tokio::test]
async fn three_hundred_reloads_under_load_leave_nothing_behind() {
    let site = Providers::start();
    let node = Node::start(&site.config(&[0, 1], ListedTransports::DohDotUdp)).await;
    node.has_looked(2).await;
    let (descriptors, threads, _) = held(&node);
    let tasks = node.metric("detour_tasks", &[]).await;
    let sets: [(&[usize], ListedTransports); 6] = [
        (&[1, 2], ListedTransports::Udp),
        (&[0, 2], ListedTransports::Tcp),
        (&[0, 1, 2], ListedTransports::DohDotUdp),
        (&[0, 1, 2], ListedTransports::UdpTcp),
        (&[1, 2], ListedTransports::Dot),
        (&[0, 1], ListedTransports::DohDotUdp),
    ];
    let mut loads = Vec::new();
    let (mut settled, mut most) = (0, (0, 0));
    for round in 0..300_usize {
        if round % 50 == 0 {
            let seed = u64::try_from(round).unwrap() + 10;
            loads.push(load(&node, seed, Duration::from_secs(2)));
        }
        let (set, listed) = sets[round % sets.len()];
        node.reloaded(&format!(
            "{}[limits]\nin-flight = {}\n",
            site.config(set, listed),
            1_000 + round % 7
        ))
        .await;
        let (descriptors, threads, resident) = held(&node);
        most = (most.0.max(descriptors), most.1.max(threads));
        if round == 60 {
            settled = resident;
        }
    }
    for load in loads {
        let ledger = load.finish().await.unwrap();
        assert_eq!(hurt(&ledger), [""; 0], "stalled {:?}\n{}", ledger.stall, node.log());
    }
    assert_eq!(
        (node.reloads("applied").await, node.reloads("rejected").await),
        (300, 0)
    );
    assert_eq!(node.metric("detour_panics_total", &[]).await, 0);
    let (_, _, resident) = held(&node);
    // A socket per query of the last generation, were every reload to take seconds; threads that read the file stay a while.
    assert!(
        most.0 < descriptors + 400 && most.1 <= threads + 2,
        "{most:?} of {descriptors}, {threads}"
    );
    assert!(resident < settled + 8 * 1024, "{settled} KiB became {resident} KiB");
    until("sockets and tasks are gone", 3 * PATIENCE, async || {
        held(&node).0 <= descriptors + 4 && node.metric("detour_tasks", &[]).await <= tasks + 4
    })
    .await;
}
