//! Networks without IPv4: names that have no IPv6 address get one behind the translator's prefix, whether the operator
//! names it or the network tells it, and nothing else changes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use detour_rig::process::without_network_switch;
use serde_json::json;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, Section, flag, opt, rcode, record, rtype, wire_name};
use crate::node::{Node, config, until};
use crate::scripted::{Scripted, question_end, reply_to};

const PTR: u16 = 12;
const CNAME: u16 = 5;
const ASKED: [u8; 2] = [0xc0, 0x0c];
const V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const V6: &str = "2001:db8::7";
const PREFIX: &str = "2001:db8:64::/96";
const TRANSLATED: &str = "2001:db8:64::198.51.100.7";
const WELL_KNOWN: &str = "ipv4only.arpa";

fn soa(ttl: u32) -> Vec<u8> {
    let numbers = [1_u32, 2, 3, 4, ttl].map(u32::to_be_bytes).concat();
    let rdata = [wire_name("ns.example"), wire_name("root.example"), numbers].concat();
    record(&[0], rtype::SOA, 1, ttl, &rdata)
}

fn text(wire: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((length, behind)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, more) = behind.split_at(usize::from(*length));
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = more;
    }
    labels.join(".")
}

/// Names of IPv4 only, but for those that say something else.
async fn provider() -> Scripted {
    Scripted::start(|query| {
        let kind = u16::from(query[question_end(query) - 3]);
        let name = text(&query[12..]);
        let address = |rtype, rdata: &[u8]| record(&ASKED, rtype, 1, 300, rdata);
        let v6: Ipv6Addr = V6.parse().unwrap();
        let mapped: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        let first = name.split('.').next().unwrap_or_default().to_owned();
        Some(match (first.as_str(), kind) {
            ("gone", _) => reply_to(query, 3, [&[], &[soa(60)], &[]]),
            ("servfail", rtype::AAAA) => reply_to(query, 2, [&[], &[], &[]]),
            ("both", rtype::AAAA) => reply_to(query, 0, [&[address(rtype::AAAA, &v6.octets())], &[], &[]]),
            ("mapped", rtype::AAAA) => reply_to(query, 0, [&[address(rtype::AAAA, &mapped.octets())], &[], &[]]),
            ("mixed", rtype::AAAA) => {
                let answers = [
                    address(rtype::AAAA, &mapped.octets()),
                    address(rtype::AAAA, &v6.octets()),
                ];
                reply_to(query, 0, [&answers, &[], &[]])
            }
            ("alias", rtype::A) => {
                let alias = record(&ASKED, CNAME, 1, 300, &wire_name("host.example"));
                let host = record(&wire_name("host.example"), rtype::A, 1, 300, &V4.octets());
                reply_to(query, 0, [&[alias, host], &[], &[]])
            }
            ("nothing", rtype::A) | (_, rtype::AAAA) => reply_to(query, 0, [&[], &[soa(60)], &[]]),
            (_, PTR) => reply_to(
                query,
                0,
                [&[record(&ASKED, PTR, 1, 300, &wire_name("host.example"))], &[], &[]],
            ),
            _ => reply_to(query, 0, [&[address(rtype::A, &V4.octets())], &[], &[]]),
        })
    })
    .await
}

fn six(reply: &Reply) -> Vec<Ipv6Addr> {
    let answers = reply
        .of_section(Section::Answer)
        .filter(|record| record.rtype == rtype::AAAA);
    answers
        .map(|record| Ipv6Addr::from(<[u8; 16]>::try_from(record.rdata.as_slice()).unwrap()))
        .collect()
}

fn addresses(texts: &[&str]) -> Vec<Ipv6Addr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn ask(node: &Node, query: &Message) -> Reply {
    Udp::to(node.dns()).await.ask(query).await
}

async fn six_of(node: &Node, name: &str) -> Vec<Ipv6Addr> {
    six(&ask(node, &Message::query(name, rtype::AAAA)).await)
}

fn with_prefix(provider: &Scripted) -> String {
    let base = config(&[provider.block("somebody")]);
    base.replacen("version = 1\n", &format!("version = 1\ndns64 = \"{PREFIX}\"\n"), 1)
}

