//! The acceptance walk: whether a message is the answer to our query, and what it means.
//!
//! Every record is looked at before anything of the message is believed: bounds, owners, names inside the old
//! compressible types, the one OPT in its place. One slip and the message is garbage as a whole: what cannot be walked
//! here could not be walked by a client either. A name that leads through what replies overwrite is no name. Rdata is otherwise opaque; unknown types, odd but bounded contents
//! and empty rdata pass (RFC 3597 3). Octets behind the counted records, and records behind OPT, are dropped.
//!
//! RFC 5452 9.1 says what must match; addresses and ports are the socket's business. [`classify`] is the wire's half of
//! the table of outcomes in the design: it says what came back, never what to do about it.

use super::MESSAGE_BYTES_MAX;
use super::answer::{Answer, Draft, Kept, Kind, NEGATIVE_TTL_S_MAX, sane_ttl};
use super::code::{rcode, rtype};
use super::cookie::Cookie;
use super::edns::{EdeCodes, Opt, kept_ede};
use super::header::{AD, HEADER_BYTES, Header, QR, RCODE_MASK, TC};
use super::name::{NameBuf, read_name_folded, skip_plain_name};
use super::overwritten::Overwritten;
use super::record::{Record, Records, Section};
use super::{u16_at, u32_at};
use detour_core::outcome::{Rcode, Reply};

/// The most records an answer may have. The largest RRsets in use have a few hundred; each record costs a walk along
/// its names, so an unbounded 64 KiB of them would be a way to burn our time.
const RECORDS_MAX: u32 = 2_000;

/// What the answer to one of our queries has to look like.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The id we sent.
    pub id: u16,
    /// The question's bytes exactly as we sent them.
    pub question: &'a [u8],
    /// Whether the question must come back in the same case (0x20).
    pub check_case: bool,
    /// Whether nobody on the path could have set AD.
    pub encrypted: bool,
}

/// A message that is the answer to our query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What is kept of it.
    pub answer: Answer,
    /// The extended errors it came with.
    pub edes: EdeCodes,
    /// Whether it had an OPT record: the provider knows EDNS.
    pub has_opt: bool,
    /// The cookie it came with.
    pub cookie: Option<Cookie>,
    /// How long it says that it keeps an idle connection, in tenths of a second (RFC 7828 section 3.1).
    pub keepalive: Option<u16>,
    /// An alias of a whole subtree is in the answer: whoever forges one gains more than a name.
    pub has_dname: bool,
    /// Somebody off the path could have sent it more easily than other answers, or gains more by it; set by who knows
    /// what it came by.
    pub is_forgeable: bool,
    /// How long caches on the way have held it, seconds; 0 but over HTTPS (RFC 8484 section 5.1).
    pub age_s: u32,
}

/// Why a message is not the answer to our query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It cannot be read.
    #[error("garbage: {0}")]
    Garbage(Garbage),
    /// It answers something else.
    #[error("mismatch: {0}")]
    Mismatch(Mismatch),
}

/// What makes a message unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// Shorter than a header or longer than a message can be.
    #[error("impossible size")]
    Size,
    /// No response, or one to another operation.
    #[error("no response to a query")]
    Header,
    /// Not one readable question; none at all is allowed in an error.
    #[error("broken question section")]
    Question,
    /// More records announced than anybody needs.
    #[error("too many records")]
    RecordCount,
    /// A record that is not whole, or with a name that cannot be followed.
    #[error("broken record")]
    Record,
    /// OPT twice, outside the additional section, or not owned by the root.
    #[error("misplaced OPT")]
    Opt,
}

/// What differs between a readable response and what we asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The id.
    #[error("id")]
    Id,
    /// Name, type or class.
    #[error("question")]
    Question,
    /// The case of the name only.
    #[error("case of the name")]
    Case,
}

