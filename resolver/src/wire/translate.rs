//! Answers made here from a provider's: IPv6 addresses for IPv4 ones (RFC 6147 section 5.1), and the alias under which the
//! name of an address behind the prefix leads to that of the IPv4 address (section 5.3.1).
//!
//! Records that are not translated are copied, names written out because what they were compressed against is not there
//! any more. The result is walked like a provider's answer, so nothing of it can be worse than one.

use std::net::Ipv4Addr;

use detour_core::dns64::{Prefix, is_excluded};

use super::accept::{Accepted, Expected, accept};
use super::answer::Answer;
use super::code::{class, rtype};
use super::header::{HEADER_BYTES, Header, QR};
use super::name::NameBuf;
use super::record::{Record, Section};

/// A pointer to the question's name.
const ASKED: [u8; 2] = [0xC0, 0x0C];

/// How many IPv6 addresses of an answer count, and how many do not.
#[must_use]
pub(crate) fn addresses_of(answer: &Answer) -> (usize, usize) {
    let mut counts = (0, 0);
    for address in answer.addresses() {
        if let std::net::IpAddr::V6(v6) = address {
            if is_excluded(v6) {
                counts.1 += 1;
            } else {
                counts.0 += 1;
            }
        }
    }
    counts
}

/// The answer to a question for IPv6 addresses of this name, made from one with its IPv4 addresses that is `age_s` old: its
/// aliases as they are, each address behind the prefix, for `ttl_max_s` at most. `None`: none of them can be translated.
#[must_use]
pub(crate) fn translated(name: &NameBuf, of: &Answer, age_s: u32, ttl_max_s: u32, prefix: Prefix) -> Option<Accepted> {
    let mut draft = Draft::new(name, rtype::AAAA);
    let mut count = 0_usize;
    for record in of.records().filter(|record| record.section == Section::Answer) {
        let ttl_s = record.ttl.saturating_sub(age_s);
        if record.rtype == rtype::A && record.class == class::IN {
            let v4 = Ipv4Addr::from(<[u8; 4]>::try_from(record.rdata).ok()?);
            if prefix.translates(v4) {
                let v6 = prefix.embed(v4).octets();
                draft.push(&record, rtype::AAAA, ttl_s.min(ttl_max_s), &v6)?;
                count += 1;
            }
        } else if record.covered_type() != rtype::A {
            draft.copy(&record, ttl_s)?;
        }
    }
    draft.finish(0).filter(|_| count > 0)
}

/// The same answer to a question for IPv6 addresses, without those that do not count.
#[must_use]
pub(crate) fn stripped(name: &NameBuf, of: &Answer) -> Option<Accepted> {
    let mut draft = Draft::new(name, rtype::AAAA);
    for record in of.records().filter(|record| record.section == Section::Answer) {
        let address = <[u8; 16]>::try_from(record.rdata)
            .ok()
            .filter(|_| record.rtype == rtype::AAAA);
        let is_good = address.is_none_or(|octets| !is_excluded(octets.into()));
        // A signature of the set does not fit what is left of it.
        if is_good && record.covered_type() != rtype::AAAA {
            draft.copy(&record, record.ttl)?;
        }
    }
    draft.finish(0)
}

/// The answer to a question for the pointer of `name`, which is an alias of `target`, made from the answer to that one,
/// which is `age_s` old.
#[must_use]
pub(crate) fn aliased(name: &NameBuf, target: &NameBuf, of: &Answer, age_s: u32) -> Option<Accepted> {
    let mut draft = Draft::new(name, rtype::PTR);
    let alias_ttl_s = of.ttl_s().unwrap_or(0).saturating_sub(age_s);
    draft.push_raw(&ASKED, [rtype::CNAME, class::IN], alias_ttl_s, target.as_wire())?;
    draft.count(Section::Answer);
    for record in of.records().filter(|record| record.section != Section::Additional) {
        draft.copy(&record, record.ttl.saturating_sub(age_s))?;
    }
    draft.finish(of.rcode())
}

