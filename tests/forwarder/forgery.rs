//! Answers that somebody off the path could have sent: what is believed of them, and what is asked once more over TCP.
//!
//! The forger of these tests sits at the provider's own address and port, because nobody else is heard at all; it knows
//! the port a query came from, and the name and type, and has to guess the rest.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, opt, option, rcode, record, rtype, wire_name};
use crate::node::{Node, config, until};
use crate::scripted::{Carrier, Scripted, question_end, reply_to};

/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xc0, 0x0c];
const GOOD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FORGED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const COOKIE: u16 = 10;
const DNAME: u16 = 39;

fn answer(query: &[u8], address: Ipv4Addr, additionals: &[Vec<u8>]) -> Vec<u8> {
    let records = [record(&ASKED, rtype::A, 1, 300, &address.octets())];
    reply_to(query, 0, [&records, &[], additionals])
}

/// Whether it is the node's own, for `a.root-servers.net`.
fn is_probe(query: &[u8]) -> bool {
    query[14..].to_ascii_lowercase().starts_with(b"\x0croot-servers")
}

/// With the name in lower case: who did not see the query does not know its letters.
fn lower(mut reply: Vec<u8>) -> Vec<u8> {
    let end = question_end(&reply) - 4;
    reply[12..end].make_ascii_lowercase();
    reply
}

/// The contents of the query's cookie option; its OPT record is the last and has nothing else.
fn cookie_of(query: &[u8]) -> Vec<u8> {
    let options = question_end(query) + 11;
    let is_cookie = query.get(options..options + 2) == Some(&COOKIE.to_be_bytes());
    if is_cookie {
        query[options + 4..].to_vec()
    } else {
        Vec::new()
    }
}

async fn node_before(provider: &Scripted) -> Node {
    Node::start(&config(&[provider.block("scripted")])).await
}

async fn ask(node: &Node, name: &str) -> Reply {
    let client = Udp::to(node.dns()).await;
    client.ask(&Message::query(name, rtype::A).edns(1_232)).await
}

fn carriers(provider: &Scripted, name: &str) -> Vec<Carrier> {
    let asked = provider.asked_for(name);
    asked.iter().map(|(carrier, _)| *carrier).collect()
}