/// Decides whether `msg` answers our query, and takes of it what is kept.
pub fn accept(msg: &[u8], expected: &Expected<'_>) -> Result<Accepted, Rejected> {
    let header = Header::read(msg)
        .filter(|_| msg.len() <= MESSAGE_BYTES_MAX)
        .ok_or(Rejected::Garbage(Garbage::Size))?;
    if !header.has(QR) || header.opcode() != 0 {
        return Err(Rejected::Garbage(Garbage::Header));
    }
    let question = read_question(msg, &header).map_err(Rejected::Garbage)?;
    compare(&header, question, expected).map_err(Rejected::Mismatch)?;

    let records_at = HEADER_BYTES + question.map_or(0, <[u8]>::len);
    let is_truncated = header.has(TC);
    let walk = match Walk::run(msg, records_at, &header, expected) {
        Ok(walk) => walk,
        // Servers cut in the middle of a record, or with the counts of the whole; nothing of it is used.
        Err(_) if is_truncated => Walk::starting_at(records_at),
        Err(garbage) => return Err(Rejected::Garbage(garbage)),
    };
    let rcode_high = walk.opt.map_or(0, |opt| u16::from(opt.rcode_high));
    let rcode = (rcode_high << 4) | header.rcode();
    let kind = walk.kind(rcode, is_truncated);
    let edes = walk
        .opt
        .map_or_else(EdeCodes::default, |opt| EdeCodes::read(opt.options));
    let has_opt = walk.opt.is_some();
    let ad = if expected.encrypted { AD } else { 0 };
    let kept_header = Header {
        id: 0,
        flags: QR | (header.flags & (TC | ad | RCODE_MASK)),
        question_count: 1,
        record_counts: [0; 3],
    };
    let ede = walk.opt.and_then(|opt| opt.options.first_ede()).and_then(kept_ede);
    let draft = match question {
        Some(_) if !is_truncated => Draft {
            header: Header {
                record_counts: walk.counts,
                ..kept_header
            },
            body: msg.get(HEADER_BYTES..walk.end).unwrap_or_default(),
            question_end: records_at,
            additional_at: walk.additional_at.unwrap_or(walk.end),
            kept: walk.kept,
            echoes: walk.echoes,
            rcode,
            kind,
            ede,
            negative_ttl_s: walk.negative_ttl_s,
        },
        // Without its question, or cut: the question is all that is kept.
        Some(_) | None => Draft {
            header: kept_header,
            body: expected.question,
            question_end: HEADER_BYTES + expected.question.len(),
            additional_at: HEADER_BYTES + expected.question.len(),
            kept: Vec::new(),
            echoes: Vec::new(),
            rcode,
            kind,
            ede,
            negative_ttl_s: None,
        },
    };
    let answer = draft.finish().ok_or(Rejected::Garbage(Garbage::Size))?;
    Ok(Accepted {
        answer,
        keepalive: walk.opt.and_then(|opt| opt.options.keepalive()),
        edes,
        has_opt,
        cookie: walk.opt.and_then(|opt| opt.options.cookie()),
        has_dname: walk.has_dname,
        is_forgeable: false,
        age_s: 0,
    })
}

/// The one question, or `None` for an error that came without: FORMERR and NOTIMP often do, SERVFAIL and REFUSED may.
fn read_question<'a>(msg: &'a [u8], header: &Header) -> Result<Option<&'a [u8]>, Garbage> {
    match header.question_count {
        1 => skip_plain_name(msg, HEADER_BYTES)
            .and_then(|end| msg.get(HEADER_BYTES..end + 4))
            .map(Some)
            .ok_or(Garbage::Question),
        0 if matches!(
            header.rcode(),
            rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED
        ) =>
        {
            Ok(None)
        }
        _ => Err(Garbage::Question),
    }
}

/// Id first, then the question, then its case.
fn compare(header: &Header, question: Option<&[u8]>, expected: &Expected<'_>) -> Result<(), Mismatch> {
    if header.id != expected.id {
        return Err(Mismatch::Id);
    }
    let Some(question) = question else {
        // Servers that cannot read a query may not repeat it; who refuses or fails can, and over UDP must: the question
        // is part of what a forger has to guess.
        let is_unread = matches!(header.rcode(), rcode::FORMERR | rcode::NOTIMP);
        return if expected.check_case && !is_unread {
            Err(Mismatch::Question)
        } else {
            Ok(())
        };
    };
    if question == expected.question {
        return Ok(());
    }
    // Type and class may look like letters, and a letter in another case is another type.
    match (
        question.split_last_chunk::<4>(),
        expected.question.split_last_chunk::<4>(),
    ) {
        (Some((name, kind)), Some((our_name, our_kind))) if kind == our_kind && name.eq_ignore_ascii_case(our_name) => {
            if expected.check_case {
                Err(Mismatch::Case)
            } else {
                Ok(())
            }
        }
        _ => Err(Mismatch::Question),
    }
}

