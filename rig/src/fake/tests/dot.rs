//! A fake over TLS, with tokio-rustls as its client.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, HandshakeKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Client, Tls, ask, kind, refusal};
use super::{DEADLINE, SILENCE, read_frame, send_frame};
use crate::authority::Authority;
use crate::fake::{ConnectionLimits, Encryption, Fake, FakeConfig};
use crate::fault::{Closing, Fault};
use crate::law::Law;
use crate::message::{encode_query, parse_reply, rcode, rtype};
use crate::transport::{ListedTransports, Transport, TransportSel};
use crate::zone;

const NAME: &str = "a.elm-quarry.dev";

fn query() -> Vec<u8> {
    encode_query(7, NAME, rtype::A, Some(1232))
}

fn start(law: Law) -> (Fake, Client, Authority) {
    let authority = Authority::new().unwrap();
    let fake = Fake::start(FakeConfig::new("fake1").law(law).encrypted(&authority)).unwrap();
    let client = Client::new(&authority, Transport::Dot);
    (fake, client, authority)
}

fn instant() -> (Fake, Client, Authority) {
    start(Law::Flat(Duration::ZERO))
}

fn is_right(reply: &[u8]) -> bool {
    parse_reply(reply).is_some_and(|reply| reply.id == 7 && reply.addresses == [zone::expected_a(NAME).unwrap()])
}

#[tokio::test]
async fn hundreds_of_queries_share_a_connection_and_come_back_when_they_are_due() {
    let (fake, client, _authority) = start(Law::Bimodal);
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    // The slow ones first: whoever answers in order keeps the others waiting.
    let mut names: Vec<_> = (0..400).map(|index| format!("q{index}.cedar-mill.org")).collect();
    names.sort_by_key(|name| std::cmp::Reverse(Law::Bimodal.latency(name)));
    for (id, name) in (0..).zip(&names) {
        send_frame(&mut stream, &encode_query(id, name, rtype::A, None)).await;
    }
    let mut ids = Vec::new();
    for _ in &names {
        let reply = parse_reply(&read_frame(&mut stream).await.unwrap()).unwrap();
        let name = &names[usize::from(reply.id)];
        assert_eq!(reply.addresses, [zone::expected_a(name).unwrap()], "{name}");
        ids.push(reply.id);
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 400);
    assert_ne!(ids.first(), Some(&0), "the slowest was asked first");
    let stats = fake.stats();
    assert_eq!(
        (stats.dot.queries, stats.dot.answered, stats.dot.dropped),
        (400, 400, 0)
    );
    assert_eq!(
        (stats.dot.connections, stats.dot.open, stats.dot.handshakes_full),
        (1, 1, 1)
    );
    assert_eq!((stats.tcp.connections, stats.doh.connections), (0, 0));
    fake.shutdown().await;
}

#[tokio::test]
async fn sessions_are_resumed_by_ticket_if_there_are_tickets() {
    for (version, tickets) in [(&TLS13, true), (&TLS13, false), (&TLS12, true), (&TLS12, false)] {
        let second = if tickets {
            HandshakeKind::Resumed
        } else {
            HandshakeKind::Full
        };
        let authority = Authority::new().unwrap();
        let config = FakeConfig::new("fake1").encrypted(&authority);
        let encryption = config.encryption.clone().unwrap();
        let encryption = Some(Encryption { tickets, ..encryption });
        let fake = Fake::start(FakeConfig { encryption, ..config }).unwrap();
        let client = Client::with(&authority, &[], &[version]);
        for expected in [HandshakeKind::Full, second] {
            let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
            assert!(is_right(&ask(&mut stream, &query()).await.unwrap()));
            assert_eq!(kind(&stream), expected, "{version:?}, tickets: {tickets}");
        }
        let stats = fake.stats().dot;
        let resumed = u64::from(tickets);
        assert_eq!(
            (stats.handshakes_full, stats.handshakes_resumed, stats.connections),
            (2 - resumed, resumed, 2)
        );
        fake.shutdown().await;
    }
}

#[tokio::test]
async fn the_certificate_is_for_its_name_and_for_its_address() {
    let (fake, client, _authority) = instant();
    let address = fake.address_of(Transport::Dot).unwrap();
    assert_eq!(
        fake.endpoints(ListedTransports::DotUdp),
        [
            format!("tls://{address}#fake1.detour.test"),
            format!("udp://{}", fake.address())
        ]
    );
    let mut stream = client.connect(address, "fake1.detour.test").await.unwrap();
    assert!(is_right(&ask(&mut stream, &query()).await.unwrap()));
    assert_eq!(
        fake.last_server_name(Transport::Dot).as_deref(),
        Some("fake1.detour.test")
    );
    let mut stream = client.connect(address, "127.0.0.1").await.unwrap();
    assert!(is_right(&ask(&mut stream, &query()).await.unwrap()));
    assert_eq!(fake.last_server_name(Transport::Dot), None);
    let error = client.connect(address, "fake2.detour.test").await.unwrap_err();
    assert!(
        matches!(refusal(&error), CertificateError::NotValidForNameContext { .. }),
        "{error}"
    );
    let stranger = Client::new(&Authority::new().unwrap(), Transport::Dot);
    let error = stranger.to(&fake, Transport::Dot).await.unwrap_err();
    assert_eq!(*refusal(&error), CertificateError::UnknownIssuer);
    fake.shutdown().await;
}

