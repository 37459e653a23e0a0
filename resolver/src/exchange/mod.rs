//! Endpoints as the data plane sees them: give one an attempt, and who began it hears its outcome.
//!
//! An attempt goes on when nobody waits for it any more: its outcome still reaches health. So outcomes are sent
//! both to the lookup that began the attempt and to the control task, and there is no way to call one back.

mod addresses;
pub mod examine;
mod habits;
mod line;
mod pending;
mod quic;
mod race;
mod remote;
mod stream;
pub mod tls;
mod udp;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detour_core::health::{Begun, Purpose};
use detour_core::lookup::{Heard, Slot, Via};
use detour_core::outcome::{Failure, Signal};
use detour_core::{Clock, EndpointId, Time, Topology, Transport};

pub use self::addresses::{Addresses, NamedAt};
use self::habits::Habits;
use self::line::Line;
pub(crate) use self::quic::QuicSockets;
pub use self::remote::{Remote, RemoteTls};
use self::stream::{Dialer, StreamLine};
use self::udp::UdpLine;
use crate::ask::Ask;
use crate::readers::Readers;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::wire::Accepted;

/// How source ports are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourcePorts {
    /// One of up to 256 sockets at random, each used for 100 queries or 10 s.
    #[default]
    Pool,
    /// A fresh socket for each query.
    PerQuery,
}

/// Who began an attempt.
pub trait Listener: fmt::Debug + Send + Sync {
    /// Something came of it. Called with no lock held, by whoever found out: a socket's reader, or the caller of
    /// [`Exchanges::begin`] before that returns.
    fn hear(self: Arc<Self>, event: AttemptEvent, now: Time);

    /// Whether it needs to hear no more.
    fn is_over(&self) -> bool;
}

/// What comes back from an attempt.
#[derive(Debug)]
pub struct AttemptEvent {
    /// Which attempt of the lookup.
    pub slot: Slot,
    /// What happened.
    pub signal: Signal,
    /// The attempt, once its query was written.
    pub begun: Begun,
    /// The answer, if that is what happened.
    pub accepted: Option<Accepted>,
}

/// An attempt to be made.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Number, unique in this process.
    pub id: u64,
    /// Whom it is made for.
    pub purpose: Purpose,
    /// What to ask.
    pub ask: Arc<Ask>,
    /// Which attempt of its lookup.
    pub slot: Slot,
    /// Who waits; the outcome reaches health all the same.
    pub reply_to: Option<Arc<dyn Listener>>,
    /// Without EDNS.
    pub without_edns: bool,
    /// When it was asked for.
    pub made: Time,
    /// How it is made.
    pub via: Via,
}

/// One endpoint's transports.
#[derive(Debug)]
struct Speaker {
    line: Arc<Line>,
    /// Absent for an endpoint that is spoken to over connections only.
    udp: Option<Arc<UdpLine>>,
    /// Its own transport, or what UDP falls back to.
    stream: StreamLine,
}

/// All endpoints.
#[derive(Debug)]
pub struct Exchanges {
    speakers: Vec<Speaker>,
}

/// Connects to an endpoint and hangs up: what a query would find there.
///
/// # Errors
///
/// Why there is no connection; what has none, as plain DNS over UDP, is spoken to over TCP.
pub(crate) async fn try_connect(
    transport: Transport,
    remote: &Remote,
    clock: &dyn Clock,
    (tasks, quic): (&Tasks, &Arc<QuicSockets>),
) -> Result<(), Failure> {
    let token = tasks.token().child_token();
    let _hangs_up = token.clone().drop_guard();
    let dialer = Dialer::new(transport, remote, quic);
    dialer
        .dial(clock, tasks, token)
        .await
        .map(drop)
        .map_err(|refused| refused.failure)
}

/// What endpoints are spoken to with.
#[derive(Debug, Clone)]
pub struct ExchangeParts {
    /// Where outcomes go.
    pub reporter: Arc<Reporter>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where sockets live.
    pub tasks: Tasks,
    /// How source ports are chosen.
    pub source_ports: SourcePorts,
    /// Who reads datagrams.
    pub(crate) readers: Arc<Readers>,
    /// What QUIC is spoken over.
    pub(crate) quic: Arc<QuicSockets>,
}

