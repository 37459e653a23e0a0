//! From the command line to the exit code: how a node starts, what keeps it from starting, how it stops.

use std::net::{TcpListener, UdpSocket};

use detour_rig::{Fake, Fault, TransportSel, clock, http, zone};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{PATIENCE, Tcp, Udp};
use crate::command::Run;
use crate::message::{Message, rtype};
use crate::node::{Node, config, fake, fake_with, udp_blocks, until};

/// A config on free ports with a provider that is not there: a start asks it, and nothing must leave the machine.
fn quiet_config() -> String {
    config(&["[[provider]]\nname = \"nobody\"\nendpoints = [\"udp://127.0.0.1:9\"]\n".to_owned()])
}

#[tokio::test]
async fn a_node_says_where_it_listens_and_stops_in_order() {
    for signal in ["TERM", "INT"] {
        let mut run = Run::node(Some(&quiet_config()), &[]);
        run.ready().await;
        let (dns, admin) = (run.listening("dns"), run.listening("admin"));
        assert_eq!((dns.len(), admin.len()), (1, 1), "{}", run.stdout());
        assert_eq!(http::get(admin[0], "/readyz", PATIENCE).await.unwrap().status, 200);
        let (_udp, _tcp) = (Udp::to(dns[0]).await, Tcp::to(dns[0]).await);
        run.signal(signal);
        assert_eq!(run.exit_code().await, 0, "{}", run.stderr());
        assert!(TcpListener::bind(dns[0]).is_ok(), "the port is free again");
    }
}

#[tokio::test]
async fn a_query_under_way_is_answered_before_the_end() {
    let fake = fake_with("fake", detour_rig::Law::Flat(PATIENCE / 15));
    let mut run = Run::node(Some(&config(&udp_blocks(&[&fake]))), &[]);
    run.ready().await;
    let dns = run.listening("dns")[0];
    let (udp, mut tcp) = (Udp::to(dns).await, Tcp::to(dns).await);
    let names = ["last-udp.alder-lane.com", "last-tcp.alder-lane.com"];
    udp.send(&Message::query(names[0], rtype::A).bytes()).await;
    tcp.send(&Message::query(names[1], rtype::A).bytes()).await;
    until("both are under way", PATIENCE, async || fake.stats().queries() > 2).await;
    run.signal("TERM");
    let replies = [udp.receive().await, tcp.receive().await.expect("a reply, not an end")];
    for (name, reply) in names.iter().zip(replies) {
        assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
    }
    assert_eq!(run.exit_code().await, 0, "{}", run.stderr());
}

#[tokio::test]
async fn a_dns_port_that_is_taken_ends_the_start() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for taken in [tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        let mut run = Run::node(Some(&quiet_config()), &["--listen", &taken.to_string()]);
        assert_eq!(run.exit_code().await, 1);
        let said = run.stderr();
        assert!(said.contains(&taken.to_string()) && said.lines().count() == 1, "{said}");
        assert!(!run.stdout().contains("ready"));
    }
}

#[tokio::test]
async fn an_admin_port_that_is_taken_ends_the_start_only_where_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let named = quiet_config().replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{address}\""));
    assert!(named.contains(&address));
    let mut run = Run::node(Some(&named), &[]);
    assert_eq!(run.exit_code().await, 1);
    assert!(run.stderr().contains(&address), "{}", run.stderr());

    let mut run = Run::node(Some(&quiet_config()), &["--admin", &address]);
    assert_eq!(run.exit_code().await, 1);

    // The default's port is either free, and then taken by this, or taken already.
    let _taken = TcpListener::bind("127.0.0.1:9353");
    let unnamed = quiet_config().replace("admin = \"127.0.0.1:0\"\n", "");
    let mut run = Run::node(Some(&unnamed), &[]);
    run.ready().await;
    assert_eq!((run.listening("dns").len(), run.listening("admin").len()), (1, 0));
    assert!(run.stderr().contains("127.0.0.1:9353"), "{}", run.stderr());
    run.signal("TERM");
    assert_eq!(run.exit_code().await, 0);
}

#[tokio::test]
async fn an_ipv6_loopback_is_served_or_its_absence_is_told() {
    let both = quiet_config().replace("dns = [\"127.0.0.1:0\"]", "dns = [\"127.0.0.1:0\", \"[::1]:0\"]");
    let mut run = Run::node(Some(&both), &[]);
    run.ready().await;
    let served = run.listening("dns").iter().any(std::net::SocketAddr::is_ipv6);
    assert!(
        served || run.stderr().contains("[::1]"),
        "{}{}",
        run.stdout(),
        run.stderr()
    );
}

