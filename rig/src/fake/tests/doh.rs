//! A fake over HTTP/2, with h2 as its client.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, Http};
use super::{DEADLINE, SILENCE};
use crate::authority::Authority;
use crate::clock;
use crate::fake::{ConnectionLimits, Fake, FakeConfig};
use crate::fault::{Closing, FAULTY_REPLY_AFTER, Fault};
use crate::law::Law;
use crate::message::{encode_query, parse_reply, rcode, rtype};
use crate::transport::{Transport, TransportSel};
use crate::zone;

const NAME: &str = "ttl-77.elm-quarry.dev";
const MEDIA_TYPE: &str = "application/dns-message";

fn query() -> Vec<u8> {
    encode_query(0, NAME, rtype::A, Some(1232))
}

fn is_right(body: &[u8]) -> bool {
    parse_reply(body).is_some_and(|reply| reply.id == 0 && reply.addresses == [zone::expected_a(NAME).unwrap()])
}

fn start_with(law: Law, limits: ConnectionLimits) -> (Fake, Client) {
    let authority = Authority::new().unwrap();
    let config = FakeConfig::new("fake1").law(law).limits(limits);
    let fake = Fake::start(config.encrypted(&authority)).unwrap();
    (fake, Client::new(&authority, Transport::Doh))
}

fn instant() -> (Fake, Client) {
    start_with(Law::Flat(Duration::ZERO), ConnectionLimits::default())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = clock::now();
    while !holds() {
        assert!(clock::now() < start + DEADLINE, "{what}");
        tokio::task::yield_now().await;
    }
}

/// A query that is on its way when this returns.
async fn begin(
    http: &mut Http,
    fake: &Fake,
) -> impl Future<Output = Result<super::client::Response, h2::Error>> + use<> {
    let before = fake.stats().doh.queries;
    let response = http
        .send(Method::POST, "/dns-query", MEDIA_TYPE, &query())
        .await
        .unwrap();
    until("the query has come", || fake.stats().doh.queries > before).await;
    response
}

#[tokio::test]
async fn get_and_post_are_answered_and_say_how_long_they_are_fresh() {
    let (fake, client) = instant();
    let mut http = client.http(&fake).await;
    let response = http.post(&query()).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert!(is_right(&response.body));
    assert_eq!(response.headers["content-type"], MEDIA_TYPE);
    assert_eq!(response.headers["cache-control"], "max-age=77");
    // ttl-77.elm-quarry.dev A, id 0, RD.
    let text = "AAABAAABAAAAAAAABnR0bC03NwplbG0tcXVhcnJ5A2RldgAAAQAB";
    let path = format!("/dns-query?dns={text}");
    let response = http.send(Method::GET, &path, "", &[]).await.unwrap().await.unwrap();
    assert!(is_right(&response.body), "{response:?}");
    let stats = fake.stats().doh;
    assert_eq!((stats.queries, stats.gets, stats.answered), (2, 1, 2));
    assert_eq!(
        (stats.connections, stats.open, stats.handshakes_full, stats.dropped),
        (1, 1, 1, 0)
    );
    assert_eq!(
        fake.last_authority(Transport::Doh).as_deref(),
        Some("fake1.detour.test")
    );
    assert_eq!(
        fake.last_server_name(Transport::Doh).as_deref(),
        Some("fake1.detour.test")
    );
    fake.shutdown().await;
}

