//! Who is let in: listed on both sides. Whoever is not is told, and both sides show the line that is missing.

use crate::world::{Lone, fakes, json, metric, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_turned_away_with_the_line_that_would_admit_it() {
    let fakes = fakes();
    let (mut host, mut stranger) = (Lone::new(), Lone::new());
    let alone = host.config(&fakes, &[]);
    host.start(&alone).await;
    stranger.start(&stranger.config(&fakes, &[host.line()])).await;

    until("both know", async || {
        host.has_peer_in(&stranger.id, "refused").await && stranger.has_peer_in(&host.id, "refused").await
    })
    .await;
    let there = stranger.peer(&host.id).await.unwrap();
    assert_eq!(
        (&there["listed"], &there["refused"]["by"]),
        (&true.into(), &"peer".into())
    );
    assert_eq!(there["refused"]["reason"], "unknown-node");
    assert_eq!(there["refused"]["missing"], "there", "{there}");
    assert_eq!(there["refused"]["line"], stranger.line());
    let here = host.peer(&stranger.id).await.unwrap();
    assert_eq!((&here["listed"], &here["refused"]["by"]), (&false.into(), &"us".into()));
    assert_eq!(here["refused"]["missing"], "here", "{here}");
    assert_eq!(here["refused"]["line"], stranger.line());
    let status = json(stranger.admin(), "/api/v1/status").await;
    let summary = status["summary"].as_str().unwrap();
    assert!(summary.contains("turns this node away (unknown-node)"), "{summary}");
    for node in [&host, &stranger] {
        let log = node.log();
        assert!(log.contains(&stranger.line()), "{log}");
        let shown = node.status();
        assert!(shown.contains(&stranger.line()), "{shown}");
        assert!(metric(node.admin(), "detour_mesh_refusals_total", &["unknown-node"]).await >= Some(1));
    }

    // The line, pasted.
    host.reload(&host.config(&fakes, &[here["refused"]["line"].as_str().unwrap().to_owned()]));
    until("they are peers", async || {
        host.has_peer_in(&stranger.id, "connected").await && stranger.has_peer_in(&host.id, "connected").await
    })
    .await;
    assert_eq!(
        host.peer(&stranger.id).await.unwrap()["refused"],
        serde_json::Value::Null
    );

    // And taken out.
    host.reload(&alone);
    until("they are not", async || {
        !host.has_peer_in(&stranger.id, "connected").await && stranger.has_peer_in(&host.id, "refused").await
    })
    .await;
    assert!(host.stop().await && stranger.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_list_fits_all_nodes_and_influence_is_hot() {
    let fakes = fakes();
    let mut nodes = [Lone::new(), Lone::new()];
    let lines: Vec<String> = nodes.iter().map(Lone::line).collect();
    for node in &mut nodes {
        let config = node.config(&fakes, &lines);
        node.start(&config).await;
    }
    let [one, other] = &nodes;
    until("they are peers", async || one.has_peer_in(&other.id, "connected").await).await;
    assert_eq!(one.peer(&one.id).await, None, "a node is no peer of its own");
    assert_eq!(one.peers().await["influence"], "full");

    one.reload(&format!("{}influence = \"hint\"\n", one.config(&fakes, &lines)));
    until("it is in force", async || one.peers().await["influence"] == "hint").await;
    let elsewhere = one.config(&fakes, &lines).replace("\"tests\"", "\"elsewhere\"");
    one.reload(&elsewhere);
    until("the key waits for a restart", async || {
        json(one.admin(), "/api/v1/status").await["configuration"]["restart"]
            == serde_json::json!(["mesh.cluster", "mesh.operator"])
    })
    .await;
    until("they are connected", async || {
        one.has_peer_in(&other.id, "connected").await
    })
    .await;
}
