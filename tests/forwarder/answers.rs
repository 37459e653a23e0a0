//! What clients are answered: the right thing, as they asked, and from memory the second time.

use std::net::SocketAddr;

use detour_rig::process::provider_block;
use detour_rig::{Law, Transport, zone};
use hickory_proto::op::Message as HickoryMessage;
use tokio::net::UdpSocket;

use crate::client::{PATIENCE, Tcp, Udp};
use crate::message::{DO, Message, Reply, Section, flag, opt, option, question, rcode, record, rtype, wire_name};
use crate::node::{Node, config, fake, fake_with, until};
use crate::scripted::{Scripted, question_end, reply_to};

/// A name that exists nowhere.
const ABSENT: &str = "no-such-name.detour-absent.org";
/// The owner of a record: a pointer to the question.
const ASKED: [u8; 2] = [0xc0, 0x0c];

#[tokio::test]
async fn udp_and_tcp_clients_get_the_address_of_the_name() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let (udp, mut tcp) = (Udp::to(node.dns()).await, Tcp::to(node.dns()).await);
    for name in ["over-udp.alder-lane.com", "over-tcp.alder-lane.com"] {
        let query = Message::query(name, rtype::A);
        for reply in [udp.ask(&query).await, tcp.ask(&query.clone().id(77)).await] {
            assert_eq!(reply.rcode, rcode::NOERROR);
            assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
        }
    }
    let reply = udp.ask(&Message::query("six.alder-lane.com", rtype::AAAA)).await;
    let expected = zone::expected_aaaa("six.alder-lane.com").unwrap();
    assert_eq!(reply.records[0].rdata, expected.octets());
}

#[tokio::test]
async fn a_reply_repeats_what_is_the_clients_and_sets_what_is_ours() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    let name = "MiXeD-CaSe.Birch-Harbor.NET";
    for (asked, told) in [
        (flag::RD, flag::RD),
        (flag::RD | flag::CD, flag::RD | flag::CD),
        (flag::RD | flag::AD, flag::RD),
        (flag::RD | flag::Z, flag::RD),
        (flag::RD | flag::AA | flag::TC | flag::RA | flag::Z, flag::RD),
        // Cached since the first row.
        (0, 0),
    ] {
        for id in [0, 1, 0xffff] {
            let query = Message::query(name, rtype::A).id(id).flags(asked);
            let reply = client.ask(&query).await;
            assert_eq!(reply.flags, flag::QR | flag::RA | told, "asked with {asked:#06x}");
            assert_eq!(reply.question.as_ref(), query.questions.first());
            assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
        }
    }
}

#[tokio::test]
async fn a_reply_has_edns_exactly_when_the_query_had() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    let query = Message::query("edns.cedar-mill.org", rtype::A);
    assert_eq!(client.ask(&query).await.edns, None);
    for (udp_bytes, ttl) in [(512, 0), (1232, 0), (4096, 0), (0, 0), (1232, 0x4000)] {
        let reply = client.ask(&query.clone().additional(opt(udp_bytes, ttl, &[]))).await;
        let edns = reply.edns.expect("EDNS");
        assert_eq!((edns.udp_bytes, edns.version, edns.flags), (1232, 0, 0));
        assert_eq!(edns.options, []);
    }
    let reply = client.ask(&query.clone().dnssec_ok()).await;
    assert_eq!(u32::from(reply.edns.unwrap().flags), DO);
    // An option nobody knows, an empty cookie request of a client, a padding: none comes back.
    let options = [option(100, b"x"), option(10, b"8 octets"), option(12, &[0; 9])].concat();
    let reply = client.ask(&query.additional(opt(1232, 0, &options))).await;
    assert_eq!((reply.rcode, reply.edns.unwrap().options), (rcode::NOERROR, vec![]));
}

#[tokio::test]
async fn the_second_query_is_answered_from_memory_with_less_time_to_live() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    let reply = client.ask(&Message::query("again.dune-signal.io", rtype::A)).await;
    assert_eq!(reply.ttl(), 300);
    let asked = fake.stats().queries();
    let again = Message::query("aGaIn.DUNE-signal.io", rtype::A);
    until("the time to live shrinks", PATIENCE, async || {
        client.ask(&again).await.ttl() < 300
    })
    .await;
    let reply = client.ask(&again).await;
    assert_eq!(reply.addresses(), [zone::expected_a("again.dune-signal.io").unwrap()]);
    assert_eq!(reply.question, Some(question("aGaIn.DUNE-signal.io", rtype::A, 1)));
    let mut tcp = Tcp::to(node.dns()).await;
    assert!(tcp.ask(&again).await.ttl() < 300);
    assert_eq!(fake.stats().queries(), asked, "the provider was asked again");
    assert_eq!(node.replies("provider").await, 1);
}

