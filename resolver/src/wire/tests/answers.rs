//! Answers of providers: what is accepted, what it means, what is kept.

use super::super::accept::{Expected, Garbage, Mismatch, Rejected, accept, classify};
use super::super::answer::{AnswerRef, Kind};
use super::super::build::{EdnsOut, QueryOut, build_query};
use super::super::code::{class, rtype};
use super::super::cookie::Cookie;
use super::super::name::NameBuf;
use super::super::query::{Parsed, parse};
use super::{ID, Msg, Q, RESPONSE, accept_as_sent, ede_option, option, wire};
use detour_core::outcome::{Rcode, Reply};

const A: &[u8] = &[192, 0, 2, 1];

/// A usual answer: alias, addresses, name server with glue, OPT.
fn usual() -> Msg {
    Msg::response(0, "WwW.t", rtype::A)
        .record(1, Q, rtype::CNAME, 300, b"\x01x\xC0\x10")
        .record(1, &[0xC0, 0x23], rtype::A, 60, A)
        .record(2, &wire("t"), rtype::NS, 900, b"\x02ns\xC0\x10")
        .record(3, &wire("ns.t"), rtype::A, 901, A)
        .opt(0x8000, &[])
}

fn garbage(what: Garbage) -> Result<(), Rejected> {
    Err(Rejected::Garbage(what))
}

fn mismatch(what: Mismatch) -> Result<(), Rejected> {
    Err(Rejected::Mismatch(what))
}

#[test]
fn a_usual_answer_is_kept_as_it_came() {
    let msg = usual();
    let accepted = msg.accept().unwrap();
    assert!(accepted.has_opt);
    let answer = accepted.answer;
    assert_eq!(
        (answer.kind(), answer.rcode(), answer.ttl_s()),
        (Kind::Positive, 0, Some(60))
    );
    let kept = &msg.bytes[12..msg.bytes.len() - 11];
    assert_eq!(&answer.wire()[12..], kept);
    assert_eq!(answer.wire()[..12], [0, 0, 0x80, 0, 0, 1, 0, 2, 0, 1, 0, 1]);
    assert_eq!(
        answer.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>(),
        ["192.0.2.1"]
    );
    assert_eq!(answer.records().count(), 4);
    assert_eq!(answer.question(), &msg.bytes[12..23]);
    assert!(!answer.is_authentic());
}

#[test]
fn what_must_match_matches_or_is_named() {
    let msg = usual().bytes;
    let ours = msg[12..23].to_vec();
    let judge = |id: u16, question: &[u8], check_case: bool| {
        let expected = Expected {
            id,
            question,
            check_case,
            encrypted: false,
        };
        accept(&msg, &expected).map(|_| ())
    };
    let lower = ours.to_ascii_lowercase();
    let mut other_type = ours.clone();
    other_type[8] = 28;
    assert_eq!(judge(ID, &ours, true), Ok(()));
    assert_eq!(judge(ID, &lower, false), Ok(()));
    assert_eq!(judge(ID, &lower, true), mismatch(Mismatch::Case));
    assert_eq!(judge(1, &lower, true), mismatch(Mismatch::Id));
    assert_eq!(judge(ID, &other_type, false), mismatch(Mismatch::Question));
    assert_eq!(
        judge(ID, b"\x03wwx\x01t\0\0\x01\0\x01", false),
        mismatch(Mismatch::Question)
    );
    assert_eq!(judge(ID, b"", false), mismatch(Mismatch::Question));
    // Types 0x41 and 0x61 differ by what would be a letter's case.
    let msg = Msg::response(0, "t", 0x61).bytes;
    let ours = Msg::query("t", 0x41).bytes[12..].to_vec();
    let expected = Expected {
        id: ID,
        question: &ours,
        check_case: false,
        encrypted: false,
    };
    assert_eq!(accept(&msg, &expected).map(|_| ()), mismatch(Mismatch::Question));
}

