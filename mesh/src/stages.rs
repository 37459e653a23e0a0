//! `detour mesh test ADDRESS`: one dial, stage by stage, so that a person sees how far it gets and what is missing.
//!
//! With the node's identity, but nothing of its state: no store, no gossip, no listener. To the peer this is one more
//! connection of the node; if the node runs at the same time, its own boot id must be given, or the peer takes this for
//! a new start of it and closes what the node has.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use detour_core::Clock;
use detour_core::mesh::{Hello, Refusal, VERSIONS};
use detour_core::report::{BootId, ClusterKey, NodeId, SiteKey};
use detour_core::time::Time;
use detour_wire::hello;
use detour_wire::sync::{Answer, Pull, Request};
use detour_wire::{Refused, snapshot};
use futures::StreamExt as _;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, SwarmBuilder};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::address::{AddressError, PeerAddress, peer_line};
use crate::driver::{chain, explain};
use crate::executor::Executor;
use crate::identity::Identity;
use crate::pinned::{Exchange, Pinned};
use crate::swarm::{hello_protocol, quic, sync_protocol};

/// All stages together.
const DEADLINE: Duration = Duration::from_secs(20);
/// A peer that has admitted this node closes the connection it said hello on, to be dialled anew.
const DIALS: usize = 2;
/// That takes it a moment.
const PAUSE: Duration = Duration::from_millis(400);

/// Who tests, and as what.
#[derive(Clone)]
pub struct Tester {
    /// The node's.
    pub identity: Identity,
    /// Its cluster.
    pub cluster: ClusterKey,
    /// Where it stands.
    pub site: SiteKey,
    /// That of the running node, if it runs; any otherwise.
    pub boot: BootId,
    /// The port at which the node can be dialled; 0: none.
    pub port: u16,
    /// Name and version of this software.
    pub software: String,
    /// The boot-time clock.
    pub clock: Arc<dyn Clock>,
    /// The wall clock, milliseconds since 1970.
    pub wall_ms: fn() -> u64,
}

impl fmt::Debug for Tester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tester").field(&self.identity).finish()
    }
}

/// A stage that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The address makes sense.
    Address {
        /// Who is expected there.
        peer_id: String,
    },
    /// UDP gets there and back, QUIC and TLS agree, and the peer has proven the key in the address.
    Connected {
        /// From the first packet to the proof.
        took_us: u64,
    },
    /// The peer took this node's hello and said its own.
    Hello {
        /// Its protocol versions, lowest and highest.
        versions: (u8, u8),
        /// Name and version of its software.
        software: String,
        /// Whether it names the same site.
        is_same_site: bool,
        /// Its wall clock minus ours.
        clock_offset_ms: i64,
        /// There and back.
        rtt_us: u64,
    },
    /// It admits this node: it hands out snapshots.
    Pulled {
        /// How many that can be read.
        snapshots: usize,
        /// Whether its own is among them.
        is_own_among: bool,
    },
}

impl Stage {
    /// Its word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Connected { .. } => "connection",
            Self::Hello { .. } => "hello",
            Self::Pulled { .. } => "snapshots",
        }
    }
}

/// Why a stage was not passed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The address cannot be used.
    #[error("the address: {0}")]
    Address(#[from] AddressError),
    /// A mistake of this build, or the system gives no sockets.
    #[error("cannot begin: {0}")]
    Setup(String),
    /// Nothing comes back, or something that is not QUIC as libp2p speaks it.
    #[error("no connection: {0}; is UDP let through, and does the peer listen there?")]
    NoConnection(String),
    /// Somebody else answers there.
    #[error("another node answers there: {0}")]
    OtherNode(String),
    /// This very identity answers there.
    #[error("the node that answers there has this node's own identity")]
    OwnIdentity,
    /// A hello was not answered, or with something else.
    #[error("the hello failed: {0}")]
    Hello(String),
    /// The peer says no.
    #[error("the peer turned this node away: {}", explain(*.refusal))]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The entry its `mesh.peers` lacks, if that is why.
        line: Option<String>,
    },
    /// Both have said hello, and they do not fit together.
    #[error("the two do not fit together: {0}")]
    Unfit(&'static str),
    /// It took the hello, and does not hand out snapshots.
    #[error("no snapshots: {0}")]
    NotAdmitted(String),
    /// It took too long.
    #[error("nothing more within 20 s")]
    TooSlow,
}

