//! Endpoints with host names: resolved by others, followed when they move, remembered over an outage; and DNS stamps.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detour_resolver::exchange::tls::CertificateHash;
use detour_resolver::sdns::Stamp;
use detour_rig::fake::Encryption;
use detour_rig::{Authority, Fake, FakeConfig, Fault, Transport, TransportSel, zone};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{PATIENCE, Udp};
use crate::home::{Home, names};
use crate::message::{CLASS_IN, Message, record, rtype, wire_name};
use crate::node::{Node, config, fake, udp_blocks, until};
use crate::scripted::{Scripted, question_end, reply_to};

/// The addresses of each name; `None` for all of them is silence.
type Known = Arc<Mutex<Option<BTreeMap<String, Vec<Ipv4Addr>>>>>;

/// A resolver for host names alone, over plain DNS. What it does not know does not exist.
struct Directory {
    known: Known,
    server: Scripted,
}

impl Directory {
    async fn start() -> Self {
        let known: Known = Arc::default();
        let own = Arc::clone(&known);
        let server = Scripted::start(move |query| answer(own.lock().unwrap().as_ref()?, query)).await;
        Self { known, server }
    }

    /// It knows this name, and no other.
    fn knows(&self, name: &str, addresses: &[[u8; 4]]) {
        *self.known.lock().unwrap() = Some(known(name, addresses));
    }

    fn is_silent(&self) {
        *self.known.lock().unwrap() = None;
    }

    /// Its table of a configuration.
    fn table(&self) -> String {
        format!("[bootstrap]\nservers = [\"udp://{}\"]\n", self.server.address)
    }
}

fn known(name: &str, addresses: &[[u8; 4]]) -> BTreeMap<String, Vec<Ipv4Addr>> {
    let addresses = addresses.iter().map(|address| Ipv4Addr::from(*address));
    BTreeMap::from([(name.to_owned(), addresses.collect())])
}

fn answer(known: &BTreeMap<String, Vec<Ipv4Addr>>, query: &[u8]) -> Option<Vec<u8>> {
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
    let address = |ip: &Ipv4Addr| record(&[0xc0, 12], rtype::A, CLASS_IN, 60, &ip.octets());
    Some(match (found, asked) {
        (Some(ips), rtype::A) => reply_to(query, 0, [&ips.iter().map(address).collect::<Vec<_>>(), &[], &[]]),
        (Some(_), _) => reply_to(query, 0, [&[], &[denial], &[]]),
        (None, _) => reply_to(query, 3, [&[], &[denial], &[]]),
    })
}

/// Certificates, and where a node finds whom to believe.
struct Trusted {
    authority: Authority,
    directory: TempDir,
}

impl Trusted {
    fn new() -> Self {
        let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
        authority.write_pem(directory.path()).unwrap();
        Self { authority, directory }
    }

    /// A fake called `moving` at this loopback address; over TLS at this port.
    fn fake_at(&self, ip: [u8; 4], port: u16) -> Fake {
        let config = FakeConfig::new("moving")
            .at(SocketAddr::from((ip, 0)))
            .encrypted(&self.authority);
        let encryption = config.encryption.clone().map(|encryption| Encryption {
            dot: SocketAddr::from((ip, port)),
            ..encryption
        });
        Fake::start(FakeConfig { encryption, ..config }).unwrap()
    }

    /// A provider with these endpoints whose certificates are believed.
    fn block(&self, name: &str, endpoints: &[&str]) -> String {
        let pem = self.directory.path().join("ca.pem").display().to_string();
        format!("[[provider]]\nname = \"{name}\"\ntrust = [{pem:?}]\nendpoints = {endpoints:?}\n")
    }
}

/// The name of the fakes above.
const MOVING: &str = "moving.detour.test";

fn port_of(fake: &Fake, transport: Transport) -> u16 {
    fake.address_of(transport).unwrap().port()
}

/// Asks for a new name; whether the answer was right.
async fn ask(dns: SocketAddr, number: &mut u32) -> bool {
    *number += 1;
    let name = format!("named{number}.cedar-mill.org");
    let reply = Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await;
    reply.addresses() == [zone::expected_a(&name).unwrap()]
}

