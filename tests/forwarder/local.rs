//! Names that are answered here: special-use and reverse zones, and a hosts file. The fake counts what reaches it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use detour_rig::{Fake, zone};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{PATIENCE, Tcp, Udp};
use crate::command::Run;
use crate::message::{Message, Reply, Section, flag, question, rcode, rtype};
use crate::node::{Node, config, fake, udp_blocks, until};

const PTR: u16 = 12;
const SVCB: u16 = 64;
const DS: u16 = 43;

/// A node before a fake, with a hosts file of its own; `switches` are further lines of `[local-zones]`.
struct Local {
    node: Node,
    fake: Fake,
    directory: TempDir,
}

impl Local {
    async fn start(hosts: &str, switches: &str) -> Self {
        let fake = fake("fake");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), hosts).unwrap();
        let path = directory.path().join("hosts");
        let section = format!("\n[local-zones]\nhosts = \"{}\"\n{switches}\n", path.display());
        let node = Node::start(&(config(&udp_blocks(&[&fake])) + &section)).await;
        until("the probe of the start came", PATIENCE, async || {
            fake.stats().queries() >= 1
        })
        .await;
        Self { node, fake, directory }
    }

    async fn ask(&self, name: &str, rtype: u16) -> Reply {
        Udp::to(self.node.dns()).await.ask(&Message::query(name, rtype)).await
    }

    /// Queries that reached the fake, but for the probe of the start.
    fn asked(&self) -> u64 {
        self.fake.stats().queries() - 1
    }

    fn write_hosts(&self, text: &str) {
        fs::write(self.directory.path().join("hosts"), text).unwrap();
    }
}

/// The lower-case text of a name in an answer's data.
fn pointed_to(reply: &Reply) -> Vec<String> {
    let data = |rdata: &[u8]| {
        let text: Vec<u8> = rdata
            .iter()
            .map(|byte| if *byte < 64 && *byte != b'-' { b'.' } else { *byte })
            .collect();
        String::from_utf8(text).unwrap().trim_matches('.').to_owned()
    };
    reply
        .of_section(Section::Answer)
        .map(|record| data(&record.rdata))
        .collect()
}

#[tokio::test]
async fn special_names_never_reach_a_provider() {
    let local = Local::start("", "").await;
    let mut tcp = Tcp::to(local.node.dns()).await;
    let udp = Udp::to(local.node.dns()).await;
    let mut asked = 0;
    for (name, rtype, code) in [
        ("localhost", rtype::A, rcode::NOERROR),
        ("deep.in.LocalHost", rtype::AAAA, rcode::NOERROR),
        ("localhost", rtype::HTTPS, rcode::NOERROR),
        ("x.invalid", rtype::A, rcode::NXDOMAIN),
        ("x.test", rtype::MX, rcode::NXDOMAIN),
        ("printer.local", rtype::A, rcode::NXDOMAIN),
        ("local", rtype::SOA, rcode::NXDOMAIN),
        ("x.onion", rtype::AAAA, rcode::NXDOMAIN),
        ("x.alt", rtype::A, rcode::NXDOMAIN),
        ("x.internal", rtype::A, rcode::NXDOMAIN),
        ("x.home.arpa", rtype::A, rcode::NXDOMAIN),
        ("home.arpa", DS, rcode::NOERROR),
        ("_dns.resolver.arpa", SVCB, rcode::NOERROR),
        ("1.0.0.127.in-addr.arpa", PTR, rcode::NOERROR),
        ("7.1.168.192.in-addr.arpa", PTR, rcode::NXDOMAIN),
        ("1.1.31.172.in-addr.arpa", PTR, rcode::NXDOMAIN),
        ("1.1.127.100.in-addr.arpa", PTR, rcode::NXDOMAIN),
        ("1.0.d.f.ip6.arpa", PTR, rcode::NXDOMAIN),
        ("1.0.8.e.f.ip6.arpa", PTR, rcode::NXDOMAIN),
    ] {
        let query = Message::query(name, rtype);
        for query in [&query, &query.clone().flags(0), &query.clone().dnssec_ok()] {
            for reply in [udp.ask(query).await, tcp.ask(query).await] {
                assert_eq!(reply.rcode, code, "{name} {rtype}");
                assert_eq!(reply.question.as_ref(), query.questions.first());
                assert!(reply.has(flag::AA) && reply.has(flag::RA), "{name} {rtype}");
                assert_eq!(reply.has(flag::RD), query.flags & flag::RD != 0);
                assert_eq!(reply.edns.is_some(), !query.additionals.is_empty());
                let is_denial = reply.of_section(Section::Answer).next().is_none();
                let has_soa = reply
                    .of_section(Section::Authority)
                    .any(|record| record.rtype == rtype::SOA);
                assert_eq!(is_denial, has_soa, "{name} {rtype}");
                asked += 1;
            }
        }
        let other_class = Message::of_question(question(name, rtype, 4));
        assert_eq!(udp.ask(&other_class).await.rcode, rcode::REFUSED, "{name}");
    }
    assert_eq!(local.asked(), 0);
    assert_eq!(local.node.replies("local").await, asked);
    assert_eq!(
        local.ask("localhost", rtype::A).await.addresses(),
        [Ipv4Addr::LOCALHOST]
    );
    assert_eq!(
        pointed_to(&local.ask("1.0.0.127.in-addr.arpa", PTR).await),
        ["localhost"]
    );
}

