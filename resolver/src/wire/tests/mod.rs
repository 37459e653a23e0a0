//! Tests of the wire view. Messages are written octet by octet here, never by the code under test.

mod answers;
mod names;
mod pass_through;
mod properties;
mod queries;
mod replies;

use super::accept::{Accepted, Expected, Rejected, accept};
use super::code::{class, rtype};
use super::query::{Parsed, Query, parse};

/// The id of all crafted messages.
pub(super) const ID: u16 = 0x1234;

/// Flags of a usual response: QR, RD, RA.
const RESPONSE: u16 = 0x8180;

/// A pointer to the question's name.
const Q: &[u8] = &[0xC0, 0x0C];

/// A message in the making; counts follow what is added.
#[derive(Debug, Clone)]
struct Msg {
    bytes: Vec<u8>,
}

impl Msg {
    fn new(flags: u16) -> Self {
        let mut bytes = ID.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0; 8]);
        Self { bytes }
    }

    /// A query with RD and one question.
    fn query(name: &str, qtype: u16) -> Self {
        Self::new(0x0100).question(&wire(name), qtype, class::IN)
    }

    /// A response with one question.
    fn response(rcode: u16, name: &str, qtype: u16) -> Self {
        Self::new(RESPONSE | rcode).question(&wire(name), qtype, class::IN)
    }

    fn count(mut self, section: usize) -> Self {
        let at = 4 + 2 * section;
        let count = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]) + 1;
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn question(self, name: &[u8], qtype: u16, qclass: u16) -> Self {
        self.count(0)
            .raw(name)
            .raw(&qtype.to_be_bytes())
            .raw(&qclass.to_be_bytes())
    }

    /// A record of class IN; sections: 1 answer, 2 authority, 3 additional.
    fn record(self, section: usize, owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.record_of(section, owner, (rtype, class::IN), ttl, rdata)
    }

    fn record_of(self, section: usize, owner: &[u8], kind: (u16, u16), ttl: u32, rdata: &[u8]) -> Self {
        self.count(section)
            .raw(owner)
            .raw(&kind.0.to_be_bytes())
            .raw(&kind.1.to_be_bytes())
            .raw(&ttl.to_be_bytes())
            .raw(&u16::try_from(rdata.len()).unwrap().to_be_bytes())
            .raw(rdata)
    }

    fn opt(self, ttl_field: u32, options: &[u8]) -> Self {
        self.record_of(3, &[0], (rtype::OPT, 1232), ttl_field, options)
    }

    fn soa(self, owner: &[u8], ttl: u32, minimum: u32) -> Self {
        let mut rdata = wire("ns.t");
        rdata.extend(wire("root.t"));
        rdata.extend([0; 16]);
        rdata.extend(minimum.to_be_bytes());
        self.record(2, owner, rtype::SOA, ttl, &rdata)
    }

    fn accept(&self) -> Result<Accepted, Rejected> {
        accept_as_sent(&self.bytes)
    }

    /// The rcode of the rejection, or the query.
    fn parse(&self) -> Parsed {
        parse(&self.bytes)
    }
}

/// The wire form of a name of plain labels.
fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A query without EDNS, in the bytes a client sends.
pub(super) fn plain_query(name: &str, qtype: u16, qclass: u16) -> Vec<u8> {
    Msg::new(0x0100).question(&wire(name), qtype, qclass).bytes
}

/// What `parse` makes of a message that must be a query.
fn query_of(msg: &[u8]) -> Query {
    match parse(msg) {
        Parsed::Query(query) => query,
        other @ (Parsed::Silence | Parsed::Reject(_)) => panic!("no query: {other:?}"),
    }
}

/// An option: code and contents.
fn option(code: u16, contents: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
    bytes.extend(contents);
    bytes
}

/// An EDE option without text.
fn ede_option(code: u16) -> Vec<u8> {
    option(15, &code.to_be_bytes())
}

/// An answer to a question with capitals, with this response code and, unless it is empty, this cookie.
pub(crate) fn accepted_with_cookie(rcode: u16, cookie: &[u8]) -> Accepted {
    let options = if cookie.is_empty() { vec![] } else { option(10, cookie) };
    let msg = Msg::response(rcode & 0xF, "wWw.T", rtype::A).opt(u32::from(rcode >> 4) << 24, &options);
    msg.accept().unwrap()
}

/// An answer to this question that holds one record.
pub(crate) fn accepted_for(name: &str, qtype: u16) -> Accepted {
    let msg = Msg::response(0, name, qtype).record(1, Q, qtype, 300, &[192, 0, 2, 1]);
    msg.accept().unwrap()
}

/// Accepts `msg` as the answer to its own question.
fn accept_as_sent(msg: &[u8]) -> Result<Accepted, Rejected> {
    let end = super::name::skip_plain_name(msg, 12).map_or(12, |end| end + 4);
    accept(
        msg,
        &Expected {
            id: ID,
            question: msg.get(12..end).unwrap_or_default(),
            check_case: true,
            encrypted: true,
        },
    )
}
