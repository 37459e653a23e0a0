//! A faulty way to a provider: what lies between it and whoever asks it, for machines that cannot be told to lose packets.
//!
//! Datagrams and connections are passed on from one port to a target, each as late, as seldom, as often and as whole as
//! the way is set to. A datagram can be lost, come twice, come after the next one, or come with a bit changed; in a
//! connection the kernels at both ends would make up for all of that but the last, so there a loss is a delay, and order
//! and number are as they were. Nothing passes a way that is cut, and nothing tells either end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fake::StartError;
use crate::fake::sockets::bind;
use crate::random::Random;

mod datagrams;
mod streams;

/// By how much a datagram comes late that the next ones overtake.
const OVERTAKEN: Duration = Duration::from_millis(8);
/// By how much what a connection carries comes late when a packet of it is lost: the kernel's shortest patience on
/// Linux.
const REPEATED: Duration = Duration::from_millis(200);

/// What is wrong with a way, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WayFaults {
    /// How long everything takes.
    pub delay: Duration,
    /// How much longer it may take, drawn anew each time.
    pub jitter: Duration,
    /// With which probability a packet is lost.
    pub loss: f64,
    /// With which probability a datagram comes after the next ones.
    pub reorder: f64,
    /// With which probability a datagram comes twice.
    pub duplicate: f64,
    /// With which probability a bit is changed.
    pub corrupt: f64,
    /// Whether nothing passes.
    pub is_cut: bool,
    /// Whether no datagram passes, and connections do.
    pub blocks_udp: bool,
    /// The longest datagram that passes; longer ones are lost without a word.
    pub datagram_bytes_max: Option<usize>,
}

/// A running way. Dropping it ends it and what passes through it.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    state: watch::Sender<State>,
    passed: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

/// How it is at present.
#[derive(Debug, Clone, Copy)]
struct State {
    faults: WayFaults,
    /// How often connections were to be reset.
    resets: u64,
}

/// What the tasks of a way share.
#[derive(Debug, Clone)]
struct Shared {
    target: SocketAddr,
    state: watch::Receiver<State>,
    passed: Arc<AtomicU64>,
}

impl Way {
    /// A way with nothing wrong with it to `target`, for datagrams and connections, from one port of loopback. Must be
    /// called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When no port is free for both.
    pub fn start(target: SocketAddr, seed: u64) -> Result<Self, StartError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let register = |source: io::Error| StartError::Register { source };
        let (socket, listener) = bind(any, any)?;
        let socket = UdpSocket::from_std(socket).map_err(register)?;
        let listener = TcpListener::from_std(listener).map_err(register)?;
        let address = socket.local_addr().map_err(register)?;
        let (sender, state) = watch::channel(State {
            faults: WayFaults::default(),
            resets: 0,
        });
        let passed = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            target,
            state,
            passed: Arc::clone(&passed),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams::pass(socket, shared.clone(), Random::new(seed)));
        tasks.spawn(streams::pass(listener, shared, Random::new(seed ^ 1)));
        Ok(Self {
            address,
            state: sender,
            passed,
            _tasks: tasks,
        })
    }

    /// Where it begins.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is wrong with it from here on; what is under way is not called back.
    pub fn set(&self, faults: WayFaults) {
        self.state.send_modify(|state| state.faults = faults);
    }

    /// Ends the connections through it; those to come are not concerned.
    pub fn reset_connections(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Datagrams and pieces of connections that passed so far, both directions.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn faults(&self) -> WayFaults {
        self.state.borrow().faults
    }

    fn note_passed(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }
}

impl WayFaults {
    /// How long the next packet takes.
    fn takes(&self, random: &mut Random) -> Duration {
        let jitter_us = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        self.delay + Duration::from_micros(random.below(jitter_us.saturating_add(1)))
    }

    /// Changes a bit, perhaps.
    fn corrupt(&self, bytes: &mut [u8], random: &mut Random) {
        if random.chance(self.corrupt) {
            let bits = u64::try_from(bytes.len()).unwrap_or(0) * 8;
            let bit = random.below(bits);
            let at = usize::try_from(bit / 8).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

#[cfg(test)]
mod tests;