/// What the walk over the records finds.
#[derive(Debug)]
struct Walk<'a> {
    kept: Vec<Kept>,
    /// Where owners repeat our question's name in its random case, uncompressed.
    echoes: Vec<usize>,
    counts: [u16; 3],
    /// Where the first additional record begins, if there is one.
    additional_at: Option<usize>,
    /// Where the last kept record ends.
    end: usize,
    opt: Option<Opt<'a>>,
    /// min(SOA TTL, MINIMUM, 1 hour) over the SOA records of the authority section.
    negative_ttl_s: Option<u32>,
    /// The answer section has a record of the type asked for.
    is_answered: bool,
    /// The answer section has a DNAME.
    has_dname: bool,
}

impl<'a> Walk<'a> {
    /// Nothing found yet.
    fn starting_at(at: usize) -> Self {
        Self {
            kept: Vec::new(),
            echoes: Vec::new(),
            counts: [0; 3],
            additional_at: None,
            end: at,
            opt: None,
            negative_ttl_s: None,
            is_answered: false,
            has_dname: false,
        }
    }

    /// Walks every counted record.
    fn run(msg: &'a [u8], at: usize, header: &Header, expected: &Expected<'_>) -> Result<Self, Garbage> {
        let announced: u32 = header.record_counts.into_iter().map(u32::from).sum();
        if announced > RECORDS_MAX {
            return Err(Garbage::RecordCount);
        }
        let name_bytes = expected.question.len().saturating_sub(4);
        let qtype = u16_at(expected.question, name_bytes).unwrap_or(0);
        let qclass = u16_at(expected.question, name_bytes + 2).unwrap_or(0);
        let mut walk = Self::starting_at(at);
        let sent_name = expected.question.get(..name_bytes).unwrap_or_default();
        let has_random_case = expected.check_case && sent_name.iter().any(u8::is_ascii_uppercase);
        let mut owner = NameBuf::root();
        let mut is_cut = false;
        let mut chain = Chain::default();
        for record in Records::new(msg, at, header.record_counts) {
            let record = record.map_err(|_broken| Garbage::Record)?;
            if record.rtype == rtype::OPT {
                walk.opt = Some(
                    Opt::read(&record)
                        .filter(|_| record.section == Section::Additional && walk.opt.is_none())
                        .ok_or(Garbage::Opt)?,
                );
            }
            // OPT, TSIG and SIG(0) speak of this exchange only, and nothing is moved up to close a gap.
            is_cut |= record.is_hop_by_hop();
            if is_cut {
                if !record.has_sound_rdata() {
                    return Err(Garbage::Record);
                }
                continue;
            }
            let earlier = walk.overwritten(at, name_bytes);
            if !record.read_owner_if(&mut owner, |stretch, on| earlier.spares(stretch, on)) {
                return Err(Garbage::Record);
            }
            walk.keep(&record, owner.fingerprint());
            if has_random_case && msg.get(record.start..record.start + name_bytes) == Some(sent_name) {
                walk.echoes.push(record.start);
            }
            let earlier = walk.overwritten(at, name_bytes);
            if !record.has_sound_rdata_if(|stretch, on| earlier.spares(stretch, on)) {
                return Err(Garbage::Record);
            }
            walk.has_dname |= record.section == Section::Answer && record.rtype == rtype::DNAME;
            if record.section == Section::Answer && record.class == qclass {
                chain.add(msg, &record, owner.fingerprint(), qtype);
            }
        }
        let mut asked = NameBuf::root();
        let is_readable = read_name_folded(msg, HEADER_BYTES, &mut asked).is_some();
        walk.is_answered = is_readable && chain.answers(asked.fingerprint());
        Ok(walk)
    }

