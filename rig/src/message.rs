//! Whole DNS messages, from both sides: queries as a fake receives and a client sends them, replies as a fake sends
//! and a client receives them (RFC 1035 section 4.1, RFC 6891 section 6.1).
//!
//! What is needed here and nothing more: one question, an OPT record without options, opaque record data. The question
//! is echoed byte for byte, so a resolver that mixes letter case (0x20) can check it.

use crate::wire::{Reader, WireName, count16, push_number};

pub use client::{Reply, encode_query, encode_question, parse_reply};

mod client;

/// Record types the rig knows by number.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS pseudo-record.
    pub const OPT: u16 = 41;
    /// Signature.
    pub const RRSIG: u16 = 46;
}

/// EDNS options the rig knows by number.
mod option {
    /// Padding (RFC 7830).
    pub(super) const PADDING: u16 = 12;
    /// Extended error (RFC 8914).
    pub(super) const EDE: u16 = 15;
}

/// Response codes the rig knows by number.
pub mod rcode {
    /// The query was answered.
    pub const NOERROR: u8 = 0;
    /// The query could not be read.
    pub const FORMERR: u8 = 1;
    /// The server failed.
    pub const SERVFAIL: u8 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u8 = 3;
    /// The opcode is not supported.
    pub const NOTIMP: u8 = 4;
    /// The server does not want to answer.
    pub const REFUSED: u8 = 5;
}

/// EDNS payload size the fakes announce (the DNS flag day 2020 value, which fits any path).
pub const EDNS_BYTES: u16 = 1232;
/// Padded answers are a multiple of this long (RFC 8467 section 4.1).
const PADDED_BYTES: usize = 468;
/// Class IN.
const CLASS_IN: u16 = 1;
/// More records than this in a query are not read: a query has one OPT, perhaps a TSIG.
const QUERY_RECORDS_MAX: u16 = 8;

/// A query as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) opcode: u8,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    pub(crate) name: WireName,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
}

/// What a query's OPT record said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edns {
    pub(crate) payload_bytes: u16,
    pub(crate) dnssec_ok: bool,
    /// Whether it is padded, and so the answer shall be (RFC 7830 section 4).
    pub(crate) is_padded: bool,
}

/// Why bytes are not a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadQuery {
    /// No header, or a response: answering could start a loop.
    Ignored,
    /// A header, and something unreadable behind it.
    Malformed {
        /// The query's id, for the FORMERR.
        id: u16,
    },
}

impl Query {
    /// Reads a query with exactly one question.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadQuery> {
        let mut reader = Reader::new(bytes);
        let header = (|| Some((reader.number()?, reader.number()?, reader.take(8)?)))();
        let Some((id, flags, counts)) = header else {
            return Err(BadQuery::Ignored);
        };
        if flags & 0x8000 != 0 {
            return Err(BadQuery::Ignored);
        }
        Self::parse_body(id, flags, counts, &mut reader).ok_or(BadQuery::Malformed { id })
    }

    fn parse_body(id: u16, flags: u16, counts: &[u8], reader: &mut Reader<'_>) -> Option<Self> {
        let mut counts = Reader::new(counts);
        let (questions, answers) = (counts.number()?, counts.number()?);
        let (authorities, additionals) = (counts.number()?, counts.number()?);
        if questions != 1 {
            return None;
        }
        let name = reader.plain_name()?;
        let (rtype, class) = (reader.number()?, reader.number()?);
        let records = answers.checked_add(authorities)?.checked_add(additionals)?;
        if records > QUERY_RECORDS_MAX {
            return None;
        }
        let mut edns = None;
        for _ in 0..records {
            reader.skip_name()?;
            let (rtype, class, ttl) = (reader.number()?, reader.number()?, reader.number32()?);
            let length = reader.number()?;
            let data = reader.take(usize::from(length))?;
            if rtype == rtype::OPT {
                edns = Some(Edns {
                    payload_bytes: class,
                    dnssec_ok: ttl & 0x8000 != 0,
                    is_padded: has_padding(data),
                });
            }
        }
        let [high, low] = flags.to_be_bytes();
        Some(Self {
            id,
            opcode: (high >> 3) & 0x0f,
            recursion_desired: high & 1 != 0,
            checking_disabled: low & 0x10 != 0,
            name,
            rtype,
            class,
            edns,
        })
    }

    pub(crate) const fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// Bytes of a UDP answer this client can take: 512 without EDNS (RFC 6891 section 6.2.5).
    pub(crate) fn payload_bytes(&self) -> usize {
        usize::from(self.edns.map_or(512, |edns| edns.payload_bytes.max(512)))
    }
}

/// Whose record it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The name that was asked, as a pointer to the question.
    Asked,
    /// Another name, in wire form.
    Name(Vec<u8>),
}

/// A record of class IN with opaque data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) owner: Owner,
    pub(crate) rtype: u16,
    pub(crate) ttl_seconds: u32,
    pub(crate) data: Vec<u8>,
}

/// What a reply says besides the question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: u8,
    pub(crate) truncated: bool,
    /// AD: it was validated.
    pub(crate) authentic: bool,
    /// The code of an extended error.
    pub(crate) ede: Option<u16>,
    pub(crate) answers: Vec<Resource>,
    pub(crate) authorities: Vec<Resource>,
}

impl Answer {
    /// A reply without records.
    pub(crate) fn empty(rcode: u8) -> Self {
        Self {
            rcode,
            ..Self::default()
        }
    }

    /// A reply that sends the client to TCP.
    pub(crate) fn truncation() -> Self {
        Self {
            truncated: true,
            ..Self::default()
        }
    }
}