#[tokio::test]
async fn denials_are_kept_with_their_soa() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    for (name, asked, code, ttl_max) in [
        (ABSENT, rtype::A, rcode::NXDOMAIN, 3_600),
        ("here.elm-quarry.dev", rtype::MX, rcode::NOERROR, 300),
    ] {
        let query = Message::query(name, asked);
        let first = client.ask(&query).await;
        let before = fake.stats().queries();
        let second = client.ask(&query).await;
        assert_eq!(fake.stats().queries(), before, "{name} was asked again");
        for reply in [first, second] {
            assert_eq!(reply.rcode, code);
            assert_eq!(reply.of_section(Section::Answer).count(), 0);
            let soa: Vec<_> = reply.of_section(Section::Authority).collect();
            assert_eq!((soa.len(), soa[0].rtype), (1, rtype::SOA));
            assert!((1..=ttl_max).contains(&soa[0].ttl), "{}", soa[0].ttl);
        }
    }
    assert_eq!((node.replies("provider").await, node.replies("cache").await), (2, 2));
}

#[tokio::test]
async fn signatures_wanted_and_checking_disabled_are_questions_of_their_own() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    let plain = Message::query("four.fern-works.com", rtype::A);
    let ways = [
        plain.clone(),
        plain.clone().dnssec_ok(),
        plain.clone().flags(flag::RD | flag::CD),
        plain.clone().dnssec_ok().flags(flag::RD | flag::CD),
    ];
    for (fresh, from_memory) in [(4, 0), (4, 4)] {
        for query in &ways {
            client.ask(query).await;
        }
        let replies = (node.replies("provider").await, node.replies("cache").await);
        assert_eq!(replies, (fresh, from_memory));
    }
    client.ask(&plain.edns(1232)).await;
    assert_eq!(node.replies("cache").await, 5, "EDNS alone is the same question");
}

#[tokio::test]
async fn an_answer_without_time_to_live_is_not_kept() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    for _ in 0..3 {
        let reply = client.ask(&Message::query("ttl-0.granite-bay.net", rtype::A)).await;
        assert_eq!(reply.ttl(), 0);
    }
    assert_eq!((node.replies("provider").await, node.replies("cache").await), (3, 0));
}

#[tokio::test]
async fn identical_questions_in_flight_are_one_question() {
    // Long enough for many clients to ask before the answer comes.
    let fake = fake_with("fake", Law::Flat(PATIENCE / 100));
    let node = Node::before(&[&fake]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(node.dns()).await.unwrap();
    let name = "crowd.hazel-print.org";
    for id in 0..200 {
        let letters = if id % 2 == 0 {
            name.to_owned()
        } else {
            name.to_uppercase()
        };
        socket
            .send(&Message::query(&letters, rtype::A).id(id).bytes())
            .await
            .unwrap();
    }
    let mut seen = [false; 200];
    let mut buffer = [0; 512];
    while seen.contains(&false) {
        let receive = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer));
        let size = receive.await.expect("all replies in time").unwrap();
        let reply = Reply::read(&buffer[..size]);
        assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
        assert!(
            !std::mem::replace(&mut seen[usize::from(reply.id)], true),
            "two replies"
        );
    }
    assert_eq!(node.metric("detour_attempts_total", &["why=\"first\""]).await, 1);
    // Only a busy machine makes it two: then the one question was overdue and asked again. The fake has also seen the
    // probe of the start.
    let attempts = node.metric("detour_attempts_total", &[]).await;
    assert!(
        (1..=2).contains(&attempts) && fake.stats().queries() <= 2 + 1,
        "{attempts}, {}",
        fake.stats()
    );
    assert_eq!(node.replies("provider").await, 1);
    assert_eq!(node.replies("merged").await + node.replies("cache").await, 199);
}

