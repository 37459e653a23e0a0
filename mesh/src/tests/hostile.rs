//! Peers made by hand that say what no node says.

use detour_core::health::state::State;
use detour_core::outcome::Cause;
use detour_core::report::{BootId, Circle, Edition, EndpointKey, Entry, SiteKey, Snapshot};
use detour_wire::{hello, snapshot, sync};

use super::nodes::{Node, cluster, introduce, report, wall_ms};
use super::raw::RawPeer;
use crate::{Identity, Member};

/// Two nodes that know each other go on as if nothing had been.
async fn is_well(first: &mut Node, second: &mut Node, mark: u8) {
    first.own.send_replace(report(mark));
    second.hears_mark(first.id(), mark).await;
    second.own.send_replace(report(mark + 1));
    first.hears_mark(second.id(), mark + 1).await;
    assert_eq!(first.metrics.restarts(), 0);
}

async fn pair() -> (Node, Node) {
    let nodes = (Node::with_mark(1), Node::with_mark(2));
    introduce(&[&nodes.0, &nodes.1]).await;
    nodes.0.connected(nodes.1.id()).await;
    nodes
}

#[tokio::test]
async fn a_stranger_gets_hello_and_nothing_else() {
    let (mut host, mut other) = pair().await;
    let mut raw = RawPeer::new();
    let address = host.address().await;
    let connection = raw.connect(address).await;
    let refused = raw.sync(connection, vec![1]).await.unwrap_err();
    assert!(refused.contains("supports none"), "{refused}");
    let answer = raw.hello(connection, RawPeer::good_hello()).await.unwrap();
    let Ok(hello::Answer::Refused(refused)) = hello::decode_answer(&answer) else {
        panic!("a stranger was taken");
    };
    assert_eq!(refused.text, "127.0.0.1");
    assert_eq!(raw.answer().await, Err("closed".to_owned()));
    is_well(&mut host, &mut other, 10).await;
}

#[tokio::test]
async fn strangers_that_stall_keep_nobody_out() {
    let (mut host, mut other) = pair().await;
    let address = host.address().await;
    // More than there are places for; they say nothing.
    let mut stalling = Vec::new();
    for _ in 0..20 {
        let mut raw = RawPeer::new();
        raw.connect(address).await;
        stalling.push(raw);
    }
    let mut member = RawPeer::new();
    let others = [other.address().await];
    let mut members = Member::of(&others, Circle::Own);
    members.push(member.member());
    host.handle.set_members(members);
    member.admitted(address).await;
    is_well(&mut host, &mut other, 20).await;
    host.until("they are gone", |status| {
        let strangers = status.peers.iter().filter(|peer| peer.addresses.is_empty());
        strangers.filter(|peer| !peer.connected.is_empty()).count() <= 1
    })
    .await;
    let denied = host.counted("mesh_connections_denied_total");
    assert_ne!(denied, ["mesh_connections_denied_total 0"]);
    drop(stalling);
}

#[tokio::test]
async fn garbage_is_answered_with_no_and_harms_nobody() {
    let (mut host, mut other) = pair().await;
    let mut raw = RawPeer::new();
    let mut members = Member::of(&[other.address().await], Circle::Own);
    members.push(raw.member());
    host.handle.set_members(members);
    let address = host.address().await;
    let connection = raw.admitted(address).await;
    for garbage in [vec![], vec![0; 10], vec![1, 1, 255], vec![0xff; 500]] {
        let answer = raw.sync(connection, garbage).await.unwrap();
        assert!(matches!(sync::Answer::decode(&answer), Ok(sync::Answer::Refused(_))));
    }
    // Longer than a request may be: not even read to its end, and the stream is closed.
    for length in [sync::REQUEST_MAX + 1, 4_000_000] {
        assert_eq!(raw.sync(connection, vec![1; length]).await.unwrap_or_default(), [0; 0]);
    }
    is_well(&mut host, &mut other, 40).await;
    for garbage in [vec![], vec![0; 10], vec![1, 1, 255], vec![0xff; 500]] {
        let answer = raw.hello(connection, garbage).await.unwrap();
        assert!(matches!(hello::decode_answer(&answer), Ok(hello::Answer::Refused(_))));
    }
    let again = raw.connect(address).await;
    let answer = raw.hello(again, vec![1; hello::HELLO_MAX + 1]).await;
    assert_eq!(answer.unwrap_or_default(), [0; 0]);
    is_well(&mut host, &mut other, 50).await;
}

/// As long as a snapshot can be.
fn long_snapshot(identity: &Identity, sequence: u32) -> Vec<u8> {
    let entries = (0..32).map(|number| Entry {
        endpoint: EndpointKey([number; 8]),
        state: State::Up,
        cause: Cause::Timeout,
        witnessed: false,
        stalled: false,
        first_failure_age_ms: None,
        last_failure_age_ms: None,
        last_success_age_ms: Some(1),
    });
    let said = Snapshot {
        node: identity.node(),
        boot: BootId(1),
        edition: Edition {
            incarnation: 1,
            sequence,
        },
        issued_wall_ms: wall_ms(),
        period_s: 10,
        site: SiteKey([0; 4]),
        uplink_suspect: false,
        leaving: false,
        entries: entries.collect(),
    };
    let signed = snapshot::signed_part(&said, cluster()).unwrap();
    let signature = identity.sign(&signed);
    snapshot::seal(signed, signature)
}

#[tokio::test]
async fn gossip_survives_many_messages_at_once() {
    const BURST: u32 = 40;
    let (mut host, mut other) = pair().await;
    let mut raw = RawPeer::new();
    let mut members = Member::of(&[other.address().await], Circle::Own);
    members.push(raw.member());
    host.handle.set_members(members);
    let address = host.address().await;
    raw.admitted(address).await;
    let messages = (1..=BURST)
        .map(|sequence| long_snapshot(&raw.identity, sequence))
        .collect();
    raw.gossip(messages).await;
    // All of them came, in one stream that was never reset; those of the other node besides.
    let all = host.until("all came", |_| host.gossiped() >= BURST);
    tokio::select! {
        _ = all => {}
        () = raw.idle() => {}
    }
    is_well(&mut host, &mut other, 60).await;
}
