//! Queries out and answers in, over datagrams or a connection: several at once, each answer with its time.

use std::time::Duration;

use detour_core::outcome::Failure;
use detour_core::{Clock, Time};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::exchange::line::failure_of;
use crate::exchange::stream::dial::Dialled;
use crate::exchange::stream::link::Arrival;
use crate::wire::MESSAGE_BYTES_MAX;

/// A query as it is sent.
#[derive(Debug)]
pub(super) struct Query {
    /// Which one on this way.
    pub(super) key: u16,
    /// The message's id: the key too, but where the way itself tells which answer is whose.
    pub(super) id: u16,
    pub(super) message: Vec<u8>,
    /// Its question: name, type, class.
    pub(super) question: Vec<u8>,
    pub(super) with_edns: bool,
}

/// What came for a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// A message with its id.
    Message(Vec<u8>),
    /// Nothing more will come.
    Failed(Failure),
    /// Messages with other ids, and no other ones.
    Strange,
    /// Nothing.
    Nothing,
}

/// The same, and how long after the query was written.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) came: Came,
    pub(super) after_us: u64,
}

/// How one endpoint is reached.
pub(super) enum Way {
    /// A socket that is connected to it.
    Datagrams(UdpSocket),
    /// A connection.
    Connection {
        dialled: Box<Dialled>,
        /// Its tasks end with this.
        _end: DropGuard,
    },
}

/// What comes for some queries, until there is something for each.
struct Replies<'q> {
    queries: &'q [Query],
    replies: Vec<Option<Reply>>,
    sent: Time,
    is_strange: bool,
}

impl Way {
    /// Over a connection whose tasks `token` ends.
    pub(super) fn over(dialled: Dialled, token: CancellationToken) -> Self {
        Self::Connection {
            dialled: Box::new(dialled),
            _end: token.drop_guard(),
        }
    }

    /// Whether the way itself tells which query an answer is for.
    pub(super) fn has_streams(&self) -> bool {
        match self {
            Self::Datagrams(_) => false,
            Self::Connection { dialled, .. } => dialled.link.has_streams(),
        }
    }

    /// Writes all queries, and waits for all answers; the replies are in the order of the queries.
    pub(super) async fn ask(&mut self, queries: &[Query], patience: Duration, clock: &dyn Clock) -> Vec<Reply> {
        let mut replies = Replies {
            queries,
            replies: queries.iter().map(|_| None).collect(),
            sent: clock.now(),
            is_strange: false,
        };
        match self {
            Self::Datagrams(socket) => {
                // A datagram can be lost: it is sent a second time.
                for _ in 0..2 {
                    let turn = ask_datagrams(socket, &mut replies, clock);
                    if timeout(patience / 2, turn).await.is_ok() {
                        break;
                    }
                }
            }
            Self::Connection { dialled, .. } => {
                // Late: what is there by then counts.
                drop(timeout(patience, ask_connection(dialled, &mut replies, clock)).await);
            }
        }
        let now = clock.now();
        let rest = if replies.is_strange {
            Came::Strange
        } else {
            Came::Nothing
        };
        let after_us = now.since(replies.sent);
        let all = replies.replies.into_iter();
        all.map(|reply| {
            reply.unwrap_or_else(|| Reply {
                came: rest.clone(),
                after_us,
            })
        })
        .collect()
    }
}

async fn ask_datagrams(socket: &UdpSocket, replies: &mut Replies<'_>, clock: &dyn Clock) {
    for query in replies.unanswered() {
        if let Err(error) = socket.send(&query.message).await
            && let Some(failure) = failure_of(&error)
        {
            return replies.fail(failure, clock.now());
        }
    }
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    while replies.is_waiting() {
        match socket.recv(&mut buffer).await {
            Ok(size) => replies.take(None, buffer.get(..size).unwrap_or_default().to_vec(), clock.now()),
            Err(error) => {
                if let Some(failure) = failure_of(&error) {
                    return replies.fail(failure, clock.now());
                }
            }
        }
    }
}

async fn ask_connection(dialled: &mut Dialled, replies: &mut Replies<'_>, clock: &dyn Clock) {
    for query in replies.queries {
        if dialled.link.send(query.key, query.message.clone()).await.is_err() {
            return replies.fail(Failure::Reset, clock.now());
        }
    }
    while replies.is_waiting() {
        let arrival = dialled.arrivals.recv().await.unwrap_or(Arrival::Closed);
        let now = clock.now();
        match arrival {
            Arrival::Message { key, bytes, age_s: _ } => replies.take(key, bytes, now),
            Arrival::Failed { key, failure } => replies.put(key, Came::Failed(failure), now),
            Arrival::Unprocessed { key } | Arrival::Declined { key } => {
                replies.put(key, Came::Failed(Failure::Reset), now);
            }
            // What is in flight may still be answered.
            Arrival::Draining | Arrival::Alive => {}
            Arrival::Closed => return replies.fail(Failure::Reset, now),
        }
    }
}

