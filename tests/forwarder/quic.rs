//! Providers over QUIC and HTTP/3, where they are unlike those over streams: networks without UDP, closed ports, servers
//! that come back, and few streams.

use std::time::Duration;

use detour_rig::fake::Encryption;
use detour_rig::process::provider_block;
use detour_rig::{
    Authority, ConnectionLimits, Fake, FakeConfig, Fault, ListedTransports, Transport, TransportSel, zone,
};

use crate::client::{PATIENCE, Udp};
use crate::encrypted::{Ground, Site};
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, config, until};

/// What is listed, what is used of it, and what stands behind it.
const BESIDE: [(ListedTransports, Transport, Transport); 2] = [
    (ListedTransports::DoqDot, Transport::Doq, Transport::Dot),
    (ListedTransports::Doh3Doh, Transport::Doh3, Transport::Doh),
];

#[tokio::test]
async fn a_network_that_blocks_udp_is_served_over_tls_until_it_does_not() {
    for (listed, quic, stream) in BESIDE {
        let mut site = Site::new(listed).await;
        site.ask_many(20).await;
        assert_eq!(site.sum(stream, |stats| stats.queries), 0, "{listed}: quic comes first");
        site.set_fault(TransportSel::Only(quic), Fault::Blackhole);
        until("names are answered again", Duration::from_secs(12), async || {
            site.ask().await.rcode == rcode::NOERROR
        })
        .await;
        for _ in 0..5 {
            site.ask_well().await;
        }
        assert!(site.sum(stream, |stats| stats.queries) > 0, "{listed}");
        assert_eq!(site.in_the_clear(), 0, "{listed}");
        site.set_fault(TransportSel::All, Fault::None);
        until("quic is used again", Duration::from_secs(30), async || {
            let before = site.sum(quic, |stats| stats.answered);
            for _ in 0..5 {
                site.ask_well().await;
            }
            site.sum(quic, |stats| stats.answered) >= before + 5
        })
        .await;
    }
}

#[tokio::test]
async fn each_fault_of_one_provider_is_left_and_costs_no_answer() {
    for (listed, transport) in [
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        for fault in [
            Fault::Blackhole,
            Fault::Rst,
            Fault::Slow(Duration::from_secs(3)),
            Fault::Garbage,
            Fault::Wrongid,
        ] {
            let mut site = Site::new(listed).await;
            site.ask_many(20).await;
            site.fakes[0].set_fault(TransportSel::Only(transport), fault);
            for _ in 0..20 {
                site.ask_well().await;
            }
            let broken = site.fakes[0].name().to_owned();
            until(
                &format!("{fault} over {listed} is left"),
                Duration::from_secs(20),
                async || {
                    site.ask_many(5).await;
                    let states = site.states(&broken).await;
                    states[0].starts_with("suspect")
                        || states[0].starts_with("down")
                        || states[0].starts_with("probation")
                },
            )
            .await;
        }
    }
}

/// An encrypted fake that can be started again where it was.
fn start_at(authority: &Authority, ports: Option<[std::net::SocketAddr; 3]>) -> Fake {
    let config = FakeConfig::new("one").encrypted(authority);
    let config = match (ports, config.encryption) {
        (Some([plain, doq, doh3]), Some(encryption)) => FakeConfig {
            encryption: Some(Encryption {
                doq,
                doh3,
                ..encryption
            }),
            ..FakeConfig::new("one").at(plain)
        },
        (_, encryption) => FakeConfig {
            encryption,
            ..FakeConfig::new("one")
        },
    };
    Fake::start(config).unwrap()
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again_and_a_closed_port_is_known_at_once() {
    let authority = Authority::new().unwrap();
    let trust = tempfile::tempdir().unwrap();
    let pem = authority.write_pem(trust.path()).unwrap();
    for (listed, transport) in [
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let mut fake = start_at(&authority, None);
        let block = provider_block(fake.name(), &fake.endpoints(listed));
        let line = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
        let node = Node::start(&config(&[block]).replacen("version = 1\n", &line, 1)).await;
        let mut asked = 0;
        let mut ask = async |node: &Node| {
            asked += 1;
            let name = format!("again{asked}.cedar-mill.org");
            let reply = Udp::to(node.dns()).await.ask(&Message::query(&name, rtype::A)).await;
            reply.addresses() == [zone::expected_a(&name).unwrap()]
        };
        for _ in 0..5 {
            assert!(ask(&node).await, "{}", node.log());
        }
        // What is in flight when it stops would be lost to that.
        until("nothing is in flight", PATIENCE, async || {
            let stats = *fake.stats().of(transport);
            stats.queries == stats.answered
        })
        .await;
        let ports = [
            fake.address(),
            fake.address_of(Transport::Doq).unwrap(),
            fake.address_of(Transport::Doh3).unwrap(),
        ];
        fake.shutdown().await;
        until("the port is known to be closed", PATIENCE, async || {
            assert!(!ask(&node).await);
            node.text("/api/v1/providers").await.contains("\"unreachable\"")
        })
        .await;
        fake = start_at(&authority, Some(ports));
        until("names are answered again", PATIENCE, async || ask(&node).await).await;
        assert!(fake.stats().of(transport).answered > 0);
    }
}

#[tokio::test]
async fn a_server_that_stalls_handshakes_is_told_from_one_that_is_silent() {
    for (listed, _, _) in BESIDE {
        // From the start: a connection that stands would fall silent, which is another cause.
        let ground = Ground {
            fault: Fault::TlsStall,
            ..Ground::new(listed)
        };
        let mut site = Site::on(ground).await;
        let stalled = site.fakes[0].name().to_owned();
        until(&format!("the cause is told of {listed}"), PATIENCE, async || {
            site.ask_well().await;
            site.states(&stalled).await[0].contains("(tls-stalled)")
        })
        .await;
    }
}

#[tokio::test]
async fn an_idle_limit_is_learned_and_kept() {
    let limits = ConnectionLimits {
        idle: Some(Duration::from_millis(1_500)),
        ..ConnectionLimits::default()
    };
    let learn = async |(listed, transport): (ListedTransports, Transport)| {
        let mut site = Site::with(listed, "strategy = \"shard\"", limits, true).await;
        // Warm connections are opened anew for as long as clients ask: enough to learn from.
        site.ask_many(10).await;
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        let closed = site.sum(transport, |stats| stats.closed_idle);
        assert!(
            (1..=3).contains(&closed),
            "{listed}: each server closes one connection at most: {closed}"
        );
        site.ask_well().await;
    };
    tokio::join!(
        learn((ListedTransports::Doq, Transport::Doq)),
        learn((ListedTransports::Doh3, Transport::Doh3))
    );
}

#[tokio::test]
async fn few_streams_are_waited_for_or_passed_by() {
    let limits = ConnectionLimits {
        streams_max: 2,
        ..ConnectionLimits::default()
    };
    for (listed, transport) in [
        (ListedTransports::Doq, Transport::Doq),
        (ListedTransports::Doh3, Transport::Doh3),
    ] {
        let mut site = Site::with(listed, "", limits, true).await;
        for _ in 0..3 {
            site.ask_many(40).await;
        }
        let open = site.sum(transport, |stats| stats.open);
        assert!(
            (1..=12).contains(&open),
            "{listed}: {open} connections to three providers"
        );
    }
}
