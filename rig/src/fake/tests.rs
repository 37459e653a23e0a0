//! A fake over real loopback sockets, its answers decoded by hickory-proto, which had no part in making them.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::sockets::bind_udp;
use super::{Fake, FakeConfig};
use crate::clock;
use crate::fault::Fault;
use crate::law::Law;
use crate::message::{encode_query, rtype};
use crate::transport::{Transport, TransportSel};
use crate::zone;

pub(crate) mod client;
mod doh;
mod dot;
mod quic;

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a test waits for what must not happen.
const SILENCE: Duration = Duration::from_millis(150);

fn start(law: Law) -> Fake {
    Fake::start(FakeConfig::new("fake1").law(law)).unwrap()
}

async fn client(fake: &Fake) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(fake.address()).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let count = timeout(DEADLINE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(count);
    buffer
}

async fn ask(socket: &UdpSocket, name: &str, rtype: u16, edns: Option<u16>) -> Message {
    socket.send(&encode_query(0x4242, name, rtype, edns)).await.unwrap();
    Message::from_vec(&receive(socket).await).unwrap()
}

async fn send_frame(stream: &mut (impl AsyncWrite + Unpin), query: &[u8]) {
    let mut frame = u16::try_from(query.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(query);
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = timeout(DEADLINE, stream.read_u16()).await.unwrap()?;
    let mut bytes = vec![0; usize::from(length)];
    timeout(DEADLINE, stream.read_exact(&mut bytes)).await.unwrap()?;
    Ok(bytes)
}

/// Asks again and again until an attempt passes: for changes that take effect soon, not at once.
async fn until_answered(fake: &Fake) {
    let start = clock::now();
    while clock::now() < start + DEADLINE {
        let socket = client(fake).await;
        let mut buffer = [0; 512];
        socket
            .send(&encode_query(1, "again.alder-lane.com", rtype::A, None))
            .await
            .unwrap();
        if let Ok(Ok(_)) = timeout(SILENCE, socket.recv(&mut buffer)).await {
            return;
        }
    }
    panic!("not answered");
}

#[tokio::test]
async fn honest_answers_are_what_the_zone_says() {
    let fake = start(Law::Flat(Duration::ZERO));
    let socket = client(&fake).await;
    let name = "QuEry.Birch-Harbor.NET";
    let reply = ask(&socket, name, rtype::A, Some(1400)).await;
    assert_eq!(reply.queries[0].name().to_string(), "QuEry.Birch-Harbor.NET.");
    assert_eq!(reply.answers[0].data, RData::A(zone::expected_a(name).unwrap().into()));
    assert_eq!(reply.answers[0].ttl, 300);
    assert_eq!(reply.edns.as_ref().unwrap().max_payload(), 1232);
    assert!(reply.metadata.recursion_available && !reply.metadata.truncation);
    let reply = ask(&socket, name, rtype::AAAA, None).await;
    assert_eq!(
        reply.answers[0].data,
        RData::AAAA(zone::expected_aaaa(name).unwrap().into())
    );
    assert!(reply.edns.is_none());
    let reply = ask(&socket, name, rtype::TXT, None).await;
    assert_eq!(reply.answers[0].data.to_string(), zone::expected_txt(name).unwrap());
    let reply = ask(&socket, "cname.birch-harbor.net", rtype::A, None).await;
    assert_eq!(reply.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(reply.answers[1].name.to_string(), "target.birch-harbor.net.");
    let reply = ask(&socket, ".", rtype::NS, None).await;
    assert_eq!(
        (reply.answers.len(), reply.queries[0].name().to_string()),
        (13, ".".to_owned())
    );
    for (name, rtype, code) in [
        ("x.birch-harbor.net", 65, ResponseCode::NoError),
        ("x.birch-harbor.net", 65_280, ResponseCode::NoError),
        ("nowhere.invalid", 1, ResponseCode::NXDomain),
    ] {
        let reply = ask(&socket, name, rtype, Some(1232)).await;
        assert_eq!(
            (reply.metadata.response_code, reply.answers.len()),
            (code, 0),
            "{name} {rtype}"
        );
        assert_eq!(reply.authorities[0].record_type(), RecordType::SOA, "{name} {rtype}");
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_comes_over_tcp() {
    let fake = start(Law::Flat(Duration::ZERO));
    let socket = client(&fake).await;
    let name = "big-1300.iris-ledger.io";
    let reply = ask(&socket, name, rtype::TXT, Some(1232)).await;
    assert!(reply.metadata.truncation);
    assert_eq!(
        (reply.answers.len(), reply.queries.len(), reply.edns.is_some()),
        (0, 1, true)
    );
    assert!(!ask(&socket, name, rtype::TXT, Some(4096)).await.metadata.truncation);
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    for name in [name, "big-60000.iris-ledger.io"] {
        send_frame(&mut stream, &encode_query(1, name, rtype::TXT, None)).await;
        let reply = Message::from_vec(&read_frame(&mut stream).await.unwrap()).unwrap();
        assert_eq!((reply.answers.len(), reply.metadata.truncation), (1, false));
    }
    fake.shutdown().await;
}

#[tokio::test]
async fn tcp_replies_leave_when_they_are_due() {
    let fake = start(Law::Bimodal);
    let name = |index: u32| format!("order{index}.cedar-mill.org");
    let with = |from: u64, to: u64| {
        let range = Duration::from_millis(from)..Duration::from_millis(to);
        (0..)
            .map(name)
            .find(|name| range.contains(&Law::Bimodal.latency(name)))
            .unwrap()
    };
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    send_frame(&mut stream, &encode_query(1, &with(600, 800), rtype::A, None)).await;
    send_frame(&mut stream, &encode_query(2, &with(8, 25), rtype::A, None)).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(
            Message::from_vec(&read_frame(&mut stream).await.unwrap())
                .unwrap()
                .metadata
                .id,
        );
    }
    assert_eq!(ids, [2, 1]);
    assert_eq!((fake.stats().tcp.connections, fake.stats().tcp.answered), (1, 2));
    fake.shutdown().await;
}

#[tokio::test]
async fn a_black_hole_swallows_what_is_on_its_way_and_ends() {
    let fake = start(Law::Flat(Duration::from_millis(700)));
    let socket = client(&fake).await;
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    let query = encode_query(1, "a.elm-quarry.dev", rtype::A, None);
    socket.send(&query).await.unwrap();
    send_frame(&mut stream, &query).await;
    let start = clock::now();
    while fake.stats().queries() < 2 {
        assert!(clock::now() < start + DEADLINE);
        tokio::task::yield_now().await;
    }
    fake.set_fault(TransportSel::All, Fault::Blackhole);
    let late = Duration::from_millis(900);
    assert!(timeout(late, socket.recv(&mut [0; 512])).await.is_err());
    assert!(
        timeout(SILENCE, stream.read_u16()).await.is_err(),
        "open connections stay open and silent"
    );
    let mut silent = TcpStream::connect(fake.tcp_address()).await.unwrap();
    send_frame(&mut silent, &query).await;
    assert!(
        timeout(SILENCE, silent.read_u16()).await.is_err(),
        "new connections are accepted and stay silent"
    );
    fake.set_fault(TransportSel::All, Fault::None);
    assert_eq!(ask(&socket, "a.elm-quarry.dev", rtype::A, None).await.answers.len(), 1);
    send_frame(&mut stream, &query).await;
    assert!(read_frame(&mut stream).await.is_ok());
    assert_eq!(fake.stats().udp.dropped, 1);
    fake.shutdown().await;
}

#[tokio::test]
async fn rst_closes_the_port_and_resets_connections_until_it_ends() {
    let fake = start(Law::Flat(Duration::ZERO));
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    let query = encode_query(1, "a.elm-quarry.dev", rtype::A, None);
    send_frame(&mut stream, &query).await;
    read_frame(&mut stream).await.unwrap();
    for _ in 0..3 {
        fake.set_fault(TransportSel::All, Fault::Rst);
        let start = clock::now();
        let refused = loop {
            let socket = client(&fake).await;
            socket.send(&query).await.unwrap();
            match timeout(SILENCE, socket.recv(&mut [0; 512])).await {
                Ok(Err(error)) => break error,
                _ => assert!(clock::now() < start + DEADLINE),
            }
        };
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let error = read_frame(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        // The port is still ours.
        let taken = bind_udp(fake.address(), false);
        assert!(taken.is_err(), "{taken:?}");
        stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
        assert!(read_frame(&mut stream).await.is_err(), "a new connection is reset too");
        fake.set_fault(TransportSel::All, Fault::None);
        until_answered(&fake).await;
        stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
        send_frame(&mut stream, &query).await;
        read_frame(&mut stream).await.unwrap();
    }
    let address = fake.address();
    fake.shutdown().await;
    let again = Fake::start(FakeConfig::new("fake1").at(address)).unwrap();
    assert_eq!(again.address(), address);
    again.shutdown().await;
}

#[tokio::test]
async fn faults_belong_to_one_transport() {
    let fake = start(Law::Flat(Duration::ZERO));
    let socket = client(&fake).await;
    let mut stream = TcpStream::connect(fake.tcp_address()).await.unwrap();
    fake.set_fault(TransportSel::Only(Transport::Udp), Fault::Truncate);
    fake.set_fault(TransportSel::Only(Transport::Tcp), Fault::Garbage);
    assert!(
        ask(&socket, "a.dune-signal.io", rtype::A, None)
            .await
            .metadata
            .truncation
    );
    let query = encode_query(1, "a.dune-signal.io", rtype::A, None);
    for _ in 0..5 {
        // Framed, so the connection stays in step; what is in the frames is noise.
        send_frame(&mut stream, &query).await;
        read_frame(&mut stream).await.unwrap();
    }
    fake.set_fault(TransportSel::Only(Transport::Udp), Fault::Wrongid);
    assert_ne!(
        ask(&socket, "a.dune-signal.io", rtype::A, None).await.metadata.id,
        0x4242
    );
    fake.shutdown().await;
}

#[tokio::test]
async fn loss_over_udp_is_about_what_it_says() {
    let fake = start(Law::Flat(Duration::ZERO));
    fake.set_fault(TransportSel::Only(Transport::Udp), Fault::Loss(0.3));
    let socket = client(&fake).await;
    let mut answered = 0;
    for _ in 0..50 {
        for id in 0..20 {
            socket
                .send(&encode_query(id, "a.dune-signal.io", rtype::A, None))
                .await
                .unwrap();
        }
        let mut buffer = [0; 512];
        let wait = Duration::from_millis(20);
        while timeout(wait, socket.recv(&mut buffer)).await.is_ok() {
            answered += 1;
        }
    }
    assert!((600..800).contains(&answered), "{answered} of 1000");
    fake.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let fake = start(Law::default());
    let error = Fake::start(FakeConfig::new("fake2").at(fake.address())).unwrap_err();
    let expected = format!("cannot listen on udp {}", fake.address());
    assert_eq!(error.to_string(), expected);
    assert_eq!(fake.address(), fake.tcp_address());
    fake.shutdown().await;
}
