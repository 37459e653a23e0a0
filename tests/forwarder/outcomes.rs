//! The table of outcomes, row by row: what comes back from a provider, what becomes of the client's query, and what
//! health makes of it. Each test is named after its row.
//!
//! Providers are scripted, and all answer the probe of the start well, so that whatever a row says is said of somebody
//! who was up.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, opt, option, rcode, record, rtype, wire_name};
use crate::node::{Node, config, until};
use crate::scripted::{Carrier, Scripted, question_end, reply_to};

/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xc0, 0x0c];
/// What own probes ask.
const PROBE: &str = "a.root-servers.net";
const GOOD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Names asked in each test, so that each provider is somebody's first choice.
const NAMES: usize = 8;

/// A name of a registrable domain of its own.
fn name(index: usize) -> String {
    format!("www.row{index}.example")
}

fn is_for(query: &[u8], name: &str) -> bool {
    query[12..question_end(query) - 4].eq_ignore_ascii_case(&wire_name(name))
}

fn has_edns(query: &[u8]) -> bool {
    query[11] == 1
}

/// One address.
fn good(query: &[u8]) -> Vec<u8> {
    reply_to(
        query,
        0,
        [&[record(&ASKED, rtype::A, 1, 300, &GOOD.octets())], &[], &[]],
    )
}

fn soa() -> Vec<u8> {
    let rdata = [
        wire_name("ns.example"),
        wire_name("root.example"),
        [0, 0, 0, 60].repeat(5),
    ]
    .concat();
    record(&wire_name("example"), rtype::SOA, 1, 60, &rdata)
}

/// An error with an extended one.
fn with_ede(query: &[u8], code: u8, ede: u16) -> Vec<u8> {
    let explained = opt(
        1_232,
        0,
        &option(15, &[&ede.to_be_bytes(), b"as told".as_slice()].concat()),
    );
    reply_to(query, code, [&[], &[], &[explained]])
}

/// A provider that answers its probe well and everything else as told.
async fn provider<R: IntoIterator<Item = Vec<u8>>>(
    script: impl Fn(&[u8], Carrier) -> R + Send + Sync + 'static,
) -> Scripted {
    Scripted::start_both(move |query, carrier| {
        if is_for(query, PROBE) {
            vec![good(query)]
        } else {
            script(query, carrier).into_iter().collect()
        }
    })
    .await
}

/// A node before these providers, named `p0`, `p1`, …, each of which is up.
async fn node_before(providers: &[&Scripted]) -> Node {
    let blocks = providers.iter().enumerate();
    let blocks: Vec<_> = blocks
        .map(|(index, provider)| provider.block(&format!("p{index}")))
        .collect();
    let node = Node::start(&config(&blocks)).await;
    for index in 0..providers.len() {
        until("a provider is up", PATIENCE, async || state(&node, index).await == "up").await;
    }
    node
}

async fn state(node: &Node, index: usize) -> String {
    node.state_of(&format!("p{index}")).await
}

async fn ask(node: &Node, name: &str) -> Reply {
    let client = Udp::to(node.dns()).await;
    client.ask(&Message::query(name, rtype::A).edns(1_232)).await
}

/// Queries that reached a provider for this name.
fn asked(providers: &[&Scripted], name: &str) -> usize {
    providers.iter().map(|provider| provider.asked_for(name).len()).sum()
}

#[tokio::test]
async fn row_1_a_good_answer_or_a_denial_with_soa_is_the_answer_and_a_success() {
    let one = provider(|query, _| {
        let end = question_end(query);
        [match query[end - 3] {
            1 => good(query),
            28 => reply_to(query, 0, [&[], &[soa()], &[]]),
            _ => reply_to(query, 3, [&[], &[soa()], &[]]),
        }]
    })
    .await;
    let node = node_before(&[&one]).await;
    let client = Udp::to(node.dns()).await;
    for (asked, code, records) in [(rtype::A, 0, 1), (rtype::AAAA, 0, 1), (rtype::TXT, 3, 1)] {
        for _ in 0..2 {
            let reply = client.ask(&Message::query(&name(0), asked)).await;
            assert_eq!((reply.rcode, reply.records.len()), (code, records));
        }
    }
    assert_eq!(asked(&[&one], &name(0)), 3, "each is kept");
    assert_eq!(state(&node, 0).await, "up");
}

