//! DNS over HTTPS as HTTP: what is wrong with a request is told by its status, over every version alike, and how long an
//! answer may be kept stands in its head.

use std::time::Duration;

use bytes::Bytes;
use detour_rig::zone;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::client::PATIENCE;
use crate::message::{Message, Reply, opt, option, rcode, rtype};
use crate::node::{fake, until};
use crate::secure::{NAME, PATH, Site, base64url, get, post, request};

const MEDIA: (&str, &str) = ("content-type", "application/dns-message");

/// A client of HTTP/1.1 that writes what a test wants it to.
struct One {
    stream: TlsStream<TcpStream>,
}

impl One {
    async fn to(site: &Site) -> Self {
        let stream = site.connect("127.0.0.1", "https", &[b"http/1.1"]).await.unwrap();
        Self { stream }
    }

    async fn send(&mut self, text: &[u8]) {
        self.stream.write_all(text).await.unwrap();
    }

    /// Status, head and body of the next answer; `None` at the end of the connection.
    async fn receive(&mut self) -> Option<(u16, String, Vec<u8>)> {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.stream.read_exact(&mut body).await.ok()?;
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            Some((status, head, body))
        };
        timeout(PATIENCE, reading).await.expect("an answer or an end in time")
    }

    async fn status(&mut self, text: &str) -> u16 {
        self.send(text.as_bytes()).await;
        self.receive().await.expect("an answer").0
    }
}

/// A request of HTTP/1.1.
fn text(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {NAME}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn wrong_requests_get_http_errors_over_every_version() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let (two, three) = (site.two().await, site.three().await);
    let query = Message::query("www.cedar-mill.org", rtype::A).id(0).bytes();
    let encoded = base64url(&query);
    let good = format!("{PATH}?dns={encoded}");
    let padded = format!("{PATH}?dns={encoded}=");
    let long = format!("{PATH}?dns={}", "A".repeat(9_000));
    let mut response = query.clone();
    response[2] |= 0x80;
    let answer = format!("{PATH}?dns={}", base64url(&response));
    let too_long = vec![0; 70_000];
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    for (method, path, headers, body, wanted) in [
        (&get, good.as_str(), &[][..], None, 200),
        (&post, PATH, &[MEDIA], Some(query.as_slice()), 200),
        (&get, "/", &[], None, 404),
        (&get, "/.well-known/odohconfigs", &[], None, 404),
        (&get, PATH, &[], None, 400),
        (&get, &padded, &[], None, 400),
        (&get, &answer, &[], None, 400),
        (&get, &long, &[], None, 414),
        (&get, &good, &[("accept", "application/dns-json")], None, 406),
        (&put, PATH, &[MEDIA], Some(&query), 405),
        (&post, PATH, &[], Some(&query), 415),
        (
            &post,
            PATH,
            &[("content-type", "application/oblivious-dns-message")],
            Some(&query),
            415,
        ),
        (&post, PATH, &[MEDIA], Some(&query[..11]), 400),
        (&post, PATH, &[MEDIA], Some(&response), 400),
        (&post, PATH, &[MEDIA], Some(&too_long), 413),
    ] {
        let asked = || request(method.clone(), path, headers);
        // A server may refuse what it has not read to the end, and stop reading.
        if body.is_none_or(|body| body.len() < 65_536) {
            let answer = two.send(asked(), body).await.unwrap();
            assert_eq!(answer.status, wanted, "HTTP/2 {method} {path} {headers:?}");
            assert_eq!(answer.headers.contains_key("allow"), wanted == 405);
            let answer = three.send(asked(), body).await.unwrap();
            assert_eq!(answer.status, wanted, "HTTP/3 {method} {path} {headers:?}");
        }
        let mut one = One::to(&site).await;
        let mut asked = text(method.as_str(), path, headers, body.unwrap_or_default());
        if body.is_some_and(|body| body.len() > 65_535) {
            // What is announced is enough; whoever sends it all the same may lose the answer.
            asked.truncate(asked.len() - too_long.len());
        }
        one.send(&asked).await;
        let (status, _, body) = one.receive().await.unwrap();
        assert_eq!(status, wanted, "HTTP/1.1 {method} {path} {headers:?}");
        if status == 200 {
            assert_eq!(Reply::read(&body).rcode, rcode::NOERROR);
        }
    }
    for (transport, status) in [("https", "404"), ("https", "413"), ("h3", "404"), ("h3", "415")] {
        let labels = [format!("transport=\"{transport}\""), format!("status=\"{status}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert!(
            site.node.metric("detour_http_errors_total", &labels).await > 0,
            "{labels:?}"
        );
    }
    assert_eq!(fake.stats().queries(), 2, "one question, and the probe of the start");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_over_http_2_and_3_as_it_comes() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let body = vec![0; 70_000];
    // The answer may come while the body is being sent, and then the rest of it is not wanted.
    if let Ok(answer) = site.two().await.send(post(), Some(&body)).await {
        assert_eq!(answer.status, 413);
    }
    let announced = request(Method::POST, PATH, &[MEDIA, ("content-length", "70000")]);
    let answer = site.three().await.send(announced, None).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
    until("it is counted", PATIENCE, async || {
        site.node.metric("detour_http_errors_total", &["status=\"413\""]).await >= 1
    })
    .await;
}

#[tokio::test]
async fn of_a_long_query_as_much_is_looked_at_over_every_version() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    for (length, wanted) in [(4_096, rcode::NOERROR), (4_097, rcode::FORMERR)] {
        // Of the option and its length, eleven octets of the OPT record and four of the option are no padding.
        let bare = Message::query("long.cedar-mill.org", rtype::A).id(0).bytes().len();
        let padding = vec![0; length - bare - 11 - 4];
        let query =
            Message::query("long.cedar-mill.org", rtype::A)
                .id(0)
                .additional(opt(1_232, 0, &option(12, &padding)));
        assert_eq!(query.bytes().len(), length);
        let mut one = One::to(&site).await;
        one.send(&text("POST", PATH, &[MEDIA], &query.bytes())).await;
        let (_, _, body) = one.receive().await.unwrap();
        assert_eq!(Reply::read(&body).rcode, wanted, "HTTP/1.1 of {length}");
        let answer = site.two().await.ask(&query).await;
        assert_eq!(answer.reply().rcode, wanted, "HTTP/2 of {length}");
    }
}

