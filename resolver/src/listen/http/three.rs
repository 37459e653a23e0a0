//! HTTP/3 (RFC 9114), through h3 on a connection of quinn's.
//!
//! One task a connection, in which all its requests wait. h3 sets no bound to what it keeps of a frame that is not whole,
//! on whatever stream; so the octets that come without a request becoming whole are bounded here, and those of the client's
//! own streams in `crate::bounded`, which also lets a stream be stopped whose body is waited for.

use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream, builder};
use http::StatusCode;
use quinn::{Connection, VarInt};
use tokio::time::{sleep, timeout};

use super::{BODY, HEADER_BYTES, Wanted, Whole, read_head, refusal, whole};
use crate::bounded::{self, Bounded};
use crate::forwarder::Shared;
use crate::listen::accept::HANDSHAKE;
use crate::listen::backlog::Backlog;
use crate::listen::doors::Guest;
use crate::listen::gathered::Gathered;
use crate::listen::job::{Answered, ask};
use crate::listen::overseer::{FAREWELL, Order, Overseer, WRITE};
use crate::listen::quic::{RESETS_MAX, STREAMS, linger};
use crate::metrics::{Cut, Handshake};
use crate::wire::Via;

/// Octets that a connection may send without a request becoming whole: four of the longest messages.
const UNFINISHED_BYTES: u64 = 256 * 1024;
/// RFC 9114 section 8.1.
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

type H3 = h3::server::Connection<Bounded, Bytes>;
type Resolver = RequestResolver<Bounded, Bytes>;
type Stream = RequestStream<bounded::Stream<h3_quinn::BidiStream<Bytes>>, Bytes>;

/// What a connection has to do.
enum Step {
    Ordered(Order),
    /// The connection is gone, or broken.
    Gone,
    /// It ends because of this.
    Cut(Cut),
    /// Everything that was asked has been answered.
    Done,
}

/// Serves a connection until its client is done, idle, or breaks the rules.
pub(in crate::listen) async fn serve(shared: &Arc<Shared>, connection: Connection, guest: &Arc<Guest>) {
    let Some(mut h3) = begin(shared, &connection).await else {
        return;
    };
    let backlog = Arc::new(Backlog::new(connection.remote_address().ip()));
    let mut waiting = FuturesUnordered::new();
    let mut overseer = Overseer::new(shared, Via::H3, guest);
    let (mut requests, mut resets, mut is_accepting) = (0_u64, 0_u64, true);
    let mut finished_at_bytes = 0;
    let full = usize::try_from(STREAMS).unwrap_or(usize::MAX);
    loop {
        let step = poll_fn(|cx| {
            let mut is_finished = false;
            loop {
                while let Poll::Ready(Some(end)) = waiting.poll_next_unpin(cx) {
                    match end {
                        End::Answered => is_finished = true,
                        End::Reset => resets += 1,
                        End::NoRoom => return Poll::Ready(Step::Cut(Cut::Slow)),
                    }
                }
                if (resets > RESETS_MAX && resets > requests / 2) || backlog.holds_too_much() {
                    return Poll::Ready(Step::Cut(Cut::Flood));
                }
                if !is_accepting && waiting.is_empty() {
                    return Poll::Ready(Step::Done);
                }
                if waiting.len() >= full || !backlog.reads_on() {
                    break;
                }
                // It keeps nothing of its own: what it was waiting for wakes the next one.
                let accepted = pin!(h3.accept()).poll(cx);
                match accepted {
                    Poll::Ready(Ok(Some(resolver))) => {
                        overseer.note_query(&shared.moment());
                        requests += 1;
                        // A client may have moved since its last request.
                        let client = connection.remote_address().ip();
                        waiting.push(answer(shared, client, &backlog, resolver));
                    }
                    Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Step::Gone),
                    Poll::Pending => break,
                }
            }
            let bytes = connection.stats().udp_rx.bytes;
            if is_finished {
                finished_at_bytes = bytes;
            } else if bytes.saturating_sub(finished_at_bytes) > UNFINISHED_BYTES {
                return Poll::Ready(Step::Cut(Cut::Flood));
            }
            overseer.poll(cx, !waiting.is_empty()).map(Step::Ordered)
        });
        match step.await {
            Step::Ordered(Order::Drain | Order::Idle) => {
                is_accepting = false;
                // A client that does not hear it notices the end.
                drop(timeout(FAREWELL, h3.shutdown(0)).await);
            }
            Step::Done => break sleep(linger(&connection)).await,
            Step::Gone | Step::Ordered(Order::Slow | Order::End) => break,
            Step::Cut(why) => {
                shared.metrics.streams(Via::H3).count_cut(why);
                break connection.close(EXCESSIVE_LOAD, b"");
            }
        }
    }
    // With h3 the connection ends, and says that nothing is wrong unless it has said otherwise.
}

