//! Request and response on a connection of our choice.
//!
//! libp2p's request-response takes any connection of a peer. Here it matters which: a hello is about one connection, and
//! a ghost that a crashed process left behind must not swallow every second push. So the library is told that each
//! connection is a peer of its own; towards the swarm the true peers stand again.
//!
//! Never dials: what has no connection is not sent. Requests under way on one connection are bounded.

use std::collections::HashMap;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multihash::Multihash;
use libp2p::request_response::{
    Behaviour, Config, Event, InboundFailure, InboundRequestId, Message, OutboundFailure, OutboundRequestId,
    ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::frames::Frames;

/// Where an answer goes.
pub(crate) type AnswerChannel = ResponseChannel<Vec<u8>>;

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The peer asks something. Who drops the channel answers by closing the stream.
    Asked {
        connection: ConnectionId,
        request: Vec<u8>,
        channel: AnswerChannel,
    },
    /// The answer to our request.
    Answered { id: OutboundRequestId, answer: Vec<u8> },
    /// Our request came to nothing.
    Unanswered {
        id: OutboundRequestId,
        why: OutboundFailure,
    },
    /// Our answer is on its way, or cannot be given.
    AnswerDone {
        id: InboundRequestId,
        failed: Option<InboundFailure>,
    },
}

/// A connection as this behaviour knows it.
#[derive(Debug)]
struct Line {
    peer: PeerId,
    asking: usize,
}

/// One protocol, connection by connection.
pub(crate) struct Pinned {
    inner: Behaviour<Frames>,
    lines: HashMap<ConnectionId, Line>,
    asking_max: usize,
}

impl Pinned {
    /// `streams` requests at once per connection from the peer and by us together, `asking_max` of them by us.
    pub(crate) fn new(
        protocol: &'static str,
        frames: Frames,
        timeout: Duration,
        streams: usize,
        asking_max: usize,
    ) -> Self {
        let config = Config::default()
            .with_request_timeout(timeout)
            .with_max_concurrent_streams(streams);
        let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
        Self {
            inner: Behaviour::with_codec(frames, protocols, config),
            lines: HashMap::new(),
            asking_max,
        }
    }

    /// Asks on this connection; `None` if it is gone, or busy with as many requests as it may have.
    pub(crate) fn ask(&mut self, connection: ConnectionId, request: Vec<u8>) -> Option<OutboundRequestId> {
        let max = self.asking_max;
        let line = self.lines.get_mut(&connection).filter(|line| line.asking < max)?;
        let peer = pseudonym(connection)?;
        if !self.inner.is_connected(&peer) {
            return None;
        }
        line.asking = line.asking.saturating_add(1);
        Some(self.inner.send_request(&peer, request))
    }

    /// Answers; `false` if nobody waits for it any more.
    pub(crate) fn answer(&mut self, channel: AnswerChannel, answer: Vec<u8>) -> bool {
        self.inner.send_response(channel, answer).is_ok()
    }

    fn enter(&mut self, connection: ConnectionId, peer: PeerId) -> Result<PeerId, ConnectionDenied> {
        let known_as = pseudonym(connection).ok_or_else(|| ConnectionDenied::new("a connection without a name"))?;
        self.lines.insert(connection, Line { peer, asking: 0 });
        Ok(known_as)
    }

    fn is_asked_no_more(&mut self, connection: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.asking = line.asking.saturating_sub(1);
        }
    }

    fn translate(&mut self, event: Event<Vec<u8>, Vec<u8>>) -> Option<Exchange> {
        match event {
            Event::Message {
                connection_id: connection,
                message,
                ..
            } => match message {
                Message::Request { request, channel, .. } => Some(Exchange::Asked {
                    connection,
                    request,
                    channel,
                }),
                Message::Response {
                    request_id: id,
                    response: answer,
                } => {
                    self.is_asked_no_more(connection);
                    Some(Exchange::Answered { id, answer })
                }
            },
            Event::OutboundFailure {
                connection_id: connection,
                request_id: id,
                error: why,
                ..
            } => {
                self.is_asked_no_more(connection);
                Some(Exchange::Unanswered { id, why })
            }
            Event::InboundFailure {
                request_id: id, error, ..
            } => Some(Exchange::AnswerDone {
                id,
                failed: Some(error),
            }),
            Event::ResponseSent { request_id: id, .. } => Some(Exchange::AnswerDone { id, failed: None }),
        }
    }
}

impl NetworkBehaviour for Pinned {
    type ConnectionHandler = THandler<Behaviour<Frames>>;
    type ToSwarm = Exchange;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let known_as = self.enter(connection, peer)?;
        self.inner
            .handle_established_inbound_connection(connection, known_as, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let known_as = self.enter(connection, peer)?;
        self.inner
            .handle_established_outbound_connection(connection, known_as, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // The only event that the library needs; the others are about dialling and addresses, which are not its business.
        if let FromSwarm::ConnectionClosed(closed) = event
            && self.lines.remove(&closed.connection_id).is_some()
            && let Some(peer_id) = pseudonym(closed.connection_id)
        {
            self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                remaining_established: 0,
                ..closed
            }));
        }
    }

    fn on_connection_handler_event(&mut self, _peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        if let Some(known_as) = pseudonym(connection).filter(|_| self.lines.contains_key(&connection)) {
            self.inner.on_connection_handler_event(known_as, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Exchange, THandlerInEvent<Self>>> {
        while let Poll::Ready(next) = self.inner.poll(cx) {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the library's list is open; all else would be dialling, which is not its business here"
            )]
            let translated = match next {
                ToSwarm::GenerateEvent(event) => self.translate(event).map(ToSwarm::GenerateEvent),
                ToSwarm::NotifyHandler { handler, event, .. } => {
                    let connection = match handler {
                        libp2p::swarm::NotifyHandler::One(connection) => Some(connection),
                        libp2p::swarm::NotifyHandler::Any => None,
                    };
                    let line = connection.and_then(|connection| self.lines.get(&connection));
                    line.map(|line| ToSwarm::NotifyHandler {
                        peer_id: line.peer,
                        handler,
                        event,
                    })
                }
                _ => None,
            };
            if let Some(translated) = translated {
                return Poll::Ready(translated);
            }
        }
        Poll::Pending
    }
}

/// What the library believes to be the peer at the other end of this connection.
fn pseudonym(connection: ConnectionId) -> Option<PeerId> {
    // Short keys stand in a peer id as they are; a number is shorter than any.
    let hash = Multihash::wrap(0, connection.to_string().as_bytes()).ok()?;
    PeerId::from_multihash(hash).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = [0, 1, 10, usize::MAX]
            .map(|number| pseudonym(ConnectionId::new_unchecked(number)).unwrap())
            .into();
        assert_eq!(names.len(), 4);
    }
}
