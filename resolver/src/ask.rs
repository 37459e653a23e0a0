//! One question on its way to the providers: what is asked, whatever client asked it.

use std::hash::Hasher;

use detour_core::plan::Question as PlanQuestion;

use crate::wire::name::fingerprint;
use crate::wire::{NameBuf, Query};

/// A question with everything that distinguishes its answer: name, type, class, DO and CD.
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
    /// Keyed hash of all of the above.
    pub key: u64,
    /// Stable hash of the registrable domain.
    pub domain: u64,
}

/// Hash seed of registrable domains: they must compare equal across restarts.
const DOMAIN_SEED: u64 = 0;

impl Ask {
    /// What `query` asks; `seed` keys the hash so that nobody outside can make questions collide.
    #[must_use]
    pub fn of(query: &Query, seed: u64) -> Self {
        let do_bit = query.echo.edns.is_some_and(|edns| edns.do_bit);
        Self::new(&query.name, query.qtype, query.qclass, (do_bit, query.echo.cd), seed)
    }

    /// A question made here.
    #[must_use]
    pub fn new(name: &NameBuf, qtype: u16, qclass: u16, (do_bit, cd): (bool, bool), seed: u64) -> Self {
        Self {
            name: name.clone(),
            qtype,
            qclass,
            do_bit,
            cd,
            key: key_of(name, qtype, qclass, (do_bit, cd), seed),
            domain: fingerprint(name.registrable(), DOMAIN_SEED),
        }
    }

    /// Whether both ask the same; the domain follows from the name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let kind = |ask: &Self| (ask.key, ask.qtype, ask.qclass, ask.do_bit, ask.cd);
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
pub fn key_of(name: &NameBuf, qtype: u16, qclass: u16, (do_bit, cd): (bool, bool), seed: u64) -> u64 {
    let tail = u64::from(qtype) << 32 | u64::from(qclass) << 16 | u64::from(do_bit) << 1 | u64::from(cd);
    // Two multiplications spread the tail over all bits; the name's hash is keyed already.
    (name.fingerprint_seeded(seed) ^ tail.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93)
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
