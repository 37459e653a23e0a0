//! Reading what a client sends: a query, something to refuse, or something to stay silent about.
//!
//! Nothing is allocated and nothing of the message is kept but the question's own bytes (for the reply, in the client's
//! case) and what it means. Silence is for what no server may answer: fewer than 12 octets (no id to answer to) and
//! responses (two servers would answer each other for ever). Everything else gets a reply (RFC 8906 3):
//!
//! * an opcode that is not QUERY: NOTIMP, the header alone, no flag echoed (RFC 8906 3.1.4);
//! * not exactly one question (RFC 9619 4), or one that cannot be read: FORMERR without a question;
//! * records in answer or authority, a broken record, OPT out of place or twice (RFC 6891 6.1.1), an OPT owner that is
//!   not the root, a broken option list or option (RFC 6891 7): FORMERR with the question, and OPT if one was read;
//! * an EDNS version above 0: BADVERS (RFC 6891 6.1.3).
//!
//! AD, CD, Z, TC, AA and the rcode of a query are never an error (RFC 5625 4.1); octets behind the counted records are
//! ignored.

use super::code::{rcode, rtype};
use super::edns::{Edns, Keepalive, Opt};
use super::header::{AD, CD, HEADER_BYTES, Header, QR, RD};
use super::name::{NAME_BYTES_MAX, NameBuf, skip_name};
use super::record::{Records, Section};
use super::u16_at;
use std::time::Duration;

/// How a query came in. All but a datagram are streams: no limit but the length field's, no forged source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// One datagram; the reply must be one, and the source address may be forged.
    Udp,
    /// A connection (RFC 7766).
    Tcp,
    /// A connection under TLS (RFC 7858).
    Tls,
    /// HTTP/1.1 or HTTP/2 (RFC 8484).
    Https,
    /// HTTP/3 (RFC 8484, RFC 9114).
    H3,
    /// A QUIC stream of its own (RFC 9250).
    Quic,
}

impl Via {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https, Self::H3, Self::Quic];

    /// As it is named in metrics and in `[listen]`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Udp => 0,
            Self::Tcp => 1,
            Self::Tls => 2,
            Self::Https => 3,
            Self::H3 => 4,
            Self::Quic => 5,
        }
    }

    /// Whether nobody on the way can read it.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }
}

/// The bytes of one question: name in the asker's case, type, class. Empty when there is none to repeat.
#[derive(Debug, Clone)]
pub struct Question {
    len: u16,
    bytes: [u8; NAME_BYTES_MAX + 4],
}

impl Question {
    /// No question.
    const NONE: Self = Self {
        len: 0,
        bytes: [0; NAME_BYTES_MAX + 4],
    };

    /// A copy of these bytes; too many are none.
    fn copy(from: &[u8]) -> Self {
        let mut question = Self::NONE;
        if let (Some(place), Ok(len)) = (question.bytes.get_mut(..from.len()), u16::try_from(from.len())) {
            place.copy_from_slice(from);
            question.len = len;
        }
        question
    }

    /// Name, type and class as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What a reply repeats of its query, whatever the reply says.
#[derive(Debug, Clone)]
pub struct Echo {
    /// The id.
    pub id: u16,
    /// The operation: 0 but for a NOTIMP.
    pub opcode: u8,
    /// RD: recursion desired.
    pub rd: bool,
    /// AD: the client understands authenticated data.
    pub ad: bool,
    /// CD: checking disabled.
    pub cd: bool,
    /// The question, if it could be read.
    pub question: Question,
    /// The OPT record, if it could be read: its presence decides whether the reply has one.
    pub edns: Option<Edns>,
    /// What the reply's OPT record has beside extended errors.
    pub extras: Extras,
}

/// Options of a reply that depend on the way it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// Padding, to a block of its own (RFC 8467 section 4.1).
    pub is_padded: bool,
    /// For how long an idle connection stays open, tenths of a second (RFC 7828).
    pub keepalive_ds: Option<u16>,
}

/// Whether a query keeps the rules of the way it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Good,
    /// It does not, and gets FORMERR.
    Malformed,
    /// It does not, and its connection ends for it.
    Fatal,
}

impl Echo {
    /// Settles what the reply's OPT record has, for a connection that may be idle for so long. Padding only where it hides
    /// something and the client padded too (RFC 7830 section 4); the keepalive only where there is a connection of its own
    /// kind (RFC 7828 section 3.2), and never over QUIC (RFC 9250 section 5.5.2).
    #[must_use]
    pub fn suit(&mut self, via: Via, idle: impl FnOnce() -> Duration) -> Fit {
        let Some(edns) = self.edns else {
            return Fit::Good;
        };
        self.extras.is_padded = edns.is_padded && via.is_encrypted();
        match (via, edns.keepalive) {
            (Via::Quic, Keepalive::Asked | Keepalive::Malformed) => return Fit::Fatal,
            (Via::Tcp | Via::Tls, Keepalive::Malformed) => return Fit::Malformed,
            (Via::Tcp | Via::Tls, Keepalive::Asked) => {
                let tenths = u16::try_from(idle().as_millis() / 100).unwrap_or(u16::MAX);
                self.extras.keepalive_ds = Some(tenths);
            }
            (_, Keepalive::Absent) | (Via::Udp | Via::Https | Via::H3, _) => {}
        }
        Fit::Good
    }
}

