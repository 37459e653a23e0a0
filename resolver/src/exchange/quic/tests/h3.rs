//! DNS over HTTP/3 against servers that answer something else, too much, or nothing more.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use detour_core::Transport;
use detour_core::outcome::Failure;
use h3::quic::{Connection as _, RecvStream as _};
use h3::server::RequestStream;
use h3_quinn::BidiStream;
use http::{Response, StatusCode};
use quinn::Connection;
use tokio::time::timeout;

use super::server::{Bench, DEADLINE, Server};
use crate::bounded::Bounded;

type Http = h3::server::Connection<h3_quinn::Connection, Bytes>;
type Stream = RequestStream<BidiStream<Bytes>, Bytes>;

fn bench() -> (Server, Bench) {
    let server = Server::new(b"h3", 100);
    let bench = Bench::new(&server, Transport::H3, false);
    (server, bench)
}

async fn http(connection: Connection) -> Http {
    let connection = h3_quinn::Connection::new(connection);
    timeout(DEADLINE, h3::server::Connection::new(connection))
        .await
        .unwrap()
        .unwrap()
}

/// The next request and the query in it.
async fn query(http: &mut Http) -> (Stream, Vec<u8>) {
    let request = timeout(DEADLINE, http.accept()).await.unwrap().unwrap().unwrap();
    let (request, mut stream) = timeout(DEADLINE, request.resolve_request()).await.unwrap().unwrap();
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("POST", "/dns-query")
    );
    assert_eq!(request.headers()["accept"], "application/dns-message");
    assert_eq!(request.headers()["content-type"], "application/dns-message");
    let mut message = Vec::new();
    while let Some(mut part) = stream.recv_data().await.unwrap() {
        message.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    (stream, message)
}

fn head(status: StatusCode, media_type: &str) -> Response<()> {
    Response::builder()
        .status(status)
        .header("content-type", media_type)
        .body(())
        .unwrap()
}

async fn answer(stream: &mut Stream, mut message: Vec<u8>) {
    message[2] |= 0x80;
    stream
        .send_response(head(StatusCode::OK, "application/dns-message"))
        .await
        .unwrap();
    stream.send_data(message.into()).await.unwrap();
    stream.finish().await.unwrap();
}

#[tokio::test]
async fn requests_share_a_connection_and_are_answered_in_any_order() {
    let (server, mut bench) = bench();
    let asked = [bench.ask(), bench.ask()];
    let mut http = http(server.connection().await).await;
    let (mut first, one) = query(&mut http).await;
    let (mut second, other) = query(&mut http).await;
    assert_eq!((&one[..2], one.len() % 128), (&[0, 0][..], 0));
    answer(&mut second, other).await;
    answer(&mut first, one).await;
    for asked in asked {
        asked.answered().await;
    }
}

#[tokio::test]
async fn what_is_no_dns_message_is_a_failure_of_http_and_the_connection_goes_on() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let mut http = http(server.connection().await).await;
    let (mut stream, _) = query(&mut http).await;
    stream.send_response(head(StatusCode::OK, "text/html")).await.unwrap();
    stream.send_data("<html>".into()).await.unwrap();
    stream.finish().await.unwrap();
    asked.failed(Failure::Http).await;
    for status in [
        StatusCode::FOUND,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::NOT_FOUND,
    ] {
        let asked = bench.ask();
        let (mut stream, _) = query(&mut http).await;
        stream
            .send_response(head(status, "application/dns-message"))
            .await
            .unwrap();
        stream.finish().await.unwrap();
        asked.failed(Failure::Http).await;
    }
    let asked = bench.ask();
    let (mut stream, _) = query(&mut http).await;
    let mut busy = head(StatusCode::TOO_MANY_REQUESTS, "text/plain");
    busy.headers_mut().insert("retry-after", 30.into());
    stream.send_response(busy).await.unwrap();
    stream.finish().await.unwrap();
    let retry_after_s = Some(30);
    asked.failed(Failure::Throttled { retry_after_s }).await;
    let asked = bench.ask();
    let (mut stream, message) = query(&mut http).await;
    answer(&mut stream, message).await;
    asked.answered().await;
}

#[tokio::test]
async fn an_endless_body_and_an_endless_head_are_cut_off() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let mut http = http(connection.clone()).await;
    let (mut stream, _) = query(&mut http).await;
    stream
        .send_response(head(StatusCode::OK, "application/dns-message"))
        .await
        .unwrap();
    let endless = async { while stream.send_data(vec![0; 1 << 14].into()).await.is_ok() {} };
    tokio::join!(asked.failed(Failure::Garbage), endless);

    // Below the library: it would not write such a head.
    let (server, mut bench) = self::bench();
    let asked = bench.ask();
    let connection = server.connection().await;
    let _control = connection.open_uni().await.unwrap();
    let (mut send, _recv) = timeout(DEADLINE, connection.accept_bi()).await.unwrap().unwrap();
    // A frame of headers that says it has a gibibyte (RFC 9114 section 7.2.2).
    let endless = async {
        send.write_all(&[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
        while send.write_all(&[0; 1 << 14]).await.is_ok() {}
    };
    tokio::join!(asked.failed(Failure::Garbage), endless);
    assert!(
        connection.stats().udp_tx.bytes < 1 << 20,
        "{:?}",
        connection.stats().udp_tx
    );
}

#[tokio::test]
async fn a_stream_is_stopped_in_the_middle_of_a_read() {
    let (server, mut bench) = bench();
    let _asked = bench.ask();
    let mut accepted = Bounded::new(server.connection().await);
    // One of the client's own, which has no end.
    let opened = poll_fn(|cx| accepted.poll_accept_recv(cx));
    let mut stream = timeout(DEADLINE, opened).await.unwrap().ok().unwrap();
    let id = stream.recv_id();
    let all = async { while let Ok(Some(_)) = poll_fn(|cx| stream.poll_data(cx)).await {} };
    assert!(timeout(Duration::from_millis(200), all).await.is_err());
    stream.stop_sending(0x100);
    assert_eq!(stream.recv_id(), id);
}

#[tokio::test]
async fn a_server_that_says_goodbye_answers_what_it_has_and_is_asked_anew() {
    let (server, mut bench) = bench();
    let asked = bench.ask();
    let mut first = http(server.connection().await).await;
    let (mut stream, message) = query(&mut first).await;
    first.shutdown(0).await.unwrap();
    // The goodbye arrives before the next query is asked, most likely; if not, that is refused and asked again.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let next = bench.ask();
    let old = async { timeout(DEADLINE, first.accept()).await };
    let new = async {
        let mut second = http(server.connection().await).await;
        let (mut stream, message) = query(&mut second).await;
        answer(&mut stream, message).await;
        next.answered().await;
        answer_late(&mut second).await;
    };
    tokio::select! {
        // The old one is looked after meanwhile; it has nothing to take.
        accepted = old => assert!(accepted.is_ok_and(|accepted| accepted.is_ok_and(|none| none.is_none()))),
        () = new => {}
    }
    answer(&mut stream, message).await;
    asked.answered().await;
}

/// Lets what was sent leave.
async fn answer_late(http: &mut Http) {
    drop(timeout(Duration::from_millis(50), http.accept()).await);
}