#[test]
fn one_slip_makes_garbage() {
    let answer = || Msg::response(0, "a.t", rtype::A);
    let opt = |msg: Msg, section| msg.record_of(section, &[0], (41, 1232), 0, &[]);
    let cases = [
        ("short", Msg { bytes: vec![0x12; 11] }, Garbage::Size),
        ("long", answer().raw(&[0; 65_535]), Garbage::Size),
        ("a query", Msg::query("a.t", 1), Garbage::Header),
        (
            "opcode",
            Msg::new(RESPONSE | 0x0800).question(&wire("a.t"), 1, 1),
            Garbage::Header,
        ),
        ("no question", Msg::new(RESPONSE), Garbage::Question),
        ("no question, NXDOMAIN", Msg::new(RESPONSE | 3), Garbage::Question),
        (
            "two questions",
            answer().question(&wire("a.t"), 1, 1),
            Garbage::Question,
        ),
        (
            "broken question",
            Msg::new(RESPONSE).question(Q, 1, 1),
            Garbage::Question,
        ),
        (
            "missing record",
            answer().record(1, Q, 1, 0, A).count(1),
            Garbage::Record,
        ),
        (
            "rdata past the end",
            answer().count(1).raw(b"\xC0\x0C\0\x01\0\x01\0\0\0\0\0\x05abcd"),
            Garbage::Record,
        ),
        (
            "forward owner",
            answer().record(1, &[0xC0, 0x40], 1, 0, A),
            Garbage::Record,
        ),
        (
            "looping owner",
            answer().record(1, &[0xC0, 21], 1, 0, A),
            Garbage::Record,
        ),
        ("two OPT", opt(opt(answer(), 3), 3), Garbage::Opt),
        ("OPT in answer", opt(answer(), 1), Garbage::Opt),
        ("OPT in authority", opt(answer(), 2), Garbage::Opt),
        ("owned OPT", answer().record_of(3, Q, (41, 1232), 0, &[]), Garbage::Opt),
    ];
    for (what, msg, slip) in cases {
        assert_eq!(msg.accept().map(|_| ()), garbage(slip), "{what}");
    }
    let many = |count| {
        (0..count)
            .fold(answer(), |msg, _| msg.record(1, Q, 1, 0, A))
            .accept()
            .map(|_| ())
    };
    assert_eq!(many(2_000), Ok(()));
    assert_eq!(many(2_001), garbage(Garbage::RecordCount));
}

#[test]
fn a_name_never_leads_through_what_replies_overwrite() {
    // A TTL that is a name: the first record's stands at 27.
    let ttl = u32::from_be_bytes(*b"\x01x\0\0");
    let judge = |second: &[u8], rtype: u16, rdata: &[u8]| {
        let msg = Msg::response(0, "a.t", 1).record(1, Q, 1, ttl, A);
        let msg = msg.record(1, second, rtype, 60, rdata);
        msg.accept().map(|_| ())
    };
    assert_eq!(judge(Q, 1, A), Ok(()));
    assert_eq!(judge(&[0xC0, 27], 1, A), garbage(Garbage::Record), "its beginning");
    assert_eq!(judge(&[0xC0, 29], 1, A), garbage(Garbage::Record), "its end");
    assert_eq!(judge(Q, rtype::NS, &[0xC0, 29]), garbage(Garbage::Record), "in rdata");
    assert_eq!(
        judge(Q, rtype::NS, &[0xC0, 27 + 16]),
        garbage(Garbage::Record),
        "its own"
    );
    // Its rdata is as good a place as any: the address is 192.0.2.1.
    assert_eq!(judge(&[0xC0, 34], 1, A), Ok(()), "behind it");

    // The second half of a pointer can be a letter of the question, whose case is the client's.
    let name = b"\x03\xC0\x0Ca\x01t\0";
    let msg = |at: u8| {
        let msg = Msg::new(RESPONSE).question(name, 1, 1);
        msg.record(1, &[0xC0, at], 1, 60, A).accept().map(|_| ())
    };
    assert_eq!(msg(12), Ok(()));
    assert_eq!(msg(13), garbage(Garbage::Record));
}

