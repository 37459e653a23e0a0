//! HTTP/1.1, for clients that speak nothing newer: one request after another on a connection.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{BODY, HEADER_BYTES, Wanted, Whole, read_head, refusal, whole};
use crate::forwarder::Shared;
use crate::listen::backlog::Backlog;
use crate::listen::doors::Guest;
use crate::listen::gathered::Gathered;
use crate::listen::job::{Answered, ask};
use crate::listen::overseer::{Order, Overseer, part};
use crate::listen::paced::{Pace, Paced};
use crate::wire::Via;

/// Header lines of one request; a browser sends about twenty.
const HEADERS: usize = 64;

/// Serves a connection until its client is done, idle, or does not read.
pub(in crate::listen) async fn serve<S>(shared: &Arc<Shared>, stream: S, client: IpAddr, guest: &Arc<Guest>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pace = Arc::new(Pace::default());
    // One body at a time: as much of it is kept as elsewhere.
    let backlog = Arc::new(Backlog::new(client));
    let service = service_fn(async |request| {
        guest.note(shared.clock.now());
        Ok::<_, Infallible>(answer(shared, request, client, &backlog).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.idle(Via::Https))
        .max_headers(HEADERS)
        .max_buf_size(usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX))
        .serve_connection(TokioIo::new(Paced::new(stream, &pace)), service);
    let mut connection = Box::pin(connection);
    let mut overseer = Overseer::new(shared, Via::Https, guest);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            overseer.note_output(pace.is_waiting(), pace.taken());
            // How long it may be idle is hyper's matter, which knows where a request begins.
            match overseer.poll(cx, true) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Order::Slow | Order::End) => return Poll::Ready(None),
                Poll::Ready(Order::Drain | Order::Idle) => connection.as_mut().graceful_shutdown(),
            }
        }
    });
    let ended = ended.await;
    drop(connection);
    match ended {
        None => return,
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "an HTTP/1.1 connection ended early"),
    }
    if let Some(stream) = pace.returned() {
        part(stream).await;
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    client: IpAddr,
    backlog: &Arc<Backlog>,
) -> Response<Full<Bytes>> {
    let (head, body) = match reply_to(shared, request, client, backlog).await {
        Ok(answer) => answer,
        Err(status) => {
            shared.metrics.count_http_error(Via::Https, status.as_u16());
            refusal(status)
        }
    };
    head.map(|()| Full::new(body))
}

async fn reply_to(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    client: IpAddr,
    backlog: &Arc<Backlog>,
) -> Result<Whole, StatusCode> {
    // RFC 9112 section 3.2.
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let wanted = read_head(&request, &shared.generation().doh_path)?;
    let answered = match wanted {
        Wanted::Message(message) => ask(shared, &message, client, Via::Https),
        Wanted::Body => {
            let body = read_body(request.into_body(), backlog).await?;
            ask(shared, body.kept(), client, Via::Https)
        }
    };
    match answered {
        Answered::Now(reply) => Ok(whole(reply)),
        // Whatever becomes of a query, its client hears back.
        Answered::Later(reply) => reply
            .await
            .map(whole)
            .map_err(|_gone| StatusCode::INTERNAL_SERVER_ERROR),
        Answered::NoQuery => Err(StatusCode::BAD_REQUEST),
    }
}

/// The body of a request, up to the longest message, as much of it as is kept.
async fn read_body(mut body: Incoming, backlog: &Arc<Backlog>) -> Result<Gathered, StatusCode> {
    let reading = async {
        let mut gathered = Gathered::behind(0, backlog);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| StatusCode::BAD_REQUEST)?;
            if let Some(data) = frame.data_ref()
                && !gathered.push(data)
            {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
        }
        Ok(gathered)
    };
    timeout(BODY, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}
