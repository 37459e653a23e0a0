//! A connection of HTTP/3 (RFC 9114) that carries DNS (RFC 8484): a task per request, all owned by the connection.
//!
//! As over HTTP/2: a request is answered when its reply is due, one that is not to be answered stays open, and the
//! connection says GOAWAY before it closes, unless the close is an abrupt one.

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use h3_quinn::BidiStream;
use http::{Method, Request, StatusCode};
use quinn::Connection;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::clock;
use crate::fake::Shared;
use crate::fake::doh::request::{MESSAGE_BYTES_MAX, checked, in_head};
use crate::fake::doh::{head_of_fault, head_of_message, head_of_status};
use crate::fake::hostile::{DRIP, Page, page};
use crate::fake::reply::reply;
use crate::fake::stats::add;
use crate::fault::{Closing, FAULTY_REPLY_AFTER, Hostile};
use crate::random::{Random, mix};

/// Header bytes of one request; a DoH client's are a few hundred.
const HEADER_BYTES_MAX: u64 = 16_384;

type Stream = RequestStream<BidiStream<Bytes>, Bytes>;
type Resolver = RequestResolver<h3_quinn::Connection, Bytes>;

/// Answers until the client or a limit ends it; `closings` is how many there were when it was accepted.
pub(super) async fn serve(connection: Connection, mut closings: u64, mut shared: Shared) {
    shared.conduct.mark_changed();
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEADER_BYTES_MAX).send_grease(false);
    let Ok(mut http) = builder.build::<_, Bytes>(h3_quinn::Connection::new(connection)).await else {
        return;
    };
    let mut requests = JoinSet::new();
    let mut count = 0_u64;
    let mut is_closing = false;
    let mut active_at = clock::now();
    loop {
        let idle = shared.limits.idle.filter(|_| requests.is_empty() && !is_closing);
        let idle_at = idle.and_then(|idle| active_at.checked_add(idle));
        let closes = tokio::select! {
            biased;
            // Cancel-safe: a change not yet seen stays unseen. A fake that is gone ends its connections by the token.
            Ok(()) = shared.conduct.changed() => {
                let conduct = *shared.conduct.borrow_and_update();
                if conduct.closings == closings {
                    continue;
                }
                closings = conduct.closings;
                match conduct.closing {
                    Closing::Polite => true,
                    Closing::Abrupt => return,
                }
            }
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = requests.join_next() => {
                active_at = clock::now();
                false
            }
            // Cancel-safe: what has come stays in the connection until it is taken.
            request = http.accept() => {
                // None: all that was begun before the goodbye is answered.
                let Ok(Some(request)) = request else {
                    return;
                };
                active_at = clock::now();
                count += 1;
                let random = Random::new(mix(shared.seed ^ count));
                requests.spawn(answer(request, shared.clone(), random));
                shared.limits.queries_max.is_some_and(|max| count >= max)
            }
            // Cancel-safe: the idle time is computed anew each turn.
            () = sleep_until(idle_at.unwrap_or_else(clock::now)), if idle_at.is_some() => {
                add(&shared.counters.closed_idle, 1);
                return;
            }
        };
        if closes && !is_closing {
            is_closing = true;
            if http.shutdown(0).await.is_err() {
                return;
            }
        }
        if is_closing && requests.is_empty() {
            return;
        }
    }
}

