//! Crowds of connections that want nothing but to be there: how many there may be, what each may cost, when they end,
//! and that whoever else asks is served meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use detour_rig::{Fake, FreshNames, Law, clock, zone};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::client::{PATIENCE, Tcp, Udp, framed};
use crate::home::{Home, names};
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, config, fake_with, udp_blocks, until};

/// One address gets half of the connections there may be.
const HALF: usize = 512;
/// What a crowd on all of them may take in memory if each connection is what it should be: a few KiB, and as much again
/// for the allocator and the machine's moods.
const CROWD_KIB: u64 = 8 * 1_024;
/// How long a client beside a crowd waits at most, on a machine that is busy with both.
const SOON: Duration = Duration::from_secs(3);
/// A domain of the fakes.
const DOMAIN: &str = "alder-lane.com";

/// A node, what is in front of it, and what it was before a crowd came.
struct Scene {
    node: Node,
    fake: Fake,
    /// KiB in memory.
    before_kib: u64,
    names: FreshNames,
    turn: u64,
}

impl Scene {
    async fn with(more: &str) -> Self {
        // The connections of a crowd are this process', too: many systems allow a thousand unless they are asked.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(8_192).max(soft), hard).unwrap();
        let fake = fake_with("fast", Law::Flat(Duration::ZERO));
        let node = Node::start(&format!("{}\n{more}\n", config(&udp_blocks(&[&fake])))).await;
        node.has_looked(1).await;
        let mut scene = Self {
            node,
            fake,
            before_kib: 0,
            names: FreshNames::default(),
            turn: 0,
        };
        scene.serves_others().await;
        scene.before_kib = scene.node.resident_kib();
        scene
    }

    async fn crowd(&self, from: &str, count: usize) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..count {
            crowd.push(connect(from, self.node.dns()).await);
        }
        crowd
    }

    /// A client at another address asks for a new name over UDP and again over TCP, and is answered.
    async fn serves_others(&mut self) {
        let before = clock::now();
        self.turn += 1;
        let name = self.names.name(self.turn);
        let query = Message::query(&name, rtype::A).edns(1_232);
        for reply in [
            Udp::to(self.node.dns()).await.ask(&query).await,
            Tcp::to(self.node.dns()).await.ask(&query).await,
        ] {
            assert_eq!(reply.addresses(), [zone::expected_a(&name).unwrap()], "{reply:?}");
        }
        let took = clock::now() - before;
        assert!(took < SOON, "turn {} took {took:?}", self.turn);
    }

    /// What the crowd takes, KiB.
    fn taken_kib(&self) -> u64 {
        self.node.resident_kib().saturating_sub(self.before_kib)
    }

    /// Connections that are open; the client beside the crowd may have some that are not closed yet.
    fn held(&self) -> usize {
        self.node.connections()
    }

    /// Waits until so many are refused: who connects does not wait for the node to look at it.
    async fn has_refused(&self, count: u64) {
        until("all beyond the limit are refused", PATIENCE, async || {
            self.node.metric("detour_connections_refused_total", &["\"tcp\""]).await == count
        })
        .await;
    }

    /// Waits until so many are open, and at most those of the client beside the crowd with them.
    async fn has_open(&self, count: usize) {
        until("all within the limit are open", PATIENCE, async || {
            (count..count + 8).contains(&self.held())
        })
        .await;
    }

    /// Waits until all of the crowd is gone, as the node sees it.
    async fn ends(&self, within: Duration) {
        until("the crowd is gone", within, async || self.held() == 0).await;
    }
}

/// A connection from this address, into which the system takes little that nobody reads.
async fn connect(from: &str, target: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let from: IpAddr = from.parse().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    timeout(PATIENCE, socket.connect(target)).await.unwrap().unwrap()
}

/// Reads to the end; how many bytes came.
async fn drain(stream: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    // A reset is an end as well.
    timeout(PATIENCE * 2, stream.read_to_end(&mut all)).await.unwrap().ok();
    all.len()
}

#[tokio::test]
async fn connections_beyond_half_for_one_address_are_closed_at_once() {
    let mut scene = Scene::with("").await;
    let crowd = scene.crowd("127.0.0.2", HALF).await;
    scene.has_open(HALF).await;
    for _ in 0..5 {
        for mut beyond in scene.crowd("127.0.0.2", HALF).await {
            assert_eq!(drain(&mut beyond).await, 0);
        }
        scene.serves_others().await;
    }
    scene.has_refused(5 * 512).await;
    scene.has_open(HALF).await;
    // The other half is somebody else's, and then those who have most make room.
    let others = scene.crowd("127.0.0.3", HALF).await;
    scene.has_open(2 * HALF).await;
    let beyond = connect("127.0.0.4", scene.node.dns()).await;
    until("somebody made room", PATIENCE, async || {
        let room = ["\"tcp\"", "\"room\""];
        scene.node.metric("detour_connections_cut_total", &room).await == 1
    })
    .await;
    scene.has_open(2 * HALF).await;
    scene.serves_others().await;
    scene.has_refused(5 * 512).await;
    assert!(scene.taken_kib() < 2 * CROWD_KIB, "{} KiB", scene.taken_kib());
    drop((crowd, others, beyond));
    scene.ends(PATIENCE).await;
    scene.serves_others().await;
}

