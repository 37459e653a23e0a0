//! The swarm: QUIC and nothing else, bounded everywhere, and what stands on it.
//!
//! Order matters: limits deny a connection before anybody else hears of it, then the gate decides, then hello.

use std::io;
use std::time::Duration;

use detour_core::report::ClusterKey;
use detour_wire::{hello, sync};
use either::Either;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::{self, NetworkBehaviour, THandlerOutEvent};
use libp2p::{Swarm, SwarmBuilder};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::frames::Frames;
use crate::gate::{Gate, Guarded};
use crate::gossip::{self, Gossip};
use crate::identity::Identity;
use crate::pinned::Pinned;

/// The protocol of hello, on every connection.
pub(crate) const HELLO_PROTOCOL: &str = "/detour/hello/1";
/// The protocol of pull and push, on connections of admitted nodes.
pub(crate) const SYNC_PROTOCOL: &str = "/detour/sync/1";

/// A quiet connection says something this often, so that a dead one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A connection on which nothing came for so long is dead, milliseconds.
const IDLE_MS: u32 = 6_000;
/// From the first packet to proven keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes that a peer may have under way on one stream, and on one connection: the library's 10 and 15 MB would let fifty
/// hostile peers hold 750 MB.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// Streams that a peer may have open on one connection. Nothing below has a lower limit: streams beyond it would be
/// dropped, which gives them back at once, and the peer opens the next ones; those that are taken and kept waiting hold
/// it back.
const STREAMS: u32 = 64;
/// libp2p closes a connection that nobody uses after this long; whether one is used is ours to say, so it is long.
const UNUSED: Duration = Duration::from_secs(600);
/// Requests by us under way on one connection.
const SYNC_ASKING_MAX: usize = 8;
const HELLO_ASKING_MAX: usize = 1;
/// Requests of the peer, of which there may be as many as streams, and by us.
const SYNC_STREAMS: usize = STREAMS as usize + SYNC_ASKING_MAX;
const HELLO_STREAMS: usize = STREAMS as usize + HELLO_ASKING_MAX;
/// A request without an answer for this long has none.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What an admitted node gets besides hello.
#[derive(NetworkBehaviour)]
pub(crate) struct Behind {
    pub(crate) sync: Pinned,
    pub(crate) gossip: Gossip,
}

impl Guarded for Behind {
    fn is_gossip(event: &THandlerOutEvent<Self>) -> bool {
        matches!(event, Either::Right(_))
    }
}

/// Everything on a connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Mesh {
    limits: connection_limits::Behaviour,
    pub(crate) gate: Gate<Behind>,
    pub(crate) hello: Pinned,
}

/// Why there is no swarm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwarmError {
    /// The parameters contradict each other: a mistake of this build.
    #[error("gossip cannot be set up")]
    Gossip(#[from] gossip::GossipError),
    /// The key cannot be used for QUIC.
    #[error("QUIC cannot be set up")]
    Quic(#[source] io::Error),
}

/// A swarm on the caller's runtime; `panicked` is cancelled when one of its tasks panics.
///
/// # Errors
/// When a part cannot be set up.
pub(crate) fn build(
    identity: &Identity,
    cluster: ClusterKey,
    panicked: CancellationToken,
) -> Result<Swarm<Mesh>, SwarmError> {
    let behaviour = behaviour(cluster)?;
    let executor = Executor::new(Handle::current(), panicked);
    let built = SwarmBuilder::with_existing_identity(identity.keypair().clone())
        .with_tokio()
        .with_quic_config(quic)
        .with_behaviour(|_key| behaviour)
        .map_err(|error| SwarmError::Quic(io::Error::other(error)))?;
    let configured = built.with_swarm_config(|_default| {
        swarm::Config::with_executor(executor)
            .with_idle_connection_timeout(UNUSED)
            .with_per_connection_event_buffer_size(16)
            .with_max_negotiating_inbound_streams(STREAMS as usize)
    });
    Ok(configured.with_connection_timeout(HANDSHAKE).build())
}

pub(crate) fn quic(mut config: libp2p::quic::Config) -> libp2p::quic::Config {
    config.keep_alive_interval = KEEP_ALIVE;
    config.max_idle_timeout = IDLE_MS;
    config.handshake_timeout = HANDSHAKE;
    config.max_stream_data = STREAM_WINDOW;
    config.max_connection_data = CONNECTION_WINDOW;
    config.max_concurrent_stream_limit = STREAMS;
    config
}

fn behaviour(cluster: ClusterKey) -> Result<Mesh, SwarmError> {
    let limits = ConnectionLimits::default()
        // Anybody can take one of these for the time of a handshake, under any address: few would keep members out.
        .with_max_pending_incoming(Some(256))
        .with_max_pending_outgoing(Some(32))
        .with_max_established_incoming(Some(96))
        .with_max_established_outgoing(Some(48))
        // How many a peer may have is the core's decision; this is where it cannot be made any more.
        .with_max_established_per_peer(Some(8));
    let behind = Behind {
        sync: sync_protocol(),
        gossip: gossip::new(cluster)?,
    };
    Ok(Mesh {
        limits: connection_limits::Behaviour::new(limits),
        gate: Gate::new(behind),
        hello: hello_protocol(),
    })
}

/// Hello, for a swarm of its own too.
pub(crate) fn hello_protocol() -> Pinned {
    let frames = Frames {
        request_max: hello::HELLO_MAX,
        answer_max: hello::HELLO_MAX,
    };
    Pinned::new(HELLO_PROTOCOL, frames, ANSWER_TIME, HELLO_STREAMS, HELLO_ASKING_MAX)
}

/// Pull and push.
pub(crate) fn sync_protocol() -> Pinned {
    let frames = Frames {
        request_max: sync::REQUEST_MAX,
        answer_max: sync::ANSWER_MAX,
    };
    Pinned::new(SYNC_PROTOCOL, frames, ANSWER_TIME, SYNC_STREAMS, SYNC_ASKING_MAX)
}