#[tokio::test]
async fn a_zone_that_is_off_is_forwarded_and_the_others_are_not() {
    let switches = "\"168.192.in-addr.arpa\" = false\n\"home.arpa\" = false\nlocalhost = false\ntest = false";
    let local = Local::start("", switches).await;
    let forwarded = ["1.1.168.192.in-addr.arpa", "x.home.arpa", "x.localhost", "x.test"];
    for (before, name) in (0..).zip(forwarded) {
        assert_eq!(local.asked(), before);
        assert!(!local.ask(name, rtype::A).await.has(flag::AA), "{name}");
        assert_eq!(local.asked(), before + 1, "{name}");
    }
    for name in ["1.1.10.in-addr.arpa", "x.invalid", "x.local", "service.arpa"] {
        assert!(local.ask(name, rtype::A).await.has(flag::AA), "{name}");
    }
    assert_eq!(local.asked(), 4);
}

#[tokio::test]
async fn names_of_the_hosts_file_never_reach_a_provider() {
    // One that a provider knows, too: the file goes first.
    let known = "known.alder-lane.com";
    let hosts = format!("10.0.0.5 Nas.office nas\nfd00::5 nas6\n10.0.0.6 {known}\n127.0.1.1 desk\nnonsense\n");
    let local = Local::start(&hosts, "").await;
    for (name, address) in [
        ("nas", "10.0.0.5"),
        ("NAS.office", "10.0.0.5"),
        (known, "10.0.0.6"),
        ("desk", "127.0.1.1"),
    ] {
        let reply = local.ask(name, rtype::A).await;
        assert_eq!(reply.addresses(), [address.parse::<Ipv4Addr>().unwrap()], "{name}");
        assert!(reply.has(flag::AA) && reply.ttl() <= 10, "{name}");
        for missing in [rtype::AAAA, rtype::HTTPS, rtype::MX, rtype::TXT] {
            let reply = local.ask(name, missing).await;
            let answers = reply.of_section(Section::Answer).count();
            assert_eq!(
                (reply.rcode, answers, reply.has(flag::AA)),
                (rcode::NOERROR, 0, true),
                "{name} {missing}"
            );
        }
    }
    assert_eq!(local.ask("nas6", rtype::A).await.rcode, rcode::NOERROR);
    assert_eq!(
        pointed_to(&local.ask("5.0.0.10.in-addr.arpa", PTR).await),
        ["nas.office"]
    );
    assert_eq!(local.asked(), 0);
    // What is below a name is not in the file.
    assert!(!local.ask("below.known.alder-lane.com", rtype::A).await.has(flag::AA));
    assert_eq!(local.asked(), 1);
    let log = local.node.log();
    assert!(log.contains("ignored_lines=1"), "{log}");
    assert!(!log.contains("desk") && !log.to_lowercase().contains("nas"), "{log}");
}

#[tokio::test]
async fn an_edit_of_the_hosts_file_counts_without_a_restart() {
    let local = Local::start("10.0.0.1 changing\n", "").await;
    let addresses = async |name: &str| local.ask(name, rtype::A).await.addresses();
    let becomes = async |last: u8| {
        let wanted = [Ipv4Addr::new(10, 0, 0, last)];
        until("another address", PATIENCE, async || {
            addresses("changing").await == wanted
        })
        .await;
    };
    becomes(1).await;
    local.write_hosts("10.0.0.2 changing\n10.0.0.9 new.alder-lane.com\n");
    becomes(2).await;
    // Seen with the same edit, so never asked of the provider, which would know another address.
    assert_eq!(addresses("new.alder-lane.com").await, [Ipv4Addr::new(10, 0, 0, 9)]);
    // By another file, as careful editors do.
    fs::write(local.directory.path().join("next"), "10.0.0.3 changing\n").unwrap();
    fs::rename(
        local.directory.path().join("next"),
        local.directory.path().join("hosts"),
    )
    .unwrap();
    becomes(3).await;
    assert_eq!(local.asked(), 0);
    // A file that cannot be read leaves the names as they were, and the operator hears of it.
    fs::remove_file(local.directory.path().join("hosts")).unwrap();
    fs::create_dir(local.directory.path().join("hosts")).unwrap();
    until("the trouble is told", PATIENCE, async || {
        assert_eq!(addresses("changing").await, [Ipv4Addr::new(10, 0, 0, 3)]);
        let status: Value = serde_json::from_str(&local.node.text("/api/v1/status").await).unwrap();
        status["warnings"].to_string().contains("not a regular file")
    })
    .await;
    assert_eq!(local.asked(), 0);
    fs::remove_dir(local.directory.path().join("hosts")).unwrap();
    until("the file is gone", PATIENCE, async || {
        !local.ask("changing", rtype::A).await.has(flag::AA)
    })
    .await;
    assert_eq!(
        addresses("new.alder-lane.com").await,
        [zone::expected_a("new.alder-lane.com").unwrap()]
    );
}

