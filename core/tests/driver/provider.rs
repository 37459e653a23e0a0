//! Fake providers: how long an honest answer takes, what can be wrong, and what then comes back.

use detour_core::outcome::{Failure, Rcode, Reply};
use detour_core::time::{MS, SEC, Time};

/// When a faulty reply leaves.
const FAULTY_AFTER_US: u64 = 10 * MS;
/// Time to connect where nothing is wrong.
pub(crate) const CONNECT_US: u64 = MS;
/// Time after which connecting fails.
pub(crate) const CONNECT_TIMEOUT_US: u64 = 2 * SEC;

/// How long an honest answer takes, the same at every provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    /// 10 ms.
    Flat,
    /// 70 % 8..25 ms, 25 % 40..250 ms, 5 % 300..1500 ms.
    Bimodal,
    /// 300 ms: a network far from everything.
    Far,
}

impl Law {
    /// What the answer to this question takes.
    pub(crate) fn latency_us(self, question: u64) -> u64 {
        match self {
            Self::Flat => return 10 * MS,
            Self::Far => return 300 * MS,
            Self::Bimodal => {}
        }
        let hash = mix(question ^ 0x6c61_7465);
        let (from, to) = match hash % 100 {
            0..=69 => (8 * MS, 25 * MS),
            70..=94 => (40 * MS, 250 * MS),
            _ => (300 * MS, 1_500 * MS),
        };
        from + (hash >> 32) % (to - from)
    }
}

/// What is wrong with a provider over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Blackhole,
    Servfail,
    Refused,
    /// This much later, microseconds.
    Slow(u64),
    /// Lost exchanges, permille.
    Loss(u64),
    Garbage,
    Wrongid,
    Truncate,
    Nxdomain,
    /// A denial without SOA.
    Bare,
    Bogus,
    NoEdns,
    Filtered,
    Lie,
    /// Black hole and honest in turn, each for this long.
    Flap(u64),
    Rst,
    NoRoute,
}

/// Something on its way back to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    Answer(Reply),
    Garbage,
    Mismatch,
    Fail(Failure),
}

/// A fault and since when it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaultState {
    pub(crate) fault: Fault,
    pub(crate) since: Time,
}

impl FaultState {
    /// A flapping provider is a black hole or well.
    pub(crate) fn effective(self, now: Time) -> Fault {
        let Fault::Flap(period) = self.fault else {
            return self.fault;
        };
        if (now.since(self.since) / period).is_multiple_of(2) {
            Fault::Blackhole
        } else {
            Fault::None
        }
    }
}

impl Fault {
    /// Whether answers on their way are lost when this fault begins.
    pub(crate) fn withholds(self) -> bool {
        matches!(self, Self::Blackhole | Self::Rst | Self::NoRoute)
    }

    /// What comes back and when, for a query that takes `latency_us` where nothing is wrong; `roll` is 0..1000.
    pub(crate) fn reply(self, over_tcp: bool, without_edns: bool, latency_us: u64, roll: u64) -> Option<(u64, Packet)> {
        let honest = Some((latency_us, Packet::Answer(Reply::Positive)));
        let faulty = |reply| Some((FAULTY_AFTER_US, Packet::Answer(reply)));
        match self {
            Self::Blackhole => None,
            Self::Loss(permille) if roll < permille => None,
            Self::Servfail => faulty(Reply::Failed(Rcode::SERVFAIL)),
            Self::Refused => faulty(Reply::Failed(Rcode::REFUSED)),
            Self::Slow(extra) => Some((latency_us + extra, Packet::Answer(Reply::Positive))),
            Self::Garbage | Self::Wrongid if over_tcp => Some((FAULTY_AFTER_US, Packet::Fail(Failure::Garbage))),
            Self::Garbage => Some((FAULTY_AFTER_US, Packet::Garbage)),
            Self::Wrongid => Some((latency_us, Packet::Mismatch)),
            Self::Truncate if !over_tcp => faulty(Reply::Truncated),
            Self::Nxdomain => faulty(Reply::Denial { soa: true }),
            Self::Bare => faulty(Reply::Denial { soa: false }),
            Self::Bogus => faulty(Reply::Bogus),
            Self::NoEdns if !without_edns => faulty(Reply::NoEdns),
            Self::Filtered => faulty(Reply::Filtered),
            Self::Rst if over_tcp => Some((MS, Packet::Fail(Failure::Reset))),
            Self::Rst => Some((MS, Packet::Fail(Failure::Unreachable))),
            Self::NoRoute => Some((0, Packet::Fail(Failure::NoRoute))),
            Self::None | Self::Loss(_) | Self::Truncate | Self::NoEdns | Self::Lie | Self::Flap(_) => honest,
        }
    }

    /// Whether the answers of such a provider, if they come, are right.
    pub(crate) fn is_honest(self) -> bool {
        !matches!(
            self,
            Self::Nxdomain | Self::Bare | Self::Lie | Self::Filtered | Self::Bogus
        )
    }
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Uniform over `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % bound
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}