#[tokio::test]
async fn half_a_message_costs_what_came_of_it_and_not_what_it_announces() {
    let mut scene = Scene::with("[limits]\ntcp-idle = \"3s\"").await;
    let mut crowd = scene.crowd("127.0.0.2", HALF).await;
    for (index, stream) in crowd.iter_mut().enumerate() {
        // Half a length, a length of 64 KiB, and that with its beginning.
        let begin: &[u8] = [&[0xff][..], &[0xff; 2], &[0xff; 2_000]][index % 3];
        stream.write_all(begin).await.unwrap();
    }
    scene.serves_others().await;
    let taken_kib = scene.taken_kib();
    assert!(taken_kib < CROWD_KIB, "{taken_kib} KiB");
    scene.has_open(HALF).await;
    scene.ends(PATIENCE).await;
    for mut stream in crowd {
        assert_eq!(drain(&mut stream).await, 0);
    }
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_does_not_hold_its_connection() {
    let mut scene = Scene::with("[limits]\ntcp-idle = \"1s\"").await;
    let mut crowd = scene.crowd("127.0.0.2", HALF / 2).await;
    let mut open = crowd.len();
    let started = clock::now();
    while open > 0 {
        assert!(clock::now() - started < PATIENCE, "{open} are still open");
        open = 0;
        for stream in &mut crowd {
            // The message would take two hours. A connection that was closed takes one more byte, and then none.
            if stream.write_all(&[0xff]).await.is_ok() {
                open += 1;
            }
        }
        scene.serves_others().await;
        sleep(Duration::from_millis(100)).await;
    }
    scene.ends(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_what_was_answered_costs_little_and_is_closed() {
    let mut scene = Scene::with("").await;
    let big = Message::query(&format!("big-30000.{DOMAIN}"), rtype::TXT);
    assert_eq!(Tcp::to(scene.node.dns()).await.ask(&big).await.rcode, rcode::NOERROR);
    // Six megabytes of answers for each.
    let asked: Vec<_> = (0..200).flat_map(|id| framed(&big.clone().id(id).bytes())).collect();
    let mut crowd = scene.crowd("127.0.0.2", HALF).await;
    for stream in &mut crowd {
        stream.write_all(&asked).await.unwrap();
    }
    for _ in 0..10 {
        scene.serves_others().await;
        // One answer each, and what the allocator keeps beside it.
        let taken_kib = scene.taken_kib();
        assert!(taken_kib < 64 * 512, "{taken_kib} KiB");
        sleep(Duration::from_millis(100)).await;
    }
    scene.ends(PATIENCE * 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_all_come_at_once_for_whoever_does_not_read_end_the_connection() {
    const CROWD: usize = 8;
    let mut scene = Scene::with("[cache]\nsize = \"1MiB\"").await;
    let mut crowd = scene.crowd("127.0.0.2", CROWD).await;
    // As many as one connection may have in flight; together they are more than may wait on any.
    for (number, stream) in crowd.iter_mut().enumerate() {
        for id in 0..60 {
            let name = format!("n{number}-{id}.big-15000.{DOMAIN}");
            let query = Message::query(&name, rtype::TXT).id(id);
            stream.write_all(&framed(&query.bytes())).await.unwrap();
        }
    }
    // A provider that is slow on a busy machine may spare some.
    until("they are cut", PATIENCE, async || {
        scene
            .node
            .metric("detour_connections_cut_total", &["\"tcp\"", "slow"])
            .await
            >= 4
    })
    .await;
    scene.serves_others().await;
    let taken_kib = scene.taken_kib();
    assert!(taken_kib < 2 * CROWD_KIB, "{taken_kib} KiB");
    scene.ends(PATIENCE * 2).await;
}

#[tokio::test]
async fn a_client_that_has_asked_its_last_is_answered_in_full() {
    let mut scene = Scene::with("").await;
    let mut crowd = scene.crowd("127.0.0.2", HALF).await;
    for (index, stream) in crowd.iter_mut().enumerate() {
        for id in 0..3 {
            let query = Message::query(&format!("last{index}-{id}.{DOMAIN}"), rtype::A).id(id);
            stream.write_all(&framed(&query.bytes())).await.unwrap();
        }
        stream.shutdown().await.unwrap();
    }
    for mut stream in crowd {
        // Length, header, question, and one record of a compressed name.
        let bytes = drain(&mut stream).await;
        assert!(bytes > 3 * (2 + 12 + 16), "{bytes} bytes");
    }
    scene.ends(PATIENCE).await;
    scene.serves_others().await;
    assert!(scene.fake.stats().queries() > 3 * 512);
}

#[tokio::test]
async fn a_node_that_may_open_few_files_keeps_half_of_them_to_ask_with() {
    let fake = fake_with("fast", Law::Flat(Duration::ZERO));
    // A socket for each query: one that finds none cannot be asked.
    let mut home = Home::before(&[&fake], "[select]\nsource-ports = \"per-query\"");
    home.set_preamble("ulimit -n 320");
    let node = home.start().await;
    let mut crowd = Vec::new();
    for from in ["127.0.0.2", "127.0.0.3"] {
        for _ in 0..200 {
            crowd.push(connect(from, node.dns).await);
        }
    }
    let replies = node.ask_all(&names("few", 20)).await;
    assert!(replies.iter().all(|reply| reply.addresses().len() == 1), "{replies:?}");
    until("all beyond the limit are refused", PATIENCE, async || {
        node.metric("detour_connections_refused_total{transport=\"tcp\",why=\"client\"}")
            .await
            == 400 - 160
    })
    .await;
    let warnings = node.warnings().await;
    assert!(
        warnings
            .iter()
            .any(|line| line.starts_with("limits.tcp-connections: 160")),
        "{warnings:?}"
    );
}