    /// What replies change of the records kept so far and of the question, which ends at `question_end`.
    fn overwritten(&self, question_end: usize, name_bytes: usize) -> Overwritten<'_> {
        Overwritten {
            question_end,
            name_bytes,
            echoes: &self.echoes,
            kept: &self.kept,
        }
    }

    /// What an answer with this response code says.
    fn kind(&self, rcode: u16, is_truncated: bool) -> Kind {
        match rcode {
            _ if is_truncated => Kind::Truncated,
            rcode::NOERROR if self.is_answered => Kind::Positive,
            rcode::NOERROR | rcode::NXDOMAIN => Kind::Denial {
                soa: self.negative_ttl_s.is_some(),
            },
            _ => Kind::Failure,
        }
    }

    /// Takes one record.
    fn keep(&mut self, record: &Record<'_>, owner: u64) {
        let [answer, authority, additional] = &mut self.counts;
        let count = match record.section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => {
                self.additional_at.get_or_insert(record.start);
                additional
            }
        };
        *count = count.saturating_add(1);
        if record.section == Section::Authority && record.rtype == rtype::SOA {
            let minimum_at = record.rdata.len().saturating_sub(4);
            let minimum = sane_ttl(u32_at(record.rdata, minimum_at).unwrap_or(0));
            let ttl_s = sane_ttl(record.ttl).min(minimum).min(NEGATIVE_TTL_S_MAX);
            self.negative_ttl_s = Some(self.negative_ttl_s.map_or(ttl_s, |so_far| so_far.min(ttl_s)));
        }
        self.kept.push(Kept {
            set: (owner, record.class, record.rtype, record.covered_type()),
            ttl: record.ttl,
            ttl_at: record.ttl_at,
        });
        self.end = record.end;
    }
}

/// What the answer section says about which names: the chain of aliases from the name asked to its records.
#[derive(Debug, Default)]
struct Chain {
    /// Owners of records of the type asked for.
    owners: Vec<u64>,
    /// Aliases and their targets.
    aliases: Vec<(u64, u64)>,
}

impl Chain {
    /// Aliases followed; no sane answer has more, and a loop ends.
    const HOPS_MAX: usize = 32;

    /// Takes in a record of the answer section.
    fn add(&mut self, msg: &[u8], record: &Record<'_>, owner: u64, qtype: u16) {
        if (record.rtype == qtype || qtype == rtype::ANY) && self.owners.last() != Some(&owner) {
            self.owners.push(owner);
        }
        let mut target = NameBuf::root();
        if record.rtype == rtype::CNAME && read_name_folded(msg, record.ttl_at + 6, &mut target).is_some() {
            self.aliases.push((owner, target.fingerprint()));
        }
    }

    /// Whether the chain from `asked` ends at records of the type.
    fn answers(&self, asked: u64) -> bool {
        let mut name = asked;
        for _ in 0..Self::HOPS_MAX {
            if self.owners.contains(&name) {
                return true;
            }
            match self.aliases.iter().find(|(owner, _)| *owner == name) {
                Some((_, target)) => name = *target,
                None => return false,
            }
        }
        false
    }
}

/// What came back, in the words of the table of outcomes. `edns_sent`: whether our query had an OPT record.
#[must_use]
pub fn classify(accepted: &Accepted, edns_sent: bool) -> Reply {
    let rcode = accepted.answer.rcode();
    match accepted.answer.kind() {
        Kind::Truncated => Reply::Truncated,
        // Once more in vain with the server's new cookie: a stream needs none (RFC 7873 section 5.3).
        Kind::Failure if rcode == rcode::BADCOOKIE => Reply::Truncated,
        _ if accepted.is_forgeable => Reply::Forgeable,
        _ if accepted.edes.any(|code| matches!(code, 4 | 15..=18)) => Reply::Filtered,
        Kind::Positive => Reply::Positive,
        Kind::Denial { soa } => Reply::Denial { soa },
        Kind::Failure => match rcode {
            rcode::SERVFAIL if accepted.edes.any(|code| matches!(code, 1 | 2 | 5..=12)) => Reply::Bogus,
            rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS if edns_sent => Reply::NoEdns,
            _ => Reply::Failed(Rcode(rcode)),
        },
    }
}
