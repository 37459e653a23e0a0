//! Replies to clients: a kept answer patched for this client, or a small one of our own.
//!
//! Every function appends one message to `out` and allocates nothing once `out` has grown; a stream's length field
//! is the caller's. A reply has OPT exactly when the query had one (RFC 6891 6.1.1), stays within its limit, and
//! sets TC whenever something of answer or authority is missing (RFC 2181 9): first additional records go, without TC,
//! then everything behind the question. Extended errors take what room is left and never cost a record (RFC 8914 3).

use super::answer::AnswerRef;
use super::code::{rcode, rtype};
use super::edns::{Ede, KEEPALIVE_BYTES, OPT_BYTES, UDP_BYTES_MAX, UDP_BYTES_MIN, push_opt};
use super::header::{AA, AD, CD, HEADER_BYTES, Header, QR, RA, RCODE_MASK, RD, TC};
use super::name::skip_plain_name;
use super::query::{Echo, Via};
use super::record::Records;
use super::{MESSAGE_BYTES_MAX, put_u32, u16_at, u32_at};

/// How long the HINFO answer to ANY is kept: long, or the asker comes back at once; RFC 8482 4.2 leaves it open.
const HINFO_TTL_S: u32 = 3_600;

/// How old an answer is, and so which TTLs the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Within its TTL: each TTL less the age.
    Fresh {
        /// Seconds since it was received.
        age_s: u32,
    },
    /// Beyond it (RFC 8767): every TTL is this one.
    Stale {
        /// Seconds the client may keep it.
        ttl_s: u32,
    },
}

/// How long a reply may be: over UDP what the client takes, at least 512, at most 1232; over a stream 65,535.
#[must_use]
pub fn reply_limit(echo: &Echo, via: Via) -> usize {
    match via {
        Via::Udp => usize::from(
            echo.edns
                .map_or(UDP_BYTES_MIN, |edns| edns.udp_size)
                .clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
        ),
        Via::Tcp | Via::Tls | Via::Https | Via::H3 | Via::Quic => MESSAGE_BYTES_MAX,
    }
}

/// Appends `answer` as the reply to this client. The question of both must be the same but for case.
pub fn write<'a>(
    answer: impl Into<AnswerRef<'a>>,
    echo: &Echo,
    freshness: Freshness,
    edes: &[Ede<'_>],
    limit_bytes: usize,
    out: &mut Vec<u8>,
) {
    let answer = answer.into();
    let (wire, shape) = (answer.wire(), answer.shape());
    let start = out.len();
    let Some(stored) = Header::read(wire) else {
        debug_assert!(false, "an answer has a header");
        return write_error(echo, rcode::SERVFAIL, edes, out);
    };
    let room = limit_bytes.saturating_sub(opt_bytes(echo));
    let [answers, authorities, _] = stored.record_counts;
    let additional_at = usize::from(shape.additional_at);
    let question_end = usize::from(shape.question_end);
    let (end, record_counts, tc) = if wire.len() <= room {
        (wire.len(), stored.record_counts, 0)
    } else if additional_at <= room && additional_at < wire.len() {
        (additional_at, [answers, authorities, 0], 0)
    } else {
        (question_end, [0; 3], TC)
    };
    let wants_ad = echo.ad || echo.edns.is_some_and(|edns| edns.do_bit);
    let stored_flags = if wants_ad { stored.flags } else { stored.flags & !AD };
    // What a provider says of our EDNS or our cookie is nothing that the client did wrong.
    let code = match shape.rcode {
        rcode::BADVERS | rcode::BADCOOKIE => rcode::SERVFAIL,
        code => sendable(code, echo),
    };
    let header = Header {
        id: echo.id,
        flags: (stored_flags & (TC | AD | AA)) | QR | RA | tc | client_flags(echo) | (code & 0xF),
        question_count: 1,
        record_counts,
    };
    out.extend_from_slice(&header.to_bytes());
    let question = echo.question.as_bytes();
    debug_assert!(
        question.eq_ignore_ascii_case(answer.question()),
        "a client gets the answer to its own question"
    );
    if HEADER_BYTES + question.len() == question_end {
        out.extend_from_slice(question);
    } else {
        out.extend_from_slice(answer.question());
    }
    out.extend_from_slice(wire.get(question_end..end).unwrap_or_default());
    if let Some(reply) = out.get_mut(start..) {
        for at in answer.ttl_offsets().take_while(|at| *at < end) {
            let ttl_s = match freshness {
                Freshness::Fresh { age_s } => u32_at(reply, at).unwrap_or(0).saturating_sub(age_s),
                Freshness::Stale { ttl_s } => ttl_s,
            };
            put_u32(reply, at, ttl_s);
        }
    }
    // What the provider said comes behind what we say, and only once.
    let provided = answer.ede().filter(|ede| edes.iter().all(|own| own.code != ede.code));
    let edes = edes.iter().copied().chain(provided);
    finish(echo, code, edes, limit_bytes, (start, out));
}