#[tokio::test]
async fn what_is_no_query_gets_the_status_that_says_so() {
    let (fake, client) = instant();
    let mut http = client.http(&fake).await;
    let (post, get) = (Method::POST, Method::GET);
    let response_bytes = [0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (method, path, media_type, body, status) in [
        (&post, "/", MEDIA_TYPE, query(), 404),
        (&post, "/dns-query", "text/plain", query(), 415),
        (&post, "/dns-query", MEDIA_TYPE, vec![0; 65_536], 413),
        (&post, "/dns-query", MEDIA_TYPE, vec![0; 11], 400),
        (&post, "/dns-query", MEDIA_TYPE, response_bytes.to_vec(), 400),
        (&get, "/dns-query", "", vec![], 400),
        (&get, "/dns-query?dns=A", "", vec![], 400),
        (&Method::PUT, "/dns-query", MEDIA_TYPE, query(), 405),
    ] {
        let response = http.send(method.clone(), path, media_type, &body).await.unwrap();
        let response = timeout(DEADLINE, response).await.unwrap().unwrap();
        assert_eq!(response.status, status, "{method} {path} {media_type}");
    }
    assert_eq!((fake.stats().doh.queries, fake.stats().doh.dropped), (0, 8));
    // None of it is a reason to end the connection.
    assert!(is_right(&http.post(&query()).await.unwrap().body));
    fake.shutdown().await;
}

#[tokio::test]
async fn hundreds_of_requests_share_a_connection_and_come_back_when_they_are_due() {
    let (fake, client) = start_with(Law::Bimodal, ConnectionLimits::default());
    let mut http = client.http(&fake).await;
    let mut names: Vec<_> = (0..400).map(|index| format!("q{index}.cedar-mill.org")).collect();
    names.sort_by_key(|name| std::cmp::Reverse(Law::Bimodal.latency(name)));
    let mut responses = JoinSet::new();
    for (place, name) in names.into_iter().enumerate() {
        let query = encode_query(0, &name, rtype::A, None);
        let response = http.send(Method::POST, "/dns-query", MEDIA_TYPE, &query).await.unwrap();
        responses.spawn(async move {
            let reply = parse_reply(&response.await.unwrap().body).unwrap();
            assert_eq!(reply.addresses, [zone::expected_a(&name).unwrap()], "{name}");
            place
        });
    }
    let mut places = Vec::new();
    while let Some(place) = responses.join_next().await {
        places.push(place.unwrap());
    }
    assert_ne!(places.first(), Some(&0), "the slowest was asked first");
    assert_eq!((fake.stats().doh.answered, fake.stats().doh.connections), (400, 1));
    fake.shutdown().await;
}

#[tokio::test]
async fn faults_of_messages_come_with_status_200_and_http500_does_not() {
    let (fake, client) = instant();
    let mut http = client.http(&fake).await;
    for (fault, code) in [
        (Fault::Servfail, rcode::SERVFAIL),
        (Fault::Refused, rcode::REFUSED),
        (Fault::Nxdomain, rcode::NXDOMAIN),
        (Fault::Lie, rcode::NOERROR),
        (Fault::Wrongid, rcode::NOERROR),
    ] {
        fake.set_fault(TransportSel::All, fault);
        let response = http.post(&query()).await.unwrap();
        assert_eq!(
            (response.status, parse_reply(&response.body).unwrap().rcode),
            (StatusCode::OK, code)
        );
        assert!(!is_right(&response.body), "{fault}");
    }
    fake.set_fault(TransportSel::All, Fault::Garbage);
    let response = http.post(&query()).await.unwrap();
    assert!(response.status == 200 && !is_right(&response.body) && !response.body.is_empty());
    fake.set_fault(TransportSel::All, Fault::Http500);
    let before = clock::now();
    let response = http.post(&query()).await.unwrap();
    assert_eq!((response.status.as_u16(), response.body.len()), (500, 0));
    assert!(clock::now() - before >= FAULTY_REPLY_AFTER);
    fake.set_fault(TransportSel::All, Fault::Truncate);
    assert!(is_right(&http.post(&query()).await.unwrap().body));
    assert_eq!(fake.stats().doh.connections, 1);
    fake.shutdown().await;
}

#[tokio::test]
async fn a_silent_fake_does_not_even_echo_a_ping() {
    let (fake, client) = instant();
    let mut http = client.http(&fake).await;
    http.post(&query()).await.unwrap();
    http.pings.ping(h2::Ping::opaque()).await.unwrap();
    for fault in [Fault::Blackhole, Fault::TlsStall] {
        fake.set_fault(TransportSel::Only(Transport::Doh), fault);
        let mut lost = Box::pin(begin(&mut http, &fake).await);
        assert!(timeout(SILENCE, &mut lost).await.is_err(), "{fault}");
        let ping = timeout(SILENCE, http.pings.ping(h2::Ping::opaque())).await;
        assert!(ping.is_err(), "{fault}");
        let handshake = timeout(SILENCE, Box::pin(client.to(&fake, Transport::Doh))).await;
        assert!(handshake.is_err(), "{fault}");
        fake.set_fault(TransportSel::Only(Transport::Doh), Fault::None);
        assert!(is_right(&http.post(&query()).await.unwrap().body), "{fault}");
        assert!(
            timeout(SILENCE, lost).await.is_err(),
            "{fault}: what was swallowed stays so"
        );
        // The echo of the ping that was sent in the dark comes now; then there can be another.
        let echo = std::future::poll_fn(|context| http.pings.poll_pong(context));
        timeout(DEADLINE, echo).await.unwrap().unwrap();
        http.pings.ping(h2::Ping::opaque()).await.unwrap();
    }
    assert_eq!(fake.stats().doh.dropped, 2);
    fake.shutdown().await;
}

#[tokio::test]
async fn a_reset_cuts_requests_in_flight() {
    let (fake, client) = start_with(Law::Flat(Duration::from_secs(60)), ConnectionLimits::default());
    for fault in [Fault::Rst, Fault::TlsExpired] {
        let mut http = client.http(&fake).await;
        let response = begin(&mut http, &fake).await;
        fake.set_fault(TransportSel::All, fault);
        let error = timeout(DEADLINE, response).await.unwrap().unwrap_err();
        let error = error.get_io().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{fault}");
        assert!(client.to(&fake, Transport::Doh).await.is_err(), "{fault}");
        fake.set_fault(TransportSel::All, Fault::None);
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn goaway_lets_requests_in_flight_end_unless_it_is_abrupt() {
    let (fake, client) = start_with(Law::Flat(Duration::from_millis(100)), ConnectionLimits::default());
    let mut http = client.http(&fake).await;
    let response = begin(&mut http, &fake).await;
    fake.close_connections(TransportSel::All, Closing::Polite);
    assert!(is_right(&response.await.unwrap().body));
    assert!(http.closed().await.is_ok());
    let mut http = client.http(&fake).await;
    let response = begin(&mut http, &fake).await;
    fake.close_connections(TransportSel::Only(Transport::Doh), Closing::Abrupt);
    assert!(timeout(DEADLINE, response).await.unwrap().is_err());
    assert!(http.post(&query()).await.is_err());
    let stats = fake.stats().doh;
    assert_eq!((stats.handshakes_full, stats.handshakes_resumed), (1, 1));
    fake.shutdown().await;
}

#[tokio::test]
async fn limits_close_connections_and_are_announced() {
    let limits = ConnectionLimits {
        told_idle: None,
        idle: Some(Duration::from_millis(250)),
        queries_max: Some(3),
        streams_max: 2,
    };
    let (fake, client) = start_with(Law::default(), limits);
    let mut http = client.http(&fake).await;
    assert!(is_right(&http.post(&query()).await.unwrap().body));
    // The client knows the fake's settings by now.
    assert_eq!(http.requests.current_max_send_streams(), 2);
    assert!(http.closed().await.is_ok(), "nothing was asked for a while");
    assert_eq!(fake.stats().doh.closed_idle, 1);
    let mut http = client.http(&fake).await;
    for _ in 0..3 {
        assert!(is_right(&http.post(&query()).await.unwrap().body));
    }
    assert!(http.closed().await.is_ok());
    assert_eq!(fake.stats().doh.closed_idle, 1, "three are the most");
    until("no connection is open", || fake.stats().doh.open == 0).await;
    fake.shutdown().await;
}

#[tokio::test]
async fn who_does_not_agree_on_http2_is_not_spoken_to() {
    let authority = Authority::new().unwrap();
    let fake = Fake::start(FakeConfig::new("fake1").encrypted(&authority)).unwrap();
    let client = Client::speaking(&authority, &[b"http/1.1"]);
    assert!(client.to(&fake, Transport::Doh).await.is_err());
    let mut stream = Client::speaking(&authority, &[])
        .to(&fake, Transport::Doh)
        .await
        .unwrap();
    let end = timeout(DEADLINE, stream.read(&mut [0; 16])).await.unwrap();
    assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    fake.shutdown().await;
}
