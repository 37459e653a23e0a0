//! Queries as clients write them, sound or not, and replies read field by field.
//!
//! The reader is written for these tests and shares nothing with the product: a mistake would have to be made twice
//! to go unseen. It panics on a reply that no client could read.

use std::net::Ipv4Addr;

/// Record types the tests name.
pub(crate) mod rtype {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const MX: u16 = 15;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const HTTPS: u16 = 65;
    pub(crate) const NXNAME: u16 = 128;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// Response codes, with the bits of EDNS.
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BADVERS: u16 = 16;
}

/// Header flags.
pub(crate) mod flag {
    pub(crate) const QR: u16 = 0x8000;
    pub(crate) const AA: u16 = 0x0400;
    pub(crate) const TC: u16 = 0x0200;
    pub(crate) const RD: u16 = 0x0100;
    pub(crate) const RA: u16 = 0x0080;
    pub(crate) const Z: u16 = 0x0040;
    pub(crate) const AD: u16 = 0x0020;
    pub(crate) const CD: u16 = 0x0010;
}

pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_CH: u16 = 3;
/// The bit of OPT's TTL field that asks for signatures.
pub(crate) const DO: u32 = 0x8000;

/// A message put together part by part, so that each part can be wrong. Counts are what is there unless `counts` says
/// otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) questions: Vec<Vec<u8>>,
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) additionals: Vec<Vec<u8>>,
    pub(crate) counts: Option<[u16; 4]>,
    pub(crate) tail: Vec<u8>,
}

impl Message {
    /// An ordinary query without EDNS: RD, one question of class IN.
    pub(crate) fn query(name: &str, rtype: u16) -> Self {
        Self::of_question(question(name, rtype, CLASS_IN))
    }

    /// A query with these bytes for a question.
    pub(crate) fn of_question(question: Vec<u8>) -> Self {
        Self {
            id: 0x1d0f,
            flags: flag::RD,
            questions: vec![question],
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            counts: None,
            tail: Vec::new(),
        }
    }

    pub(crate) fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub(crate) fn flags(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn opcode(mut self, opcode: u16) -> Self {
        self.flags |= opcode << 11;
        self
    }

    pub(crate) fn counts(self, counts: [u16; 4]) -> Self {
        Self {
            counts: Some(counts),
            ..self
        }
    }

    /// With an OPT record of version 0 and no options.
    pub(crate) fn edns(self, udp_bytes: u16) -> Self {
        self.additional(opt(udp_bytes, 0, &[]))
    }

    /// With an OPT record that sets DO.
    pub(crate) fn dnssec_ok(self) -> Self {
        self.additional(opt(1232, DO, &[]))
    }

    pub(crate) fn additional(mut self, record: Vec<u8>) -> Self {
        self.additionals.push(record);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let count = |records: &Vec<Vec<u8>>| u16::try_from(records.len()).unwrap();
        let sections = [&self.questions, &self.answers, &self.authorities, &self.additionals];
        let counts = self.counts.unwrap_or_else(|| sections.map(count));
        let mut out = Vec::new();
        for number in [self.id, self.flags].into_iter().chain(counts) {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend(sections.into_iter().flatten().flatten());
        out.extend_from_slice(&self.tail);
        out
    }
}

/// A name in wire form.
pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

pub(crate) fn question(name: &str, rtype: u16, class: u16) -> Vec<u8> {
    let mut out = wire_name(name);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out
}

/// A record whose owner is given in wire form.
pub(crate) fn record(owner: &[u8], rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
    out.extend_from_slice(rdata);
    out
}

/// An OPT record; `ttl` is its version and flags.
pub(crate) fn opt(udp_bytes: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    record(&[0], rtype::OPT, udp_bytes, ttl, options)
}

/// An EDNS option.
pub(crate) fn option(code: u16, contents: &[u8]) -> Vec<u8> {
    let mut out = code.to_be_bytes().to_vec();
    out.extend_from_slice(&u16::try_from(contents.len()).unwrap().to_be_bytes());
    out.extend_from_slice(contents);
    out
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record of a reply. The owner is text in the case it has, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) section: Section,
    pub(crate) owner: String,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

/// The OPT record of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) udp_bytes: u16,
    pub(crate) version: u8,
    /// DO and the bits that must be zero.
    pub(crate) flags: u16,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

/// A reply, read to its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) size_bytes: usize,
    pub(crate) id: u16,
    /// All of the header's second word but the response code: the opcode too.
    pub(crate) flags: u16,
    /// With the bits of EDNS.
    pub(crate) rcode: u16,
    /// The question byte for byte, if there is one.
    pub(crate) question: Option<Vec<u8>>,
    /// All but OPT.
    pub(crate) records: Vec<Record>,
    pub(crate) edns: Option<Edns>,
}

impl Reply {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self::try_read(bytes).unwrap_or_else(|| panic!("no client could read this reply: {bytes:02x?}"))
    }