/// Appends an error: header, the question if one was read, OPT if the query had one.
pub fn write_error(echo: &Echo, code: u16, edes: &[Ede<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    let code = sendable(code, echo);
    // To an operation we do not know no flag is echoed, and none of ours means anything.
    let ra = if echo.opcode == 0 { RA } else { 0 };
    let header = Header {
        id: echo.id,
        flags: QR | (u16::from(echo.opcode & 0xF) << 11) | ra | client_flags(echo) | (code & 0xF),
        question_count: u16::from(!echo.question.as_bytes().is_empty()),
        record_counts: [0; 3],
    };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(echo.question.as_bytes());
    finish(
        echo,
        code,
        edes.iter().copied(),
        usize::from(UDP_BYTES_MIN),
        (start, out),
    );
}

/// Appends the answer to ANY over UDP: one HINFO record that says where to read why (RFC 8482 4.2).
pub fn write_hinfo_any(echo: &Echo, out: &mut Vec<u8>) {
    write_local(echo, (rtype::HINFO, HINFO_TTL_S), (b"RFC8482", Some(b"")), out);
}

/// Appends a TXT answer of at most 255 octets in the question's class, for CHAOS questions; nobody keeps it.
pub fn write_txt(echo: &Echo, text: &str, out: &mut Vec<u8>) {
    let text = text.as_bytes();
    let text = text.get(..usize::from(u8::MAX)).unwrap_or(text);
    write_local(echo, (rtype::TXT, 0), (text, None), out);
}

/// Appends a reply with one record of one or two character strings, owned by the name in the question.
fn write_local(echo: &Echo, (rtype, ttl_s): (u16, u32), strings: (&[u8], Option<&[u8]>), out: &mut Vec<u8>) {
    let question = echo.question.as_bytes();
    let Some(class) = question.len().checked_sub(2).and_then(|at| u16_at(question, at)) else {
        return write_error(echo, rcode::FORMERR, &[], out);
    };
    let start = out.len();
    let header = Header {
        id: echo.id,
        flags: QR | RA | client_flags(echo),
        question_count: 1,
        record_counts: [1, 0, 0],
    };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(question);
    out.extend_from_slice(&[0xC0, 0x0C]);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&ttl_s.to_be_bytes());
    let rdata_bytes = strings.0.len() + 1 + strings.1.map_or(0, |second| second.len() + 1);
    out.extend_from_slice(&u16::try_from(rdata_bytes).unwrap_or(0).to_be_bytes());
    for string in [Some(strings.0), strings.1].into_iter().flatten() {
        out.push(u8::try_from(string.len()).unwrap_or(0));
        out.extend_from_slice(string);
    }
    finish(
        echo,
        rcode::NOERROR,
        std::iter::empty(),
        usize::from(UDP_BYTES_MAX),
        (start, out),
    );
}

/// The flags of the query that a reply repeats.
fn client_flags(echo: &Echo) -> u16 {
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    flag(echo.rd, RD) | flag(echo.cd, CD)
}

/// A response code this client can be told: without OPT the upper bits have no place, and the lower ones another
/// meaning.
fn sendable(code: u16, echo: &Echo) -> u16 {
    if code > 0xF && echo.edns.is_none() {
        rcode::SERVFAIL
    } else {
        code
    }
}

/// What OPT takes at least.
fn opt_bytes(echo: &Echo) -> usize {
    match (echo.edns, echo.extras.keepalive_ds) {
        (None, _) => 0,
        (Some(_), None) => OPT_BYTES,
        (Some(_), Some(_)) => OPT_BYTES + KEEPALIVE_BYTES,
    }
}

/// How long a reply may be kept as a whole, seconds: the lowest TTL of its records (RFC 8484 section 5.1). `None` where
/// they do not say: failures, and replies without records.
#[must_use]
pub fn lifetime_s(reply: &[u8]) -> Option<u32> {
    let header = Header::read(reply).filter(|header| {
        let code = header.flags & RCODE_MASK;
        header.question_count == 1 && [rcode::NOERROR, rcode::NXDOMAIN].contains(&code)
    })?;
    let records_at = skip_plain_name(reply, HEADER_BYTES)?.checked_add(4)?;
    let records = Records::new(reply, records_at, header.record_counts).map_while(Result::ok);
    let ttls = records
        .filter(|record| record.rtype != rtype::OPT)
        .map(|record| record.ttl);
    ttls.min()
}

/// Appends OPT, if the query had one, and counts it. The message begins at `start` of `out`.
fn finish<'a>(
    echo: &Echo,
    code: u16,
    edes: impl Iterator<Item = Ede<'a>>,
    limit_bytes: usize,
    (start, out): (usize, &mut Vec<u8>),
) {
    let Some(edns) = echo.edns else {
        return;
    };
    let room = limit_bytes.saturating_sub(out.len() - start);
    push_opt((start, &mut *out), code, (edns.do_bit, echo.extras), edes, room);
    if let Some(count) = out.get_mut(start + 10..).and_then(<[u8]>::first_chunk_mut) {
        *count = u16::from_be_bytes(*count).saturating_add(1).to_be_bytes();
    }
}
