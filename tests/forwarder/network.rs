//! The resolvers this machine was given: found in files of the test's own, followed while the node runs, and asked about
//! this network's names only. The rest is the public providers' business, and theirs alone.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use detour_rig::process::without_network_switch;
use serde_json::json;
use tempfile::TempDir;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, rcode, record, rtype};
use crate::node::{Node, config, until};
use crate::scripted::{Scripted, question_end, reply_to};
use crate::travel::{DEFAULT_BY_A, World, is_inside, sh};

const PTR: u16 = 12;
const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
const CAFE: Ipv4Addr = Ipv4Addr::new(10, 7, 7, 7);
/// What own probes ask.
const PROBE: &[u8] = b"\x01a\x0croot-servers\x03net\x00";

/// A resolver whose every address is this one and whose every pointer leads to the root.
async fn resolver(address: Ipv4Addr) -> Scripted {
    resolver_at([127, 0, 0, 1], address).await
}

/// The same at another address of its own.
async fn resolver_at(own: [u8; 4], address: Ipv4Addr) -> Scripted {
    Scripted::start_at(own, move |query| {
        let kind = u16::from(query[question_end(query) - 3]);
        let rdata = if kind == PTR {
            vec![0]
        } else {
            address.octets().to_vec()
        };
        let answer = record(&[0xc0, 0x0c], kind, 1, 300, &rdata);
        Some(reply_to(query, 0, [&[answer], &[], &[]]))
    })
    .await
}

/// Names a resolver was asked for, but for those of probes; in lower case and wire form.
fn names(resolver: &Scripted) -> Vec<Vec<u8>> {
    let asked = resolver.asked();
    let names = asked
        .iter()
        .map(|query| query[12..question_end(query) - 4].to_ascii_lowercase());
    let mut names: Vec<Vec<u8>> = names.filter(|name| name != PROBE).collect();
    names.sort();
    names.dedup();
    names
}

fn wire(names: &[&str]) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = names.iter().map(|name| crate::message::wire_name(name)).collect();
    names.sort();
    names
}

/// A machine with a file that says which resolvers it was given.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
    }

    /// The file is replaced as programs do it.
    fn says(&self, resolvers: &[SocketAddr], search: &str) {
        let mut text = String::from("# made by a test\nnameserver 127.0.0.53\n");
        for resolver in resolvers {
            text.push_str(&format!("nameserver [{}]:{}\n", resolver.ip(), resolver.port()));
        }
        text.push_str(search);
        let next = self.directory.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn config(&self, public: &Scripted, more: &str) -> String {
        let base = without_network_switch(&config(&[public.block("somebody")]));
        // Its own name is asked for otherwise.
        let base = base.replacen("version = 1\n", "version = 1\ndns64 = \"off\"\n", 1);
        format!("{base}\n[network]\nfiles = [\"{}\"]\n{more}", self.file().display())
    }
}

async fn ask(node: &Node, name: &str, kind: u16) -> Reply {
    let client = Udp::to(node.dns()).await;
    client.ask(&Message::query(name, kind).edns(1_232)).await
}

#[tokio::test]
async fn names_of_the_network_are_asked_of_the_network_from_the_first_query_on() {
    let (public, home) = (resolver(PUBLIC).await, resolver(HOME).await);
    let machine = Machine::new();
    machine.says(&[home.address], "search lan com\n");
    let node = Node::start(&machine.config(&public, "")).await;
    assert_eq!(ask(&node, "printer.lan", rtype::A).await.addresses(), [HOME]);
    assert_eq!(ask(&node, "7.1.168.192.in-addr.arpa", PTR).await.rcode, rcode::NOERROR);
    assert_eq!(
        ask(&node, "1.0.0.0.1.0.0.0.d.f.ip6.arpa", PTR).await.rcode,
        rcode::NOERROR
    );
    for name in ["example.com", "wlan", "lan.example"] {
        assert_eq!(ask(&node, name, rtype::A).await.addresses(), [PUBLIC], "{name}");
    }
    // Nobody gave these away.
    assert_eq!(ask(&node, "1.0.254.169.in-addr.arpa", PTR).await.rcode, rcode::NXDOMAIN);
    assert_eq!(names(&public), wire(&["example.com", "lan.example", "wlan"]));
    let own = [
        "printer.lan",
        "7.1.168.192.in-addr.arpa",
        "1.0.0.0.1.0.0.0.d.f.ip6.arpa",
    ];
    assert_eq!(names(&home), wire(&own));
    let status = node.status().await;
    let wanted = json!({
        "source": machine.file().display().to_string(),
        "resolvers": [home.address.to_string()],
        "search_domains": ["lan."],
    });
    assert_eq!(status["network"], wanted);
    assert_eq!(status["providers"]["total"], 1, "it is none for all names");
}

