//! What is kept of a provider's answer: the packet in its final shape, ready to be patched for any client.
//!
//! Header (id 0), question and every counted record up to OPT stand as they came; order, case, rdata and compression
//! pointers are untouched because nothing moves, only a tail is cut. Ours are the flags (QR, TC, and AD if the path
//! was encrypted; AA only where this node is the authority itself), the random case of the question where an owner
//! repeats it letter by letter (no client asked for that, so it becomes lower case), and the TTLs:
//!
//! * a TTL with its top bit set is 0 (RFC 2181 8), none is above 7 days (RFC 8767 4);
//! * all records of an RRset get its lowest TTL (RFC 2181 5.2), signatures by the type they cover;
//! * in a denial nothing lives longer than min(SOA TTL, MINIMUM, 1 hour) (RFC 2308 5), and a denial without SOA has
//!   no lifetime at all.

use super::code::{class, rtype};
use super::edns::Ede;
use super::header::{AA, AD, HEADER_BYTES, Header};
use super::record::{Record, Records, Section};
use super::{put_u32, u16_at, u32_at};
use std::net::IpAddr;

/// The longest any record is kept: 7 days, as RFC 8767 4 recommends.
pub const TTL_S_MAX: u32 = 604_800;

/// The longest a denial is kept (RFC 2308 5: "one to three hours"): a name that comes into being is seen within it.
pub(super) const NEGATIVE_TTL_S_MAX: u32 = 3_600;

/// What an answer says about the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// NOERROR with records of the type asked for.
    Positive,
    /// NXDOMAIN, or NOERROR without such records (referrals too).
    Denial {
        /// A SOA record says how long it holds.
        soa: bool,
    },
    /// Any other response code.
    Failure,
    /// TC: the whole answer is to be had over a stream. No records are kept.
    Truncated,
}

/// What is known of an answer beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Octets of the packet.
    pub(crate) wire_len: u16,
    /// Where its records begin.
    pub(crate) question_end: u16,
    /// Where the additional section begins; the end if there is none.
    pub(crate) additional_at: u16,
    /// The response code, all twelve bits.
    pub(crate) rcode: u16,
    /// What it says about the name.
    pub(crate) kind: Kind,
    /// Octets of the extended error; 0: there was none.
    pub(crate) ede_len: u8,
    /// How long it may be kept, seconds.
    pub(crate) ttl_s: Option<u32>,
}

/// A provider's answer as it is replied, wherever it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerRef<'a> {
    /// The packet; behind it where its TTLs stand, two octets each, ascending; then what is kept of the provider's
    /// extended error.
    packed: &'a [u8],
    shape: Shape,
}

impl<'a> AnswerRef<'a> {
    /// What was packed, with what is known of it.
    pub(crate) fn new(packed: &'a [u8], shape: Shape) -> Self {
        Self { packed, shape }
    }

    /// The packet and what is behind it.
    pub(crate) fn packed(&self) -> &'a [u8] {
        self.packed
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// As [`Answer::wire`].
    #[must_use]
    pub fn wire(&self) -> &'a [u8] {
        self.packed.get(..usize::from(self.shape.wire_len)).unwrap_or_default()
    }

    /// As [`Answer::question`].
    #[must_use]
    pub fn question(&self) -> &'a [u8] {
        let end = usize::from(self.shape.question_end);
        self.wire().get(HEADER_BYTES..end).unwrap_or_default()
    }

    /// Where TTLs stand in the packet, ascending.
    pub(super) fn ttl_offsets(&self) -> impl Iterator<Item = usize> + use<'a> {
        let offsets = self.packed.get(usize::from(self.shape.wire_len)..self.ede_at());
        let (offsets, _) = offsets.unwrap_or_default().as_chunks::<2>();
        offsets.iter().map(|at| usize::from(u16::from_be_bytes(*at)))
    }

    /// Where the extended error begins.
    fn ede_at(&self) -> usize {
        self.packed.len().saturating_sub(usize::from(self.shape.ede_len))
    }

    /// As [`Answer::ede`].
    #[must_use]
    pub fn ede(&self) -> Option<Ede<'a>> {
        let (code, text) = self.packed.get(self.ede_at()..)?.split_first_chunk()?;
        Some(Ede {
            code: u16::from_be_bytes(*code),
            text: std::str::from_utf8(text).unwrap_or_default(),
        })
    }

    /// A copy of one's own.
    #[must_use]
    pub fn to_answer(self) -> Answer {
        Answer {
            packed: self.packed.into(),
            shape: self.shape,
        }
    }
}