/// What the endpoint's habits are said to be.
async fn habits(node: &Node) -> Vec<String> {
    let text = node.text("/api/v1/providers").await;
    let providers: serde_json::Value = serde_json::from_str(&text).unwrap();
    let habits = providers[0]["endpoints"][0]["habits"].as_array().unwrap();
    habits.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_spray_of_all_ids_at_a_known_port_poisons_nothing_while_the_honest_answer_is_late() {
    const NAMES: [&str; 4] = ["www.bank.example", "mail.bank.example", "7.7.7", "123456.9"];
    // Every id, beginning behind the right one; then, late, the honest answer.
    let spray = |query: &[u8]| {
        let own = u16::from_be_bytes([query[0], query[1]]);
        let forged = lower(answer(query, FORGED, &[]));
        let mut replies = Vec::with_capacity(65_537);
        for step in 0..=u16::MAX {
            let mut reply = forged.clone();
            reply[..2].copy_from_slice(&own.wrapping_add(101).wrapping_add(step).to_be_bytes());
            replies.push(reply);
        }
        replies.push(answer(query, GOOD, &[]));
        replies
    };
    let provider = Scripted::start_both(move |query, carrier| match carrier {
        Carrier::Udp if !is_probe(query) => spray(query),
        Carrier::Udp | Carrier::Tcp => vec![answer(query, GOOD, &[])],
    })
    .await;
    let node = node_before(&provider).await;
    for name in NAMES {
        for _ in 0..2 {
            let reply = ask(&node, name).await;
            assert_eq!(reply.addresses(), [GOOD], "{name}: {reply:?}\n{}", node.log());
        }
    }
    let counted = node
        .metric("detour_attempt_outcomes_total", &["event=\"mismatch\""])
        .await;
    assert!(counted >= 3, "{counted}");
}

#[tokio::test]
async fn a_spray_where_no_stream_gets_through_costs_an_answer_and_poisons_nothing() {
    let provider = Scripted::start_both(|query, carrier| match carrier {
        Carrier::Udp if is_probe(query) => vec![answer(query, GOOD, &[])],
        Carrier::Udp => {
            let forged = lower(answer(query, FORGED, &[]));
            let with_id = |id: u16| [&id.to_be_bytes()[..], &forged[2..]].concat();
            let own = u16::from_be_bytes([query[0], query[1]]);
            (1..2_000).map(|step| with_id(own.wrapping_add(step))).collect()
        }
        Carrier::Tcp => vec![],
    })
    .await;
    let node = node_before(&provider).await;
    let reply = ask(&node, "www.bank.example").await;
    assert_eq!((reply.rcode, reply.addresses()), (rcode::SERVFAIL, vec![]));
}

#[tokio::test]
async fn what_comes_from_another_port_is_not_heard() {
    let forger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let provider = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = provider.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut buffer = [0; 1_232];
        loop {
            let (size, client) = provider.recv_from(&mut buffer).await.unwrap();
            // All is right with it but where it comes from.
            forger.send_to(&answer(&buffer[..size], FORGED, &[]), client).unwrap();
            provider
                .send_to(&answer(&buffer[..size], GOOD, &[]), client)
                .await
                .unwrap();
        }
    });
    let endpoint = detour_rig::Transport::Udp.endpoint(address, None);
    let block = detour_rig::process::provider_block("scripted", &[endpoint]);
    let node = Node::start(&config(&[block])).await;
    for index in 0..8 {
        assert_eq!(ask(&node, &format!("www{index}.example")).await.addresses(), [GOOD]);
    }
    let wrong = ["event=\"mismatch\"", "event=\"garbage\"", "event=\"forgeable\""];
    for event in wrong {
        assert_eq!(
            node.metric("detour_attempt_outcomes_total", &[event]).await,
            0,
            "{event}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_folds_the_case_is_confirmed_three_times_and_then_asked_in_lower_case() {
    let provider = Scripted::start_both(|query, carrier| {
        let reply = answer(query, GOOD, &[]);
        [if carrier == Carrier::Udp { lower(reply) } else { reply }]
    })
    .await;
    let node = node_before(&provider).await;
    let names: Vec<_> = (0..8).map(|index| format!("folding-letters-{index}.example")).collect();
    for name in &names {
        let client = Udp::to(node.dns()).await;
        let query = Message::query(&name.to_uppercase(), rtype::A);
        let reply = client.ask(&query).await;
        assert_eq!(
            (reply.addresses(), reply.question.as_ref()),
            (vec![GOOD], query.questions.first())
        );
    }
    assert_eq!(carriers(&provider, &names[0]), [Carrier::Udp, Carrier::Tcp]);
    assert_eq!(carriers(&provider, &names[7]), [Carrier::Udp]);
    let last = provider.asked_for(&names[7]).remove(0).1;
    assert!(!last[12..question_end(&last)].iter().any(u8::is_ascii_uppercase));
    assert_eq!(habits(&node).await, ["no-0x20"]);
    until("it is no fault", PATIENCE, async || {
        node.state_of("scripted").await == "up"
    })
    .await;
    assert!(node.metric("detour_attempts_total", &["why=\"forgeable\""]).await >= 2);
}

#[tokio::test]
async fn a_provider_with_cookies_gets_its_own_back_and_a_datagram_without_is_not_believed() {
    let provider = Scripted::start_both(|query, carrier| {
        let own = cookie_of(query);
        let whole = [&own[..own.len().min(8)], b"the server's part".as_slice()].concat();
        let edns = [opt(1_232, 0, &option(COOKIE, &whole))];
        let is_target = query[12..].to_ascii_lowercase().starts_with(b"\x06target");
        match carrier {
            Carrier::Tcp => vec![answer(query, GOOD, &[])],
            // Whoever forges has seen id, port and letters, but no cookie.
            Carrier::Udp if is_target => vec![answer(query, FORGED, &[]), answer(query, GOOD, &edns)],
            Carrier::Udp => vec![answer(query, GOOD, &edns)],
        }
    })
    .await;
    let node = node_before(&provider).await;
    assert_eq!(ask(&node, "first.example").await.addresses(), [GOOD]);
    assert_eq!(ask(&node, "second.example").await.addresses(), [GOOD]);
    let sent = |name| cookie_of(&provider.asked_for(name)[0].1);
    assert_eq!(sent("second.example")[8..], *b"the server's part");
    assert_eq!(habits(&node).await, ["cookies"]);
    let reply = ask(&node, "target.example").await;
    assert_eq!(reply.addresses(), [GOOD]);
    assert_eq!(carriers(&provider, "target.example"), [Carrier::Udp, Carrier::Tcp]);
    // The client has its own cookies, or none.
    assert_eq!(reply.edns.unwrap().options, []);
}

#[tokio::test]
async fn a_provider_that_wants_another_cookie_is_asked_with_it_once() {
    let provider = Scripted::start(|query| {
        let own = cookie_of(query);
        let whole = [&own[..8], b"fresh!!!".as_slice()].concat();
        Some(if own[8..] == *b"fresh!!!" {
            answer(query, GOOD, &[opt(1_232, 0, &option(COOKIE, &whole))])
        } else {
            // BADCOOKIE is 23: seven in the header, one in OPT.
            reply_to(query, 7, [&[], &[], &[opt(1_232, 1 << 24, &option(COOKIE, &whole))]])
        })
    })
    .await;
    let node = node_before(&provider).await;
    for index in 0..4 {
        assert_eq!(ask(&node, &format!("www{index}.example")).await.addresses(), [GOOD]);
    }
    assert_eq!(carriers(&provider, "www3.example"), [Carrier::Udp]);
    until("it is up", PATIENCE, async || node.state_of("scripted").await == "up").await;
}

#[tokio::test]
async fn an_alias_of_a_subtree_over_udp_is_confirmed_over_tcp_and_makes_no_other_name() {
    let provider = Scripted::start_both(|query, carrier| {
        let target = if carrier == Carrier::Udp { "evil" } else { "good" };
        let alias = record(&wire_name("sub.example"), DNAME, 1, 300, &wire_name(target));
        let address = if carrier == Carrier::Udp { FORGED } else { GOOD };
        if is_probe(query) {
            return [answer(query, GOOD, &[])];
        }
        let name = wire_name(&format!("x.{target}"));
        let records = [
            alias,
            record(&ASKED, rtype::CNAME, 1, 300, &name),
            record(&name, rtype::A, 1, 300, &address.octets()),
        ];
        [reply_to(query, 0, [&records, &[], &[]])]
    })
    .await;
    let node = node_before(&provider).await;
    for name in ["one.sub.example", "two.sub.example"] {
        for _ in 0..2 {
            assert_eq!(ask(&node, name).await.addresses(), [GOOD]);
        }
        // Asked, though the alias of all of them is known; and kept as it was confirmed.
        assert_eq!(carriers(&provider, name), [Carrier::Udp, Carrier::Tcp]);
    }
}

#[tokio::test]
async fn an_alias_of_a_subtree_that_no_stream_confirms_is_told_once_and_not_kept() {
    let provider = Scripted::start(|query| {
        if is_probe(query) {
            return Some(answer(query, GOOD, &[]));
        }
        let records = [
            record(&wire_name("sub.example"), DNAME, 1, 300, &wire_name("good")),
            record(&ASKED, rtype::CNAME, 1, 300, &wire_name("one.good")),
            record(&wire_name("one.good"), rtype::A, 1, 300, &GOOD.octets()),
        ];
        Some(reply_to(query, 0, [&records, &[], &[]]))
    })
    .await;
    let node = node_before(&provider).await;
    for times in 1..=2 {
        let reply = ask(&node, "one.sub.example").await;
        assert_eq!((reply.addresses(), reply.ttl()), (vec![GOOD], 0));
        assert!(provider.asked_for("one.sub.example").len() >= times);
    }
}

#[tokio::test]
async fn a_datagram_longer_than_we_take_is_confirmed_over_tcp() {
    let provider = Scripted::start_both(|query, carrier| {
        if is_probe(query) {
            return [answer(query, GOOD, &[])];
        }
        let address = if carrier == Carrier::Udp { FORGED } else { GOOD };
        let records: Vec<_> = (0..100)
            .map(|_| record(&ASKED, rtype::A, 1, 300, &address.octets()))
            .collect();
        [reply_to(query, 0, [&records, &[], &[]])]
    })
    .await;
    let node = node_before(&provider).await;
    let mut client = crate::client::Tcp::to(node.dns()).await;
    let reply = client.ask(&Message::query("long.example", rtype::A)).await;
    assert_eq!(reply.addresses(), [GOOD; 100]);
    assert_eq!(carriers(&provider, "long.example"), [Carrier::Udp, Carrier::Tcp]);
}

#[tokio::test]
async fn many_clients_with_subnets_of_their_own_are_one_question() {
    // Asked with different options, identical questions must not give a forger as many chances (CVE-2025-5994).
    let provider = Scripted::start(|query| (is_probe(query)).then(|| answer(query, GOOD, &[]))).await;
    let node = node_before(&provider).await;
    let client = Udp::to(node.dns()).await;
    for index in 0..200 {
        let subnet = option(8, &[0, 1, 24, 0, 198, 51, index]);
        let query = Message::query("crowd.example", rtype::A).id(u16::from(index));
        client.send(&query.additional(opt(1_232, 0, &subnet)).bytes()).await;
    }
    until("all of them wait", PATIENCE, async || {
        let is_asked = !provider.asked_for("crowd.example").is_empty();
        is_asked && node.metric("detour_dns_queries_total", &[]).await >= 200
    })
    .await;
    // Repeated when overdue, but one question to whom it is asked.
    let asked = provider.asked_for("crowd.example").len();
    assert!((1..=4).contains(&asked), "{asked}");
    for (_, query) in provider.asked_for("crowd.example") {
        assert!(
            !query.windows(5).any(|bytes| bytes == [0, 1, 24, 0, 198]),
            "{query:02x?}"
        );
    }
}

#[tokio::test]
async fn queries_leave_from_many_ports_under_ids_that_are_drawn() {
    const NAMES: usize = 64;
    let provider = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = provider.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut buffer = [0; 1_232];
        loop {
            let (size, client) = provider.recv_from(&mut buffer).await.unwrap();
            let query = &buffer[..size];
            notes.lock().unwrap().push((client.port(), [query[0], query[1]]));
            provider.send_to(&answer(query, GOOD, &[]), client).await.unwrap();
        }
    });
    let endpoint = detour_rig::Transport::Udp.endpoint(address, None);
    let node = Node::start(&config(&[detour_rig::process::provider_block("scripted", &[endpoint])])).await;
    for index in 0..NAMES {
        ask(&node, &format!("www{index}.example")).await;
    }
    let seen = seen.lock().unwrap().clone();
    let distinct = |of: fn(&(u16, [u8; 2])) -> u16| seen.iter().map(of).collect::<BTreeSet<_>>();
    let (ports, ids) = (distinct(|(port, _)| *port), distinct(|(_, id)| u16::from_be_bytes(*id)));
    // While the pool has room each query opens a port; of 64 ids two may be alike, but hardly three.
    assert!(ports.len() >= NAMES, "{ports:?}");
    assert!(ids.len() >= NAMES - 2, "{ids:?}");
    let steps: BTreeSet<_> = seen
        .windows(2)
        .map(|pair| u16::from_be_bytes(pair[1].1).wrapping_sub(u16::from_be_bytes(pair[0].1)))
        .collect();
    assert!(steps.len() > NAMES / 2, "they do not count: {steps:?}");
}

