//! Findings: what is wrong, whose it is, how bad, and the sentence that says so.
//!
//! A sentence names what was seen, and then what it means or what to do. The word of a [`Kind`] is for programs and never
//! changes its meaning; sentences may be put better.

use core::fmt;

use super::common::Common;
use crate::outcome::{Failure, Rcode};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that is configured does not work, or not as configured.
    Fault,
    /// It works, and not as well as it could; or it will not for long.
    Notice,
    /// There is more to be had.
    Hint,
}

impl Severity {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Notice => "notice",
            Self::Hint => "hint",
        }
    }
}

/// One finding. Its text is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Whose; `None`: nobody's, or more than one provider's.
    pub provider: Option<String>,
    /// Labels of the endpoints it was seen at, in order.
    pub endpoints: Vec<String>,
    /// The same for the sentence: `tls, https`, or labels where transports would say too much.
    pub(super) over: String,
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.kind.severity()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            Some(provider) => write!(f, "{provider}, {}: {}", self.over, self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It is no one provider's.
    Common(Common),
    /// The endpoint cannot be reached or does not speak as it should.
    Failed(Failure),
    /// The certificate is over.
    Expired {
        /// For how long, seconds, where that is known.
        ago_s: Option<u64>,
    },
    /// The certificate is for somebody else.
    WrongName {
        /// For whom.
        names: Vec<String>,
    },
    /// Not a word within the time for an answer.
    Silent,
    /// What it answers was not asked.
    Mismatch,
    /// An error to a name that is no trouble.
    Fails(Rcode),
    /// A validator says that the name's signatures are wrong.
    Bogus,
    /// It does not know a name that there is.
    Denies {
        /// The name.
        name: String,
    },
    /// A short answer does not fit.
    Truncates,
    /// The certificate ends soon.
    EndsSoon {
        /// In how long, seconds.
        in_s: u64,
    },
    /// EDNS is not spoken.
    NoEdns,
    /// Queries with EDNS vanish.
    EdnsSwallowed,
    /// The case of a name's letters is lost.
    CaseLost,
    /// Answers are not padded.
    NotPadded,
    /// Signatures do not come through.
    SignaturesStripped,
    /// It is said to validate, and does not say that it did.
    NotValidating,
    /// Names are kept back.
    Filters {
        /// Which of those asked for.
        names: Vec<String>,
        /// What the configuration says is filtered.
        said: String,
    },
    /// What does not exist has an address.
    Redirects {
        /// The name that was made up.
        name: String,
    },
    /// An answer takes long.
    Slow {
        /// More than this, microseconds.
        above_us: u64,
    },
    /// We get an answer, and hickory-resolver does not.
    OnlyDetour {
        /// What it says.
        reason: String,
    },
    /// Hickory-resolver gets an answer, and we do not.
    OnlyHickory,
    /// It speaks a transport that the configuration does not have.
    AlsoSpeaks,
    /// Its host name leads nowhere.
    Unresolved,
    /// It was not looked at.
    NotAsked {
        /// Why.
        why: &'static str,
    },
}

