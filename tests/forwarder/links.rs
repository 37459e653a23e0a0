//! Links between a node and its providers that are as long as real ones are, and families that lead nowhere: in network
//! namespaces, as `travel` makes them.

use std::net::SocketAddr;
use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{Authority, Fake, FakeConfig, ListedTransports, zone};

use crate::client::{PATIENCE, Tcp};
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, config, until};
use crate::travel::{DEFAULT_BY_A, Travel, World, is_inside, sh};

/// Texts of answers, bytes: in one packet, in some, and in as many as a message can need.
const LENGTHS: [usize; 3] = [1_100, 4_000, 50_000];

#[tokio::test]
async fn every_transport_passes_links_of_1500_and_of_1280_bytes() {
    if !is_inside("links::every_transport_passes_links_of_1500_and_of_1280_bytes") {
        return;
    }
    let world = World::new();
    let authority = Authority::new().unwrap();
    let trust = tempfile::tempdir().unwrap();
    let pem = authority.write_pem(trust.path()).unwrap();
    let start = |n: u8| {
        let address = SocketAddr::from(([198, 51, 100, n], 53));
        Fake::start(FakeConfig::new(&format!("fake{n}")).at(address).encrypted(&authority)).unwrap()
    };
    let fakes: Vec<Fake> = (1..=2).map(start).collect();
    for mtu in [1_500, 1_280] {
        world.go_to_providers();
        sh(&format!("ip link set a0 mtu {mtu}"));
        world.go_to_machine();
        sh(&format!(
            "ip link set a1 mtu {mtu}; ip route replace default via 10.1.0.1"
        ));
        for listed in [
            ListedTransports::Udp,
            ListedTransports::Tcp,
            ListedTransports::Dot,
            ListedTransports::Doh,
            ListedTransports::Doq,
            ListedTransports::Doh3,
        ] {
            let block = |fake: &Fake| provider_block(fake.name(), &fake.endpoints(listed));
            let blocks: Vec<String> = fakes.iter().map(block).collect();
            let line = format!("version = 1\ntrust = [{:?}]\n", pem.display().to_string());
            let node = Node::start(&config(&blocks).replacen("version = 1\n", &line, 1)).await;
            let mut client = Tcp::to(node.dns()).await;
            for round in 0..5 {
                let name = format!("{listed}{mtu}x{round}.cedar-mill.org").replace('+', "-");
                let reply = client.ask(&Message::query(&name, rtype::A)).await;
                let expected = [zone::expected_a(&name).unwrap()];
                assert_eq!(reply.addresses(), expected, "{listed} {mtu}: {}", node.log());
            }
            for bytes in LENGTHS {
                let reply = client
                    .ask(&Message::query(&format!("big-{bytes}.cedar-mill.org"), rtype::TXT))
                    .await;
                let is_whole = reply.rcode == rcode::NOERROR && reply.size_bytes > bytes;
                assert!(is_whole, "{listed} {mtu} {bytes}: {reply:?}\n{}", node.log());
            }
        }
    }
}

#[tokio::test]
async fn a_family_that_is_a_black_hole_costs_no_answer_and_no_provider_its_health() {
    if !is_inside("links::a_family_that_is_a_black_hole_costs_no_answer_and_no_provider_its_health") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::UdpTcp, DEFAULT_BY_A).await;
    travel.ask_well(20).await;
    assert_eq!(travel.queries(|provider| &provider.v4), 0, "IPv6 is listed first");
    // What the machine sends arrives, and nothing comes back: so it looks where a router has no way back, or a tunnel is
    // broken.
    travel.world.go_to_providers();
    sh("ip -6 route add blackhole 2001:db8:a::2/128");
    travel.world.go_to_machine();
    until("names are answered over IPv4", PATIENCE, async || {
        travel.is_answered().await
    })
    .await;
    travel.ask_well(40).await;
    let over_v4 = travel.queries(|provider| &provider.v4);
    assert!(over_v4 >= 40, "{over_v4}");
    let summary = travel.node.status().await["summary"].as_str().unwrap().to_owned();
    let downs = travel
        .node
        .metric("detour_endpoint_state_changes_total", &["to=\"down\""])
        .await;
    assert_eq!(downs, 0, "{summary}\n{}", travel.node.log());
    travel.world.go_to_providers();
    sh("ip -6 route del blackhole 2001:db8:a::2/128");
    travel.world.go_to_machine();
    until("IPv6 is used again", Duration::from_secs(30), async || {
        let before = travel.queries(|provider| &provider.v6);
        travel.ask_well(5).await;
        travel.queries(|provider| &provider.v6) >= before + 5
    })
    .await;
}

#[tokio::test]
async fn a_start_where_one_family_is_a_black_hole_answers_the_first_query_in_its_time() {
    if !is_inside("links::a_start_where_one_family_is_a_black_hole_answers_the_first_query_in_its_time") {
        return;
    }
    // A gateway that takes what is sent to it and passes nothing on.
    let hole = "ip -6 neigh add 2001:db8:a::99 lladdr 02:00:00:00:00:01 dev a1 nud permanent; \
                ip -6 route add default via 2001:db8:a::99 dev a1; ip route add default via 10.1.0.1";
    let mut travel = Travel::with(ListedTransports::UdpTcp, hole).await;
    travel.ask_well(5).await;
    assert_eq!(travel.queries(|provider| &provider.v6), 0);
}
