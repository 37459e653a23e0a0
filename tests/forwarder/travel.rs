//! A machine that changes networks, or has an odd one: routes that move, come and go, one address family only, blocked
//! ports, a wrong clock.
//!
//! What needs a network of its own runs inside namespaces that any user may make: the test runs itself again under
//! `unshare`. The fakes then live in one network namespace, the node in another, and two pairs of virtual interfaces
//! join them. Where the kernel or the machine does not allow that, the reason is printed and the test is over.

use std::env;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use detour_rig::process::provider_block;
use detour_rig::{Fake, FakeConfig, Fault, ListedTransports, Transport, TransportSel, clock, zone};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use crate::client::{PATIENCE, Udp};
use crate::message::{Message, rcode, rtype};
use crate::node::{Node, blocks, config, fake, until};

/// Set for the run inside.
const INSIDE: &str = "DETOUR_TEST_INSIDE";
/// Runs a test (with its module's name) again inside namespaces of its own, unless this is that run; whether it is.
///
/// A child process sees one thread only, which matters: a thread changes its own network namespace.
pub(crate) fn is_inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Some(reason) = no_namespaces() {
        eprint_line(&format!("skipped: {test}: {reason}"));
        return false;
    }
    let this = env::current_exe().unwrap();
    let inside = Command::new("unshare")
        .arg("-Urn")
        .arg(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&inside.stdout), text(&inside.stderr));
    assert!(
        inside.status.success() && out.contains("1 passed"),
        "inside: {}\n{out}\n{err}",
        inside.status
    );
    false
}

/// Why there are no namespaces here, if so.
fn no_namespaces() -> Option<String> {
    let script = "ip link set lo up && ip link add t0 type veth peer name t1 && ip -6 addr add 2001:db8::1/64 dev t0 \
                  && ip link set t0 up && nsenter --net=/proc/self/ns/net true";
    match Command::new("unshare").args(["-Urn", "sh", "-c", script]).output() {
        Err(error) => Some(format!("unshare: {error}")),
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
    }
}

#[expect(clippy::print_stderr, reason = "why a test did nothing is for whoever runs it")]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}

pub(crate) fn sh(script: &str) {
    let ran = Command::new("sh").args(["-ec", script]).output().unwrap();
    let complaints = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{script}: {complaints}");
}

/// Both namespaces: that of the providers, where the test begins, and that of the machine, where it goes on.
pub(crate) struct World {
    machine: File,
    providers: File,
}

/// The namespace of this thread.
fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

impl World {
    /// Both, and two links between them: `a0`, `b0` at the providers', `a1`, `b1` at the machine's, each with both
    /// families, and no default route. Providers are reached behind them at 198.51.100.0/24 and 2001:db8:f::/64.
    pub(crate) fn new() -> Self {
        let providers = own_namespace();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let machine = own_namespace();
        setns(&providers, CloneFlags::CLONE_NEWNET).unwrap();
        let world = Self { machine, providers };
        sh(
            "ip link set lo up; for n in 1 2 3; do ip addr add 198.51.100.$n/32 dev lo; \
            ip -6 addr add 2001:db8:f::$n/128 dev lo nodad; done",
        );
        sh(&format!(
            "for i in a b; do ip link add ${{i}}0 type veth peer name ${{i}}1 netns /proc/{}/task/{}/fd/{}; done",
            std::process::id(),
            nix::unistd::gettid(),
            std::os::fd::AsRawFd::as_raw_fd(&world.machine)
        ));
        sh("ip addr add 10.1.0.1/24 dev a0; ip addr add 10.2.0.1/24 dev b0; \
            ip -6 addr add 2001:db8:a::1/64 dev a0 nodad; ip -6 addr add 2001:db8:b::1/64 dev b0 nodad; \
            ip link set a0 up; ip link set b0 up");
        world.go_to_machine();
        sh(
            "ip link set lo up; ip addr add 10.1.0.2/24 dev a1; ip addr add 10.2.0.2/24 dev b1; \
            ip -6 addr add 2001:db8:a::2/64 dev a1 nodad; ip -6 addr add 2001:db8:b::2/64 dev b1 nodad; \
            ip link set a1 up; ip link set b1 up",
        );
        world.go_to_providers();
        world
    }

    pub(crate) fn go_to_machine(&self) {
        setns(&self.machine, CloneFlags::CLONE_NEWNET).unwrap();
    }

