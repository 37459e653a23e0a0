//! The first seconds of a node: what it says about the providers, and what `detour status` says of a node that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{Fake, Fault, ListedTransports, Transport, TransportSel, clock};
use serde_json::Value;

use crate::client::PATIENCE;
use crate::command::Run;
use crate::node::{Node, blocks, config, fake, udp_blocks, until};

/// The promise; a busy machine may add to it.
const REPORT_WITHIN: Duration = Duration::from_secs(3);

/// Starts a node and waits for the end of its report; the report.
async fn report(config: &str) -> (Run, String) {
    let mut run = Run::node(Some(config), &[]);
    run.ready().await;
    let ready = clock::now();
    until("the report", PATIENCE, async || run.stdout().contains("\ntry: ")).await;
    let took = clock::now() - ready;
    assert!(took < REPORT_WITHIN + Duration::from_secs(2), "{took:?}");
    let said = run.stdout();
    let (before, report) = said.split_once("\nready\n").unwrap();
    assert!(before.lines().all(|line| line.starts_with("listening ")), "{before}");
    (run, report.to_owned())
}

#[tokio::test]
async fn a_start_tells_who_answers_over_what_and_what_to_try() {
    let fakes = ["one", "two", "three"].map(fake);
    let [one, two, three] = &fakes;
    let mut all = udp_blocks(&[one, two]);
    all.extend(blocks(&[three], ListedTransports::Tcp));
    let (run, said) = report(&config(&all)).await;
    let dns = run.listening("dns")[0];
    assert!(
        said.starts_with("3 of 3 providers answer (2 over udp, 1 over tcp)\n"),
        "{said}"
    );
    assert!(
        said.contains(&format!("try: detour query example.com --server {dns}\n")),
        "{said}"
    );
    assert!(said.contains("/etc/resolv.conf"), "{said}");
    // Each was asked once, and nobody is asked again as long as nobody asks.
    let asked = fakes.iter().map(|fake| fake.stats().queries());
    assert_eq!(asked.collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_start_tells_who_does_not_answer_and_finds_the_transport_that_does() {
    let fakes = ["one", "two", "three"].map(fake);
    let [one, two, three] = &fakes;
    two.set_fault(TransportSel::All, Fault::Blackhole);
    three.set_fault(TransportSel::Only(Transport::Udp), Fault::Blackhole);
    let mut all = udp_blocks(&[one, two]);
    all.extend(blocks(&[three], ListedTransports::UdpTcp));
    let (run, said) = report(&config(&all)).await;
    let first = said.lines().next().unwrap();
    assert!(
        first.starts_with("2 of 3 providers answer (1 over tcp, 1 over udp); "),
        "{said}"
    );
    assert!(
        first.contains("two is ") || first.ends_with("no answer from two"),
        "{said}"
    );
    let admin = run.listening("admin")[0];
    assert!(
        said.contains(&format!("try: detour status --admin {admin}\n")),
        "{said}"
    );
}

#[tokio::test]
async fn a_start_without_any_answer_says_that_the_machine_seems_offline() {
    let fakes = ["one", "two"].map(fake);
    for fake in &fakes {
        fake.set_fault(TransportSel::All, Fault::Blackhole);
    }
    let [one, two] = &fakes;
    let (_run, said) = report(&config(&udp_blocks(&[one, two]))).await;
    assert!(
        said.starts_with("no provider answers: this machine seems offline\n"),
        "{said}"
    );
    assert!(said.contains("try: ip route"), "{said}");
}

#[tokio::test]
async fn a_start_makes_a_token_for_its_owner_alone_and_keeps_it() {
    let quiet = config(&[provider_block("nobody", &["udp://127.0.0.1:9".to_owned()])]);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("detour.toml"), quiet).unwrap();
    let token = directory.path().join("state/token");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let mut run = Run::inside(&["run", "-c", "detour.toml", "--state-dir", "state"], directory.path());
        run.ready().await;
        until("the token is there", PATIENCE, async || token.exists()).await;
        tokens.push(fs::read(&token).unwrap());
    }
    assert_eq!((tokens[0].len(), &tokens[0]), (65, &tokens[1]));
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What a reading command says.
async fn told(arguments: &[&str]) -> String {
    let (code, said, complaints) = Run::to_the_end(arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {complaints}");
    said
}

#[tokio::test]
async fn status_says_first_what_is_wrong() {
    let fakes = ["first", "second"].map(fake);
    let [first, second] = &fakes;
    let node = Node::before(&[first, second]).await;
    let admin = node.admin().to_string();
    let status = ["status", "--admin", admin.as_str()];
    until("both answer", PATIENCE, async || {
        told(&status).await.starts_with("all 2 providers answer\n")
    })
    .await;
    let all = told(&status).await;
    for part in [
        "PROVIDER",
        "first",
        "second",
        "normal",
        "udp://",
        "configuration: ",
        "running: ",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    node.reload("version = 1\n");
    until("the mistake is told first", PATIENCE, async || {
        told(&status).await.starts_with("the reload ")
    })
    .await;
    let both: Value = serde_json::from_str(&told(&[&status[..], &["--json"]].concat()).await).unwrap();
    assert_eq!(both["status"]["providers"]["total"], 2);
    assert_eq!(both["providers"][1]["name"], "second");
    assert!(both["status"]["configuration"]["reload"]["rejected"].is_string());
}

#[tokio::test]
async fn status_finds_the_node_by_its_file_and_says_when_there_is_none() {
    let fake: Fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let named =
        config(&udp_blocks(&[&fake])).replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", node.admin()), 1);
    fs::write(&file, &named).unwrap();
    let path = file.to_str().unwrap();
    assert!(told(&["status", "-c", path]).await.contains("fake"));
    drop(node);
    let (code, said, complaints) = Run::to_the_end(&["status", "-c", path]).await;
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(complaints.contains("no node answers at"), "{complaints}");
    // Mistakes in the file are told, and are no reason not to look.
    fs::write(&file, "version = 1\n[listen\n").unwrap();
    let (_, _, complaints) = Run::to_the_end(&["status", "-c", path]).await;
    assert!(
        complaints.contains("mine.toml:2: ") && complaints.contains("127.0.0.1:9353"),
        "{complaints}"
    );
    for command in [&["status", "-c", path][..], &["explain", "example.com", "-c", path]] {
        // As far as it can be read, the file says where its node is; another one is not asked in its place.
        fs::write(&file, "version = = 1\n[listen]\nadmin = \"127.0.0.1:1\"\n").unwrap();
        let (code, _, complaints) = Run::to_the_end(command).await;
        assert!(
            code == 1 && complaints.contains("no node answers at 127.0.0.1:1 "),
            "{complaints}"
        );
        fs::write(&file, "version = = 1\n[listen]\nadmin = 9353\n").unwrap();
        let (code, said, complaints) = Run::to_the_end(command).await;
        assert_eq!((code, said.as_str()), (78, ""));
        assert!(
            complaints.contains("nobody is asked") && complaints.contains("mine.toml:1: "),
            "{complaints}"
        );
    }
}