#[tokio::test]
async fn half_a_body_over_http_3_is_waited_for_so_long_and_the_connection_goes_on() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let three = site.three().await;
    let mut halves = Vec::new();
    for _ in 0..3 {
        let mut stream = three.sender.clone().send_request(post()).await.unwrap();
        stream.send_data(Bytes::from_static(&[0; 20])).await.unwrap();
        halves.push(stream);
    }
    for mut stream in halves {
        let head = timeout(PATIENCE, stream.recv_response())
            .await
            .expect("an answer in time");
        assert_eq!(head.unwrap().status(), 408);
    }
    let query = Message::query("beside.cedar-mill.org", rtype::A).id(0);
    assert_eq!(three.ask(&query).await.reply().rcode, rcode::NOERROR);
    assert!(!site.node.log().contains("panicked"), "{}", site.node.log());
}

#[tokio::test]
async fn http_1_takes_one_request_after_another_and_none_without_host() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let mut one = One::to(&site).await;
    let query = |index: usize| {
        Message::query(&format!("n{index}.cedar-mill.org"), rtype::A)
            .id(0)
            .bytes()
    };
    let all: Vec<u8> = (0..5)
        .flat_map(|index| text("POST", PATH, &[MEDIA], &query(index)))
        .collect();
    one.send(&all).await;
    for index in 0..5 {
        let (status, head, body) = one.receive().await.unwrap();
        let address = zone::expected_a(&format!("n{index}.cedar-mill.org")).unwrap();
        assert_eq!((status, Reply::read(&body).addresses()), (200, vec![address]), "{head}");
        assert!(head.contains("content-type: application/dns-message"), "{head}");
    }
    assert_eq!(one.status(&format!("GET {PATH} HTTP/1.1\r\n\r\n")).await, 400);
    let mut other = One::to(&site).await;
    let lines = "x: y\r\n".repeat(200);
    assert_eq!(
        other
            .status(&format!("GET {PATH} HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n"))
            .await,
        431
    );
    // No way to other protocols.
    let mut third = One::to(&site).await;
    let upgrade = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(
        third
            .status(&format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n{upgrade}\r\n"))
            .await,
        404
    );
}

#[tokio::test]
async fn an_answer_may_be_kept_as_long_as_its_lowest_ttl() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let (two, three) = (site.two().await, site.three().await);
    for (name, rtype) in [
        ("kept.cedar-mill.org", rtype::A),
        ("localhost", rtype::A),
        ("nowhere.invalid", rtype::A),
        ("localhost", rtype::MX),
    ] {
        let query = Message::query(name, rtype).id(0).edns(1232);
        let answers = [
            two.ask(&query).await,
            two.send(get(&query.bytes()), None).await.unwrap(),
            three.ask(&query).await,
        ];
        for answer in answers {
            let reply = answer.reply();
            let lowest = reply.records.iter().map(|record| record.ttl).min().unwrap();
            assert_eq!(answer.header("cache-control"), format!("max-age={lowest}"), "{name}");
            assert_eq!(answer.header("content-type"), "application/dns-message");
            assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        }
    }
    let refused = Message::query("transfer.cedar-mill.org", rtype::AXFR).id(0);
    let answer = two.ask(&refused).await;
    assert_eq!(
        (answer.reply().rcode, answer.header("cache-control")),
        (rcode::REFUSED, "no-store")
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let mut one = One::to(&site).await;
    one.send(&text("POST", PATH, &[MEDIA, ("content-length", "100")], &[]))
        .await;
    let two = site.two().await;
    let mut sender = two.sender.clone().ready().await.unwrap();
    let (response, _body) = sender.send_request(post(), false).unwrap();
    assert_eq!(one.receive().await.unwrap().0, 408);
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status().as_u16(), 408);
    let query = Message::query("still.cedar-mill.org", rtype::A).id(0);
    assert_eq!(
        two.ask(&query).await.reply().rcode,
        rcode::NOERROR,
        "the connection goes on"
    );
    assert!(timeout(Duration::ZERO, one.receive()).await.is_err() || one.receive().await.is_none());
}
