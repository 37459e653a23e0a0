//! Ways to providers that lose, delay, disorder, double and change what passes, or let nothing pass: over every
//! transport, with a relay between the node and each provider.

use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{Authority, Fake, FakeConfig, Transport, Way, WayFaults, zone};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::client::Udp;
use crate::message::{Message, rtype};
use crate::node::{Node, config, until};

/// How long health may take to see what is wrong, and that it is over.
const HEALTH_PATIENCE: Duration = Duration::from_secs(40);

/// Three providers over these transports, each way apart.
struct Ways {
    ways: Vec<Vec<Way>>,
    fakes: Vec<Fake>,
    node: Node,
    asked: u32,
    _trust: TempDir,
}

impl Ways {
    async fn over(transports: &[Transport]) -> Self {
        let authority = Authority::new().unwrap();
        let trust = tempfile::tempdir().unwrap();
        let pem = authority.write_pem(trust.path()).unwrap();
        let (mut ways, mut fakes, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        for (seed, name) in (1..).zip(["one", "two", "three"]) {
            let fake = Fake::start(FakeConfig::new(name).encrypted(&authority)).unwrap();
            let (mut own, mut endpoints) = (Vec::new(), Vec::new());
            for transport in transports {
                let way = Way::start(fake.address_of(*transport).unwrap(), seed).unwrap();
                endpoints.push(transport.endpoint(way.address(), Some(&fake.server_name())));
                own.push(way);
            }
            blocks.push(provider_block(name, &endpoints));
            ways.push(own);
            fakes.push(fake);
        }
        let line = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
        let text = config(&blocks).replacen("version = 1\n", &line, 1);
        let node = Node::start(&format!("{text}\n[select]\nencryption = \"any\"\n")).await;
        Self {
            ways,
            fakes,
            node,
            asked: 0,
            _trust: trust,
        }
    }

    fn set_all(&self, faults: WayFaults) {
        self.ways.iter().flatten().for_each(|way| way.set(faults));
    }

    fn queries(&self, transport: Transport) -> u64 {
        self.fakes.iter().map(|fake| fake.stats().of(transport).queries).sum()
    }

    /// New names at the same time; those that were not answered well.
    async fn hurt(&mut self, count: u32) -> Vec<String> {
        let mut asks = JoinSet::new();
        for _ in 0..count {
            self.asked += 1;
            let (name, dns) = (format!("way{}.cedar-mill.org", self.asked), self.node.dns());
            asks.spawn(async move {
                let reply = Udp::to(dns).await.ask(&Message::query(&name, rtype::A)).await;
                let is_good = reply.addresses() == [zone::expected_a(&name).unwrap()];
                (!is_good).then(|| format!("{name}: {reply:?}"))
            });
        }
        asks.join_all().await.into_iter().flatten().collect()
    }

    async fn ask_well(&mut self, count: u32) {
        let hurt = self.hurt(count).await;
        assert!(hurt.is_empty(), "{hurt:#?}\n{}", self.node.log());
    }

    /// The first endpoint of the first provider: state and place.
    async fn first(&self) -> (String, String) {
        let providers: Value = serde_json::from_str(&self.node.text("/api/v1/providers").await).unwrap();
        let all = providers.as_array().unwrap();
        let own = &all.iter().find(|entry| entry["name"] == "one").unwrap()["endpoints"][0];
        let text = |key: &str| own[key].as_str().unwrap().to_owned();
        (text("state"), text("place"))
    }
}

#[tokio::test]
async fn ways_that_lose_delay_disorder_and_double_cost_no_answer() {
    let rough = WayFaults {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(5),
        loss: 0.01,
        reorder: 0.1,
        duplicate: 0.1,
        ..WayFaults::default()
    };
    for transport in Transport::ALL {
        let mut ways = Ways::over(&[transport]).await;
        ways.set_all(rough);
        for _ in 0..6 {
            ways.ask_well(20).await;
        }
        assert!(ways.queries(transport) >= 120, "{transport}");
    }
}

#[tokio::test]
async fn a_way_that_changes_bits_makes_no_wrong_answer_where_it_is_encrypted() {
    for transport in Transport::ALL.into_iter().filter(|transport| transport.is_encrypted()) {
        let mut ways = Ways::over(&[transport]).await;
        ways.ask_well(20).await;
        ways.ways[0][0].set(WayFaults {
            corrupt: 0.3,
            ..WayFaults::default()
        });
        for _ in 0..5 {
            ways.ask_well(20).await;
        }
    }
}

#[tokio::test]
async fn a_way_that_is_cut_is_left_and_taken_again() {
    let endure = async |transport: Transport| {
        let mut ways = Ways::over(&[transport]).await;
        ways.ask_well(30).await;
        ways.ways[0][0].set(WayFaults {
            is_cut: true,
            ..WayFaults::default()
        });
        until(
            &format!("the cut over {transport} is seen"),
            HEALTH_PATIENCE,
            async || {
                ways.ask_well(6).await;
                ways.first().await.1 != "normal"
            },
        )
        .await;
        ways.ways[0][0].set(WayFaults::default());
        until(&format!("{transport} is used again"), HEALTH_PATIENCE, async || {
            ways.ask_well(6).await;
            ways.first().await == ("up".to_owned(), "normal".to_owned())
        })
        .await;
    };
    tokio::join!(
        endure(Transport::Udp),
        endure(Transport::Tcp),
        endure(Transport::Dot),
        endure(Transport::Doh),
        endure(Transport::Doq),
        endure(Transport::Doh3)
    );
}

#[tokio::test]
async fn a_network_that_blocks_datagrams_costs_one_class_its_place_and_no_provider_its_health() {
    for (quic, stream) in [(Transport::Doq, Transport::Dot), (Transport::Doh3, Transport::Doh)] {
        let mut ways = Ways::over(&[quic, stream]).await;
        ways.ask_well(20).await;
        assert_eq!(ways.queries(stream), 0, "{quic} comes first");
        ways.set_all(WayFaults {
            blocks_udp: true,
            ..WayFaults::default()
        });
        until("names are answered again", Duration::from_secs(12), async || {
            ways.hurt(3).await.is_empty()
        })
        .await;
        for _ in 0..4 {
            ways.ask_well(10).await;
        }
        assert!(ways.queries(stream) >= 40, "{stream}");
        // The block is the network's, and nobody is blamed for it.
        let downs = ways
            .node
            .metric("detour_endpoint_state_changes_total", &["to=\"down\""])
            .await;
        assert_eq!(downs, 0, "{}", ways.node.log());
    }
}

#[tokio::test]
async fn a_way_with_little_room_for_datagrams_costs_no_answer() {
    // What IPv6 promises (RFC 8200 section 5), without the headers; and nobody tells who sends more.
    let narrow = WayFaults {
        datagram_bytes_max: Some(1_280 - 48),
        ..WayFaults::default()
    };
    for transport in [Transport::Udp, Transport::Doq, Transport::Doh3] {
        let mut ways = Ways::over(&[transport]).await;
        ways.ask_well(10).await;
        ways.set_all(narrow);
        for _ in 0..3 {
            ways.ask_well(10).await;
        }
    }
}

#[tokio::test]
async fn a_way_that_forgets_its_connections_costs_no_answer() {
    for transport in [Transport::Tcp, Transport::Dot, Transport::Doh] {
        let mut ways = Ways::over(&[transport]).await;
        for _ in 0..5 {
            ways.ask_well(20).await;
            ways.ways.iter().flatten().for_each(Way::reset_connections);
        }
        ways.ask_well(20).await;
    }
}
