//! A node that nobody asks leaves a provider because a peer says that it fails; or does not, as `influence` has it.

use std::time::Duration;

use detour_rig::events::What;
use detour_rig::{Cluster, Fake, Fault, FreshNames, Load, LoadConfig, TransportSel};

use crate::world::{cluster, endpoint, fakes, json, metric, until};

/// Queries a second at the node that works.
const RATE: u32 = 100;
/// Longer than any test.
const LOAD: Duration = Duration::from_secs(120);

/// Lets node 1 work, switches a black hole on at one provider, and waits until node 1 has found it down.
async fn black_hole(cluster: &Cluster, fakes: &[Fake]) -> Load {
    let worker = &cluster.nodes[0];
    let load = Load::start(LoadConfig::new(worker.dns(), RATE, LOAD)).unwrap();
    let victim = &fakes[0];
    until("the provider is in use", async || victim.asked_by_clients() > 30).await;
    victim.set_fault(TransportSel::All, Fault::Blackhole);
    until("node 1 finds it down", async || {
        endpoint(worker, victim.name()).await["state"] == "down"
    })
    .await;
    load
}

/// Client attempts that a node sent to a fake.
async fn attempts(cluster: &Cluster, node: usize, fake: &Fake) -> u64 {
    let port = fake.address_of(detour_rig::Transport::Udp).unwrap().port();
    let label = format!("endpoint=\"udp://127.0.0.1:{port}\"");
    let admin = cluster.nodes[node].admin();
    metric(admin, "detour_attempts_total", &[&label]).await.unwrap_or(0)
}

/// Asks new names, one after the other.
async fn ask(cluster: &Cluster, node: usize, count: u32, seed: u64) {
    let mut config = LoadConfig::new(
        cluster.nodes[node].dns(),
        50,
        Duration::from_secs(u64::from(count) / 50),
    );
    config.names = FreshNames {
        seed,
        ..FreshNames::default()
    };
    let ledger = Load::start(config).unwrap().finish().await.unwrap();
    assert_eq!(ledger.summary(None).lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_leaves_a_black_hole_because_a_peer_said_so() {
    let fakes = fakes();
    let mut cluster = cluster(3, &fakes, "full").await;
    // It has clients, but they are silent when it happens.
    ask(&cluster, 2, 50, 7).await;
    let before = attempts(&cluster, 2, &fakes[0]).await;
    let load = black_hole(&cluster, &fakes).await;
    let idle = &cluster.nodes[2];
    until("the idle node's own probe has confirmed it", async || {
        endpoint(idle, "amber").await["claim"]["state"] == "confirmed"
    })
    .await;
    until("and it is down there, too", async || {
        endpoint(idle, "amber").await["state"] == "down"
    })
    .await;

    let row = endpoint(idle, "amber").await;
    assert_eq!(
        (&row["verdict"], &row["verdict_source"]),
        (&"down".into(), &"own".into())
    );
    let peers = json(idle.admin(), "/api/v1/peers").await;
    let known = peers["peers"].as_array().unwrap();
    let by = &row["claim"]["by"];
    let reporter = known.iter().find(|peer| peer["peer_id"] == *by).unwrap();
    let said = reporter["endpoints"].as_array().unwrap();
    let word = said.iter().find(|said| said["endpoint"] == row["endpoint"]).unwrap();
    assert_eq!(word["state"], "down", "{reporter}");
    // Its nodes are at sites of their own.
    assert_eq!(row["attribution"], "their-outage");
    let status = json(idle.admin(), "/api/v1/status").await;
    let summary = status["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("amber is down (timeout, their outage) since "),
        "{summary}"
    );

    let own = row["endpoint"].as_str().unwrap();
    let events = cluster.nodes[2].events.read();
    let places = events.iter().filter(|event| &*event.endpoint == own);
    let why: Vec<&str> = places
        .filter_map(|event| match &event.what {
            What::Place { why, .. } => Some(&**why),
            What::State { .. } => None,
        })
        .collect();
    assert_eq!(why.first(), Some(&"reported"), "{why:?}");
    assert_eq!(why.last(), Some(&"down"), "{why:?}");

    ask(&cluster, 2, 50, 8).await;
    assert_eq!(
        attempts(&cluster, 2, &fakes[0]).await,
        before,
        "client queries to the black hole"
    );
    let explained = json(cluster.nodes[2].admin(), "/api/v1/explain?name=www.alder-lane.com").await;
    assert_eq!(explained["claims"][0]["claim"]["state"], "confirmed", "{explained}");
    assert_eq!(explained["claims"][0]["place_why"], "down");
    load.stop();

    fakes[0].set_fault(TransportSel::All, Fault::None);
    until("it is back in place", async || {
        endpoint(&cluster.nodes[2], "amber").await["place"] == "normal"
    })
    .await;
    assert!(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_influence_reports_are_shown_and_move_nothing() {
    let fakes = fakes();
    let mut cluster = cluster(2, &fakes, "none").await;
    let load = black_hole(&cluster, &fakes).await;
    until("the report is shown", async || {
        endpoint(&cluster.nodes[1], "amber").await["claim"]["state"] == "ignored"
    })
    .await;
    let row = endpoint(&cluster.nodes[1], "amber").await;
    assert_eq!(
        (&row["place"], &row["place_why"]),
        (&"normal".into(), &"healthy".into())
    );
    assert_eq!(row["claim"]["probed_ms"], serde_json::Value::Null);
    let moved = cluster.nodes[1].events.read();
    assert!(!moved.iter().any(detour_rig::Event::is_leaving), "{moved:?}");
    load.stop();
    assert!(cluster.stop().await);
}