impl Kind {
    /// The word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Common(common) => common.word(),
            Self::Failed(failure) => failure_word(*failure),
            Self::Expired { .. } => "tls-expired",
            Self::WrongName { .. } => "tls-wrong-name",
            Self::Silent => "silent",
            Self::Mismatch => "mismatch",
            Self::Fails(Rcode::SERVFAIL) => "servfail",
            Self::Fails(Rcode::REFUSED) => "refused",
            Self::Fails(Rcode(_)) => "rcode",
            Self::Bogus => "bogus",
            Self::Denies { .. } => "denies",
            Self::Truncates => "truncates",
            Self::EndsSoon { .. } => "ends-soon",
            Self::NoEdns => "no-edns",
            Self::EdnsSwallowed => "edns-swallowed",
            Self::CaseLost => "case-lost",
            Self::NotPadded => "not-padded",
            Self::SignaturesStripped => "signatures-stripped",
            Self::NotValidating => "not-validating",
            Self::Filters { .. } => "filters",
            Self::Redirects { .. } => "redirects",
            Self::Slow { .. } => "slow",
            Self::OnlyDetour { .. } => "only-detour",
            Self::OnlyHickory => "only-hickory",
            Self::AlsoSpeaks => "also-speaks",
            Self::Unresolved => "unresolved",
            Self::NotAsked { .. } => "not-asked",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Common(common) => common.severity(),
            Self::Failed(_)
            | Self::Expired { .. }
            | Self::WrongName { .. }
            | Self::Silent
            | Self::Mismatch
            | Self::Fails(_)
            | Self::Bogus
            | Self::Denies { .. }
            | Self::Truncates
            | Self::SignaturesStripped
            | Self::Filters { .. }
            | Self::Redirects { .. }
            | Self::OnlyHickory
            | Self::Unresolved => Severity::Fault,
            Self::EndsSoon { .. }
            | Self::NoEdns
            | Self::EdnsSwallowed
            | Self::CaseLost
            | Self::NotPadded
            | Self::NotValidating
            | Self::Slow { .. }
            | Self::OnlyDetour { .. }
            | Self::NotAsked { .. } => Severity::Notice,
            Self::AlsoSpeaks => Severity::Hint,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common(common) => common.fmt(f),
            Self::Failed(failure) => f.write_str(failure_text(*failure)),
            Self::Expired { ago_s: Some(ago_s) } => {
                write!(
                    f,
                    "the certificate ended {} ago: only its operator can renew it",
                    Span(*ago_s)
                )
            }
            Self::WrongName { names } if !names.is_empty() => {
                write!(
                    f,
                    "the certificate is for {}, which is not what #name says",
                    Names(names)
                )
            }
            Self::Fails(rcode) => write!(f, "{} to a name that is no trouble", RcodeText(*rcode)),
            Self::Denies { name } => write!(f, "it says that {name} has no address, but it has one"),
            Self::EndsSoon { in_s } => {
                write!(f, "the certificate ends in {}, and is not renewed yet", Span(*in_s))
            }
            Self::Filters { names, said } => write!(
                f,
                "it keeps back {}, but the configuration says filter = {said:?}: answers depend on who is asked",
                names.join(", ")
            ),
            Self::Redirects { name } => {
                write!(
                    f,
                    "it has an address for {name}, which does not exist: mistyped names lead astray"
                )
            }
            Self::Slow { above_us } => write!(f, "an answer takes more than {} ms", above_us / 1_000),
            Self::OnlyDetour { reason } => write!(f, "it answers Detour and not hickory-resolver ({reason})"),
            Self::NotAsked { why } => write!(f, "not asked: {why}"),
            Self::Expired { ago_s: None }
            | Self::WrongName { .. }
            | Self::Silent
            | Self::Mismatch
            | Self::Bogus
            | Self::Truncates
            | Self::NoEdns
            | Self::EdnsSwallowed
            | Self::CaseLost
            | Self::NotPadded
            | Self::SignaturesStripped
            | Self::NotValidating
            | Self::OnlyHickory
            | Self::Unresolved
            | Self::AlsoSpeaks => f.write_str(self.plain_text()),
        }
    }
}

impl Kind {
    /// The sentence of what has nothing of its own in it.
    fn plain_text(&self) -> &'static str {
        match self {
            Self::Expired { .. } => failure_text(Failure::TlsExpired),
            Self::WrongName { .. } => failure_text(Failure::TlsWrongName),
            Self::Silent => "not a word in time: the query, or its answer, is lost on the way or ignored",
            Self::Mismatch => "what comes answers another question: it meddles, or something on the way",
            Self::Bogus => "SERVFAIL, because DNSSEC signatures are found wrong: is its clock right?",
            Self::Truncates => "even a short answer is cut and has to be fetched over TCP",
            Self::NoEdns => "EDNS is not spoken: no DNSSEC, and long answers need TCP",
            Self::EdnsSwallowed => "queries with EDNS vanish and those without are answered: a firewall?",
            Self::CaseLost => "the case of a name's letters is lost, so that forged answers are easier (0x20)",
            Self::NotPadded => "answers are not padded: their length tells names to who watches",
            Self::SignaturesStripped => "DNSSEC signatures do not come through: who validates behind Detour cannot",
            Self::NotValidating => "it does not say that it validates DNSSEC (no AD); if so, say validates = false",
            Self::OnlyHickory => "it answers hickory-resolver and not Detour: if that lasts, please report it",
            Self::Unresolved => {
                "its host name has no address: nobody who may be asked for it resolves it (see [bootstrap])"
            }
            Self::AlsoSpeaks => "it answers here too: the configuration could have it",
            Self::Common(_)
            | Self::Failed(_)
            | Self::Fails(_)
            | Self::Denies { .. }
            | Self::EndsSoon { .. }
            | Self::Filters { .. }
            | Self::Redirects { .. }
            | Self::Slow { .. }
            | Self::OnlyDetour { .. }
            | Self::NotAsked { .. } => "",
        }
    }
}