#[test]
fn names_in_old_rdata_are_walked_and_bounded() {
    let name = b"\x01x\xC0\x0C";
    let with = |before: &[u8], names: usize, after: &[u8]| [before, &name.repeat(names), after].concat();
    for (rtype, sound) in [
        (rtype::NS, with(b"", 1, b"")),
        (rtype::MD, with(b"", 1, b"")),
        (rtype::MF, with(b"", 1, b"")),
        (rtype::CNAME, with(b"", 1, b"")),
        (rtype::SOA, with(b"", 2, &[0; 20])),
        (rtype::MB, with(b"", 1, b"")),
        (rtype::MG, with(b"", 1, b"")),
        (rtype::MR, with(b"", 1, b"")),
        (rtype::PTR, with(b"", 1, b"")),
        (rtype::MINFO, with(b"", 2, b"")),
        (rtype::MX, with(&[0; 2], 1, b"")),
        (rtype::RP, with(b"", 2, b"")),
        (rtype::AFSDB, with(&[0; 2], 1, b"")),
        (rtype::RT, with(&[0; 2], 1, b"")),
        (rtype::SIG, with(&[1; 18], 1, b"signature")),
        (rtype::PX, with(&[0; 2], 2, b"")),
        (rtype::NXT, with(b"", 1, b"bits")),
        (rtype::SRV, with(&[0; 6], 1, b"")),
        (rtype::NAPTR, with(b"\0\0\0\0\x01a\0\x02bc", 1, b"")),
        (rtype::KX, with(&[0; 2], 1, b"")),
        (rtype::DNAME, with(b"", 1, b"")),
    ] {
        let judge = |rdata: &[u8]| {
            // Another record follows, so that a name may not be finished from it.
            Msg::response(0, "a.t", rtype)
                .record(1, Q, rtype, 60, rdata)
                .record(1, Q, rtype::TXT, 60, &[0; 40])
                .accept()
                .map(|accepted| accepted.answer.kind())
        };
        assert_eq!(judge(&sound), Ok(Kind::Positive), "type {rtype}");
        let is_open = matches!(rtype, rtype::SIG | rtype::NXT);
        for cut in 0..sound.len() {
            let is_whole_name = is_open && cut >= sound.len() - if rtype == rtype::SIG { 9 } else { 4 };
            assert_eq!(judge(&sound[..cut]).is_ok(), is_whole_name, "type {rtype} cut at {cut}");
        }
        let longer = [&sound[..], b"x"].concat();
        assert_eq!(judge(&longer).is_ok(), is_open, "type {rtype} with one octet more");
        let pointer = sound.windows(2).position(|pair| pair == Q).unwrap();
        let mut forward = sound.clone();
        forward[pointer] = 0xFF;
        assert!(judge(&forward).is_err(), "type {rtype} with a forward pointer");
    }
    // Unknown types, and old ones that never held names, may hold anything.
    for rtype in [0, rtype::A, rtype::TXT, rtype::RRSIG, 65_280] {
        let msg = Msg::response(0, "a.t", rtype).record(1, Q, rtype, 60, b"\xC0\xFF");
        assert!(msg.accept().is_ok());
        assert!(
            Msg::response(0, "a.t", rtype)
                .record(1, Q, rtype, 60, b"")
                .accept()
                .is_ok()
        );
    }
}

