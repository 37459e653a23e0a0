//! What must hold for any message of a client: the body of the fuzz target `query`, which takes this file as it is.

use detour_resolver::wire::{
    Chaos, Cookie, Ede, EdnsOut, Expected, Kind, NameBuf, Parsed, Policy, Query, QueryOut, Reject, Via, accept,
    build_query, parse, policy, question_of, reply_limit, write_error, write_hinfo_any, write_txt,
};

use crate::model;

/// What replies are appended to.
const BEFORE: &[u8] = &[0xAA, 0xBB];
/// An explanation of ours.
const EDES: &[Ede<'static>] = &[Ede {
    code: 22,
    text: "no provider answered in time",
}];
/// Every way but datagrams.
const STREAMS: &[Via] = &[Via::Tcp, Via::Tls, Via::Https, Via::H3, Via::Quic];

/// Reads bytes as a client's message, and replies in each way there is without a provider.
pub(crate) fn exercise(msg: &[u8]) {
    let is_response = msg.get(2).is_some_and(|flags| flags & 0x80 != 0);
    match parse(msg) {
        Parsed::Silence => assert!(msg.len() < 12 || is_response, "everybody else hears something"),
        Parsed::Reject(reject) => {
            assert!(msg.len() >= 12 && !is_response);
            rejected(msg, &reject);
        }
        Parsed::Query(query) => {
            assert!(msg.len() >= 12 && !is_response);
            understood(msg, &query);
        }
    }
}

/// An error reply says what it is about and no more.
fn rejected(msg: &[u8], reject: &Reject) {
    for edes in [&[], EDES] {
        let reply = reply_of(|out| write_error(&reject.echo, reject.rcode, edes, out));
        let read = error_reply(msg, &reply, 512);
        assert_eq!(read.opts().count(), usize::from(reject.echo.edns.is_some()));
        assert!(matches!(reject.rcode, 1 | 4 | 16), "FORMERR, NOTIMP, BADVERS");
        assert_eq!(model::whole_rcode(&read), reject.rcode);
        if reject.rcode == 4 {
            assert_eq!((read.flags & 0x07F0, read.questions.len()), (0, 0), "nothing is echoed");
        }
    }
}

/// A reply that has no record but OPT.
fn error_reply(msg: &[u8], reply: &[u8], limit: usize) -> model::Message {
    assert!(reply.len() <= limit, "{} octets", reply.len());
    let read = model::read(reply).unwrap();
    assert_eq!(read.end, reply.len());
    assert_eq!(reply[..2], msg[..2], "the id");
    assert!(read.has(0x8000) && read.opts().count() == read.records.len());
    assert_eq!((read.flags >> 11) & 0xF, u16::from(msg[2] >> 3) & 0xF, "the operation");
    if let [question] = read.questions.as_slice() {
        assert_eq!(question[..], msg[12..12 + question.len()], "in the client's case");
    }
    read
}

fn understood(msg: &[u8], query: &Query) {
    let Query {
        echo,
        name,
        qtype,
        qclass,
        ..
    } = query;
    let question = echo.question.as_bytes();
    let (bytes, own_name, kind) = question_of(msg).unwrap();
    assert_eq!((bytes, &own_name, kind), (question, name, [*qtype, *qclass]));
    let (labels, _) = model::name(msg, 12).unwrap();
    assert!(name.labels().map(<[u8]>::to_vec).eq(labels), "the name, lower-cased");
    assert_eq!(name.to_string().parse::<NameBuf>().as_ref(), Ok(name), "and as text");

    let udp_limit = reply_limit(echo, Via::Udp);
    assert!((512..=1232).contains(&udp_limit));
    assert!(STREAMS.iter().all(|via| reply_limit(echo, *via) == 65_535));
    assert!(echo.edns.is_some() || udp_limit == 512);

    for rcode in [1, 2, 5, 16, 23] {
        for edes in [&[], EDES] {
            let reply = reply_of(|out| write_error(echo, rcode, edes, out));
            let read = error_reply(msg, &reply, 512);
            assert_eq!(read.questions, [question]);
            let sendable = if rcode > 15 && echo.edns.is_none() { 2 } else { rcode };
            assert_eq!(model::whole_rcode(&read), sendable);
        }
    }
    judged(query);
    asked_on(query);
}