impl StageError {
    /// The stage that was not passed.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Setup(_) | Self::NoConnection(_) | Self::OtherNode(_) | Self::OwnIdentity => "connection",
            Self::Hello(_) | Self::Refused { .. } | Self::Unfit(_) => "hello",
            Self::NotAdmitted(_) | Self::TooSlow => "snapshots",
        }
    }
}

/// Dials `address` and tells each stage that is passed. On the caller's runtime, which needs I/O and time.
///
/// # Errors
/// The first stage that is not passed, and why.
pub async fn try_peer(tester: Tester, address: &str, mut passed: impl FnMut(Stage)) -> Result<(), StageError> {
    let address: PeerAddress = address.parse()?;
    let peer_id = address.peer().to_base58();
    passed(Stage::Address { peer_id });
    let mut dialler = Dialler::new(tester, address)?;
    let all = Box::pin(dialler.run(&mut passed));
    match tokio::time::timeout(DEADLINE, all).await {
        Ok(result) => result,
        Err(_elapsed) => Err(StageError::TooSlow),
    }
}

/// What it speaks.
#[derive(NetworkBehaviour)]
struct Spoken {
    hello: Pinned,
    sync: Pinned,
}

struct Dialler {
    tester: Tester,
    address: PeerAddress,
    swarm: Swarm<Spoken>,
}

impl Dialler {
    fn new(tester: Tester, address: PeerAddress) -> Result<Self, StageError> {
        if tester.identity.node() == address.node() {
            return Err(StageError::OwnIdentity);
        }
        let spoken = Spoken {
            hello: hello_protocol(),
            sync: sync_protocol(),
        };
        let executor = Executor::new(Handle::current(), CancellationToken::new());
        let swarm = SwarmBuilder::with_existing_identity(tester.identity.keypair().clone())
            .with_tokio()
            .with_quic_config(quic)
            .with_behaviour(|_key| spoken)
            .map_err(|error| StageError::Setup(error.to_string()))?
            .with_swarm_config(|_default| libp2p::swarm::Config::with_executor(executor))
            .build();
        Ok(Self { tester, address, swarm })
    }

    async fn run(&mut self, passed: &mut impl FnMut(Stage)) -> Result<(), StageError> {
        let mut refused = StageError::TooSlow;
        for dial in 0..DIALS {
            let began = self.tester.clock.now();
            let connection = self.connect().await?;
            let took_us = self.tester.clock.now().since(began);
            let is_first = dial == 0;
            if is_first {
                passed(Stage::Connected { took_us });
            }
            let hello = self.say_hello(connection).await?;
            if is_first {
                passed(hello);
            }
            match self.pull(connection).await {
                Ok(pulled) => {
                    passed(pulled);
                    return Ok(());
                }
                Err(error) => refused = error,
            }
            let closed = self.wait_for_end(connection);
            drop(tokio::time::timeout(PAUSE, closed).await);
        }
        Err(refused)
    }

