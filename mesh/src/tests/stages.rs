//! `detour mesh test`: how far it gets, and what it says then.

use std::net::UdpSocket;
use std::sync::Arc;

use detour_core::mesh::Refusal;
use detour_core::report::{BootId, Circle, SiteKey};
use detour_wire::keys;

use super::nodes::{Node, TestClock, cluster, wall_ms};
use crate::{Identity, Member, Stage, StageError, Tester, peer_line, try_peer};

fn tester(identity: &Identity) -> Tester {
    Tester {
        identity: identity.clone(),
        cluster: cluster(),
        site: SiteKey([1; 4]),
        boot: BootId(7),
        port: 4_853,
        software: "detour test".to_owned(),
        clock: Arc::new(TestClock::default()),
        wall_ms,
    }
}

async fn test(tester: Tester, address: &str) -> (Vec<&'static str>, Result<Stage, StageError>) {
    let mut stages = Vec::new();
    let result = try_peer(tester, address, |stage| stages.push(stage)).await;
    let words = stages.iter().map(Stage::word).collect();
    (words, result.map(|()| stages.pop().unwrap()))
}

#[tokio::test]
async fn each_stage_is_told_up_to_the_one_that_fails() {
    let host = Node::with_mark(1);
    let identity = Identity::generate().unwrap();
    let address = host.address().await;
    let text = address.to_string();

    let (stages, refused) = test(tester(&identity), &text).await;
    assert_eq!(stages, ["address", "connection"]);
    let Err(StageError::Refused { refusal, line }) = refused else {
        panic!("{refused:?}");
    };
    let expected = peer_line("127.0.0.1".parse().unwrap(), 4_853, identity.node());
    assert_eq!((refusal, line), (Refusal::UnknownNode, Some(expected)));

    host.handle.set_members(vec![Member {
        node: identity.node(),
        circle: Circle::Own,
        addresses: Vec::new(),
    }]);
    host.until("a member", |status| !status.peers.is_empty()).await;
    let (stages, pulled) = test(tester(&identity), &text).await;
    assert_eq!(stages, ["address", "connection", "hello", "snapshots"], "{pulled:?}");
    let expected = Stage::Pulled {
        snapshots: 1,
        is_own_among: true,
    };
    assert_eq!(pulled.unwrap(), expected);

    let mut other = tester(&identity);
    other.cluster = keys::cluster("another");
    let (stages, refused) = test(other, &text).await;
    assert_eq!(stages, ["address", "connection"]);
    assert!(matches!(
        refused,
        Err(StageError::Refused {
            refusal: Refusal::OtherCluster,
            line: None
        })
    ));
}

#[tokio::test]
async fn wrong_addresses_say_what_is_wrong() {
    let host = Node::with_mark(1);
    let [identity, other] = [0, 1].map(|_| Identity::generate().unwrap());
    let port = host.port().await;
    let ip = "127.0.0.1".parse().unwrap();

    let (stages, wrong) = test(tester(&identity), "127.0.0.1:4853").await;
    assert!(stages.is_empty() && matches!(wrong, Err(StageError::Address(_))));

    let (_, wrong) = test(tester(&identity), &peer_line(ip, port, other.node())).await;
    assert!(matches!(wrong, Err(StageError::OtherNode(id)) if id == host.identity.peer_id()));

    let (_, wrong) = test(tester(&host.identity), &peer_line(ip, port, host.id())).await;
    assert!(matches!(wrong, Err(StageError::OwnIdentity)));

    // Somebody takes the packets and says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let (stages, wrong) = test(tester(&identity), &peer_line(ip, port, other.node())).await;
    assert_eq!(stages, ["address"]);
    let error = wrong.unwrap_err();
    assert!(matches!(error, StageError::NoConnection(_)), "{error}");
    assert_eq!(error.stage(), "connection");
}
