//! How large a reply may be, and what happens to one that is larger.

use detour_rig::Fake;

use crate::client::{Tcp, Udp};
use crate::message::{Message, Reply, flag, rcode, rtype};
use crate::node::{Node, fake};

/// Asks for a text record of about this size.
fn big(bytes: usize) -> Message {
    Message::query(&format!("big-{bytes}.alder-lane.com"), rtype::TXT)
}

async fn start() -> (Fake, Node) {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    (fake, node)
}

/// Cut to nothing but the question, and marked so.
fn is_cut(reply: &Reply) -> bool {
    reply.has(flag::TC) && reply.records.is_empty() && reply.question.is_some() && reply.rcode == rcode::NOERROR
}

#[tokio::test]
async fn a_datagram_is_as_large_as_the_client_takes_and_1232_bytes_at_most() {
    let (_fake, node) = start().await;
    let client = Udp::to(node.dns()).await;
    for (bytes, udp_bytes, limit) in [
        (400, None, 512),
        (600, None, 512),
        (400, Some(100), 512),
        (600, Some(511), 512),
        (600, Some(700), 700),
        (1_000, Some(1_232), 1_232),
        (1_000, Some(999), 999),
        (1_400, Some(1_232), 1_232),
        (1_400, Some(4_096), 1_232),
        (3_000, Some(65_535), 1_232),
    ] {
        let query = udp_bytes.map_or_else(|| big(bytes), |udp_bytes| big(bytes).edns(udp_bytes));
        let reply = client.ask(&query).await;
        assert!(reply.size_bytes <= limit, "{} > {limit}", reply.size_bytes);
        assert_eq!(is_cut(&reply), bytes > limit, "{bytes} of {udp_bytes:?}");
        assert_eq!(reply.records.len(), usize::from(bytes <= limit));
        assert_eq!(reply.edns.is_some(), udp_bytes.is_some());
    }
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_comes_whole_over_tcp() {
    let (fake, node) = start().await;
    let (udp, mut tcp) = (Udp::to(node.dns()).await, Tcp::to(node.dns()).await);
    for bytes in [600, 2_000, 20_000, 60_000] {
        let query = big(bytes).edns(1_232);
        udp.ask(&query).await;
        let reply = tcp.ask(&query).await;
        assert!(!reply.has(flag::TC));
        assert!(reply.records[0].rdata.len().abs_diff(bytes) <= 1, "{bytes}");
        assert!(!tcp.ask(&big(bytes)).await.has(flag::TC));
    }
    assert!(
        fake.stats().tcp.answered >= 3,
        "the provider was asked over TCP: {}",
        fake.stats()
    );
    assert_eq!(node.replies("provider").await, 4, "each was asked once");
}
