//! The wire view: the only place of the project that knows DNS bytes.
//!
//! A message of a client or of a provider is walked, never decoded into objects and encoded again: that would reject
//! or alter odd but legal records (unknown types, empty rdata, unsorted SVCB parameters). What is ours (id, flags,
//! question case, TTLs, OPT) is patched in place; every other byte passes as it is.
//!
//! * [`query`] reads what a client sends, [`mod@policy`] says which of it is forwarded;
//! * [`build`] writes a query to a provider, always from nothing: no byte of the client travels;
//! * [`mod@accept`] walks what came back and says what it means, [`answer`] is what is kept of it;
//! * [`mod@look`] shows what an answer has that only an examination asks for;
//! * [`reply`] writes the reply to the client.
//!
//! Rules of this folder: bytes from the network can never panic, parsing a query and patching a reply allocate
//! nothing, every offset is checked by `get`, every loop is bounded by the size of the message.
//! RFC 1035, 2181, 2308, 3597, 6891, 8906, 9267; deviations are named where they happen.

pub mod accept;
pub mod answer;
pub mod build;
pub mod code;
mod cookie;
pub mod edns;
mod header;
pub mod look;
pub mod name;
mod name_text;
mod overwritten;
pub mod policy;
pub mod query;
pub mod record;
pub mod reply;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod translate;

pub use accept::{Accepted, Expected, Garbage, Mismatch, Rejected, accept, classify};
pub use answer::{Answer, AnswerRef, Kind, TTL_S_MAX};
pub use build::{EdnsOut, QueryOut, build_query};
pub use cookie::{CLIENT_COOKIE_BYTES, Cookie};
pub use edns::{Ede, EdeCodes, Edns, Keepalive};
pub use look::{Look, look};
pub use name::NameBuf;
pub use name_text::NameError;
pub use policy::{Chaos, Policy, policy};
pub use query::{Echo, Extras, Fit, Parsed, Query, Question, Reject, Via, parse};
pub use record::{Record, Records, Section};
pub use reply::{Freshness, lifetime_s, reply_limit, write, write_error, write_hinfo_any, write_txt};

/// The longest message: the length field of TCP and of every stream transport has 16 bits.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// The question of a message that has one: its bytes, its name in lower case, its type and class. `None` where the name
/// cannot be read; nothing else is looked at.
#[must_use]
pub fn question_of(msg: &[u8]) -> Option<(&[u8], NameBuf, [u16; 2])> {
    let end = name::skip_plain_name(msg, header::HEADER_BYTES)?;
    let question = msg.get(header::HEADER_BYTES..end.checked_add(4)?)?;
    let mut name = NameBuf::root();
    name::read_name_folded(msg, header::HEADER_BYTES, &mut name)?;
    Some((question, name, [u16_at(msg, end)?, u16_at(msg, end.checked_add(2)?)?]))
}

/// The two bytes at `at`, big endian; `None` past the end.
fn u16_at(msg: &[u8], at: usize) -> Option<u16> {
    msg.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The four bytes at `at`, big endian; `None` past the end.
fn u32_at(msg: &[u8], at: usize) -> Option<u32> {
    msg.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Overwrites the four bytes at `at`; past the end nothing happens.
fn put_u32(msg: &mut [u8], at: usize, value: u32) {
    if let Some(place) = msg.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}
