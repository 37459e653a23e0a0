//! Endpoints with host names: resolved by others, followed when they move, remembered over an outage; and DNS stamps.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detour_resolver::exchange::tls::CertificateHash;
use detour_resolver::sdns::Stamp;
use detour_rig::fake::Encryption;
use detour_rig::{Authority, Fake, FakeConfig, Fault, StartError, Transport, TransportSel, zone};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{PATIENCE, Udp};
use crate::home::{Home, names};
use crate::message::{CLASS_IN, Message, record, rtype, wire_name};
use crate::node::{Node, config, fake, udp_blocks, until};
use crate::scripted::{Scripted, question_end, reply_to};

/// The addresses of each name; `None` for all of them is silence.
type Known = Arc<Mutex<Option<BTreeMap<String, Vec<IpAddr>>>>>;

/// A resolver for host names alone, over plain DNS. What it does not know does not exist.
pub(crate) struct Directory {
    known: Known,
    server: Scripted,
}

impl Directory {
    pub(crate) async fn start() -> Self {
        let known: Known = Arc::default();
        let own = Arc::clone(&known);
        let server = Scripted::start(move |query| answer(own.lock().unwrap().as_ref()?, query)).await;
        Self { known, server }
    }

    /// It knows this name, and no other.
    pub(crate) fn knows(&self, name: &str, addresses: &[&str]) {
        *self.known.lock().unwrap() = Some(known(name, addresses));
    }

    fn is_silent(&self) {
        *self.known.lock().unwrap() = None;
    }

    /// Its table of a configuration.
    pub(crate) fn table(&self) -> String {
        format!("[bootstrap]\nservers = [\"udp://{}\"]\n", self.server.address)
    }
}

fn known(name: &str, addresses: &[&str]) -> BTreeMap<String, Vec<IpAddr>> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    BTreeMap::from([(name.to_owned(), addresses.collect())])
}

fn answer(known: &BTreeMap<String, Vec<IpAddr>>, query: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(query);
    let (name, asked) = (
        &query[12..end - 4],
        u16::from_be_bytes([query[end - 4], query[end - 3]]),
    );
    let found = known
        .iter()
        .find(|(own, _)| wire_name(own).eq_ignore_ascii_case(name))
        .map(|(_, addresses)| addresses.as_slice());
    let soa = [0, 0, 0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 60];
    let denial = record(&[0], rtype::SOA, CLASS_IN, 60, &soa);
    let address = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => record(&[0xc0, 12], rtype::A, CLASS_IN, 60, &ip.octets()),
        IpAddr::V6(ip) => record(&[0xc0, 12], rtype::AAAA, CLASS_IN, 60, &ip.octets()),
    };
    let of_type = |ips: &[IpAddr]| -> Vec<Vec<u8>> {
        let wanted = ips
            .iter()
            .filter(|ip| asked == if ip.is_ipv4() { rtype::A } else { rtype::AAAA });
        wanted.map(address).collect()
    };
    Some(match found.map(of_type) {
        Some(records) if records.is_empty() => reply_to(query, 0, [&[], &[denial], &[]]),
        Some(records) => reply_to(query, 0, [&records, &[], &[]]),
        None => reply_to(query, 3, [&[], &[denial], &[]]),
    })
}

/// Certificates, and where a node finds whom to believe.
pub(crate) struct Trusted {
    authority: Authority,
    directory: TempDir,
}

impl Trusted {
    pub(crate) fn new() -> Self {
        let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
        authority.write_pem(directory.path()).unwrap();
        Self { authority, directory }
    }

    /// A fake called `moving` at this loopback address; over TLS at this port.
    pub(crate) fn fake_at(&self, ip: [u8; 4], port: u16) -> Fake {
        self.try_fake_at(ip, port).unwrap()
    }

    /// One at 127.0.0.2 and one at 127.0.0.3, and their port over TLS, which is the same.
    fn fakes_at_one_port(&self) -> (Fake, Fake, u16) {
        let found = (0..50).find_map(|_| {
            let first = self.fake_at([127, 0, 0, 2], 0);
            let port = port_of(&first, Transport::Dot);
            // Somebody else may have it there.
            let second = self.try_fake_at([127, 0, 0, 3], port).ok()?;
            Some((first, second, port))
        });
        found.expect("a port that is free at both")
    }

