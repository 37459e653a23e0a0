//! DNS over HTTPS to one endpoint (RFC 8484) by HTTP/2: one request per query, answered in any order.
//!
//! A request is never taken back while somebody might still answer it: after a thousand resets servers close the
//! connection, and a hedged query has a loser every time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use detour_core::outcome::Failure;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::http::{HEADER_BYTES_MAX, read_head, request};
use super::link::{Arrival, LinkParts, Unsent};
use crate::wire::MESSAGE_BYTES_MAX;

/// Requests in flight on one connection, unless the server allows less. Servers allow 100 and more.
const REQUESTS_MAX: usize = 256;
/// A request is taken back after this long: a second after its lookup's last moment.
const REQUEST: Duration = Duration::from_secs(5);
/// Flow control of one answer: the largest DNS message fits.
const WINDOW_BYTES: u32 = 128 * 1024;
/// Flow control of all answers together.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Streams reset from here whose late frames are still tolerated.
const RESETS_KEPT: usize = 64;
/// Requests taken back on one connection before another one takes over: servers count resets, and some close at a
/// thousand.
const TAKEN_BACK_MAX: usize = 100;
/// What is read of the body of an error, so that its stream ends by itself and not by a reset.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Streams the server opened or reset without need before the connection is given up (CVE-2023-44487 and its kin).
const ODD_RESETS_MAX: usize = 128;

/// The way requests go out.
pub(in crate::exchange) struct H2Link {
    send: SendRequest<Bytes>,
    url: Uri,
    parts: LinkParts,
    wanted: Arc<Notify>,
    /// Requests that have not told what became of them.
    requests: TaskTracker,
    /// Requests that were taken back.
    taken_back: Arc<AtomicUsize>,
}

impl H2Link {
    /// Speaks HTTP/2 on a connection.
    ///
    /// # Errors
    ///
    /// The other side does not.
    pub(super) async fn open<T>(io: T, url: Uri, parts: LinkParts) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_KEPT)
            .max_pending_accept_reset_streams(ODD_RESETS_MAX)
            .max_local_error_reset_streams(Some(ODD_RESETS_MAX))
            .handshake(io)
            .await?;
        let wanted = Arc::new(Notify::new());
        if let Some(ping_pong) = connection.ping_pong() {
            let (parts_of, wanted) = (parts.clone(), Arc::clone(&wanted));
            parts
                .tasks
                .spawn_job(async move { answer_pings(ping_pong, parts_of, wanted).await });
        }
        let requests = TaskTracker::new();
        let (driver, open_requests, watched) = (parts.clone(), requests.clone(), send.clone());
        parts.tasks.spawn_job(async move {
            tokio::select! {
                // Cancel safe: the connection is given up.
                () = driver.token.cancelled() => {}
                ended = drive(connection, watched, &driver) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "HTTP/2 connection ended");
                    }
                    // Answers that came before the end are told before it.
                    open_requests.close();
                    open_requests.wait().await;
                    // Nobody to tell is fine: the connection was given up from here.
                    drop(driver.arrivals.send(Arrival::Closed).await);
                }
            }
        });
        Ok(Self {
            send,
            url,
            parts,
            wanted,
            requests,
            taken_back: Arc::default(),
        })
    }

    /// Requests it carries at once.
    pub(super) fn capacity(&self) -> usize {
        self.send.current_max_send_streams().clamp(1, REQUESTS_MAX)
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&self) {
        self.wanted.notify_one();
    }

    /// Sends one query as a request; a task waits for the response.
    ///
    /// # Errors
    ///
    /// The connection takes no more requests; when it is over, its driver tells.
    pub(super) async fn send(&mut self, key: u16, message: Vec<u8>) -> Result<(), Unsent> {
        let draining = |_error: h2::Error| Unsent::Draining;
        let mut send = self.send.clone().ready().await.map_err(draining)?;
        let request = request(self.url.clone(), message.len());
        let (response, mut body) = send.send_request(request, false).map_err(draining)?;
        body.send_data(Bytes::from(message), true).map_err(draining)?;
        let (parts, taken_back) = (self.parts.clone(), Arc::clone(&self.taken_back));
        let request = self.requests.track_future(async move {
            // The body's sending half lives as long as the request: dropping it early would reset the stream.
            let _body = body;
            let received = tokio::select! {
                // Cancel safe: the connection is given up.
                () = parts.token.cancelled() => return,
                received = tokio::time::timeout(REQUEST, receive(key, response, &parts)) => received,
            };
            let is_taken_back = received.is_err();
            if is_taken_back && taken_back.fetch_add(1, Ordering::Relaxed) >= TAKEN_BACK_MAX {
                // The connection was given up from here: that is as good.
                drop(parts.arrivals.send(Arrival::Draining).await);
            }
        });
        self.parts.tasks.spawn_job(request);
        Ok(())
    }
}