#[tokio::test]
async fn row_2_servfail_refused_or_any_other_rcode_is_asked_of_the_next_provider_at_once() {
    let is_bad = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_bad);
    // Refused, failed, not authoritative, and one that nobody has assigned; its probes too.
    let bad = Scripted::start(move |query| {
        let code = [5, 2, 9, 12][usize::from(query[20] % 4)];
        Some(if switch.load(Ordering::Relaxed) {
            reply_to(query, code, [&[], &[], &[]])
        } else {
            good(query)
        })
    })
    .await;
    let fine = provider(|query, _| [good(query)]).await;
    let node = node_before(&[&bad, &fine]).await;
    is_bad.store(true, Ordering::Relaxed);
    let names: Vec<_> = (0..4 * NAMES).map(name).collect();
    for name in &names {
        assert_eq!(ask(&node, name).await.addresses(), [GOOD], "{name}");
    }
    assert!(names.iter().any(|name| asked(&[&bad], name) > 0));
    // Wrong about three registrable domains and a fifth of what it was asked, it is suspect.
    until("the one that is wrong is left", PATIENCE, async || {
        state(&node, 0).await != "up"
    })
    .await;
    assert_eq!(state(&node, 1).await, "up");
}

#[tokio::test]
async fn row_2_what_all_agree_on_is_told_and_nobody_is_blamed() {
    let refuses = || provider(|query, _| [reply_to(query, 5, [&[], &[], &[]])]);
    let (one, two) = (refuses().await, refuses().await);
    let node = node_before(&[&one, &two]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.rcode, rcode::REFUSED);
        assert_eq!(asked(&[&one, &two], &name(index)), 2);
    }
    assert_eq!([state(&node, 0).await, state(&node, 1).await], ["up", "up"]);
}

#[tokio::test]
async fn row_3_an_rcode_with_ede_4_or_15_to_18_is_an_answer_and_is_kept() {
    let filters = || {
        provider(|query, _| {
            // The letter behind `row` says which.
            let index = usize::from(query[20] - b'0');
            let codes = [(2, 4), (5, 15), (3, 16), (2, 17), (5, 18)];
            let (code, ede) = codes[index % codes.len()];
            [with_ede(query, code, ede)]
        })
    };
    let (one, two) = (filters().await, filters().await);
    let node = node_before(&[&one, &two]).await;
    for (index, code) in [2, 5, 3, 2, 5].into_iter().enumerate() {
        for _ in 0..2 {
            assert_eq!(ask(&node, &name(index)).await.rcode, code, "row{index}");
        }
        assert_eq!(asked(&[&one, &two], &name(index)), 1, "row{index}");
    }
    assert_eq!([state(&node, 0).await, state(&node, 1).await], ["up", "up"]);
}

#[tokio::test]
async fn row_4_a_validators_no_is_asked_of_one_more_validator_and_two_alike_are_the_answer() {
    let bogus = |query: &[u8], _| {
        let edes = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12];
        [with_ede(query, 2, edes[usize::from(query[20] - b'0') % edes.len()])]
    };
    let (one, two, three) = (provider(bogus).await, provider(bogus).await, provider(bogus).await);
    let all = [&one, &two, &three];
    let node = node_before(&all).await;
    for index in 0..10 {
        assert_eq!(ask(&node, &name(index)).await.rcode, rcode::SERVFAIL);
        assert_eq!(asked(&all, &name(index)), 2, "row{index}");
    }
    // Where another validator says yes, that is the answer, and nobody is blamed either.
    let fine = provider(|query, _| [good(query)]).await;
    let other = node_before(&[&one, &fine]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&other, &name(index)).await.addresses(), [GOOD]);
    }
    for index in 0..3 {
        assert_eq!(state(&node, index).await, "up");
    }
    assert_eq!(state(&other, 0).await, "up");
}

#[tokio::test]
async fn row_5_formerr_or_notimp_to_edns_is_asked_once_without_and_noted() {
    for code in [1, 4] {
        let old = provider(move |query, _| {
            if has_edns(query) {
                [reply_to(query, code, [&[], &[], &[]])]
            } else {
                [good(query)]
            }
        })
        .await;
        let node = node_before(&[&old]).await;
        for index in 0..NAMES {
            assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
        }
        let ways = |index| {
            old.asked_for(&name(index))
                .iter()
                .map(|(_, query)| has_edns(query))
                .collect::<Vec<_>>()
        };
        assert_eq!(ways(0), [true, false]);
        assert_eq!(ways(NAMES - 1), [false], "it is remembered");
        assert_eq!(state(&node, 0).await, "up");
    }
}

#[tokio::test]
async fn row_6_a_denial_without_soa_waits_for_another_provider_and_a_positive_wins() {
    let doubtful = provider(|query, _| [reply_to(query, 3, [&[], &[], &[]])]).await;
    let fine = provider(|query, _| [good(query)]).await;
    let node = node_before(&[&doubtful, &fine]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
    }
    assert_eq!([state(&node, 0).await, state(&node, 1).await], ["up", "up"]);
    // Nobody knows better: it is told, and not kept (RFC 2308 section 5).
    let alone = node_before(&[&doubtful]).await;
    for times in 1..=3 {
        assert_eq!(ask(&alone, "www.alone.example").await.rcode, rcode::NXDOMAIN);
        assert_eq!(asked(&[&doubtful], "www.alone.example"), times);
    }
}

