//! A peer that misbehaves, to see what it does to a node: `hostile MODE STATE_DIRECTORY CLUSTER ADDRESS`.
//!
//! It has an identity in STATE_DIRECTORY (made if there is none; its peer id is printed), which the node at ADDRESS must
//! have in its `mesh.peers`. MODE is
//! * `stall`: takes requests and never answers, opens as many streams as it gets and never finishes what it says;
//! * `flood`: pushes new snapshots of its own, well signed, as fast as they are taken;
//! * `forge`: the same with wrong signatures;
//! * `garbage`: sends random bytes on every protocol, gossip included.
//!
//! Runs until it is killed, and dials again whenever it is thrown out. Figures go to stderr once a second.

use std::error::Error;
use std::future;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use detour_core::mesh::{Hello, Passed, VERSIONS};
use detour_core::report::{BootId, ClusterKey, Edition, SiteKey, Snapshot};
use detour_mesh::{Identity, PeerAddress};
use detour_wire::sync::{PUSHED_MAX, Push, Request};
use detour_wire::{hello, keys, snapshot};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::request_response::{
    Behaviour as Exchanges, Codec, Config, Event as Exchange, Message, ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};

/// Requests under way; QUIC lets a peer have 64 streams.
const AT_ONCE: usize = 60;
/// Between dials.
const PAUSE: Duration = Duration::from_millis(300);
/// Streams that are held are told apart by their only byte.
const HELD: &[u8] = b"\0held";

type Failure = Box<dyn Error>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Stall,
    Flood,
    Forge,
    Garbage,
}

/// Whatever it is told to send; nothing of what it reads matters but a hello.
#[derive(Clone, Default)]
struct Bytes;

impl Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await?;
        if request == HELD {
            io.flush().await?;
            future::pending::<()>().await;
        }
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&answer).await
    }
}

async fn read<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(1 << 20).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[derive(NetworkBehaviour)]
struct Spoken {
    hello: Exchanges<Bytes>,
    sync: Exchanges<Bytes>,
    gossip: gossipsub::Behaviour,
}

struct Hostile {
    mode: Mode,
    identity: Identity,
    cluster: ClusterKey,
    peer: PeerId,
    address: Multiaddr,
    topic: IdentTopic,
    swarm: Swarm<Spoken>,
    /// The node's clock as its hello said it; what is signed must not look old.
    wall_ms: u64,
    sequence: u32,
    under_way: usize,
    held: Vec<ResponseChannel<Vec<u8>>>,
    sent: u64,
    answered: u64,
    failed: u64,
    dials: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, directory, cluster, address] = arguments.as_slice() else {
        return Err("hostile stall|flood|forge|garbage STATE_DIRECTORY CLUSTER ADDRESS".into());
    };
    let mode = match mode.as_str() {
        "stall" => Mode::Stall,
        "flood" => Mode::Flood,
        "forge" => Mode::Forge,
        "garbage" => Mode::Garbage,
        other => return Err(format!("no such mode: {other}").into()),
    };
    let (identity, _is_new) = Identity::load_or_create(Path::new(directory))?;
    writeln!(io::stderr(), "peer id {}", identity.peer_id())?;
    let mut hostile = Hostile::new(mode, identity, cluster, address.parse()?)?;
    hostile.run().await
}