#[tokio::test]
async fn aliases_pass_with_what_they_lead_to() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    let reply = client.ask(&Message::query("cname.iris-ledger.io", rtype::A)).await;
    let types: Vec<_> = reply.records.iter().map(|record| record.rtype).collect();
    assert_eq!(types, [rtype::CNAME, rtype::A]);
    assert_eq!(reply.records[0].rdata, wire_name("target.iris-ledger.io"));
    assert_eq!(reply.records[1].owner, "target.iris-ledger.io");
    assert_eq!(reply.addresses(), [zone::expected_a("target.iris-ledger.io").unwrap()]);
}

#[tokio::test]
async fn types_nobody_knows_are_asked_like_any_other() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let client = Udp::to(node.dns()).await;
    for asked in [rtype::HTTPS, 99, 256, 1_000, 32_769, 65_280, 65_534] {
        let reply = client.ask(&Message::query("odd.juniper-stack.dev", asked)).await;
        assert_eq!(reply.rcode, rcode::NOERROR, "TYPE{asked}");
        assert_eq!(reply.of_section(Section::Authority).count(), 1, "TYPE{asked}");
    }
    let reply = client.ask(&Message::query(".", rtype::NS)).await;
    assert_eq!(reply.records.len(), 13);
}

#[tokio::test]
async fn a_provider_that_does_not_know_edns_is_asked_without_it() {
    let provider = Scripted::start(|query| {
        let answer = [record(&ASKED, rtype::A, 1, 60, &[192, 0, 2, 1])];
        let has_edns = query[11] == 1;
        Some(if has_edns {
            reply_to(query, 1, [&[], &[], &[]])
        } else {
            reply_to(query, 0, [&answer, &[], &[]])
        })
    })
    .await;
    let node = node_before(provider.address).await;
    let client = Udp::to(node.dns()).await;
    for index in 0..3 {
        let reply = client
            .ask(&Message::query(&format!("old{index}.example.org"), rtype::A).edns(1232))
            .await;
        assert_eq!((reply.rcode, reply.records.len()), (rcode::NOERROR, 1));
        assert!(reply.edns.is_some(), "the client's EDNS is ours to answer");
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    let provider = Scripted::start(|query| {
        let answer = [record(&ASKED, rtype::A, 1, 60, &[192, 0, 2, 66])];
        let mut forged = reply_to(query, 0, [&answer, &[], &[]]);
        // Another letter in the name.
        forged[13] ^= 1;
        Some(forged)
    })
    .await;
    let node = node_before(provider.address).await;
    let reply = Udp::to(node.dns())
        .await
        .ask(&Message::query("mine.example.org", rtype::A))
        .await;
    assert_eq!((reply.rcode, reply.records.len()), (rcode::SERVFAIL, 0));
}

/// A node before one scripted provider.
async fn node_before(provider: SocketAddr) -> Node {
    let endpoint = Transport::Udp.endpoint(provider, None);
    Node::start(&config(&[provider_block("scripted", &[endpoint])])).await
}

#[tokio::test]
async fn record_data_passes_as_it_is() {
    // Data of an unknown type that looks like compression pointers; a pointer where RFC 1035 allows one.
    let odd = b"\xc0\x0c\xde\xad\xbe\xef\xff\xff".to_vec();
    let rdata = odd.clone();
    let provider = Scripted::start(move |query| {
        let answers = [
            record(&ASKED, 65_280, 1, 77, &rdata),
            record(&ASKED, 65_280, 1, 77, b"\0"),
        ];
        Some(reply_to(query, 0, [&answers, &[], &[]]))
    })
    .await;
    let node = node_before(provider.address).await;
    let client = Udp::to(node.dns()).await;
    for _ in 0..2 {
        let reply = client.ask(&Message::query("Opaque.example.org", 65_280)).await;
        let data: Vec<_> = reply.records.iter().map(|record| record.rdata.clone()).collect();
        assert_eq!(data, [odd.clone(), b"\0".to_vec()]);
        assert!(reply.records.iter().all(|record| record.owner == "Opaque.example.org"));
    }
}

#[tokio::test]
async fn a_record_set_has_one_time_to_live_and_nothing_hides_behind_edns() {
    let provider = Scripted::start(|query| {
        let address = |last, ttl| record(&ASKED, rtype::A, 1, ttl, &[192, 0, 2, last]);
        let answers = [address(1, 60), address(2, 3_600), address(3, 0x8000_0000 | 90)];
        let behind = [
            opt(
                1232,
                0,
                &[option(3, b"nsid"), option(15, b"\0\x16a provider's\x1b[2J \x00words")].concat(),
            ),
            record(b"\x01x\0", rtype::A, 1, 5, &[1; 4]),
        ];
        let mut reply = reply_to(query, 0, [&answers[..2], &[], &behind]);
        reply.extend_from_slice(b"behind the counted records");
        Some(reply)
    })
    .await;
    let node = node_before(provider.address).await;
    let client = Udp::to(node.dns()).await;
    let reply = client
        .ask(&Message::query("uneven.example.org", rtype::A).edns(1232))
        .await;
    let ttls: Vec<_> = reply.records.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [60, 60]);
    // Nothing that a terminal would obey.
    let explained = [(15, b"\0\x16a provider's[2J words".to_vec())];
    assert_eq!(
        reply.edns.unwrap().options,
        explained,
        "the provider's options are the provider's, but for what explains"
    );
}