#[tokio::test]
async fn names_without_an_ipv6_address_get_one_behind_the_prefix() {
    let provider = provider().await;
    let node = Node::start(&with_prefix(&provider)).await;
    for (name, wanted) in [
        ("www.example", vec![TRANSLATED]),
        ("both.example", vec![V6]),
        ("mapped.example", vec![TRANSLATED]),
        ("mixed.example", vec![V6]),
        ("servfail.example", vec![TRANSLATED]),
        ("alias.example", vec![TRANSLATED]),
        ("nothing.example", vec![]),
        ("gone.example", vec![]),
        (WELL_KNOWN, vec![TRANSLATED]),
    ] {
        for round in 0..2 {
            assert_eq!(six_of(&node, name).await, addresses(&wanted), "{name}, round {round}");
        }
    }
    assert_eq!(
        ask(&node, &Message::query("gone.example", rtype::AAAA)).await.rcode,
        rcode::NXDOMAIN
    );
    assert!(
        provider.asked_for("gone.example").len() < 2,
        "that it does not exist holds for all types"
    );
    // Aliases stay, and no answer outlives the denial that it stands for.
    let reply = ask(&node, &Message::query("Alias.Example", rtype::AAAA)).await;
    let kinds: Vec<(u16, bool)> = reply
        .of_section(Section::Answer)
        .map(|record| (record.rtype, record.ttl <= 60))
        .collect();
    assert_eq!(kinds, [(CNAME, false), (rtype::AAAA, true)]);
    // IPv4 addresses are what they were, and were asked for once.
    let four = ask(&node, &Message::query("www.example", rtype::A)).await;
    assert_eq!(four.addresses(), [V4]);
    assert_eq!(provider.asked_for("www.example").len(), 2);
    assert_eq!(node.metric("detour_dns64_translated_total", &[]).await, 5);
    let wanted = json!({"prefix": PREFIX, "is_discovered": false});
    assert_eq!(node.status().await["dns64"], wanted);
}

#[tokio::test]
async fn who_validates_by_itself_gets_what_the_provider_said() {
    let provider = provider().await;
    let node = Node::start(&with_prefix(&provider)).await;
    let query = |flags: u16| {
        let ttl = if flags & flag::CD == 0 { 0 } else { 0x8000 };
        Message::query("www.example", rtype::AAAA)
            .flags(flag::RD | flags)
            .additional(opt(1_232, ttl, &[]))
    };
    assert_eq!(six(&ask(&node, &query(flag::CD)).await), [] as [Ipv6Addr; 0]);
    let dnssec_ok = Message::query("www.example", rtype::AAAA).dnssec_ok();
    let reply = ask(&node, &dnssec_ok).await;
    assert_eq!(six(&reply), addresses(&[TRANSLATED]));
    assert!(!reply.has(flag::AD), "nobody vouches for it");
}

#[tokio::test]
async fn the_name_of_a_translated_address_is_that_of_the_ipv4_address() {
    let provider = provider().await;
    let hosts = tempfile::tempdir().unwrap();
    std::fs::write(hosts.path().join("hosts"), "198.51.100.9 nas\n").unwrap();
    let local = format!(
        "\n[local-zones]\nhosts = \"{}\"\n",
        hosts.path().join("hosts").display()
    );
    let node = Node::start(&(with_prefix(&provider) + &local)).await;
    let name_of = |v6: &str| {
        let bits = u128::from(v6.parse::<Ipv6Addr>().unwrap());
        let nibbles: Vec<String> = (0..32).map(|n| format!("{:x}", bits >> (4 * n) & 0xf)).collect();
        format!("{}.ip6.arpa", nibbles.join("."))
    };
    let reply = ask(&node, &Message::query(&name_of(TRANSLATED), PTR)).await;
    let found: Vec<(u16, Vec<u8>)> = reply
        .of_section(Section::Answer)
        .map(|record| (record.rtype, record.rdata.clone()))
        .collect();
    let target = "7.100.51.198.in-addr.arpa";
    // Documentation addresses are answered here, as those of IPv4 are.
    assert_eq!(
        (found, reply.rcode),
        (vec![(CNAME, wire_name(target))], rcode::NXDOMAIN)
    );
    let reply = ask(&node, &Message::query(&name_of("2001:db8:64::198.51.100.9"), PTR)).await;
    let kinds: Vec<u16> = reply.of_section(Section::Answer).map(|record| record.rtype).collect();
    assert_eq!((kinds, reply.rcode), (vec![CNAME, PTR], rcode::NOERROR));
    let reply = ask(&node, &Message::query(&name_of("2001:db8:64::8.8.8.8"), PTR)).await;
    let kinds: Vec<u16> = reply.of_section(Section::Answer).map(|record| record.rtype).collect();
    assert_eq!((kinds, reply.rcode), (vec![CNAME, PTR], rcode::NOERROR));
    assert_eq!(provider.asked_for("8.8.8.8.in-addr.arpa").len(), 1);
    assert!(provider.asked_for(&name_of("2001:db8:64::8.8.8.8")).is_empty());
}

