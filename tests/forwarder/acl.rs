//! Who may ask, and from where replies leave.

use std::net::SocketAddr;

use detour_rig::zone;

use crate::client::{Tcp, Udp};
use crate::message::{CLASS_CH, Message, flag, question, rcode, rtype};
use crate::node::{Node, config, fake, udp_blocks};

#[tokio::test]
async fn only_those_who_may_ask_are_answered() {
    let fake = fake("fake");
    let allow = "[listen]\nallow = [\"127.0.0.2/32\"]";
    let node = Node::start(&config(&udp_blocks(&[&fake])).replace("[listen]", allow)).await;
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
    assert_eq!(fake.stats().queries(), 0, "a stranger's question reached a provider");
    let reply = friend.ask(&query).await;
    assert_eq!(reply.addresses(), [zone::expected_a("guarded.alder-lane.com").unwrap()]);
    // What is known by then is not for strangers either.
    assert_eq!(stranger.ask(&query).await.extended_errors(), [18]);
    assert_eq!(stranger.ask(&query.flags(0)).await.rcode, rcode::REFUSED);
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked() {
    let fake = fake("fake");
    let everywhere = config(&udp_blocks(&[&fake])).replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    let node = Node::start(&everywhere).await;
    assert!(node.dns().ip().is_unspecified());
    for own in ["127.0.0.1", "127.0.0.3"] {
        let asked: SocketAddr = format!("{own}:{}", node.dns().port()).parse().unwrap();
        let query = Message::query("anywhere.alder-lane.com", rtype::A);
        // The client's socket is connected: it hears nobody but the address it asked.
        let reply = Udp::to(asked).await.ask(&query).await;
        assert_eq!(reply.addresses(), [zone::expected_a("anywhere.alder-lane.com").unwrap()]);
        assert_eq!(Tcp::to(asked).await.ask(&query).await.rcode, rcode::NOERROR);
    }
}
