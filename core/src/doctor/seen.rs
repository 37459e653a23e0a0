//! What was seen, as values: one examination of all providers.

use super::finding::failure_word;
use crate::control::CertificateTime;
use crate::outcome::{Failure, Rcode, Reply};
use crate::topology::{Family, OperatorId, Path, Transport};

/// All that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The name that was asked for.
    pub name: String,
    /// Whether that name is known to have an address.
    pub is_known: bool,
    /// Everybody, in the order of the configuration.
    pub providers: Vec<ProviderSeen>,
    /// How long before this version was made this machine's clock says it is, seconds; 0: it does not.
    pub before_release_s: u64,
}

/// One provider: what it is said to be, and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSeen {
    /// Its name in the configuration.
    pub name: String,
    /// Who fails together with it.
    pub operator: OperatorId,
    /// What it is said to filter, `none` for nothing.
    pub filter: String,
    /// Whether it is said to validate DNSSEC.
    pub validates: bool,
    /// Whether it serves all names; who serves those of routes alone is asked for one of them.
    pub is_public: bool,
    /// Its endpoints, those of the configuration first.
    pub endpoints: Vec<EndpointSeen>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSeen {
    /// The string of the configuration, or what it would be.
    pub label: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// Address family.
    pub family: Family,
    /// Whether the configuration has it; others are tried where the operator wants that.
    pub is_listed: bool,
    /// By our own transports.
    pub ours: Seen,
    /// By hickory-resolver.
    pub hickory: Hickory,
}

impl EndpointSeen {
    /// What one failure of the network hits together with it.
    #[must_use]
    pub fn path(&self) -> Path {
        Path {
            class: self.transport.class(),
            family: self.family,
        }
    }
}

/// What our own transports saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Until the connection stood, handshakes included, microseconds; `None` without a connection.
    pub connect_us: Option<u64>,
    /// From the question to its answer, microseconds; `None` without an answer.
    pub answer_us: Option<u64>,
    /// What the handshake showed, as far as it came.
    pub tls: Option<TlsSeen>,
    /// The certificate is of another time than this machine's clock says it is.
    pub certificate_time: Option<CertificateTime>,
    /// How it ended.
    pub end: End,
    /// What an endpoint that answers does beyond that.
    pub traits: Option<Traits>,
}

impl Seen {
    /// Nothing but how it ended.
    #[must_use]
    pub fn ended(end: End) -> Self {
        Self {
            connect_us: None,
            answer_us: None,
            tls: None,
            certificate_time: None,
            end,
            traits: None,
        }
    }

    /// Whether an answer to the question came, whatever it said.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.end, End::Answered(_))
    }
}

/// How the question for the name ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was not asked.
    NotAsked(NotAsked),
    /// There is no connection, or it ended before the answer.
    Failed(Failure),
    /// Nothing came in time.
    Silent,
    /// What came answers something else.
    Mismatch,
    /// It was answered.
    Answered(Reply),
}

impl End {
    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAsked(_) => "not-asked",
            Self::Failed(failure) => failure_word(failure),
            Self::Silent => "silent",
            Self::Mismatch => "mismatch",
            Self::Answered(Reply::Positive) => "answer",
            Self::Answered(Reply::Denial { .. }) => "denial",
            Self::Answered(Reply::Filtered) => "filtered",
            Self::Answered(Reply::Bogus) => "bogus",
            Self::Answered(Reply::NoEdns) => "no-edns",
            Self::Answered(Reply::Truncated) => "truncated",
            Self::Answered(Reply::Forgeable) => "forgeable",
            Self::Answered(Reply::Failed(Rcode::SERVFAIL)) => "servfail",
            Self::Answered(Reply::Failed(Rcode::REFUSED)) => "refused",
            Self::Answered(Reply::Failed(Rcode(_))) => "rcode",
        }
    }
}

/// Why an endpoint was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// It speaks in the clear, and the configuration says never to.
    Cleartext,
    /// It has a host name that nobody resolved.
    NoAddress,
    /// The time for all of them was over.
    TimeIsUp,
}

impl NotAsked {
    /// In a few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Cleartext => "encryption = \"require\"",
            Self::NoAddress => "no address",
            Self::TimeIsUp => "time was up",
        }
    }
}

/// What a TLS handshake showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSeen {
    /// The version, once agreed.
    pub version: Option<TlsVersion>,
    /// The protocol inside (RFC 7301), once agreed.
    pub alpn: Option<String>,
    /// The server's own certificate, trusted or not.
    pub certificate: Option<CertificateSeen>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// Its number.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSeen {
    /// Host names and addresses it is for, in its order; a certificate can have hundreds, the first ones are kept.
    pub names: Vec<String>,
    /// Seconds until it ends; negative once it has.
    pub ends_in_s: i64,
    /// From its begin to its end, seconds.
    pub lifetime_s: u64,
}

/// What an endpoint does beyond answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// How it takes EDNS (RFC 6891).
    pub edns: EdnsSeen,
    /// Whether it repeats the letters of a name as they were sent (draft-vixie-dnsext-dns0x20); `None`: it repeats no
    /// question.
    pub keeps_case: Option<bool>,
    /// Whether its answer to a padded query is padded (RFC 7830 section 4); `None` where nothing is padded.
    pub pads: Option<bool>,
    /// What becomes of signatures; `None`: it did not say.
    pub signatures: Option<Signatures>,
    /// What it says of names that others may not be told of.
    pub names: Vec<NameSeen>,
}

/// How EDNS is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdnsSeen {
    /// It is spoken.
    Spoken,
    /// The answer comes without, as if the query had had none.
    Ignored,
    /// A query with EDNS is answered with an error, and one without is answered.
    Refused,
    /// A query with EDNS is not answered at all, and one without is.
    Swallowed,
}

impl EdnsSeen {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Spoken => "yes",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Swallowed => "swallowed",
        }
    }
}

/// What becomes of the signatures of a signed name when they are asked for (DO, RFC 4035 section 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// They come with the records.
    Passed {
        /// Whether the provider says that it validated them (AD).
        is_authentic: bool,
    },
    /// The records come without.
    Stripped,
}

/// What an endpoint says of one name more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameSeen {
    /// The name.
    pub name: String,
    /// Why it was asked for.
    pub purpose: Purpose,
    /// What was said.
    pub answer: NameAnswer,
}

/// Why a name is asked for beside the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Who filters is likely to keep it back.
    Filtered,
    /// It does not exist.
    Absent,
}

/// What is said of a name, as far as filters show in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameAnswer {
    /// It has an address that leads somewhere.
    Address,
    /// It is kept back, and that is said (RFC 8914 sections 4.5 and 4.16 to 4.19).
    Kept,
    /// It has an address that leads nowhere: an unspecified or a loopback one.
    Nowhere,
    /// It does not exist, or has no address.
    Denied,
    /// An error, or nothing at all.
    Unanswered,
}

/// What hickory-resolver saw of the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hickory {
    /// It was not asked: why.
    NotAsked(String),
    /// It got an answer.
    Answered {
        /// Connecting included, microseconds.
        total_us: u64,
        /// The response code in a word.
        rcode: String,
    },
    /// It did not: what it said.
    Failed(String),
}

impl NameAnswer {
    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Kept => "kept-back",
            Self::Nowhere => "nowhere",
            Self::Denied => "denied",
            Self::Unanswered => "unanswered",
        }
    }
}

impl Purpose {
    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Absent => "absent",
        }
    }
}