#[test]
fn an_answer_is_positive_if_its_chain_ends_in_the_type() {
    let no_soa = Kind::Denial { soa: false };
    let t = wire("t");
    let dname = |msg: Msg| msg.record(1, &t, rtype::DNAME, 9, &wire("u"));
    for (what, msg, kind) in [
        (
            "address",
            Msg::response(0, "a.t", 1).record(1, Q, 1, 5, A),
            Kind::Positive,
        ),
        (
            "alias asked for",
            Msg::response(0, "a.t", 5).record(1, Q, 5, 5, &t),
            Kind::Positive,
        ),
        (
            "any",
            Msg::response(0, "a.t", 255).record(1, Q, 13, 5, b""),
            Kind::Positive,
        ),
        ("any, nothing", Msg::response(0, "a.t", 255), no_soa),
        (
            "other class",
            Msg::response(0, "a.t", 1).record_of(1, Q, (1, 3), 5, A),
            no_soa,
        ),
        (
            "DNAME chain",
            dname(Msg::response(0, "a.t", 1))
                .record(1, Q, 5, 5, &wire("a.u"))
                .record(1, &wire("a.u"), 1, 5, A),
            Kind::Positive,
        ),
        (
            "chain in any order",
            Msg::response(0, "a.t", 1)
                .record(1, &wire("a.u"), 1, 5, A)
                .record(1, Q, 5, 5, &wire("A.u")),
            Kind::Positive,
        ),
        (
            "another name's address",
            Msg::response(0, "a.t", 1).record(1, &wire("bank.t"), 1, 5, A),
            no_soa,
        ),
        (
            "alias loop",
            Msg::response(0, "a.t", 1)
                .record(1, Q, 5, 5, &wire("b.t"))
                .record(1, &wire("b.t"), 5, 5, &wire("a.t")),
            no_soa,
        ),
    ] {
        assert_eq!(msg.accept().unwrap().answer.kind(), kind, "{what}");
    }
}

#[test]
fn denials_need_their_soa() {
    let soa = Kind::Denial { soa: true };
    let no_soa = Kind::Denial { soa: false };
    let t = wire("t");
    for (what, msg, kind) in [
        (
            "alias to nothing",
            Msg::response(0, "a.t", 1).record(1, Q, 5, 5, &t).soa(&t, 9, 9),
            soa,
        ),
        ("alias alone", Msg::response(0, "a.t", 1).record(1, Q, 5, 5, &t), no_soa),
        ("no data", Msg::response(0, "a.t", 1).soa(&t, 9, 9), soa),
        ("empty", Msg::response(0, "a.t", 1), no_soa),
        (
            "referral",
            Msg::response(0, "a.t", 1).record(2, &t, 2, 5, &wire("ns.t")),
            no_soa,
        ),
        ("NXDOMAIN", Msg::response(3, "a.t", 1).soa(&t, 9, 9), soa),
        ("NXDOMAIN bare", Msg::response(3, "a.t", 1), no_soa),
        (
            "address in additional",
            Msg::response(0, "a.t", 1).record(3, Q, 1, 5, A),
            no_soa,
        ),
    ] {
        assert_eq!(msg.accept().unwrap().answer.kind(), kind, "{what}");
    }
}

#[test]
fn failures_and_truncation_are_kinds_of_their_own() {
    for (what, msg, kind) in [
        ("SERVFAIL", Msg::response(2, "a.t", 1), Kind::Failure),
        (
            "YXDOMAIN",
            Msg::response(6, "a.t", 1).record(1, Q, 1, 5, A),
            Kind::Failure,
        ),
        ("BADCOOKIE", Msg::response(7, "a.t", 1).opt(1 << 24, &[]), Kind::Failure),
        (
            "truncated",
            Msg::new(RESPONSE | 0x200).question(&wire("a.t"), 1, 1),
            Kind::Truncated,
        ),
    ] {
        assert_eq!(msg.accept().unwrap().answer.kind(), kind, "{what}");
    }
    let badcookie = Msg::response(7, "a.t", 1).opt(1 << 24, &[]).accept().unwrap();
    assert_eq!(badcookie.answer.rcode(), 23);
}

