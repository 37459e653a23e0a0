//! Clients of encrypted DNS that want too much, say too little, or break the rules: each has a bound, the bound has an
//! action, and others are served meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use detour_rig::{Fault, FreshNames, Law, TransportSel, zone};
use quinn::{ConnectionError, VarInt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::client::{PATIENCE, framed};
use crate::message::{Message, opt, option, rcode, rtype};
use crate::node::{Node, fake, fake_with, signal, until};
use crate::secure::{NAME, PATH, Site, base64url};

fn query(name: &str) -> Message {
    Message::query(name, rtype::A).id(0)
}

async fn refused(node: &Node, transport: &str, why: &str) -> u64 {
    let labels = [format!("transport=\"{transport}\""), format!("why=\"{why}\"")];
    node.metric("detour_connections_refused_total", &[&labels[0], &labels[1]])
        .await
}

async fn cut(node: &Node, transport: &str, why: &str) -> u64 {
    let labels = [format!("transport=\"{transport}\""), format!("why=\"{why}\"")];
    node.metric("detour_connections_cut_total", &[&labels[0], &labels[1]])
        .await
}

#[tokio::test]
async fn connections_are_limited_in_all_and_for_each_client() {
    let fake = fake("fake");
    let limits = "\n[limits]\ntls-connections = 4\nquic-connections = 2\n";
    let site = Site::with(&[&fake], "", limits).await;
    let connect = async |own: &str, what: &str| site.connect(own, what, &[]).await;
    let mut open = Vec::new();
    for (own, what) in [("127.0.0.1", "tls"), ("127.0.0.1", "https"), ("127.0.0.2", "tls")] {
        open.push(connect(own, what).await.unwrap());
    }
    for what in ["tls", "https"] {
        assert!(
            connect("127.0.0.1", what).await.is_err(),
            "two of four are a client's share"
        );
    }
    open.push(connect("127.0.0.3", "https").await.unwrap());
    // Whoever has most makes room for who has none, with what it has not used for longest.
    open.push(connect("127.0.0.4", "tls").await.unwrap());
    let ended = timeout(PATIENCE, open[0].read(&mut [0; 64])).await;
    assert!(!matches!(ended.expect("an end in time"), Ok(1..)));
    assert_eq!(cut(&site.node, "tls", "room").await, 1);
    assert!(connect("127.0.0.4", "tls").await.is_err(), "nobody has more");
    assert_eq!(refused(&site.node, "tls", "client").await, 1);
    assert_eq!(refused(&site.node, "https", "client").await, 1);
    assert_eq!(refused(&site.node, "tls", "total").await, 1);
    assert_eq!(site.node.metric("detour_connections", &["transport=\"tls\""]).await, 2);
    // Others have places of their own.
    let doq = site.doq().await;
    let second = site
        .quic_endpoint(b"doq")
        .connect(site.node.listening("quic"), NAME)
        .unwrap();
    assert!(
        matches!(second.await, Err(ConnectionError::ConnectionClosed(_))),
        "one of two is a client's share"
    );
    assert_eq!(refused(&site.node, "quic", "client").await, 1);
    assert_eq!(doq.ask(&query("others.cedar-mill.org")).await.rcode, rcode::NOERROR);
    doq.connection.close(VarInt::from_u32(0), b"");
    open.pop();
    until("places are free again", PATIENCE, async || {
        connect("127.0.0.4", "tls").await.is_ok()
    })
    .await;
    until("and for QUIC", PATIENCE, async || {
        let again = site
            .quic_endpoint(b"doq")
            .connect(site.node.listening("quic"), NAME)
            .unwrap();
        again.await.is_ok()
    })
    .await;
}

async fn silent(own: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(own.parse().unwrap(), 0)).unwrap();
    socket.connect(address).await.unwrap()
}

