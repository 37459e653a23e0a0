//! Names with providers of their own. Each provider keeps what it was asked: nothing of a route's names reaches the
//! public ones, and nothing else the route's, whatever is down.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, Section, rcode, record, rtype, wire_name};
use crate::node::{Node, config, until};
use crate::scripted::{Scripted, question_end, reply_to};

const PTR: u16 = 12;
const ASKED: [u8; 2] = [0xc0, 0x0c];
/// Extended errors.
const STALE_ANSWER: u16 = 3;
const NOT_READY: [u16; 2] = [22, 23];
/// What own probes ask.
const PROBE: &str = "a.root-servers.net";

/// What a provider does at the moment.
const ANSWER: u8 = 0;
const DENY: u8 = 1;
const SILENCE: u8 = 2;
const REFUSE: u8 = 3;

/// A provider whose every address is this one.
struct Owned {
    scripted: Scripted,
    conduct: Arc<AtomicU8>,
}

impl Owned {
    async fn start(address: [u8; 4], ttl: u32) -> Self {
        let conduct = Arc::new(AtomicU8::new(ANSWER));
        let now = Arc::clone(&conduct);
        let scripted = Scripted::start(move |query| match now.load(Ordering::Relaxed) {
            SILENCE => None,
            DENY => Some(reply_to(query, 3, [&[], &[soa()], &[]])),
            REFUSE => Some(reply_to(query, 5, [&[], &[], &[]])),
            _ => Some(match query[question_end(query) - 3] {
                12 => {
                    let pointer = record(&ASKED, PTR, 1, ttl, &wire_name("host.example"));
                    reply_to(query, 0, [&[pointer], &[], &[]])
                }
                _ => {
                    let address = record(&ASKED, rtype::A, 1, ttl, &address);
                    reply_to(query, 0, [&[address], &[], &[]])
                }
            }),
        })
        .await;
        Self { scripted, conduct }
    }

    fn does(&self, conduct: u8) {
        self.conduct.store(conduct, Ordering::Relaxed);
    }

    /// Names it was asked for, but for those of probes.
    fn names(&self) -> BTreeSet<String> {
        let asked = self.scripted.asked();
        let names = asked.iter().map(|query| text(&query[12..]));
        names.filter(|name| name != PROBE).collect()
    }
}

fn soa() -> Vec<u8> {
    let numbers = [1_u32, 2, 3, 4, 60].map(u32::to_be_bytes).concat();
    let rdata = [wire_name("ns.example"), wire_name("root.example"), numbers].concat();
    record(&[0], rtype::SOA, 1, 60, &rdata)
}

/// A name in lower case.
fn text(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((length, rest)) = wire.split_first().filter(|(length, _)| **length > 0) {
        let (label, behind) = rest.split_at(usize::from(*length));
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        wire = behind;
    }
    labels.join(".")
}

/// Two public providers, two of an office, one of a lab, and a node before them.
struct Site {
    node: Node,
    public: [Owned; 2],
    office: [Owned; 2],
    lab: Owned,
}

const PUBLIC: [u8; 4] = [192, 0, 2, 1];
const OFFICE: [u8; 4] = [198, 51, 100, 1];
const LAB: [u8; 4] = [203, 0, 113, 1];

const ROUTES: &str = r#"
[[route]]
zones = ["corp.example", "10.0.0.0/8", "172.16.0.0/14", "fd00:1::/32", "home.arpa"]
except = ["www.corp.example", "10.99.0.0/16"]
to = ["office-a", "office-b"]

[[route]]
zones = ["lab.corp.example"]
to = ["lab"]

[[route]]
zones = ["public.lab.corp.example"]
to = ["public"]
"#;

fn blocks(public: &[Owned; 2], office: &[Owned; 2], lab: &Owned) -> Vec<String> {
    vec![
        public[0].scripted.block("public-a"),
        public[1].scripted.block("public-b"),
        office[0].scripted.block("office-a"),
        office[1].scripted.block("office-b"),
        lab.scripted.block("lab"),
    ]
}

impl Site {
    async fn start(ttl: u32, routes: &str) -> Self {
        let public = [Owned::start(PUBLIC, ttl).await, Owned::start(PUBLIC, ttl).await];
        let office = [Owned::start(OFFICE, ttl).await, Owned::start(OFFICE, ttl).await];
        let lab = Owned::start(LAB, ttl).await;
        let node = Node::start(&(config(&blocks(&public, &office, &lab)) + routes)).await;
        Self {
            node,
            public,
            office,
            lab,
        }
    }

    async fn ask(&self, name: &str, rtype: u16) -> Reply {
        let client = Udp::to(self.node.dns()).await;
        client.ask(&Message::query(name, rtype).edns(1_232)).await
    }

