//! No provider answers: clients are told so in time, get what is left, and nothing of it lasts.

use std::net::SocketAddr;
use std::time::Duration;

use detour_rig::{Fake, Fault, TransportSel, clock, zone};
use tokio::task::JoinSet;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, rcode, rtype};
use crate::node::{Node, config, fake, udp_blocks, until};

/// The promise is 4 s.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// Endpoints that are down are probed every 500 ms while clients ask.
const HEALING: Duration = Duration::from_secs(40);
const NO_REACHABLE_AUTHORITY: u16 = 22;
const NETWORK_ERROR: u16 = 23;
const STALE_ANSWER: u16 = 3;
const CACHED_ERROR: u16 = 13;

fn break_all(fakes: &[Fake], fault: Fault) {
    for fake in fakes {
        fake.set_fault(TransportSel::All, fault);
    }
}

/// Asks and is answered within the time that a client may be left without a word.
async fn ask_in_time(node: SocketAddr, name: &str) -> Reply {
    let client = Udp::to(node).await;
    let before = clock::now();
    let reply = client.ask(&Message::query(name, rtype::A).edns(1232)).await;
    let took = clock::now() - before;
    assert!(took < SILENCE_MAX, "{name} took {took:?}");
    reply
}

#[tokio::test]
async fn a_total_outage_is_told_in_time_and_forgotten_when_it_ends() {
    let fakes = ["one", "two", "three"].map(fake);
    let [one, two, three] = &fakes;
    let node = Node::before(&[one, two, three]).await;
    let (kept, brief) = ("kept.cedar-mill.org", "ttl-1.brief.cedar-mill.org");
    for name in [kept, brief] {
        assert_eq!(ask_in_time(node.dns(), name).await.rcode, rcode::NOERROR);
    }
    break_all(&fakes, Fault::Blackhole);

    // From the first query on, and again once health has understood.
    for round in 0..2 {
        let mut asks = JoinSet::new();
        for index in 0..5 {
            let address = node.dns();
            asks.spawn(async move { ask_in_time(address, &format!("dark{round}-{index}.cedar-mill.org")).await });
        }
        for reply in asks.join_all().await {
            assert_eq!(reply.rcode, rcode::SERVFAIL);
            assert!(reply.extended_errors().contains(&NO_REACHABLE_AUTHORITY), "{reply:?}");
        }
    }
    assert_eq!(
        ask_in_time(node.dns(), kept).await.addresses(),
        [zone::expected_a(kept).unwrap()]
    );

    // Expired by then, or soon.
    let mut stale = ask_in_time(node.dns(), brief).await;
    until("the answer has expired", PATIENCE, async || {
        stale = ask_in_time(node.dns(), brief).await;
        stale.extended_errors() == [STALE_ANSWER]
    })
    .await;
    assert_eq!((stale.rcode, stale.ttl()), (rcode::NOERROR, 30));
    assert_eq!(stale.addresses(), [zone::expected_a(brief).unwrap()]);

    break_all(&fakes, Fault::None);
    let mut index = 0;
    until("new names are answered again", HEALING, async || {
        index += 1;
        let name = format!("dawn{index}.cedar-mill.org");
        let reply = ask_in_time(node.dns(), &name).await;
        reply.addresses() == zone::expected_a(&name).as_slice()
    })
    .await;
    until("the expired answer is fresh", HEALING, async || {
        let reply = ask_in_time(node.dns(), brief).await;
        reply.extended_errors().is_empty() && reply.ttl() <= 1
    })
    .await;
    // What failed in the dark is not remembered.
    until("what failed is asked again", HEALING, async || {
        ask_in_time(node.dns(), "dark0-0.cedar-mill.org").await.rcode == rcode::NOERROR
    })
    .await;
}

#[tokio::test]
async fn an_outage_from_the_first_query_on_is_told_in_time() {
    let fakes = ["one", "two", "three"].map(fake);
    break_all(&fakes, Fault::Blackhole);
    let [one, two, three] = &fakes;
    for node in [Node::before(&[one, two, three]).await, Node::before(&[one]).await] {
        let reply = ask_in_time(node.dns(), "first.cedar-mill.org").await;
        assert_eq!(
            (reply.rcode, reply.extended_errors()),
            (rcode::SERVFAIL, vec![NO_REACHABLE_AUTHORITY])
        );
    }
}

