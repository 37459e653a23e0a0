//! Replies: what is patched, what goes when room is short, and that others can read them.

use super::super::answer::{Answer, AnswerRef};
use super::super::code::{class, rcode, rtype};
use super::super::edns::Ede;
use super::super::query::{Echo, Via};
use super::super::reply::{Freshness, reply_limit, write, write_error, write_hinfo_any, write_txt};
use super::{ID, Msg, Q, query_of, wire};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

const A: &[u8] = &[192, 0, 2, 1];
const FRESH: Freshness = Freshness::Fresh { age_s: 0 };
const STALE_EDE: Ede<'_> = Ede {
    code: 3,
    text: "provider down",
};

fn answer() -> Answer {
    Msg::response(0, "www.t", rtype::MX)
        .record(1, Q, rtype::MX, 300, b"\0\x05\x04mail\xC0\x10")
        .record(2, &wire("t"), rtype::NS, 900, b"\x02ns\xC0\x10")
        .record(3, &wire("mail.t"), rtype::A, 60, A)
        .accept()
        .unwrap()
        .answer
}

fn echo(msg: &Msg) -> Echo {
    query_of(&msg.bytes).echo
}

fn with_opt(ttl: u32) -> Echo {
    echo(&Msg::query("WWW.t", rtype::MX).opt(ttl, &[]))
}

fn without_opt() -> Echo {
    echo(&Msg::query("WWW.t", rtype::MX))
}

