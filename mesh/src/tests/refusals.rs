//! Nodes that do not belong together: both sides say why, and which line is missing.

use detour_core::mesh::{PeerState, Refusal, RefusedBy};
use detour_core::report::Circle;
use detour_wire::keys;

use super::nodes::{Node, Start, introduce};
use crate::{Member, MissingLine, News, PeerAddress};

#[tokio::test]
async fn a_stranger_is_told_no_and_the_line_shown_makes_it_a_peer() {
    let mut host = Node::with_mark(1);
    let stranger = Start {
        members: Member::of(&[host.address().await], Circle::Own),
        mark: 2,
        ..Start::default()
    }
    .node();
    let own_line = stranger.address().await.to_string();
    let status = stranger
        .until("refused", |status| status.peers[0].view.state == PeerState::Refused)
        .await;
    let peer = &status.peers[0];
    assert_eq!(peer.view.refusal, Some((Refusal::UnknownNode, RefusedBy::Peer)));
    assert_eq!(peer.line, Some(MissingLine::There(own_line.clone())));
    let error = peer.last_error.as_ref().unwrap();
    assert!(error.text.contains("not in its list of peers"), "{error:?}");

    let status = host.until("a stranger", |status| !status.peers.is_empty()).await;
    let peer = &status.peers[0];
    assert_eq!(peer.view.node, stranger.id());
    assert_eq!(peer.view.refusal, Some((Refusal::UnknownNode, RefusedBy::Us)));
    let Some(MissingLine::Here(line)) = &peer.line else {
        panic!("{peer:?}");
    };
    assert_eq!(*line, own_line);
    assert!(host.news.try_recv().is_err(), "a stranger has no say");
    assert!(
        host.counted("mesh_refusals")
            .iter()
            .any(|line| line.contains("by=\"us\",reason=\"unknown-node\""))
    );

    let line: PeerAddress = line.parse().unwrap();
    host.handle.set_members(Member::of(&[line], Circle::Own));
    host.hears_mark(stranger.id(), 2).await;
    stranger.connected(host.id()).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_learns_nothing() {
    let mut first = Node::with_mark(1);
    let mut second = Start {
        cluster: keys::cluster("another"),
        mark: 2,
        ..Start::default()
    }
    .node();
    introduce(&[&first, &second]).await;
    for node in [&first, &second] {
        let status = node
            .until("refused", |status| {
                status.peers.iter().any(|peer| peer.view.state == PeerState::Refused)
            })
            .await;
        assert!(matches!(status.peers[0].view.refusal, Some((Refusal::OtherCluster, _))));
        assert_eq!(status.peers[0].line, None);
    }
    assert!(first.news.try_recv().is_err() && second.news.try_recv().is_err());
}

#[tokio::test]
async fn a_node_taken_out_of_the_configuration_counts_no_more() {
    let (mut first, second) = (Node::with_mark(1), Node::with_mark(2));
    introduce(&[&first, &second]).await;
    let gone = second.id();
    first.hears_mark(gone, 2).await;
    second.connected(first.id()).await;
    first.handle.set_members(Vec::new());
    first
        .hears("forgotten", |news| matches!(news, News::Forget(node) if *node == gone))
        .await;
    second
        .until("refused", |status| {
            status.peers[0].view.refusal == Some((Refusal::UnknownNode, RefusedBy::Peer))
        })
        .await;
}
