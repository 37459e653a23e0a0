//! The walk over a message's records: owner, type, class, TTL, rdata, one after another in their sections.
//!
//! The walk checks bounds and names and nothing else; rdata stays opaque. The one exception are names embedded in the
//! rdata of types that senders may compress or once did (RFC 3597 4, RFC 1035 3.3): [`Record::has_sound_rdata`]
//! says whether they can be followed and fill the rdata, so that no client is handed a pointer loop.

use super::code::rtype;
use super::name::{NameBuf, push_name, read_name_folded, read_name_folded_if, skip_name, skip_name_if};
use super::{u16_at, u32_at};
use std::ops::Range;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who is responsible.
    Authority,
    /// What may help, OPT included.
    Additional,
}

/// A record as it stands in its message.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The whole message, for names.
    msg: &'a [u8],
    /// The section it is counted in.
    pub section: Section,
    /// Where the owner's name begins.
    pub start: usize,
    /// The type.
    pub rtype: u16,
    /// The class; for OPT the sender's UDP size.
    pub class: u16,
    /// The TTL as sent; for OPT extended rcode, version and flags.
    pub ttl: u32,
    /// Where the TTL stands.
    pub ttl_at: usize,
    /// The rdata.
    pub rdata: &'a [u8],
    /// Where the record ends.
    pub end: usize,
}

impl<'a> Record<'a> {
    /// The record at `start`, if it is whole and its owner can be followed.
    fn read(msg: &'a [u8], start: usize, section: Section) -> Option<Self> {
        let fixed_at = skip_name(msg, start)?;
        let rdata_at = fixed_at + 10;
        let end = rdata_at + usize::from(u16_at(msg, fixed_at + 8)?);
        Some(Self {
            msg,
            section,
            start,
            rtype: u16_at(msg, fixed_at)?,
            class: u16_at(msg, fixed_at + 2)?,
            ttl: u32_at(msg, fixed_at + 4)?,
            ttl_at: fixed_at + 4,
            rdata: msg.get(rdata_at..end)?,
            end,
        })
    }

    /// Reads the owner's name, lower-cased, into `name`.
    pub fn read_owner(&self, name: &mut NameBuf) {
        // The owner was followed when the record was read; a failure would leave the root.
        let _end: Option<usize> = read_name_folded(self.msg, self.start, name);
    }

    /// Appends the owner's name as it is, but for compression.
    pub(super) fn push_plain_owner(&self, out: &mut Vec<u8>) -> Option<()> {
        push_name(self.msg, self.start, out).map(|_end| ())
    }

    /// Appends the rdata as it is, but for the compression of names in it.
    pub(super) fn push_plain_rdata(&self, out: &mut Vec<u8>) -> Option<()> {
        let Some(shape) = Shape::of(self.rtype) else {
            out.extend_from_slice(self.rdata);
            return Some(());
        };
        let start = self.end.checked_sub(self.rdata.len())?;
        let mut at = start + shape.bytes_before;
        for _ in 0..shape.strings {
            at += 1 + usize::from(*self.msg.get(at)?);
        }
        out.extend_from_slice(self.msg.get(start..at.min(self.end))?);
        for _ in 0..shape.names {
            at = push_name(self.msg, at, out)?;
        }
        out.extend_from_slice(self.msg.get(at..self.end)?);
        Some(())
    }

    /// As [`Self::read_owner`], if `may_read` says so of each stretch that a pointer leads to; else false, and the root.
    pub(super) fn read_owner_if(&self, name: &mut NameBuf, may_read: impl FnMut(&Range<usize>, bool) -> bool) -> bool {
        read_name_folded_if(self.msg, self.start, name, may_read).is_some()
    }

    /// Whether the owner is the root, written as such.
    #[must_use]
    pub fn has_root_owner(&self) -> bool {
        self.msg.get(self.start) == Some(&0)
    }

