//! A fake over QUIC and HTTP/3, with quinn and h3 as its clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::Client;
use super::{DEADLINE, SILENCE};
use crate::authority::Authority;
use crate::fake::{ConnectionLimits, Fake, FakeConfig};
use crate::fault::{Closing, Fault};
use crate::law::Law;
use crate::message::{encode_query, parse_reply, rcode, rtype};
use crate::transport::{Transport, TransportSel};
use crate::zone;

const NAME: &str = "over-quic.elm-quarry.dev";

fn query() -> Vec<u8> {
    encode_query(0, NAME, rtype::A, Some(1232))
}

fn is_right(message: &[u8]) -> bool {
    parse_reply(message).is_some_and(|reply| reply.id == 0 && reply.addresses == [zone::expected_a(NAME).unwrap()])
}

/// A client of one transport, with a socket of its own.
struct Quic {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Quic {
    fn new(authority: &Authority, transport: Transport) -> Self {
        let crypto = QuicClientConfig::try_from(Client::new(authority, transport).config()).unwrap();
        Self {
            endpoint: Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
            config: ClientConfig::new(Arc::new(crypto)),
        }
    }

    async fn to(&self, fake: &Fake, transport: Transport) -> Result<Connection, ConnectionError> {
        let address = fake.address_of(transport).unwrap();
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), address, &fake.server_name());
        timeout(DEADLINE, connecting.unwrap()).await.unwrap()
    }
}

fn start(limits: ConnectionLimits) -> (Fake, Authority) {
    let authority = Authority::new().unwrap();
    let config = FakeConfig::new("fake1").law(Law::Flat(Duration::ZERO)).limits(limits);
    (Fake::start(config.encrypted(&authority)).unwrap(), authority)
}

/// One query on a stream of its own.
async fn ask(connection: &Connection) -> Option<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    let query = query();
    let length = u16::try_from(query.len()).unwrap();
    send.write_all(&length.to_be_bytes()).await.ok()?;
    send.write_all(&query).await.ok()?;
    send.finish().ok()?;
    let frame = recv.read_to_end(70_000).await.ok()?;
    let (length, message) = frame.split_first_chunk()?;
    assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
    Some(message.to_vec())
}

/// One query by POST, on a connection of its own.
async fn post(connection: Connection, authority: &str) -> (StatusCode, Vec<u8>) {
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(async move { driver.wait_idle().await });
    let request = Request::post(format!("https://{authority}/dns-query"))
        .header("content-type", "application/dns-message")
        .body(())
        .unwrap();
    let mut stream = requests.send_request(request).await.unwrap();
    stream.send_data(Bytes::from(query())).await.unwrap();
    stream.finish().await.unwrap();
    let response = stream.recv_response().await.unwrap();
    let mut body = Vec::new();
    while let Some(mut part) = stream.recv_data().await.unwrap() {
        body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    (response.status(), body)
}

#[tokio::test]
async fn queries_on_streams_are_answered_and_sessions_resumed() {
    let (fake, authority) = start(ConnectionLimits::default());
    let client = Quic::new(&authority, Transport::Doq);
    for _ in 0..2 {
        let connection = client.to(&fake, Transport::Doq).await.unwrap();
        for _ in 0..3 {
            assert!(is_right(&ask(&connection).await.unwrap()));
        }
        connection.close(0_u32.into(), b"");
    }
    let stats = fake.stats().doq;
    assert_eq!((stats.queries, stats.answered, stats.connections), (6, 6, 2));
    assert_eq!((stats.handshakes_full, stats.handshakes_resumed), (1, 1));
    assert_eq!(
        fake.last_server_name(Transport::Doq).as_deref(),
        Some("fake1.detour.test")
    );
}

#[tokio::test]
async fn requests_are_answered() {
    let (fake, authority) = start(ConnectionLimits::default());
    let client = Quic::new(&authority, Transport::Doh3);
    let connection = client.to(&fake, Transport::Doh3).await.unwrap();
    let (status, body) = post(connection, "fake1.detour.test").await;
    assert_eq!(status, StatusCode::OK);
    assert!(is_right(&body));
    assert_eq!(
        fake.last_authority(Transport::Doh3).as_deref(),
        Some("fake1.detour.test")
    );
    fake.set_fault(TransportSel::All, Fault::Http500);
    let connection = client.to(&fake, Transport::Doh3).await.unwrap();
    let (status, _) = post(connection, "fake1.detour.test").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn each_fault_is_seen() {
    let (fake, authority) = start(ConnectionLimits::default());
    let client = Quic::new(&authority, Transport::Doq);
    let set = |fault| fake.set_fault(TransportSel::Only(Transport::Doq), fault);
    set(Fault::Servfail);
    let connection = client.to(&fake, Transport::Doq).await.unwrap();
    let reply = ask(&connection).await.unwrap();
    assert_eq!(parse_reply(&reply).unwrap().rcode, rcode::SERVFAIL);
    for fault in [Fault::Rst, Fault::TlsExpired, Fault::TlsWrongName] {
        set(Fault::None);
        let connection = client.to(&fake, Transport::Doq).await.unwrap();
        set(fault);
        timeout(DEADLINE, connection.closed())
            .await
            .expect("what is open is closed");
        let refused = client.to(&fake, Transport::Doq).await.unwrap_err();
        assert!(!matches!(refused, ConnectionError::TimedOut), "{fault}: {refused}");
    }
    set(Fault::None);
    let connection = client.to(&fake, Transport::Doq).await.unwrap();
    for fault in [Fault::Blackhole, Fault::TlsStall] {
        set(fault);
        assert!(timeout(SILENCE, ask(&connection)).await.is_err(), "{fault}");
        let handshake = timeout(SILENCE, client.to(&fake, Transport::Doq)).await;
        assert!(handshake.is_err(), "{fault}");
        set(Fault::None);
        assert!(
            is_right(&timeout(DEADLINE, ask(&connection)).await.unwrap().unwrap()),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn limits_end_connections_and_the_port_is_given_back() {
    let (fake, authority) = start(ConnectionLimits {
        queries_max: Some(1),
        ..ConnectionLimits::default()
    });
    for transport in [Transport::Doq, Transport::Doh3] {
        let client = Quic::new(&authority, transport);
        let connection = client.to(&fake, transport).await.unwrap();
        if transport == Transport::Doq {
            assert!(is_right(&ask(&connection).await.unwrap()));
        } else {
            let (status, _) = post(connection.clone(), "fake1.detour.test").await;
            assert_eq!(status, StatusCode::OK);
        }
        timeout(DEADLINE, connection.closed()).await.unwrap();
    }
    let client = Quic::new(&authority, Transport::Doq);
    let connection = client.to(&fake, Transport::Doq).await.unwrap();
    fake.close_connections(TransportSel::All, Closing::Abrupt);
    timeout(DEADLINE, connection.closed()).await.unwrap();
    let connection = client.to(&fake, Transport::Doq).await.unwrap();
    let address = fake.address_of(Transport::Doq).unwrap();
    fake.shutdown().await;
    timeout(DEADLINE, connection.closed()).await.unwrap();
    std::net::UdpSocket::bind(address).unwrap();
}
