//! Properties: records come out as they went in, whatever they hold; and no bytes make anything panic.

use super::super::accept::{Expected, accept};
use super::super::code::{class, rtype};
use super::super::name::NameBuf;
use super::super::query::{Parsed, parse};
use super::super::record::{Record, Records};
use super::super::reply::{Freshness, write, write_error, write_hinfo_any, write_txt};
use super::{ID, Msg, Q, accept_as_sent, query_of, wire};
use proptest::prelude::*;

/// A record to be written: section, owner, type, TTL, rdata.
type Drawn = (usize, Vec<u8>, u16, u32, Vec<u8>);

fn owner() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(Q.to_vec()),
        1 => Just(vec![0]),
        1 => Just(wire("A.t")),
        1 => Just(wire("other.t")),
        1 => Just(b"\x03sub\xC0\x0E".to_vec()),
    ]
}

fn kind_and_rdata() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let opaque = prop::collection::vec(any::<u8>(), 0..24);
    let opaque_type = prop_oneof![Just(1_u16), Just(16), Just(46), Just(65), Just(28), 256..65_535_u16];
    prop_oneof![
        4 => (opaque_type, opaque),
        1 => Just((rtype::CNAME, b"\x01z\xC0\x0C".to_vec())),
        1 => Just((rtype::MX, b"\0\x01\xC0\x0C".to_vec())),
        1 => Just((rtype::NS, wire("ns.Elsewhere"))),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let ttl = prop_oneof![4 => 0..700_000_u32, 1 => any::<u32>()];
    (1..=3_usize, owner(), kind_and_rdata(), ttl)
        .prop_map(|(section, owner, (rtype, rdata), ttl)| (section, owner, rtype, ttl, rdata))
}

/// A message of these records in section order, with OPT before the record `opt_at`.
fn message(rcode: u16, records: &[Drawn], opt_at: usize) -> Msg {
    let mut msg = Msg::response(rcode, "a.t", rtype::A);
    let first_additional = records.partition_point(|record| record.0 < 3);
    let opt_at = opt_at.max(first_additional);
    for (index, (section, owner, rtype, ttl, rdata)) in records.iter().enumerate() {
        if index == opt_at {
            msg = msg.opt(0x8000, &[0, 15, 0, 2, 0, 3]);
        }
        msg = msg.record(*section, owner, *rtype, *ttl, rdata);
    }
    msg
}

/// Section, owner, type, class, rdata: all of a record but its TTL.
fn essence(record: &Record<'_>) -> (super::super::Section, NameBuf, u16, u16, Vec<u8>) {
    let mut owner = NameBuf::root();
    record.read_owner(&mut owner);
    (record.section, owner, record.rtype, record.class, record.rdata.to_vec())
}

fn records_of(msg: &[u8]) -> Vec<Record<'_>> {
    let count = |at: usize| u16::from_be_bytes([msg[at], msg[at + 1]]);
    Records::new(msg, 21, [count(6), count(8), count(10)])
        .map(Result::unwrap)
        .collect()
}