#[tokio::test]
async fn more_questions_than_may_be_in_flight_are_refused_at_once() {
    let fake = fake("fake");
    fake.set_fault(TransportSel::All, Fault::Blackhole);
    let narrow = format!("{}\n[limits]\nin-flight = 64\n", config(&udp_blocks(&[&fake])));
    let node = Node::start(&narrow).await;
    let client = Udp::to(node.dns()).await;
    for id in 0..65 {
        client
            .send(
                &Message::query(&format!("n{id}.cedar-mill.org"), rtype::A)
                    .edns(1232)
                    .id(id)
                    .bytes(),
            )
            .await;
    }
    // One client may have half of what there is; the rest of it is told at once.
    for id in 32..65 {
        let refused = client.receive().await;
        assert_eq!(
            (refused.id, refused.rcode, refused.extended_errors()),
            (id, rcode::SERVFAIL, vec![NETWORK_ERROR])
        );
    }
    // The others are told too.
    for _ in 0..32 {
        assert_eq!(client.receive().await.extended_errors(), [NO_REACHABLE_AUTHORITY]);
    }
}

#[tokio::test]
async fn what_all_providers_agree_on_is_told_and_kept_for_seconds() {
    let fakes = ["one", "two", "three"].map(fake);
    let [one, two, three] = &fakes;
    for (fault, code) in [(Fault::Servfail, rcode::SERVFAIL), (Fault::Refused, rcode::REFUSED)] {
        let node = Node::before(&[one, two, three]).await;
        break_all(&fakes, fault);
        let first = ask_in_time(node.dns(), "agreed.cedar-mill.org").await;
        let second = ask_in_time(node.dns(), "agreed.cedar-mill.org").await;
        assert_eq!((first.rcode, second.rcode), (code, code));
        assert_eq!(
            (first.extended_errors(), second.extended_errors()),
            (vec![], vec![CACHED_ERROR])
        );
        assert_eq!(node.replies("failure_cache").await, 1);
        let asked: u64 = fakes.iter().map(|fake| fake.stats().queries()).sum();
        assert!(asked >= 2, "one provider's word is not enough");
        break_all(&fakes, Fault::None);
        until("it is asked again", PATIENCE, async || {
            ask_in_time(node.dns(), "agreed.cedar-mill.org").await.rcode == rcode::NOERROR
        })
        .await;
    }
}

#[tokio::test]
async fn providers_that_refuse_every_packet_are_told_of() {
    // A fake that resets keeps its port and lets nobody in: as if nothing listened, but nobody else can come by it.
    let fakes = ["one", "two"].map(fake);
    break_all(&fakes, Fault::Rst);
    let [one, two] = &fakes;
    let node = Node::before(&[one, two]).await;
    for index in 0..3 {
        let reply = ask_in_time(node.dns(), &format!("nobody{index}.cedar-mill.org")).await;
        assert_eq!(reply.rcode, rcode::SERVFAIL);
        let codes = reply.extended_errors();
        let told = |code| codes.contains(&code);
        assert!(told(NO_REACHABLE_AUTHORITY) || told(NETWORK_ERROR), "{codes:?}");
    }
    // And without EDNS there is no place to say it.
    let reply = Udp::to(node.dns())
        .await
        .ask(&Message::query("plain.cedar-mill.org", rtype::A))
        .await;
    assert_eq!((reply.rcode, reply.edns), (rcode::SERVFAIL, None));
}

#[tokio::test]
async fn a_cap_that_failing_providers_make_impossible_is_ignored_and_shown() {
    let (capped, failing) = (fake("capped"), fake("failing"));
    let blocks = udp_blocks(&[&capped, &failing]);
    let capped_block = blocks[0].replace("name = \"capped\"", "name = \"capped\"\nmax-qps = 1");
    assert_ne!(capped_block, blocks[0]);
    let node = Node::start(&config(&[capped_block, blocks[1].clone()])).await;
    failing.set_fault(TransportSel::All, Fault::Refused);
    let mut index = 0;
    until("status tells of the cap", PATIENCE, async || {
        index += 1;
        ask_in_time(node.dns(), &format!("over{index}.cedar-mill.org")).await;
        let status = node.text("/api/v1/status").await;
        status.contains("max-share or max-qps was ignored")
    })
    .await;
    let explained = node.text("/api/v1/explain?name=x.cedar-mill.org").await;
    assert!(explained.contains("\"cap_ignored\":true"), "{explained}");
}
