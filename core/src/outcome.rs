//! What comes back from an attempt, and what it means.
//!
//! The shells translate bytes, socket errors and silence into these values; nothing else reaches health or a
//! lookup. A failing endpoint is an input here, never an error.

use core::fmt;

/// What a well-formed answer to our question said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Records of the type asked for.
    Positive,
    /// NXDOMAIN or NODATA; `soa` tells whether it carried the proof that lets it be cached (RFC 2308 section 5).
    Denial {
        /// Whether the authority section held an SOA.
        soa: bool,
    },
    /// Any rcode with EDE 4 or 15 to 18: the provider's own choice, and so an answer (RFC 8914).
    Filtered,
    /// SERVFAIL with EDE 1, 2 or 5 to 12: a validator said no.
    Bogus,
    /// FORMERR or NOTIMP to a query with EDNS (RFC 6891 section 7).
    NoEdns,
    /// SERVFAIL, REFUSED or any rcode not listed above.
    Failed(Rcode),
    /// TC, or BADCOOKIE twice: the answer is to be had over a stream.
    Truncated,
    /// A datagram that fits our question, but that somebody off the path could have sent more easily than others, or
    /// gains more by: it is to be confirmed over a stream (RFC 5452 section 9.3).
    Forgeable,
}

impl Reply {
    /// A good answer: what health counts as success.
    #[must_use]
    pub fn is_good(self) -> bool {
        match self {
            Self::Positive | Self::Denial { soa: true } => true,
            Self::Denial { soa: false }
            | Self::Filtered
            | Self::Bogus
            | Self::NoEdns
            | Self::Failed(_)
            | Self::Truncated
            | Self::Forgeable => false,
        }
    }
}

/// A response code, extended rcodes included (RFC 6895 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rcode(pub u16);

impl Rcode {
    /// SERVFAIL.
    pub const SERVFAIL: Self = Self(2);
    /// REFUSED.
    pub const REFUSED: Self = Self(5);
}

/// Why nothing more will come from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection was reset or closed with the query unanswered.
    Reset,
    /// ICMP unreachable, or a refused connection.
    Unreachable,
    /// No route to the address family: the network here does not have it.
    NoRoute,
    /// No connection within its 2 s.
    ConnectTimeout,
    /// A stream carried something that is no answer.
    Garbage,
    /// The server's certificate is expired; or this machine's clock is ahead.
    TlsExpired,
    /// The server's certificate is not valid yet; or this machine's clock is behind.
    TlsNotYetValid,
    /// The certificate is another name's.
    TlsWrongName,
    /// The certificate leads to no trusted root.
    TlsUntrusted,
    /// The certificate is right, and its key is none of the pinned ones.
    TlsPin,
    /// Connected, but no handshake within the time for connecting.
    TlsStalled,
    /// Any other failure of TLS: an alert, no common version or protocol.
    Tls,
    /// An HTTP status other than 200, or a body that is no DNS message by its type (RFC 8484 section 4.2.1).
    Http,
    /// It asks to be left alone (HTTP 429, RFC 6585 section 4; or 503 that says for how long).
    Throttled {
        /// For how long, seconds, where it says (Retry-After, RFC 9110 section 10.2.3).
        retry_after_s: Option<u32>,
    },
    /// This machine's own shortage (sockets, ports): says nothing about the endpoint.
    Local,
}

/// What the shell reports of an attempt while a lookup waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A well-formed answer to our question; final.
    Answered(Reply),
    /// Nothing more will come; final.
    Failed(Failure),
    /// A datagram that is no DNS answer came; the right one may follow.
    Garbage,
    /// A well-formed answer to something else came; a stream must settle it (RFC 5452 section 9.3).
    Mismatch,
}

