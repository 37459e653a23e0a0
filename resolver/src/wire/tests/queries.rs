//! Queries of clients: one row per rule, then every message cut and bent.

use super::super::code::{class, rcode, rtype};
use super::super::policy::{Policy, policy};
use super::super::query::{Parsed, Reject, Via, parse};
use super::super::reply::write_error;
use super::{ID, Msg, Q, ede_option, option, plain_query, query_of, wire};

/// The rejection a message must be.
fn reject_of(msg: &Msg) -> Reject {
    match msg.parse() {
        Parsed::Reject(reject) => reject,
        other @ (Parsed::Silence | Parsed::Query(_)) => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn a_query_is_read_whole() {
    let msg = Msg::new(0x0130)
        .question(&wire("WwW.Example.com"), rtype::HTTPS, class::IN)
        .opt(0x8000, &option(11, &[]));
    let query = query_of(&msg.bytes);
    assert_eq!(query.name.to_string(), "www.example.com.");
    assert_eq!(
        (query.qtype, query.qclass, query.signed),
        (rtype::HTTPS, class::IN, false)
    );
    let echo = query.echo;
    assert_eq!((echo.id, echo.opcode), (ID, 0));
    assert!(echo.rd && echo.ad && echo.cd);
    assert_eq!(echo.question.as_bytes(), &msg.bytes[12..12 + 17 + 4]);
    let edns = echo.edns.unwrap();
    assert_eq!((edns.udp_size, edns.do_bit), (1232, true));
}

#[test]
fn silence_is_for_fragments_and_responses() {
    for len in 0..12 {
        assert!(matches!(parse(&vec![0; len]), Parsed::Silence), "{len}");
    }
    assert!(matches!(Msg::response(0, "a.t", 1).parse(), Parsed::Silence));
    assert!(matches!(Msg::new(0xF800).parse(), Parsed::Silence));
}

#[test]
fn unknown_flags_and_trailing_bytes_do_not_matter() {
    for flag in [0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010, 0x000F] {
        let msg = Msg::new(flag).question(&wire("a.t"), rtype::A, class::IN);
        assert!(matches!(msg.parse(), Parsed::Query(_)), "{flag:#06x}");
    }
    let msg = Msg::query("a.t", rtype::A).opt(0, &[]).raw(b"trailing");
    assert!(query_of(&msg.bytes).echo.edns.is_some());
    let msg = Msg::query("a.t", rtype::A).record(3, Q, rtype::A, 0, &[1, 2, 3, 4]);
    assert!(query_of(&msg.bytes).echo.edns.is_none());
}

#[test]
fn small_sizes_are_raised() {
    for (sent, taken) in [(0, 512), (511, 512), (512, 512), (4096, 4096)] {
        let msg = Msg::query("a.t", rtype::A).record_of(3, &[0], (rtype::OPT, sent), 0, &[]);
        assert_eq!(query_of(&msg.bytes).echo.edns.unwrap().udp_size, taken);
    }
}

#[test]
fn another_opcode_gets_a_bare_notimp() {
    for opcode in 1..=15_u16 {
        let msg = Msg::new((opcode << 11) | 0x07FF).question(&wire("a.t"), 1, 1);
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        for (msg, count, tail) in [(msg.clone(), 0, &[][..]), (msg.opt(0, &[]), 1, &opt[..])] {
            let reject = reject_of(&msg);
            assert_eq!(reject.rcode, rcode::NOTIMP);
            let mut out = Vec::new();
            write_error(&reject.echo, reject.rcode, &[], &mut out);
            let flags = 0x8000 | (opcode << 11) | rcode::NOTIMP;
            assert_eq!(out[..2], ID.to_be_bytes());
            assert_eq!(out[2..4], flags.to_be_bytes());
            assert_eq!(out[4..12], [0, 0, 0, 0, 0, 0, 0, count]);
            assert_eq!(&out[12..], tail);
        }
    }
}

#[test]
fn questions_that_cannot_be_repeated_are_formerr_without_one() {
    let two = Msg::query("a.t", 1).question(&wire("b.t"), 1, 1);
    let cases = [
        ("no question", Msg::new(0x0100), false),
        ("no question, OPT", Msg::new(0x0100).opt(0, &[]), true),
        ("two questions", two.clone(), false),
        ("two questions, OPT", two.opt(0, &[]), true),
        (
            "pointer in name",
            Msg::new(0x0100).question(b"\x01a\xC0\x0C", 1, 1).opt(0, &[]),
            false,
        ),
        ("pointer as name", Msg::new(0x0100).question(Q, 1, 1), false),
        ("label type 01", Msg::new(0x0100).question(b"\x41a\0", 1, 1), false),
        ("label type 10", Msg::new(0x0100).question(b"\x81a\0", 1, 1), false),
        ("name of 256", Msg::query(&"a.".repeat(128), 1), false),
        ("no class", Msg::new(0x0100).count(0).raw(b"\x01a\0\0\x01\0"), false),
    ];
    for (what, msg, has_opt) in cases {
        let reject = reject_of(&msg);
        assert_eq!(reject.rcode, rcode::FORMERR, "{what}");
        assert!(reject.echo.question.as_bytes().is_empty(), "{what}");
        assert_eq!(reject.echo.edns.is_some(), has_opt, "{what}");
        assert!(reject.echo.rd, "{what}");
    }
}

#[test]
fn faults_behind_the_question_are_formerr_with_it() {
    let query = || Msg::query("a.t", rtype::A);
    let a = [1, 2, 3, 4];
    let cases = [
        ("answer record", query().record(1, Q, 1, 0, &a), false),
        ("answer record, OPT", query().record(1, Q, 1, 0, &a).opt(0, &[]), true),
        ("authority record", query().record(2, Q, 1, 0, &a).opt(0, &[]), true),
        ("OPT in answer", query().record_of(1, &[0], (41, 1232), 0, &[]), false),
        (
            "OPT in authority",
            query().record_of(2, &[0], (41, 1232), 0, &[]),
            false,
        ),
        ("two OPT", query().opt(0, &[]).opt(0, &[]), true),
        ("owned OPT", query().record_of(3, &wire("a"), (41, 1232), 0, &[]), false),
        ("OPT by pointer", query().record_of(3, Q, (41, 1232), 0, &[]), false),
        ("missing record", query().opt(0, &[]).count(3), true),
        ("missing OPT", query().count(3), false),
        (
            "bad owner",
            query().opt(0, &[]).record(3, &[0xC0, 0xFF], 1, 0, &a),
            true,
        ),
        ("option past the end", query().opt(0, &[0, 100, 0, 5, 1]), true),
        ("half an option", query().opt(0, &[0, 100, 0]), true),
        ("cookie of 7", query().opt(0, &option(10, &[1; 7])), true),
        ("cookie of 15", query().opt(0, &option(10, &[1; 15])), true),
        ("cookie of 41", query().opt(0, &option(10, &[1; 41])), true),
        ("subnet of 3", query().opt(0, &option(8, &[0, 1, 0])), true),
        ("subnet family 3", query().opt(0, &option(8, &[0, 3, 0, 0])), true),
        ("subnet family 0 /8", query().opt(0, &option(8, &[0, 0, 8, 0, 1])), true),
        (
            "subnet v4 /33",
            query().opt(0, &option(8, &[0, 1, 33, 0, 1, 2, 3, 4, 5])),
            true,
        ),
        (
            "subnet too short",
            query().opt(0, &option(8, &[0, 1, 24, 0, 1, 2])),
            true,
        ),
        (
            "subnet too long",
            query().opt(0, &option(8, &[0, 1, 24, 0, 1, 2, 3, 4])),
            true,
        ),
        (
            "subnet bits behind",
            query().opt(0, &option(8, &[0, 1, 20, 0, 1, 2, 0x1F])),
            true,
        ),
        (
            "subnet scope",
            query().opt(0, &option(8, &[0, 1, 24, 8, 1, 2, 3])),
            true,
        ),
    ];
    for (what, msg, has_opt) in cases {
        let reject = reject_of(&msg);
        assert_eq!(reject.rcode, rcode::FORMERR, "{what}");
        assert_eq!(reject.echo.question.as_bytes(), &msg.bytes[12..21], "{what}");
        assert_eq!(reject.echo.edns.is_some(), has_opt, "{what}");
    }
}

#[test]
fn sound_and_unknown_options_pass() {
    for options in [
        option(10, &[1; 8]),
        option(10, &[1; 16]),
        option(10, &[1; 40]),
        option(8, &[0, 0, 0, 0]),
        option(8, &[0, 1, 0, 0]),
        option(8, &[0, 1, 20, 0, 1, 2, 0x10]),
        option(8, &[0, 1, 32, 0, 1, 2, 3, 255]),
        option(8, &[0, 2, 56, 0, 1, 2, 3, 4, 5, 6, 7]),
        option(11, &[0; 2]),
        option(12, &[7; 100]),
        option(65_001, b"x"),
        [option(3, &[]), ede_option(1)].concat(),
    ] {
        assert!(
            matches!(Msg::query("a.t", 1).opt(0, &options).parse(), Parsed::Query(_)),
            "{options:?}"
        );
    }
}

#[test]
fn later_edns_versions_get_badvers() {
    for ttl in [0x0001_0000, 0x00FF_8040] {
        // Options of another version are not judged.
        let reject = reject_of(&Msg::query("a.t", 1).opt(ttl, &[1]));
        assert_eq!(reject.rcode, rcode::BADVERS);
        let mut out = Vec::new();
        write_error(&reject.echo, reject.rcode, &[], &mut out);
        assert_eq!(out[3] & 0xF, 0);
        let do_octet = if ttl & 0x8000 != 0 { 0x80 } else { 0 };
        let opt = [0, 0, 41, 4, 208, 1, 0, do_octet, 0, 0, 0];
        assert_eq!(out[out.len() - 11..], opt);
    }
    assert_eq!(
        reject_of(&Msg::query("a.t", 1).opt(1 << 16, &[]).count(3)).rcode,
        rcode::FORMERR
    );
}

#[test]
fn signed_queries_are_seen_and_refused() {
    let tsig = Msg::query("a.t", 1).record_of(3, &wire("key"), (rtype::TSIG, 255), 0, &[0; 16]);
    let sig0 = Msg::query("a.t", 1).record_of(3, &[0], (rtype::SIG, 255), 0, &[0; 20]);
    let rrsig = Msg::query("a.t", 1).record(3, Q, rtype::SIG, 0, &[0, 1, 0, 0]);
    for (msg, signed) in [(tsig, true), (sig0, true), (rrsig, false)] {
        let query = query_of(&msg.bytes);
        assert_eq!(query.signed, signed);
        assert_eq!(policy(&query, Via::Udp) == Policy::Refuse, signed);
    }
}

#[test]
fn cut_and_bent_queries_never_panic() {
    let msg = Msg::query("www.example.com", rtype::A)
        .record(3, Q, rtype::MX, 5, b"\0\x01\xC0\x0C")
        .opt(
            0x8000,
            &[option(8, &[0, 1, 24, 0, 1, 2, 3]), option(10, &[1; 8])].concat(),
        );
    let mut out = Vec::new();
    let mut check = |bytes: &[u8]| match parse(bytes) {
        Parsed::Silence => {}
        Parsed::Reject(reject) => write_error(&reject.echo, reject.rcode, &[], &mut out),
        Parsed::Query(query) => write_error(&query.echo, rcode::SERVFAIL, &[], &mut out),
    };
    for len in 0..=msg.bytes.len() {
        check(&msg.bytes[..len]);
    }
    for at in 0..msg.bytes.len() {
        for octet in 0..=255 {
            let mut bent = msg.bytes.clone();
            bent[at] = octet;
            check(&bent);
        }
    }
    assert!(matches!(parse(&plain_query("a.t", 1, 1)), Parsed::Query(_)));
}
