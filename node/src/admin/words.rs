//! The one word for each value where its own type has none: what a plan chose and skipped, what an answer is, response
//! codes and record types. No match has a catch-all, so a new variant does not compile without its word.

use hickory_proto::rr::RecordType;

use crate::cli::parse_record_type;
use detour_core::lookup::GaveUp;
use detour_core::plan::{Chosen, Skipped};
use detour_core::time::SEC;
use detour_resolver::wire::code::rcode;
use detour_resolver::wire::{Kind, Policy};

/// Why an endpoint is in a plan.
#[must_use]
pub(super) fn chosen(chosen: Chosen) -> &'static str {
    match chosen {
        Chosen::Balanced => "balanced",
        Chosen::Fastest => "fastest",
        Chosen::Shard => "shard",
        Chosen::Explored => "explored",
        Chosen::Rotation => "rotation",
        Chosen::Backup => "backup",
        Chosen::OtherTransport => "other-transport",
        Chosen::Again => "again",
    }
}

/// Why a provider is not the first choice.
#[must_use]
pub(super) fn skipped(skipped: Skipped) -> &'static str {
    match skipped {
        Skipped::Place(why) => why.word(),
        Skipped::Standby => "standby",
        Skipped::Domain => "domain",
        Skipped::Share => "share",
        Skipped::Rate => "rate",
        Skipped::Ramp => "ramp",
        Skipped::Slower => "slower",
        Skipped::Dice => "dice",
        Skipped::Class => "class",
    }
}

/// Who answers a question.
#[must_use]
pub(super) fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Forward => "forward",
        Policy::Refuse => "refuse",
        Policy::Malformed => "malformed",
        Policy::HinfoAny => "hinfo-any",
        Policy::Chaos(_) => "chaos",
    }
}

/// What an answer says.
#[must_use]
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Positive => "positive",
        Kind::Denial { .. } => "denial",
        Kind::Failure => "failure",
        Kind::Truncated => "truncated",
    }
}

/// Why nobody answered.
#[must_use]
pub(super) fn gave_up(why: GaveUp) -> &'static str {
    match why {
        GaveUp::NoAnswer => "no-answer",
        GaveUp::Network => "network",
    }
}

/// A response code as operators write it.
#[must_use]
pub(crate) fn rcode_text(code: u16) -> String {
    match code {
        rcode::NOERROR => "NOERROR".to_owned(),
        rcode::FORMERR => "FORMERR".to_owned(),
        rcode::SERVFAIL => "SERVFAIL".to_owned(),
        rcode::NXDOMAIN => "NXDOMAIN".to_owned(),
        rcode::NOTIMP => "NOTIMP".to_owned(),
        rcode::REFUSED => "REFUSED".to_owned(),
        rcode::BADVERS => "BADVERS".to_owned(),
        other => format!("RCODE{other}"),
    }
}

/// A record type as operators write it; unknown ones by number (RFC 3597 5).
#[must_use]
pub(crate) fn type_text(rtype: u16) -> String {
    let known = RecordType::from(rtype);
    if let RecordType::Unknown(number) = known {
        format!("TYPE{number}")
    } else {
        known.to_string()
    }
}

/// The type such a text means, in any letter case.
#[must_use]
pub(super) fn parse_type(text: &str) -> Option<u16> {
    parse_record_type(text).ok().map(u16::from)
}

/// Microseconds in the largest unit that is not a fraction.
#[must_use]
pub(super) fn age_text(us: u64) -> String {
    age_text_s(us / SEC)
}

/// The same of seconds.
#[must_use]
pub(crate) fn age_text_s(seconds: u64) -> String {
    match seconds {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_or_numbers() {
        for (text, rtype) in [("A", 1), ("HTTPS", 65), ("TYPE4711", 4711)] {
            assert_eq!(type_text(rtype), text);
            assert_eq!(parse_type(text), Some(rtype));
            assert_eq!(parse_type(&text.to_lowercase()), Some(rtype));
        }
        for text in ["", "TYPE", "TYPE65536", "TYPE-1", "A ", "NOTYPE"] {
            assert_eq!(parse_type(text), None, "{text}");
        }
    }
}