/// Why an endpoint is in its state: one word, the same in log, metric, API and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Not tried yet.
    Untried,
    /// It answers.
    Answering,
    /// An attempt got no answer in its time.
    Timeout,
    /// Five attempts and not a byte back.
    Silence,
    /// Clearly more attempts unanswered than are slow by themselves.
    Loss,
    /// Connection reset.
    Reset,
    /// ICMP unreachable or connection refused.
    Unreachable,
    /// No connection in 2 s.
    Connect,
    /// Bytes that are no DNS answer.
    Garbage,
    /// A certificate that is expired.
    TlsExpired,
    /// A certificate that is not valid yet.
    TlsNotYetValid,
    /// A certificate of another name.
    TlsWrongName,
    /// A certificate that leads to no trusted root.
    TlsUntrusted,
    /// A certificate whose key is none of the pinned ones.
    TlsPin,
    /// Connected, but no TLS handshake in 2 s.
    TlsStalled,
    /// Another failure of TLS.
    Tls,
    /// An HTTP error.
    Http,
    /// Answers to something else, proven by the same question over a stream.
    Mismatch,
    /// SERVFAIL where another provider answers well.
    Servfail,
    /// REFUSED where another provider answers well.
    Refused,
    /// Another rcode where another provider answers well.
    Rcode,
    /// The uplink came back: older failures are forgotten.
    Forgiven,
    /// Route change or resume: what was known of the path is void.
    NewPath,
    /// A peer's, of a later version, that this one does not know: never credible. Nothing here has it.
    Other,
}

impl Cause {
    /// Whether the path can be at fault: what an own uplink failure looks like.
    #[must_use]
    pub fn is_path(self) -> bool {
        match self {
            Self::Timeout | Self::Silence | Self::Loss | Self::Unreachable | Self::Connect | Self::TlsStalled => true,
            Self::Untried
            | Self::Answering
            | Self::Reset
            | Self::Garbage
            | Self::TlsExpired
            | Self::TlsNotYetValid
            | Self::TlsWrongName
            | Self::TlsUntrusted
            | Self::TlsPin
            | Self::Tls
            | Self::Http
            | Self::Mismatch
            | Self::Servfail
            | Self::Refused
            | Self::Rcode
            | Self::Forgiven
            | Self::NewPath
            | Self::Other => false,
        }
    }

    /// Whether the endpoint answered, but badly: only a good answer clears it.
    #[must_use]
    pub fn is_rcode(self) -> bool {
        matches!(self, Self::Servfail | Self::Refused | Self::Rcode)
    }

    /// The cause a bad rcode is filed under.
    #[must_use]
    pub fn of_rcode(rcode: Rcode) -> Self {
        match rcode {
            Rcode::SERVFAIL => Self::Servfail,
            Rcode::REFUSED => Self::Refused,
            Rcode(_) => Self::Rcode,
        }
    }

    /// The cause a final failure is filed under; `None` for those that say nothing about the endpoint.
    #[must_use]
    pub fn of_failure(failure: Failure) -> Option<Self> {
        match failure {
            Failure::Reset => Some(Self::Reset),
            Failure::Unreachable => Some(Self::Unreachable),
            Failure::ConnectTimeout => Some(Self::Connect),
            Failure::Garbage => Some(Self::Garbage),
            Failure::TlsExpired => Some(Self::TlsExpired),
            Failure::TlsNotYetValid => Some(Self::TlsNotYetValid),
            Failure::TlsWrongName => Some(Self::TlsWrongName),
            Failure::TlsUntrusted => Some(Self::TlsUntrusted),
            Failure::TlsPin => Some(Self::TlsPin),
            Failure::TlsStalled => Some(Self::TlsStalled),
            Failure::Tls => Some(Self::Tls),
            Failure::Http => Some(Self::Http),
            Failure::NoRoute | Failure::Local | Failure::Throttled { .. } => None,
        }
    }

    /// The word for log, metric and API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Answering => "answering",
            Self::Timeout => "timeout",
            Self::Silence => "silence",
            Self::Loss => "loss",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::Connect => "connect",
            Self::Garbage => "garbage",
            Self::TlsExpired => "tls-expired",
            Self::TlsNotYetValid => "tls-not-yet-valid",
            Self::TlsWrongName => "tls-wrong-name",
            Self::TlsUntrusted => "tls-untrusted",
            Self::TlsPin => "tls-pin",
            Self::TlsStalled => "tls-stalled",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Mismatch => "mismatch",
            Self::Servfail => "servfail",
            Self::Refused => "refused",
            Self::Rcode => "rcode",
            Self::Forgiven => "forgiven",
            Self::NewPath => "new-path",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