    fn try_fake_at(&self, ip: [u8; 4], port: u16) -> Result<Fake, StartError> {
        let config = FakeConfig::new("moving")
            .at(SocketAddr::from((ip, 0)))
            .encrypted(&self.authority);
        let encryption = config.encryption.clone().map(|encryption| Encryption {
            dot: SocketAddr::from((ip, port)),
            ..encryption
        });
        Fake::start(FakeConfig { encryption, ..config })
    }

    /// A provider with these endpoints whose certificates are believed.
    pub(crate) fn block(&self, name: &str, endpoints: &[&str]) -> String {
        format!(
            "[[provider]]\nname = \"{name}\"\n{}endpoints = {endpoints:?}\n",
            self.line()
        )
    }

    /// The line of a provider that says whom to believe.
    pub(crate) fn line(&self) -> String {
        let pem = self.directory.path().join("ca.pem").display().to_string();
        format!("trust = [{pem:?}]\n")
    }
}

/// The name of the fakes above.
pub(crate) const MOVING: &str = "moving.detour.test";

pub(crate) fn port_of(fake: &Fake, transport: Transport) -> u16 {
    fake.address_of(transport).unwrap().port()
}

/// Asks for a new name; whether the answer was right.
pub(crate) async fn ask(dns: SocketAddr, number: &mut u32) -> bool {
    *number += 1;
    let name = format!("named{number}.cedar-mill.org");
    let reply = Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await;
    reply.addresses() == [zone::expected_a(&name).unwrap()]
}

/// Why each endpoint of a provider stands where it does.
pub(crate) async fn whys(node: &Node, provider: &str) -> Vec<String> {
    let providers: Value = serde_json::from_str(&node.text("/api/v1/providers").await).unwrap();
    let own = providers
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == provider);
    let endpoints = own.unwrap()["endpoints"].as_array().unwrap().iter();
    endpoints
        .map(|endpoint| endpoint["place_why"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_provider_that_moves_is_found_where_it_went() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    directory.knows(MOVING, &["127.0.0.2"]);
    let (here, there, port) = trusted.fakes_at_one_port();
    let other = fake("other");
    let moving = trusted.block("moving", &[&format!("tls://{MOVING}:{port}")]);
    let text = config(&[vec![moving], udp_blocks(&[&other])].concat()) + "\n" + &directory.table();
    let node = Node::start(&format!("{text}[select]\nencryption = \"any\"\n")).await;
    let mut asked = 0;
    until("the name is resolved", PATIENCE, async || {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
        here.stats().of(Transport::Dot).answered > 0
    })
    .await;
    assert_eq!(whys(&node, "moving").await[0], "unresolved", "it has no IPv6 address");
    directory.knows(MOVING, &["127.0.0.3"]);
    here.set_fault(TransportSel::All, Fault::Rst);
    // Whoever fails may have moved; meanwhile the other one answers.
    until("the new place is asked", Duration::from_secs(40), async || {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
        there.stats().of(Transport::Dot).answered > 0
    })
    .await;
    let lookups = node
        .metric("detour_host_name_lookups_total", &["outcome=\"found\""])
        .await;
    assert!(lookups >= 2, "{lookups}");
}

#[tokio::test]
async fn a_name_that_nobody_resolves_keeps_no_node_from_starting() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let url = format!("tls://{MOVING}:{}", port_of(&here, Transport::Dot));
    let other = fake("other");
    let blocks = [vec![trusted.block("moving", &[&url])], udp_blocks(&[&other])].concat();
    let node = Node::start(&(config(&blocks) + "\n" + &directory.table())).await;
    let mut asked = 0;
    until("the other one answers", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert_eq!(whys(&node, "moving").await, ["unresolved"; 2]);
    until("it is said", PATIENCE, async || {
        node.status().await["warnings"].to_string().contains(MOVING)
    })
    .await;
    assert_eq!(here.stats().of(Transport::Dot).queries, 0);
    directory.knows(MOVING, &["127.0.0.2"]);
    until("it is found", Duration::from_secs(30), async || {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
        here.stats().of(Transport::Dot).answered > 0
    })
    .await;
    until("nothing is amiss", PATIENCE, async || {
        !node.status().await["warnings"].to_string().contains(MOVING)
    })
    .await;
}

#[tokio::test]
async fn who_asks_before_a_name_is_resolved_waits_for_it() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let directory = Directory::start().await;
        directory.knows("somebody-else.detour.test", &[]);
        let here = fake("moving");
        let scheme = if transport == Transport::Udp { "udp" } else { "tcp" };
        let url = format!("{scheme}://{MOVING}:{}", port_of(&here, transport));
        let block = format!("[[provider]]\nname = \"moving\"\nendpoints = [{url:?}]\n");
        let node = Node::start(&(config(&[block]) + "\n" + &directory.table())).await;
        let (mut asked, dns) = (0, node.dns());
        let (is_answered, ()) = tokio::join!(ask(dns, &mut asked), async {
            until("it was tried", PATIENCE, async || {
                !directory.server.asked_for(MOVING).is_empty()
            })
            .await;
            // It comes into being while somebody waits for it.
            directory.knows(MOVING, &["127.0.0.1"]);
        });
        assert!(is_answered, "{transport}: {}", node.log());
    }
}