/// A resolver of a network that tells its prefix as long as it has a translator.
async fn network(has_translator: &Arc<AtomicBool>) -> Scripted {
    let has_translator = Arc::clone(has_translator);
    Scripted::start(move |query| {
        let kind = u16::from(query[question_end(query) - 3]);
        let told: Ipv6Addr = "2001:db8:64::192.0.0.170".parse().unwrap();
        Some(match (text(&query[12..]).as_str(), kind) {
            (WELL_KNOWN, rtype::AAAA) if has_translator.load(Ordering::Relaxed) => {
                let answer = record(&ASKED, rtype::AAAA, 1, 60, &told.octets());
                reply_to(query, 0, [&[answer], &[], &[]])
            }
            (_, rtype::AAAA) => reply_to(query, 0, [&[], &[soa(60)], &[]]),
            _ => reply_to(
                query,
                0,
                [&[record(&ASKED, rtype::A, 1, 60, &[192, 0, 2, 9])], &[], &[]],
            ),
        })
    })
    .await
}

#[tokio::test]
async fn a_network_tells_its_prefix_and_another_one_has_none() {
    let (public, yes, no) = (provider().await, Arc::new(AtomicBool::new(true)), Arc::default());
    let (with, without) = (network(&yes).await, network(&no).await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let says = |resolver: SocketAddr| {
        std::fs::write(&file, format!("nameserver [{}]:{}\n", resolver.ip(), resolver.port())).unwrap();
    };
    says(with.address);
    let base = without_network_switch(&config(&[public.block("somebody")]));
    let text = format!("{base}\n[network]\nfiles = [\"{}\"]\n", file.display());
    let node = Node::start(&text).await;
    let discovered = json!({"prefix": PREFIX, "is_discovered": true});
    until("the prefix is found", PATIENCE, async || {
        node.status().await["dns64"] == discovered
    })
    .await;
    assert_eq!(six_of(&node, "www.example").await, addresses(&[TRANSLATED]));
    // What it tells the prefix by is its own to answer.
    assert_eq!(
        six_of(&node, WELL_KNOWN).await,
        addresses(&["2001:db8:64::192.0.0.170"])
    );
    // Where the file says other things of the network, it is the same network, and what it told holds.
    let before = with.asked_for(WELL_KNOWN).len();
    node.reloaded(&format!("{text}search-domains = false\n")).await;
    assert_eq!(node.status().await["dns64"], discovered);
    assert_eq!(six_of(&node, "more.example").await, addresses(&[TRANSLATED]));
    assert_eq!(with.asked_for(WELL_KNOWN).len(), before);
    says(without.address);
    until("another network", PATIENCE, async || {
        node.status().await["dns64"] == json!(null)
    })
    .await;
    assert_eq!(six_of(&node, "www.example").await, [] as [Ipv6Addr; 0]);
    assert_eq!(six_of(&node, WELL_KNOWN).await, [] as [Ipv6Addr; 0]);
    assert!(public.asked_for(WELL_KNOWN).is_empty(), "only the network knows");
    let names = |resolver: &Scripted| {
        let asked = resolver.asked();
        let names = asked.iter().map(|query| self::text(&query[12..]));
        names
            .filter(|name| name != "a.root-servers.net" && name != WELL_KNOWN)
            .count()
    };
    assert_eq!((names(&with), names(&without)), (0, 0), "nothing else is asked of it");
    let off = text.replacen("version = 1\n", "version = 1\ndns64 = \"off\"\n", 1);
    says(with.address);
    node.reloaded(&off).await;
    assert_eq!(six_of(&node, "www.example").await, [] as [Ipv6Addr; 0]);
}
