//! Clients of encrypted DNS that begin much and end nothing, by the crowd: what they have the node hold is bounded, they are
//! cut, and others are served meanwhile.

use std::time::Duration;

use detour_rig::Fake;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::client::PATIENCE;
use crate::message::{Message, opt, option, rcode, rtype};
use crate::node::{fake, until};
use crate::secure::{Site, post};
use crate::strain::{frame, head};

/// Connections of a crowd.
const CROWD: usize = 48;
/// What each may take, KiB: TLS or QUIC, the protocol's state, and what waits; in a debug build, with what the allocator
/// keeps beside it.
const EACH_KIB: u64 = 640;
/// The beginning of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames of HTTP/2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// END_HEADERS without END_STREAM, and with it.
const OPEN: u8 = 4;
const WHOLE: u8 = 5;

/// A query whose reply has 468 bytes.
fn padded() -> Message {
    Message::query("hoarded.cedar-mill.org", rtype::A)
        .id(0)
        .additional(opt(1232, 0, &option(12, &[0; 8])))
}

/// A node that has this answer, and what it had in memory then.
async fn site(fake: &Fake) -> (Site, u64) {
    let site = Site::before(&[fake]).await;
    assert_eq!(site.two().await.ask(&padded()).await.status, 200);
    assert_eq!(site.doq().await.ask(&padded()).await.rcode, rcode::NOERROR);
    let before_kib = site.node.resident_kib();
    (site, before_kib)
}

/// The crowd takes no more than it may, and is in nobody's way.
async fn is_borne(site: &Site, before_kib: u64) {
    let taken_kib = site.node.resident_kib().saturating_sub(before_kib);
    let most_kib = u64::try_from(CROWD).unwrap() * EACH_KIB;
    assert!(taken_kib < most_kib, "{taken_kib} KiB of {most_kib}");
    let asked = timeout(Duration::from_secs(2), async {
        assert_eq!(site.two().await.ask(&padded()).await.status, 200);
        assert_eq!(site.dot().await.ask(&padded()).await.rcode, rcode::NOERROR);
    });
    asked.await.expect("nobody waits for a crowd");
}

async fn cut(site: &Site, transport: &str) -> u64 {
    let transport = format!("transport=\"{transport}\"");
    site.node.metric("detour_connections_cut_total", &[&transport]).await
}

#[tokio::test]
async fn headers_that_stand_for_hundreds_are_not_held_for_a_client_that_does_not_read() {
    let fake = fake("fake");
    let (site, before_kib) = site(&fake).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut stream = site.connect("127.0.0.2", "https", &[b"h2"]).await.unwrap();
        // Bodies of replies have to wait: SETTINGS_INITIAL_WINDOW_SIZE is 0.
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        for index in 0..100 {
            let mut block = head(&padded().bytes());
            // A header that is kept as number 62, and asked for by one octet from then on.
            block.extend_from_slice(&[0x40, 1, b'x', 0]);
            block.extend_from_slice(&[0xBE; 400]);
            bytes.extend(frame(HEADERS, WHOLE, 2 * index + 1, &block));
        }
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        crowd.push(stream);
    }
    is_borne(&site, before_kib).await;
    // After ten seconds of waiting each reply is given up.
    drop(crowd);
    until("they are gone", PATIENCE, async || {
        site.node.metric("detour_connections", &["\"https\""]).await <= 1
    })
    .await;
}

#[tokio::test]
async fn bodies_of_http_2_that_never_end_are_not_held() {
    let fake = fake("fake");
    let (site, before_kib) = site(&fake).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut stream = site.connect("127.0.0.2", "https", &[b"h2"]).await.unwrap();
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        for index in 0..100 {
            // POST to the path, with the media type, and a part of the body.
            let mut block = vec![0x83, 0x87, 0x04, 10];
            block.extend_from_slice(b"/dns-query");
            block.extend_from_slice(&[0x0F, 0x10, 23]);
            block.extend_from_slice(b"application/dns-message");
            bytes.extend(frame(HEADERS, OPEN, 2 * index + 1, &block));
            bytes.extend(frame(DATA, 0, 2 * index + 1, &[0; 600]));
        }
        // As much as may be on its way; what comes beyond waits for credit.
        let written = stream.write_all(&bytes).await;
        assert!(written.is_ok() || cut(&site, "https").await > 0, "{written:?}");
        crowd.push(stream);
    }
    is_borne(&site, before_kib).await;
    for stream in &mut crowd {
        // Ten more for each: more than is held of one connection.
        for index in 0..100 {
            let more = frame(DATA, 0, 2 * index + 1, &[0; 200]);
            drop(stream.write_all(&more).await);
        }
        drop(stream.flush().await);
    }
    for mut stream in crowd {
        // A goodbye, and the end.
        let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        drop(end.expect("an end in time"));
    }
    assert_eq!(cut(&site, "https").await, u64::try_from(CROWD).unwrap());
    is_borne(&site, before_kib).await;
}