#[tokio::test]
async fn a_restart_in_an_outage_goes_by_what_was_known() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    directory.knows(MOVING, &["127.0.0.2"]);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let url = format!("tls://{MOVING}:{}", port_of(&here, Transport::Dot));
    let more = format!(
        "{}\n[cache]\npersist = \"off\"\n{}",
        trusted.block("moving", &[&url]),
        directory.table()
    );
    let mut home = Home::before(&[], &more);
    let mut node = home.start().await;
    // Whoever asks before the name is resolved waits for it.
    let first = node.ask_all(&names("before", 3)).await;
    assert!(first.iter().all(|reply| reply.addresses().len() == 1), "{}", node.log());
    assert_eq!(node.stop().await, 0, "{}", node.log());
    directory.is_silent();
    let asked = directory.server.asked().len();
    let mut node = home.start().await;
    let mut number = 0;
    until("names are answered", PATIENCE, async || {
        ask(node.dns, &mut number).await
    })
    .await;
    until("it was tried", PATIENCE, async || {
        directory.server.asked().len() > asked
    })
    .await;
    assert_eq!(node.stop().await, 0, "{}", node.log());
    home.assert_quick("a resolver that is silent");
}

#[tokio::test]
async fn names_are_resolved_by_the_configurations_own_providers_and_never_by_this_node() {
    let trusted = Trusted::new();
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let url = format!("tls://{MOVING}:{}", port_of(&here, Transport::Dot));
    let known = known(MOVING, &["127.0.0.2"]);
    let own = Scripted::start(move |query| answer(&known, query)).await;
    let blocks = [trusted.block("moving", &[&url]), own.block("own")];
    let node = Node::start(&config(&blocks)).await;
    let mut asked = 0;
    until("the name is resolved", PATIENCE, async || {
        ask(node.dns(), &mut asked).await;
        here.stats().of(Transport::Dot).answered > 0
    })
    .await;
    assert!(!own.asked_for(MOVING).is_empty());
    // It is none of the names that clients asked for.
    assert_eq!(node.metric("detour_dns_queries_total", &[]).await, u64::from(asked));
}

#[tokio::test]
async fn names_are_resolved_over_every_transport() {
    let trusted = Trusted::new();
    let resolver = trusted.fake_at([127, 0, 0, 2], 0);
    for transport in [
        Transport::Udp,
        Transport::Tcp,
        Transport::Dot,
        Transport::Doh,
        Transport::Doq,
        Transport::Doh3,
    ] {
        let server = transport.endpoint(resolver.address_of(transport).unwrap(), Some(MOVING));
        let more = format!(
            "{}\n[bootstrap]\nservers = [{server:?}]\n",
            trusted.block("moving", &["tls://www.cedar-mill.org"])
        );
        let text = config(&[]).replacen('\n', &format!("\n{}", trusted.line()), 1) + &more;
        let node = Node::start(&text).await;
        until("the name is resolved", PATIENCE, async || {
            let found = node.metric("detour_host_name_lookups_total", &["outcome=\"found\""]);
            found.await >= 1
        })
        .await;
        assert!(resolver.stats().of(transport).answered > 0, "{transport}");
    }
}