#[tokio::test]
async fn a_wrong_certificate_is_seen_by_everybody_and_mended_at_once() {
    let (fake, client, _authority) = instant();
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    ask(&mut stream, &query()).await.unwrap();
    for fault in [Fault::TlsExpired, Fault::TlsWrongName] {
        fake.set_fault(TransportSel::All, fault);
        let reset = read_frame(&mut stream).await.unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "{fault}");
        // The client has a ticket, and would see no certificate with it.
        let error = client.to(&fake, Transport::Dot).await.unwrap_err();
        match (fault, refusal(&error)) {
            (Fault::TlsExpired, CertificateError::ExpiredContext { .. })
            | (Fault::TlsWrongName, CertificateError::NotValidForNameContext { .. }) => {}
            (fault, reason) => panic!("{fault}: {reason:?}"),
        }
        fake.set_fault(TransportSel::All, Fault::None);
        stream = client.to(&fake, Transport::Dot).await.unwrap();
        assert!(is_right(&ask(&mut stream, &query()).await.unwrap()), "{fault}");
    }
    // The client tells why; whether the fake has read that is a matter of moments.
    let start = crate::clock::now();
    while fake.stats().dot.handshakes_failed < 2 {
        assert!(crate::clock::now() < start + DEADLINE, "{}", fake.stats());
        tokio::task::yield_now().await;
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn a_stall_and_a_black_hole_leave_connections_open_and_say_nothing() {
    let (fake, client, _authority) = instant();
    for fault in [Fault::TlsStall, Fault::Blackhole] {
        let mut open = client.to(&fake, Transport::Dot).await.unwrap();
        ask(&mut open, &query()).await.unwrap();
        let before = fake.stats().dot;
        fake.set_fault(TransportSel::Only(Transport::Dot), fault);
        send_frame(&mut open, &query()).await;
        assert!(timeout(SILENCE, open.read_u16()).await.is_err(), "{fault}");
        let mut handshake = Box::pin(client.to(&fake, Transport::Dot));
        assert!(timeout(SILENCE, &mut handshake).await.is_err(), "{fault}");
        let silent = fake.stats().dot;
        assert_eq!(
            (silent.queries - before.queries, silent.dropped - before.dropped),
            (1, 1)
        );
        assert_eq!(
            (silent.connections - before.connections, silent.handshakes_failed),
            (1, 0)
        );

        fake.set_fault(TransportSel::Only(Transport::Dot), Fault::None);
        // Both go on from where they were.
        assert!(is_right(&ask(&mut open, &query()).await.unwrap()), "{fault}");
        let mut late = handshake.await.unwrap();
        assert!(is_right(&ask(&mut late, &query()).await.unwrap()), "{fault}");
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn a_flap_is_silent_and_honest_in_turn_on_one_connection() {
    let (fake, client, _authority) = instant();
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    fake.set_fault(
        TransportSel::Only(Transport::Dot),
        Fault::Flap(Duration::from_millis(100)),
    );
    let mut answers = vec![is_answered(&mut stream).await];
    // This handshake begins in the dark or in the light, and ends by itself in the light.
    let mut second = client.to(&fake, Transport::Dot).await.unwrap();
    let start = crate::clock::now();
    // Both twice, whichever came first.
    while answers.len() < 4 {
        assert!(crate::clock::now() < start + DEADLINE, "{answers:?}");
        let answered = is_answered(&mut second).await;
        if answers.last() != Some(&answered) {
            answers.push(answered);
        }
    }
    fake.shutdown().await;
}

/// Whether a query is answered before the next one would be sent.
async fn is_answered(stream: &mut Tls) -> bool {
    send_frame(stream, &query()).await;
    let frame = timeout(Duration::from_millis(20), read_frame(stream)).await;
    frame.is_ok_and(|frame| is_right(&frame.unwrap()))
}

#[tokio::test]
async fn a_reset_ends_what_is_open_and_what_is_new() {
    let (fake, client, _authority) = instant();
    let mut open = client.to(&fake, Transport::Dot).await.unwrap();
    fake.set_fault(TransportSel::Only(Transport::Dot), Fault::Rst);
    let error = read_frame(&mut open).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(client.to(&fake, Transport::Dot).await.is_err());
    // A fault that is over before anybody looks has still cut what was open.
    fake.set_fault(TransportSel::Only(Transport::Dot), Fault::None);
    let mut open = client.to(&fake, Transport::Dot).await.unwrap();
    fake.set_fault(TransportSel::Only(Transport::Dot), Fault::Rst);
    fake.set_fault(TransportSel::Only(Transport::Dot), Fault::None);
    assert!(read_frame(&mut open).await.is_err());
    let mut open = client.to(&fake, Transport::Dot).await.unwrap();
    assert!(is_right(&ask(&mut open, &query()).await.unwrap()));
    fake.shutdown().await;
}

#[tokio::test]
async fn faults_of_messages_are_those_of_every_stream() {
    let (fake, client, _authority) = instant();
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    for (fault, code) in [
        (Fault::Servfail, rcode::SERVFAIL),
        (Fault::Refused, rcode::REFUSED),
        (Fault::Nxdomain, rcode::NXDOMAIN),
        (Fault::Lie, rcode::NOERROR),
        (Fault::Wrongid, rcode::NOERROR),
    ] {
        fake.set_fault(TransportSel::All, fault);
        let reply = ask(&mut stream, &query()).await.unwrap();
        assert_eq!(parse_reply(&reply).unwrap().rcode, code, "{fault}");
        assert!(!is_right(&reply), "{fault}");
    }
    for fault in [
        Fault::Truncate,
        Fault::Http500,
        Fault::Slow(Duration::from_millis(1)),
        Fault::None,
    ] {
        fake.set_fault(TransportSel::All, fault);
        assert!(is_right(&ask(&mut stream, &query()).await.unwrap()), "{fault}");
    }
    fake.set_fault(TransportSel::All, Fault::Garbage);
    for _ in 0..5 {
        assert!(!is_right(&ask(&mut stream, &query()).await.unwrap()));
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn loss_over_a_stream_is_an_answer_that_does_not_come() {
    let (fake, client, _authority) = instant();
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    fake.set_fault(TransportSel::All, Fault::Loss(0.3));
    for id in 0..1_000 {
        send_frame(&mut stream, &encode_query(id, NAME, rtype::A, None)).await;
    }
    let start = crate::clock::now();
    let done = loop {
        let stats = fake.stats().dot;
        if stats.answered + stats.dropped == 1_000 {
            break stats;
        }
        assert!(crate::clock::now() < start + DEADLINE, "{stats:?}");
        tokio::task::yield_now().await;
    };
    assert!((600..800).contains(&done.answered), "{done:?}");
    for _ in 0..done.answered {
        read_frame(&mut stream).await.unwrap();
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn limits_and_demand_close_connections_after_what_is_in_flight() {
    let authority = Authority::new().unwrap();
    let limits = ConnectionLimits {
        idle: Some(Duration::from_millis(250)),
        queries_max: Some(3),
        ..ConnectionLimits::default()
    };
    let fake = Fake::start(FakeConfig::new("fake1").encrypted(&authority).limits(limits)).unwrap();
    let client = Client::new(&authority, Transport::Dot);
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    for _ in 0..4 {
        send_frame(&mut stream, &query()).await;
    }
    for _ in 0..3 {
        assert!(is_right(&read_frame(&mut stream).await.unwrap()));
    }
    assert!(read_frame(&mut stream).await.is_err(), "three are the most");
    assert_eq!(fake.stats().dot.closed_idle, 0);
    let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
    assert!(is_right(&ask(&mut stream, &query()).await.unwrap()));
    let error = read_frame(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "an orderly end");
    assert_eq!(fake.stats().dot.closed_idle, 1);
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    send_frame(&mut stream, &query()).await;
    assert!(is_right(&read_frame(&mut stream).await.unwrap()));
    assert!(read_frame(&mut stream).await.is_err());
    assert_eq!(fake.stats().tcp.closed_idle, 1);
    fake.shutdown().await;

    let law = Law::Flat(Duration::from_millis(100));
    let fake = Fake::start(FakeConfig::new("fake1").encrypted(&authority).law(law)).unwrap();
    for (closing, answered) in [(Closing::Polite, true), (Closing::Abrupt, false)] {
        let mut stream = client.to(&fake, Transport::Dot).await.unwrap();
        let before = fake.stats().dot.queries;
        send_frame(&mut stream, &query()).await;
        while fake.stats().dot.queries == before {
            tokio::task::yield_now().await;
        }
        fake.close_connections(TransportSel::All, closing);
        assert_eq!(read_frame(&mut stream).await.is_ok(), answered, "{closing:?}");
        assert!(read_frame(&mut stream).await.is_err());
    }
    fake.shutdown().await;
}
