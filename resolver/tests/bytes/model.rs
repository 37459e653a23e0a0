//! A second reader of messages, as plain as can be: what the code under test says of bytes is compared with it. It follows
//! any pointer and judges nothing, so whatever that code accepts or writes can be read here.

use detour_resolver::wire::Section;

/// Pointers followed in one name: more than any name that is accepted has.
const HOPS_MAX: usize = 1_000;

/// A message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// The bytes of the questions.
    pub(crate) questions: Vec<Vec<u8>>,
    pub(crate) records: Vec<Record>,
    /// Where the last record ends.
    pub(crate) end: usize,
}

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) section: Section,
    /// Decompressed, in lower case, without the root.
    pub(crate) owner: Vec<Vec<u8>>,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) ttl_at: usize,
    pub(crate) rdata: Vec<u8>,
}

impl Record {
    /// Whether it is part of one exchange and not of an answer: OPT, TSIG, SIG(0).
    pub(crate) fn is_hop_by_hop(&self) -> bool {
        let is_sig0 =
            self.section == Section::Additional && !matches!(self.rdata.as_slice(), [a, b, ..] if (*a, *b) != (0, 0));
        matches!(self.rtype, 41 | 250) || (self.rtype == 24 && is_sig0)
    }

    /// The RRset it belongs to: owner, class, type, and the type that a signature covers.
    pub(crate) fn set(&self) -> (&[Vec<u8>], u16, u16, u16) {
        let covered = match self.rdata.as_slice() {
            [a, b, ..] if matches!(self.rtype, 24 | 46) => u16::from_be_bytes([*a, *b]),
            _ => 0,
        };
        (&self.owner, self.class, self.rtype, covered)
    }

    /// All of it but its TTL and its place.
    pub(crate) fn essence(&self) -> (Section, &[Vec<u8>], u16, u16, &[u8]) {
        (self.section, &self.owner, self.rtype, self.class, &self.rdata)
    }
}

impl Message {
    /// The rcode in the header.
    pub(crate) fn rcode(&self) -> u16 {
        self.flags & 0xF
    }

    /// Whether this flag is set.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// How many records a section has.
    pub(crate) fn count(&self, section: Section) -> usize {
        self.records.iter().filter(|record| record.section == section).count()
    }

    /// The OPT records.
    pub(crate) fn opts(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.rtype == 41)
    }
}

/// Reads a message, if all that its counts announce is there.
pub(crate) fn read(msg: &[u8]) -> Option<Message> {
    let counts = [u16_at(msg, 6)?, u16_at(msg, 8)?, u16_at(msg, 10)?];
    let mut at = 12;
    let mut questions = Vec::new();
    for _ in 0..u16_at(msg, 4)? {
        let end = name(msg, at)?.1 + 4;
        questions.push(msg.get(at..end)?.to_vec());
        at = end;
    }
    let mut records = Vec::new();
    let sections = [Section::Answer, Section::Authority, Section::Additional];
    for (section, count) in sections.into_iter().zip(counts) {
        for _ in 0..count {
            let (owner, fixed_at) = name(msg, at)?;
            let end = fixed_at + 10 + usize::from(u16_at(msg, fixed_at + 8)?);
            records.push(Record {
                section,
                owner,
                rtype: u16_at(msg, fixed_at)?,
                class: u16_at(msg, fixed_at + 2)?,
                ttl: u32::from(u16_at(msg, fixed_at + 4)?) << 16 | u32::from(u16_at(msg, fixed_at + 6)?),
                ttl_at: fixed_at + 4,
                rdata: msg.get(fixed_at + 10..end)?.to_vec(),
            });
            at = end;
        }
    }
    Some(Message {
        id: u16_at(msg, 0)?,
        flags: u16_at(msg, 2)?,
        questions,
        records,
        end: at,
    })
}

/// The labels of a name in lower case, and where it ends.
pub(crate) fn name(msg: &[u8], start: usize) -> Option<(Vec<Vec<u8>>, usize)> {
    let (mut at, mut end, mut labels) = (start, None, Vec::new());
    for _ in 0..HOPS_MAX {
        let length = *msg.get(at)?;
        match length {
            0 => return Some((labels, end.unwrap_or(at + 1))),
            1..=63 => {
                let next = at + 1 + usize::from(length);
                labels.push(msg.get(at + 1..next)?.to_ascii_lowercase());
                at = next;
            }
            64..=191 => return None,
            192..=255 => {
                end.get_or_insert(at + 2);
                at = usize::from(u16_at(msg, at)? & 0x3FFF);
            }
        }
    }
    None
}

/// The whole response code: that of the header and the upper bits in OPT.
pub(crate) fn whole_rcode(message: &Message) -> u16 {
    let high = message.opts().next().map_or(0, |opt| opt.ttl >> 24);
    u16::try_from(high << 4).unwrap_or(0) | message.rcode()
}

fn u16_at(msg: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*msg.get(at)?, *msg.get(at + 1)?]))
}