/// Opens the streams of our own; `None` if that came to nothing, which is counted.
async fn begin(shared: &Shared, connection: &Connection) -> Option<H3> {
    let mut builder = builder();
    builder
        .max_field_section_size(u64::from(HEADER_BYTES))
        .send_grease(false);
    let building = builder.build::<_, Bytes>(Bounded::new(connection.clone()));
    let counters = shared.metrics.streams(Via::H3);
    match timeout(HANDSHAKE, building).await {
        Ok(Ok(h3)) => Some(h3),
        Ok(Err(_broken)) => {
            counters.count_cut(Cut::Protocol);
            None
        }
        Err(_elapsed) => {
            counters.count_handshake(Handshake::Timeout);
            None
        }
    }
}

/// How a request ended.
enum End {
    /// With an answer, or a client that no longer wants it.
    Answered,
    /// Its client gave it up before it was whole.
    Reset,
    /// There is no room for the answer: the client does not take what it asks for.
    NoRoom,
}

/// One request and its answer. It keeps its place until the reply is there even if its client no longer wants it: resolving
/// goes on too.
async fn answer(shared: &Arc<Shared>, client: IpAddr, backlog: &Arc<Backlog>, resolver: Resolver) -> End {
    let Ok(Ok((request, mut stream))) = timeout(BODY, resolver.resolve_request()).await else {
        return End::Reset;
    };
    let wanted = read_head(&request, &shared.generation().doh_path);
    // A few bytes can stand for hundreds of headers.
    drop(request);
    let answered = match wanted {
        Ok(Wanted::Message(message)) => Ok(ask(shared, &message, client, Via::H3)),
        Ok(Wanted::Body) => match timeout(BODY, read_body(&mut stream, backlog)).await {
            Ok(Some(body)) => body.map(|body| ask(shared, body.kept(), client, Via::H3)),
            Ok(None) => return End::Reset,
            Err(_elapsed) => Err(StatusCode::REQUEST_TIMEOUT),
        },
        Err(status) => Err(status),
    };
    let answer = match answered {
        Ok(Answered::Now(reply)) => Ok(whole(reply)),
        Ok(Answered::Later(reply)) => reply
            .await
            .map(whole)
            .map_err(|_gone| StatusCode::INTERNAL_SERVER_ERROR),
        Ok(Answered::NoQuery) => Err(StatusCode::BAD_REQUEST),
        Err(status) => Err(status),
    };
    let answer = answer.unwrap_or_else(|status| {
        shared.metrics.count_http_error(Via::H3, status.as_u16());
        // What is still on its way is not looked at.
        stream.stop_sending(Code::H3_NO_ERROR);
        refusal(status)
    });
    let Some(_waits) = backlog.hold(answer.1.len(), &shared.backlogs) else {
        return End::NoRoom;
    };
    if timeout(WRITE, send(&mut stream, answer)).await.is_err() {
        shared.metrics.streams(Via::H3).count_cut(Cut::Slow);
        stream.stop_stream(Code::H3_EXCESSIVE_LOAD);
    }
    End::Answered
}

/// The body of a request, up to the longest message; `None` if the client gave it up.
async fn read_body(stream: &mut Stream, backlog: &Arc<Backlog>) -> Option<Result<Gathered, StatusCode>> {
    let mut body = Gathered::behind(0, backlog);
    while let Some(mut data) = stream.recv_data().await.ok()? {
        while data.has_remaining() {
            let chunk = data.chunk();
            let count = chunk.len();
            if !body.push(chunk) {
                return Some(Err(StatusCode::PAYLOAD_TOO_LARGE));
            }
            data.advance(count);
        }
    }
    Some(Ok(body))
}

/// Sends an answer; a client that no longer wants it is as good as one that has it.
async fn send(stream: &mut Stream, (head, body): Whole) {
    let sending = async {
        stream.send_response(head).await?;
        if !body.is_empty() {
            stream.send_data(body).await?;
        }
        stream.finish().await
    };
    if let Err(error) = sending.await {
        tracing::trace!(%error, "an HTTP/3 answer was not sent");
    }
}