#[tokio::test]
async fn encrypted_providers_resolve_names_before_others() {
    let (trusted, plain) = (Trusted::new(), fake("plain"));
    let encrypted = trusted.fake_at([127, 0, 0, 2], 0);
    let dot = Transport::Dot.endpoint(encrypted.address_of(Transport::Dot).unwrap(), Some(MOVING));
    let blocks = [
        udp_blocks(&[&plain]),
        vec![
            trusted.block("named", &["tls://www.cedar-mill.org"]),
            trusted.block("dot", &[&dot]),
        ],
    ];
    // Nobody but the node itself asks anything, and of those in the clear nothing else is asked: an encrypted one is up.
    let node = Node::start(&config(&blocks.concat())).await;
    let found = ["outcome=\"found\""];
    until("the name is resolved", PATIENCE, async || {
        node.metric("detour_host_name_lookups_total", &found).await >= 1
    })
    .await;
    assert!(encrypted.stats().of(Transport::Dot).answered >= 2, "both families");
    assert_eq!(plain.stats().of(Transport::Udp).answered, 0);
    // One that does not answer is no reason to know nothing.
    encrypted.set_fault(TransportSel::All, Fault::Blackhole);
    let node = Node::start(&config(&blocks.concat())).await;
    until("the name is resolved", PATIENCE, async || {
        node.metric("detour_host_name_lookups_total", &found).await >= 1
    })
    .await;
    assert!(plain.stats().of(Transport::Udp).answered >= 2);
}

#[tokio::test]
async fn of_several_addresses_the_one_that_works_is_used() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    // Nobody is at the first one, and at the second one nobody shakes hands.
    directory.knows(MOVING, &["127.0.0.4", "127.0.0.3", "127.0.0.2"]);
    let (here, deaf, port) = trusted.fakes_at_one_port();
    deaf.set_fault(TransportSel::All, Fault::Blackhole);
    let moving = trusted.block("moving", &[&format!("tls://{MOVING}:{port}")]);
    let node = Node::start(&(config(&[moving]) + "\n" + &directory.table())).await;
    let mut asked = 0;
    until("the one that works is found", Duration::from_secs(20), async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    for _ in 0..5 {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
    }
    assert!(here.stats().of(Transport::Dot).answered >= 6);
}

#[tokio::test]
async fn a_stamp_is_an_endpoint_and_its_hashes_are_checked() {
    let trusted = Trusted::new();
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let cloudflare = "sdns://AgcAAAAAAAAABzEuMC4wLjEAEmRucy5jbG91ZGZsYXJlLmNvbQovZG5zLXF1ZXJ5";
    let like: Stamp = cloudflare.parse().unwrap();
    let signer = CertificateHash::of(trusted.authority.der()).unwrap();
    for (transport, spoken) in [
        (Transport::Dot, detour_core::Transport::Tls),
        (Transport::Doh, detour_core::Transport::Https),
        (Transport::Doq, detour_core::Transport::Quic),
    ] {
        for (hash, is_right) in [(signer, true), (CertificateHash([7; 32]), false)] {
            let stamp = Stamp {
                transport: spoken,
                address: Some([127, 0, 0, 2].into()),
                port: Some(port_of(&here, transport)),
                hashes: vec![CertificateHash([1; 32]), hash],
                host: MOVING.to_owned(),
                path: if transport == Transport::Doh { "/dns-query" } else { "" }.to_owned(),
                ..like.clone()
            };
            let block = trusted.block("stamped", &[&stamp.to_text()]);
            let node = Node::start(&config(&[block])).await;
            let mut asked = 0;
            let is_answered = ask(node.dns(), &mut asked).await;
            assert_eq!(is_answered, is_right, "{transport}: {}", node.log());
            let label = format!("127.0.0.2:{}", port_of(&here, transport));
            assert!(
                node.text("/api/v1/providers").await.contains(&label),
                "it is called by its URL"
            );
        }
    }
}