impl<'a> From<&'a Answer> for AnswerRef<'a> {
    fn from(answer: &'a Answer) -> Self {
        Self::new(&answer.packed, answer.shape)
    }
}

/// A provider's answer as it is cached and replied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As in [`AnswerRef`].
    packed: Box<[u8]>,
    shape: Shape,
}

impl Answer {
    /// The packet: id 0, flags QR, TC, AD and rcode, question, records, no OPT. Given to [`super::accept()`] again,
    /// with id 0, the question of this packet and no random case, it comes out the same: that is how a stored packet is
    /// read back.
    /// Only what OPT said is lost: the extended error and the upper bits of the rcode.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        AnswerRef::from(self).wire()
    }

    /// The extended error that the provider explained it by: the first one, its text short and clean.
    #[must_use]
    pub fn ede(&self) -> Option<Ede<'_>> {
        AnswerRef::from(self).ede()
    }

    /// The same with no time to live: to be told once, and kept by nobody.
    #[must_use]
    pub(crate) fn into_unkeepable(mut self) -> Self {
        self.change_ttls(|_| 0);
        self.shape.ttl_s = self.shape.ttl_s.map(|_| 0);
        self
    }

    /// The same with no TTL above `max_s` seconds, and, if it holds records of the type asked for, none below `min_s`.
    /// What may not be kept stays so.
    #[must_use]
    pub(crate) fn within(mut self, min_s: u32, max_s: u32) -> Self {
        let Some(lowest_s) = self.shape.ttl_s else {
            return self;
        };
        // A denial is never kept for longer than its zone says (RFC 2308 section 5).
        let min_s = if self.shape.kind == Kind::Positive {
            min_s.min(max_s)
        } else {
            0
        };
        if min_s > 0 || max_s < TTL_S_MAX {
            self.change_ttls(|ttl_s| ttl_s.clamp(min_s, max_s));
            self.shape.ttl_s = Some(lowest_s.clamp(min_s, max_s));
        }
        self
    }

    fn change_ttls(&mut self, change: impl Fn(u32) -> u32) {
        let places: Vec<usize> = AnswerRef::from(&*self).ttl_offsets().collect();
        for at in places {
            let ttl_s = change(u32_at(&self.packed, at).unwrap_or(0));
            put_u32(&mut self.packed, at, ttl_s);
        }
    }

    /// The same as the authority's own answer (AA): for names that are answered here, never for a provider's.
    #[must_use]
    pub(crate) fn into_authoritative(mut self) -> Self {
        if let Some(flags) = self.packed.get_mut(2..).and_then(<[u8]>::first_chunk_mut) {
            *flags = (u16::from_be_bytes(*flags) | AA).to_be_bytes();
        }
        self
    }

    /// The question's bytes in the case it was sent.
    #[must_use]
    pub fn question(&self) -> &[u8] {
        AnswerRef::from(self).question()
    }

    /// The response code, all twelve bits.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.shape.rcode
    }

    /// What it says about the name.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.shape.kind
    }

    /// How long it may be kept, in seconds; `None` where its records do not say: failures, denials without SOA,
    /// truncated answers.
    #[must_use]
    pub fn ttl_s(&self) -> Option<u32> {
        self.shape.ttl_s
    }

    /// Whether the provider vouched for it (AD) over an encrypted path.
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        u16_at(&self.packed, 2).is_some_and(|flags| flags & AD != 0)
    }

    /// The records kept, OPT not among them.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let wire = self.wire();
        let counts = Header::read(wire).map_or([0; 3], |header| header.record_counts);
        Records::new(wire, usize::from(self.shape.question_end), counts).map_while(Result::ok)
    }

    /// The addresses (A, AAAA) of the answer section.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records()
            .filter(|record| record.section == Section::Answer && record.class == class::IN)
            .filter_map(|record| match record.rtype {
                rtype::A => <[u8; 4]>::try_from(record.rdata).ok().map(IpAddr::from),
                rtype::AAAA => <[u8; 16]>::try_from(record.rdata).ok().map(IpAddr::from),
                _ => None,
            })
    }
}