/// Drives the connection to its end, and tells when it takes no more requests: that is known before it ends.
async fn drive<T>(
    connection: Connection<T, Bytes>,
    mut watched: SendRequest<Bytes>,
    parts: &LinkParts,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = pin!(connection);
    let mut is_told = false;
    poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        if ended.is_pending() && !is_told {
            let mut unheard = Context::from_waker(Waker::noop());
            let is_draining = matches!(watched.poll_ready(&mut unheard), Poll::Ready(Err(_)));
            // Full: the next look tells, or the next request finds out.
            is_told = is_draining && parts.arrivals.try_send(Arrival::Draining).is_ok();
        }
        ended
    })
    .await
}

/// Tells what comes of one request. Where the whole connection is over, its driver tells.
async fn receive(key: u16, response: ResponseFuture, parts: &LinkParts) {
    let mut rest = None;
    let arrival = match read_response(response).await {
        Ok((bytes, age_s)) => Arrival::Message {
            key: Some(key),
            bytes,
            age_s,
        },
        Err(Refused::Answer(failure, body)) => {
            rest = body;
            Arrival::Failed { key, failure }
        }
        Err(Refused::Protocol(error)) if is_unprocessed(&error) => Arrival::Unprocessed { key },
        Err(Refused::Protocol(error)) if error.is_reset() => {
            let failure = Failure::Reset;
            Arrival::Failed { key, failure }
        }
        Err(Refused::Protocol(_)) => return,
    };
    // The connection was given up from here: its queries are asked elsewhere.
    drop(parts.arrivals.send(arrival).await);
    if let Some(body) = rest {
        discard(body).await;
    }
}

/// Reads an error page to its end, if that is near.
async fn discard(mut body: RecvStream) {
    let mut bytes = 0_usize;
    while let Some(Ok(chunk)) = body.data().await {
        bytes = bytes.saturating_add(chunk.len());
        if bytes > ERROR_BODY_BYTES_MAX || body.flow_control().release_capacity(chunk.len()).is_err() {
            return;
        }
    }
}

/// Whether the server says that it has not looked at the request (RFC 9113 sections 6.8 and 8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let goes_away = error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
    goes_away || error.reason() == Some(Reason::REFUSED_STREAM)
}

/// Why a response is no message.
enum Refused {
    /// It is a response, and none that helps; what is left of it.
    Answer(Failure, Option<RecvStream>),
    /// The stream or the connection failed.
    Protocol(h2::Error),
}

impl From<h2::Error> for Refused {
    fn from(error: h2::Error) -> Self {
        Self::Protocol(error)
    }
}

async fn read_response(response: ResponseFuture) -> Result<(Vec<u8>, u32), Refused> {
    let response = response.await?;
    let age_s = match read_head(&response) {
        Ok(age_s) => age_s,
        Err(failure) => return Err(Refused::Answer(failure, Some(response.into_body()))),
    };
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if bytes.len().saturating_add(chunk.len()) > MESSAGE_BYTES_MAX {
            return Err(Refused::Answer(Failure::Garbage, None));
        }
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok((bytes.into(), age_s))
}

/// Sends a ping whenever one is wanted, one at a time, and tells of the answer.
async fn answer_pings(mut ping_pong: PingPong, parts: LinkParts, wanted: Arc<Notify>) {
    let pings = async {
        loop {
            wanted.notified().await;
            if ping_pong.ping(Ping::opaque()).await.is_err() || parts.arrivals.send(Arrival::Alive).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pings => {}
        // Cancel safe: the connection is given up.
        () = parts.token.cancelled() => {}
    }
}