proptest! {
    #[test]
    fn records_pass_unchanged_up_to_opt(
        mut records in prop::collection::vec(drawn(), 0..20),
        opt_at in 0..25_usize,
        rcode in prop_oneof![Just(0_u16), Just(3), Just(2)],
        age_s in 0..1_000_u32,
    ) {
        records.sort_by_key(|record| record.0);
        let msg = message(rcode, &records, opt_at);
        let accepted = msg.accept().unwrap();
        let answer = accepted.answer;
        let sent = records_of(&msg.bytes);
        let sent_kept: Vec<_> = sent.iter().take_while(|record| record.rtype != rtype::OPT).collect();
        let kept = records_of(answer.wire());
        prop_assert_eq!(
            kept.iter().map(essence).collect::<Vec<_>>(),
            sent_kept.iter().map(|record| essence(record)).collect::<Vec<_>>()
        );
        // The model: for each record the lowest TTL over its set, compared one by one.
        for (record, original) in kept.iter().zip(&sent_kept) {
            let key = |record: &Record<'_>| (essence(record).1, record.rtype, record.class, record.covered_type());
            let lowest = sent_kept
                .iter()
                .filter(|other| key(other) == key(original))
                .map(|other| if other.ttl > 0x7FFF_FFFF { 0 } else { other.ttl.min(604_800) })
                .min();
            prop_assert_eq!(Some(record.ttl), lowest);
        }
        if let Some(ttl_s) = answer.ttl_s() {
            prop_assert_eq!(Some(ttl_s), kept.iter().map(|record| record.ttl).min());
        }

        // Reading the kept packet back changes nothing.
        let again = accept(answer.wire(), &Expected {
            id: 0,
            question: answer.question(),
            check_case: true,
            encrypted: true,
        });
        let again = again.map(|accepted| accepted.answer).unwrap();
        prop_assert_eq!(again.wire(), answer.wire());
        prop_assert_eq!((again.kind(), again.rcode(), again.ttl_s()), (answer.kind(), answer.rcode(), answer.ttl_s()));

        // Nor does the reply change anything but TTLs.
        let query = query_of(&Msg::query("A.T", rtype::A).opt(0, &[]).bytes);
        let mut out = Vec::new();
        write(&answer, &query.echo, Freshness::Fresh { age_s }, &[], 65_535, &mut out);
        let mut replied = records_of(&out);
        prop_assert_eq!(replied.pop().map(|record| record.rtype), Some(rtype::OPT));
        prop_assert_eq!(
            replied.iter().map(essence).collect::<Vec<_>>(),
            kept.iter().map(essence).collect::<Vec<_>>()
        );
        for (record, stored) in replied.iter().zip(&kept) {
            prop_assert_eq!(record.ttl, stored.ttl.saturating_sub(age_s));
        }
    }

    #[test]
    fn replies_keep_their_limit_and_can_be_walked(
        mut records in prop::collection::vec(drawn(), 0..60),
        limit in 512..2_000_usize,
    ) {
        records.sort_by_key(|record| record.0);
        let answer = message(0, &records, 99).accept().unwrap().answer;
        let query = query_of(&Msg::query("a.t", rtype::A).opt(0, &[]).bytes);
        let edes = [super::super::Ede { code: 3, text: "some words" }];
        let mut out = Vec::new();
        write(&answer, &query.echo, Freshness::Stale { ttl_s: 30 }, &edes, limit, &mut out);
        prop_assert!(out.len() <= limit);
        let walked = records_of(&out);
        prop_assert_eq!(walked.last().map(|record| record.end), Some(out.len()));
        let is_truncated = out[2] & 2 != 0;
        prop_assert!(!is_truncated || walked.len() == 1);
    }

    #[test]
    fn no_bytes_make_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        flags in any::<u16>(),
        counts in prop::array::uniform4(0..4_u8),
    ) {
        let mut framed = Msg::new(flags).bytes;
        for (index, count) in counts.into_iter().enumerate() {
            framed[5 + 2 * index] = count;
        }
        framed.extend(&bytes);
        for msg in [&bytes, &framed] {
            let mut out = Vec::new();
            match parse(msg) {
                Parsed::Silence => {}
                Parsed::Reject(reject) => write_error(&reject.echo, reject.rcode, &[], &mut out),
                Parsed::Query(query) => {
                    write_hinfo_any(&query.echo, &mut out);
                    write_txt(&query.echo, "text", &mut out);
                }
            }
            if let Ok(accepted) = accept_as_sent(msg) {
                prop_assert!(accepted.answer.wire().len() <= msg.len());
            }
        }
        // A right header and question in front of anything.
        for section in 1..=3 {
            let msg = Msg::response(0, "a.t", rtype::A).count(section).raw(&bytes);
            if let Ok(accepted) = accept_as_sent(&msg.bytes) {
                let query = query_of(&Msg::query("a.t", rtype::A).bytes);
                let mut out = Vec::new();
                write(&accepted.answer, &query.echo, Freshness::Fresh { age_s: 1 }, &[], 512, &mut out);
                prop_assert_eq!(&out[..2], &ID.to_be_bytes()[..]);
            }
            let _query: Parsed = Msg::query("a.t", class::IN).count(section).raw(&bytes).parse();
        }
    }

    #[test]
    fn names_survive_text_and_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..4)) {
        let mut bytes = Vec::new();
        for label in &labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label);
        }
        bytes.push(0);
        let name = NameBuf::from_wire(&bytes);
        prop_assert_eq!(name.is_some(), bytes.len() <= 255);
        if let Some(name) = name {
            prop_assert_eq!(name.to_string().parse::<NameBuf>(), Ok(name.clone()));
            prop_assert!(name.as_wire().ends_with(name.registrable()));
        }
    }
}
