//! Connections: many queries at once, answered as they become ready.

use std::collections::BTreeSet;
use std::time::Duration;

use detour_rig::{FreshNames, Law, zone};

use crate::client::{Tcp, framed};
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, config, fake, fake_with, udp_blocks};

/// A fresh name whose answer takes this long under the bimodal law.
fn name_taking(from_ms: u64, to_ms: u64) -> String {
    let wanted = Duration::from_millis(from_ms)..Duration::from_millis(to_ms);
    let names = FreshNames::default();
    let mut names = (0..).map(|index| names.name(index));
    names.find(|name| wanted.contains(&Law::Bimodal.latency(name))).unwrap()
}

#[tokio::test]
async fn a_fast_answer_does_not_wait_for_a_slow_one() {
    let fake = fake_with("fake", Law::Bimodal);
    let node = Node::before(&[&fake]).await;
    let mut client = Tcp::to(node.dns()).await;
    let (slow, fast) = (name_taking(1_000, 1_500), name_taking(8, 12));
    client.send(&Message::query(&slow, rtype::A).id(1).bytes()).await;
    client.send(&Message::query(&fast, rtype::A).id(2).bytes()).await;
    for (id, name) in [(2, fast), (1, slow)] {
        let reply = client.receive().await.unwrap();
        assert_eq!(
            (reply.id, reply.addresses()),
            (id, vec![zone::expected_a(&name).unwrap()])
        );
    }
}

#[tokio::test]
async fn every_one_of_many_pipelined_queries_gets_its_own_answer() {
    let fake = fake_with("fake", Law::Bimodal);
    let node = Node::before(&[&fake]).await;
    let names = FreshNames::default();
    let mut names: Vec<_> = (0..400).map(|index| names.name(index)).collect();
    names.retain(|name| Law::Bimodal.latency(name) < Duration::from_millis(600));
    // The slowest first, so that answers come in about the reverse order.
    names.sort_by_key(|name| std::cmp::Reverse(Law::Bimodal.latency(name)));
    let frames: Vec<_> = (0..)
        .zip(&names)
        .flat_map(|(id, name)| framed(&Message::query(name, rtype::A).id(id).bytes()))
        .collect();
    let mut client = Tcp::to(node.dns()).await;
    let mut open: BTreeSet<_> = (0..names.len()).collect();
    let mut in_order = true;
    // More than may be in flight on one connection: reading goes along with writing.
    let (mut rest, mut last) = (frames.as_slice(), 0);
    while !open.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(2_000));
        client.send_raw(now).await;
        rest = later;
        let reply = client.receive().await.expect("an open connection");
        let index = usize::from(reply.id);
        assert!(open.remove(&index), "two replies to one query");
        assert_eq!(reply.addresses(), [zone::expected_a(&names[index]).unwrap()]);
        in_order &= index >= last;
        last = index;
    }
    assert!(!in_order, "fast answers overtake slow ones");
}

#[tokio::test]
async fn a_query_may_come_in_single_bytes() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let mut client = Tcp::to(node.dns()).await;
    let name = "bytewise.fern-works.com";
    let bytes = framed(&Message::query(name, rtype::A).bytes());
    for byte in bytes.chunks(1) {
        client.send_raw(byte).await;
        // Lets the byte leave as a segment of its own; the outcome does not depend on it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        client.receive().await.unwrap().addresses(),
        [zone::expected_a(name).unwrap()]
    );
}

#[tokio::test]
async fn a_connection_serves_until_its_client_is_done() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let mut first = Tcp::to(node.dns()).await;
    for index in 0..5 {
        let query = Message::query(&format!("n{index}.fern-works.com"), rtype::A).id(index);
        assert_eq!(first.ask(&query).await.rcode, rcode::NOERROR);
        // Another client comes and goes meanwhile, the last time in the middle of a message.
        let mut other = Tcp::to(node.dns()).await;
        other.send_raw(&framed(&query.bytes())[..20]).await;
    }
    assert_eq!(fake.stats().queries(), 5 + 1, "and the probe of the start");
}

#[tokio::test]
async fn a_connection_that_says_nothing_whole_is_closed() {
    let fake = fake("fake");
    let hasty = format!("{}\n[limits]\ntcp-idle = \"1s\"\n", config(&udp_blocks(&[&fake])));
    let node = Node::start(&hasty).await;
    let mut silent = Tcp::to(node.dns()).await;
    let mut half = Tcp::to(node.dns()).await;
    let query = Message::query("idle.fern-works.com", rtype::A);
    assert_eq!(half.ask(&query).await.rcode, rcode::NOERROR);
    half.send_raw(&framed(&query.bytes())[..9]).await;
    assert_eq!((silent.receive().await, half.receive().await), (None, None));
}
