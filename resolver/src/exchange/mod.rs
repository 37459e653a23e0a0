//! Endpoints as the data plane sees them: give one an attempt, and its outcome comes back by a channel.
//!
//! An attempt goes on when nobody waits for it any more: its outcome still reaches health. So outcomes are sent
//! both to the lookup that began the attempt and to the control task, and there is no way to call one back.

mod pending;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use detour_core::health::{Begun, Finish, Purpose};
use detour_core::lookup::{Heard, Slot, Via};
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use detour_core::{Clock, EndpointId, Time, Topology, Transport};
use tokio::sync::mpsc;

use self::tcp::TcpLine;
use self::udp::UdpLine;
use crate::ask::Ask;
use crate::report::{Report, Reporter};
use crate::tasks::Tasks;
use crate::wire::edns::UDP_BYTES_MAX;
use crate::wire::{Accepted, EdnsOut, QueryOut, build_query, classify};

/// How long an endpoint that failed with EDNS and answered without is asked without (RFC 6891 section 6.2.2).
const NO_EDNS_US: u64 = 600 * SEC;

/// How source ports are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourcePorts {
    /// One of up to 256 sockets at random, each used for 100 queries or 10 s.
    #[default]
    Pool,
    /// A fresh socket for each query.
    PerQuery,
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
    /// Who waits. Full or gone: the outcome still reaches health.
    pub reply_to: mpsc::Sender<AttemptEvent>,
    /// Without EDNS.
    pub without_edns: bool,
    /// When it was asked for.
    pub made: Time,
    /// How it is made.
    pub via: Via,
}

/// What every line shares: where outcomes go.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whose outcomes these are.
    pub(crate) endpoint: EndpointId,
    /// How it is spoken to.
    transport: Transport,
    /// Where packets go.
    pub(crate) address: SocketAddr,
    /// Begin of the newest attempt it has answered, or when it last sent something that is no answer.
    heard: AtomicU64,
    /// Until when it is asked without EDNS.
    no_edns_until: AtomicU64,
    /// Numbers of its sockets and connections.
    sockets: AtomicU64,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
}

impl Line {
    /// A number for a new socket.
    pub(crate) fn next_socket(&self) -> u64 {
        self.sockets.fetch_add(1, Ordering::Relaxed)
    }

    /// Something came: an answer to an attempt begun then, or something else now.
    pub(crate) fn note_heard(&self, at: Time) {
        self.heard.fetch_max(at.as_micros(), Ordering::Relaxed);
    }

    /// Whether the endpoint is known not to speak EDNS; DO cannot be asked for without it.
    fn lacks_edns(&self, ask: &Ask, now: Time) -> bool {
        !ask.do_bit && now.as_micros() < self.no_edns_until.load(Ordering::Relaxed)
    }

    /// Tells health; but a stream beside UDP says nothing about the endpoint's datagrams, nor these about the stream.
    fn report(&self, attempt: &Attempt, report: Report) {
        if !self.is_beside_udp(attempt) {
            self.reporter.send(report);
        }
    }

    fn is_beside_udp(&self, attempt: &Attempt) -> bool {
        self.transport == Transport::Udp && attempt.via == Via::Stream
    }

    /// The query of an attempt was written.
    pub(crate) fn begun(&self, attempt: &Attempt, begun: Begun) {
        self.report(attempt, Report::Begun(self.endpoint, begun));
    }

    /// Writes the query and says where its question is; `case_bits` for 0x20.
    pub(crate) fn write_query(
        &self,
        attempt: &Attempt,
        id: u16,
        case_bits: Option<[u8; 32]>,
        out: &mut Vec<u8>,
    ) -> (std::ops::Range<usize>, bool) {
        let with_edns = !attempt.without_edns && !self.lacks_edns(&attempt.ask, self.clock.now());
        let question = build_query(
            out,
            &QueryOut {
                id,
                name: &attempt.ask.name,
                qtype: attempt.ask.qtype,
                qclass: attempt.ask.qclass,
                // The AD of an unencrypted answer counts for nothing, so it is not asked for.
                ad: false,
                cd: attempt.ask.cd,
                case_bits,
                edns: with_edns.then_some(EdnsOut {
                    udp_size: UDP_BYTES_MAX,
                    do_bit: attempt.ask.do_bit,
                }),
            },
        );
        (question, with_edns)
    }

    /// An answer was accepted: tells health and the lookup.
    pub(crate) fn answered(&self, attempt: &Attempt, begun: Begun, accepted: Accepted, edns_sent: bool, now: Time) {
        if !self.is_beside_udp(attempt) {
            self.note_heard(begun.at);
        }
        let reply = classify(&accepted, edns_sent);
        if attempt.without_edns && reply.is_good() {
            let until = now.plus(NO_EDNS_US).as_micros();
            self.no_edns_until.store(until, Ordering::Relaxed);
        }
        let latency_us = now.since(begun.at);
        let finish = Finish::Answered { reply, latency_us };
        self.report(attempt, Report::Finished(self.endpoint, begun, finish, now));
        self.tell(attempt, begun, Signal::Answered(reply), Some(accepted));
    }

