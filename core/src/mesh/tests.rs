//! The mesh machine, input by input: one node and what its shell sees.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one output among many")]

mod connections;
mod exchange;
mod merge;
mod own;
mod random;

use std::sync::Arc;

use super::*;
use crate::report::{BootId, Circle, ClusterKey, OwnReport, SiteKey, Snapshot};
use crate::testing::opinion;
use crate::time::{MS, SEC};

/// What every wall clock said when the node began, unless a test says otherwise.
const WALL_MS: u64 = 1_700_000_000_000;
/// When the node began.
const BEGAN: Time = Time::at_ms(1_000);
/// The node under test.
const OWN: NodeId = node(100);

/// A node by number; the lower number is the lower id.
const fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn member(number: u8) -> Member {
    Member {
        node: node(number),
        circle: Circle::Own,
        addresses: 2,
    }
}

fn settings(members: &[u8]) -> Settings {
    Settings {
        own: OWN,
        boot: BootId(1),
        cluster: ClusterKey([7; 8]),
        site: SiteKey([1; 4]),
        members: members.iter().map(|number| member(*number)).collect(),
        stored_incarnation: 0,
        wall_ms: WALL_MS,
        software: "detour/test".to_owned(),
        seed: 5,
    }
}

fn hello(boot: u64) -> Hello {
    Hello {
        cluster: ClusterKey([7; 8]),
        versions: (1, 3),
        boot: BootId(boot),
        wall_ms: 0,
        site: SiteKey([2; 4]),
        port: 4853,
        software: "detour/other".to_owned(),
        yours: None,
    }
}

/// A snapshot of a node, issued when its wall clock said so.
fn snapshot(number: u8, incarnation: u64, sequence: u32, wall_ms: u64) -> Snapshot {
    Snapshot {
        node: node(number),
        boot: BootId(u64::from(number)),
        edition: Edition { incarnation, sequence },
        issued_wall_ms: wall_ms,
        period_s: 10,
        site: SiteKey([2; 4]),
        uplink_suspect: false,
        leaving: false,
        entries: Vec::new(),
    }
}

/// As if signed: the bytes are what it says.
fn seal(snapshot: Snapshot) -> Sealed {
    Sealed {
        bytes: format!("{snapshot:?}").into_bytes().into(),
        snapshot: Arc::new(snapshot),
    }
}

/// A shell that stores and signs at once and writes down everything else.
struct Bench {
    cluster: Cluster,
    now: Time,
    connections: u64,
    said: Vec<(Time, Output)>,
    signs: bool,
    stores: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = BEGAN;
        let mut bench = Self {
            cluster: Cluster::new(settings, now),
            now,
            connections: 0,
            said: Vec::new(),
            signs: true,
            stores: true,
        };
        bench.drain();
        bench
    }

    fn of(members: &[u8]) -> Self {
        Self::new(settings(members))
    }

    fn wall_ms(&self) -> u64 {
        WALL_MS + self.now.since(BEGAN) / MS
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            let wakeup = self.cluster.poll_timeout(self.now);
            let Some(output) = self.cluster.poll_output() else {
                assert!(wakeup.is_none_or(|(at, _)| at > self.now), "{wakeup:?} at {}", self.now);
                return;
            };
            assert_eq!(wakeup, Some((self.now, "output")));
            self.said.push((self.now, output.clone()));
            match output {
                Output::StoreIncarnation(incarnation) if self.stores => {
                    self.cluster.handle_incarnation_stored(incarnation, self.now);
                }
                Output::Sign(snapshot) if self.signs => {
                    let mut snapshot = *snapshot;
                    snapshot.issued_wall_ms = self.wall_ms();
                    self.cluster.handle_signed(seal(snapshot), self.now);
                }
                _ => {}
            }
        }
        panic!("outputs without end");
    }

    /// One input.
    fn give<T>(&mut self, input: impl FnOnce(&mut Cluster, Time) -> T) -> T {
        let result = input(&mut self.cluster, self.now);
        self.drain();
        result
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms * MS);
        while let Some((at, _)) = self.cluster.poll_timeout(self.now)
            && at <= end
        {
            self.now = self.now.max(at);
            self.give(Cluster::handle_timeout);
        }
        self.now = end;
    }

    /// What was said since the last look, without times.
    fn take(&mut self) -> Vec<Output> {
        self.said.drain(..).map(|(_, output)| output).collect()
    }

    fn connect(&mut self, number: u8, dialled: bool) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.give(|cluster, now| cluster.handle_connected(connection, node(number), dialled, now));
        connection
    }

    /// Its answer came within 10 ms.
    fn sample(&self, offset_ms: i64) -> ClockSample {
        ClockSample {
            sent: self.now.minus(10 * MS),
            received: self.now,
            wall_ms: self.wall_ms().saturating_add_signed(offset_ms - 5),
        }
    }

    fn answer_hello(&mut self, connection: ConnectionId, boot: u64) {
        let sample = Some(self.sample(0));
        let answer = self.give(|cluster, now| cluster.handle_hello(connection, &hello(boot), sample, now));
        assert!(answer.is_ok(), "{answer:?}");
    }

    /// A connection of a node that was admitted before.
    fn join(&mut self, number: u8) -> ConnectionId {
        let first = self.connect(number, true);
        self.answer_hello(first, u64::from(number));
        self.give(|cluster, now| cluster.handle_disconnected(first, now));
        let second = self.connect(number, true);
        self.answer_hello(second, u64::from(number));
        assert_eq!(self.state(number), PeerState::Connected);
        second
    }

    fn state(&self, number: u8) -> PeerState {
        self.view(number).unwrap().state
    }

    fn view(&self, number: u8) -> Option<PeerView> {
        let views = self.cluster.peers(self.wall_ms(), self.now);
        views.into_iter().find(|view| view.node == node(number))
    }

    fn report(&mut self, urgent: u64, any_down: bool) {
        let report = OwnReport {
            urgent,
            any_down,
            opinions: vec![opinion(1)],
            ..OwnReport::default()
        };
        self.give(|cluster, now| cluster.handle_own_report(Arc::new(report), now));
    }

    /// Snapshots signed since the last look, with when.
    fn signed(&self) -> Vec<(u64, Snapshot)> {
        let signed = self.said.iter().filter_map(|(at, output)| match output {
            Output::Sign(snapshot) => Some((at.as_micros() / MS, (**snapshot).clone())),
            _ => None,
        });
        signed.collect()
    }

    /// Dials since the last look, with when.
    fn dials(&self) -> Vec<(u64, u8, u8)> {
        let dials = self.said.iter().filter_map(|(at, output)| match output {
            Output::Dial { node, address } => Some((at.as_micros() / MS, node.0[0], *address)),
            _ => None,
        });
        dials.collect()
    }

    fn bring(&mut self, snapshot: Snapshot, via: Via, age_ms: Option<u32>) -> Result<Merged, RejectedSnapshot> {
        let sealed = seal(snapshot);
        self.give(|cluster, now| cluster.handle_snapshot(sealed, via, age_ms, now))
    }
}

fn closes(said: &[Output]) -> Vec<(u64, CloseWhy)> {
    let closes = said.iter().filter_map(|output| match output {
        Output::Close { connection, why } => Some((connection.0, *why)),
        _ => None,
    });
    closes.collect()
}

fn events(said: &[Output]) -> Vec<Event> {
    let events = said.iter().filter_map(|output| match output {
        Output::Event(event) => Some(*event),
        _ => None,
    });
    events.collect()
}
