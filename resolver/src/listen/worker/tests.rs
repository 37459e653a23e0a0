//! Threads that serve, beside sockets that misbehave.

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use detour_core::Time;
use parking_lot::Mutex;

use super::*;
use crate::readers::Source;
use crate::testing::shared;

/// A question that is answered on the spot: `version.bind TXT CH`.
const QUERY: &[u8] = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03";

/// What happens when a source is read; whether it goes on.
type OnRead = Box<dyn Fn(&UdpSocket) -> bool + Send + Sync>;

/// A socket with a datagram to read.
struct Readable {
    socket: UdpSocket,
    on_read: OnRead,
}

impl std::fmt::Debug for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readable").finish_non_exhaustive()
    }
}

impl Readable {
    fn new(on_read: OnRead) -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"here", socket.local_addr().unwrap()).unwrap();
        Arc::new(Self { socket, on_read })
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Source for Readable {
    fn read(&self, _buffer: &mut [u8]) -> bool {
        (self.on_read)(&self.socket)
    }

    fn sweep(&self, _now: Time) -> bool {
        true
    }
}

/// A socket that the first thread serves, and a client of it.
fn served(shared: &Arc<Shared>) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    start(shared, &[vec![Arc::new(Datagrams::new(socket).unwrap())]]);
    client
}

#[tokio::test]
async fn a_datagram_that_panics_costs_nobody_the_service() {
    let (shared, _control) = shared(8);
    let client = served(&shared);
    let threads = shared.readers.all().len();
    for _ in 0..threads {
        let panics: OnRead = Box::new(|socket| {
            socket.recv(&mut [0; 16]).unwrap();
            panic!("injected");
        });
        shared.readers.add(Readable::new(panics), 0).unwrap();
    }
    while shared.tasks.panics() < u64::try_from(threads).unwrap() {
        tokio::task::yield_now().await;
    }
    client.send(QUERY).unwrap();
    let mut reply = [0; 512];
    assert!(client.recv(&mut reply).unwrap() > QUERY.len());
    assert_eq!(shared.tasks.fallen(), None);
    shared.tasks.stop().await;
}

#[derive(Debug, Default)]
struct Turns {
    is_begun: bool,
    reads: usize,
    is_answered: bool,
}

#[tokio::test]
async fn clients_do_not_wait_for_the_turns_of_sockets_to_providers() {
    let (shared, _control) = shared(8);
    let client = served(&shared);
    client.set_nonblocking(true).unwrap();
    let client = Arc::new(client);
    // More of them than a thread is told of at once, each with something to read for ever; at the thread that has the client.
    let turns: Arc<Mutex<Option<Turns>>> = Arc::default();
    let threads = shared.readers.all().len();
    for number in 0..4 * READY_MAX * threads {
        let (turns, client) = (Arc::clone(&turns), Arc::clone(&client));
        let count: OnRead = Box::new(move |_| {
            if !number.is_multiple_of(threads) {
                return false;
            }
            if let Some(turns) = turns.lock().as_mut().filter(|turns| !turns.is_answered) {
                if turns.is_begun {
                    turns.reads += 1;
                    turns.is_answered = client.recv(&mut [0; 512]).is_ok();
                } else {
                    turns.is_begun = true;
                    client.send(QUERY).unwrap();
                }
            }
            true
        });
        shared.readers.add(Readable::new(count), 0).unwrap();
    }
    *turns.lock() = Some(Turns::default());
    let reads = loop {
        if let Some(turns) = turns.lock().as_ref().filter(|turns| turns.is_answered) {
            break turns.reads;
        }
        tokio::task::yield_now().await;
    };
    assert!(reads <= READY_MAX, "{reads} datagrams of providers were read first");
    shared.tasks.stop().await;
}