    async fn address(&self, name: &str) -> Vec<Ipv4Addr> {
        self.ask(name, rtype::A).await.addresses()
    }

    fn names_of(&self, owned: &[Owned]) -> BTreeSet<String> {
        owned.iter().flat_map(Owned::names).collect()
    }

    async fn explain(&self, name: &str) -> Value {
        let path = format!("/api/v1/explain?name={name}");
        serde_json::from_str(&self.node.text(&path).await).unwrap()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn each_name_is_asked_of_its_own_providers_and_of_nobody_else() {
    let site = Site::start(300, ROUTES).await;
    for (name, address) in [
        ("example", PUBLIC),
        ("other.example", PUBLIC),
        ("notcorp.example", PUBLIC),
        ("www.corp.example", PUBLIC),
        ("deep.www.corp.example", PUBLIC),
        ("public.lab.corp.example", PUBLIC),
        ("corp.example", OFFICE),
        ("CRM.Corp.Example", OFFICE),
        ("nas.home.arpa", OFFICE),
        ("lab.corp.example", LAB),
        ("x.y.lab.corp.example", LAB),
    ] {
        assert_eq!(site.address(name).await, [Ipv4Addr::from(address)], "{name}");
    }
    let reverse = [
        "7.0.0.10.in-addr.arpa",
        "1.2.19.172.in-addr.arpa",
        "1.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
    ];
    for name in reverse {
        let reply = site.ask(name, PTR).await;
        assert_eq!(
            (reply.rcode, reply.of_section(Section::Answer).count()),
            (rcode::NOERROR, 1),
            "{name}"
        );
    }
    // What no route names, or one leaves out, is answered here as ever.
    for name in [
        "1.2.20.172.in-addr.arpa",
        "1.0.99.10.in-addr.arpa",
        "2.0.0.0.0.0.d.f.ip6.arpa",
    ] {
        assert_eq!(site.ask(name, PTR).await.rcode, rcode::NXDOMAIN, "{name}");
    }
    let public = set(&[
        "example",
        "other.example",
        "notcorp.example",
        "www.corp.example",
        "deep.www.corp.example",
        "public.lab.corp.example",
    ]);
    assert_eq!(site.names_of(&site.public), public);
    let mut office = set(&["corp.example", "crm.corp.example", "nas.home.arpa"]);
    office.extend(set(&reverse));
    assert_eq!(site.names_of(&site.office), office);
    assert_eq!(site.lab.names(), set(&["lab.corp.example", "x.y.lab.corp.example"]));
}

#[tokio::test]
async fn whatever_becomes_of_a_group_its_names_go_to_nobody_else() {
    let site = Site::start(1, ROUTES).await;
    assert_eq!(site.address("old.corp.example").await, [Ipv4Addr::from(OFFICE)]);
    for conduct in [SILENCE, REFUSE, DENY] {
        for office in &site.office {
            office.does(conduct);
        }
        for number in 0..3 {
            let reply = site.ask(&format!("n{conduct}-{number}.corp.example"), rtype::A).await;
            match conduct {
                SILENCE => {
                    assert_eq!(reply.rcode, rcode::SERVFAIL);
                    assert!(
                        reply.extended_errors().iter().any(|code| NOT_READY.contains(code)),
                        "{reply:?}"
                    );
                }
                REFUSE => assert_ne!(reply.rcode, rcode::NOERROR),
                _ => assert_eq!(reply.rcode, rcode::NXDOMAIN),
            }
        }
    }
    // Past its time, and nobody there to ask.
    for office in &site.office {
        office.does(SILENCE);
    }
    until("the group is down", PATIENCE * 2, async || {
        site.ask("down.corp.example", rtype::A).await;
        site.node.status().await["groups"][0]["nothing_up"] == true
    })
    .await;
    let stale = site.ask("old.corp.example", rtype::A).await;
    assert_eq!(stale.addresses(), [Ipv4Addr::from(OFFICE)]);
    assert!(stale.extended_errors().contains(&STALE_ANSWER), "{stale:?}");
    // The public ones go on as if nothing were, and the other way round.
    assert_eq!(site.address("one.example").await, [Ipv4Addr::from(PUBLIC)]);
    let status = site.node.status().await;
    assert_eq!(
        (&status["nothing_up"], &status["providers"]["total"]),
        (&json!(false), &json!(2))
    );
    for (office, public) in site.office.iter().zip(&site.public) {
        office.does(ANSWER);
        public.does(SILENCE);
    }
    assert_eq!(site.ask("two.example", rtype::A).await.rcode, rcode::SERVFAIL);
    until("the group is back", PATIENCE * 2, async || {
        site.ask("back.corp.example", rtype::A).await.rcode == rcode::NOERROR
    })
    .await;
    assert_eq!(site.names_of(&site.public), set(&["one.example", "two.example"]));
    assert!(site.lab.names().is_empty());
    assert!(
        site.names_of(&site.office)
            .iter()
            .all(|name| name.ends_with("corp.example"))
    );
}

#[tokio::test]
async fn what_one_group_said_is_not_anothers_word() {
    let site = Site::start(300, ROUTES).await;
    for office in &site.office {
        office.does(DENY);
    }
    let name = "moved.corp.example";
    assert_eq!(site.ask(name, rtype::A).await.rcode, rcode::NXDOMAIN);
    // The same name, no longer private.
    let blocks = blocks(&site.public, &site.office, &site.lab);
    let elsewhere = ROUTES
        .replace("\"corp.example\"", "\"corp.test\"")
        .replace("\"www.corp.example\", ", "");
    site.node.reloaded(&(config(&blocks) + &elsewhere)).await;
    assert_eq!(site.address(name).await, [Ipv4Addr::from(PUBLIC)]);
    // And back: both are still known, each by whom it is of.
    site.node.reloaded(&(config(&blocks) + ROUTES)).await;
    assert_eq!(site.ask(name, rtype::A).await.rcode, rcode::NXDOMAIN);
    let asked = |owned: &[Owned]| owned.iter().map(|o| o.scripted.asked_for(name).len()).sum::<usize>();
    assert_eq!((asked(&site.public), asked(&site.office)), (1, 1));
    let shown: Value = serde_json::from_str(&site.node.text(&format!("/api/v1/cache?name={name}")).await).unwrap();
    let mut groups: Vec<(&str, &str)> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["group"].as_str().unwrap(), entry["rcode"].as_str().unwrap()))
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, [("office-a+office-b", "NXDOMAIN"), ("public", "NOERROR")]);
}

