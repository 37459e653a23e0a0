//! Admin connections: how many, how long, and how much of each is read.
//!
//! axum's own server sets none of these limits, so hyper is driven directly. Whatever a client does here, it must not
//! cost the DNS side of this process memory, descriptors or time.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{AdminState, router};

/// Connections at once: a scraper, a dashboard and some shells, many times over. More are closed at once.
const CONNECTIONS: usize = 64;
/// From the first byte of a request, or the end of the one before, to the end of its headers. A scraper that comes
/// less often connects anew.
const HEADER_READ: Duration = Duration::from_secs(10);
/// Bytes of one request's headers; more get 431. Bodies are never read: a request that has one is answered, and its
/// connection closed. hyper takes nothing below 8 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// Header lines of one request; more get 431. A browser sends about twenty.
const HEADERS: usize = 64;
/// How long a connection may live, so that whoever does not read its answer is not waited for.
const LIFE: Duration = Duration::from_secs(60);
/// How long an answer under way may take once its connection has to end; within the grace of a stop.
const FAREWELL: Duration = Duration::from_secs(1);
/// Rest after a failed accept: out of descriptors is not cured by trying again at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves the admin interface until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, state: AdminState, token: CancellationToken) {
    let bound = match listener.local_addr() {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(%error, "no admin interface: its address cannot be read");
            return;
        }
    };
    let tasks = state.shared.tasks().clone();
    let router = router(state, bound);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            // Cancel safe: no connection is lost by not accepting it yet.
            accepted = listener.accept() => accepted,
            // Cancel safe: the token stays cancelled.
            () = token.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Closing at once tells the client more than a connection that never answers.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::debug!("admin connection refused: too many are open");
                    continue;
                };
                let (router, token) = (router.clone(), token.clone());
                tasks.spawn_job(async move {
                    serve_connection(stream, router, token).await;
                    drop(place);
                });
            }
            Err(error) => {
                let is_client = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                if !is_client {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// One connection, to its end or to that of its time.
async fn serve_connection(stream: TcpStream, router: Router, token: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        // Cancel safe: the connection stays where it is and is driven on below.
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "admin connection ended early");
            }
            return;
        }
        // Cancel safe: the token stays cancelled.
        () = token.cancelled() => {}
        // Cancel safe: nothing is lost with a timer.
        () = sleep(LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if timeout(FAREWELL, connection).await.is_err() {
        tracing::debug!("admin connection cut: its client does not read");
    }
}
