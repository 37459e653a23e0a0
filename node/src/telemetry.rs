//! Logs: one subscriber, to standard error, as text or JSON. Its level can be changed while the node runs.
//!
//! No query name and no client address at info or above; a black-box test holds this.

use std::io;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

use crate::config::{Log, LogFormat};

/// Crates of the mesh that tell at info and debug what only their authors read.
const TALKATIVE: [&str; 8] = [
    "libp2p",
    "libp2p_core",
    "libp2p_gossipsub",
    "libp2p_quic",
    "libp2p_swarm",
    "multistream_select",
    "quinn",
    "quinn_proto",
];

/// The level of what is logged.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// From here on everything from this level up is logged.
    pub(crate) fn set(&self, level: Level) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::warn!(%error, "the level of logs stays as it is");
        }
    }
}

/// Everything from this level up; of the talkative, what is wrong, unless everything is wanted.
fn filter(level: Level) -> Targets {
    let level = LevelFilter::from_level(level);
    let theirs = if level == LevelFilter::TRACE {
        level
    } else {
        level.min(LevelFilter::WARN)
    };
    let talkative = TALKATIVE.map(|target| (target, theirs));
    Targets::new().with_default(level).with_targets(talkative)
}

/// Installs the subscriber; a second call changes nothing.
pub(crate) fn install(log: &Log) -> LogLevel {
    let (filter, level) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    // An error means that one is installed, which is what was wanted.
    let result = match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    drop(result);
    LogLevel(level)
}