#[tokio::test]
async fn a_reload_brings_routes_and_takes_them_away() {
    let site = Site::start(1, "").await;
    // Without a route all of them serve all names.
    assert_eq!(site.node.status().await["providers"]["total"], 5);
    let blocks = blocks(&site.public, &site.office, &site.lab);
    site.node.reloaded(&(config(&blocks) + ROUTES)).await;
    assert_eq!(site.address("after.corp.example").await, [Ipv4Addr::from(OFFICE)]);
    let status = site.node.status().await;
    let names: Vec<&str> = status["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["office-a+office-b", "lab"]);
    // Providers that a route names can serve all others, too.
    let both = config(&blocks).replace("name = \"lab\"", "name = \"lab\"\ndefault = true");
    site.node.reloaded(&(both + ROUTES)).await;
    assert_eq!(site.node.status().await["providers"]["total"], 3);
    let providers: Value = serde_json::from_str(&site.node.text("/api/v1/providers").await).unwrap();
    assert_eq!(providers[4]["groups"], json!(["public", "lab"]));
    assert_eq!(providers[2]["groups"], json!(["office-a+office-b"]));
}

#[tokio::test]
async fn explain_names_the_route() {
    let site = Site::start(300, ROUTES).await;
    let explained = site.explain("x.lab.corp.example").await;
    assert_eq!(
        (&explained["group"], &explained["route"]),
        (&json!("lab"), &json!("lab.corp.example."))
    );
    let steps = explained["plan"]["steps"].as_array().unwrap();
    assert!(
        !steps.is_empty() && steps.iter().all(|step| step["provider"] == "lab"),
        "{explained}"
    );
    let explained = site.explain("www.corp.example").await;
    assert_eq!(
        (&explained["group"], &explained["route"]),
        (&json!("public"), &Value::Null)
    );
    let explained = site.explain("1.0.0.10.in-addr.arpa").await;
    assert_eq!(
        (&explained["policy"], &explained["route"]),
        (&json!("forward"), &json!("10.in-addr.arpa."))
    );
    let explained = site.explain("1.0.99.10.in-addr.arpa").await;
    assert_eq!(explained["policy"], "local");
}

#[tokio::test]
async fn what_the_hosts_file_says_goes_before_a_route() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "192.0.2.77 intranet.corp.example\n").unwrap();
    let local = format!("\n[local-zones]\nhosts = \"{}\"\n", hosts.display());
    let site = Site::start(300, &(ROUTES.to_owned() + &local)).await;
    assert_eq!(
        site.address("intranet.corp.example").await,
        [Ipv4Addr::new(192, 0, 2, 77)]
    );
    assert_eq!(site.address("other.corp.example").await, [Ipv4Addr::from(OFFICE)]);
    assert_eq!(site.names_of(&site.office), set(&["other.corp.example"]));
}
