//! What a client sees equals what the provider sent, octet for octet, but for what is ours: id, flags, the letters of
//! the question (and of an owner that repeats the random case we gave them), TTLs, OPT, and what stands behind OPT or
//! behind the counted records.
//!
//! The messages are put together here with their own record of where each TTL stands and which RRset it belongs to, so
//! the reply that must come out is made without any code under test. Among the records: types nobody knows, empty
//! rdata where a type forbids it, CAA and SVCB that break their own rules, all types whose names senders may compress
//! (RFC 3597 4), owners that point into other records' rdata.

use super::super::accept::{Expected, accept};
use super::super::code::{class, rtype};
use super::super::reply::{Freshness, write};
use super::{ID, Msg, query_of, wire};
use proptest::prelude::*;
use proptest::sample::Index;

/// Asked for; no drawn record has it unless the answer is to be positive.
const QTYPE: u16 = 65_399;
/// The question in the case it was sent to the provider.
const SENT: &str = "wWw.ExAmPle.t";
/// The same as the client wrote it.
const ASKED: &str = "Www.example.T";
const DO: u32 = 0x8000;

/// How a name is written.
#[derive(Debug, Clone)]
enum Name {
    Root,
    Question,
    /// The question written out once more, in the case it was sent.
    Repeated,
    Plain(Vec<Vec<u8>>),
    /// Labels before a pointer to one of the names so far.
    Compressed(Vec<Vec<u8>>, Index),
}

/// The rdata of a record.
#[derive(Debug, Clone)]
enum Rdata {
    Opaque(Vec<u8>),
    /// Octets, names, octets: what the types with compressible names are made of.
    Names(Vec<u8>, Vec<Name>, Vec<u8>),
}

#[derive(Debug, Clone)]
struct Drawn {
    section: usize,
    owner: Name,
    rtype: u16,
    class: u16,
    ttl: u32,
    rdata: Rdata,
}

fn labels() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..7), 1..3)
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        1 => Just(Name::Root),
        4 => Just(Name::Question),
        1 => Just(Name::Repeated),
        2 => labels().prop_map(Name::Plain),
        3 => (prop::collection::vec(prop::collection::vec(any::<u8>(), 1..7), 0..2), any::<Index>())
            .prop_map(|(labels, target)| Name::Compressed(labels, target)),
    ]
}

fn octets(count: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), count..=count)
}

/// The types with names inside, in their shapes.
fn with_names() -> impl Strategy<Value = (u16, Rdata)> {
    let names = |count: usize| prop::collection::vec(name(), count..=count);
    let one = (0..9_usize, names(1)).prop_map(|(index, names)| {
        let types = [2, 3, 4, 5, 7, 8, 9, 12, 39];
        (types[index], Rdata::Names(vec![], names, vec![]))
    });
    let two = (any::<bool>(), names(2)).prop_map(|(is_rp, names)| {
        let rtype = if is_rp { 17 } else { 14 };
        (rtype, Rdata::Names(vec![], names, vec![]))
    });
    let preferred = (0..4_usize, octets(2), names(1)).prop_map(|(index, before, names)| {
        let types = [15, 18, 21, 36];
        (types[index], Rdata::Names(before, names, vec![]))
    });
    let px = (octets(2), names(2)).prop_map(|(before, names)| (26, Rdata::Names(before, names, vec![])));
    let srv = (octets(6), names(1)).prop_map(|(before, names)| (33, Rdata::Names(before, names, vec![])));
    let naptr = (octets(4), names(1)).prop_map(|(mut before, names)| {
        before.extend(b"\x01u\x07E2U+sip\x00");
        (35, Rdata::Names(before, names, vec![]))
    });
    let nxt = (names(1), octets(5)).prop_map(|(names, after)| (30, Rdata::Names(vec![], names, after)));
    let sig = (octets(16), names(1), octets(7)).prop_map(|(rest, names, after)| {
        // The covered type first; 0 would be SIG(0), which speaks of the exchange.
        (24, Rdata::Names([&[0, 1], rest.as_slice()].concat(), names, after))
    });
    let soa = (names(2), octets(20)).prop_map(|(names, after)| (rtype::SOA, Rdata::Names(vec![], names, after)));
    prop_oneof![one, two, preferred, px, srv, naptr, nxt, sig, soa]
}

