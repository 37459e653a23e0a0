//! Which questions go to a provider, and what becomes of the others.
//!
//! RFC 5625 4.3 asks a forwarder to pass every type and class, and this one does, but for what only makes sense between
//! a zone's own servers (transfers, NONE), what is no question at all (OPT, TSIG, the other meta types), what is
//! about this server (CHAOS) and what serves reflection attacks (ANY over UDP, RFC 8482).

use super::code::{class, rtype};
use super::query::{Query, Via};

/// What to do with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Resolve it.
    Forward,
    /// REFUSED: transfers, meta types, classes NONE and ANY, signed queries, unknown CHAOS names.
    Refuse,
    /// FORMERR: NXNAME must not be asked for (RFC 9824 3.4).
    Malformed,
    /// The minimal HINFO answer (RFC 8482 4.2).
    HinfoAny,
    /// A TXT answer about this server.
    Chaos(Chaos),
}

/// What a CHAOS question asks about this server (RFC 4892).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chaos {
    /// `version.bind` or `version.server`.
    Version,
    /// `hostname.bind` or `id.server`.
    Identity,
}

/// Says what to do with a query. Pure.
#[must_use]
pub fn policy(query: &Query, via: Via) -> Policy {
    // TSIG and SIG(0) cover the whole message; we hold no key and the query to the provider is a new one.
    if query.signed {
        return Policy::Refuse;
    }
    match query.qclass {
        class::NONE | class::ANY => return Policy::Refuse,
        class::CH => return chaos(query),
        _ => {}
    }
    match query.qtype {
        rtype::ANY if via == Via::Udp => Policy::HinfoAny,
        rtype::ANY => Policy::Forward,
        rtype::NXNAME => Policy::Malformed,
        // 128 to 255 are query and meta types (RFC 6895 3.1): TKEY, TSIG, IXFR, AXFR, MAILB, MAILA and unassigned.
        rtype::OPT | 129..=254 => Policy::Refuse,
        _ => Policy::Forward,
    }
}

/// The CHAOS names that are known, for TXT or ANY.
fn chaos(query: &Query) -> Policy {
    if !matches!(query.qtype, rtype::TXT | rtype::ANY) {
        return Policy::Refuse;
    }
    match query.name.as_wire() {
        b"\x07version\x04bind\0" | b"\x07version\x06server\0" => Policy::Chaos(Chaos::Version),
        b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => Policy::Chaos(Chaos::Identity),
        _ => Policy::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::query::{Parsed, parse};
    use crate::wire::tests::plain_query;

    fn judge(name: &str, qtype: u16, qclass: u16, via: Via) -> Policy {
        let Parsed::Query(query) = parse(&plain_query(name, qtype, qclass)) else {
            panic!("a plain query is a query");
        };
        policy(&query, via)
    }

    #[test]
    fn each_kind_of_question_has_its_fate() {
        for (name, qtype, qclass, via, fate) in [
            ("a.t", rtype::A, class::IN, Via::Udp, Policy::Forward),
            ("a.t", 65_280, class::IN, Via::Udp, Policy::Forward),
            ("a.t", 1_000, class::IN, Via::Udp, Policy::Forward),
            ("a.t", rtype::A, 4, Via::Udp, Policy::Forward),
            ("a.t", rtype::ANY, class::IN, Via::Udp, Policy::HinfoAny),
            ("a.t", rtype::ANY, class::IN, Via::Tcp, Policy::Forward),
            ("a.t", rtype::AXFR, class::IN, Via::Tcp, Policy::Refuse),
            ("a.t", rtype::IXFR, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", rtype::OPT, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", rtype::TSIG, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", 249, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", 253, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", 254, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", 200, class::IN, Via::Udp, Policy::Refuse),
            ("a.t", 256, class::IN, Via::Udp, Policy::Forward),
            ("a.t", rtype::NXNAME, class::IN, Via::Udp, Policy::Malformed),
            ("a.t", rtype::A, class::NONE, Via::Udp, Policy::Refuse),
            ("a.t", rtype::A, class::ANY, Via::Udp, Policy::Refuse),
            (
                "Version.Bind",
                rtype::TXT,
                class::CH,
                Via::Udp,
                Policy::Chaos(Chaos::Version),
            ),
            (
                "version.server",
                rtype::TXT,
                class::CH,
                Via::Udp,
                Policy::Chaos(Chaos::Version),
            ),
            (
                "id.server",
                rtype::TXT,
                class::CH,
                Via::Udp,
                Policy::Chaos(Chaos::Identity),
            ),
            (
                "hostname.bind",
                rtype::ANY,
                class::CH,
                Via::Udp,
                Policy::Chaos(Chaos::Identity),
            ),
            ("version.bind", rtype::A, class::CH, Via::Udp, Policy::Refuse),
            ("authors.bind", rtype::TXT, class::CH, Via::Udp, Policy::Refuse),
        ] {
            assert_eq!(judge(name, qtype, qclass, via), fate, "{name} {qtype} {qclass} {via:?}");
        }
    }
}