/// What is done with it depends on the way it came only where datagrams are misused.
fn judged(query: &Query) {
    let udp = policy(query, Via::Udp);
    for via in STREAMS {
        let stream = policy(query, *via);
        assert!(udp == stream || (udp, stream) == (Policy::HinfoAny, Policy::Forward));
    }
    assert!(!query.signed || udp == Policy::Refuse);
    match udp {
        Policy::Forward => assert!(
            query.qclass != 3 && query.qtype != 41,
            "about this server, or no question"
        ),
        Policy::Refuse | Policy::Malformed => {}
        Policy::HinfoAny => local(query, &reply_of(|out| write_hinfo_any(&query.echo, out))),
        Policy::Chaos(Chaos::Version | Chaos::Identity) => {
            // Longer than any text of ours.
            let text = "v".repeat(300);
            local(query, &reply_of(|out| write_txt(&query.echo, &text, out)));
        }
    }
}

/// A reply of ours with one record is one that we would accept ourselves.
fn local(query: &Query, reply: &[u8]) {
    assert!(reply.len() <= 512, "{} octets", reply.len());
    let question = query.echo.question.as_bytes();
    let read = model::read(reply).unwrap();
    assert_eq!(
        (read.end, read.questions.as_slice()),
        (reply.len(), &[question.to_vec()][..])
    );
    let expected = Expected {
        id: query.echo.id,
        question,
        check_case: true,
        encrypted: false,
    };
    let answer = accept(reply, &expected).unwrap().answer;
    assert_eq!((answer.kind(), answer.rcode()), (Kind::Positive, 0));
}

/// The query to a provider means the same and holds nothing else of the client's.
fn asked_on(query: &Query) {
    let Query { echo, name, .. } = query;
    let case_bits = [0x5A; 32];
    for (case_bits, is_padded, cookie) in [
        (None, false, None),
        (Some(case_bits), true, None),
        (Some(case_bits), false, Some(Cookie::of_client([0xC0; 8]))),
    ] {
        let edns = echo.edns.map(|edns| EdnsOut {
            udp_size: 1_232,
            do_bit: edns.do_bit,
            is_padded,
            cookie,
            asks_keepalive: is_padded,
        });
        let built = QueryOut {
            id: 0x1234,
            name,
            qtype: query.qtype,
            qclass: query.qclass,
            ad: true,
            cd: echo.cd,
            case_bits,
            edns,
        };
        let mut place = 0..0;
        let bytes = reply_of(|out| place = build_query(out, &built));
        let place = place.start - BEFORE.len()..place.end - BEFORE.len();
        let Parsed::Query(again) = parse(&bytes) else {
            panic!("a query of ours is one: {bytes:02x?}");
        };
        assert_eq!(
            (&again.name, again.qtype, again.qclass),
            (name, query.qtype, query.qclass)
        );
        assert_eq!(again.echo.question.as_bytes(), &bytes[place]);
        assert!(again.echo.rd && again.echo.ad && again.echo.cd == echo.cd && !again.signed);
        let of = |query: &Query| query.echo.edns.map(|edns| edns.do_bit);
        assert_eq!(of(&again), of(query));
        assert!(
            !is_padded || edns.is_none() || bytes.len() % 128 == 0,
            "{} octets",
            bytes.len()
        );
    }
}

/// What `write` appends, which touches nothing before it.
fn reply_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = BEFORE.to_vec();
    write(&mut out);
    assert_eq!(&out[..BEFORE.len()], BEFORE);
    out.split_off(BEFORE.len())
}