#[tokio::test]
async fn handshakes_that_do_not_come_are_cut_and_hold_up_nobody() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let mut slow = Vec::new();
    for index in 0..300 {
        let what = if index % 2 == 0 { "tls" } else { "https" };
        let own = if index < 150 { "127.0.0.2" } else { "127.0.0.3" };
        let mut stream = silent(own, site.node.listening(what)).await;
        // The beginning of a handshake record, and then nothing.
        drop(stream.write_all(&[0x16]).await);
        slow.push(stream);
    }
    until(
        "both clients have their share, which is all there is",
        PATIENCE,
        async || {
            refused(&site.node, "tls", "handshakes").await + refused(&site.node, "https", "handshakes").await >= 40
        },
    )
    .await;
    let asked = timeout(Duration::from_secs(2), async {
        let (mut dot, two) = (site.dot().await, site.two().await);
        let reply = dot.ask(&query("meanwhile.cedar-mill.org")).await;
        assert_eq!(reply.rcode, rcode::NOERROR);
        assert_eq!(two.ask(&query("meanwhile.cedar-mill.org")).await.status, 200);
    });
    asked.await.expect("nobody waits for others' handshakes");
    let ended = cut(&site.node, "tls", "room").await + cut(&site.node, "https", "room").await;
    assert!(ended >= 1, "{ended} made room");
    for stream in &mut slow {
        let end = timeout(PATIENCE, stream.read(&mut [0; 64]))
            .await
            .expect("an end in time");
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    }
    until("they are counted", PATIENCE, async || {
        site.node
            .metric("detour_handshakes_total", &["result=\"timeout\""])
            .await
            >= 128
    })
    .await;
    assert_eq!(site.node.metric("detour_connections", &["transport=\"tls\""]).await, 0);
}

#[tokio::test]
async fn strangers_prove_their_address_while_many_handshakes_are_under_way() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    // The first packets of many clients, gathered by somebody who never answers, and sent on by him.
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = site.quic_endpoint(b"doq");
    let mut connecting = Vec::new();
    // By the id of the connection, which follows form, version and its own length (RFC 9000 section 17.2).
    let mut packets = BTreeMap::new();
    while packets.len() < 80 {
        connecting.push(endpoint.connect(sink.local_addr().unwrap(), NAME).unwrap());
        let mut packet = vec![0; 2_000];
        let (length, _) = timeout(PATIENCE, sink.recv_from(&mut packet)).await.unwrap().unwrap();
        packet.truncate(length);
        let id = packet[6..6 + usize::from(packet[5])].to_vec();
        packets.entry(id).or_insert(packet);
    }
    let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    assert_eq!(site.node.metric("detour_quic_retries_total", &[]).await, 0);
    for packet in packets.values() {
        stranger.send_to(packet, site.node.listening("quic")).await.unwrap();
        // One after another: what is lost in a full buffer begins no handshake.
        tokio::task::yield_now().await;
    }
    until("the crowd is noticed", PATIENCE, async || {
        site.node
            .metric("detour_quic_retries_total", &["transport=\"quic\""])
            .await
            > 0
    })
    .await;
    let before = site.node.metric("detour_quic_retries_total", &[]).await;
    let doq = site.doq().await;
    assert_eq!(doq.ask(&query("proven.cedar-mill.org")).await.rcode, rcode::NOERROR);
    assert!(site.node.metric("detour_quic_retries_total", &[]).await > before);
    drop(connecting);
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The head of a GET in HPACK, nothing indexed but names.
pub(crate) fn head(message: &[u8]) -> Vec<u8> {
    let path = format!("{PATH}?dns={}", base64url(message));
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, u8::try_from(NAME.len()).unwrap()]);
    block.extend_from_slice(NAME.as_bytes());
    block
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_their_connection_and_hold_up_nobody() {
    let fake = fake_with("fake", Law::Bimodal);
    let site = Site::before(&[&fake]).await;
    let stream = site.connect("127.0.0.2", "https", &[b"h2"]).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let names = FreshNames::default();
    let flood = async {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        for index in 0..5_000_u32 {
            let (name, stream) = (names.name(u64::from(index)), 2 * index + 1);
            // HEADERS with END_STREAM and END_HEADERS; RST_STREAM with CANCEL.
            bytes.extend(frame(1, 5, stream, &head(&query(&name).bytes())));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
            if write.write_all(&bytes).await.is_err() {
                break;
            }
            bytes.clear();
        }
        drop(write.flush().await);
    };
    let goodbye = async {
        loop {
            let mut frame_head = [0; 9];
            if read.read_exact(&mut frame_head).await.is_err() {
                return None;
            }
            let [l0, l1, l2, kind, ..] = frame_head;
            let mut payload = vec![0; usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2)];
            read.read_exact(&mut payload).await.ok()?;
            if kind == 7 {
                return Some(u32::from_be_bytes(*payload[4..].first_chunk().unwrap()));
            }
        }
    };
    let both = timeout(PATIENCE, async { tokio::join!(flood, goodbye) });
    let (_, code) = both.await.expect("an end in time");
    assert_eq!(code, Some(0xb), "ENHANCE_YOUR_CALM");
    assert_eq!(cut(&site.node, "https", "flood").await, 1);
    assert!(
        fake.stats().queries() < 1_000,
        "{} lookups for nobody",
        fake.stats().queries()
    );
    assert_eq!(site.two().await.ask(&query("calm.cedar-mill.org")).await.status, 200);
}