/// An answer in the making.
struct Draft<'n> {
    name: &'n NameBuf,
    rtype: u16,
    out: Vec<u8>,
    counts: [u16; 3],
}

impl<'n> Draft<'n> {
    fn new(name: &'n NameBuf, rtype: u16) -> Self {
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(name.as_wire());
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&class::IN.to_be_bytes());
        Self {
            name,
            rtype,
            out,
            counts: [0; 3],
        }
    }

    /// Copies a record.
    fn copy(&mut self, record: &Record<'_>, ttl_s: u32) -> Option<()> {
        let mut rdata = Vec::with_capacity(record.rdata.len());
        record.push_plain_rdata(&mut rdata)?;
        self.push(record, record.rtype, ttl_s, &rdata)
    }

    /// Writes a record of the owner, class and section of `like`.
    fn push(&mut self, like: &Record<'_>, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Option<()> {
        let mut owner = NameBuf::root();
        like.read_owner(&mut owner);
        let mut plain = Vec::new();
        if owner == *self.name {
            plain.extend_from_slice(&ASKED);
        } else {
            like.push_plain_owner(&mut plain)?;
        }
        self.push_raw(&plain, [rtype, like.class], ttl_s, rdata)?;
        self.count(like.section);
        Some(())
    }

    fn push_raw(&mut self, owner: &[u8], [rtype, class]: [u16; 2], ttl_s: u32, rdata: &[u8]) -> Option<()> {
        self.out.extend_from_slice(owner);
        self.out.extend_from_slice(&rtype.to_be_bytes());
        self.out.extend_from_slice(&class.to_be_bytes());
        self.out.extend_from_slice(&ttl_s.to_be_bytes());
        self.out
            .extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
        self.out.extend_from_slice(rdata);
        Some(())
    }

    fn count(&mut self, section: Section) {
        let [answer, authority, additional] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        };
        *count = count.saturating_add(1);
    }

    /// What came of it, if it is an answer.
    fn finish(mut self, rcode: u16) -> Option<Accepted> {
        let header = Header {
            id: 0,
            flags: QR | (rcode & 0xF),
            question_count: 1,
            record_counts: self.counts,
        };
        self.out.get_mut(..HEADER_BYTES)?.copy_from_slice(&header.to_bytes());
        let question_end = HEADER_BYTES + self.name.as_wire().len() + 4;
        debug_assert!(self.rtype != 0, "something is asked for");
        let expected = Expected {
            id: 0,
            question: self.out.get(HEADER_BYTES..question_end)?,
            check_case: true,
            // Nobody vouches for what was made here.
            encrypted: false,
        };
        accept(&self.out, &expected).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Kind;

    const PREFIX: &str = "2001:db8:64::/96";

    /// A name in wire form.
    fn wire(text: &str) -> Vec<u8> {
        let name: NameBuf = text.parse().unwrap();
        name.as_wire().to_vec()
    }

    fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
        let mut out = owner.to_vec();
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&1_u16.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
        out.extend_from_slice(rdata);
        out
    }

    fn answer(name: &str, rtype: u16, rcode: u16, sections: [&[Vec<u8>]; 2]) -> Answer {
        let count = |at: usize| u16::try_from(sections[at].len()).unwrap();
        let header = Header {
            id: 0,
            flags: QR | rcode,
            question_count: 1,
            record_counts: [count(0), count(1), 0],
        };
        let mut out = header.to_bytes().to_vec();
        out.extend(wire(name));
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&1_u16.to_be_bytes());
        let question = out[HEADER_BYTES..].to_vec();
        for section in sections {
            out.extend(section.iter().flatten());
        }
        let expected = Expected {
            id: 0,
            question: &question,
            check_case: true,
            encrypted: true,
        };
        accept(&out, &expected).unwrap().answer
    }

    fn shown(answer: &Answer) -> Vec<(Section, u16, u32, Vec<u8>)> {
        let records = answer.records();
        records
            .map(|record| (record.section, record.rtype, record.ttl, record.rdata.to_vec()))
            .collect()
    }

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_translated_behind_their_aliases() {
        // The target is compressed against the question: "host" and a pointer to "example".
        let target = [&b"\x04host"[..], &[0xC0, 0x10]].concat();
        let of = answer(
            "www.example",
            rtype::A,
            0,
            [
                &[
                    record(&ASKED, rtype::CNAME, 600, &target),
                    record(&wire("host.example"), rtype::A, 300, &[192, 0, 2, 33]),
                    record(&wire("host.example"), rtype::A, 300, &[192, 0, 2, 34]),
                    record(&wire("host.example"), rtype::RRSIG, 300, &[0, 1, 8, 2, 0, 0, 1, 44]),
                ],
                &[],
            ],
        );
        let made = translated(&name("www.example"), &of, 100, 60, PREFIX.parse().unwrap()).unwrap();
        let address = |last: u8| {
            let v4 = Ipv4Addr::new(192, 0, 2, last);
            PREFIX.parse::<Prefix>().unwrap().embed(v4).octets().to_vec()
        };
        let wanted = [
            (Section::Answer, rtype::CNAME, 500, wire("host.example")),
            (Section::Answer, rtype::AAAA, 60, address(33)),
            (Section::Answer, rtype::AAAA, 60, address(34)),
        ];
        assert_eq!(shown(&made.answer), wanted);
        assert_eq!(made.answer.kind(), Kind::Positive);
        assert!(!made.answer.is_authentic());
        assert_eq!(made.answer.ttl_s(), Some(60));
        // Nothing that could be translated.
        let private = answer(
            "a.example",
            rtype::A,
            0,
            [&[record(&ASKED, rtype::A, 9, &[10, 0, 0, 1])], &[]],
        );
        let everybodys: Prefix = "64:ff9b::/96".parse().unwrap();
        assert_eq!(translated(&name("a.example"), &private, 0, 60, everybodys), None);
    }

    #[test]
    fn addresses_that_do_not_count_are_left_out() {
        let good = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let of = answer(
            "a.example",
            rtype::AAAA,
            0,
            [
                &[
                    record(&ASKED, rtype::AAAA, 9, &good),
                    record(&ASKED, rtype::AAAA, 9, &mapped),
                ],
                &[],
            ],
        );
        assert_eq!(addresses_of(&of), (1, 1));
        let made = stripped(&name("a.example"), &of).unwrap();
        assert_eq!(shown(&made.answer), [(Section::Answer, rtype::AAAA, 9, good.to_vec())]);
    }

    #[test]
    fn the_name_of_a_translated_address_is_an_alias() {
        let (asked, target) = (name("1.0.8.ip6.arpa"), name("33.2.0.192.in-addr.arpa"));
        let of = answer(
            "33.2.0.192.in-addr.arpa",
            rtype::PTR,
            0,
            [&[record(&ASKED, rtype::PTR, 300, &wire("host.example"))], &[]],
        );
        let made = aliased(&asked, &target, &of, 100).unwrap();
        let wanted = [
            (Section::Answer, rtype::CNAME, 200, target.as_wire().to_vec()),
            (Section::Answer, rtype::PTR, 200, wire("host.example")),
        ];
        assert_eq!(shown(&made.answer), wanted);
        let soa = [
            wire("ns.example"),
            wire("root.example"),
            vec![0; 16],
            60_u32.to_be_bytes().to_vec(),
        ]
        .concat();
        let denied = answer(
            "33.2.0.192.in-addr.arpa",
            rtype::PTR,
            3,
            [&[], &[record(&wire("in-addr.arpa"), rtype::SOA, 60, &soa)]],
        );
        let made = aliased(&asked, &target, &denied, 10).unwrap();
        assert_eq!(
            (made.answer.rcode(), made.answer.kind()),
            (3, Kind::Denial { soa: true })
        );
        assert_eq!(made.answer.ttl_s(), Some(50));
    }
}
