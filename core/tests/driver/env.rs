//! Virtual time: the one event queue, what everybody shares, and the story of what happened.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use detour_core::time::Time;
use detour_core::topology::Transport;

use crate::provider::{Fault, FaultState, mix};

/// Steps at one instant that mean a livelock.
const STEPS_AT_ONCE: u64 = 20_000;
/// What is shown of the past when something goes wrong.
const SHOWN: usize = 50;

/// A process: which node, and which life of it. What was put on its way to a former life never arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) node: u16,
    pub(crate) life: u32,
}

/// One thing that happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client asks.
    Client,
    /// A connection to a provider stands, or does not.
    Connected(u64),
    /// What was put on its way to the attempt arrives.
    Arrive(u64, u64),
    /// A lookup's timer.
    LookupTimer(u64, u64),
    /// The control plane's timer.
    ControlTimer(u64),
    /// The routes changed.
    Routes,
    /// Something of the mesh, by the number it has there.
    Mesh(u64),
    /// The mesh machine's timer.
    MeshTimer(u64),
    /// The mesh is handed the current times of its own report.
    MeshReport,
}

/// What happened, for checks and hashes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Time,
    what: &'static str,
    a: u64,
    b: u64,
}

/// What is wrong with the providers, the same for every node.
#[derive(Debug)]
pub(crate) struct Providers {
    faults: Vec<[FaultState; 2]>,
    /// When a fault was last set.
    pub(crate) changed: Time,
}

impl Providers {
    /// What is wrong with one over UDP or TCP just now.
    pub(crate) fn fault(&self, provider: u16, over_tcp: bool, now: Time) -> Fault {
        self.faults[usize::from(provider)][usize::from(over_tcp)].effective(now)
    }

    fn set(&mut self, provider: u16, transports: &[Transport], fault: Fault, now: Time) {
        for transport in transports {
            let class = usize::from(transport.class().has_connections());
            self.faults[usize::from(provider)][class] = FaultState { fault, since: now };
        }
        self.changed = now;
    }
}

/// Time, queue, providers and story.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<(Time, u64, Who, Event)>>,
    sequence: u64,
    steps_now: u64,
    pub(crate) providers: Providers,
    story: VecDeque<Entry>,
    pub(crate) hash: u64,
    /// How to see all this again.
    again: String,
}

impl Env {
    pub(crate) fn new(providers: u16, again: String) -> Self {
        let now = Time::at_ms(1_000_000);
        let well = FaultState {
            fault: Fault::None,
            since: now,
        };
        Self {
            now,
            queue: BinaryHeap::new(),
            sequence: 0,
            steps_now: 0,
            providers: Providers {
                faults: vec![[well; 2]; usize::from(providers)],
                changed: now,
            },
            story: VecDeque::new(),
            hash: 0,
            again,
        }
    }

    /// A number never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(crate) fn push(&mut self, at: Time, who: Who, event: Event) {
        let number = self.number();
        self.queue.push(Reverse((at, number, who, event)));
    }

    /// What happens next, if it does so until `end`; time goes on to it.
    pub(crate) fn pop(&mut self, end: Time) -> Option<(Who, Event)> {
        let Reverse((at, ..)) = self.queue.peek()?;
        if *at > end {
            return None;
        }
        let Reverse((at, _, who, event)) = self.queue.pop()?;
        if at > self.now {
            self.now = at;
            self.steps_now = 0;
        }
        // What a sleep has left behind is no livelock.
        if at == self.now {
            self.steps_now += 1;
        }
        if self.steps_now > STEPS_AT_ONCE {
            self.fail("livelock", "");
        }
        Some((who, event))
    }

    /// Sets a fault of a provider over these transports.
    pub(crate) fn set_fault(&mut self, provider: u16, transports: &[Transport], fault: Fault) {
        self.providers.set(provider, transports, fault, self.now);
        self.log("fault", u64::from(provider), fault_number(fault));
    }

    pub(crate) fn log(&mut self, what: &'static str, a: u64, b: u64) {
        let word = what.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        self.hash = mix(self.hash ^ word ^ mix(self.now.as_micros()) ^ mix(a).rotate_left(7) ^ mix(b).rotate_left(13));
        if self.story.len() >= SHOWN {
            self.story.pop_front();
        }
        self.story.push_back(Entry {
            at: self.now,
            what,
            a,
            b,
        });
    }

    /// Ends the test, telling how to see it again.
    pub(crate) fn fail(&self, message: &str, state: &str) -> ! {
        let mut text = format!("{message}\n{}\n", self.again);
        for entry in &self.story {
            text.push_str(&format!("{} {} {} {}\n", entry.at, entry.what, entry.a, entry.b));
        }
        panic!("{text}{state}");
    }
}

/// A fault as a number, for the hash.
fn fault_number(fault: Fault) -> u64 {
    let text = format!("{fault:?}");
    text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}
