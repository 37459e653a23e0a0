//! `detour mesh test`: each stage, and advice where it ends.

use serde_json::Value;

use crate::world::{Lone, fakes, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_tried_stage_by_stage() {
    let fakes = fakes();
    let (mut host, mut guest) = (Lone::new(), Lone::new());
    host.start(&host.config(&fakes, &[guest.line()])).await;
    guest.start(&guest.config(&fakes, &[host.line()])).await;
    until("they are peers", async || {
        guest.has_peer_in(&host.id, "connected").await
    })
    .await;

    let admin = guest.admin().to_string();
    let test = |address: &str| guest.run(&["mesh", "test", address, "--admin", &admin]);
    let test_json = |address: &str| -> (i32, Value) {
        let (code, stdout, _) = guest.run(&["mesh", "test", address, "--admin", &admin, "--json"]);
        (code, serde_json::from_str(&stdout).unwrap())
    };
    let (code, stdout, stderr) = test(&host.line());
    assert_eq!(code, 0, "{stdout}{stderr}");
    for stage in ["address", "connection", "hello", "snapshots"] {
        assert!(stdout.lines().any(|line| line.starts_with(stage)), "{stdout}");
    }
    let (_, report) = test_json(&host.line());
    assert_eq!(
        (&report["ok"], report["stages"].as_array().unwrap().len()),
        (&true.into(), 4),
        "{report}"
    );
    // Trying is no new life of the node: what it had, it has.
    until("it is connected", async || {
        host.has_peer_in(&guest.id, "connected").await
    })
    .await;

    host.reload(&host.config(&fakes, &[]));
    until("it is expelled", async || {
        !host.has_peer_in(&guest.id, "connected").await
    })
    .await;
    let (code, stdout, _) = test(&host.line());
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("FAILED: the peer turned this node away"), "{stdout}");
    assert!(stdout.contains(&format!("    \"{}\",", guest.line())), "{stdout}");

    let other = Lone::new();
    let wrong = host.line().replace(&host.id, &other.id);
    let (code, report) = test_json(&wrong);
    assert_eq!(
        (code, &report["failed"]["stage"]),
        (1, &"connection".into()),
        "{report}"
    );
    assert!(
        report["failed"]["error"].as_str().unwrap().contains(&host.id),
        "{report}"
    );

    let (code, stdout, _) = test(&guest.line());
    assert!(code == 1 && stdout.contains("this node's own"), "{stdout}");
    let (code, stdout, _) = test("127.0.0.1:4853");
    assert!(code == 1 && stdout.contains("FAILED: the address"), "{stdout}");
}