/// Carries out one request.
async fn answer(request: Resolver, shared: Shared, mut random: Random) {
    let Ok((request, mut stream)) = request.resolve_request().await else {
        return add(&shared.counters.dropped, 1);
    };
    let authority = request.uri().authority().map(|authority| authority.as_str().into());
    shared.counters.authority.send_replace(authority);
    let message = match read_message(&request, &mut stream).await {
        Ok(message) => message,
        Err(status) => {
            add(&shared.counters.dropped, 1);
            return send(&mut stream, status, None).await;
        }
    };
    shared.counters.query(&message);
    add(&shared.counters.gets, usize::from(request.method() == Method::GET));
    let now = clock::now();
    let fault = shared.fault(now);
    if let Some(head) = head_of_fault(fault) {
        sleep_until(now + FAULTY_REPLY_AFTER).await;
        add(&shared.counters.answered, 1);
        if stream.send_response(head).await.is_ok() {
            stream.finish().await.ok();
        }
        return;
    }
    if let Some(page) = page(fault) {
        sleep_until(now + FAULTY_REPLY_AFTER).await;
        add(&shared.counters.answered, 1);
        return send_page(&mut stream, page).await;
    }
    let delayed = reply(
        &message,
        shared.transport,
        fault,
        shared.law,
        shared.manners,
        &mut random,
    );
    let Some(delayed) = delayed else {
        return withhold(stream, &shared).await;
    };
    sleep_until(now + delayed.after).await;
    let fault = shared.fault(clock::now());
    if fault.loses_stream_reply(&mut random) {
        return withhold(stream, &shared).await;
    }
    add(&shared.counters.answered, 1);
    if fault.is_hostile(Hostile::ResetStreams) {
        return stream.stop_stream(Code::H3_INTERNAL_ERROR);
    }
    if fault.is_hostile(Hostile::Drip) {
        return drip(&mut stream, delayed.bytes).await;
    }
    send(&mut stream, StatusCode::OK, Some(delayed.bytes)).await;
}

/// Reads the message of a GET or a POST.
async fn read_message(request: &Request<()>, stream: &mut Stream) -> Result<Vec<u8>, StatusCode> {
    if let Some(message) = in_head(request)? {
        return checked(message);
    }
    let mut message = Vec::new();
    // A client that is gone does not read this status.
    while let Some(mut part) = stream.recv_data().await.or(Err(StatusCode::BAD_REQUEST))? {
        if message.len() + part.remaining() > MESSAGE_BYTES_MAX {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let bytes = part.copy_to_bytes(part.remaining());
        message.extend_from_slice(&bytes);
    }
    checked(message)
}

/// A response. One that the client no longer wants is nobody's loss.
async fn send(stream: &mut Stream, status: StatusCode, message: Option<Vec<u8>>) {
    let head = message
        .as_deref()
        .map_or_else(|| Some(head_of_status(status)), head_of_message);
    let Some(head) = head else { return };
    if stream.send_response(head).await.is_err() {
        return;
    }
    if let Some(message) = message
        && stream.send_data(message.into()).await.is_err()
    {
        return;
    }
    stream.finish().await.ok();
}

/// A response whose body comes a byte at a time.
async fn drip(stream: &mut Stream, message: Vec<u8>) {
    let Some(head) = head_of_message(&message) else { return };
    if stream.send_response(head).await.is_err() {
        return;
    }
    for byte in message {
        sleep(DRIP).await;
        if stream.send_data(Bytes::copy_from_slice(&[byte])).await.is_err() {
            return;
        }
    }
    stream.finish().await.ok();
}

/// What stands in the place of a message, for as long as the client takes it.
async fn send_page(stream: &mut Stream, page: Page) {
    if stream.send_response(page.head).await.is_err() {
        return;
    }
    loop {
        if stream.send_data(page.body.clone()).await.is_err() {
            return;
        }
        if !page.is_endless {
            break;
        }
    }
    stream.finish().await.ok();
}

/// Keeps the request open until the client gives it up or the connection ends.
async fn withhold(mut stream: Stream, shared: &Shared) {
    add(&shared.counters.dropped, 1);
    // Whichever way it ends, it is over; a body that goes on is nobody's.
    while let Ok(Some(_)) = stream.recv_data().await {}
    let mut conduct = shared.conduct.clone();
    let resets = conduct.borrow_and_update().resets;
    conduct.wait_for(|conduct| conduct.resets != resets).await.ok();
    stream.stop_stream(Code::H3_REQUEST_CANCELLED);
}