/// The word of a failure; the same as that of its cause where it has one.
pub(super) fn failure_word(failure: Failure) -> &'static str {
    match failure {
        Failure::NoRoute => "no-route",
        Failure::Local => "local",
        Failure::Throttled { .. } => "throttled",
        Failure::Reset
        | Failure::Unreachable
        | Failure::ConnectTimeout
        | Failure::Garbage
        | Failure::TlsExpired
        | Failure::TlsNotYetValid
        | Failure::TlsWrongName
        | Failure::TlsUntrusted
        | Failure::TlsPin
        | Failure::TlsStalled
        | Failure::Tls
        | Failure::Http => crate::outcome::Cause::of_failure(failure).map_or("failed", crate::outcome::Cause::word),
    }
}

/// What a failure means.
fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::Reset => "the connection is closed before an answer",
        Failure::Unreachable => "nobody listens there: a closed port, or a firewall that says so",
        Failure::NoRoute => "this machine has no way to that address",
        Failure::ConnectTimeout => "no connection in 2 s: packets are swallowed on the way or there",
        Failure::Garbage => "what comes is no DNS",
        Failure::TlsExpired => "the certificate is expired: only its operator can renew it",
        Failure::TlsNotYetValid => {
            "the certificate is not valid yet: its operator can mend it, or this machine's clock is behind"
        }
        Failure::TlsWrongName => "the certificate is for another name than #name says",
        Failure::TlsUntrusted => {
            "the certificate leads to no root that is trusted here: somebody is in between, or trust = [\"….pem\"] lacks one"
        }
        Failure::TlsPin => "the certificate is right and its key is none of pins: replaced, or somebody is in between",
        Failure::TlsStalled => "connected, but no TLS handshake in 2 s: something on the way does not let it through",
        Failure::Tls => {
            "the TLS handshake fails: it is no TLS, or has no version, key exchange or protocol in common with us"
        }
        Failure::Http => "HTTP, but no DNS in it: an error of the server, or not the right path",
        Failure::Throttled { .. } => "it asks to be left alone for a while: too many queries from here",
        Failure::Local => "this machine is short of sockets or ports: says nothing about the provider",
    }
}

/// A number of things.
pub(super) struct Count(pub(super) usize, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, thing) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {thing}{plural}")
    }
}

/// The first few of some names.
pub(super) struct Names<'n>(pub(super) &'n [String]);

/// Names in a sentence; a certificate can have hundreds.
const NAMES_MAX: usize = 3;

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.iter().take(NAMES_MAX);
        for (index, name) in first.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        if self.0.len() > NAMES_MAX {
            f.write_str(" and others")?;
        }
        Ok(())
    }
}

/// Seconds in the largest unit that says enough.
pub(super) struct Span(pub(super) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{}", Count(usize::try_from(seconds).unwrap_or(usize::MAX), "second")),
            seconds @ 120..7_200 => write!(f, "{} minutes", seconds / 60),
            seconds @ 7_200..172_800 => write!(f, "{} hours", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// A response code as operators write it.
struct RcodeText(Rcode);

impl fmt::Display for RcodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rcode(1) => f.write_str("FORMERR"),
            Rcode::SERVFAIL => f.write_str("SERVFAIL"),
            Rcode(4) => f.write_str("NOTIMP"),
            Rcode::REFUSED => f.write_str("REFUSED"),
            Rcode(other) => write!(f, "response code {other}"),
        }
    }
}
