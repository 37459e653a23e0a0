//! One endpoint as its transports see it: how queries to it are written, and where outcomes go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detour_core::control::CLIENTS_WITHIN_US;
use detour_core::health::{Begun, Finish};
use detour_core::lookup::Via;
use detour_core::outcome::{Failure, Signal};
use detour_core::time::SEC;
use detour_core::{Clock, EndpointId, Time, Transport};
use nix::errno::Errno;

use super::addresses::Addresses;
use super::habits::{Defences, Habits};
use super::{Attempt, AttemptEvent};
use crate::ask::Ask;
use crate::report::{Report, Reporter};
use crate::tasks::Tasks;
use crate::wire::edns::UDP_BYTES_MAX;
use crate::wire::{Accepted, EdnsOut, QueryOut, build_query, classify};

/// How long an endpoint that failed with EDNS and answered without is asked without (RFC 6891 section 6.2.2).
const NO_EDNS_US: u64 = 600 * SEC;

/// What every line shares: where outcomes go.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whose outcomes these are.
    pub(crate) endpoint: EndpointId,
    /// How it is spoken to.
    pub(super) transport: Transport,
    /// Whether its AD counts: nobody on the path can set it, and it is known whose it is.
    pub(super) trusts_ad: bool,
    /// Where packets go.
    pub(crate) addresses: Addresses,
    /// Begin of the newest attempt it has answered, or when it last sent something that is no answer.
    pub(super) heard: AtomicU64,
    /// Until when it is asked without EDNS.
    pub(super) no_edns_until: AtomicU64,
    /// Numbers of its sockets and connections.
    pub(super) sockets: AtomicU64,
    /// Whether an idle connection is worth keeping up: it is one of the best.
    pub(super) is_warm: AtomicBool,
    /// How it takes what our datagrams carry against forgers.
    pub(super) habits: Habits,
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

    /// Whether an idle connection is kept up: it is one of the best, and clients ask.
    pub(super) fn is_kept_warm(&self) -> bool {
        let asked = self.clock.now().since(self.reporter.last_client()) < CLIENTS_WITHIN_US;
        asked && self.is_warm.load(Ordering::Relaxed)
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

    /// In a word each, how it takes what goes beyond plain DNS.
    pub(super) fn habit_words(&self, now: Time) -> Vec<&'static str> {
        let has_edns = now.as_micros() >= self.no_edns_until.load(Ordering::Relaxed);
        let edns = (!has_edns).then_some("no-edns");
        edns.into_iter().chain(self.habits.words(now)).collect()
    }

    /// Writes the query and says where its question is, and whether it has EDNS; a cookie needs that.
    pub(super) fn write_query(
        &self,
        attempt: &Attempt,
        id: u16,
        defences: &Defences,
        out: &mut Vec<u8>,
    ) -> (std::ops::Range<usize>, bool) {
        let with_edns = !attempt.without_edns && !self.lacks_edns(&attempt.ask, attempt.made);
        let question = build_query(
            out,
            &QueryOut {
                id,
                name: &attempt.ask.name,
                qtype: attempt.ask.qtype,
                qclass: attempt.ask.qclass,
                // Where it counts for nothing it is not asked for.
                ad: self.trusts_ad,
                cd: attempt.ask.cd,
                case_bits: defences.case_bits,
                edns: with_edns.then_some(EdnsOut {
                    udp_size: UDP_BYTES_MAX,
                    do_bit: attempt.ask.do_bit,
                    // Of an encrypted query the length is all that shows (RFC 8467 section 4.1).
                    is_padded: self.transport.is_encrypted(),
                    cookie: defences.cookie,
                    asks_keepalive: is_framed(self.transport, attempt.via),
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
        self.tell(attempt, begun, Signal::Answered(reply), Some(accepted), now);
    }

    /// Nothing more will come: tells health and the lookup.
    pub(crate) fn failed(&self, attempt: &Attempt, begun: Begun, failure: Failure) {
        let now = self.clock.now();
        let finish = Finish::Failed(failure);
        self.report(attempt, Report::Finished(self.endpoint, begun, finish, now));
        self.tell(attempt, begun, Signal::Failed(failure), None, now);
    }

    /// A stream carried a truncated answer. Beside UDP that is the endpoint's failure, too: its datagrams send everybody to
    /// where there is nothing.
    pub(super) fn cut_short(&self, attempt: &Attempt, begun: Begun) {
        let now = self.clock.now();
        self.reporter.send(Report::Garbage(self.endpoint));
        if self.is_beside_udp(attempt) {
            let finish = Finish::Failed(Failure::Garbage);
            self.reporter.send(Report::Begun(self.endpoint, begun));
            self.reporter.send(Report::Finished(self.endpoint, begun, finish, now));
        }
        self.failed(attempt, begun, Failure::Garbage);
    }

    /// Given up without a judgement.
    pub(crate) fn abandoned(&self, attempt: &Attempt, begun: Begun) {
        let now = self.clock.now();
        self.report(attempt, Report::Finished(self.endpoint, begun, Finish::Abandoned, now));
    }

    /// Tells the lookup, which goes on at once: no lock may be held.
    pub(crate) fn tell(&self, attempt: &Attempt, begun: Begun, signal: Signal, accepted: Option<Accepted>, now: Time) {
        let event = AttemptEvent {
            slot: attempt.slot,
            signal,
            begun,
            accepted,
        };
        if let Some(listener) = &attempt.reply_to {
            Arc::clone(listener).hear(event, now);
        }
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

/// Whether messages travel in frames of a TCP connection of their own, whose idle limit DNS can tell (RFC 7828).
fn is_framed(transport: Transport, via: Via) -> bool {
    match (transport, via) {
        (Transport::Tcp | Transport::Tls, _) | (Transport::Udp, Via::Stream) => true,
        // DNS over QUIC forbids it (RFC 9250 section 5.5.2), and HTTP has means of its own.
        (Transport::Udp | Transport::Https | Transport::Quic | Transport::H3, _) => false,
    }
}

/// What a socket error says; `None` for a full buffer, which is a lost datagram like any other.
pub(super) fn failure_of(error: &io::Error) -> Option<Failure> {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) {
        // A kernel without IPv6.
        Some(Failure::NoRoute)
    } else if matches!(kind, Kind::WouldBlock | Kind::Interrupted) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalive_is_asked_for_on_streams_of_our_own_framing_and_nowhere_else() {
        for (transport, via, asked) in [
            (Transport::Udp, Via::Own, false),
            (Transport::Udp, Via::NoEdns, false),
            (Transport::Udp, Via::Stream, true),
            (Transport::Tcp, Via::Own, true),
            (Transport::Tls, Via::Own, true),
            (Transport::Https, Via::Own, false),
            (Transport::Quic, Via::Own, false),
            (Transport::H3, Via::Own, false),
        ] {
            assert_eq!(is_framed(transport, via), asked, "{transport:?} {via:?}");
        }
    }
}