#[test]
fn errors_without_a_question_get_ours() {
    let question = &Msg::query("a.t", 1).bytes[12..];
    for (rcode, class) in [
        (1, Reply::NoEdns),
        (2, Reply::Failed(Rcode(2))),
        (4, Reply::NoEdns),
        (5, Reply::Failed(Rcode(5))),
    ] {
        let msg = Msg::new(RESPONSE | rcode).opt(0, &[]);
        let expected = Expected {
            id: ID,
            question,
            check_case: true,
            encrypted: false,
        };
        // Over UDP a forger need not guess a question that is not compared.
        if matches!(rcode, 2 | 5) {
            assert_eq!(accept(&msg.bytes, &expected).map(|_| ()), mismatch(Mismatch::Question));
        }
        let expected = Expected {
            check_case: matches!(rcode, 1 | 4),
            ..expected
        };
        let accepted = accept(&msg.bytes, &expected).unwrap();
        assert_eq!(accepted.answer.question(), question);
        assert_eq!(accepted.answer.wire().len(), 12 + question.len());
        assert_eq!(classify(&accepted, true), class);
        let wrong_id = Expected { id: 1, ..expected };
        assert_eq!(accept(&msg.bytes, &wrong_id).map(|_| ()), mismatch(Mismatch::Id));
    }
}

#[test]
fn truncated_answers_keep_nothing_even_when_cut_in_a_record() {
    let mut msg = usual();
    msg.bytes[2] |= 2;
    for len in 23..msg.bytes.len() {
        let accepted = accept_as_sent(&msg.bytes[..len]).unwrap();
        assert_eq!(classify(&accepted, true), Reply::Truncated);
        assert_eq!((accepted.answer.wire().len(), accepted.answer.ttl_s()), (23, None));
    }
}

#[test]
fn outcomes_are_classified() {
    let with_ede = |rcode: u16, code: u16| Msg::response(rcode, "a.t", 1).opt(0, &ede_option(code));
    for (what, msg, edns_sent, class) in [
        ("positive", usual(), true, Reply::Positive),
        (
            "denial",
            Msg::response(3, "a.t", 1).soa(&wire("t"), 9, 9),
            true,
            Reply::Denial { soa: true },
        ),
        (
            "bare denial",
            Msg::response(3, "a.t", 1),
            true,
            Reply::Denial { soa: false },
        ),
        ("forged", with_ede(0, 4), true, Reply::Filtered),
        ("blocked", with_ede(3, 15), true, Reply::Filtered),
        ("censored", with_ede(5, 16), true, Reply::Filtered),
        ("prohibited", with_ede(2, 18), true, Reply::Filtered),
        ("stale", with_ede(2, 19), true, Reply::Failed(Rcode(2))),
        ("bogus", with_ede(2, 6), true, Reply::Bogus),
        ("unsupported algorithm", with_ede(2, 1), true, Reply::Bogus),
        ("NSEC missing", with_ede(2, 12), true, Reply::Bogus),
        ("bogus but REFUSED", with_ede(5, 6), true, Reply::Failed(Rcode(5))),
        ("unreachable", with_ede(2, 22), true, Reply::Failed(Rcode(2))),
        ("FORMERR", Msg::response(1, "a.t", 1), true, Reply::NoEdns),
        (
            "FORMERR without EDNS",
            Msg::response(1, "a.t", 1),
            false,
            Reply::Failed(Rcode(1)),
        ),
        ("NOTIMP", Msg::response(4, "a.t", 1), true, Reply::NoEdns),
        (
            "BADVERS",
            Msg::response(0, "a.t", 1).opt(1 << 24, &[]),
            true,
            Reply::NoEdns,
        ),
    ] {
        assert_eq!(classify(&msg.accept().unwrap(), edns_sent), class, "{what}");
    }
    let many: Vec<u8> = (20..30).flat_map(ede_option).chain([0, 15, 0, 9]).collect();
    let accepted = Msg::response(2, "a.t", 1).opt(0, &many).accept().unwrap();
    assert_eq!(accepted.edes.iter().collect::<Vec<_>>(), [20, 21, 22, 23]);
}