#[tokio::test]
async fn what_breaks_the_rules_of_doq_ends_the_connection() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let good = framed(&query("rules.cedar-mill.org").bytes());
    let with_id = framed(&query("rules.cedar-mill.org").id(7).bytes());
    let mut response = good.clone();
    response[4] |= 0x80;
    let mut longer = good.clone();
    longer.push(0);
    let keepalive = query("rules.cedar-mill.org").additional(opt(1232, 0, &option(11, &[])));
    for (index, broken) in [
        with_id.as_slice(),
        &response,
        &longer,
        &good[..good.len() - 1],
        &good.repeat(2),
        &[0, 0],
        &[],
        &framed(&keepalive.bytes()),
    ]
    .into_iter()
    .enumerate()
    {
        let doq = site.doq().await;
        assert_eq!(doq.ask(&query("rules.cedar-mill.org")).await.rcode, rcode::NOERROR);
        assert_eq!(doq.exchange(broken).await, None, "{index}");
        assert_eq!(doq.close_code().await, 2, "{index}: DOQ_PROTOCOL_ERROR");
    }
    assert_eq!(cut(&site.node, "quic", "protocol").await, 8);
    // A query that its client gives up is no mistake, and no stream in the other kind is allowed.
    let doq = site.doq().await;
    let (mut send, _receive) = doq.connection.open_bi().await.unwrap();
    send.write_all(&good[..5]).await.unwrap();
    send.reset(VarInt::from_u32(3)).unwrap();
    assert_eq!(doq.ask(&query("rules.cedar-mill.org")).await.rcode, rcode::NOERROR);
    assert!(
        timeout(Duration::from_millis(50), doq.connection.open_uni())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_request_of_http_3_without_an_end_is_not_kept() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    let quic = site.quic("h3", b"h3").await;
    let (mut send, _receive) = quic.connection.open_bi().await.unwrap();
    // HEADERS of 2^30 octets.
    let mut bytes = vec![0x01, 0xC0, 0, 0, 0, 0x40, 0, 0, 0];
    bytes.resize(16 * 1024, 0);
    let endless = async { while send.write_all(&bytes).await.is_ok() {} };
    timeout(PATIENCE, endless).await.expect("an end in time");
    assert_eq!(quic.close_code().await, 0x107, "H3_EXCESSIVE_LOAD");
    assert_eq!(cut(&site.node, "h3", "flood").await, 1);
    assert_eq!(site.three().await.ask(&query("calm.cedar-mill.org")).await.status, 200);
}

