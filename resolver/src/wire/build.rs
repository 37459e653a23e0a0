//! Queries to providers, written from nothing: id, one question, our own OPT.
//!
//! No byte of a client's message goes in, only what it means: name, type, class, CD and DO. The letters of the
//! name get random case (draft-vixie-dnsext-dns0x20): an off-path forger has to guess it along with id and port.

use super::cookie::Cookie;
use super::edns::push_query_opt;
use super::header::{AD, CD, Header, RD};
use super::name::NameBuf;
use std::ops::Range;

/// A query to a provider.
#[derive(Debug, Clone, Copy)]
pub struct QueryOut<'a> {
    /// The id: random, or 0 where the transport asks for it (DoQ, DoH).
    pub id: u16,
    /// The name.
    pub name: &'a NameBuf,
    /// The type.
    pub qtype: u16,
    /// The class.
    pub qclass: u16,
    /// AD: we understand authenticated data and would like to know (RFC 6840 5.7).
    pub ad: bool,
    /// CD: checking disabled.
    pub cd: bool,
    /// One random bit per octet of the name says whether a letter there is upper case; `None`: all lower case.
    pub case_bits: Option<[u8; 32]>,
    /// The OPT record; `None` for an endpoint that does not know EDNS.
    pub edns: Option<EdnsOut>,
}

/// Our OPT record in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdnsOut {
    /// The UDP reply we take: [`super::edns::UDP_BYTES_MAX`].
    pub udp_size: u16,
    /// We want signatures.
    pub do_bit: bool,
    /// Padded to the next multiple of 128 octets; only where nobody on the path can read it (RFC 7830 section 6).
    pub is_padded: bool,
    /// Our cookie, for a server over UDP.
    pub cookie: Option<Cookie>,
    /// Whether the server shall say how long it keeps an idle connection; over TCP and TLS only (RFC 7828 section 3.2.1).
    pub asks_keepalive: bool,
}

/// Appends the query to `out` and returns where its question (name, type, class) stands in it.
pub fn build_query(out: &mut Vec<u8>, query: &QueryOut<'_>) -> Range<usize> {
    let message_at = out.len();
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    let header = Header {
        id: query.id,
        flags: RD | flag(query.ad, AD) | flag(query.cd, CD),
        question_count: 1,
        record_counts: [0, 0, u16::from(query.edns.is_some())],
    };
    out.extend_from_slice(&header.to_bytes());
    let start = out.len();
    let name = query.name.as_wire();
    match query.case_bits {
        None => out.extend_from_slice(name),
        Some(bits) => {
            let bits = bits
                .iter()
                .flat_map(|byte| (0..8).map(move |bit| (byte >> bit) & 1 == 1));
            // Length octets are below any letter, so only letters change.
            out.extend(
                name.iter()
                    .zip(bits)
                    .map(|(octet, upper)| if upper { octet.to_ascii_uppercase() } else { *octet }),
            );
        }
    }
    out.extend_from_slice(&query.qtype.to_be_bytes());
    out.extend_from_slice(&query.qclass.to_be_bytes());
    let end = out.len();
    if let Some(edns) = query.edns {
        let message_bytes = out.len().saturating_sub(message_at);
        push_query_opt(out, edns, message_bytes);
    }
    start..end
}
