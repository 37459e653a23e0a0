//! Providers over TLS and HTTPS: connections are shared and resumed, certificates are checked, and queries travel in the
//! clear only as the configuration allows.

use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{
    Authority, Closing, ConnectionLimits, Fake, FakeConfig, FarEnd, Fault, ListedTransports, Transport, TransportSel,
    TransportStats, zone,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, rcode, rtype};
use crate::node::{Node, blocks, config, until};

/// Three providers and a node that trusts their authority.
pub(crate) struct Site {
    pub(crate) fakes: Vec<Fake>,
    pub(crate) node: Node,
    asked: u32,
    _trust: TempDir,
}

/// What is particular about a site.
pub(crate) struct Ground<'g> {
    pub(crate) listed: ListedTransports,
    /// How many of the three providers.
    pub(crate) providers: usize,
    /// Lines for the top of the configuration.
    pub(crate) top: &'g str,
    /// Lines for its `[select]`.
    pub(crate) select: &'g str,
    /// A line for the block of each provider.
    pub(crate) of_provider: &'g dyn Fn(&Fake) -> String,
    pub(crate) limits: ConnectionLimits,
    /// Whether their authority is trusted.
    pub(crate) trusted: bool,
    /// What is wrong with the first provider before the node starts.
    pub(crate) fault: Fault,
}

impl Ground<'_> {
    pub(crate) fn new(listed: ListedTransports) -> Self {
        Self {
            listed,
            providers: 3,
            top: "",
            select: "",
            of_provider: &|_| String::new(),
            limits: ConnectionLimits::default(),
            trusted: true,
            fault: Fault::None,
        }
    }
}

impl Site {
    pub(crate) async fn on(ground: Ground<'_>) -> Self {
        let authority = Authority::new().unwrap();
        let trust = tempfile::tempdir().unwrap();
        let pem = authority.write_pem(trust.path()).unwrap();
        let limits = ground.limits;
        let start = |name: &str| Fake::start(FakeConfig::new(name).encrypted(&authority).limits(limits)).unwrap();
        let fakes: Vec<Fake> = ["one", "two", "three"]
            .into_iter()
            .take(ground.providers)
            .map(start)
            .collect();
        fakes[0].set_fault(TransportSel::All, ground.fault);
        let all: Vec<&Fake> = fakes.iter().collect();
        let mut blocks = blocks(&all, ground.listed);
        for (block, fake) in blocks.iter_mut().zip(&fakes) {
            block.push_str(&(ground.of_provider)(fake));
        }
        let trusted = if ground.trusted {
            format!("trust = [{:?}]\n", pem.display().to_string())
        } else {
            String::new()
        };
        let top = format!("version = 1\n{trusted}{}\n", ground.top);
        let mut text = config(&blocks).replacen("version = 1\n", &top, 1);
        text.push_str(&format!("\n[select]\n{}\n", ground.select));
        let node = Node::start(&text).await;
        Self {
            fakes,
            node,
            asked: 0,
            _trust: trust,
        }
    }

    pub(crate) async fn with(listed: ListedTransports, select: &str, limits: ConnectionLimits, trusted: bool) -> Self {
        let ground = Ground::new(listed);
        Self::on(Ground {
            select,
            limits,
            trusted,
            ..ground
        })
        .await
    }

    pub(crate) async fn new(listed: ListedTransports) -> Self {
        Self::with(listed, "", ConnectionLimits::default(), true).await
    }

    pub(crate) fn next_name(&mut self) -> String {
        self.asked += 1;
        format!("secret{}.cedar-mill.org", self.asked)
    }

    /// A new name.
    pub(crate) async fn ask(&mut self) -> Reply {
        let name = self.next_name();
        Udp::to(self.node.dns())
            .await
            .ask(&Message::query(&name, rtype::A).edns(1232))
            .await
    }

    /// A new name, and its right answer.
    pub(crate) async fn ask_well(&mut self) {
        let name = self.next_name();
        let reply = Udp::to(self.node.dns())
            .await
            .ask(&Message::query(&name, rtype::A))
            .await;
        assert_eq!(
            reply.addresses(),
            [zone::expected_a(&name).unwrap()],
            "{}",
            self.node.log()
        );
    }

    /// Names asked at the same time.
    pub(crate) async fn ask_many(&mut self, count: usize) {
        let mut asks = JoinSet::new();
        for _ in 0..count {
            let (name, dns) = (self.next_name(), self.node.dns());
            asks.spawn(async move {
                let reply = Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await;
                assert_eq!(reply.addresses(), [zone::expected_a(&name).unwrap()]);
            });
        }
        asks.join_all().await;
    }

    pub(crate) fn set_fault(&self, transports: TransportSel, fault: Fault) {
        for fake in &self.fakes {
            fake.set_fault(transports, fault);
        }
    }

    /// A sum over the fakes.
    pub(crate) fn sum(&self, transport: Transport, count: fn(&TransportStats) -> u64) -> u64 {
        self.fakes.iter().map(|fake| count(fake.stats().of(transport))).sum()
    }