/// One record of an answer in the making: what its TTL depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Its RRset: owner's fingerprint, class, type, covered type. Two owners of one fingerprint would share the lower
    /// of their TTLs, which harms nobody.
    pub(super) set: (u64, u16, u16, u16),
    /// The TTL as sent.
    pub(super) ttl: u32,
    /// Where it stands.
    pub(super) ttl_at: usize,
}

/// A TTL as RFC 2181 8 wants it read: with the top bit set, 0.
pub(super) fn sane_ttl(ttl: u32) -> u32 {
    if i32::try_from(ttl).is_ok() { ttl } else { 0 }
}

/// All that an answer is made of, found by the walk.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// The header the packet gets.
    pub(super) header: Header,
    /// What follows the header: question and records.
    pub(super) body: &'a [u8],
    /// Where the records begin, counted from the start of the packet.
    pub(super) question_end: usize,
    /// Where the additional records begin.
    pub(super) additional_at: usize,
    /// The records in order.
    pub(super) kept: Vec<Kept>,
    /// Where owners repeat the random case of our question, each as long as the question's name.
    pub(super) echoes: Vec<usize>,
    /// The whole response code.
    pub(super) rcode: u16,
    /// What the answer says.
    pub(super) kind: Kind,
    /// What is kept of the extended error.
    pub(super) ede: Option<Vec<u8>>,
    /// min(SOA TTL, MINIMUM, 1 hour), when there is a SOA in the authority section.
    pub(super) negative_ttl_s: Option<u32>,
}

impl Draft<'_> {
    /// Builds the packet; `None` if it were too long for its offsets, which the walk has ruled out.
    pub(super) fn finish(mut self) -> Option<Answer> {
        let wire_len = HEADER_BYTES + self.body.len();
        let ede = self.ede.as_deref().unwrap_or_default();
        let mut packed = Vec::with_capacity(wire_len + 2 * self.kept.len() + ede.len());
        packed.extend_from_slice(&self.header.to_bytes());
        packed.extend_from_slice(self.body);
        let name_bytes = self.question_end.saturating_sub(HEADER_BYTES + 4);
        for at in &self.echoes {
            if let Some(name) = packed.get_mut(*at..*at + name_bytes) {
                // Length octets are below any letter.
                name.make_ascii_lowercase();
            }
        }
        for record in &self.kept {
            packed.extend_from_slice(&u16::try_from(record.ttl_at).ok()?.to_be_bytes());
        }
        packed.extend_from_slice(ede);
        let cap_s = match (self.kind, self.negative_ttl_s) {
            (Kind::Denial { .. }, Some(negative_ttl_s)) => negative_ttl_s,
            (Kind::Denial { .. } | Kind::Positive | Kind::Failure | Kind::Truncated, _) => TTL_S_MAX,
        };
        let lowest_s = settle_ttls(&mut self.kept, cap_s, &mut packed);
        let shape = Shape {
            wire_len: u16::try_from(wire_len).ok()?,
            question_end: u16::try_from(self.question_end).ok()?,
            additional_at: u16::try_from(self.additional_at).ok()?,
            rcode: self.rcode,
            kind: self.kind,
            ede_len: u8::try_from(ede.len()).ok()?,
            ttl_s: match self.kind {
                Kind::Positive | Kind::Denial { soa: true } => Some(lowest_s),
                Kind::Denial { soa: false } | Kind::Failure | Kind::Truncated => None,
            },
        };
        let packed = packed.into_boxed_slice();
        Some(Answer { packed, shape })
    }
}

/// Gives each RRset one TTL in `wire` and returns the lowest of all; 0 if there is no record.
fn settle_ttls(kept: &mut [Kept], cap_s: u32, wire: &mut [u8]) -> u32 {
    kept.sort_unstable_by_key(|record| record.set);
    let mut lowest_of_all = None;
    for set in kept.chunk_by(|a, b| a.set == b.set) {
        let lowest = set
            .iter()
            .map(|record| sane_ttl(record.ttl))
            .min()
            .unwrap_or(0)
            .min(cap_s);
        for record in set {
            put_u32(wire, record.ttl_at, lowest);
        }
        lowest_of_all = Some(lowest_of_all.map_or(lowest, |so_far: u32| so_far.min(lowest)));
    }
    lowest_of_all.unwrap_or(0)
}