#[tokio::test]
async fn row_7_garbage_over_udp_is_waited_past_and_starts_the_next_attempt() {
    let noise = |length: u8| (0..length).map(|octet| octet.wrapping_mul(151)).collect::<Vec<u8>>();
    // The right answer behind the noise still counts.
    let noisy = provider(move |query, _| [noise(3), noise(40), noise(11), good(query)]).await;
    let node = node_before(&[&noisy]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
    }
    let counted = node
        .metric("detour_attempt_outcomes_total", &["event=\"garbage\""])
        .await;
    assert!(counted > 0, "counted");
    // Where nothing follows, the next provider answers.
    let mute = provider(move |_, carrier| (carrier == Carrier::Udp).then(|| noise(40))).await;
    let fine = provider(|query, _| [good(query)]).await;
    let node = node_before(&[&mute, &fine]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
    }
}

#[tokio::test]
async fn row_8_a_well_formed_mismatch_is_counted_and_settled_over_a_stream() {
    let is_confused = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_confused);
    let confused = Scripted::start_both(move |query, carrier| {
        let mut reply = good(query);
        if carrier == Carrier::Udp && switch.load(Ordering::Relaxed) {
            // Another id, and an address that must not be believed.
            reply[0] ^= 0x55;
            *reply.last_mut().unwrap() = 66;
        }
        [reply]
    })
    .await;
    let node = node_before(&[&confused]).await;
    is_confused.store(true, Ordering::Relaxed);
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
        let ways: Vec<_> = confused
            .asked_for(&name(index))
            .iter()
            .map(|(carrier, _)| *carrier)
            .collect();
        assert!(ways.contains(&Carrier::Tcp), "{ways:?}");
    }
    let counted = node
        .metric("detour_attempt_outcomes_total", &["event=\"mismatch\""])
        .await;
    assert!(counted > 0, "counted");
    until("that endpoint is marked", PATIENCE, async || {
        state(&node, 0).await != "up"
    })
    .await;
}

#[tokio::test]
async fn row_9_garbage_or_a_reset_on_a_stream_moves_on_and_is_a_failure_of_that_cause() {
    let broken = provider(|_, _| [vec![7; 40]]).await;
    let fine = provider(|query, _| [good(query)]).await;
    let endpoint = detour_rig::Transport::Tcp.endpoint(broken.address, None);
    let blocks = [detour_rig::process::provider_block("p0", &[endpoint]), fine.block("p1")];
    let node = Node::start(&config(&blocks)).await;
    until("both are up", PATIENCE, async || {
        state(&node, 0).await == "up" && state(&node, 1).await == "up"
    })
    .await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
    }
    assert_eq!(state(&node, 1).await, "up");
    let failed = node
        .metric("detour_attempt_outcomes_total", &["event=\"failed\"", "tcp://"])
        .await;
    assert!(failed > 0);
}

#[tokio::test]
async fn row_10_no_answer_is_hedged_when_overdue_and_a_failure_by_timeout() {
    let silent = provider(|_, _| None).await;
    let fine = provider(|query, _| [good(query)]).await;
    let node = node_before(&[&silent, &fine]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
    }
    let backed = node.metric("detour_attempts_total", &["why=\"hedge"]).await
        + node.metric("detour_attempts_total", &["why=\"retry\""]).await;
    assert!(backed > 0);
}

#[tokio::test]
async fn row_11_a_truncated_answer_is_had_from_the_same_provider_over_a_stream() {
    let brief = provider(|query, carrier| {
        let mut reply = good(query);
        if carrier == Carrier::Udp {
            reply = reply_to(query, 0, [&[], &[], &[]]);
            reply[2] |= 2;
        }
        [reply]
    })
    .await;
    let fine = provider(|query, _| [good(query)]).await;
    let node = node_before(&[&brief, &fine]).await;
    for index in 0..NAMES {
        assert_eq!(ask(&node, &name(index)).await.addresses(), [GOOD]);
        let ways: Vec<_> = brief
            .asked_for(&name(index))
            .iter()
            .map(|(carrier, _)| *carrier)
            .collect();
        if !ways.is_empty() {
            assert_eq!(
                (ways, asked(&[&fine], &name(index))),
                (vec![Carrier::Udp, Carrier::Tcp], 0)
            );
        }
    }
    assert_eq!(state(&node, 0).await, "up");
    assert!(node.metric("detour_attempts_total", &["why=\"truncated\""]).await > 0);
}
