//! Hello: what is said on every connection first, and how no is said.
//!
//! A refusal to an unknown node tells the address it is seen under, so that the other side can show the line that is
//! missing here; the port it knows itself.

use std::net::IpAddr;

use detour_core::mesh::{ClockSample, ConnectionId, Hello, Refusal};
use detour_core::time::Time;
use detour_wire::{Refused, hello};
use libp2p::request_response::{OutboundFailure, OutboundRequestId};

use super::Driver;
use super::exchanges::{Protocol, Request};
use super::links::Link;

impl Driver {
    /// Says hello on this connection.
    pub(crate) fn say_hello(&mut self, connection: ConnectionId, hello: Hello, now: Time) {
        let hello = self.complete(hello);
        let Some(link) = self.links.get(connection).copied() else {
            return;
        };
        let asked = match hello::encode_request(&hello) {
            Ok(bytes) => {
                self.around.metrics.sent(bytes.len());
                self.swarm.behaviour_mut().hello.ask(link.swarm, bytes)
            }
            Err(error) => {
                tracing::error!(%error, "a hello has no bytes");
                None
            }
        };
        // Without one the core's deadline for hellos closes the connection.
        if let Some(id) = asked {
            self.hellos.insert(id, (connection, now));
        }
    }

    /// Clock and port are not the core's to know.
    fn complete(&self, hello: Hello) -> Hello {
        Hello {
            wall_ms: (self.config.wall_ms)(),
            port: self.listeners.port(),
            ..hello
        }
    }

    pub(crate) fn hello_asked(&mut self, request: Request, now: Time) {
        let Some(link) = self.links.of_swarm(request.connection).copied() else {
            return;
        };
        let refused = match hello::decode_request(&request.bytes) {
            Ok(theirs) => {
                if let Some(remote) = link.remote {
                    self.notes.named_port(link.node, remote.ip(), theirs.port, now);
                }
                match self.cluster.handle_hello(link.id, &theirs, None, now) {
                    Ok(ours) => Err(self.complete(ours)),
                    Err(refusal) => Ok(refusal),
                }
            }
            Err(error) => {
                tracing::debug!(peer = %link.peer, %error, "not a hello");
                Ok(error.refusal())
            }
        };
        let (answer, result) = match refused {
            Err(ours) => (hello::Answer::Hello(ours), "ok"),
            Ok(refusal) => (
                hello::Answer::Refused(Refused::new(refusal, &seen_as(&link))),
                refusal.word(),
            ),
        };
        self.around.metrics.answered("hello", result);
        match hello::encode_answer(&answer) {
            Ok(bytes) => self.answer(Protocol::Hello, request.channel, bytes),
            Err(error) => tracing::error!(%error, "an answer has no bytes"),
        }
    }

    pub(crate) fn hello_answered(&mut self, id: OutboundRequestId, answer: &[u8], now: Time) {
        let Some((connection, sent)) = self.hellos.remove(&id) else {
            return;
        };
        let Some(link) = self.links.get(connection).copied() else {
            return;
        };
        let metrics = &self.around.metrics;
        match hello::decode_answer(answer) {
            Ok(hello::Answer::Hello(theirs)) => {
                let sample = ClockSample {
                    sent,
                    received: now,
                    wall_ms: theirs.wall_ms,
                };
                match self.cluster.handle_hello(connection, &theirs, Some(sample), now) {
                    Ok(_said_already) => {
                        metrics.asked("hello", "ok");
                        self.notes.works(link.node);
                    }
                    Err(refusal) => {
                        metrics.asked("hello", "not-taken");
                        self.notes
                            .failed(link.node, &format!("its hello was not taken: {}", refusal.word()), now);
                    }
                }
            }
            Ok(hello::Answer::Refused(Refused { refusal, text })) => {
                metrics.asked("hello", "refused");
                self.notes.seen_as(link.node, text.parse::<IpAddr>().ok(), now);
                let error = format!("it turned this node away: {}", explain(refusal));
                self.notes.failed(link.node, &error, now);
                self.cluster.handle_refused(connection, refusal, now);
            }
            Err(error) => {
                metrics.asked("hello", "unreadable");
                let error = format!("its hello cannot be read: {error}");
                self.notes.failed(link.node, &error, now);
            }
        }
    }

    pub(crate) fn hello_unanswered(&mut self, id: OutboundRequestId, why: &OutboundFailure, now: Time) {
        let Some((connection, _sent)) = self.hellos.remove(&id) else {
            return;
        };
        self.around.metrics.asked("hello", "failed");
        if let Some(link) = self.links.get(connection).copied() {
            let error = format!("it did not answer a hello: {why}");
            self.notes.failed(link.node, &error, now);
        }
    }
}

/// How this node sees the other end, for its operator.
fn seen_as(link: &Link) -> String {
    link.remote
        .map_or_else(String::new, |remote| remote.ip().to_canonical().to_string())
}

/// What a refusal means to who was refused.
#[must_use]
pub fn explain(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownNode => "this node is not in its list of peers",
        Refusal::OtherCluster => "its cluster has another name",
        Refusal::NoCommonVersion => "it speaks no version of the protocol that this node speaks",
        Refusal::NoHello => "it was asked before it took a hello",
        Refusal::OwnKey => "it has the same identity as this node: an identity belongs to one node alone",
        Refusal::TooMuch => "it was asked too much at once",
        Refusal::Unsupported => "it does not know this kind of message",
        Refusal::Malformed => "it could not read what this node said",
        Refusal::Other => "for a reason that this version does not know",
    }
}
