//! What a fake does beyond answering: what is no fault of a moment but the way its software is, over every transport.

use crate::message::{Answer, Owner, Query, Resource, rcode, rtype};

/// The code of an extended error that says that a name is filtered (RFC 8914 section 4.18).
const FILTERED: u16 = 17;
/// A signature of the root's SOA: type covered, algorithm, labels, TTL, times, key tag, the signer `.`, and something to
/// stand for the signature itself.
const ROOT_SIGNATURE: [u8; 27] = [
    0, 6, 8, 0, 0, 1, 0x51, 0x80, 0x7f, 0, 0, 0, 0x60, 0, 0, 0, 0x4f, 0x66, 0, 1, 2, 3, 4, 5, 6, 7, 8,
];

/// How a fake takes what goes beyond a question. The default is perfect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Speaks EDNS; else a query with it gets FORMERR, as RFC 6891 section 7 has it.
    pub edns: bool,
    /// Repeats the letters of the name as they came; else in lower case.
    pub case: bool,
    /// Pads answers to padded queries (RFC 7830).
    pub padding: bool,
    /// Passes signatures on to who asks for them (DO), and says that it validated (AD).
    pub signatures: bool,
    /// Keeps back this name, and says so.
    pub filtered: Option<&'static str>,
    /// Has an address for what does not exist.
    pub redirects: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            edns: true,
            case: true,
            padding: true,
            signatures: true,
            filtered: None,
            redirects: false,
        }
    }
}

impl Manners {
    /// The query as this software sees it, and what it says to it without looking at the name.
    pub(super) fn take(self, mut query: Query) -> (Query, Option<Answer>) {
        if !self.case {
            // Length octets are below any letter.
            query.name.wire.make_ascii_lowercase();
        }
        if let Some(edns) = &mut query.edns {
            edns.is_padded &= self.padding;
            edns.dnssec_ok &= self.signatures;
        }
        if !self.edns && query.edns.take().is_some() {
            return (query, Some(Answer::empty(rcode::FORMERR)));
        }
        (query, None)
    }

    /// What this software makes of an honest answer.
    pub(super) fn keep(self, query: &Query, mut answer: Answer) -> Answer {
        let name = query.name.text.as_str();
        if self.filtered == Some(name) {
            return Answer {
                ede: Some(FILTERED),
                ..address(query, [0, 0, 0, 0])
            };
        }
        if self.redirects && answer.rcode == rcode::NXDOMAIN && query.rtype == rtype::A {
            return address(query, [192, 0, 2, 80]);
        }
        let wants_signatures = query.edns.is_some_and(|edns| edns.dnssec_ok);
        if wants_signatures && name == "." && query.rtype == rtype::SOA {
            answer.authentic = true;
            answer.answers.push(Resource {
                owner: Owner::Asked,
                rtype: rtype::RRSIG,
                ttl_seconds: 86_400,
                data: ROOT_SIGNATURE.to_vec(),
            });
        }
        answer
    }
}

fn address(query: &Query, octets: [u8; 4]) -> Answer {
    if query.rtype != rtype::A {
        return Answer::default();
    }
    Answer {
        answers: vec![Resource {
            owner: Owner::Asked,
            rtype: rtype::A,
            ttl_seconds: 60,
            data: octets.to_vec(),
        }],
        ..Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{encode_query, encode_reply, parse_reply};
    use crate::zone;

    fn ask(manners: Manners, name: &str, rtype: u16, edns: Option<u16>) -> Vec<u8> {
        let query = Query::parse(&encode_query(7, name, rtype, edns)).unwrap();
        let honest = zone::answer(&query.name.text, rtype);
        let (query, refusal) = manners.take(query);
        let answer = refusal.unwrap_or_else(|| manners.keep(&query, honest));
        encode_reply(&query, &answer, 65_535)
    }

    #[test]
    fn each_manner_shows() {
        let name = "W.Alder-Lane.com";
        let well = parse_reply(&ask(Manners::default(), name, rtype::A, Some(1232))).unwrap();
        assert_eq!(well.rcode, rcode::NOERROR);
        let rude = Manners {
            edns: false,
            case: false,
            filtered: Some("b.alder-lane.com"),
            redirects: true,
            ..Manners::default()
        };
        assert_eq!(
            parse_reply(&ask(rude, name, rtype::A, Some(1232))).unwrap().rcode,
            rcode::FORMERR
        );
        let lower = ask(rude, name, rtype::A, None);
        assert_eq!(&lower[13..15], b"w\x0a");
        let filtered = parse_reply(&ask(rude, "b.alder-lane.com", rtype::A, None)).unwrap();
        assert_eq!(filtered.addresses, [std::net::Ipv4Addr::UNSPECIFIED]);
        let redirected = parse_reply(&ask(rude, "nobody.example", rtype::A, None)).unwrap();
        assert_eq!((redirected.rcode, redirected.addresses.len()), (rcode::NOERROR, 1));
    }
}