#[tokio::test]
async fn connections_on_which_nobody_asks_are_closed_without_an_error() {
    let fake = fake("fake");
    let site = Site::with(&[&fake], "", "\n[limits]\nencrypted-idle = \"1s\"\n").await;
    let (mut dot, two, three, doq) = (site.dot().await, site.two().await, site.three().await, site.doq().await);
    let query = query("idle.cedar-mill.org");
    assert_eq!(dot.ask(&query).await.rcode, rcode::NOERROR);
    assert_eq!(two.ask(&query).await.status, 200);
    assert_eq!(three.ask(&query).await.status, 200);
    assert_eq!(doq.ask(&query).await.rcode, rcode::NOERROR);
    let mut one = site.connect("127.0.0.1", "https", &[b"http/1.1"]).await.unwrap();
    assert_eq!(dot.receive().await, None);
    two.end().await.expect("GOAWAY without an error");
    assert_eq!(
        (three.quic.close_code().await, doq.close_code().await),
        (0x100, 0),
        "without an error"
    );
    let end = timeout(PATIENCE, one.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok());
    assert_eq!(cut(&site.node, "https", "").await, 0);
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_says_goodbye() {
    let slow = fake_with("fake", Law::Bimodal);
    let mut site = Site::before(&[&slow]).await;
    let names = FreshNames::default();
    let is_slow = |name: &String| {
        let takes = Law::Bimodal.latency(name);
        (Duration::from_millis(500)..Duration::from_millis(900)).contains(&takes)
    };
    let slow_names: Vec<String> = (0..).map(|index| names.name(index)).filter(is_slow).take(4).collect();
    let (mut dot, two, three, doq) = (site.dot().await, site.two().await, site.three().await, site.doq().await);
    // Everybody is known, and waits.
    let warm = query("warm.cedar-mill.org");
    dot.ask(&warm).await;
    two.ask(&warm).await;
    three.ask(&warm).await;
    doq.ask(&warm).await;
    let seen = slow.stats().queries();
    dot.send(&query(&slow_names[0]).bytes()).await;
    let (second, third, fourth) = (query(&slow_names[1]), query(&slow_names[2]), query(&slow_names[3]));
    let stop = async {
        until("all are under way", PATIENCE, async || {
            slow.stats().queries() >= seen + 4
        })
        .await;
        signal(site.node.id(), "TERM");
    };
    let ((), first, second, third, fourth) = tokio::join!(
        stop,
        dot.receive(),
        two.ask(&second),
        three.ask(&third),
        doq.ask(&fourth)
    );
    let replies = [first.unwrap(), second.reply(), third.reply(), fourth];
    for (reply, name) in replies.iter().zip(&slow_names) {
        assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
    }
    assert_eq!(dot.receive().await, None);
    two.end().await.expect("GOAWAY without an error");
    assert_eq!(
        (three.quic.close_code().await, doq.close_code().await),
        (0x100, 0),
        "without an error"
    );
    until("it stops", PATIENCE, async || !site.node.is_running()).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_replies_is_cut() {
    let fake = fake("fake");
    let site = Site::before(&[&fake]).await;
    fake.set_fault(TransportSel::All, Fault::None);
    let padded = query("unread.cedar-mill.org").additional(opt(1232, 0, &option(12, &[0; 8])));
    let mut dot = site.dot().await;
    assert_eq!(dot.ask(&padded).await.rcode, rcode::NOERROR);
    let frames = framed(&padded.bytes()).repeat(1_000);
    // Until the node reads no more, because nothing of what it says is read.
    let mut sent = 0;
    while timeout(Duration::from_secs(1), dot.send_raw(&frames)).await.is_ok() {
        sent += 1_000;
        assert!(sent < 1_000_000, "it reads without end");
    }
    until("it is cut", 2 * PATIENCE, async || {
        cut(&site.node, "tls", "slow").await == 1
    })
    .await;
    assert_eq!(site.dot().await.ask(&padded).await.rcode, rcode::NOERROR);
}
