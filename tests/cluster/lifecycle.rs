//! Starts and ends: what of the mesh can fail, and that DNS runs all the same.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use detour_rig::{Cluster, NodeProcess};
use serde_json::Value;

use crate::world::{BINARY, Lone, answers, cluster, fakes, json, metric, peer_id, plain_config, run, text, until};

/// The names of a process' threads.
fn threads(id: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// That DNS runs without a mesh, and that everything says why.
async fn is_off_and_says(node: &Lone, why: &str) {
    until("everything says so", async || {
        let status = json(node.admin(), "/api/v1/status").await;
        let warnings = status["warnings"].as_array().unwrap();
        warnings.iter().any(|warning| warning.as_str().unwrap().contains(why))
    })
    .await;
    assert!(answers(node.process().dns(), "www.alder-lane.com"));
    assert_eq!(metric(node.admin(), "detour_mesh_up", &[]).await, Some(0));
    let peers = node.peers().await;
    let complaints = format!("{} {}", peers["complaints"], peers["own"]["listen"]);
    assert!(complaints.contains(why), "{peers}");
    assert!(node.log().contains(why), "{}", node.log());
    let shown = node.status();
    assert!(shown.contains(why), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_section_there_is_nothing_of_a_mesh() {
    let fakes = fakes();
    let directory = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(Path::new(BINARY), &plain_config(&fakes), directory.path())
        .await
        .unwrap();
    assert!(answers(node.dns(), "www.alder-lane.com"));
    assert!(!threads(node.id()).contains(&"mesh".to_owned()));
    assert!(!directory.path().join("state/identity").exists());
    assert!(!text(node.admin(), "/metrics").await.contains("detour_mesh_"));
    assert_eq!(json(node.admin(), "/api/v1/peers").await["state"], "none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_made_once_and_shown_while_the_node_runs() {
    let fakes = fakes();
    let mut node = Lone::new();
    let identity = node.state().join("identity");
    assert_eq!(fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    node.start(&node.config(&fakes, &[])).await;
    until("the mesh is up", async || node.peers().await["state"] == "up").await;
    assert!(threads(node.process().id()).contains(&"mesh".to_owned()));
    assert_eq!(metric(node.admin(), "detour_mesh_up", &[]).await, Some(1));
    assert_eq!(node.peers().await["own"]["peer_id"], node.id);

    let (code, stdout, stderr) = node.run(&["id"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.lines().next(), Some(node.id.as_str()));
    assert!(stdout.contains(&format!("\"{}\",", node.line())), "{stdout}");
    let (_, stdout, _) = node.run(&["id", "--json"]);
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&shown["line"], &shown["made"]), (&node.line().into(), &false.into()));
    assert!(node.stop().await);
    assert_eq!(peer_id(&node.state()), node.id);
    assert_eq!(run(&["id", "-c", "/nonexistent.toml"]).0, 78);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_costs_the_mesh_and_not_dns() {
    let fakes = fakes();
    let mut node = Lone::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    node.port = taken.local_addr().unwrap().port();
    node.start(&node.config(&fakes, &[])).await;
    is_off_and_says(&node, "Address already in use").await;
    assert_eq!(node.peers().await["state"], "deaf");
    assert!(node.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_cannot_be_used_costs_the_mesh_and_not_dns() {
    let fakes = fakes();
    let mut node = Lone::new();
    let identity = node.state().join("identity");
    let key = fs::read(&identity).unwrap();
    fs::write(&identity, b"garbage").unwrap();
    let config = node.config(&fakes, &[]);
    node.start(&config).await;
    is_off_and_says(&node, "holds no Ed25519 key").await;
    assert_eq!(node.peers().await["state"], "off");
    assert_eq!(fs::read(&identity).unwrap(), b"garbage", "left as it is");
    // Mended, a reload tries again.
    fs::write(&identity, key).unwrap();
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
    node.reload(&config);
    is_off_and_says(&node, "others can read the identity").await;
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    node.reload(&config);
    until("the mesh is up", async || node.peers().await["state"] == "up").await;
    assert_eq!(node.peers().await["own"]["peer_id"], node.id);
    let status = json(node.admin(), "/api/v1/status").await;
    assert!(!status["warnings"].to_string().contains("mesh"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_kept_there_is_no_mesh() {
    let fakes = fakes();
    let node = Lone::new();
    // A file in the place of the directory, which root cannot write to either.
    let file = node.file().with_file_name("file");
    fs::write(&file, b"").unwrap();
    let config = node.config(&fakes, &[]);
    let mut child = std::process::Command::new(BINARY);
    fs::write(node.file(), &config).unwrap();
    child
        .args(["run", "-c"])
        .arg(node.file())
        .arg("--state-dir")
        .arg(file.join("state"))
        // So that it ends with this process, however that ends.
        .arg("--stop-with-stdin")
        .stdin(Stdio::piped());
    child.stdout(fs::File::create(node.file().with_file_name("stdout")).unwrap());
    child.stderr(fs::File::create(node.file().with_file_name("node.log")).unwrap());
    let mut child = child.spawn().unwrap();
    let stdout = || fs::read_to_string(node.file().with_file_name("stdout")).unwrap();
    until("ready", async || stdout().lines().any(|line| line == "ready")).await;
    let stdout = stdout();
    let listening = |what| {
        stdout
            .lines()
            .find_map(|line| detour_rig::process::parse_listening(line, what))
    };
    let (dns, admin) = (listening("dns").unwrap(), listening("admin").unwrap());
    until("it says so", async || {
        json(admin, "/api/v1/peers").await["state"] == "off"
    })
    .await;
    assert!(answers(dns, "www.alder-lane.com"));
    assert_eq!(metric(admin, "detour_mesh_up", &[]).await, Some(0));
    assert!(
        node.log().contains("peers admit a node by an identity that lasts"),
        "{}",
        node.log()
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_under_one_identity_are_not_both_in_the_mesh() {
    let fakes = fakes();
    let mut first = Lone::new();
    first.start(&first.config(&fakes, &[])).await;
    until("the mesh is up", async || first.peers().await["state"] == "up").await;
    let mut second = Lone::new();
    second.port = 0;
    let config = second.config(&fakes, &[]);
    fs::remove_dir_all(second.state()).unwrap();
    std::os::unix::fs::symlink(first.state(), second.state()).unwrap();
    second.start(&config).await;
    is_off_and_says(&second, "another node runs with this state directory").await;
    assert_eq!(second.peers().await["state"], "off");
    // It takes over when the other one has ended.
    assert!(first.stop().await);
    until("the mesh is up", async || second.peers().await["state"] == "up").await;
    assert!(second.stop().await);
}

/// The life of a peer as another node knows it: boot id and incarnation, once its report counts.
async fn life(cluster: &Cluster, node: usize) -> Option<(String, u64)> {
    let peers = json(cluster.nodes[node].admin(), "/api/v1/peers").await;
    let peer = &peers["peers"][0];
    let is_heard = peer["state"] == "connected" && peer["fresh"] == true;
    is_heard.then(|| {
        (
            peer["boot"].as_str().unwrap().to_owned(),
            peer["incarnation"].as_u64().unwrap(),
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_comes_back_as_itself_and_is_heard() {
    let fakes = fakes();
    let mut cluster = cluster(2, &fakes, "full").await;
    until("both are heard", async || {
        life(&cluster, 0).await.is_some() && life(&cluster, 1).await.is_some()
    })
    .await;
    for _ in 0..2 {
        let (boot, incarnation) = life(&cluster, 1).await.unwrap();
        cluster.nodes[0].kill();
        cluster.nodes[0].start_again().await.unwrap();
        until("its new life is heard", async || {
            life(&cluster, 1)
                .await
                .is_some_and(|(new, higher)| new != boot && higher > incarnation)
        })
        .await;
        until("and it hears", async || life(&cluster, 0).await.is_some()).await;
    }
    assert!(cluster.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_so() {
    let fakes = fakes();
    let mut nodes = [Lone::new(), Lone::new()];
    let lines: Vec<String> = nodes.iter().map(Lone::line).collect();
    for node in &mut nodes {
        let config = node.config(&fakes, &lines);
        node.start(&config).await;
    }
    let [one, other] = &mut nodes;
    until("they are peers", async || {
        one.has_peer_in(&other.id, "connected").await && other.has_peer_in(&one.id, "connected").await
    })
    .await;
    until("and heard", async || {
        one.peer(&other.id).await.unwrap()["fresh"] == true
    })
    .await;
    assert!(other.stop().await);
    until("it is gone at once, and not when its report is stale", async || {
        let peer = one.peer(&other.id).await.unwrap();
        peer["state"] != "connected" && peer["endpoints"] == serde_json::json!([])
    })
    .await;
}