    fn try_read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let (id, header) = (reader.number()?, reader.number()?);
        let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        if header & flag::QR == 0 || counts[0] > 1 {
            return None;
        }
        let mut question = None;
        if counts[0] == 1 {
            let start = reader.at;
            reader.name()?;
            reader.take(4)?;
            question = Some(bytes.get(start..reader.at)?.to_vec());
        }
        let mut reply = Self {
            size_bytes: bytes.len(),
            id,
            flags: header & 0xfff0,
            rcode: header & 0xf,
            question,
            records: Vec::new(),
            edns: None,
        };
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        for (section, count) in sections.into_iter().zip(counts.into_iter().skip(1)) {
            for _ in 0..count {
                reply.read_record(section, &mut reader)?;
            }
        }
        (reader.at == bytes.len()).then_some(reply)
    }

    fn read_record(&mut self, section: Section, reader: &mut Reader<'_>) -> Option<()> {
        let owner = reader.name()?;
        let (rtype, class) = (reader.number()?, reader.number()?);
        let ttl = (u32::from(reader.number()?) << 16) | u32::from(reader.number()?);
        let length = reader.number()?;
        let rdata = reader.take(usize::from(length))?.to_vec();
        if rtype != rtype::OPT {
            self.records.push(Record {
                section,
                owner,
                rtype,
                class,
                ttl,
                rdata,
            });
            return Some(());
        }
        if section != Section::Additional || !owner.is_empty() || self.edns.is_some() {
            return None;
        }
        let mut options = Vec::new();
        let mut rest = Reader { bytes: &rdata, at: 0 };
        while rest.at < rdata.len() {
            let (code, length) = (rest.number()?, rest.number()?);
            options.push((code, rest.take(usize::from(length))?.to_vec()));
        }
        let [rcode_high, version, flags @ ..] = ttl.to_be_bytes();
        self.rcode |= u16::from(rcode_high) << 4;
        self.edns = Some(Edns {
            udp_bytes: class,
            version,
            flags: u16::from_be_bytes(flags),
            options,
        });
        Some(())
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn of_section(&self, section: Section) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.section == section)
    }

    /// The addresses of the A records in the answer section.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        let records = self
            .of_section(Section::Answer)
            .filter(|record| record.rtype == rtype::A);
        let address = |record: &Record| Ipv4Addr::from(<[u8; 4]>::try_from(record.rdata.as_slice()).unwrap());
        records.map(address).collect()
    }

    /// The lowest TTL of all records.
    pub(crate) fn ttl(&self) -> u32 {
        self.records.iter().map(|record| record.ttl).min().expect("a record")
    }

    /// The codes of its extended errors.
    pub(crate) fn extended_errors(&self) -> Vec<u16> {
        let options = self.edns.iter().flat_map(|edns| &edns.options);
        options
            .filter(|(code, _)| *code == 15)
            .map(|(_, contents)| u16::from_be_bytes([contents[0], contents[1]]))
            .collect()
    }
}

/// A position in a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name, followed through its pointers; each must point before itself.
    fn name(&mut self) -> Option<String> {
        let mut labels = Vec::new();
        let mut reader = Reader {
            bytes: self.bytes,
            at: self.at,
        };
        let mut end = None;
        loop {
            let start = reader.at;
            let length = *reader.take(1)?.first()?;
            match length {
                0 => break,
                1..=63 => labels.push(String::from_utf8_lossy(reader.take(usize::from(length))?).into_owned()),
                192..=255 => {
                    let low = *reader.take(1)?.first()?;
                    end = end.or(Some(reader.at));
                    reader.at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if reader.at >= start {
                        return None;
                    }
                }
                64..=191 => return None,
            }
        }
        self.at = end.unwrap_or(reader.at);
        Some(labels.join("."))
    }
}