#[tokio::test]
async fn another_network_takes_the_place_of_the_first_while_the_node_runs() {
    let (public, home, cafe) = (resolver(PUBLIC).await, resolver(HOME).await, resolver(CAFE).await);
    let machine = Machine::new();
    machine.says(&[], "");
    let node = Node::start(&machine.config(&public, "")).await;
    // Without a network of its own a name is like any other.
    assert_eq!(ask(&node, "before.lan", rtype::A).await.addresses(), [PUBLIC]);
    assert_eq!(ask(&node, "7.1.168.192.in-addr.arpa", PTR).await.rcode, rcode::NXDOMAIN);
    let gave = async |resolver: &Scripted| {
        until("the network is followed", PATIENCE, async || {
            node.status().await["network"]["resolvers"] == json!([resolver.address.to_string()])
        })
        .await;
    };
    machine.says(&[home.address], "search lan\n");
    gave(&home).await;
    assert_eq!(
        ask(&node, "before.lan", rtype::A).await.addresses(),
        [HOME],
        "nothing of before holds"
    );
    assert_eq!(ask(&node, "nas.lan", rtype::A).await.addresses(), [HOME]);
    machine.says(&[cafe.address], "search lan\n");
    gave(&cafe).await;
    assert_eq!(
        ask(&node, "nas.lan", rtype::A).await.addresses(),
        [CAFE],
        "another network's name"
    );
    // Who is at the first one's address again may be somebody else.
    let before = home.asked_for("nas.lan").len();
    machine.says(&[home.address], "search lan\n");
    gave(&home).await;
    assert_eq!(ask(&node, "nas.lan", rtype::A).await.addresses(), [HOME]);
    assert!(home.asked_for("nas.lan").len() > before);
    assert_eq!(names(&public), wire(&["before.lan"]));
    assert_eq!(node.reloads("").await, 0, "no file of configuration was read");
}

#[tokio::test]
async fn another_network_that_gives_the_same_is_another_network() {
    if !is_inside("network::another_network_that_gives_the_same_is_another_network") {
        return;
    }
    let world = World::new();
    let (public, network) = (
        resolver_at([198, 51, 100, 2], PUBLIC).await,
        resolver_at([198, 51, 100, 1], HOME).await,
    );
    world.go_to_machine();
    sh(DEFAULT_BY_A);
    let machine = Machine::new();
    machine.says(&[network.address], "search lan\n");
    let node = Node::start(&machine.config(&public, "")).await;
    for _ in 0..3 {
        assert_eq!(ask(&node, "printer.lan", rtype::A).await.addresses(), [HOME]);
        assert_eq!(ask(&node, "example.com", rtype::A).await.addresses(), [PUBLIC]);
    }
    assert_eq!(network.asked_for("printer.lan").len(), 1);
    sh("ip route replace default via 10.2.0.1; ip addr flush dev a1");
    until("what was said is forgotten", PATIENCE, async || {
        ask(&node, "printer.lan", rtype::A).await;
        network.asked_for("printer.lan").len() == 2
    })
    .await;
    ask(&node, "example.com", rtype::A).await;
    assert_eq!(public.asked_for("example.com").len(), 1, "that is the same everywhere");
}

#[tokio::test]
async fn a_route_to_a_network_that_gives_nobody_leads_to_nobody() {
    let (public, home) = (resolver(PUBLIC).await, resolver(HOME).await);
    let machine = Machine::new();
    machine.says(&[], "search lan\n");
    let routes = "\n[[route]]\nzones = [\"corp.example\"]\nto = [\"network\"]\n";
    let node = Node::start(&machine.config(&public, routes)).await;
    let reply = ask(&node, "www.corp.example", rtype::A).await;
    assert_eq!((reply.rcode, reply.extended_errors()), (rcode::SERVFAIL, vec![23]));
    machine.says(&[home.address], "");
    until("the network is followed", PATIENCE, async || {
        ask(&node, "www.corp.example", rtype::A).await.addresses() == [HOME]
    })
    .await;
    assert_eq!(names(&public), Vec::<Vec<u8>>::new());
    // Without a search domain nothing but the route goes there.
    assert_eq!(ask(&node, "7.1.168.192.in-addr.arpa", PTR).await.rcode, rcode::NXDOMAIN);
}

#[tokio::test]
async fn it_can_be_switched_off_and_on() {
    let (public, home) = (resolver(PUBLIC).await, resolver(HOME).await);
    let machine = Machine::new();
    machine.says(&[home.address], "search lan\n");
    let off = machine.config(&public, "enabled = false\n");
    let node = Node::start(&off).await;
    assert_eq!(ask(&node, "one.lan", rtype::A).await.addresses(), [PUBLIC]);
    assert_eq!(node.status().await["network"], json!(null));
    node.reloaded(&machine.config(&public, "")).await;
    assert_eq!(
        ask(&node, "two.lan", rtype::A).await.addresses(),
        [HOME],
        "from the first query on"
    );
    node.reloaded(&machine.config(&public, "search-domains = false\n"))
        .await;
    assert_eq!(ask(&node, "three.lan", rtype::A).await.addresses(), [PUBLIC]);
    assert_eq!(names(&home), wire(&["two.lan"]));
}