#[test]
fn ttls_are_sane_capped_and_one_per_rrset() {
    let rrsig = |covered: u16| [&covered.to_be_bytes()[..], &[0; 18]].concat();
    let msg = Msg::response(0, "a.t", 1)
        .record(1, Q, 1, 300, A)
        .record(1, &wire("A.T"), 1, 200, A)
        .record(1, Q, rtype::RRSIG, 300, &rrsig(1))
        .record(1, Q, rtype::RRSIG, 250, &rrsig(28))
        .record(2, &wire("t"), 2, u32::MAX, &wire("x"))
        .record(2, &wire("t"), rtype::TXT, 0x7FFF_FFFF, b"\0")
        .record(3, Q, 1, 100, A)
        .record_of(3, Q, (1, class::CH), 400, A);
    let ttls = |msg: &Msg| -> Vec<u32> {
        msg.accept()
            .unwrap()
            .answer
            .records()
            .map(|record| record.ttl)
            .collect()
    };
    assert_eq!(ttls(&msg), [100, 100, 300, 250, 0, 604_800, 100, 400]);
    assert_eq!(msg.accept().unwrap().answer.ttl_s(), Some(0));

    let denial = |soa_ttl, minimum| {
        Msg::response(3, "a.t", 1)
            .record(1, Q, rtype::CNAME, 70_000, &wire("b.t"))
            .soa(&wire("t"), soa_ttl, minimum)
            .record(2, &wire("t"), rtype::RRSIG, 86_400, &rrsig(6))
    };
    assert_eq!(ttls(&denial(86_400, 60)), [60, 60, 60]);
    assert_eq!(ttls(&denial(30, 60)), [30, 30, 30]);
    assert_eq!(ttls(&denial(86_400, 86_400)), [3_600, 3_600, 3_600]);
    assert_eq!(denial(86_400, u32::MAX).accept().unwrap().answer.ttl_s(), Some(0));
    let short_alias = Msg::response(0, "a.t", 1)
        .record(1, Q, 5, 7, &wire("b.t"))
        .soa(&wire("t"), 90, 90);
    assert_eq!(short_alias.accept().unwrap().answer.ttl_s(), Some(7));
    assert_eq!(Msg::response(0, "a.t", 1).accept().unwrap().answer.ttl_s(), None);
    assert_eq!(
        Msg::response(2, "a.t", 1)
            .soa(&wire("t"), 9, 9)
            .accept()
            .unwrap()
            .answer
            .ttl_s(),
        None
    );
}

#[test]
fn what_speaks_of_the_exchange_is_cut_with_all_behind_it() {
    let base = || Msg::response(0, "a.t", 1).record(1, Q, 1, 60, A).record(3, Q, 1, 60, A);
    let kept = base().bytes;
    let opt_in_the_middle = base().opt(0, &[]).record(3, Q, 1, 5, A);
    let tsig = base().record_of(3, &wire("key"), (rtype::TSIG, 255), 0, &[0; 16]);
    let sig0 = base().record_of(3, &[0], (rtype::SIG, 255), 0, &[&[0; 18][..], &wire("key")].concat());
    for msg in [opt_in_the_middle, tsig, sig0, base().raw(b"trailing bytes")] {
        let answer = msg.accept().unwrap().answer;
        assert_eq!(answer.wire()[4..], kept[4..]);
        assert_eq!(answer.ttl_s(), Some(60));
    }
    // Behind OPT the rules still hold.
    assert!(base().opt(0, &[]).record(3, Q, rtype::NS, 5, b"\xC0").accept().is_err());
}