#[tokio::test]
async fn queries_over_quic_that_never_end_are_not_held() {
    let fake = fake("fake");
    let (site, before_kib) = site(&fake).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let doq = site.doq().await;
        let mut streams = Vec::new();
        // A message of 64 KiB, as it says, and the beginning of it.
        let mut begin = vec![0xFF; 2];
        begin.resize(4_000, 0);
        for _ in 0..16 {
            let (mut send, receive) = doq.connection.open_bi().await.unwrap();
            send.write_all(&begin).await.unwrap();
            streams.push((send, receive));
        }
        crowd.push((doq, streams));
    }
    is_borne(&site, before_kib).await;
    for (doq, mut streams) in crowd {
        for _ in 0..2 {
            let Ok(pair) = timeout(PATIENCE, doq.connection.open_bi()).await.unwrap() else {
                break;
            };
            streams.push(pair);
            let (send, _) = streams.last_mut().unwrap();
            drop(send.write_all(&[0xFF; 3_000]).await);
        }
        assert_eq!(doq.close_code().await, 4, "DOQ_EXCESSIVE_LOAD");
    }
    assert_eq!(cut(&site, "quic").await, u64::try_from(CROWD).unwrap());
    is_borne(&site, before_kib).await;
}

#[tokio::test]
async fn bodies_of_http_3_that_never_end_are_not_held() {
    let fake = fake("fake");
    let (site, before_kib) = site(&fake).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let three = site.three().await;
        let mut streams = Vec::new();
        for _ in 0..16 {
            let mut stream = three.sender.clone().send_request(post()).await.unwrap();
            stream.send_data(vec![0; 4_000].into()).await.unwrap();
            streams.push(stream);
        }
        crowd.push((three, streams));
    }
    is_borne(&site, before_kib).await;
    for (three, mut streams) in crowd {
        for _ in 0..2 {
            let Ok(mut stream) = three.sender.clone().send_request(post()).await else {
                break;
            };
            drop(stream.send_data(vec![0; 4_000].into()).await);
            streams.push(stream);
        }
        assert_eq!(three.quic.close_code().await, 0x107, "H3_EXCESSIVE_LOAD");
    }
    assert_eq!(cut(&site, "h3").await, u64::try_from(CROWD).unwrap());
    is_borne(&site, before_kib).await;
}

#[tokio::test]
async fn a_query_longer_than_any_is_answered_as_what_is_kept_of_it() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    // Options without end: what is left of them is no message.
    let long = Message::query("hoarded.cedar-mill.org", rtype::A).id(0).additional(opt(
        1232,
        0,
        &option(65_001, &[0; 30_000]),
    ));
    let bytes = long.bytes();
    let (two, three, doq) = (site.two().await, site.three().await, site.doq().await);
    let answers = [
        two.send(post(), Some(&bytes)).await.unwrap().reply().rcode,
        three.send(post(), Some(&bytes)).await.unwrap().reply().rcode,
        doq.ask(&long).await.rcode,
        site.dot().await.ask(&long).await.rcode,
    ];
    assert_eq!(answers, [rcode::FORMERR; 4]);
}

#[tokio::test]
async fn what_is_no_http_is_turned_away() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let garbage: Vec<u8> = (0..4_000_u32)
        .map(|index| u8::try_from(index * 7 % 251).unwrap())
        .collect();
    let binary: [&[u8]; 4] = [
        &garbage,
        &[PREFACE, &garbage].concat(),
        // A frame that is longer than any may be, and a stream that nobody opened.
        &[
            PREFACE,
            &frame(SETTINGS, 0, 0, &[]),
            &[0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 1],
        ]
        .concat(),
        &[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 7, b"x")].concat(),
    ];
    for (index, bytes) in binary.into_iter().enumerate() {
        let mut stream = site.connect("127.0.0.2", "https", &[b"h2"]).await.unwrap();
        drop(stream.write_all(bytes).await);
        let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        drop(end.unwrap_or_else(|_| panic!("{index} goes on")));
    }
    let mut stream = site.connect("127.0.0.2", "https", &[b"http/1.1"]).await.unwrap();
    stream.write_all(&garbage).await.unwrap();
    let mut said = Vec::new();
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut said))
            .await
            .expect("an end in time"),
    );
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
    // Frames of HTTP/3 that are none.
    let quic = site.quic("h3", b"h3").await;
    let (mut send, _receive) = quic.connection.open_bi().await.unwrap();
    send.write_all(&[0x00, 0x04, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(quic.close_code().await, 0x105, "H3_FRAME_UNEXPECTED");
    assert_eq!(site.two().await.ask(&padded()).await.status, 200);
    assert_eq!(site.three().await.ask(&padded()).await.status, 200);
}
