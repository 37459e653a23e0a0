//! Floods of names nobody asked before: what they cost is bounded, and whoever else asks is served meanwhile.
//!
//! The flood comes from addresses of its own, in 127.0.0.0/8, from a thread of its own. Memory is that of the whole
//! process, as the system counts it.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use detour_rig::{Fault, FreshNames, Law, TransportSel, clock, zone};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, Reply, rcode, record, rtype};
use crate::node::{Node, config, fake_with, udp_blocks, until};
use crate::scripted::{Scripted, reply_to};

/// Queries without an answer that a flood has outstanding unless told: large answers to more find no room in its socket.
const WINDOW: usize = 48;
/// What memory may differ by that is meant to be the same.
const SLACK_KIB: u64 = 3 * 1_024;
/// When what a flood waits for is lost: far beyond what anything takes here.
const LOST: Duration = Duration::from_secs(6);
const NETWORK_ERROR: u16 = 23;
/// How long a client beside a flood waits at most. A machine that is busy with both takes some of it.
const SOON: Duration = Duration::from_secs(3);

/// What became of a flood's queries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    answered: usize,
    /// SERVFAIL because too many were in flight.
    refused: usize,
    /// Any other SERVFAIL.
    failed: usize,
    lost: usize,
}

/// A flood of one query for each name, from this address, with at most so many unanswered.
#[derive(Debug, Clone)]
struct Flood {
    from: &'static str,
    window: usize,
    /// Before the first dot of each name goes its number.
    names: &'static str,
    rtype: u16,
}

impl Flood {
    fn of(from: &'static str, names: &'static str, rtype: u16) -> Self {
        Self {
            from,
            window: WINDOW,
            names,
            rtype,
        }
    }

    fn start(&self, target: SocketAddr, numbers: Range<usize>) -> JoinHandle<Tally> {
        let own = self.clone();
        spawn_blocking(move || own.run(target, numbers))
    }

    fn run(&self, target: SocketAddr, numbers: Range<usize>) -> Tally {
        let socket = UdpSocket::bind((self.from, 0)).unwrap();
        socket.connect(target).unwrap();
        socket.set_read_timeout(Some(LOST)).unwrap();
        let mut tally = Tally::default();
        let mut outstanding = 0;
        for number in numbers {
            let name = format!("n{number}{}", self.names);
            let id = u16::try_from(number % 65_536).unwrap();
            let query = Message::query(&name, self.rtype).edns(1_232).id(id);
            socket.send(&query.bytes()).unwrap();
            outstanding += 1;
            // What is there is taken as it comes: the system keeps little of what nobody reads.
            while outstanding > 0 && tally.receive(&socket, outstanding < self.window) {
                outstanding -= 1;
            }
            if outstanding == self.window {
                tally.lost += outstanding;
                outstanding = 0;
            }
        }
        while outstanding > 0 && tally.receive(&socket, false) {
            outstanding -= 1;
        }
        tally.lost += outstanding;
        tally
    }
}

impl Tally {
    /// Takes a reply, if one is there or comes in time.
    fn receive(&mut self, socket: &UdpSocket, now_or_never: bool) -> bool {
        let mut buffer = [0; 4_096];
        socket.set_nonblocking(now_or_never).unwrap();
        let received = socket.recv(&mut buffer);
        socket.set_nonblocking(false).unwrap();
        let Ok(size) = received else {
            return false;
        };
        let reply = &buffer[..size];
        if u16::from(reply[3] & 0xF) == rcode::NOERROR {
            assert_ne!(reply[6..8], [0, 0], "an answer");
            self.answered += 1;
        } else if Reply::read(reply).extended_errors().contains(&NETWORK_ERROR) {
            self.refused += 1;
        } else {
            self.failed += 1;
        }
        true
    }
}

