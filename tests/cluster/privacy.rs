//! What clients ask stays at the node they ask: nothing of it is in what a peer receives, shows, logs or keeps.

use std::fs;
use std::path::{Path, PathBuf};

use detour_rig::random::Random;

use crate::world::{answers, cluster, fakes, text, until};

/// Twenty letters that nothing contains by chance.
fn secret(seed: u64) -> String {
    let letters = Random::new(seed).bytes(20);
    letters.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(directories.iter().flat_map(|path| files_below(path)));
    files
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_that_clients_ask_reaches_a_peer() {
    let fakes = fakes();
    let cluster = cluster(2, &fakes, "full").await;
    let label = secret(1);
    for index in 0..40 {
        assert!(answers(
            cluster.nodes[0].dns(),
            &format!("n{index}.{label}.alder-lane.com")
        ));
    }
    // And one that fails everywhere, so that there is something to tell.
    fakes[0].set_fault(detour_rig::TransportSel::All, detour_rig::Fault::Servfail);
    for index in 0..40 {
        answers(cluster.nodes[0].dns(), &format!("f{index}.{label}.cedar-mill.org"));
    }
    until("the peer has heard from this node since", async || {
        let peers = cluster.nodes[1].get("/api/v1/peers").await.unwrap();
        let endpoints = peers["peers"][0]["endpoints"].as_array().unwrap();
        endpoints.iter().any(|endpoint| endpoint["state"] != "up")
    })
    .await;
    for node in &cluster.nodes {
        for path in ["/metrics", "/api/v1/peers", "/api/v1/status", "/api/v1/providers"] {
            let page = text(node.admin(), path).await;
            assert!(!page.contains(&label), "{path} of {}", node.name());
        }
    }
    let receiver = cluster.nodes[1].directory().to_owned();
    let sender = cluster.nodes[0].directory().to_owned();
    for path in files_below(&receiver).into_iter().chain(files_below(&sender)) {
        // A file may go while it is looked at.
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!contains(&bytes, &label), "{}", path.display());
    }
    assert!(cluster.stop().await);
}