#[tokio::test]
async fn answers_on_a_stream_may_come_in_any_order_and_must_fit_their_question() {
    const TOGETHER: usize = 8;
    let held = Arc::new(Mutex::new(Vec::new()));
    // Holds answers back until there are eight, then gives them in reverse; one each for another question.
    let provider = Scripted::start_both(move |query, carrier| {
        if carrier == Carrier::Udp {
            return vec![];
        }
        if is_probe(query) {
            return vec![answer(query, GOOD, &[])];
        }
        let index = query[16];
        let mut held = held.lock().unwrap();
        held.push(answer(query, Ipv4Addr::new(192, 0, 2, index), &[]));
        if held.len() < TOGETHER {
            return vec![];
        }
        std::mem::take(&mut *held).into_iter().rev().collect()
    })
    .await;
    let endpoint = detour_rig::Transport::Tcp.endpoint(provider.address, None);
    let node = Node::start(&config(&[detour_rig::process::provider_block("scripted", &[endpoint])])).await;
    let client = Udp::to(node.dns()).await;
    for index in 0..TOGETHER {
        let id = u16::try_from(index).unwrap();
        client
            .send(&Message::query(&format!("www{index}.example"), rtype::A).id(id).bytes())
            .await;
    }
    for _ in 0..TOGETHER {
        let reply = client.receive().await;
        let index = b'0' + u8::try_from(reply.id).unwrap();
        assert_eq!(reply.addresses(), [Ipv4Addr::new(192, 0, 2, index)]);
    }
    let ids: BTreeSet<_> = provider.asked().iter().map(|query| [query[0], query[1]]).collect();
    assert!(ids.len() >= TOGETHER, "no id twice at a time: {ids:?}");
}