    pub(crate) fn go_to_providers(&self) {
        setns(&self.providers, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// A provider at both families: what it says over one and the other is the same.
pub(crate) struct Provider {
    pub(crate) v4: Fake,
    pub(crate) v6: Fake,
}

impl Provider {
    fn number(n: u8) -> Self {
        let start = |ip: String| {
            let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 53);
            Fake::start(FakeConfig::new(&format!("provider{n}")).at(address)).unwrap()
        };
        Self {
            v4: start(format!("198.51.100.{n}")),
            v6: start(format!("2001:db8:f::{n}")),
        }
    }

    /// Its block, with IPv6 first.
    fn block(&self, listed: ListedTransports) -> String {
        let mut endpoints = self.v6.endpoints(listed);
        endpoints.extend(self.v4.endpoints(listed));
        provider_block(self.v4.name(), &endpoints)
    }
}

/// A node in a namespace, the providers in the other.
pub(crate) struct Travel {
    pub(crate) world: World,
    pub(crate) providers: Vec<Provider>,
    pub(crate) node: Node,
    asked: u32,
}

impl Travel {
    /// `routes`: what the machine's shell does before the node starts.
    pub(crate) async fn with(listed: ListedTransports, routes: &str) -> Self {
        let world = World::new();
        let providers: Vec<Provider> = (1..=3).map(Provider::number).collect();
        world.go_to_machine();
        sh(routes);
        let blocks: Vec<String> = providers.iter().map(|provider| provider.block(listed)).collect();
        let node = Node::start(&config(&blocks)).await;
        Self {
            world,
            providers,
            node,
            asked: 0,
        }
    }

    pub(crate) fn queries(&self, of: fn(&Provider) -> &Fake) -> u64 {
        self.providers
            .iter()
            .map(|provider| of(provider).stats().queries())
            .sum()
    }

    /// A new name; whether it was answered well.
    pub(crate) async fn is_answered(&mut self) -> bool {
        self.asked += 1;
        let name = format!("name{}.cedar-mill.org", self.asked);
        let reply = Udp::to(self.node.dns())
            .await
            .ask(&Message::query(&name, rtype::A))
            .await;
        reply.rcode == rcode::NOERROR && reply.addresses() == [zone::expected_a(&name).unwrap()]
    }

    pub(crate) async fn ask_well(&mut self, count: u32) {
        for _ in 0..count {
            assert!(self.is_answered().await, "{}", self.node.log());
        }
    }

    /// Waits for endpoints with this text in the place; how many.
    async fn until_places(&self, reason: &str, count: usize, patience: Duration) {
        until(&format!("{count} endpoints are {reason}"), patience, async || {
            places(&self.node, reason).await == count
        })
        .await;
    }

    async fn route_changes(&self) -> u64 {
        self.node.metric("detour_route_changes_total", &[]).await
    }
}

/// How many endpoints stand where they stand for this reason.
async fn places(node: &Node, why: &str) -> usize {
    let providers: Value = serde_json::from_str(&node.text("/api/v1/providers").await).unwrap();
    let endpoints = providers.as_array().unwrap().iter();
    let endpoints = endpoints.flat_map(|provider| provider["endpoints"].as_array().unwrap().clone());
    endpoints.filter(|endpoint| endpoint["place_why"] == why).count()
}

pub(crate) const DEFAULT_BY_A: &str = "ip route add default via 10.1.0.1; ip -6 route add default via 2001:db8:a::1";

#[tokio::test]
async fn a_default_route_that_moves_is_noticed_and_connections_move_with_it() {
    if !is_inside("travel::a_default_route_that_moves_is_noticed_and_connections_move_with_it") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::Tcp, DEFAULT_BY_A).await;
    travel.ask_well(20).await;
    assert_eq!(travel.route_changes().await, 0);
    let connections = |travel: &Travel| -> u64 {
        let v6 = travel.providers.iter().map(|provider| provider.v6.stats());
        v6.map(|stats| stats.of(Transport::Tcp).connections).sum()
    };
    let before = connections(&travel);
    // The old network is gone with its addresses: no packet of an old connection is answered.
    sh(
        "ip route replace default via 10.2.0.1; ip -6 route replace default via 2001:db8:b::1 dev b1; \
        ip -6 route del default via 2001:db8:a::1 || true; ip addr flush dev a1",
    );
    let moved = clock::now();
    until("the change is noticed", PATIENCE, async || {
        travel.route_changes().await >= 6
    })
    .await;
    let took = clock::now() - moved;
    eprint_line(&format!("noticed after {took:?}"));
    travel.ask_well(20).await;
    assert!(connections(&travel) > before);
    assert!(
        travel
            .node
            .metric("detour_endpoint_state_changes_total", &["to=\"down\""])
            .await
            == 0
    );
}

#[tokio::test]
async fn an_interface_that_goes_and_returns_takes_and_brings_the_endpoints() {
    if !is_inside("travel::an_interface_that_goes_and_returns_takes_and_brings_the_endpoints") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::UdpTcp, DEFAULT_BY_A).await;
    travel.ask_well(10).await;
    for round in 1..=3 {
        sh("ip link set a1 down");
        travel.until_places("no-route", 12, PATIENCE).await;
        assert!(!travel.is_answered().await);
        sh(&format!(
            "ip link set a1 up; ip -6 addr replace 2001:db8:a::2/64 dev a1 nodad; {DEFAULT_BY_A}"
        ));
        travel.until_places("no-route", 0, PATIENCE).await;
        until("names are answered", PATIENCE, async || travel.is_answered().await).await;
        // That is not what trying again every 5 s would find out: it knows of no change.
        assert_eq!(travel.route_changes().await, 12 * round);
    }
}