impl Hostile {
    fn new(mode: Mode, identity: Identity, cluster: &str, address: PeerAddress) -> Result<Self, Failure> {
        let cluster = keys::cluster(cluster);
        let hex: String = cluster.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let topic = IdentTopic::new(format!("detour/{hex}/snap/1"));
        let exchanges = |name| {
            let config = Config::default()
                .with_request_timeout(Duration::from_secs(600))
                .with_max_concurrent_streams(2 * AT_ONCE);
            Exchanges::new([(StreamProtocol::new(name), ProtocolSupport::Full)], config)
        };
        let gossip = gossipsub::ConfigBuilder::default()
            .protocol_id_prefix("/detour/gossip")
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message| gossipsub::MessageId::new(&keys::message_id(&message.data)))
            .build()?;
        let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip)?;
        gossip.subscribe(&topic)?;
        let spoken = Spoken {
            hello: exchanges("/detour/hello/1"),
            sync: exchanges("/detour/sync/1"),
            gossip,
        };
        let swarm = SwarmBuilder::with_existing_identity(identity.keypair().clone())
            .with_tokio()
            .with_quic()
            .with_behaviour(|_key| spoken)?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        let whole = address.to_string();
        let peer = whole.rsplit('/').next().unwrap_or_default().parse()?;
        Ok(Self {
            mode,
            identity,
            cluster,
            peer,
            address: whole.parse()?,
            topic,
            swarm,
            wall_ms: 0,
            sequence: 0,
            under_way: 0,
            held: Vec::new(),
            sent: 0,
            answered: 0,
            failed: 0,
            dials: 0,
        })
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut dial = tokio::time::interval(PAUSE);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.take(event)?,
                _ = dial.tick() => if !self.swarm.is_connected(&self.peer) { self.dial(); },
                _ = second.tick() => {
                    self.wall_ms = self.wall_ms.saturating_add(1_000);
                    let Self { dials, sent, answered, failed, .. } = self;
                    writeln!(io::stderr(), "dials {dials} sent {sent} answered {answered} failed {failed}")?;
                }
            }
            self.misbehave()?;
        }
    }

    fn dial(&mut self) {
        let dial = DialOpts::peer_id(self.peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(vec![self.address.clone()])
            .allocate_new_port()
            .build();
        if self.swarm.dial(dial).is_ok() {
            self.dials = self.dials.saturating_add(1);
        }
    }

    fn take(&mut self, event: SwarmEvent<SpokenEvent>) -> Result<(), Failure> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
        match event {
            SwarmEvent::ConnectionEstablished { .. } => {
                let bytes = self.hello()?;
                self.swarm.behaviour_mut().hello.send_request(&self.peer, bytes);
            }
            SwarmEvent::Behaviour(SpokenEvent::Hello(Exchange::Message {
                message: Message::Response { response, .. },
                ..
            })) => {
                if let Ok(hello::Answer::Hello(theirs)) = hello::decode_answer(&response) {
                    self.wall_ms = self.wall_ms.max(theirs.wall_ms);
                }
            }
            SwarmEvent::Behaviour(SpokenEvent::Sync(Exchange::Message { message, .. })) => match message {
                // Never answered; a few are held so that their streams stay open.
                Message::Request { channel, .. } => {
                    if self.held.len() < 1_000 {
                        self.held.push(channel);
                    }
                }
                Message::Response { .. } => {
                    self.under_way = self.under_way.saturating_sub(1);
                    self.answered = self.answered.saturating_add(1);
                }
            },
            SwarmEvent::Behaviour(SpokenEvent::Sync(Exchange::OutboundFailure { .. })) => {
                self.under_way = self.under_way.saturating_sub(1);
                self.failed = self.failed.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn misbehave(&mut self) -> Result<(), Failure> {
        if self.wall_ms == 0 || !self.swarm.is_connected(&self.peer) {
            return Ok(());
        }
        while self.under_way < AT_ONCE {
            let bytes = match self.mode {
                Mode::Stall => HELD.to_vec(),
                Mode::Flood => self.push(false)?,
                Mode::Forge => self.push(true)?,
                Mode::Garbage => garbage(),
            };
            self.under_way = self.under_way.saturating_add(1);
            self.sent = self.sent.saturating_add(1);
            self.swarm.behaviour_mut().sync.send_request(&self.peer, bytes);
            if self.mode == Mode::Garbage {
                let behaviour = self.swarm.behaviour_mut();
                behaviour.hello.send_request(&self.peer, garbage());
                // Nobody may have subscribed, or the queue is full: there is more.
                drop(behaviour.gossip.publish(self.topic.hash(), garbage()));
            }
        }
        Ok(())
    }

    fn hello(&self) -> Result<Vec<u8>, Failure> {
        let hello = Hello {
            cluster: self.cluster,
            versions: VERSIONS,
            boot: BootId(1),
            wall_ms: self.wall_ms,
            site: SiteKey([0; 4]),
            port: 0,
            software: "hostile".to_owned(),
            yours: None,
        };
        Ok(hello::encode_request(&hello)?)
    }

    fn push(&mut self, is_forged: bool) -> Result<Vec<u8>, Failure> {
        let mut snapshots = Vec::new();
        for _ in 0..PUSHED_MAX {
            self.sequence = self.sequence.wrapping_add(1);
            let said = Snapshot {
                node: self.identity.node(),
                boot: BootId(1),
                edition: Edition {
                    incarnation: self.wall_ms & 0xffff_ffff_ffff,
                    sequence: self.sequence,
                },
                issued_wall_ms: self.wall_ms,
                period_s: 10,
                site: SiteKey([0; 4]),
                uplink_suspect: false,
                leaving: false,
                entries: Vec::new(),
            };
            let signed = snapshot::signed_part(&said, self.cluster)?;
            let signature = if is_forged {
                [1; 64]
            } else {
                self.identity.sign(&signed)
            };
            let bytes = snapshot::seal(signed, signature).into();
            snapshots.push(Passed { bytes, age_ms: 0 });
        }
        let wall_ms = self.wall_ms;
        Ok(Request::Push(Push { wall_ms, snapshots }).encode()?)
    }
}

/// Up to a kibibyte of chance.
fn garbage() -> Vec<u8> {
    let length = usize::from(rand::random::<u16>() & 0x3ff);
    (0..length).map(|_| rand::random()).collect()
}
