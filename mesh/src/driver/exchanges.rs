//! What hello and sync have in common: how an answer goes out, at once or late.
//!
//! Who asks more than it may gets its answer a second later. Its streams stay taken meanwhile, of which QUIC gives it
//! few, so it cannot ask faster than it is answered.

use std::collections::VecDeque;

use detour_core::mesh::Refusal;
use detour_core::time::{SEC, Time};
use detour_wire::Refused;
use libp2p::request_response::InboundRequestId;
use libp2p::swarm::ConnectionId as SwarmId;

use super::Driver;
use crate::pinned::{AnswerChannel, Exchange};

/// How late an answer is to who asks too much.
const LATE_US: u64 = SEC;
/// Answers that wait; of more, streams are closed without one.
const LATE_MAX: usize = 256;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Hello,
    Sync,
}

/// A request of a peer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) protocol: Protocol,
    pub(crate) connection: SwarmId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) channel: AnswerChannel,
}

/// Answers that go out later, in order.
#[derive(Debug, Default)]
pub(crate) struct LateAnswers {
    waiting: VecDeque<(Time, Protocol, AnswerChannel, Vec<u8>)>,
}

impl LateAnswers {
    pub(crate) fn next(&self) -> Option<Time> {
        self.waiting.front().map(|(at, ..)| *at)
    }
}

impl Driver {
    /// Something happened on a connection.
    pub(crate) fn apply_exchange(&mut self, protocol: Protocol, exchange: Exchange, now: Time) {
        match exchange {
            Exchange::Asked {
                connection,
                request: bytes,
                channel,
                ..
            } => {
                self.around.metrics.received(bytes.len());
                let request = Request {
                    protocol,
                    connection,
                    bytes,
                    channel,
                };
                if self.links.may_ask(connection, now) {
                    match protocol {
                        Protocol::Hello => self.hello_asked(request, now),
                        Protocol::Sync => self.sync_asked(request, now),
                    }
                } else {
                    self.refuse_too_much(request, now);
                }
            }
            Exchange::Answered { id, answer, .. } => {
                self.around.metrics.received(answer.len());
                match protocol {
                    Protocol::Hello => self.hello_answered(id, &answer, now),
                    Protocol::Sync => self.sync_answered(id, &answer, now),
                }
            }
            Exchange::Unanswered { id, why, .. } => match protocol {
                Protocol::Hello => self.hello_unanswered(id, &why, now),
                Protocol::Sync => self.sync_unanswered(id, &why, now),
            },
            Exchange::AnswerDone { id, failed, .. } => answer_done(protocol, id, failed.as_ref()),
        }
    }

    fn refuse_too_much(&mut self, request: Request, now: Time) {
        self.around.metrics.answered(request.protocol.word(), "too-much");
        if let Ok(bytes) = Refused::new(Refusal::TooMuch, "").encode() {
            self.answer_late(request.protocol, request.channel, bytes, now);
        }
    }

    pub(crate) fn answer(&mut self, protocol: Protocol, channel: AnswerChannel, bytes: Vec<u8>) {
        self.around.metrics.sent(bytes.len());
        let behaviour = self.swarm.behaviour_mut();
        let answered = match protocol {
            Protocol::Hello => behaviour.hello.answer(channel, bytes),
            Protocol::Sync => behaviour.gate.inner().sync.answer(channel, bytes),
        };
        if !answered {
            tracing::debug!(?protocol, "nobody waits for the answer");
        }
    }

    /// As [`Self::answer`], a second later; dropped if too many wait, which closes the stream.
    pub(crate) fn answer_late(&mut self, protocol: Protocol, channel: AnswerChannel, bytes: Vec<u8>, now: Time) {
        let waiting = &mut self.late_answers.waiting;
        if waiting.len() < LATE_MAX {
            waiting.push_back((now.plus(LATE_US), protocol, channel, bytes));
        }
    }

    pub(crate) fn send_late_answers(&mut self, now: Time) {
        while self.late_answers.next().is_some_and(|at| at <= now) {
            if let Some((_at, protocol, channel, bytes)) = self.late_answers.waiting.pop_front() {
                self.answer(protocol, channel, bytes);
            }
        }
    }
}

impl Protocol {
    /// For requests that were not looked at.
    fn word(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Sync => "sync",
        }
    }
}

fn answer_done(protocol: Protocol, id: InboundRequestId, failed: Option<&libp2p::request_response::InboundFailure>) {
    match failed {
        None => tracing::trace!(?protocol, %id, "answered"),
        Some(error) => tracing::debug!(?protocol, %id, %error, "not answered"),
    }
}
