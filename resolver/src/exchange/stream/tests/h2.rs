//! What becomes of requests when a server announces its end, wants to be left alone, or sends a page in place of an answer.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{Request, Response, StatusCode};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exchange::stream::h2::H2Link;
use crate::exchange::stream::link::{ARRIVALS, Arrival, LinkParts, Unsent};
use crate::tasks::Tasks;

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A link, what arrives on it, and the server at its other end.
struct Bench {
    link: H2Link,
    arrivals: mpsc::Receiver<Arrival>,
    server: Connection<DuplexStream, Bytes>,
}

impl Bench {
    async fn new() -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let parts = LinkParts {
            arrivals: sender,
            tasks: Tasks::default(),
            token: CancellationToken::new(),
        };
        let url = "https://dns.example/dns-query".parse().unwrap();
        let (link, server) = tokio::join!(H2Link::open(near, url, parts), h2::server::handshake(far));
        Self {
            link: link.unwrap(),
            arrivals,
            server: server.unwrap(),
        }
    }

    async fn send(&mut self, key: u16) -> Result<(), Unsent> {
        self.link.send(key, vec![7; 40]).await
    }

    async fn accept(&mut self) -> Asked {
        in_time(self.server.accept()).await.unwrap().unwrap()
    }

    /// What arrives, while the server does what it has to.
    async fn arrival(&mut self) -> String {
        let Self { arrivals, server, .. } = self;
        let arrival = async {
            tokio::select! {
                arrival = arrivals.recv() => arrival.unwrap(),
                ended = std::future::poll_fn(|context| server.poll_closed(context)) => {
                    ended.ok();
                    arrivals.recv().await.unwrap()
                }
            }
        };
        match in_time(arrival).await {
            Arrival::Message { key, bytes, .. } => format!("answer {} of {} bytes", key.unwrap(), bytes.len()),
            Arrival::Failed { key, failure } => format!("failure {key}: {failure:?}"),
            Arrival::Unprocessed { key } => format!("unprocessed {key}"),
            other @ (Arrival::Declined { .. } | Arrival::Draining | Arrival::Alive | Arrival::Closed) => {
                format!("{other:?}")
            }
        }
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.unwrap()
}

fn answer(respond: &mut SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/dns-message");
    let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(&[1; 20]), true).unwrap();
}

#[tokio::test]
async fn goaway_is_told_before_the_end_and_what_was_processed_is_answered() {
    let mut bench = Bench::new().await;
    bench.send(1).await.unwrap();
    let (_, mut first) = bench.accept().await;
    bench.server.graceful_shutdown();
    assert_eq!(bench.arrival().await, "Draining");
    assert_eq!(bench.send(2).await, Err(Unsent::Draining));
    answer(&mut first);
    assert_eq!(bench.arrival().await, "answer 1 of 20 bytes");
    assert_eq!(bench.arrival().await, "Closed");
}

#[tokio::test]
async fn what_was_refused_before_it_was_processed_may_be_written_again() {
    let mut bench = Bench::new().await;
    bench.send(1).await.unwrap();
    let (_, mut respond) = bench.accept().await;
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    assert_eq!(bench.arrival().await, "unprocessed 1");
    bench.send(2).await.unwrap();
    let (_, mut respond) = bench.accept().await;
    respond.send_reset(h2::Reason::INTERNAL_ERROR);
    assert_eq!(bench.arrival().await, "failure 2: Reset");
    // The connection is none the worse.
    bench.send(3).await.unwrap();
    let (_, mut respond) = bench.accept().await;
    answer(&mut respond);
    assert_eq!(bench.arrival().await, "answer 3 of 20 bytes");
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_told_apart_from_an_error_and_error_pages_cost_no_reset() {
    let mut bench = Bench::new().await;
    for (key, status, retry_after, told) in [
        (
            1,
            StatusCode::TOO_MANY_REQUESTS,
            Some("30"),
            "failure 1: Throttled { retry_after_s: Some(30) }",
        ),
        (
            2,
            StatusCode::TOO_MANY_REQUESTS,
            None,
            "failure 2: Throttled { retry_after_s: None }",
        ),
        (
            3,
            StatusCode::SERVICE_UNAVAILABLE,
            Some("7"),
            "failure 3: Throttled { retry_after_s: Some(7) }",
        ),
        (4, StatusCode::SERVICE_UNAVAILABLE, None, "failure 4: Http"),
        (5, StatusCode::INTERNAL_SERVER_ERROR, Some("7"), "failure 5: Http"),
        (6, StatusCode::OK, None, "failure 6: Http"),
    ] {
        bench.send(key).await.unwrap();
        let (_, mut respond) = bench.accept().await;
        let mut response = Response::builder().status(status).header("content-type", "text/html");
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
        assert_eq!(bench.arrival().await, told);
        // The page comes after the judgement, and is taken.
        body.send_data(Bytes::from_static(&[b'<'; 10_000]), true).unwrap();
    }
    bench.send(7).await.unwrap();
    let (_, mut respond) = bench.accept().await;
    answer(&mut respond);
    assert_eq!(bench.arrival().await, "answer 7 of 20 bytes");
}