impl<'q> Replies<'q> {
    fn is_waiting(&self) -> bool {
        self.replies.iter().any(Option::is_none)
    }

    /// The queries that nothing came for.
    fn unanswered(&self) -> Vec<&'q Query> {
        let all = self.queries.iter().zip(&self.replies);
        all.filter(|(_, reply)| reply.is_none())
            .map(|(query, _)| query)
            .collect()
    }

    /// A message came, for the query with this key where that is known.
    fn take(&mut self, key: Option<u16>, message: Vec<u8>, now: Time) {
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        match key.or(id) {
            Some(key) if self.queries.iter().any(|query| query.key == key) => {
                self.put(key, Came::Message(message), now)
            }
            Some(_) | None => self.is_strange = true,
        }
    }

    /// The first one counts.
    fn put(&mut self, key: u16, came: Came, now: Time) {
        let after_us = now.since(self.sent);
        for (query, reply) in self.queries.iter().zip(&mut self.replies) {
            if query.key == key {
                reply.get_or_insert_with(|| Reply {
                    came: came.clone(),
                    after_us,
                });
            }
        }
    }

    /// Nothing more will come for any of them.
    fn fail(&mut self, failure: Failure, now: Time) {
        for query in self.unanswered() {
            self.put(query.key, Came::Failed(failure), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::testing::Still;

    fn queries(keys: &[u16]) -> Vec<Query> {
        let query = |key: &u16| Query {
            key: *key,
            id: *key,
            message: [&key.to_be_bytes()[..], b"?"].concat(),
            question: Vec::new(),
            with_edns: true,
        };
        keys.iter().map(query).collect()
    }

    /// A way to a server of the test's own, and that server.
    async fn pair() -> (Way, UdpSocket) {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(server.local_addr().unwrap()).await.unwrap();
        (Way::Datagrams(client), server)
    }

    async fn hear(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let (size, peer) = server.recv_from(&mut buffer).await.unwrap();
        (buffer[..size].to_vec(), peer)
    }

    fn came(replies: Vec<Reply>) -> Vec<Came> {
        replies.into_iter().map(|reply| reply.came).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn answers_find_their_queries_in_any_order() {
        let (mut way, server) = pair().await;
        let (queries, clock) = (queries(&[7, 8]), Still);
        let answer = async {
            hear(&server).await;
            let (_, peer) = hear(&server).await;
            for reply in [&b"\0\x08b"[..], b"\0\x08again", b"\0\x07a"] {
                server.send_to(reply, peer).await.unwrap();
            }
        };
        let (replies, ()) = tokio::join!(way.ask(&queries, PATIENCE, &clock), answer);
        let expected = [&b"\0\x07a"[..], b"\0\x08b"].map(|bytes| Came::Message(bytes.to_vec()));
        assert_eq!(came(replies), expected);
    }

    #[tokio::test]
    async fn a_lost_datagram_is_sent_again_and_only_that() {
        let (mut way, server) = pair().await;
        let (queries, clock) = (queries(&[7, 8]), Still);
        let answer = async {
            let (first, peer) = hear(&server).await;
            server.send_to(&first, peer).await.unwrap();
            assert_eq!(hear(&server).await.0, b"\0\x08?");
            let (again, peer) = hear(&server).await;
            assert_eq!(again, b"\0\x08?");
            server.send_to(&again, peer).await.unwrap();
        };
        let (replies, ()) = tokio::join!(way.ask(&queries, Duration::from_millis(400), &clock), answer);
        let expected = queries.iter().map(|query| Came::Message(query.message.clone()));
        assert_eq!(came(replies), expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn other_ids_silence_and_closed_ports_are_told_apart() {
        let (queries, clock) = (queries(&[7]), Still);
        let little = Duration::from_millis(100);
        let (mut way, server) = pair().await;
        let answer = async {
            let (_, peer) = hear(&server).await;
            server.send_to(b"\0\x09?", peer).await.unwrap();
        };
        let (replies, ()) = tokio::join!(way.ask(&queries, little, &clock), answer);
        assert_eq!(came(replies), [Came::Strange]);
        let (mut way, server) = pair().await;
        assert_eq!(came(way.ask(&queries, little, &clock).await), [Came::Nothing]);
        // What was sent meanwhile is thrown away with it.
        drop(server);
        assert_eq!(
            came(way.ask(&queries, PATIENCE, &clock).await),
            [Came::Failed(Failure::Unreachable)]
        );
    }
}
