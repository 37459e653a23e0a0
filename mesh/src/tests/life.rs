//! Nodes that meet, crash, come back and say goodbye.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use detour_core::report::Circle;
use tokio::time::Instant;

use super::nodes::{Node, Start, introduce, report, wall_ms};
use crate::{Condition, Member, News};

#[tokio::test]
async fn three_nodes_hear_each_others_reports_and_changes_at_once() {
    let mut nodes = [1, 2, 3].map(Node::with_mark);
    introduce(&nodes.each_ref()).await;
    let ids = nodes.each_ref().map(Node::id);
    for (index, node) in nodes.iter_mut().enumerate() {
        for (other, mark) in ids.iter().zip(1..).filter(|(other, _)| **other != ids[index]) {
            node.hears_mark(*other, mark).await;
        }
    }
    for node in &nodes {
        for other in ids.iter().filter(|other| **other != node.id()) {
            node.connected(*other).await;
        }
    }
    // A change is pushed: well before the next pull.
    let [first, others @ ..] = &mut nodes;
    let began = Instant::now();
    first.own.send_replace(report(77));
    for other in others.iter_mut() {
        other.hears_mark(ids[0], 77).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    let status = nodes[1].handle.status().borrow().clone();
    assert_eq!(status.peers.len(), 2);
    for peer in &status.peers {
        assert!(peer.view.rtt_us.is_some() && peer.view.boot.is_some(), "{peer:#?}");
        assert_eq!(peer.view.software.as_deref(), Some("detour test"));
        assert!(!peer.addresses.is_empty() && !peer.connected.is_empty() && peer.line.is_none());
    }
    assert!(nodes[1].counted("mesh_up").contains(&"mesh_up 1".to_owned()));
}

#[tokio::test]
async fn a_node_that_stops_is_forgotten_at_once() {
    let (mut first, second) = (Node::with_mark(1), Node::with_mark(2));
    introduce(&[&first, &second]).await;
    let leaver = second.id();
    first.hears_mark(leaver, 2).await;
    second.connected(first.id()).await;
    let began = Instant::now();
    assert!(second.handle.stop().await);
    assert!(began.elapsed() < Duration::from_millis(1_600), "{:?}", began.elapsed());
    first
        .hears(
            "a goodbye",
            |news| matches!(news, News::Forget(node) if *node == leaver),
        )
        .await;
    // The connection was closed, not left to time out.
    first
        .until("no connection", |status| status.peers[0].connected.is_empty())
        .await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_node_killed_twice_is_heard_and_hears_each_time() {
    let (mut first, second) = (Node::with_mark(1), Node::with_mark(2));
    introduce(&[&first, &second]).await;
    first.hears_mark(second.id(), 2).await;
    let (id, port, members) = (second.id(), second.port().await, vec![first.address().await]);
    let mut directory = second.kill();
    for mark in [20, 30] {
        let began = Instant::now();
        let mut second = Start {
            directory,
            port,
            members: Member::of(&members, Circle::Own),
            mark,
            ..Start::default()
        }
        .node();
        assert_eq!(second.id(), id);
        first.hears_mark(id, mark).await;
        second.hears_mark(first.id(), 1).await;
        // Changes after that get through both ways, too.
        first.own.send_replace(report(mark + 1));
        second.own.send_replace(report(mark + 2));
        first.hears_mark(id, mark + 2).await;
        second.hears_mark(first.id(), mark + 1).await;
        first.own.send_replace(report(1));
        second.hears_mark(first.id(), 1).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // Gossip too has met the new process (https://github.com/libp2p/rust-libp2p/issues/5097).
        let before = first.gossiped();
        for change in 3..=5 {
            first.own.send_replace(report(mark + change));
            second.own.send_replace(report(mark + change));
            second.hears_mark(first.id(), mark + change).await;
            first.hears_mark(id, mark + change).await;
        }
        second.until("gossip there", |_| second.gossiped() > 0).await;
        first.until("gossip back", |_| first.gossiped() > before).await;
        first.own.send_replace(report(1));
        directory = second.kill();
    }
}

#[tokio::test]
async fn a_taken_port_is_said_and_peers_are_dialled_all_the_same() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let first = Node::with_mark(1);
    let mut second = Start {
        port: taken.local_addr().unwrap().port(),
        members: Member::of(&[first.address().await], Circle::Own),
        mark: 2,
        ..Start::default()
    }
    .node();
    let status = second.until("deaf", |status| status.condition == Condition::Deaf).await;
    assert!(
        status.complaints.iter().any(|text| text.contains("in use")),
        "{:?}",
        status.complaints
    );
    assert_eq!(second.counted("mesh_up"), ["mesh_up 0"]);
    let dialler = Member {
        node: second.id(),
        circle: Circle::Own,
        addresses: Vec::new(),
    };
    first.handle.set_members(vec![dialler]);
    second.hears_mark(first.id(), 1).await;
}

static FAILS: AtomicBool = AtomicBool::new(false);

/// A wall clock that can be made to panic, once.
fn failing_wall_ms() -> u64 {
    assert!(!FAILS.swap(false, Ordering::Relaxed), "injected");
    wall_ms()
}

#[tokio::test]
async fn after_a_panic_the_mesh_starts_again() {
    let mut first = Node::with_mark(1);
    let second = Start {
        mark: 2,
        wall_ms: failing_wall_ms,
        ..Start::default()
    }
    .node();
    introduce(&[&first, &second]).await;
    first.hears_mark(second.id(), 2).await;
    let boot = second.handle.status().borrow().boot;
    let id = second.id();
    FAILS.store(true, Ordering::Relaxed);
    second
        .until("failed", |status| {
            status.condition == Condition::Failed && status.complaints[0].contains("panic")
        })
        .await;
    second.own.send_replace(report(22));
    // It has another port here, and dials by itself.
    first.hears_mark(id, 22).await;
    let status = second.handle.status().borrow().clone();
    assert!(status.restarts == 1 && status.boot != boot, "{status:?}");
}
