//! A peer made of libp2p's parts alone.

use std::time::Duration;

use detour_core::mesh::{Hello, VERSIONS};
use detour_core::report::{BootId, Circle, SiteKey};
use detour_wire::hello;
use futures::StreamExt as _;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder};

use super::nodes::{SOON, cluster, wall_ms};
use crate::frames::Frames;
use crate::gossip::{self, Gossip};
use crate::pinned::{Exchange, Pinned};
use crate::swarm::{HELLO_PROTOCOL, SYNC_PROTOCOL};
use crate::{Identity, Member, PeerAddress};

/// All protocols, without any limit on what is sent.
#[derive(NetworkBehaviour)]
struct Raw {
    hello: Pinned,
    sync: Pinned,
    gossip: Gossip,
}

/// A peer without a mind of its own.
pub(super) struct RawPeer {
    pub(super) identity: Identity,
    swarm: Swarm<Raw>,
}

impl RawPeer {
    pub(super) fn new() -> Self {
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
            gossip: gossip::new(cluster()).unwrap(),
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
    pub(super) async fn connect(&mut self, to: PeerAddress) -> ConnectionId {
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
    pub(super) async fn answer(&mut self) -> Result<Vec<u8>, String> {
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

    pub(super) async fn hello(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        self.swarm.behaviour_mut().hello.ask(connection, bytes).unwrap();
        self.answer().await
    }

    pub(super) async fn sync(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        self.swarm.behaviour_mut().sync.ask(connection, bytes).unwrap();
        self.answer().await
    }

    pub(super) fn good_hello() -> Vec<u8> {
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

    pub(super) fn member(&self) -> Member {
        Member {
            node: self.identity.node(),
            circle: Circle::Own,
            addresses: Vec::new(),
        }
    }

    /// A connection that carries everything.
    pub(super) async fn admitted(&mut self, to: PeerAddress) -> ConnectionId {
        let first = self.connect(to).await;
        let answer = self.hello(first, Self::good_hello()).await.unwrap();
        assert!(matches!(hello::decode_answer(&answer), Ok(hello::Answer::Hello(_))));
        // The first carries the hello only.
        assert!(self.answer().await.is_err());
        let second = self.connect(to).await;
        self.hello(second, Self::good_hello()).await.unwrap();
        second
    }

    /// Publishes all of it at once, as soon as the other side has subscribed.
    pub(super) async fn gossip(&mut self, messages: Vec<Vec<u8>>) {
        let is_subscribed = |raw: &Raw| raw.gossip.all_peers().any(|(_, topics)| !topics.is_empty());
        while !is_subscribed(self.swarm.behaviour()) {
            self.next().await;
        }
        for message in messages {
            let topic = gossip::topic(cluster()).hash();
            self.swarm.behaviour_mut().gossip.publish(topic, message).unwrap();
        }
    }

    /// Goes on for ever.
    pub(super) async fn idle(&mut self) {
        loop {
            self.swarm.select_next_some().await;
        }
    }
}
