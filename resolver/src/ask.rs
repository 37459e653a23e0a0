//! One question on its way to the providers: what is asked, whatever client asked it.

use std::hash::Hasher;

use detour_core::plan::Question as PlanQuestion;

use detour_core::GroupId;

use crate::wire::name::fingerprint;
use crate::wire::{NameBuf, Query};

/// Which group of providers an answer is of. The same in every process and under every configuration that has such a
/// group, so that answers outlive both; [`GroupId`] holds under one configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(u32);

impl GroupKey {
    /// That of the public group.
    pub const PUBLIC: Self = Self(0);

    /// That of a route's group, which these words tell from all others: who is of it and what they do to answers. Two
    /// that differ have one key once in four thousand million; then what is cached of a name that moved from one to the
    /// other is still found.
    #[must_use]
    pub fn of(identity: &str) -> Self {
        let hash = fingerprint(identity.as_bytes(), 0);
        let [.., a, b, c, d] = hash.to_be_bytes();
        Self(u32::from_be_bytes([a, b, c, d]).max(1))
    }

    /// As it stands in a file.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From a file.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// That of answers of the same group which may be translated behind a prefix, of which `mark` is a hash that is not
    /// zero.
    #[must_use]
    pub(crate) fn marked(self, mark: u32) -> Self {
        Self(self.0 ^ mark)
    }
}

/// Whom a name is asked of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// The group, under the configuration at hand.
    pub group: Group,
    /// Octets of the zone of the route that says so; `None`: no route does.
    pub(crate) zone_bytes: Option<usize>,
}

impl Asked {
    /// The zone of `name` that says so.
    #[must_use]
    pub fn zone(&self, name: &NameBuf) -> Option<NameBuf> {
        let zone = name.suffixes().find(|suffix| Some(suffix.len()) == self.zone_bytes)?;
        NameBuf::from_wire(zone)
    }
}

/// A group under one configuration and under all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Under the one at hand.
    pub id: GroupId,
    /// Under all.
    pub key: GroupKey,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            id: GroupId::PUBLIC,
            key: GroupKey::PUBLIC,
        }
    }
}

/// A question with everything that distinguishes its answer: name, type, class, DO, CD and whom it is asked of.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Lower-cased name.
    pub name: NameBuf,
    /// Type.
    pub qtype: u16,
    /// Class.
    pub qclass: u16,
    /// Whether signatures are wanted.
    pub do_bit: bool,
    /// Whether the provider shall not validate.
    pub cd: bool,
    /// Whose answer is wanted.
    pub group: GroupKey,
    /// Keyed hash of all of the above.
    pub key: u64,
    /// Stable hash of the registrable domain.
    pub domain: u64,
}

/// Hash seed of registrable domains: they must compare equal across restarts.
const DOMAIN_SEED: u64 = 0;

impl Ask {
    /// What `query` asks of a group; `seed` keys the hash so that nobody outside can make questions collide.
    #[must_use]
    pub fn of(query: &Query, group: GroupKey, seed: u64) -> Self {
        let do_bit = query.echo.edns.is_some_and(|edns| edns.do_bit);
        let flags = (do_bit, query.echo.cd);
        Self::new(&query.name, query.qtype, query.qclass, flags, group, seed)
    }

    /// A question made here.
    #[must_use]
    pub fn new(
        name: &NameBuf,
        qtype: u16,
        qclass: u16,
        (do_bit, cd): (bool, bool),
        group: GroupKey,
        seed: u64,
    ) -> Self {
        Self {
            name: name.clone(),
            qtype,
            qclass,
            do_bit,
            cd,
            group,
            key: key_of(name, qtype, qclass, (do_bit, cd), group, seed),
            domain: fingerprint(name.registrable(), DOMAIN_SEED),
        }
    }

    /// Whether both ask the same; the domain follows from the name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let kind = |ask: &Self| (ask.key, ask.qtype, ask.qclass, ask.do_bit, ask.cd, ask.group);
        kind(self) == kind(other) && self.name == other.name
    }

    /// As plans see it; `number` counts queries.
    #[must_use]
    pub fn for_plan(&self, number: u64) -> PlanQuestion {
        PlanQuestion {
            number,
            domain: self.domain,
        }
    }
}

/// The cache key of a query, without building an [`Ask`].
#[must_use]
pub fn key_of(name: &NameBuf, qtype: u16, qclass: u16, (do_bit, cd): (bool, bool), group: GroupKey, seed: u64) -> u64 {
    let tail = u64::from(qtype) << 32 | u64::from(qclass) << 16 | u64::from(do_bit) << 1 | u64::from(cd);
    // The multiplications spread what follows the name over all bits; the name's hash is keyed already.
    let tail = tail.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(group.0).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    (name.fingerprint_seeded(seed) ^ tail).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Hashes what is a keyed hash already.
#[derive(Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "only for numbers");
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write_u32(&mut self, number: u32) {
        // A table looks at both ends.
        self.0 = u64::from(number) << 32 | u64::from(number);
    }
}