impl Exchanges {
    /// Lines to all endpoints; nothing is opened before the first attempt.
    #[must_use]
    pub fn new(topology: &Topology, remotes: &[Remote], parts: &ExchangeParts) -> Self {
        let speakers = topology
            .endpoint_ids()
            .zip(&topology.endpoints)
            .zip(remotes)
            .map(|((id, endpoint), remote)| {
                let line = Arc::new(Line {
                    endpoint: id,
                    transport: endpoint.transport,
                    trusts_ad: endpoint.transport.is_encrypted()
                        && remote.tls.as_ref().is_some_and(|tls| tls.trust.is_authenticated()),
                    addresses: remote.addresses.clone(),
                    heard: AtomicU64::new(0),
                    no_edns_until: AtomicU64::new(0),
                    sockets: AtomicU64::new(1),
                    is_warm: AtomicBool::new(false),
                    habits: Habits::default(),
                    reporter: Arc::clone(&parts.reporter),
                    clock: Arc::clone(&parts.clock),
                    tasks: parts.tasks.clone(),
                });
                Speaker {
                    udp: (endpoint.transport == Transport::Udp).then(|| {
                        UdpLine::new(Arc::clone(&line), parts.source_ports, Arc::clone(&parts.readers)).into()
                    }),
                    stream: StreamLine::new(Arc::clone(&line), remote, &parts.quic),
                    line,
                }
            })
            .collect();
        Self { speakers }
    }

    /// Idle connections to these endpoints are kept up while clients ask, those to others are not.
    pub(crate) fn keep_warm(&self, warm: [Option<EndpointId>; 2]) {
        for speaker in &self.speakers {
            let is_warm = warm.contains(&Some(speaker.line.endpoint));
            speaker.line.is_warm.store(is_warm, Ordering::Relaxed);
            if is_warm {
                speaker.stream.warm_up();
            }
        }
    }

    /// Attempts from here on are made on new sockets and connections.
    pub(crate) fn renew(&self, endpoint: EndpointId) {
        if let Some(speaker) = self.speakers.get(usize::from(endpoint.0)) {
            if let Some(udp) = &speaker.udp {
                udp.renew();
            }
            speaker.stream.renew();
        }
    }

    /// How an endpoint takes what goes beyond plain DNS, in a word each: `no-edns`, `cookies`, `no-0x20`.
    pub(crate) fn habits(&self, endpoint: EndpointId, now: Time) -> Vec<&'static str> {
        let speaker = self.speakers.get(usize::from(endpoint.0));
        speaker.map_or_else(Vec::new, |speaker| speaker.line.habit_words(now))
    }

    /// Makes an attempt. Its outcome, failure to begin included, is told to `attempt.reply_to`.
    pub fn begin(&self, endpoint: EndpointId, attempt: Attempt) {
        let Some(speaker) = self.speakers.get(usize::from(endpoint.0)) else {
            return;
        };
        match (&speaker.udp, attempt.via) {
            (Some(udp), Via::Own | Via::NoEdns) => udp.begin(attempt),
            (None, Via::Own | Via::NoEdns | Via::Stream) | (Some(_), Via::Stream) => speaker.stream.begin(attempt),
        }
    }

    /// Makes an attempt on a socket or connection of its own: a probe must not fail for an old one's fault.
    pub fn begin_fresh(&self, endpoint: EndpointId, attempt: Attempt) {
        let Some(speaker) = self.speakers.get(usize::from(endpoint.0)) else {
            return;
        };
        match &speaker.udp {
            Some(udp) => udp.begin_fresh(attempt),
            None => speaker.stream.begin_fresh(attempt),
        }
    }
}

impl Heard for Exchanges {
    fn last_heard(&self, endpoint: EndpointId) -> Time {
        let heard = self
            .speakers
            .get(usize::from(endpoint.0))
            .map_or(0, |speaker| speaker.line.heard.load(Ordering::Relaxed));
        Time::from_micros(heard)
    }

    fn connect_us(&self, endpoint: EndpointId) -> u64 {
        let speaker = self.speakers.get(usize::from(endpoint.0));
        let connects = speaker.filter(|speaker| speaker.udp.is_none());
        connects.map_or(0, |speaker| speaker.stream.connect_us())
    }
}
