//! What two nodes say to each other, counted on the way: a UDP relay between one that dials and one that is dialled.
//!
//! Datagrams pass as they are, so encrypted connections do not notice. Everything counts that is paid for on a network:
//! handshakes, acknowledgements and keep-alives too, and [`HEADER_BYTES`] of IP and UDP per datagram.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// IPv4 and UDP headers (RFC 791 section 3.1, RFC 768).
pub const HEADER_BYTES: u64 = 28;
/// Largest datagram.
const DATAGRAM_BYTES: usize = 65_535;

/// A running relay; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Relays between whoever sends to it last and `target`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When there is no socket.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let front = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let back = UdpSocket::bind(("127.0.0.1", 0)).await?;
        back.connect(target).await?;
        let (address, bytes) = (front.local_addr()?, Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        tasks.spawn(pass(front, back, Arc::clone(&bytes)));
        Ok(Self {
            address,
            bytes,
            _tasks: tasks,
        })
    }

    /// Where to dial.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that passed so far, both ways, headers included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn pass(front: UdpSocket, back: UdpSocket, bytes: Arc<AtomicU64>) {
    let (mut there, mut here) = (vec![0; DATAGRAM_BYTES], vec![0; DATAGRAM_BYTES]);
    let mut dialler = None;
    loop {
        tokio::select! {
            // Cancel-safe: a datagram is read when this completes, and not before.
            received = front.recv_from(&mut there) => {
                let Ok((count, from)) = received else { continue };
                dialler = Some(from);
                add(&bytes, count);
                // What cannot be passed on is lost, as on any network.
                back.send(there.get(..count).unwrap_or_default()).await.ok();
            }
            // Cancel-safe: as above.
            received = back.recv(&mut here) => {
                let (Ok(count), Some(dialler)) = (received, dialler) else { continue };
                add(&bytes, count);
                front.send_to(here.get(..count).unwrap_or_default(), dialler).await.ok();
            }
        }
    }
}

fn add(bytes: &AtomicU64, count: usize) {
    let count = u64::try_from(count).unwrap_or(0).saturating_add(HEADER_BYTES);
    bytes.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_pass_both_ways_and_are_counted() {
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(target.local_addr().unwrap()).await.unwrap();
        let dialler = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        dialler.send_to(b"there", relay.address()).await.unwrap();
        let mut buffer = [0; 16];
        let (count, from) = target.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"there");
        target.send_to(b"back", from).await.unwrap();
        assert_eq!(dialler.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(relay.bytes(), 9 + 2 * HEADER_BYTES);
    }
}