    /// Nothing more will come: tells health and the lookup.
    pub(crate) fn failed(&self, attempt: &Attempt, begun: Begun, failure: Failure) {
        let now = self.clock.now();
        let finish = Finish::Failed(failure);
        self.report(attempt, Report::Finished(self.endpoint, begun, finish, now));
        self.tell(attempt, begun, Signal::Failed(failure), None);
    }

    /// Given up without a judgement.
    pub(crate) fn abandoned(&self, attempt: &Attempt, begun: Begun) {
        let now = self.clock.now();
        self.report(attempt, Report::Finished(self.endpoint, begun, Finish::Abandoned, now));
    }

    /// Tells the lookup, if it still listens.
    pub(crate) fn tell(&self, attempt: &Attempt, begun: Begun, signal: Signal, accepted: Option<Accepted>) {
        let event = AttemptEvent {
            slot: attempt.slot,
            signal,
            begun,
            accepted,
        };
        // A lookup that is over needs this no more; one that is not has room for all its attempts can send.
        drop(attempt.reply_to.try_send(event));
    }

    /// The attempt as it stands before anything was written.
    pub(crate) fn unwritten(&self, attempt: &Attempt) -> Begun {
        Begun {
            id: attempt.id,
            at: attempt.made,
            socket: self.next_socket(),
            purpose: attempt.purpose,
        }
    }
}

/// What a socket error says; `None` for a full buffer, which is a lost datagram like any other.
fn failure_of(error: &io::Error) -> Option<Failure> {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    if matches!(kind, Kind::WouldBlock | Kind::Interrupted) {
        None
    } else if matches!(
        kind,
        Kind::NetworkUnreachable | Kind::AddrNotAvailable | Kind::Unsupported
    ) {
        Some(Failure::NoRoute)
    } else if matches!(kind, Kind::ConnectionRefused | Kind::HostUnreachable) {
        Some(Failure::Unreachable)
    } else if matches!(kind, Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted) {
        Some(Failure::Reset)
    } else if kind == Kind::TimedOut {
        Some(Failure::ConnectTimeout)
    } else {
        Some(Failure::Local)
    }
}

/// One endpoint's transports.
#[derive(Debug)]
struct Speaker {
    line: Arc<Line>,
    /// Absent for an endpoint that is TCP only.
    udp: Option<UdpLine>,
    /// Its own transport, or what UDP falls back to.
    tcp: TcpLine,
}

/// All endpoints.
#[derive(Debug)]
pub struct Exchanges {
    speakers: Vec<Speaker>,
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
}

impl Exchanges {
    /// Lines to all endpoints; nothing is opened before the first attempt.
    #[must_use]
    pub fn new(topology: &Topology, addresses: &[SocketAddr], parts: &ExchangeParts) -> Self {
        let speakers = topology
            .endpoint_ids()
            .zip(&topology.endpoints)
            .zip(addresses)
            .map(|((id, endpoint), address)| {
                let line = Arc::new(Line {
                    endpoint: id,
                    transport: endpoint.transport,
                    address: *address,
                    heard: AtomicU64::new(0),
                    no_edns_until: AtomicU64::new(0),
                    sockets: AtomicU64::new(1),
                    reporter: Arc::clone(&parts.reporter),
                    clock: Arc::clone(&parts.clock),
                    tasks: parts.tasks.clone(),
                });
                Speaker {
                    udp: (endpoint.transport == Transport::Udp)
                        .then(|| UdpLine::new(Arc::clone(&line), parts.source_ports)),
                    tcp: TcpLine::new(Arc::clone(&line)),
                    line,
                }
            })
            .collect();
        Self { speakers }
    }

    /// Makes an attempt. Its outcome, failure to begin included, comes by `attempt.reply_to`.
    pub fn begin(&self, endpoint: EndpointId, attempt: Attempt) {
        let Some(speaker) = self.speakers.get(usize::from(endpoint.0)) else {
            return;
        };
        match (&speaker.udp, attempt.via) {
            (Some(udp), Via::Own | Via::NoEdns) => udp.begin(attempt),
            (None, Via::Own | Via::NoEdns | Via::Stream) | (Some(_), Via::Stream) => speaker.tcp.begin(attempt),
        }
    }

    /// Makes an attempt on a socket or connection of its own: a probe must not fail for an old one's fault.
    pub fn begin_fresh(&self, endpoint: EndpointId, attempt: Attempt) {
        let Some(speaker) = self.speakers.get(usize::from(endpoint.0)) else {
            return;
        };
        match &speaker.udp {
            Some(udp) => udp.begin_fresh(attempt),
            None => speaker.tcp.begin_fresh(attempt),
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
}