    /// The type a signature covers; 0 for all other records.
    #[must_use]
    pub fn covered_type(&self) -> u16 {
        match self.rtype {
            rtype::RRSIG | rtype::SIG => u16_at(self.rdata, 0).unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether the record signs or describes one exchange between two parties and must not travel further: OPT
    /// (RFC 6891 6.1.1), TSIG (RFC 8945), SIG(0) (RFC 2931).
    #[must_use]
    pub fn is_hop_by_hop(&self) -> bool {
        match self.rtype {
            rtype::OPT | rtype::TSIG => true,
            rtype::SIG => self.section == Section::Additional && self.covered_type() == 0,
            _ => false,
        }
    }

    /// Whether the names inside the rdata of the old compressible types can be followed, within its bounds.
    #[must_use]
    pub fn has_sound_rdata(&self) -> bool {
        self.has_sound_rdata_if(|_, _| true)
    }

    /// As [`Self::has_sound_rdata`], if `may_read` says so of each stretch that a pointer leads to.
    pub(super) fn has_sound_rdata_if(&self, may_read: impl FnMut(&Range<usize>, bool) -> bool) -> bool {
        let Some(shape) = Shape::of(self.rtype) else {
            return true;
        };
        self.end_of_names(shape, may_read).is_some_and(|end| {
            if shape.is_open {
                end <= self.end
            } else {
                end == self.end
            }
        })
    }

    /// Where the part of the rdata that `shape` describes ends.
    fn end_of_names(&self, shape: Shape, mut may_read: impl FnMut(&Range<usize>, bool) -> bool) -> Option<usize> {
        let mut at = self.end - self.rdata.len() + shape.bytes_before;
        for _ in 0..shape.strings {
            at += 1 + usize::from(*self.msg.get(at)?);
        }
        for _ in 0..shape.names {
            // A name that begins behind the rdata would be read from the next record.
            if at >= self.end {
                return None;
            }
            at = skip_name_if(self.msg, at, &mut may_read)?;
        }
        Some(at + shape.bytes_after)
    }
}

/// The rdata of a type with embedded names: octets, character strings, names, octets.
#[derive(Debug, Clone, Copy)]
struct Shape {
    bytes_before: usize,
    strings: usize,
    names: usize,
    bytes_after: usize,
    /// Whether anything may follow.
    is_open: bool,
}

impl Shape {
    /// The shape of this type's rdata; `None`: opaque.
    fn of(rtype: u16) -> Option<Self> {
        let names_behind = |bytes_before, names| Self {
            bytes_before,
            strings: 0,
            names,
            bytes_after: 0,
            is_open: false,
        };
        Some(match rtype {
            rtype::NS
            | rtype::MD
            | rtype::MF
            | rtype::CNAME
            | rtype::MB
            | rtype::MG
            | rtype::MR
            | rtype::PTR
            | rtype::DNAME => names_behind(0, 1),
            rtype::MINFO | rtype::RP => names_behind(0, 2),
            rtype::MX | rtype::AFSDB | rtype::RT | rtype::KX => names_behind(2, 1),
            rtype::PX => names_behind(2, 2),
            rtype::SRV => names_behind(6, 1),
            rtype::SOA => Self {
                bytes_after: 20,
                ..names_behind(0, 2)
            },
            rtype::NAPTR => Self {
                strings: 3,
                ..names_behind(4, 1)
            },
            rtype::NXT => Self {
                is_open: true,
                ..names_behind(0, 1)
            },
            rtype::SIG => Self {
                is_open: true,
                ..names_behind(18, 1)
            },
            _ => return None,
        })
    }
}

/// A record that runs past the message or whose owner cannot be followed; nothing behind it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenRecord;

/// The records of a message, in order; after a [`BrokenRecord`] nothing more comes.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    msg: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// The records that begin at `at`, as many per section as `counts` says.
    #[must_use]
    pub fn new(msg: &'a [u8], at: usize, counts: [u16; 3]) -> Self {
        Self { msg, at, left: counts }
    }

    /// The section the next record is counted in, with one taken from its count.
    fn take_section(&mut self) -> Option<Section> {
        let [answer, authority, additional] = &mut self.left;
        for (left, section) in [
            (answer, Section::Answer),
            (authority, Section::Authority),
            (additional, Section::Additional),
        ] {
            if let Some(less) = left.checked_sub(1) {
                *left = less;
                return Some(section);
            }
        }
        None
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BrokenRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let section = self.take_section()?;
        let record = Record::read(self.msg, self.at, section);
        match record {
            Some(record) => self.at = record.end,
            None => self.left = [0; 3],
        }
        Some(record.ok_or(BrokenRecord))
    }
}