#[tokio::test]
async fn a_providers_query_carries_nothing_of_the_client() {
    let provider = Scripted::start(|query| {
        let answer = [record(&ASKED, rtype::A, 1, 60, &[192, 0, 2, 1])];
        Some(reply_to(query, 0, [&answer, &[], &[]]))
    })
    .await;
    let node = node_before(provider.address).await;
    let client = Udp::to(node.dns()).await;
    let subnet = option(8, b"\0\x01\x18\0\xc6\x33\x64");
    let options = [subnet, option(10, b"MyCookie"), option(65_001, b"secret")].concat();
    let mut ids = Vec::new();
    for index in 0..8 {
        let query = Message::query(&format!("private{index}.example.org"), rtype::A);
        let query = query.id(0x7777).flags(flag::RD | flag::Z);
        client.ask(&query.additional(opt(4_096, 0, &options))).await;
    }
    for query in provider.asked() {
        ids.push([query[0], query[1]]);
        let rest = &query[question_end(&query)..];
        assert_eq!(query[4..12], [0, 1, 0, 0, 0, 0, 0, 1], "{query:02x?}");
        let (edns, cookie) = rest.split_at(rest.len() - 8);
        let empty = opt(1232, 0, &option(10, &[0; 8]));
        assert_eq!(
            edns,
            &empty[..empty.len() - 8],
            "our own EDNS and nothing else: {query:02x?}"
        );
        assert_ne!(cookie, b"MyCookie");
        assert_eq!(query[2] & 0xfb, 1, "RD alone");
        assert_eq!(query[3] & 0xdf, 0, "AD at most");
    }
    ids.dedup();
    assert!(ids.len() > 4 && !ids.contains(&[0x77, 0x77]), "ids are drawn: {ids:?}");
    let names: Vec<_> = provider.asked().iter().map(|query| query[12..30].to_vec()).collect();
    let mixed = |name: &Vec<u8>| name.iter().any(u8::is_ascii_uppercase) && name.iter().any(u8::is_ascii_lowercase);
    assert!(names.iter().any(mixed), "letter case is drawn: {names:?}");
}

#[tokio::test]
async fn an_independent_decoder_reads_every_kind_of_reply() {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(node.dns()).await.unwrap();
    for query in [
        Message::query("cname.alder-lane.com", rtype::AAAA).dnssec_ok(),
        Message::query("big-1100.alder-lane.com", rtype::TXT).edns(1232),
        Message::query("big-1100.alder-lane.com", rtype::TXT),
        Message::query(ABSENT, rtype::A).edns(1232),
        Message::query("any.alder-lane.com", rtype::ANY).edns(1232),
        Message::query("old.alder-lane.com", rtype::A).additional(opt(1232, 0x0001_0000, &[])),
        Message::query("x.alder-lane.com", rtype::AXFR).edns(1232),
    ] {
        socket.send(&query.bytes()).await.unwrap();
        let mut buffer = [0; 1_232];
        let receive = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer));
        let size = receive.await.expect("a reply in time").unwrap();
        let message = HickoryMessage::from_vec(&buffer[..size]).unwrap_or_else(|error| panic!("{query:?}: {error}"));
        assert_eq!(message.id, query.id);
    }
}