#[tokio::test]
async fn local_names_are_answered_whatever_else_fails() {
    // Nobody answers at these providers, the hosts file is a pipe that nobody writes to, nothing can be kept on disk.
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("hosts");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let blocks = ["[[provider]]\nname = \"nobody\"\nendpoints = [\"udp://127.0.0.1:1\"]\n".to_owned()];
    let text = format!("{}\n[local-zones]\nhosts = \"{}\"\n", config(&blocks), pipe.display());
    fs::write(directory.path().join("detour.toml"), text).unwrap();
    fs::write(directory.path().join("state"), "a file, no directory").unwrap();
    let mut run = Run::start(&["run", "--state-dir", "state", "-c", "detour.toml"], directory);
    run.ready().await;
    let dns = run.listening("dns")[0];
    let reply = Udp::to(dns).await.ask(&Message::query("localhost", rtype::A)).await;
    assert_eq!(reply.addresses(), [Ipv4Addr::LOCALHOST]);
    until("the pipe is told of", PATIENCE, async || {
        run.stderr().contains("not a regular file")
    })
    .await;
    run.signal("TERM");
    assert_eq!(run.exit_code().await, 0);
}

#[tokio::test]
async fn loopback_addresses_stay_on_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    fs::write(&path, "127.0.0.9 desk\n10.0.0.5 desk\n127.0.0.9 alone\n").unwrap();
    let fake = fake("fake");
    let section = format!("\n[local-zones]\nhosts = \"{}\"\n", path.display());
    let everywhere = config(&udp_blocks(&[&fake]))
        .replacen("127.0.0.1:0", "0.0.0.0:0", 1)
        .replace("[listen]", "[listen]\nallow = [\"0.0.0.0/0\"]");
    let node = Node::start(&(everywhere + &section)).await;
    let at = |ip| SocketAddr::new(ip, node.dns().port());
    let (desk, alone) = (Message::query("desk", rtype::A), Message::query("alone", rtype::A));
    for own in ["127.0.0.1", "127.0.0.2"] {
        let client = Udp::from_to(own, at(Ipv4Addr::LOCALHOST.into())).await;
        let both = [Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 5)];
        assert_eq!(client.ask(&desk).await.addresses(), both, "{own}");
        assert_eq!(client.ask(&alone).await.addresses(), [both[0]], "{own}");
    }
    // Where this machine would send from, as another machine would; offline there is no such address.
    let outward = UdpSocket::bind("0.0.0.0:0").unwrap();
    if outward.connect("192.0.2.1:9").is_ok() {
        let own = outward.local_addr().unwrap().ip();
        let client = Udp::from_to(&own.to_string(), at(own)).await;
        assert_eq!(client.ask(&desk).await.addresses(), [Ipv4Addr::new(10, 0, 0, 5)]);
        let reply = client.ask(&alone).await;
        assert_eq!((reply.rcode, reply.addresses()), (rcode::NOERROR, Vec::new()));
    }
    until("the probe of the start came", PATIENCE, async || {
        fake.stats().queries() >= 1
    })
    .await;
    assert_eq!(fake.stats().queries(), 1);
}

#[tokio::test]
async fn explain_says_that_and_by_what_a_name_is_answered_here() {
    let local = Local::start("10.0.0.5 nas\n", "").await;
    let admin = local.node.admin().to_string();
    let said = async |name: &'static str, rtype: &'static str| {
        let (code, text, error) = Run::to_the_end(&["explain", name, rtype, "--admin", &admin]).await;
        assert_eq!(code, 0, "{error}");
        text
    };
    assert_eq!(
        said("printer.local", "A").await,
        "printer.local. A is answered by this node itself, as the zone local. (RFC 6762 section 22.1) says: no such \
         name; no provider is asked\n"
    );
    let path = local.directory.path().join("hosts").display().to_string();
    assert_eq!(
        said("nas", "AAAA").await,
        format!(
            "nas. AAAA is answered by this node itself, as the hosts file {path} says: no data of this type; no \
             provider is asked\n"
        )
    );
    let explained: Value = serde_json::from_str(&local.node.text("/api/v1/explain?name=nas").await).unwrap();
    assert_eq!(
        (&explained["policy"], &explained["local"]["path"]),
        (&json!("local"), &json!(path))
    );
    assert_eq!(local.asked(), 0);
}