fn content() -> impl Strategy<Value = (u16, Rdata)> {
    let opaque = || prop::collection::vec(any::<u8>(), 0..40);
    let unknown = (256..65_390_u16, opaque()).prop_map(|(rtype, rdata)| (rtype, Rdata::Opaque(rdata)));
    // A, AAAA, TXT, NULL, HINFO, DS, RRSIG, NSEC, DNSKEY, TLSA, HIP and SVCB, HTTPS, CAA: whatever is in them.
    let known = (0..14_usize, opaque()).prop_map(|(index, rdata)| {
        let types = [1, 28, 16, 10, 13, 43, 46, 47, 48, 52, 55, 64, 65, 257];
        (types[index], Rdata::Opaque(rdata))
    });
    let odd = (0..6_usize).prop_map(|index| {
        let odd: [(u16, &[u8]); 6] = [
            (257, b"\x00\x00value of no tag"),
            (257, b"\x80\x30issue"),
            (
                65,
                b"\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x01\x00\x03\x02h2\x00\x01\x00\x00",
            ),
            (64, b"\x00\x00\x00\x00\x05\x00\x04ech!"),
            (1, b""),
            (28, b"\x20\x01\x0d\xb8"),
        ];
        let (rtype, rdata) = odd[index];
        (rtype, Rdata::Opaque(rdata.to_vec()))
    });
    prop_oneof![3 => unknown, 3 => known, 2 => odd, 6 => with_names()]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let ttl = prop_oneof![6 => 0..700_000_u32, 1 => any::<u32>()];
    let class = prop_oneof![9 => Just(class::IN), 1 => any::<u16>()];
    (1..=3_usize, name(), content(), ttl, class).prop_map(|(section, owner, (rtype, rdata), ttl, class)| Drawn {
        section,
        owner,
        rtype,
        class,
        ttl,
        rdata,
    })
}

/// What belongs together: owner in lower case, class, type, covered type.
type Set = (Vec<u8>, u16, u16, [u8; 2]);

/// A message and all that is known of it.
struct Sent {
    msg: Msg,
    /// Where a name begins that a pointer can reach, and its labels in wire form without the root.
    names: Vec<(usize, Vec<u8>)>,
    /// Where each TTL stands, what it was, and of which RRset, up to OPT.
    ttls: Vec<(usize, u32, Set)>,
    /// Where owners stand that repeat the question.
    repeated: Vec<usize>,
    /// min(SOA TTL, MINIMUM, 1 hour) of the authority section.
    negative_s: Option<u32>,
}

impl Sent {
    /// Begins with the question.
    fn new(flags: u16) -> Self {
        let mut names = Vec::new();
        let mut at = 12;
        let name = wire(SENT);
        while name[at - 12] != 0 {
            let mut rest = name[at - 12..].to_vec();
            rest.pop();
            names.push((at, rest));
            at += usize::from(name[at - 12]) + 1;
        }
        Self {
            msg: Msg::new(flags).question(&name, QTYPE, class::IN),
            names,
            ttls: Vec::new(),
            repeated: Vec::new(),
            negative_s: None,
        }
    }

    /// The octets of a name that is to stand at `at`, and its labels.
    fn name(&self, name: &Name) -> (Vec<u8>, Vec<u8>) {
        let plain = |labels: &[Vec<u8>]| -> Vec<u8> {
            let counted = |label: &Vec<u8>| [&[u8::try_from(label.len()).unwrap()], label.as_slice()].concat();
            labels.iter().flat_map(counted).collect()
        };
        match name {
            Name::Root => (vec![0], vec![]),
            Name::Question => (vec![0xC0, 12], self.names[0].1.clone()),
            Name::Repeated => (wire(SENT), self.names[0].1.clone()),
            Name::Plain(labels) => ([plain(labels), vec![0]].concat(), plain(labels)),
            Name::Compressed(labels, target) => {
                let (at, rest) = target.get(&self.names);
                let whole = [plain(labels), rest.clone()].concat();
                let pointer = (0xC000 | u16::try_from(*at).unwrap()).to_be_bytes();
                if *at > 0x3FFF || whole.len() > 254 {
                    return (vec![0], vec![]);
                }
                ([plain(labels), pointer.to_vec()].concat(), whole)
            }
        }
    }

    /// Notes a name that stands at `at`.
    fn note(&mut self, at: usize, labels: &[u8]) {
        if !labels.is_empty() && at <= 0x3FFF {
            self.names.push((at, labels.to_vec()));
        }
    }

    fn push(&mut self, record: &Drawn) {
        let start = self.msg.bytes.len();
        let (owner, owner_labels) = self.name(&record.owner);
        self.note(start, &owner_labels);
        if matches!(record.owner, Name::Repeated) {
            self.repeated.push(start);
        }
        let ttl_at = start + owner.len() + 4;
        let rdata_at = ttl_at + 6;
        let mut rdata = Vec::new();
        match &record.rdata {
            Rdata::Opaque(octets) => rdata.extend(octets),
            Rdata::Names(before, names, after) => {
                rdata.extend(before);
                for name in names {
                    let (octets, labels) = self.name(name);
                    self.note(rdata_at + rdata.len(), &labels);
                    rdata.extend(octets);
                }
                rdata.extend(after);
            }
        }
        let covered = match record.rtype {
            46 | 24 => [rdata.first().copied(), rdata.get(1).copied()].map(Option::unwrap_or_default),
            _ => [0; 2],
        };
        let covered = if rdata.len() < 2 { [0; 2] } else { covered };
        let set = (owner_labels.to_ascii_lowercase(), record.class, record.rtype, covered);
        self.ttls.push((ttl_at, record.ttl, set));
        if record.section == 2 && record.rtype == rtype::SOA {
            let minimum = u32::from_be_bytes(*rdata.last_chunk().unwrap());
            let own_s = sane(record.ttl).min(sane(minimum)).min(3_600);
            self.negative_s = Some(self.negative_s.map_or(own_s, |so_far| so_far.min(own_s)));
        }
        let kind = (record.rtype, record.class);
        self.msg = self
            .msg
            .clone()
            .record_of(record.section, &owner, kind, record.ttl, &rdata);
    }
}

