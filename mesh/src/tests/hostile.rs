//! Peers made by hand that say what no node says.

use std::time::Duration;

use detour_core::mesh::{Hello, VERSIONS};
use detour_core::report::{BootId, Circle, SiteKey};
use detour_wire::hello;
use detour_wire::sync;
use futures::StreamExt as _;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder};

use super::nodes::{Node, SOON, cluster, introduce, report, wall_ms};
use crate::frames::Frames;
use crate::pinned::{Exchange, Pinned};
use crate::swarm::{HELLO_PROTOCOL, SYNC_PROTOCOL};
use crate::{Identity, Member, PeerAddress};

/// Both protocols without any limit on what is sent.
#[derive(NetworkBehaviour)]
struct Raw {
    hello: Pinned,
    sync: Pinned,
}

struct RawPeer {
    identity: Identity,
    swarm: Swarm<Raw>,
}

impl RawPeer {
    fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let protocol = |name| {
            let frames = Frames {
                request_max: usize::MAX,
                answer_max: usize::MAX,
            };
            Pinned::new(name, frames, Duration::from_secs(5), 100, 100)
        };
        let raw = Raw {
            hello: protocol(HELLO_PROTOCOL),
            sync: protocol(SYNC_PROTOCOL),
        };
        let swarm = SwarmBuilder::with_existing_identity(identity.keypair().clone())
            .with_tokio()
            .with_quic()
            .with_behaviour(|_key| raw)
            .unwrap()
            .build();
        Self { identity, swarm }
    }

    /// A connection; whether it was kept.
    async fn connect(&mut self, to: PeerAddress) -> ConnectionId {
        let dial = DialOpts::peer_id(to.peer())
            .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
            .addresses(vec![to.multiaddr()])
            .allocate_new_port()
            .build();
        let id = dial.connection_id();
        self.swarm.dial(dial).unwrap();
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
            match self.next().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } if connection_id == id => return id,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> SwarmEvent<RawEvent> {
        tokio::time::timeout(SOON, self.swarm.select_next_some()).await.unwrap()
    }

    /// What comes back on a request, or why nothing does.
    async fn answer(&mut self) -> Result<Vec<u8>, String> {
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
            match self.next().await {
                SwarmEvent::Behaviour(RawEvent::Hello(exchange) | RawEvent::Sync(exchange)) => match exchange {
                    Exchange::Answered { answer, .. } => return Ok(answer),
                    Exchange::Unanswered { why, .. } => return Err(why.to_string()),
                    Exchange::Asked { .. } | Exchange::AnswerDone { .. } => {}
                },
                SwarmEvent::ConnectionClosed { .. } => return Err("closed".to_owned()),
                _ => {}
            }
        }
    }

    async fn hello(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        self.swarm.behaviour_mut().hello.ask(connection, bytes).unwrap();
        self.answer().await
    }

    async fn sync(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        self.swarm.behaviour_mut().sync.ask(connection, bytes).unwrap();
        self.answer().await
    }

    fn good_hello() -> Vec<u8> {
        let hello = Hello {
            cluster: cluster(),
            versions: VERSIONS,
            boot: BootId(1),
            wall_ms: wall_ms(),
            site: SiteKey([0; 4]),
            port: 1,
            software: "raw".to_owned(),
            yours: None,
        };
        hello::encode_request(&hello).unwrap()
    }

    fn member(&self) -> Member {
        Member {
            node: self.identity.node(),
            circle: Circle::Own,
            addresses: Vec::new(),
        }
    }

    /// A connection that carries everything.
    async fn admitted(&mut self, to: PeerAddress) -> ConnectionId {
        let first = self.connect(to).await;
        let answer = self.hello(first, Self::good_hello()).await.unwrap();
        assert!(matches!(hello::decode_answer(&answer), Ok(hello::Answer::Hello(_))));
        // The first carries the hello only.
        assert!(self.answer().await.is_err());
        let second = self.connect(to).await;
        self.hello(second, Self::good_hello()).await.unwrap();
        second
    }
}

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