/// A query that can be answered.
#[derive(Debug, Clone)]
pub struct Query {
    /// What the reply repeats.
    pub echo: Echo,
    /// The name, lower-cased.
    pub name: NameBuf,
    /// The type.
    pub qtype: u16,
    /// The class.
    pub qclass: u16,
    /// The query carries TSIG or SIG(0).
    pub signed: bool,
}

/// A message that gets an error.
#[derive(Debug, Clone)]
pub struct Reject {
    /// What the reply repeats.
    pub echo: Echo,
    /// FORMERR, NOTIMP or BADVERS.
    pub rcode: u16,
}

/// What a client's message is.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack for one query; a box would allocate on the hot path"
)]
#[derive(Debug, Clone)]
pub enum Parsed {
    /// No reply: too short, or a response.
    Silence,
    /// An error, to be written by [`super::write_error`].
    Reject(Reject),
    /// A query.
    Query(Query),
}

impl Parsed {
    /// What its reply would repeat.
    pub fn echo_mut(&mut self) -> Option<&mut Echo> {
        match self {
            Self::Silence => None,
            Self::Reject(reject) => Some(&mut reject.echo),
            Self::Query(query) => Some(&mut query.echo),
        }
    }
}

/// Reads a client's message. Total: every byte string is one of the three.
#[must_use]
pub fn parse(msg: &[u8]) -> Parsed {
    let header = match Header::read(msg) {
        Some(header) if !header.has(QR) => header,
        Some(_) | None => return Parsed::Silence,
    };
    let mut echo = Echo {
        id: header.id,
        opcode: 0,
        rd: false,
        ad: false,
        cd: false,
        question: Question::NONE,
        edns: None,
        extras: Extras::default(),
    };
    if header.opcode() != 0 {
        echo.opcode = u8::try_from(header.opcode()).unwrap_or(0);
        if let Some(records_at) = skip_questions(msg, header.question_count) {
            echo.edns = Tail::read(Records::new(msg, records_at, header.record_counts)).edns;
        }
        return Parsed::Reject(Reject {
            echo,
            rcode: rcode::NOTIMP,
        });
    }
    echo.rd = header.has(RD);
    echo.ad = header.has(AD);
    echo.cd = header.has(CD);
    if header.question_count != 1 {
        // Only OPT is of interest behind questions that are not answered.
        if let Some(records_at) = skip_questions(msg, header.question_count) {
            echo.edns = Tail::read(Records::new(msg, records_at, header.record_counts)).edns;
        }
        return reject(echo, rcode::FORMERR);
    }
    let question = NameBuf::read_plain(msg, HEADER_BYTES)
        .and_then(|(name, end)| Some((name, u16_at(msg, end)?, u16_at(msg, end + 2)?, end + 4)));
    let Some((name, qtype, qclass, end)) = question else {
        return reject(echo, rcode::FORMERR);
    };
    echo.question = Question::copy(msg.get(HEADER_BYTES..end).unwrap_or_default());
    let tail = Tail::read(Records::new(msg, end, header.record_counts));
    echo.edns = tail.edns;
    match tail.fault {
        Some(rcode) => reject(echo, rcode),
        None => Parsed::Query(Query {
            echo,
            name,
            qtype,
            qclass,
            signed: tail.signed,
        }),
    }
}

/// A rejection with the query's own flags.
fn reject(echo: Echo, rcode: u16) -> Parsed {
    Parsed::Reject(Reject { echo, rcode })
}

/// Where the records begin behind any number of questions.
fn skip_questions(msg: &[u8], count: u16) -> Option<usize> {
    let mut at = HEADER_BYTES;
    for _ in 0..count {
        at = skip_name(msg, at)? + 4;
    }
    Some(at)
}

/// What stands behind the question of a query.
#[derive(Debug, Default)]
struct Tail {
    /// The OPT record, as far as one was read before the fault.
    edns: Option<Edns>,
    /// The query carries TSIG or SIG(0).
    signed: bool,
    /// The error to answer with.
    fault: Option<u16>,
}

impl Tail {
    /// Walks all records. A fault in the message's shape comes before BADVERS, that before a fault in the options: the
    /// options of a version we do not know may have another shape.
    fn read(records: Records<'_>) -> Self {
        let mut tail = Self::default();
        let mut opt: Option<Opt<'_>> = None;
        let mut is_malformed = false;
        for record in records {
            let Ok(record) = record else {
                is_malformed = true;
                break;
            };
            tail.signed |= record.is_hop_by_hop() && record.rtype != rtype::OPT;
            is_malformed |= record.section != Section::Additional;
            if record.rtype == rtype::OPT {
                match Opt::read(&record).filter(|_| record.section == Section::Additional && opt.is_none()) {
                    Some(first) => opt = Some(first),
                    None => is_malformed = true,
                }
            }
        }
        tail.fault = match &mut opt {
            _ if is_malformed => Some(rcode::FORMERR),
            Some(opt) if opt.version > 0 => Some(rcode::BADVERS),
            Some(opt) => (!opt.read_options()).then_some(rcode::FORMERR),
            None => None,
        };
        tail.edns = opt.map(|opt| opt.edns);
        tail
    }
}