/// The reply to `query`; one that would be larger than `limit_bytes` becomes a truncation.
pub(crate) fn encode_reply(query: &Query, answer: &Answer, limit_bytes: usize) -> Vec<u8> {
    let bytes = encode_whole(query, answer);
    if bytes.len() > limit_bytes {
        return encode_whole(
            query,
            &Answer {
                rcode: answer.rcode,
                ..Answer::truncation()
            },
        );
    }
    bytes
}

fn encode_whole(query: &Query, answer: &Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    push_number(&mut out, query.id);
    // QR and RA always; RD, CD and the opcode as asked.
    let high = 0x80 | (query.opcode << 3) | if answer.truncated { 2 } else { 0 } | u8::from(query.recursion_desired);
    let checking = if query.checking_disabled { 0x10 } else { 0 } | if answer.authentic { 0x20 } else { 0 };
    let low = 0x80 | checking | (answer.rcode & 0x0f);
    out.extend_from_slice(&[high, low, 0, 1]);
    push_number(&mut out, count16(answer.answers.len()));
    push_number(&mut out, count16(answer.authorities.len()));
    push_number(&mut out, u16::from(query.edns.is_some()));
    out.extend_from_slice(&query.name.wire);
    push_number(&mut out, query.rtype);
    push_number(&mut out, query.class);
    for resource in answer.answers.iter().chain(&answer.authorities) {
        match &resource.owner {
            Owner::Asked => push_number(&mut out, 0xc00c),
            Owner::Name(wire) => out.extend_from_slice(wire),
        }
        push_number(&mut out, resource.rtype);
        push_number(&mut out, CLASS_IN);
        out.extend_from_slice(&resource.ttl_seconds.to_be_bytes());
        push_number(&mut out, count16(resource.data.len()));
        out.extend_from_slice(&resource.data);
    }
    if let Some(edns) = query.edns {
        let mut options = Vec::new();
        if let Some(code) = answer.ede {
            push_option(&mut options, option::EDE, &code.to_be_bytes());
        }
        if edns.is_padded {
            // Root, type, size, flags, length; and the option's own head.
            let bare = out.len() + 11 + options.len() + 4;
            push_option(
                &mut options,
                option::PADDING,
                &vec![0; bare.next_multiple_of(PADDED_BYTES) - bare],
            );
        }
        push_opt(&mut out, EDNS_BYTES, edns.dnssec_ok, &options);
    }
    out
}

fn push_opt(out: &mut Vec<u8>, payload_bytes: u16, dnssec_ok: bool, options: &[u8]) {
    out.push(0);
    push_number(out, rtype::OPT);
    push_number(out, payload_bytes);
    out.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    push_number(out, count16(options.len()));
    out.extend_from_slice(options);
}

fn push_option(out: &mut Vec<u8>, code: u16, contents: &[u8]) {
    push_number(out, code);
    push_number(out, count16(contents.len()));
    out.extend_from_slice(contents);
}

/// Whether there is padding among these options.
fn has_padding(options: &[u8]) -> bool {
    let mut reader = Reader::new(options);
    while let (Some(code), Some(length)) = (reader.number(), reader.number()) {
        if code == option::PADDING {
            return true;
        }
        if reader.take(usize::from(length)).is_none() {
            return false;
        }
    }
    false
}

/// FORMERR for bytes of which only the id could be read.
pub(crate) fn encode_malformed(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![high, low, 0x80, rcode::FORMERR, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_query_is_read_back() {
        let query = Query::parse(&encode_query(7, "Ab.Alder-Lane.com", rtype::TXT, Some(1400))).unwrap();
        assert_eq!(
            (query.id, query.rtype, query.class, query.opcode),
            (7, rtype::TXT, 1, 0)
        );
        assert!(query.recursion_desired);
        assert_eq!(query.name.text, "ab.alder-lane.com");
        assert_eq!(query.payload_bytes(), 1400);
        assert_eq!(
            Query::parse(&encode_query(7, ".", rtype::NS, None))
                .unwrap()
                .payload_bytes(),
            512
        );
    }

    #[test]
    fn what_is_no_query_is_ignored_or_malformed() {
        let mut bytes = encode_query(0x1234, "alder-lane.com", rtype::A, None);
        bytes.pop();
        assert_eq!(Query::parse(&bytes).unwrap_err(), BadQuery::Malformed { id: 0x1234 });
        bytes[2] |= 0x80;
        assert_eq!(Query::parse(&bytes).unwrap_err(), BadQuery::Ignored);
        assert_eq!(Query::parse(b"short").unwrap_err(), BadQuery::Ignored);
    }

    #[test]
    fn every_cut_of_a_reply_is_survived() {
        let query = Query::parse(&encode_query(9, "a.alder-lane.com", rtype::A, Some(1232))).unwrap();
        let data = vec![10, 1, 2, 3];
        let resource = Resource {
            owner: Owner::Asked,
            rtype: rtype::A,
            ttl_seconds: 60,
            data,
        };
        let answer = Answer {
            answers: vec![resource],
            ..Answer::default()
        };
        let bytes = encode_reply(&query, &answer, 512);
        let reply = parse_reply(&bytes).unwrap();
        assert_eq!(reply.addresses, [Ipv4Addr::new(10, 1, 2, 3)]);
        assert_eq!(reply.ttl_seconds_min, Some(60));
        assert_eq!(reply.question, encode_question("a.alder-lane.com", rtype::A));
        for length in 0..bytes.len() {
            assert!(parse_reply(&bytes[..length]).is_none_or(|cut| cut.question == reply.question));
            assert!(Query::parse(&bytes[..length]).is_err());
        }
        assert!(parse_reply(&encode_reply(&query, &answer, 30)).unwrap().truncated);
    }
}