    /// Queries that everybody on the path could read.
    pub(crate) fn in_the_clear(&self) -> u64 {
        self.sum(Transport::Udp, |stats| stats.queries) + self.sum(Transport::Tcp, |stats| stats.queries)
    }

    /// What the node says of each endpoint of a provider.
    pub(crate) async fn endpoints(&self, provider: &str) -> Vec<Value> {
        let providers: Value = serde_json::from_str(&self.node.text("/api/v1/providers").await).unwrap();
        let all = providers.as_array().unwrap();
        let own = all.iter().find(|entry| entry["name"] == provider).unwrap();
        own["endpoints"].as_array().unwrap().clone()
    }

    /// `state (reason)` of each endpoint of a provider.
    pub(crate) async fn states(&self, provider: &str) -> Vec<String> {
        let endpoints = self.endpoints(provider).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        endpoints
            .iter()
            .map(|entry| format!("{} ({})", text(&entry["state"]), text(&entry["reason"])))
            .collect()
    }
}

#[tokio::test]
async fn many_queries_share_a_connection_to_each_provider() {
    for (listed, transport) in [
        (ListedTransports::Dot, Transport::Dot),
        (ListedTransports::Doh, Transport::Doh),
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let mut site = Site::new(listed).await;
        for _ in 0..4 {
            site.ask_many(50).await;
        }
        let connections = site.sum(transport, |stats| stats.connections);
        // One each, and one for each probe, should a slow machine have made a doubt.
        assert!(
            connections <= 3 + site.node.metric("detour_probes_total", &[]).await,
            "{listed}: {connections}"
        );
        assert_eq!(site.in_the_clear(), 0, "{listed}");
        for fake in &site.fakes {
            assert!(
                fake.last_server_name(transport).is_some(),
                "{listed}: {} saw no SNI",
                fake.name()
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_costs_no_query_and_sessions_are_resumed() {
    let limits = ConnectionLimits {
        queries_max: Some(1),
        ..ConnectionLimits::default()
    };
    for (listed, transport) in [
        (ListedTransports::Dot, Transport::Dot),
        (ListedTransports::Doh, Transport::Doh),
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let mut site = Site::with(listed, "", limits, true).await;
        for _ in 0..20 {
            site.ask_well().await;
        }
        let resumed = site.sum(transport, |stats| stats.handshakes_resumed);
        assert!(resumed >= 10, "{listed}: {resumed} of 20 resumed");
    }
}

#[tokio::test]
async fn a_connection_closed_with_queries_in_flight_costs_none_of_them() {
    for closing in [Closing::Polite, Closing::Abrupt] {
        for listed in [
            ListedTransports::Dot,
            ListedTransports::Doh,
            ListedTransports::Doq,
            ListedTransports::Doh3,
        ] {
            let mut site = Site::new(listed).await;
            site.ask_many(30).await;
            let fakes = std::mem::take(&mut site.fakes);
            for _ in 0..5 {
                // While the queries are under way: answers take 10 ms.
                let closes = async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    for fake in &fakes {
                        fake.close_connections(TransportSel::All, closing);
                    }
                };
                tokio::join!(closes, site.ask_many(30));
            }
        }
    }
}

#[tokio::test]
async fn each_failure_of_tls_and_http_is_a_cause_of_its_own_and_nobody_is_asked_in_the_clear() {
    for (listed, fault, cause) in [
        (ListedTransports::DotUdp, Fault::TlsExpired, "tls-expired"),
        (ListedTransports::DotUdp, Fault::TlsNotYetValid, "tls-not-yet-valid"),
        (ListedTransports::DotUdp, Fault::TlsWrongName, "tls-wrong-name"),
        (ListedTransports::DohDotUdp, Fault::TlsExpired, "tls-expired"),
        (ListedTransports::DohDotUdp, Fault::Http500, "http"),
        (ListedTransports::DoqDot, Fault::TlsExpired, "tls-expired"),
        (ListedTransports::DoqDot, Fault::TlsWrongName, "tls-wrong-name"),
        (ListedTransports::DoqDot, Fault::Rst, "unreachable"),
        (ListedTransports::Doh3Doh, Fault::TlsExpired, "tls-expired"),
        (ListedTransports::Doh3Doh, Fault::TlsWrongName, "tls-wrong-name"),
        (ListedTransports::Doh3Doh, Fault::Http500, "http"),
    ] {
        let mut site = Site::new(listed).await;
        site.ask_many(20).await;
        let broken = site.fakes[0].name().to_owned();
        site.fakes[0].set_fault(TransportSel::All, fault);
        until(&format!("{cause} is told of {listed}"), PATIENCE, async || {
            site.ask_well().await;
            site.states(&broken).await[0].contains(&format!("({cause})"))
        })
        .await;
        for _ in 0..20 {
            site.ask_well().await;
        }
        assert_eq!(site.in_the_clear(), 0, "{listed} {fault}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_never_asked() {
    let mut site = Site::with(
        ListedTransports::Dot,
        "encryption = \"require\"",
        ConnectionLimits::default(),
        false,
    )
    .await;
    let reply = site.ask().await;
    assert_eq!(reply.rcode, rcode::SERVFAIL);
    until("the cause is told", PATIENCE, async || {
        site.ask().await;
        site.states("one").await == ["suspect (tls-untrusted)"]
    })
    .await;
    assert_eq!(site.sum(Transport::Dot, |stats| stats.queries), 0);
}

#[tokio::test]
async fn with_prefer_a_network_without_encryption_is_served_in_the_clear_until_it_returns() {
    let mut site = Site::new(ListedTransports::DohDotUdp).await;
    site.ask_many(20).await;
    assert_eq!(site.in_the_clear(), 0);
    for transport in [Transport::Doh, Transport::Dot] {
        site.set_fault(TransportSel::Only(transport), Fault::Blackhole);
    }
    // Within the deadline of the queries that meet it.
    until("names are answered again", Duration::from_secs(12), async || {
        site.ask().await.rcode == rcode::NOERROR
    })
    .await;
    assert!(site.in_the_clear() > 0);
    for _ in 0..5 {
        site.ask_well().await;
    }
    site.set_fault(TransportSel::All, Fault::None);
    until("everything is encrypted again", PATIENCE, async || {
        site.ask_well().await;
        let before = site.in_the_clear();
        for _ in 0..5 {
            site.ask_well().await;
        }
        site.in_the_clear() == before
    })
    .await;
}

#[tokio::test]
async fn a_start_in_a_network_without_encryption_answers_the_first_query_in_its_time() {
    let mut site = Site::new(ListedTransports::DohDotUdp).await;
    for transport in [Transport::Doh, Transport::Dot] {
        site.set_fault(TransportSel::Only(transport), Fault::Rst);
    }
    until("names are answered", Duration::from_secs(8), async || {
        site.ask().await.rcode == rcode::NOERROR
    })
    .await;
}

#[tokio::test]
async fn with_require_nothing_is_ever_asked_in_the_clear() {
    let mut site = Site::with(
        ListedTransports::DotUdp,
        "encryption = \"require\"",
        ConnectionLimits::default(),
        true,
    )
    .await;
    site.ask_well().await;
    site.set_fault(TransportSel::Only(Transport::Dot), Fault::Rst);
    for _ in 0..6 {
        assert_eq!(site.ask().await.rcode, rcode::SERVFAIL);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(site.in_the_clear(), 0);
    site.set_fault(TransportSel::All, Fault::None);
    until("names are answered again", PATIENCE, async || {
        site.ask().await.rcode == rcode::NOERROR
    })
    .await;
}

#[tokio::test]
async fn with_any_the_listed_order_alone_decides() {
    let mut site = Site::with(
        ListedTransports::DotUdp,
        "encryption = \"any\"",
        ConnectionLimits::default(),
        true,
    )
    .await;
    site.ask_many(20).await;
    assert_eq!(site.in_the_clear(), 0);
    site.fakes[0].set_fault(TransportSel::Only(Transport::Dot), Fault::Rst);
    let broken = site.fakes[0].stats().udp.queries;
    until("its own UDP is used", PATIENCE, async || {
        site.ask_well().await;
        site.fakes[0].stats().udp.queries > broken
    })
    .await;
}

#[tokio::test]
async fn an_idle_limit_is_learned_and_kept() {
    let limits = ConnectionLimits {
        idle: Some(Duration::from_millis(1_500)),
        ..ConnectionLimits::default()
    };
    let mut site = Site::with(ListedTransports::Dot, "strategy = \"shard\"", limits, true).await;
    // Warm connections are opened anew for as long as clients ask: enough to learn from.
    site.ask_many(10).await;
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    let closed = site.sum(Transport::Dot, |stats| stats.closed_idle);
    assert!(
        (1..=3).contains(&closed),
        "each server closes one connection at most: {closed}"
    );
    site.ask_well().await;
}

#[tokio::test]
async fn a_server_by_other_people_is_understood_over_every_transport() {
    let authority = Authority::new().unwrap();
    let trust = tempfile::tempdir().unwrap();
    let pem = authority.write_pem(trust.path()).unwrap();
    for listed in [
        ListedTransports::Udp,
        ListedTransports::Tcp,
        ListedTransports::Dot,
        ListedTransports::Doh,
        ListedTransports::Doq,
        ListedTransports::Doh3,
    ] {
        let far = FarEnd::start("far", &authority).unwrap();
        let block = provider_block(far.name(), &far.endpoints(listed));
        let line = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
        let node = Node::start(&config(&[block]).replacen("version = 1\n", &line, 1)).await;
        for index in 0..20 {
            let name = format!("far{index}.cedar-mill.org");
            let reply = Udp::to(node.dns()).await.ask(&Message::query(&name, rtype::A)).await;
            let expected = [zone::expected_a(&name).unwrap()];
            assert_eq!(reply.addresses(), expected, "{listed}: {}", node.log());
        }
        assert_eq!(
            node.metric("detour_attempts_total", &["why=\"retry\""]).await,
            0,
            "{listed}: {}",
            node.log()
        );
    }
}
