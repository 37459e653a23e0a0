//! DNS over QUIC (RFC 9250): each query on a stream of its own, in any order.
//!
//! One task a connection, in which all its streams wait. What breaks the rules of section 4.3.3 ends the connection.

use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::time::{sleep, timeout};

use super::{RESETS_MAX, STREAMS, linger};
use crate::forwarder::Shared;
use crate::listen::backlog::Backlog;
use crate::listen::doors::Guest;
use crate::listen::gathered::{Gathered, KEPT_BYTES};
use crate::listen::job::{Answered, ask};
use crate::listen::overseer::{Order, Overseer, WRITE};
use crate::metrics::Cut;
use crate::wire::Via;

/// Time from the beginning of a stream to the end of its query.
const QUERY: Duration = Duration::from_secs(5);

/// Section 8.4.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a reply, or a client that no longer wants it.
    Good,
    /// Its client gave it up before the query was whole.
    Reset,
    /// What came breaks the rules.
    Fatal,
    /// There is no room for the reply: the client does not take what it asks for.
    NoRoom,
}

/// What a connection has to do.
enum Step {
    Ordered(Order),
    /// The connection is gone.
    Gone,
    /// It ends because of this.
    Cut(Cut),
    /// Everything that was asked has been answered.
    Done,
}

/// Serves a connection until its client is done, idle, or breaks the rules.
pub(in crate::listen) async fn serve(shared: &Arc<Shared>, connection: Connection, guest: &Arc<Guest>) {
    let backlog = Arc::new(Backlog::new(connection.remote_address().ip()));
    let mut waiting = FuturesUnordered::new();
    let mut accepting = pin!(connection.accept_bi());
    let mut overseer = Overseer::new(shared, Via::Quic, guest);
    let (mut queries, mut resets, mut is_accepting) = (0_u64, 0_u64, true);
    let full = usize::try_from(STREAMS).unwrap_or(usize::MAX);
    loop {
        let step = poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(end)) = waiting.poll_next_unpin(cx) {
                    match end {
                        End::Good => {}
                        End::Reset => resets += 1,
                        End::Fatal => return Poll::Ready(Step::Cut(Cut::Protocol)),
                        End::NoRoom => return Poll::Ready(Step::Cut(Cut::Slow)),
                    }
                }
                if (resets > RESETS_MAX && resets > queries / 2) || backlog.holds_too_much() {
                    return Poll::Ready(Step::Cut(Cut::Flood));
                }
                if !is_accepting && waiting.is_empty() {
                    return Poll::Ready(Step::Done);
                }
                // Without room the client's streams wait: it has credit for no more than these.
                if !is_accepting || waiting.len() >= full || !backlog.reads_on() {
                    break;
                }
                match accepting.as_mut().poll(cx) {
                    Poll::Ready(Ok((send, receive))) => {
                        accepting.set(connection.accept_bi());
                        overseer.note_query(&shared.moment());
                        queries += 1;
                        // A client may have moved since its last query.
                        let client = connection.remote_address().ip();
                        waiting.push(answer(shared, (client, &backlog), send, receive));
                    }
                    Poll::Ready(Err(_gone)) => return Poll::Ready(Step::Gone),
                    Poll::Pending => break,
                }
            }
            overseer.poll(cx, !waiting.is_empty()).map(Step::Ordered)
        });
        match step.await {
            Step::Ordered(Order::Drain | Order::Idle) => is_accepting = false,
            Step::Ordered(Order::Slow | Order::End) => break connection.close(NO_ERROR, b""),
            Step::Done => {
                sleep(linger(&connection)).await;
                break connection.close(NO_ERROR, b"");
            }
            Step::Gone => break,
            Step::Cut(why) => {
                shared.metrics.streams(Via::Quic).count_cut(why);
                let code = if why == Cut::Protocol {
                    PROTOCOL_ERROR
                } else {
                    EXCESSIVE_LOAD
                };
                break connection.close(code, b"");
            }
        }
    }
}

/// One query and its reply. It keeps its place until the reply is there even if its client no longer wants it: resolving
/// goes on too.
async fn answer(
    shared: &Arc<Shared>,
    (client, backlog): (IpAddr, &Arc<Backlog>),
    mut send: SendStream,
    mut receive: RecvStream,
) -> End {
    let query = match timeout(QUERY, read(&mut receive, backlog)).await {
        Ok(Ok(Some(query))) => query,
        // More than one message, or more than its length says.
        Ok(Ok(None)) => return End::Fatal,
        Ok(Err(_reset)) => return End::Reset,
        Err(_elapsed) => {
            // Of a connection that is gone nothing has to be ended.
            drop((receive.stop(EXCESSIVE_LOAD), send.reset(EXCESSIVE_LOAD)));
            return End::Reset;
        }
    };
    let Some(message) = message(query.kept(), query.bytes()) else {
        return End::Fatal;
    };
    let answered = ask(shared, message, client, Via::Quic);
    drop(query);
    let reply = match answered {
        Answered::Now(reply) => Some(reply),
        Answered::Later(reply) => reply.await.ok(),
        Answered::NoQuery => return End::Fatal,
    };
    let length = reply.as_ref().and_then(|reply| u16::try_from(reply.len()).ok());
    let (Some(reply), Some(length)) = (reply, length) else {
        drop(send.reset(INTERNAL_ERROR));
        return End::Good;
    };
    let mut framed = Vec::with_capacity(2 + reply.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&reply);
    let Some(_waits) = backlog.hold(framed.len(), &shared.backlogs) else {
        return End::NoRoom;
    };
    match timeout(WRITE, send.write_all(&framed)).await {
        Ok(Ok(())) => drop(send.finish()),
        Ok(Err(_unwanted)) => {}
        Err(_elapsed) => {
            shared.metrics.streams(Via::Quic).count_cut(Cut::Slow);
            drop(send.reset(EXCESSIVE_LOAD));
        }
    }
    End::Good
}

/// Reads a stream to its end; `None` if that does not come where it must.
async fn read(receive: &mut RecvStream, backlog: &Arc<Backlog>) -> Result<Option<Gathered>, ReadError> {
    let mut query = Gathered::behind(2, backlog);
    while let Some(chunk) = receive.read_chunk(KEPT_BYTES, true).await? {
        if !query.push(&chunk.bytes) {
            return Ok(None);
        }
    }
    Ok(Some(query))
}

/// The one message of a stream of so many bytes, as far as they are kept, with the id 0 that every message has here
/// (section 4.2.1).
fn message(kept: &[u8], bytes: usize) -> Option<&[u8]> {
    let (length, message) = kept.split_first_chunk::<2>()?;
    let is_sound = usize::from(u16::from_be_bytes(*length)) + 2 == bytes && message.starts_with(&[0, 0]);
    is_sound.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_holds_one_message_of_its_length_with_id_zero() {
        assert_eq!(message(&[0, 3, 0, 0, 7], 5), Some(&[0, 0, 7][..]));
        assert_eq!(
            message(&[1, 0, 0, 0, 7], 258),
            Some(&[0, 0, 7][..]),
            "the rest is not kept"
        );
        for wrong in [
            &[][..],
            &[0],
            &[0, 0],
            &[0, 3, 0, 0],
            &[0, 3, 0, 0, 7, 8],
            &[0, 3, 0, 1, 7],
            &[0, 3, 1, 0, 7],
        ] {
            assert_eq!(message(wrong, wrong.len()), None, "{wrong:?}");
        }
    }
}
