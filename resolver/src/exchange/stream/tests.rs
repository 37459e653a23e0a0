//! Which connection a query takes: after a sleep, after the way to the endpoint changed, when the one in use falls silent,
//! and when it carries all it can.

mod h2;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use detour_core::health::Purpose;
use detour_core::lookup::Via;
use detour_core::outcome::{Failure, Signal};
use detour_core::{Clock, EndpointId, Time, Transport};
use tokio::sync::mpsc;

use crate::ask::{Ask, GroupKey};
use crate::exchange::{Attempt, AttemptEvent, ExchangeParts, Exchanges, Listener, QuicSockets, SourcePorts};
use crate::readers::Readers;
use crate::report::Reporter;
use crate::tasks::Tasks;
use crate::testing::topology;
use crate::wire::NameBuf;
use crate::wire::code::{class, rtype};

/// Time that passes when the test says so; timers go on by themselves.
#[derive(Debug, Default)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Reads every query on every connection, and answers unless it is silent there.
#[derive(Debug, Default)]
struct Server {
    /// Connections so far.
    connections: AtomicUsize,
    /// Connections below this number are not answered on.
    silent_below: AtomicUsize,
    /// Queries that were not answered.
    swallowed: AtomicUsize,
}

impl Server {
    /// Where it is, and on which connection each query came that it answered.
    fn start(self: &Arc<Self>) -> (SocketAddr, Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, asked) = channel();
        let server = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, told) = (Arc::clone(&server), told.clone());
                let number = server.connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || server.serve(stream.unwrap(), number, &told));
            }
        });
        (address, asked)
    }

    fn serve(&self, mut stream: TcpStream, number: usize, told: &Sender<usize>) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            if number < self.silent_below.load(Ordering::Relaxed) {
                self.swallowed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            // The query, said to be an answer without records.
            message[2] |= 0x80;
            told.send(number).unwrap();
            stream.write_all(&[&length[..], &message].concat()).unwrap();
        }
    }
}

/// Passes on what it hears.
#[derive(Debug)]
struct Ear(mpsc::Sender<AttemptEvent>);

impl Listener for Ear {
    fn hear(self: Arc<Self>, event: AttemptEvent, _now: Time) {
        self.0.try_send(event).unwrap();
    }

    fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// Lines to one endpoint over TCP.
struct Bench {
    exchanges: Exchanges,
    clock: Arc<Set>,
    server: Arc<Server>,
    asked: Receiver<usize>,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let server = Arc::new(Server::default());
        let (address, asked) = server.start();
        let mut topology = topology(&address.to_string());
        topology.endpoints[0].transport = Transport::Tcp;
        let clock = Arc::new(Set(AtomicU64::new(1_000_000)));
        let (tasks, own): (_, Arc<dyn Clock>) = (Tasks::default(), Arc::<Set>::clone(&clock));
        let parts = ExchangeParts {
            reporter: Arc::new(Reporter::new().0),
            readers: Readers::new(&tasks, &own),
            clock: own,
            quic: QuicSockets::new(&tasks),
            tasks,
            source_ports: SourcePorts::Pool,
        };
        Self {
            exchanges: Exchanges::new(&topology, &[address.into()], &parts),
            clock,
            server,
            asked,
            next: 0,
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Asks, and hears what comes of it.
    fn begin(&mut self) -> mpsc::Receiver<AttemptEvent> {
        let name = NameBuf::from_wire(b"\x01a\x07example\x00").unwrap();
        let (heard, replies) = mpsc::channel(4);
        self.next += 1;
        let attempt = Attempt {
            id: self.next,
            purpose: Purpose::Client,
            ask: Arc::new(Ask::new(
                &name,
                rtype::A,
                class::IN,
                (false, false),
                GroupKey::PUBLIC,
                1,
            )),
            slot: 0,
            reply_to: Some(Arc::new(Ear(heard))),
            without_edns: false,
            made: self.clock.now(),
            via: Via::Own,
        };
        self.exchanges.begin(EndpointId(0), attempt);
        replies
    }

    /// Asks, and says on which connection that was.
    async fn ask(&mut self) -> usize {
        let mut replies = self.begin();
        let reply = tokio::time::timeout(Duration::from_secs(5), replies.recv()).await;
        let reply = reply.unwrap().unwrap();
        assert!(matches!(reply.signal, Signal::Answered(_)), "{:?}", reply.signal);
        self.asked.recv().unwrap()
    }
}

#[tokio::test]
async fn after_a_sleep_the_first_query_takes_a_new_connection() {
    let mut bench = Bench::new();
    assert_eq!((bench.ask().await, bench.ask().await), (0, 0));
    // Time passes as it does for timers: the connection is kept for a minute of idleness.
    bench.pass(50);
    assert_eq!(bench.ask().await, 0);
    bench.pass(3_600);
    assert_eq!((bench.ask().await, bench.ask().await), (1, 1));
}

#[tokio::test]
async fn after_a_change_of_way_the_first_query_takes_a_new_connection() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask().await, 0);
    bench.exchanges.renew(EndpointId(0));
    assert_eq!((bench.ask().await, bench.ask().await), (1, 1));
}

/// Waits until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_falls_silent_keeps_what_it_has_and_another_one_takes_the_rest() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask().await, 0);
    let server = Arc::clone(&bench.server);
    server.silent_below.store(1, Ordering::Relaxed);
    let mut unanswered = bench.begin();
    until(|| server.swallowed.load(Ordering::Relaxed) == 1).await;
    bench.pass(1);
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Quiet for a second is no reason.
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    bench.pass(1);
    // Before anybody asks.
    until(|| server.connections.load(Ordering::Relaxed) == 2).await;
    assert_eq!(bench.ask().await, 1);
    assert!(unanswered.try_recv().is_err(), "it still waits on the old one");
}

#[tokio::test]
async fn what_is_more_than_a_connection_and_its_queue_take_fails_at_once() {
    const IN_FLIGHT: usize = 4_096;
    const QUEUED: usize = 1_024;
    let mut bench = Bench::new();
    assert_eq!(bench.ask().await, 0);
    let server = Arc::clone(&bench.server);
    server.silent_below.store(1, Ordering::Relaxed);
    let mut kept = Vec::new();
    for sent in 1..=IN_FLIGHT {
        kept.push(bench.begin());
        if sent % 512 == 0 {
            until(|| server.swallowed.load(Ordering::Relaxed) == sent).await;
        }
    }
    for _ in 0..QUEUED {
        kept.push(bench.begin());
    }
    let failed_so_far = kept
        .iter_mut()
        .map(mpsc::Receiver::try_recv)
        .filter(Result::is_ok)
        .count();
    assert_eq!(failed_so_far, 0);
    for _ in 0..10 {
        let mut replies = bench.begin();
        let event = replies.try_recv().unwrap();
        assert_eq!(event.signal, Signal::Failed(Failure::Local));
    }
    assert_eq!(server.swallowed.load(Ordering::Relaxed), IN_FLIGHT);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written() {
    let mut bench = Bench::new();
    // Over before there is a connection to write to.
    for _ in 0..5 {
        drop(bench.begin());
    }
    assert_eq!(bench.ask().await, 0);
    assert!(bench.asked.try_recv().is_err());
}
