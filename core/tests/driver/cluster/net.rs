//! The network between nodes: paths that delay, lose, double and reorder, connections that outlive a crash of the
//! other side by their idle timeout, requests that are answered or not.

use std::collections::{BTreeMap, BTreeSet};

use detour_core::mesh::{DigestLine, Hello, Passed, Refusal};
use detour_core::time::{MS, SEC, Time};

use crate::env::Who;
use crate::provider::{Random, mix};

/// A connection on which nothing comes is closed after this long.
pub(super) const IDLE_US: u64 = 6 * SEC;
/// Something passes on every connection this often.
pub(super) const KEEP_ALIVE_US: u64 = 2 * SEC;
/// A dial comes to nothing after this long.
pub(super) const DIAL_US: u64 = 5 * SEC;
/// Handshake packets are sent again after this long.
pub(super) const HANDSHAKE_AGAIN_US: u64 = SEC;
/// A request that is not answered fails after this long.
pub(super) const REQUEST_US: u64 = 5 * SEC;

/// What the paths between nodes do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Messages lost, permille. QUIC would send them again; here they are lost for good.
    pub(crate) loss: u64,
    /// Messages that come twice, permille.
    pub(crate) twice: u64,
    /// Messages come up to this much later than others, microseconds.
    pub(crate) spread_us: u64,
}

/// What one node asks another.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Hello(Box<Hello>),
    Pull(Vec<DigestLine>),
    Push(Vec<Passed>),
}

/// What it gets.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Hello(Box<Hello>),
    /// Snapshots, and the wall clock of who answers.
    Snapshots(Vec<Passed>, u64),
    Refused(Refusal),
    /// The connection carries the hello only.
    Unsupported,
}

/// Something on its way to a process.
#[derive(Debug, Clone)]
pub(super) enum Parcel {
    /// The process begins.
    Start,
    /// The incarnation is on disk.
    Stored(u64),
    /// Handshake packets of a dial go out, since when.
    Handshake {
        to: u16,
        address: u8,
        since: Time,
    },
    /// A connection stands at this end.
    Established {
        link: u64,
        dialled: bool,
    },
    /// The other end closed, or this one's close is done.
    Closed {
        link: u64,
    },
    /// Nothing came for a while, perhaps.
    Idle {
        link: u64,
    },
    Request {
        link: u64,
        number: u64,
        request: Request,
    },
    Answer {
        number: u64,
        answer: Answer,
    },
    /// A request was not answered.
    Late {
        number: u64,
    },
    /// The other end listens to gossip.
    Listens {
        link: u64,
    },
    Gossip {
        link: u64,
        bytes: Vec<u8>,
    },
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) who: Who,
    /// The handshake has reached it, or never will.
    pub(super) came: bool,
    /// As this end sees it.
    pub(super) open: bool,
    /// It carries every protocol.
    pub(super) full: bool,
}

/// A connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
}

impl Link {
    /// The end of this process, and the other one.
    pub(super) fn of(&self, who: Who) -> Option<(End, End)> {
        let [a, b] = self.ends;
        if a.who == who {
            Some((a, b))
        } else {
            (b.who == who).then_some((b, a))
        }
    }

    pub(super) fn end_mut(&mut self, who: Who) -> Option<&mut End> {
        self.ends.iter_mut().find(|end| end.who == who)
    }
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) from: Who,
    pub(super) to: u16,
    pub(super) link: u64,
    pub(super) sent: Time,
    pub(super) hello: bool,
}

#[derive(Debug)]
pub(super) struct Net {
    seed: u64,
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) parcels: BTreeMap<u64, Parcel>,
    /// Directions in which nothing passes, since when.
    cuts: BTreeMap<(u16, u16), Time>,
    /// The second process knows that the first one listens to gossip.
    pub(super) listening: BTreeSet<(Who, Who)>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random(mix(seed ^ 0x6e65_7477)),
            weather: Weather::default(),
            links: BTreeMap::new(),
            pending: BTreeMap::new(),
            parcels: BTreeMap::new(),
            cuts: BTreeMap::new(),
            listening: BTreeSet::new(),
        }
    }

    /// Nothing passes from one node to another any more.
    pub(super) fn cut(&mut self, from: u16, to: u16, now: Time) {
        self.cuts.entry((from, to)).or_insert(now);
    }

    pub(super) fn mend_all(&mut self) {
        self.cuts.clear();
    }

    pub(super) fn is_cut(&self, from: u16, to: u16) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Whether acknowledged exchange between two nodes has been impossible for the idle time.
    pub(super) fn is_idle(&self, a: u16, b: u16, now: Time) -> bool {
        let since = [(a, b), (b, a)].into_iter().filter_map(|way| self.cuts.get(&way)).min();
        since.is_some_and(|since| now.since(*since) >= IDLE_US)
    }

    /// One way from node to node, microseconds: 1 to 20 ms by the pair, and a little.
    pub(super) fn delay_us(&mut self, from: u16, to: u16) -> u64 {
        let pair = u64::from(from.min(to)) << 16 | u64::from(from.max(to));
        let base = MS + mix(self.seed ^ pair) % (19 * MS);
        base + self.random.below(MS) + self.random.below(self.weather.spread_us + 1)
    }

    /// Whether a message gets through the weather, and how often.
    pub(super) fn copies(&mut self) -> u32 {
        if self.random.below(1_000) < self.weather.loss {
            0
        } else if self.random.below(1_000) < self.weather.twice {
            2
        } else {
            1
        }
    }

    /// Whether a connection carries every protocol at this process's end.
    pub(super) fn is_full(&self, link: u64, who: Who) -> bool {
        let own = self.links.get(&link).and_then(|link| link.of(who));
        own.is_some_and(|(own, _)| own.full)
    }

    /// The open connections of a process, by the other one.
    pub(super) fn open_links(&self, who: Who) -> Vec<(u64, End)> {
        let links = self.links.iter().filter_map(|(number, link)| {
            let (own, other) = link.of(who)?;
            own.open.then_some((*number, other))
        });
        links.collect()
    }
}