/// Why each endpoint of a provider stands where it does.
async fn whys(node: &Node, provider: &str) -> Vec<String> {
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
    directory.knows(MOVING, &[[127, 0, 0, 2]]);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&here, Transport::Dot);
    let there = trusted.fake_at([127, 0, 0, 3], port);
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
    directory.knows(MOVING, &[[127, 0, 0, 3]]);
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
    directory.knows(MOVING, &[[127, 0, 0, 2]]);
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
async fn a_restart_in_an_outage_goes_by_what_was_known() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    directory.knows(MOVING, &[[127, 0, 0, 2]]);
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
    let known = known(MOVING, &[[127, 0, 0, 2]]);
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
async fn of_several_addresses_the_one_that_works_is_used() {
    let (trusted, directory) = (Trusted::new(), Directory::start().await);
    // Nobody is at the first one, and at the second one nobody shakes hands.
    directory.knows(MOVING, &[[127, 0, 0, 4], [127, 0, 0, 3], [127, 0, 0, 2]]);
    let here = trusted.fake_at([127, 0, 0, 2], 0);
    let port = port_of(&here, Transport::Dot);
    let deaf = trusted.fake_at([127, 0, 0, 3], port);
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

/// A resolver in the clear at this address that answers every name with SERVFAIL, and designates `MOVING` over TLS at this
/// place.
async fn designating(at: [u8; 4], hint: [u8; 4], port: u16) -> Scripted {
    let mut svcb = vec![0, 1];
    svcb.extend(wire_name(MOVING));
    // The ALPN, the port, and an address.
    svcb.extend([0, 1, 0, 4, 3, b'd', b'o', b't', 0, 3, 0, 2]);
    svcb.extend(port.to_be_bytes());
    svcb.extend([0, 4, 0, 4]);
    svcb.extend(hint);
    Scripted::start_at(at, move |query| {
        let end = question_end(query);
        let is_discovery = query[12..end - 4].eq_ignore_ascii_case(&wire_name("_dns.resolver.arpa"));
        if is_discovery && query[end - 4..end - 2] == [0, 64] {
            let offer = record(&[0xc0, 12], 64, CLASS_IN, 300, &svcb);
            return Some(reply_to(query, 0, [&[offer], &[], &[]]));
        }
        Some(reply_to(query, 2, [&[], &[], &[]]))
    })
    .await
}

/// The text of a provider in the clear that is asked for designations.
fn asked_for_designations(plain: &Scripted) -> String {
    format!(
        "[[provider]]\nname = \"plain\"\nddr = true\nendpoints = [\"udp://{}\"]\n",
        plain.address
    )
}

#[tokio::test]
async fn a_designated_resolver_that_proves_to_be_meant_is_preferred() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    // Its certificate names 127.0.0.1, too.
    let plain = designating([127, 0, 0, 1], [127, 0, 0, 2], port_of(&there, Transport::Dot)).await;
    let pem = trusted.directory.path().join("ca.pem").display().to_string();
    let block = asked_for_designations(&plain).replace("ddr", &format!("trust = [{pem:?}]\nddr"));
    let text = config(&[block]);
    let node = Node::start(&text).await;
    let mut asked = 0;
    until("it is asked over TLS", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert!(there.stats().of(Transport::Dot).answered > 0);
    assert_eq!(
        node.metric("detour_designations_total", &["outcome=\"proven\""]).await,
        1
    );
    let label = format!("tls://127.0.0.2:{}#{MOVING}@ddr", port_of(&there, Transport::Dot));
    assert!(node.text("/api/v1/providers").await.contains(&label));
    // A reload of the same file keeps it.
    node.reloaded(&text).await;
    let in_the_clear = plain.asked().len();
    for _ in 0..3 {
        assert!(ask(node.dns(), &mut asked).await, "{}", node.log());
    }
    assert_eq!(plain.asked().len(), in_the_clear);
    // And one that asks nobody forgets it.
    node.reloaded(&text.replace("ddr = true", "ddr = false")).await;
    assert!(!node.text("/api/v1/providers").await.contains("@ddr"));
}

#[tokio::test]
async fn a_designated_resolver_whose_certificate_is_for_others_is_refused() {
    let trusted = Trusted::new();
    let there = trusted.fake_at([127, 0, 0, 2], 0);
    let plain = designating([127, 0, 0, 9], [127, 0, 0, 2], port_of(&there, Transport::Dot)).await;
    let pem = trusted.directory.path().join("ca.pem").display().to_string();
    let block = asked_for_designations(&plain).replace("ddr", &format!("trust = [{pem:?}]\nddr"));
    let node = Node::start(&config(&[block])).await;
    until("it is refused", PATIENCE, async || {
        node.metric("detour_designations_total", &["outcome=\"refused\""]).await >= 1
    })
    .await;
    let warnings = node.status().await["warnings"].to_string();
    assert!(
        warnings.contains("tls-wrong-name") && warnings.contains(MOVING),
        "{warnings}"
    );
    let mut asked = 0;
    assert!(!ask(node.dns(), &mut asked).await);
    assert!(!node.text("/api/v1/providers").await.contains("@ddr"));
    assert_eq!(there.stats().of(Transport::Dot).queries, 0);
}

#[tokio::test]
async fn a_resolver_at_a_private_address_may_designate_itself() {
    // Nobody here trusts who signed its certificate.
    let there = Trusted::new().fake_at([127, 0, 0, 9], 0);
    let plain = designating([127, 0, 0, 9], [127, 0, 0, 9], port_of(&there, Transport::Dot)).await;
    let node = Node::start(&config(&[asked_for_designations(&plain)])).await;
    let mut asked = 0;
    until("it is asked over TLS", PATIENCE, async || {
        ask(node.dns(), &mut asked).await
    })
    .await;
    assert!(there.stats().of(Transport::Dot).answered > 0);
}