    async fn connect(&mut self) -> Result<ConnectionId, StageError> {
        let dial = DialOpts::peer_id(self.address.peer())
            .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
            .addresses(vec![self.address.multiaddr()])
            .allocate_new_port()
            .build();
        let own = dial.connection_id();
        self.swarm.dial(dial).map_err(|error| not_connected(&error))?;
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
            match self.swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } if connection_id == own => return Ok(own),
                SwarmEvent::OutgoingConnectionError {
                    connection_id, error, ..
                } if connection_id == own => return Err(not_connected(&error)),
                _ => {}
            }
        }
    }

    async fn say_hello(&mut self, connection: ConnectionId) -> Result<Stage, StageError> {
        let hello = Hello {
            cluster: self.tester.cluster,
            versions: VERSIONS,
            boot: self.tester.boot,
            wall_ms: (self.tester.wall_ms)(),
            site: self.tester.site,
            port: self.tester.port,
            software: self.tester.software.clone(),
            yours: None,
        };
        let bytes = hello::encode_request(&hello).map_err(|error| StageError::Hello(error.to_string()))?;
        let sent = self.tester.clock.now();
        if self.swarm.behaviour_mut().hello.ask(connection, bytes).is_none() {
            return Err(StageError::Hello("the connection is gone".to_owned()));
        }
        let answer = self.answer(connection).await.map_err(StageError::Hello)?;
        let received = self.tester.clock.now();
        match hello::decode_answer(&answer) {
            Ok(hello::Answer::Hello(theirs)) => self.judge(&theirs, sent, received),
            Ok(hello::Answer::Refused(refused)) => Err(self.refused(&refused)),
            Err(error) => Err(StageError::Hello(error.to_string())),
        }
    }

    fn judge(&self, theirs: &Hello, sent: Time, received: Time) -> Result<Stage, StageError> {
        if theirs.cluster != self.tester.cluster {
            return Err(StageError::Unfit(explain(Refusal::OtherCluster)));
        }
        if theirs.versions.0.max(VERSIONS.0) > theirs.versions.1.min(VERSIONS.1) {
            return Err(StageError::Unfit(explain(Refusal::NoCommonVersion)));
        }
        let rtt_us = received.since(sent);
        // It read its clock when half of the round trip had passed, more or less.
        let half_ms = rtt_us.checked_div(2_000).unwrap_or(0);
        let ours = (self.tester.wall_ms)().saturating_sub(half_ms);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Ok(Stage::Hello {
            versions: theirs.versions,
            software: theirs.software.clone(),
            is_same_site: theirs.site == self.tester.site,
            clock_offset_ms: signed(theirs.wall_ms).saturating_sub(signed(ours)),
            rtt_us,
        })
    }

    fn refused(&self, refused: &Refused) -> StageError {
        let seen_as = refused.text.parse::<IpAddr>().ok();
        let line = seen_as.filter(|_| refused.refusal == Refusal::UnknownNode && self.tester.port != 0);
        StageError::Refused {
            refusal: refused.refusal,
            line: line.map(|ip| peer_line(ip, self.tester.port, self.tester.identity.node())),
        }
    }

    async fn pull(&mut self, connection: ConnectionId) -> Result<Stage, StageError> {
        let pull = Request::Pull(Pull {
            wall_ms: (self.tester.wall_ms)(),
            digest: Vec::new(),
        });
        let bytes = pull
            .encode()
            .map_err(|error| StageError::NotAdmitted(error.to_string()))?;
        if self.swarm.behaviour_mut().sync.ask(connection, bytes).is_none() {
            return Err(StageError::NotAdmitted("the connection is gone".to_owned()));
        }
        let answer = self.answer(connection).await.map_err(StageError::NotAdmitted)?;
        match Answer::decode(&answer) {
            Ok(Answer::Pull(pulled)) => {
                let nodes: Vec<NodeId> = pulled
                    .snapshots
                    .iter()
                    .filter_map(|passed| snapshot::head(&passed.bytes, self.tester.cluster).ok())
                    .map(|head| head.node)
                    .collect();
                Ok(Stage::Pulled {
                    snapshots: nodes.len(),
                    is_own_among: nodes.contains(&self.address.node()),
                })
            }
            Ok(Answer::Refused(refused)) => Err(StageError::NotAdmitted(explain(refused.refusal).to_owned())),
            Ok(Answer::Push(_)) => Err(StageError::NotAdmitted("an answer to something else".to_owned())),
            Err(error) => Err(StageError::NotAdmitted(error.to_string())),
        }
    }

    /// The answer to the one request under way.
    async fn answer(&mut self, connection: ConnectionId) -> Result<Vec<u8>, String> {
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(SpokenEvent::Hello(exchange) | SpokenEvent::Sync(exchange)) => match exchange {
                    Exchange::Answered { answer, .. } => return Ok(answer),
                    Exchange::Unanswered { why, .. } => return Err(why.to_string()),
                    // What the peer asks of the node is for the node; the stream is closed.
                    Exchange::Asked { .. } | Exchange::AnswerDone { .. } => {}
                },
                SwarmEvent::ConnectionClosed {
                    connection_id, cause, ..
                } if connection_id == connection => {
                    return Err(cause.map_or_else(|| "closed".to_owned(), |cause| chain(&cause)));
                }
                _ => {}
            }
        }
    }

    async fn wait_for_end(&mut self, connection: ConnectionId) {
        loop {
            if let SwarmEvent::ConnectionClosed { connection_id, .. } = self.swarm.select_next_some().await
                && connection_id == connection
            {
                return;
            }
        }
    }
}

fn not_connected(error: &DialError) -> StageError {
    match error {
        DialError::WrongPeerId { obtained, .. } => StageError::OtherNode(PeerId::to_base58(*obtained)),
        DialError::LocalPeerId { .. } => StageError::OwnIdentity,
        DialError::Transport(_)
        | DialError::Denied { .. }
        | DialError::NoAddresses
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted => StageError::NoConnection(crate::driver::dial_error(error)),
    }
}
