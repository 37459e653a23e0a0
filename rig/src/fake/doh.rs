//! A connection of HTTP/2 (RFC 9113) that carries DNS (RFC 8484): a task per request, all owned by the connection.
//!
//! A request is answered when its reply is due, in whatever order. One that is not to be answered stays open until the
//! client or the connection ends it: taking it back would be an answer. The connection says GOAWAY before it closes, and
//! what was asked before is answered, unless the close is an abrupt one.

use std::future::poll_fn;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::Shared;
use super::gate::Gate;
use super::hostile::{DRIP, Page, page};
use super::reply::reply;
use super::stats::add;
use crate::clock;
use crate::fault::{Closing, FAULTY_REPLY_AFTER, Fault, Hostile};
use crate::message::parse_reply;
use crate::random::{Random, mix};
use request::{MEDIA_TYPE, read_message};

pub(super) mod request;

/// Header bytes of one request; a DoH client's are a few hundred.
const HEADER_BYTES_MAX: u32 = 16_384;

/// Answers until the client or a limit ends it.
pub(super) async fn serve(stream: TlsStream<Gate>, mut shared: Shared) {
    let closings = shared.conduct.borrow_and_update().closings;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(shared.limits.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX);
    let Ok(http) = builder.handshake(stream).await else {
        return;
    };
    let mut server = Server {
        http,
        requests: JoinSet::new(),
        count: 0,
        closings,
        is_closing: false,
        active_at: clock::now(),
        shared,
    };
    while let Some(action) = server.select().await {
        server.apply(action);
    }
}

enum Action {
    Request(Box<(Request<RecvStream>, SendResponse<Bytes>)>),
    Answered,
    Switch,
    Idle,
}

struct Server {
    http: Connection<TlsStream<Gate>, Bytes>,
    requests: JoinSet<()>,
    /// Requests so far.
    count: u64,
    /// Closings before this connection was accepted.
    closings: u64,
    is_closing: bool,
    /// When a request last came or went.
    active_at: Instant,
    shared: Shared,
}

impl Server {
    /// `None` when the connection is closed.
    async fn select(&mut self) -> Option<Action> {
        let idle = self.shared.limits.idle;
        let idle = idle.filter(|_| self.requests.is_empty() && !self.is_closing);
        let idle_at = idle.and_then(|idle| self.active_at.checked_add(idle));
        let Self {
            http, requests, shared, ..
        } = self;
        tokio::select! {
            biased;
            // Cancel-safe: a change not yet seen stays unseen. A fake that is gone ends its connections by the token.
            Ok(()) = shared.conduct.changed() => Some(Action::Switch),
            // Cancel-safe: an ended task stays in the set until it is joined.
            Some(_) = requests.join_next() => Some(Action::Answered),
            // Cancel-safe: what has come stays in the connection until it is taken.
            request = http.accept() => request?.ok().map(|request| Action::Request(Box::new(request))),
            // Cancel-safe: the idle time is computed anew each turn.
            () = sleep_until(idle_at.unwrap_or_else(clock::now)), if idle_at.is_some() => Some(Action::Idle),
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Request(request) => {
                let (request, respond) = *request;
                self.active_at = clock::now();
                self.count += 1;
                let random = Random::new(mix(self.shared.seed ^ self.count));
                self.requests
                    .spawn(answer(request, respond, self.shared.clone(), random));
                if self.shared.limits.queries_max.is_some_and(|max| self.count >= max) {
                    self.close_politely();
                }
            }
            Action::Answered => self.active_at = clock::now(),
            Action::Idle => {
                add(&self.shared.counters.closed_idle, 1);
                self.close_politely();
            }
            Action::Switch => {
                let conduct = *self.shared.conduct.borrow_and_update();
                if conduct.closings == self.closings {
                    return;
                }
                self.closings = conduct.closings;
                match conduct.closing {
                    Closing::Polite => self.close_politely(),
                    // The requests end with the connection: taking them back one by one would be an answer.
                    Closing::Abrupt => self.http.abrupt_shutdown(Reason::NO_ERROR),
                }
            }
        }
    }

    fn close_politely(&mut self) {
        if !self.is_closing {
            self.is_closing = true;
            self.http.graceful_shutdown();
        }
    }
}