fn sane(ttl: u32) -> u32 {
    if ttl > 0x7FFF_FFFF { 0 } else { ttl }
}

/// The octets the client must get.
fn expected(kept: &Sent, counts: &[u8], rcode: u16, is_denial: bool, age_s: u32, edns: bool) -> Vec<u8> {
    let mut out = kept.msg.bytes.clone();
    out[..2].copy_from_slice(&0x7777_u16.to_be_bytes());
    // QR, RD and CD of the client, RA, AD of the provider since the client asked for it; no AA, no Z.
    out[2..4].copy_from_slice(&(0x81B0 | rcode).to_be_bytes());
    out[6..12].copy_from_slice(counts);
    let asked = wire(ASKED);
    out[12..12 + asked.len()].copy_from_slice(&asked);
    for at in &kept.repeated {
        out[*at..at + asked.len()].make_ascii_lowercase();
    }
    let cap_s = match kept.negative_s {
        Some(negative_s) if is_denial => negative_s,
        _ => 604_800,
    };
    for (at, _, set) in &kept.ttls {
        let of_set = kept.ttls.iter().filter(|(_, _, other)| other == set);
        let lowest = of_set.map(|(_, ttl, _)| sane(*ttl)).min().unwrap().min(cap_s);
        out[*at..at + 4].copy_from_slice(&lowest.saturating_sub(age_s).to_be_bytes());
    }
    if edns {
        let additionals = u16::from_be_bytes([out[10], out[11]]) + 1;
        out[10..12].copy_from_slice(&additionals.to_be_bytes());
        out.extend([0, 0, 41, 0x04, 0xD0, 0, 0, 0x80, 0, 0, 0]);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_client_sees_what_was_sent_but_for_what_is_ours(
        mut records in prop::collection::vec(drawn(), 0..24),
        answered in any::<Option<u32>>(),
        opt_at in prop::option::of(0..24_usize),
        rcode in prop_oneof![4 => Just(0_u16), 2 => Just(3), 1 => Just(2), 1 => Just(5)],
        (edns, age_s) in (any::<bool>(), 0..1_000_u32),
        trailing in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        if let Some(ttl) = answered {
            let rdata = Rdata::Opaque(vec![]);
            records.push(Drawn { section: 1, owner: Name::Question, rtype: QTYPE, class: class::IN, ttl, rdata });
        }
        records.sort_by_key(|record| record.section);
        let opt_at = opt_at.map(|at| at.max(records.partition_point(|record| record.section < 3)));
        // AA, RA, Z, AD and CD of the provider are the provider's own.
        let mut sent = Sent::new(0x84F0 | rcode);
        let mut kept: Option<Sent> = None;
        let up_to_here = |sent: &mut Sent| Sent {
            msg: sent.msg.clone(),
            names: Vec::new(),
            ttls: std::mem::take(&mut sent.ttls),
            repeated: std::mem::take(&mut sent.repeated),
            negative_s: sent.negative_s,
        };
        for index in 0..=records.len() {
            if Some(index) == opt_at {
                kept = Some(up_to_here(&mut sent));
                sent.msg = sent.msg.opt(DO, &[0, 65, 0, 1, 7]);
            }
            if let Some(record) = records.get(index) {
                sent.push(record);
            }
        }
        let kept = kept.unwrap_or_else(|| up_to_here(&mut sent));
        let msg = sent.msg.raw(&trailing);

        let question = [wire(SENT), QTYPE.to_be_bytes().to_vec(), vec![0, 1]].concat();
        let accepted = accept(&msg.bytes, &Expected { id: ID, question: &question, check_case: true, encrypted: true });
        let accepted = accepted.map_err(|rejected| TestCaseError::fail(format!("{rejected}: {:02x?}", msg.bytes)))?;
        let mut query = Msg::new(0x0130).question(&wire(ASKED), QTYPE, class::IN);
        query.bytes[..2].copy_from_slice(&0x7777_u16.to_be_bytes());
        if edns {
            query = query.opt(DO, &[]);
        }
        let mut reply = Vec::new();
        let freshness = Freshness::Fresh { age_s };
        write(&accepted.answer, &query_of(&query.bytes).echo, freshness, &[], 65_535, &mut reply);
        let is_denial = rcode == 3 || (rcode == 0 && answered.is_none());
        let counts = kept.msg.bytes[6..12].to_vec();
        prop_assert_eq!(reply, expected(&kept, &counts, rcode, is_denial, age_s, edns));
    }
}
