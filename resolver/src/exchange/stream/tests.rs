//! Which connection a query takes after a sleep, and after the way to the endpoint changed.

mod h2;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use detour_core::health::Purpose;
use detour_core::lookup::Via;
use detour_core::outcome::Signal;
use detour_core::{Clock, EndpointId, Time, Transport};
use tokio::sync::mpsc;

use crate::ask::Ask;
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

/// Answers every query on every connection, and tells the connection's number.
fn server() -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, asked) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let told = told.clone();
            thread::spawn(move || serve(stream.unwrap(), number, &told));
        }
    });
    (address, asked)
}

fn serve(mut stream: TcpStream, number: usize, told: &Sender<usize>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).unwrap();
        // The query, said to be an answer without records.
        message[2] |= 0x80;
        told.send(number).unwrap();
        stream.write_all(&[&length[..], &message].concat()).unwrap();
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
    asked: Receiver<usize>,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let (address, asked) = server();
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
            asked,
            next: 0,
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Asks, and says on which connection that was.
    async fn ask(&mut self) -> usize {
        let name = NameBuf::from_wire(b"\x01a\x07example\x00").unwrap();
        let (heard, mut replies) = mpsc::channel(4);
        self.next += 1;
        let attempt = Attempt {
            id: self.next,
            purpose: Purpose::Client,
            ask: Arc::new(Ask::new(&name, rtype::A, class::IN, (false, false), 1)),
            slot: 0,
            reply_to: Some(Arc::new(Ear(heard))),
            without_edns: false,
            made: self.clock.now(),
            via: Via::Own,
        };
        self.exchanges.begin(EndpointId(0), attempt);
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