#[tokio::test]
async fn a_route_that_appears_after_the_start_is_used_at_once_and_a_reload_is_followed() {
    if !is_inside("travel::a_route_that_appears_after_the_start_is_used_at_once_and_a_reload_is_followed") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::Udp, "true").await;
    travel.until_places("no-route", 6, PATIENCE).await;
    assert!(!travel.is_answered().await);
    // Others, in another order: the ways are looked at under their numbers.
    let listed: Vec<String> = travel
        .providers
        .iter()
        .rev()
        .take(2)
        .map(|p| p.block(ListedTransports::Tcp))
        .collect();
    travel.node.reloaded(&config(&listed)).await;
    travel.until_places("no-route", 4, PATIENCE).await;
    sh(DEFAULT_BY_A);
    travel.until_places("no-route", 0, PATIENCE).await;
    until("names are answered", PATIENCE, async || travel.is_answered().await).await;
    assert!(travel.world.machine.metadata().is_ok());
}

#[tokio::test]
async fn a_machine_with_ipv4_alone_answers_and_asks_nobody_else() {
    if !is_inside("travel::a_machine_with_ipv4_alone_answers_and_asks_nobody_else") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::UdpTcp, "ip route add default via 10.1.0.1").await;
    travel.ask_well(30).await;
    travel.until_places("no-route", 6, PATIENCE).await;
    assert_eq!(travel.queries(|provider| &provider.v6), 0);
    assert!(
        travel.node.status().await["summary"]
            .as_str()
            .unwrap()
            .starts_with("all 3 providers answer")
    );
}

#[tokio::test]
async fn a_machine_with_ipv6_alone_answers_and_asks_nobody_else() {
    if !is_inside("travel::a_machine_with_ipv6_alone_answers_and_asks_nobody_else") {
        return;
    }
    let mut travel = Travel::with(ListedTransports::UdpTcp, "ip -6 route add default via 2001:db8:a::1").await;
    travel.ask_well(30).await;
    travel.until_places("no-route", 6, PATIENCE).await;
    assert_eq!(travel.queries(|provider| &provider.v4), 0);
}

#[tokio::test]
async fn a_network_that_blocks_udp_port_53_is_served_over_what_it_lets_through() {
    let fakes = ["one", "two", "three"].map(fake);
    for fake in &fakes {
        fake.set_fault(TransportSel::Only(Transport::Udp), Fault::Blackhole);
    }
    let all: Vec<&Fake> = fakes.iter().collect();
    let node = Node::start(&config(&blocks(&all, ListedTransports::UdpTcp))).await;
    let client = Udp::to(node.dns()).await;
    let first = client.ask(&Message::query("first.cedar-mill.org", rtype::A)).await;
    assert_eq!(first.rcode, rcode::NOERROR, "{}", node.log());
    until("streams are used at once", PATIENCE, async || {
        let name = format!("later{}.cedar-mill.org", fakes[0].stats().queries());
        client.ask(&Message::query(&name, rtype::A)).await.rcode == rcode::NOERROR
            && fakes.iter().any(|fake| fake.stats().tcp.queries > 0)
    })
    .await;
    // The block is the network's, and nobody is blamed for it.
    assert_eq!(
        node.metric("detour_endpoint_state_changes_total", &["to=\"down\""])
            .await,
        0
    );
}
