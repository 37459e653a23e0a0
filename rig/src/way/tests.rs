//! What passes a way with each of its faults, seen from both ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::clock;

/// Long enough for what is on its way to come.
const SILENCE: Duration = Duration::from_millis(150);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A way between two sockets that have said hello to each other.
struct Datagrams {
    way: Way,
    near: UdpSocket,
    far: UdpSocket,
    near_seen: SocketAddr,
}

impl Datagrams {
    async fn new() -> Self {
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let way = Way::start(far.local_addr().unwrap(), 7).unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        near.connect(way.address()).await.unwrap();
        near.send(b"hello").await.unwrap();
        let (_, near_seen) = far.recv_from(&mut [0; 16]).await.unwrap();
        Self {
            way,
            near,
            far,
            near_seen,
        }
    }

    /// Sends datagrams of 100 bytes that begin with their number; what arrives, in its order.
    async fn send(&self, count: u8) -> Vec<Vec<u8>> {
        for number in 0..count {
            let mut datagram = vec![0; 100];
            datagram[0] = number;
            self.near.send(&datagram).await.unwrap();
        }
        let mut arrived = Vec::new();
        let mut buffer = [0; 2_048];
        while let Ok(received) = timeout(SILENCE, self.far.recv(&mut buffer)).await {
            arrived.push(buffer[..received.unwrap()].to_vec());
        }
        arrived
    }

    async fn send_over(&self, faults: WayFaults) -> Vec<Vec<u8>> {
        self.way.set(faults);
        self.send(50).await
    }
}

fn numbers(datagrams: &[Vec<u8>]) -> Vec<u8> {
    datagrams.iter().map(|datagram| datagram[0]).collect()
}

#[tokio::test]
async fn datagrams_pass_both_ways_to_whoever_sent() {
    let pair = Datagrams::new().await;
    pair.far.send_to(b"back", pair.near_seen).await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(pair.near.recv(&mut buffer).await.unwrap(), 4);
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    other.send_to(b"another", pair.way.address()).await.unwrap();
    let (count, seen) = pair.far.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"another");
    assert_ne!(seen, pair.near_seen);
    pair.far.send_to(b"for another", seen).await.unwrap();
    assert_eq!(other.recv(&mut buffer).await.unwrap(), 11);
    assert_eq!(pair.way.passed(), 4);
}

#[tokio::test]
async fn datagrams_are_lost_doubled_overtaken_and_changed() {
    let pair = Datagrams::new().await;
    let faults = WayFaults::default();
    let all: Vec<u8> = (0..50).collect();
    assert_eq!(numbers(&pair.send_over(faults).await), all);
    let some_lost = pair.send_over(WayFaults { loss: 0.3, ..faults }).await.len();
    assert!((20..50).contains(&some_lost), "{some_lost}");
    let doubled = pair
        .send_over(WayFaults {
            duplicate: 1.0,
            ..faults
        })
        .await;
    assert_eq!(doubled.len(), 100);
    let mut overtaken = numbers(&pair.send_over(WayFaults { reorder: 0.3, ..faults }).await);
    assert_ne!(overtaken, all);
    overtaken.sort_unstable();
    assert_eq!(overtaken, all);
    let changed = pair.send_over(WayFaults { corrupt: 1.0, ..faults }).await;
    let bits = |datagram: &[u8], number: u8| {
        let mut right = vec![0; 100];
        right[0] = number;
        let different = datagram
            .iter()
            .zip(right)
            .map(|(got, right)| (got ^ right).count_ones());
        different.sum::<u32>()
    };
    assert!(
        (0..50)
            .zip(&changed)
            .all(|(number, datagram)| bits(datagram, number) == 1)
    );
    let too_long = WayFaults {
        datagram_bytes_max: Some(99),
        ..faults
    };
    assert_eq!(pair.send_over(too_long).await.len(), 0);
}

#[tokio::test]
async fn datagrams_take_their_time_and_none_passes_what_is_cut_or_blocked() {
    let pair = Datagrams::new().await;
    let faults = WayFaults {
        delay: Duration::from_millis(60),
        ..WayFaults::default()
    };
    let begun = clock::now();
    assert_eq!(pair.send_over(faults).await.len(), 50);
    assert!(begun.elapsed() >= faults.delay + SILENCE);
    for faults in [
        WayFaults { is_cut: true, ..faults },
        WayFaults {
            blocks_udp: true,
            ..faults
        },
    ] {
        assert_eq!(pair.send_over(faults).await.len(), 0);
    }
}

/// Both ends of a connection through a way.
async fn connection() -> (Way, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = Way::start(listener.local_addr().unwrap(), 7).unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(way.address()), listener.accept());
    (way, near.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn bytes_pass_late_and_in_their_order() {
    let (way, mut near, mut far) = connection().await;
    let delay = Duration::from_millis(60);
    way.set(WayFaults {
        delay,
        jitter: Duration::from_millis(20),
        loss: 0.2,
        ..WayFaults::default()
    });
    let begun = clock::now();
    let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut got = vec![0; sent.len()];
    let (written, read) = tokio::join!(near.write_all(&sent), timeout(PATIENCE, far.read_exact(&mut got)));
    written.unwrap();
    read.unwrap().unwrap();
    assert!(got == sent && begun.elapsed() >= delay);
    drop(near);
    assert_eq!(timeout(PATIENCE, far.read(&mut got)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_cut_is_silence_and_what_was_sent_comes_when_it_is_over() {
    let (way, mut near, mut far) = connection().await;
    way.set(WayFaults {
        is_cut: true,
        ..WayFaults::default()
    });
    near.write_all(b"later").await.unwrap();
    let mut buffer = [0; 16];
    assert!(timeout(SILENCE, far.read(&mut buffer)).await.is_err());
    way.set(WayFaults::default());
    assert_eq!(timeout(PATIENCE, far.read(&mut buffer)).await.unwrap().unwrap(), 5);
    way.set(WayFaults {
        corrupt: 1.0,
        ..WayFaults::default()
    });
    near.write_all(b"later").await.unwrap();
    let count = timeout(PATIENCE, far.read(&mut buffer)).await.unwrap().unwrap();
    assert!(count == 5 && &buffer[..5] != b"later");
    way.reset_connections();
    let ended = timeout(PATIENCE, far.read(&mut buffer)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn what_is_only_late_keeps_its_order() {
    let pair = Datagrams::new().await;
    let late = WayFaults {
        delay: Duration::from_millis(30),
        ..WayFaults::default()
    };
    for _ in 0..3 {
        assert_eq!(numbers(&pair.send_over(late).await), (0..50).collect::<Vec<u8>>());
    }
}
