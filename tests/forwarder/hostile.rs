//! Providers that mean harm: whatever one of three sends, its endpoint pays for it, no client goes without an answer, and
//! memory does not grow.

use std::net::SocketAddr;
use std::time::Duration;

use detour_rig::fake::Encryption;
use detour_rig::process::provider_block;
use detour_rig::{
    Authority, ConnectionLimits, Fake, FakeConfig, Fault, Hostile, ListedTransports, Transport, TransportSel, zone,
};
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Udp};
use crate::encrypted::{Ground, Site};
use crate::message::{Message, rtype};
use crate::node::{Node, config, until};

/// What memory may grow by while a provider does its worst, KiB. The largest message is 64 KiB, a handful of them is in
/// memory at a time; a body that is read without a bound, or unpacked, is far more.
const GROWTH_KIB_MAX: u64 = 24 * 1_024;
/// How long health may take to see what is wrong: failures by timeout take longest.
const HEALTH_PATIENCE: Duration = Duration::from_secs(30);

/// The causes that an endpoint may be left for.
fn causes(fault: Fault, transport: Transport) -> &'static [&'static str] {
    let Fault::Hostile(hostile) = fault else {
        return if fault == Fault::Http500 {
            &["http"]
        } else {
            &["garbage", "timeout", "silence", "loss", "mismatch"]
        };
    };
    match hostile {
        Hostile::Html | Hostile::Redirect => &["http"],
        // HTTP/2 has more than one way of having none of it, and that may take its time.
        Hostile::EndlessHead => &["http", "reset", "garbage", "timeout", "silence", "loss"],
        Hostile::ResetStreams => &["reset"],
        Hostile::EndlessBody | Hostile::GzipBomb | Hostile::TruncateAlways => &["garbage"],
        // Beside UDP the stream that should settle it says the same.
        Hostile::WrongQuestion if transport == Transport::Udp => &["mismatch", "garbage"],
        Hostile::WrongQuestion => &["garbage"],
        Hostile::Pointers | Hostile::LyingLength => &["garbage", "timeout", "silence", "loss"],
        Hostile::Deaf | Hostile::Drip => &["timeout", "silence", "loss", "connect", "tls-stalled"],
    }
}

/// Everything that `transport` can do to a client.
fn faults(transport: Transport) -> Vec<Fault> {
    let hostile = Hostile::ALL
        .into_iter()
        .filter(|hostile| hostile.is_possible(transport));
    let http = transport.is_http().then_some(Fault::Http500);
    let plain = [Fault::Garbage, Fault::Wrongid].into_iter().chain(http);
    plain.chain(hostile.map(Fault::Hostile)).collect()
}

async fn endure(listed: ListedTransports, fault: Fault) {
    let transport = listed.transports()[0];
    let mut site = Site::new(listed).await;
    for _ in 0..3 {
        site.ask_many(20).await;
    }
    let before_kib = site.node.resident_kib();
    site.fakes[0].set_fault(TransportSel::All, fault);
    let broken = site.fakes[0].name().to_owned();
    let mut seen = String::new();
    until(&format!("{fault} over {listed} is left"), HEALTH_PATIENCE, async || {
        site.ask_many(5).await;
        seen = site.states(&broken).await[0].clone();
        !seen.starts_with("up") && !seen.starts_with("unknown")
    })
    .await;
    let is_known = causes(fault, transport)
        .iter()
        .any(|cause| seen.contains(&format!("({cause})")));
    assert!(is_known, "{fault} over {listed}: {seen}\n{}", site.node.log());
    for _ in 0..3 {
        site.ask_many(20).await;
    }
    let grown_kib = site.node.resident_kib().saturating_sub(before_kib);
    assert!(
        grown_kib < GROWTH_KIB_MAX,
        "{fault} over {listed}: {grown_kib} KiB more"
    );
}

async fn endure_each(listed: ListedTransports) {
    for fault in faults(listed.transports()[0]) {
        endure(listed, fault).await;
    }
}

#[tokio::test]
async fn whatever_a_provider_does_over_udp_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Udp).await;
}

#[tokio::test]
async fn whatever_a_provider_does_over_tcp_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Tcp).await;
}

#[tokio::test]
async fn whatever_a_provider_does_over_tls_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Dot).await;
}

#[tokio::test]
async fn whatever_a_provider_does_over_https_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Doh).await;
}

#[tokio::test]
async fn whatever_a_provider_does_over_quic_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Doq).await;
}

#[tokio::test]
async fn whatever_a_provider_does_over_http3_costs_it_its_health_and_no_answer() {
    endure_each(ListedTransports::Doh3).await;
}

