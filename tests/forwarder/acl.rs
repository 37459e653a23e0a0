//! Who may ask, and from where replies leave.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use detour_rig::{Fake, zone};

use crate::client::{PATIENCE, Tcp, Udp};
use crate::message::{CLASS_CH, Message, flag, question, rcode, rtype};
use crate::node::{Node, config, fake, udp_blocks, until};

#[tokio::test]
async fn only_those_who_may_ask_are_answered() {
    let fake = fake("fake");
    let allow = "[listen]\nallow = [\"127.0.0.2/32\"]";
    let node = Node::start(&config(&udp_blocks(&[&fake])).replace("[listen]", allow)).await;
    until("the probe of the start", PATIENCE, async || fake.stats().queries() == 1).await;
    let (stranger, friend) = (Udp::to(node.dns()).await, Udp::from_to("127.0.0.2", node.dns()).await);
    let query = Message::query("guarded.alder-lane.com", rtype::A).edns(1232);
    let version = Message::of_question(question("version.bind", rtype::TXT, CLASS_CH));
    for query in [&query, &version, &query.clone().flags(flag::RD | flag::CD)] {
        let mut tcp = Tcp::to(node.dns()).await;
        for reply in [stranger.ask(query).await, tcp.ask(query).await] {
            assert_eq!((reply.rcode, reply.records.len()), (rcode::REFUSED, 0));
            assert_eq!(reply.question.as_ref(), query.questions.first());
        }
    }
    assert_eq!(fake.stats().queries(), 1, "a stranger's question reached a provider");
    let reply = friend.ask(&query).await;
    assert_eq!(reply.addresses(), [zone::expected_a("guarded.alder-lane.com").unwrap()]);
    // What is known by then is not for strangers either.
    assert_eq!(stranger.ask(&query).await.extended_errors(), [18]);
    assert_eq!(stranger.ask(&query.flags(0)).await.rcode, rcode::REFUSED);
}

/// Asks a node on the wildcard at one of the machine's addresses. The client's socket is connected: it hears nobody
/// but the address it asked.
async fn assert_answers_from(node: &Node, own: IpAddr) {
    let asked = SocketAddr::new(own, node.dns().port());
    let query = Message::query("anywhere.alder-lane.com", rtype::A);
    let client = Udp::from_to(if own.is_loopback() { "127.0.0.1" } else { "0.0.0.0" }, asked).await;
    for reply in [client.ask(&query).await, Tcp::to(asked).await.ask(&query).await] {
        assert_eq!(
            reply.addresses(),
            [zone::expected_a("anywhere.alder-lane.com").unwrap()],
            "at {own}"
        );
    }
}

async fn node_on_the_wildcard(fake: &Fake) -> Node {
    let everywhere = config(&udp_blocks(&[fake]))
        .replacen("127.0.0.1:0", "0.0.0.0:0", 1)
        .replace("[listen]", "[listen]\nallow = [\"0.0.0.0/0\"]");
    let node = Node::start(&everywhere).await;
    assert!(node.dns().ip().is_unspecified());
    node
}

#[tokio::test]
async fn a_wildcard_answers_from_the_interface_address_that_was_asked() {
    let fake = fake("fake");
    let node = node_on_the_wildcard(&fake).await;
    assert_answers_from(&node, Ipv4Addr::LOCALHOST.into()).await;
    // Where this machine would send from; connecting a datagram socket sends nothing. Offline there is no such address.
    let outward = UdpSocket::bind("0.0.0.0:0").unwrap();
    if outward.connect("192.0.2.1:9").is_ok() {
        assert_answers_from(&node, outward.local_addr().unwrap().ip()).await;
    }
}

#[tokio::test]
async fn a_wildcard_answers_from_an_address_no_interface_lists() {
    let fake = fake("fake");
    let node = node_on_the_wildcard(&fake).await;
    // All of 127.0.0.0/8 is this machine, and its interface names only the first.
    assert_answers_from(&node, Ipv4Addr::new(127, 0, 0, 3).into()).await;
}