/// Carries out one request.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut shared: Shared,
    mut random: Random,
) {
    shared
        .counters
        .authority
        .send_replace(request.uri().authority().map(|authority| authority.as_str().into()));
    let is_get = request.method() == http::Method::GET;
    let message = match read_message(request).await {
        Ok(message) => message,
        Err(status) => {
            add(&shared.counters.dropped, 1);
            return send_status(&mut respond, status);
        }
    };
    shared.counters.query(&message);
    add(&shared.counters.gets, usize::from(is_get));
    let now = clock::now();
    let fault = shared.fault(now);
    if let Some(head) = head_of_fault(fault) {
        sleep_until(now + FAULTY_REPLY_AFTER).await;
        add(&shared.counters.answered, 1);
        respond.send_response(head, true).ok();
        return;
    }
    if let Some(page) = page(fault) {
        sleep_until(now + FAULTY_REPLY_AFTER).await;
        add(&shared.counters.answered, 1);
        send_page(&mut respond, page).await;
        return;
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
        return withhold(&mut respond, &mut shared).await;
    };
    sleep_until(now + delayed.after).await;
    let fault = shared.fault(clock::now());
    if fault.is_hostile(Hostile::ResetStreams) {
        add(&shared.counters.answered, 1);
        return respond.send_reset(Reason::INTERNAL_ERROR);
    }
    if fault.loses_stream_reply(&mut random) {
        return withhold(&mut respond, &mut shared).await;
    }
    let sent = if fault.is_hostile(Hostile::Drip) {
        drip_message(&mut respond, delayed.bytes).await
    } else {
        send_message(&mut respond, delayed.bytes)
    };
    if sent.is_some() {
        add(&shared.counters.answered, 1);
    } else {
        add(&shared.counters.dropped, 1);
    }
}

/// Keeps the request open until the client gives it up or the connection ends.
async fn withhold(respond: &mut SendResponse<Bytes>, shared: &mut Shared) {
    add(&shared.counters.dropped, 1);
    // Whichever way it ends, it is over.
    poll_fn(|context| respond.poll_reset(context)).await.ok();
}

/// A response with a DNS message, fresh for as long as its shortest record (RFC 8484 section 5.1). `None` when the
/// client no longer wants it.
fn send_message(respond: &mut SendResponse<Bytes>, message: Vec<u8>) -> Option<()> {
    let response = head_of_message(&message)?;
    let mut body = respond.send_response(response, false).ok()?;
    body.send_data(message.into(), true).ok()
}

/// The same a byte at a time.
async fn drip_message(respond: &mut SendResponse<Bytes>, message: Vec<u8>) -> Option<()> {
    let mut body = respond.send_response(head_of_message(&message)?, false).ok()?;
    for byte in message {
        sleep(DRIP).await;
        body.send_data(Bytes::copy_from_slice(&[byte]), false).ok()?;
    }
    body.send_data(Bytes::new(), true).ok()
}

/// What stands in the place of a message, for as long as the client takes it.
async fn send_page(respond: &mut SendResponse<Bytes>, page: Page) {
    let Ok(mut body) = respond.send_response(page.head, false) else {
        return;
    };
    if !page.is_endless {
        // A client that is gone does not read it.
        body.send_data(page.body, true).ok();
        return;
    }
    loop {
        body.reserve_capacity(page.body.len());
        let room = poll_fn(|context| body.poll_capacity(context)).await;
        let Some(Ok(room)) = room else { return };
        let part = page.body.slice(..room.min(page.body.len()));
        if body.send_data(part, false).is_err() {
            return;
        }
    }
}

/// A response without a body. One that the client no longer wants is nobody's loss.
fn send_status(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    respond.send_response(head_of_status(status), true).ok();
}

/// The head of a response with this message.
pub(super) fn head_of_message(message: &[u8]) -> Option<Response<()>> {
    let seconds = parse_reply(message).and_then(|reply| reply.ttl_seconds_min);
    let mut response = Response::new(());
    set(&mut response, CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    set(&mut response, CONTENT_LENGTH, message.len().into());
    let age = HeaderValue::try_from(format!("max-age={}", seconds.unwrap_or(0))).ok()?;
    set(&mut response, CACHE_CONTROL, age);
    Some(response)
}

/// A response without a body.
pub(super) fn head_of_status(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    set(&mut response, CONTENT_LENGTH, 0.into());
    response
}

/// The head of what is answered in the place of a message; `None` where a fault has messages.
pub(super) fn head_of_fault(fault: Fault) -> Option<Response<()>> {
    if fault == Fault::Http500 {
        return Some(head_of_status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    let Fault::Http429(seconds) = fault else { return None };
    let mut response = head_of_status(StatusCode::TOO_MANY_REQUESTS);
    set(&mut response, RETRY_AFTER, seconds.into());
    Some(response)
}

pub(super) fn set(response: &mut Response<()>, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}