/// A client at another address than the flood's asks for this until the flood is over, and is answered each time.
async fn ask_while(flood: &JoinHandle<Tally>, node: &Node, mut next_name: impl FnMut() -> String) -> usize {
    let mut count = 0;
    while !flood.is_finished() {
        ask_soon(node, &next_name()).await;
        count += 1;
    }
    count
}

/// Asks for an address and has it soon.
async fn ask_soon(node: &Node, name: &str) {
    let before = clock::now();
    let query = Message::query(name, rtype::A).edns(1_232);
    let reply = Udp::to(node.dns()).await.ask(&query).await;
    assert_eq!(
        reply.addresses(),
        [zone::expected_a(name).unwrap()],
        "{name}: {reply:?}"
    );
    let took = clock::now() - before;
    assert!(took < SOON, "{name} took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_names_pass_through_the_cache_and_the_memory_stays_what_it_was() {
    const CACHE_KIB: u64 = 8 * 1_024;
    let fake = fake_with("fast", Law::Flat(Duration::ZERO));
    let blocks = config(&udp_blocks(&[&fake]));
    let node = Node::start(&format!("{blocks}[cache]\nsize = \"{CACHE_KIB}KiB\"\n")).await;
    let known = "known.alder-lane.com";
    let names = FreshNames::default();
    let (start_kib, mut full_kib) = (node.resident_kib(), None);
    // Of the first, half finds room. Each of the others is five times as many, large answers and small ones.
    for (numbers, suffix, rtype) in [
        (0..10_000, ".big-900.alder-lane.com", rtype::TXT),
        (10_000..60_000, ".big-900.alder-lane.com", rtype::TXT),
        (0..50_000, ".birch-harbor.net", rtype::A),
    ] {
        let count = numbers.len();
        let flood = Flood::of("127.0.0.2", suffix, rtype).start(node.dns(), numbers);
        let mut turn = 0;
        let asked = ask_while(&flood, &node, || {
            turn += 1;
            if turn % 2 == 0 {
                known.to_owned()
            } else {
                names.name(turn)
            }
        })
        .await;
        let tally = flood.await.unwrap();
        assert_eq!(tally.answered, count, "{tally:?}");
        assert!(asked > 10, "a client beside the flood was answered {asked} times");
        let cached_kib = node.metric("detour_cache_bytes", &[]).await / 1_024;
        assert!(
            (CACHE_KIB / 3..=CACHE_KIB).contains(&cached_kib),
            "{cached_kib} KiB are in use"
        );
        let kib = node.resident_kib();
        let bound = full_kib.unwrap_or(start_kib + CACHE_KIB) + SLACK_KIB;
        assert!(kib < bound, "{kib} KiB after {start_kib} and {full_kib:?}");
        full_kib = full_kib.or(Some(kib));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_fail_are_remembered_up_to_a_bound() {
    let fake = fake_with("broken", Law::Flat(Duration::ZERO));
    let node = Node::before(&[&fake]).await;
    fake.set_fault(TransportSel::All, Fault::Servfail);
    let mut full_kib = None;
    // Some thousand failures are remembered, and each name here is a domain of its own.
    for numbers in [0..8_000, 8_000..24_000] {
        let count = numbers.len();
        let flood = Flood::of("127.0.0.2", ".com", rtype::A).start(node.dns(), numbers);
        let tally = flood.await.unwrap();
        assert_eq!(tally.failed, count, "{tally:?}");
        let kib = node.resident_kib();
        let full_kib = *full_kib.get_or_insert(kib);
        assert!(kib < full_kib + SLACK_KIB, "{kib} KiB after {full_kib}");
    }
}

/// A provider that is silent about what a flood asks, and answers everybody else.
async fn silent_about(part: &'static str) -> Scripted {
    Scripted::start(move |query| {
        let name = text_of(&query[12..]);
        let address = zone::expected_a(&name).map(|address| record(&[0xc0, 12], rtype::A, 1, 300, &address.octets()));
        (!name.contains(part)).then(|| reply_to(query, 0, [address.as_slice(), &[], &[]]))
    })
    .await
}

/// A name in wire form as text.
fn text_of(wire: &[u8]) -> String {
    let (mut at, mut labels) = (0, Vec::new());
    while wire[at] != 0 {
        let end = at + 1 + usize::from(wire[at]);
        labels.push(String::from_utf8_lossy(&wire[at + 1..end]).to_lowercase());
        at = end;
    }
    labels.join(".")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_answers_leave_half_of_the_places_to_others() {
    // As many replies at once as the flood's socket has room for.
    const HALF: u64 = 256;
    let provider = silent_about("void").await;
    let limits = format!("[limits]\nin-flight = {}\n", 2 * HALF);
    let node = Node::start(&format!("{}{limits}", config(&[provider.block("silent")]))).await;
    let start_kib = node.resident_kib();
    let mut flood = Flood::of("127.0.0.2", ".void.com", rtype::A);
    flood.window = 400;
    let flood = flood.start(node.dns(), 0..30_000);
    until("one address has its half", PATIENCE, async || {
        node.metric("detour_in_flight", &[]).await >= HALF
    })
    .await;
    let (mut most_kib, mut asked) = (0, 0);
    let names = FreshNames::default();
    while !flood.is_finished() {
        asked += 1;
        ask_soon(&node, &names.name(asked)).await;
        let in_flight = node.metric("detour_in_flight", &[]).await;
        assert!(in_flight < HALF + 8, "{in_flight} are in flight");
        most_kib = most_kib.max(node.resident_kib());
    }
    let tally = flood.await.unwrap();
    assert!(most_kib < start_kib + 8 * 1_024, "{most_kib} KiB after {start_kib}");
    assert!(asked > 10, "a client beside the flood was answered {asked} times");
    assert!(tally.refused > 10_000 && tally.failed > 0, "{tally:?}");
    until("nothing is in flight", PATIENCE, async || {
        node.metric("detour_in_flight", &[]).await == 0
    })
    .await;
    let replies = node.metric("detour_dns_replies_total", &[]).await;
    assert_eq!(replies, node.metric("detour_dns_queries_total", &[]).await);
    assert!(node.replies("overload").await >= u64::try_from(tally.refused).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_places_are_taken_what_is_known_is_answered_and_the_rest_refused_at_once() {
    const PLACES: u64 = 256;
    let provider = silent_about("void").await;
    let limits = format!("[limits]\nin-flight = {PLACES}\n");
    let node = Node::start(&format!("{}{limits}", config(&[provider.block("silent")]))).await;
    let known = "known.alder-lane.com";
    ask_soon(&node, known).await;
    let floods: Vec<_> = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        .into_iter()
        .zip([".void.com", ".void.net", ".void.org"])
        .map(|(from, names)| {
            let mut flood = Flood::of(from, names, rtype::A);
            flood.window = 200;
            flood.start(node.dns(), 0..3_000)
        })
        .collect();
    until("all places are taken", PATIENCE, async || {
        node.metric("detour_in_flight", &[]).await == PLACES
    })
    .await;
    // They are for two seconds at least, which a query that goes unanswered has.
    for turn in 0..5 {
        ask_soon(&node, known).await;
        let before = clock::now();
        let new = Message::query(&format!("new{turn}.void.io"), rtype::A).edns(1_232);
        let reply = Udp::to(node.dns()).await.ask(&new).await;
        let took = clock::now() - before;
        assert_eq!(reply.extended_errors(), [NETWORK_ERROR], "turn {turn} after {took:?}");
        assert!(node.metric("detour_in_flight", &[]).await <= PLACES);
    }
    for flood in floods {
        let tally = flood.await.unwrap();
        assert_eq!(tally.answered, 0, "{tally:?}");
        assert!(tally.refused > 0, "{tally:?}");
    }
    assert_eq!(provider.asked_for("new0.void.io").len(), 0);
}