fn written(answer: &Answer, echo: &Echo, freshness: Freshness, edes: &[Ede<'_>], limit: usize) -> Vec<u8> {
    let mut out = b"??".to_vec();
    write(answer, echo, freshness, edes, limit, &mut out);
    assert_eq!(&out[..2], b"??");
    out.split_off(2)
}

#[test]
fn id_flags_case_and_ttls_are_patched() {
    let answer = answer();
    let reply = written(
        &answer,
        &without_opt(),
        Freshness::Fresh { age_s: 100 },
        &[STALE_EDE],
        512,
    );
    assert_eq!(reply.len(), answer.wire().len());
    assert_eq!(reply[..4], [0x12, 0x34, 0x81, 0x80]);
    let decoded = Message::from_vec(&reply).unwrap();
    assert_eq!(decoded.metadata.id, ID);
    assert!(decoded.edns.is_none());
    assert_eq!(decoded.queries[0].name().to_string(), "WWW.t.");
    assert_eq!(decoded.answers[0].name.to_string(), "WWW.t.");
    let ttls = [
        decoded.answers[0].ttl,
        decoded.authorities[0].ttl,
        decoded.additionals[0].ttl,
    ];
    assert_eq!(ttls, [200, 800, 0]);
    let RData::MX(mx) = &decoded.answers[0].data else {
        panic!("an MX record");
    };
    assert_eq!(mx.exchange.to_string(), "mail.t.");

    let reply = written(
        &answer,
        &with_opt(0x8000),
        Freshness::Stale { ttl_s: 30 },
        &[STALE_EDE],
        1232,
    );
    let decoded = Message::from_vec(&reply).unwrap();
    assert!(
        decoded
            .answers
            .iter()
            .chain(&decoded.authorities)
            .all(|record| record.ttl == 30)
    );
    let edns = decoded.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!((edns.max_payload(), edns.version()), (1232, 0));
    assert!(reply.ends_with(b"\0\x0F\0\x0F\0\x03provider down"));
}

#[test]
fn rd_cd_and_ad_follow_the_client() {
    let mut msg = Msg::response(0, "www.t", 1).record(1, Q, 1, 60, A);
    msg.bytes[3] |= 0x20;
    let answer = msg.accept().unwrap().answer;
    for (flags, opt, reply_flags) in [
        (0x0000, None, 0x8080),
        (0x0100, None, 0x8180),
        (0x0010, None, 0x8090),
        (0x0020, None, 0x80A0),
        (0x0000, Some(0), 0x8080),
        (0x0000, Some(0x8000), 0x80A0),
        (0x06CF, None, 0x8080),
    ] {
        let msg = Msg::new(flags).question(&wire("www.t"), 1, class::IN);
        let msg = match opt {
            Some(ttl) => msg.opt(ttl, &[]),
            None => msg,
        };
        let reply = written(&answer, &echo(&msg), FRESH, &[], 512);
        assert_eq!(reply[2..4], u16::to_be_bytes(reply_flags), "{flags:#06x} {opt:?}");
    }
}

#[test]
fn limits_follow_client_and_transport() {
    let sized = |size| echo(&Msg::query("t", 1).record_of(3, &[0], (41, size), 0, &[]));
    assert_eq!(reply_limit(&without_opt(), Via::Udp), 512);
    assert_eq!(reply_limit(&sized(100), Via::Udp), 512);
    assert_eq!(reply_limit(&sized(900), Via::Udp), 900);
    assert_eq!(reply_limit(&sized(4096), Via::Udp), 1232);
    assert_eq!(reply_limit(&without_opt(), Via::Tcp), 65_535);
}

#[test]
fn errors_go_first_then_additional_records_then_all() {
    let answer = answer();
    let whole = answer.wire().len();
    let cut = usize::from(AnswerRef::from(&answer).shape().additional_at);
    let question_end = usize::from(AnswerRef::from(&answer).shape().question_end);
    let shape = |limit: usize, echo: &Echo| {
        let reply = written(&answer, echo, FRESH, &[STALE_EDE], limit);
        assert!(reply.len() <= limit.max(question_end + 11), "limit {limit}");
        let decoded = Message::from_vec(&reply).unwrap();
        assert_eq!(decoded.edns.is_some(), echo.edns.is_some());
        let options = reply
            .len()
            .saturating_sub(match (decoded.answers.len(), decoded.additionals.len()) {
                (0, _) => question_end + 11,
                (_, 0) => cut + 11,
                _ => whole + 11,
            });
        (
            decoded.answers.len(),
            decoded.authorities.len(),
            decoded.additionals.len(),
            options,
            decoded.metadata.truncation,
        )
    };
    let opt = with_opt(0);
    assert_eq!(shape(whole + 11 + 19, &opt), (1, 1, 1, 19, false));
    assert_eq!(shape(whole + 11 + 18, &opt), (1, 1, 1, 6, false));
    assert_eq!(shape(whole + 11 + 6, &opt), (1, 1, 1, 6, false));
    assert_eq!(shape(whole + 11 + 5, &opt), (1, 1, 1, 0, false));
    assert_eq!(shape(whole + 11, &opt), (1, 1, 1, 0, false));
    // The text fits where the additional record was.
    assert_eq!(shape(whole + 10, &opt), (1, 1, 0, 19, false));
    assert_eq!(shape(cut + 11, &opt), (1, 1, 0, 0, false));
    assert_eq!(shape(cut + 10, &opt), (0, 0, 0, 19, true));
    assert_eq!(shape(0, &opt), (0, 0, 0, 0, true));
    let bare = without_opt();
    assert_eq!(shape(whole, &bare), (1, 1, 1, 0, false));
    assert_eq!(shape(whole - 1, &bare), (1, 1, 0, 0, false));
    assert_eq!(shape(cut - 1, &bare), (0, 0, 0, 0, true));
}

#[test]
fn tc_of_the_provider_and_extended_rcodes_survive_where_they_can() {
    let truncated = Msg::new(0x8380)
        .question(&wire("www.t"), rtype::MX, 1)
        .accept()
        .unwrap()
        .answer;
    let reply = written(&truncated, &without_opt(), FRESH, &[], 512);
    assert_eq!(reply[2] & 2, 2);
    let code = |low: u16, echo: &Echo| {
        let odd = Msg::response(low, "www.t", rtype::MX).opt(1 << 24, &[]);
        let reply = written(&odd.accept().unwrap().answer, echo, FRESH, &[], 512);
        Message::from_vec(&reply).unwrap().metadata.response_code
    };
    assert_eq!(code(1, &with_opt(0)), ResponseCode::BADKEY);
    assert_eq!(code(1, &without_opt()), ResponseCode::ServFail);
    // What is between us and the provider is no matter of the client's.
    for low in [0, 7] {
        assert_eq!(code(low, &with_opt(0)), ResponseCode::ServFail);
    }
}

#[test]
fn errors_of_our_own_are_readable() {
    let mut out = Vec::new();
    let edes = [
        Ede {
            code: 22,
            text: "no provider answered",
        },
        Ede { code: 23, text: "" },
    ];
    write_error(&with_opt(0x8000), rcode::SERVFAIL, &edes, &mut out);
    let decoded = Message::from_vec(&out).unwrap();
    assert_eq!(decoded.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(decoded.queries[0].name().to_string(), "WWW.t.");
    assert!(decoded.metadata.recursion_available && decoded.metadata.recursion_desired);
    assert!(out.ends_with(b"\0\x0F\0\x16\0\x16no provider answered\0\x0F\0\x02\0\x17"));
    out.clear();
    write_error(&without_opt(), rcode::REFUSED, &edes, &mut out);
    assert_eq!(out.len(), 12 + 11);
}

#[test]
fn local_answers_are_readable() {
    let any = echo(&Msg::query("WWW.t", rtype::ANY).opt(0, &[]));
    let mut out = Vec::new();
    write_hinfo_any(&any, &mut out);
    let decoded = Message::from_vec(&out).unwrap();
    let record = &decoded.answers[0];
    assert_eq!(
        (record.record_type(), record.name.to_string().as_str()),
        (RecordType::HINFO, "WWW.t.")
    );
    assert!(decoded.edns.is_some());
    assert!(out.len() < 70);

    let chaos = echo(&Msg::new(0).question(&wire("version.bind"), rtype::TXT, class::CH));
    for (text, kept) in [("detour 0.1.0", 12), ("", 0), (&*"x".repeat(300), 255)] {
        out.clear();
        write_txt(&chaos, text, &mut out);
        let decoded = Message::from_vec(&out).unwrap();
        let RData::TXT(txt) = &decoded.answers[0].data else {
            panic!("a TXT record");
        };
        assert_eq!(txt.txt_data[0].len(), kept);
        assert_eq!(u16::from(decoded.answers[0].dns_class), class::CH);
    }
}