#[tokio::test]
async fn mistakes_in_the_config_are_told_all_at_once_each_with_its_line() {
    let wrong = "version = 1\ncolour = \"blue\"\n[listen]\ndns = [\"127.0.0.1\"]\n";
    for command in ["run", "check"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("wrong.toml"), wrong).unwrap();
        let mut run = Run::start(&[command, "-c", "wrong.toml"], directory);
        assert_eq!(run.exit_code().await, 78);
        let said = run.stderr();
        for place in ["wrong.toml:2: colour: ", "wrong.toml:4: listen.dns[0]: ", "provider"] {
            assert!(said.contains(place), "{place} is missing: {said}");
        }
        assert_eq!((said.lines().count(), run.stdout()), (3, String::new()), "{said}");
    }
    for command in ["run", "check"] {
        let (code, _, said) = Run::to_the_end(&[command, "-c", "absent.toml"]).await;
        assert_eq!(code, 78);
        assert!(said.contains("absent.toml"), "{said}");
    }
}

#[tokio::test]
async fn a_sound_config_is_confirmed() {
    let (code, said, complaints) = Run::to_the_end(&["check"]).await;
    assert_eq!((code, complaints), (0, String::new()));
    assert!(said.contains("ok"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine.toml"), quiet_config()).unwrap();
    let mut run = Run::start(&["check", "mine.toml"], directory);
    assert_eq!(run.exit_code().await, 0);
    assert!(run.stdout().contains("mine.toml: ok"), "{}", run.stdout());
    assert_eq!(run.stderr(), "");
}

#[tokio::test]
async fn a_wrong_command_line_is_told_from_a_request_for_help() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--colour"],
        &["run", "--listen", "53"],
        &["query"],
    ] {
        let (code, said, complaints) = Run::to_the_end(arguments).await;
        assert_eq!((code, said), (64, String::new()), "{arguments:?}");
        assert!(!complaints.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let (code, said, complaints) = Run::to_the_end(arguments).await;
        assert_eq!((code, complaints), (0, String::new()), "{arguments:?}");
        assert!(said.to_lowercase().contains("detour"), "{said}");
    }
}

#[tokio::test]
async fn a_node_that_cannot_write_runs_from_memory_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine.toml"), quiet_config()).unwrap();
    // Nobody can make a directory there, not even root.
    let mut run = Run::start(
        &["run", "-c", "mine.toml", "--state-dir", "/dev/null/detour"],
        directory,
    );
    run.ready().await;
    assert!(run.stderr().contains("/dev/null/detour"), "{}", run.stderr());
    let status = http::get(run.listening("admin")[0], "/api/v1/status", PATIENCE)
        .await
        .unwrap();
    let status: Value = serde_json::from_slice(&status.body).unwrap();
    assert!(status["warnings"].to_string().contains("/dev/null/detour"), "{status}");
}

/// The status of a GET with this Host.
async fn status_for(node: &Node, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(node.admin()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let read = stream.read_to_string(&mut response);
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("a response in time")
        .unwrap();
    response.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn the_admin_interface_answers_its_own_name_alone_whatever_providers_do() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let paths = ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/providers"];
    for fault in [Fault::None, Fault::Blackhole] {
        fake.set_fault(TransportSel::All, fault);
        for path in paths {
            assert_eq!(node.get(path).await.status, 200, "{path} under {fault}");
        }
    }
    let own = node.admin().to_string();
    for path in paths {
        assert_eq!(status_for(&node, path, &own).await, "200");
        for foreign in ["evil.example", "evil.example:9353", "192.0.2.1"] {
            assert_eq!(status_for(&node, path, foreign).await, "421", "{path} for {foreign}");
        }
    }
    assert_eq!(node.get("/nothing").await.status, 404);
}

/// Runs a reading command against a node.
async fn told(arguments: &[&str]) -> String {
    let (code, said, complaints) = Run::to_the_end(arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {complaints}");
    said
}

#[tokio::test]
async fn query_and_explain_speak_to_a_running_node() {
    let fake: Fake = fake("only-provider");
    let node = Node::before(&[&fake]).await;
    let (dns, admin) = (node.dns().to_string(), node.admin().to_string());
    let name = "typed.alder-lane.com";
    let address = zone::expected_a(name).unwrap().to_string();
    for way in [&["--tcp"][..], &["--json"], &[]] {
        let said = told(&[&["query", name, "--server", &dns], way].concat()).await;
        assert!(said.contains(&address), "{said}");
    }
    assert!(
        told(&["explain", name, "--admin", &admin])
            .await
            .contains("only-provider")
    );
    let json: Value = serde_json::from_str(&told(&["explain", name, "--admin", &admin, "--json"]).await).unwrap();
    assert!(json.to_string().contains("only-provider"), "{json}");
    let before = clock::now();
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let (code, _, complaints) = Run::to_the_end(&["explain", name, "--admin", &free]).await;
    assert_eq!(code, 1);
    assert!(
        complaints.contains(&free) && before.elapsed() < PATIENCE,
        "{complaints}"
    );
}