#[tokio::test]
async fn a_goodbye_after_every_ten_queries_costs_no_answer_and_nobody_its_health() {
    let limits = ConnectionLimits {
        queries_max: Some(10),
        ..ConnectionLimits::default()
    };
    for (listed, transport) in [
        (ListedTransports::Tcp, Transport::Tcp),
        (ListedTransports::Dot, Transport::Dot),
        (ListedTransports::Doh, Transport::Doh),
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let ground = Ground {
            limits,
            ..Ground::new(listed)
        };
        let mut site = Site::on(ground).await;
        for _ in 0..10 {
            site.ask_many(12).await;
        }
        let queries = site.sum(transport, |stats| stats.queries);
        let connections = site.sum(transport, |stats| stats.connections);
        // Each carries ten, unless the end of one came while others waited for it; probes have one each.
        let probes = site.node.metric("detour_probes_total", &[]).await;
        assert!(connections >= queries / 11, "{listed}: {connections} for {queries}");
        assert!(
            connections <= queries / 3 + probes + 6,
            "{listed}: {connections} for {queries}, {probes} probes"
        );
        for fake in ["one", "two", "three"] {
            let state = site.states(fake).await[0].clone();
            assert!(
                !state.starts_with("down"),
                "{listed}: {fake} {state}\n{}",
                site.node.log()
            );
        }
    }
}

/// Encrypted fakes that can be started again where they were.
struct Fleet {
    authority: Authority,
    fakes: Vec<Fake>,
}

impl Fleet {
    fn new(turn: u8, count: u8) -> Self {
        let authority = Authority::new().unwrap();
        // Ports that the system gives to nobody: while a fake is gone, somebody else could have its own.
        let network = u8::try_from(std::process::id() % 200).unwrap() + 10;
        let start = |number: u8| {
            let at = |port| SocketAddr::from(([127, network, turn, number + 1], port));
            let config = FakeConfig::new(&format!("fake{number}")).at(at(5_301));
            let encryption = Some(Encryption {
                authority: authority.clone(),
                dot: at(5_302),
                doh: at(5_303),
                doq: at(5_304),
                doh3: at(5_305),
                tickets: true,
            });
            Fake::start(FakeConfig { encryption, ..config }).unwrap()
        };
        Self {
            fakes: (0..count).map(start).collect(),
            authority,
        }
    }

    /// All of them end, with their sessions and keys, and begin again.
    async fn restart(&mut self) {
        let mut again = Vec::new();
        for fake in self.fakes.drain(..) {
            let config = FakeConfig::new(fake.name()).at(fake.address());
            let at = |transport| fake.address_of(transport).unwrap();
            let encryption = Encryption {
                authority: self.authority.clone(),
                dot: at(Transport::Dot),
                doh: at(Transport::Doh),
                doq: at(Transport::Doq),
                doh3: at(Transport::Doh3),
                tickets: true,
            };
            again.push((fake, config, encryption));
        }
        for (fake, config, encryption) in again {
            fake.shutdown().await;
            let encryption = Some(encryption);
            let config = FakeConfig { encryption, ..config };
            // Somebody else's socket may have got one of the ports for a moment.
            until("it has its ports again", PATIENCE, async || {
                let started = Fake::start(config.clone());
                started.map(|fake| self.fakes.push(fake)).is_ok()
            })
            .await;
        }
    }

    fn open(&self, transport: Transport) -> u64 {
        self.fakes.iter().map(|fake| fake.stats().of(transport).open).sum()
    }
}

/// Asks new names at once; how many were not answered well.
async fn hurt(node: &Node, tag: &str, count: usize) -> usize {
    let mut asks = JoinSet::new();
    for number in 0..count {
        let (name, dns) = (format!("{tag}x{number}.cedar-mill.org"), node.dns());
        asks.spawn(async move {
            let reply = Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await;
            reply.addresses() == [zone::expected_a(&name).unwrap()]
        });
    }
    asks.join_all().await.into_iter().filter(|is_good| !is_good).count()
}

#[tokio::test]
async fn a_restart_with_fifty_pooled_connections_costs_no_answer() {
    const PROVIDERS: u8 = 50;
    for (turn, listed, transport) in [
        (0, ListedTransports::Dot, Transport::Dot),
        (1, ListedTransports::Doh, Transport::Doh),
        (2, ListedTransports::Doq, Transport::Doq),
    ] {
        let mut fleet = Fleet::new(turn, PROVIDERS);
        let directory = tempfile::tempdir().unwrap();
        let pem = fleet.authority.write_pem(directory.path()).unwrap();
        let blocks: Vec<String> = fleet
            .fakes
            .iter()
            .map(|fake| provider_block(fake.name(), &fake.endpoints(listed)))
            .collect();
        let line = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
        let text = config(&blocks).replacen("version = 1\n", &line, 1);
        let node = Node::start(&text).await;
        let mut round = 0;
        until(&format!("all are connected over {listed}"), PATIENCE * 3, async || {
            round += 1;
            assert_eq!(hurt(&node, &format!("before{round}"), 100).await, 0, "{}", node.log());
            fleet.open(transport) >= u64::from(PROVIDERS)
        })
        .await;
        fleet.restart().await;
        assert_eq!(hurt(&node, "after", 200).await, 0, "{listed}: {}", node.log());
    }
}