#[test]
fn ad_counts_over_an_encrypted_path_only() {
    let mut msg = usual().bytes;
    msg[3] |= 0x20;
    msg[2] |= 0x04;
    for encrypted in [true, false] {
        let expected = Expected {
            id: ID,
            question: &msg[12..23],
            check_case: true,
            encrypted,
        };
        let answer = accept(&msg, &expected).unwrap().answer;
        assert_eq!(answer.is_authentic(), encrypted);
        // AA, RD and RA are not kept.
        assert_eq!(answer.wire()[2], 0x80);
    }
}

#[test]
fn cut_and_bent_answers_never_panic() {
    let msg = usual().bytes;
    for len in 0..msg.len() {
        assert!(accept_as_sent(&msg[..len]).is_err(), "cut at {len}");
    }
    for at in 0..msg.len() {
        for octet in 0..=255 {
            let mut bent = msg.clone();
            bent[at] = octet;
            if let Ok(accepted) = accept_as_sent(&bent) {
                assert_eq!(
                    AnswerRef::from(&accepted.answer).ttl_offsets().count(),
                    accepted.answer.records().count()
                );
            }
        }
    }
}

#[test]
fn our_queries_carry_what_was_asked_and_nothing_else() {
    let name: NameBuf = "www.Example-1.com".parse().unwrap();
    let query = QueryOut {
        id: 7,
        name: &name,
        qtype: rtype::AAAA,
        qclass: class::IN,
        ad: true,
        cd: true,
        case_bits: None,
        edns: Some(EdnsOut {
            udp_size: 1232,
            do_bit: true,
            is_padded: false,
            asks_keepalive: false,
            cookie: None,
        }),
    };
    let mut out = vec![9, 9];
    let question = build_query(&mut out, &query);
    let sent = b"\x03www\x09example-1\x03com\0\0\x1C\0\x01";
    assert_eq!(&out[question], sent);
    let opt = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    let expected = [&[9, 9, 0, 7, 1, 0x30, 0, 1, 0, 0, 0, 0, 0, 1][..], sent, &opt].concat();
    assert_eq!(out, expected);

    let mut out = Vec::new();
    let bare = QueryOut {
        ad: false,
        cd: false,
        case_bits: Some([0xFF; 32]),
        edns: None,
        ..query
    };
    let question = build_query(&mut out, &bare);
    assert_eq!(&out[question.clone()], b"\x03WWW\x09EXAMPLE-1\x03COM\0\0\x1C\0\x01");
    assert_eq!(question.end, out.len());
    assert_eq!(out[..12], [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let Parsed::Query(read) = parse(&out) else {
        panic!("our own query is one");
    };
    assert_eq!(read.name, name);
    let mut mixed = Vec::new();
    let case_bits = Some([0b1010_1010; 32]);
    let question = build_query(&mut mixed, &QueryOut { case_bits, ..bare });
    assert_eq!(&mixed[question], b"\x03WwW\x09ExAmPlE-1\x03CoM\0\0\x1C\0\x01");
}

#[test]
fn keepalive_is_asked_for_with_an_empty_option_and_read_as_a_number() {
    // RFC 7828 sections 3.1 and 3.2.1.
    let name: NameBuf = "example".parse().unwrap();
    let edns = EdnsOut {
        udp_size: 1232,
        do_bit: false,
        is_padded: false,
        asks_keepalive: true,
        cookie: None,
    };
    let query = QueryOut {
        id: 7,
        name: &name,
        qtype: rtype::A,
        qclass: class::IN,
        ad: false,
        cd: false,
        case_bits: None,
        edns: Some(edns),
    };
    let mut out = Vec::new();
    let question = build_query(&mut out, &query);
    assert_eq!(out[out.len() - 6..], [0, 4, 0, 11, 0, 0]);
    let expected = Expected {
        id: 7,
        question: &out[question.clone()],
        check_case: false,
        encrypted: true,
    };
    let answer = |option: &[u8]| {
        let head = [&[0, 7, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 1][..], &out[question.clone()]].concat();
        let length = u8::try_from(option.len()).unwrap();
        let opt = [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, length][..], option].concat();
        accept(&[head, opt].concat(), &expected).unwrap().keepalive
    };
    assert_eq!(answer(&[0, 11, 0, 2, 1, 44]), Some(300));
    assert_eq!(answer(&[0, 11, 0, 2, 0, 0]), Some(0));
    assert_eq!(answer(&[0, 11, 0, 0]), None);
    assert_eq!(answer(&[0, 11, 0, 1, 5]), None);
    assert_eq!(answer(&[]), None);
}

#[test]
fn encrypted_queries_are_padded_to_128_whatever_else_they_carry() {
    // RFC 8467 section 4.1; of what is sent in the clear, nothing.
    let cookie = Cookie::of_client([1; 8]);
    for length in 1..60 {
        let name: NameBuf = format!("{}.example", "x".repeat(length)).parse().unwrap();
        for (is_padded, cookie) in [(true, None), (true, Some(cookie)), (false, None), (false, Some(cookie))] {
            let edns = EdnsOut {
                udp_size: 1232,
                do_bit: false,
                is_padded,
                asks_keepalive: false,
                cookie,
            };
            let query = QueryOut {
                id: 0,
                name: &name,
                qtype: rtype::A,
                qclass: class::IN,
                ad: true,
                cd: false,
                case_bits: None,
                edns: Some(edns),
            };
            let mut out = Vec::new();
            build_query(&mut out, &query);
            let bare = 12 + length + 10 + 4 + 11 + cookie.map_or(0, |_| 12);
            assert_eq!(out.len() % 128 == 0, is_padded || bare % 128 == 0);
            assert_eq!(out.len() == bare, !is_padded);
            // A server reads it.
            let Parsed::Query(read) = parse(&out) else {
                panic!("our own query is one");
            };
            assert!(read.echo.edns.is_some());
        }
    }
}

#[test]
fn of_a_providers_extended_errors_the_first_is_kept_short_and_clean() {
    let told = |options: &[u8]| {
        let accepted = Msg::response(2, "a.t", 1).opt(0, options).accept().unwrap();
        accepted.answer.ede().map(|ede| (ede.code, ede.text.to_owned()))
    };
    let ede = |code: u16, text: &[u8]| option(15, &[&code.to_be_bytes(), text].concat());
    assert_eq!(told(&[]), None);
    assert_eq!(told(&option(15, &[0])), None, "half a code");
    assert_eq!(told(&ede(9, b"")), Some((9, String::new())));
    let two = [option(3, b"nsid"), ede(9, b"no SEP matching the DS"), ede(22, b"other")].concat();
    assert_eq!(told(&two), Some((9, "no SEP matching the DS".to_owned())));
    assert_eq!(
        told(&ede(15, b"a\0b\r\n\x1b[31mc\x7f\xc2\x85d")),
        Some((15, "ab[31mcd".to_owned()))
    );
    assert_eq!(
        told(&ede(15, "x\u{202e}y\u{2066}z".as_bytes())),
        Some((15, "xyz".to_owned()))
    );
    // Up to what is no UTF-8, and no half letter at the end.
    assert_eq!(told(&ede(15, b"sound\xff\xfeunsound")), Some((15, "sound".to_owned())));
    assert_eq!(told(&ede(15, "ä".repeat(200).as_bytes())), Some((15, "ä".repeat(32))));
    assert_eq!(
        told(&ede(15, format!("x{}", "ä".repeat(200)).as_bytes())),
        Some((15, format!("x{}", "ä".repeat(31))))
    );
    // The packet is the same with and without.
    let answer = Msg::response(2, "a.t", 1).opt(0, &two).accept().unwrap().answer;
    assert_eq!(
        answer.wire(),
        Msg::response(2, "a.t", 1).accept().unwrap().answer.wire()
    );
}
