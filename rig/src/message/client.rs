//! The client's side: the query it sends and what it reads out of a reply.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{CLASS_IN, push_opt, rtype};
use crate::wire::{Reader, push_number, wire_name};

/// A client's query: RD set, and EDNS when `edns_bytes` says how much the client can take.
#[must_use]
pub fn encode_query(id: u16, name: &str, rtype: u16, edns_bytes: Option<u16>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    push_number(&mut out, id);
    out.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0]);
    push_number(&mut out, u16::from(edns_bytes.is_some()));
    out.extend_from_slice(&encode_question(name, rtype));
    if let Some(bytes) = edns_bytes {
        push_opt(&mut out, bytes, false, &[]);
    }
    out
}

/// The question section of [`encode_query`], to be compared with [`Reply::question`].
#[must_use]
pub fn encode_question(name: &str, rtype: u16) -> Vec<u8> {
    let mut out = wire_name(name);
    push_number(&mut out, rtype);
    push_number(&mut out, CLASS_IN);
    out
}

/// A reply as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The id it carries.
    pub id: u16,
    /// The response code of the header.
    pub rcode: u8,
    /// Whether the answer was cut.
    pub truncated: bool,
    /// The question section, byte for byte.
    pub question: Vec<u8>,
    /// The addresses of the A records in the answer section, whoever owns them.
    pub addresses: Vec<Ipv4Addr>,
    /// The addresses of the AAAA records in the answer section.
    pub addresses6: Vec<Ipv6Addr>,
    /// The lowest TTL of the answer section, in seconds.
    pub ttl_seconds_min: Option<u32>,
}

/// Reads a reply with one question; `None` when the bytes are none.
#[must_use]
pub fn parse_reply(bytes: &[u8]) -> Option<Reply> {
    let mut reader = Reader::new(bytes);
    let id = reader.number()?;
    let (high, low) = (reader.byte()?, reader.byte()?);
    let (questions, answers) = (reader.number()?, reader.number()?);
    reader.take(4)?;
    if high & 0x80 == 0 || questions != 1 {
        return None;
    }
    let start = reader.position();
    reader.plain_name()?;
    reader.take(4)?;
    let question = bytes.get(start..reader.position())?.to_vec();
    let mut reply = Reply {
        id,
        rcode: low & 0x0f,
        truncated: high & 2 != 0,
        question,
        addresses: Vec::new(),
        addresses6: Vec::new(),
        ttl_seconds_min: None,
    };
    for _ in 0..answers {
        reader.skip_name()?;
        let (rtype, _class, ttl) = (reader.number()?, reader.number()?, reader.number32()?);
        let length = reader.number()?;
        let data = reader.take(usize::from(length))?;
        reply.ttl_seconds_min = Some(reply.ttl_seconds_min.map_or(ttl, |least| least.min(ttl)));
        if rtype == rtype::A {
            reply.addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        } else if rtype == rtype::AAAA {
            reply.addresses6.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?));
        }
    }
    Some(reply)
}
