//! What a node says to messages that are broken, forbidden or not for providers: one table of messages and the reply
//! each gets, the same over UDP and TCP; and a few thousand messages that nobody thought of.
//!
//! RFC 8906 asks for an answer to everything that can be answered, RFC 5625 4.1 for tolerance of flags, RFC 6891 6.1
//! and 7 for the handling of OPT, RFC 9619 4 for exactly one question.

use detour_rig::random::Random;
use detour_rig::{Fake, zone};

use crate::client::{Tcp, Udp};
use crate::message::{
    CLASS_CH, CLASS_IN, Message, Reply, flag, opt, option, question, rcode, record, rtype, wire_name,
};
use crate::node::{Node, fake};

/// Cached before the table is gone through.
const KNOWN: &str = "known.alder-lane.com";
/// Never asked with RD.
const FRESH: &str = "fresh.alder-lane.com";

/// What of the query a reply repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// Nothing but the header.
    Header,
    Question,
    /// The question, and OPT of version 0.
    Edns,
    /// OPT without a question.
    EdnsOnly,
    /// The question; with or without OPT, since the query's was not read as one.
    AnyEdns,
}

/// A message, the response code and what else is repeated.
struct Row(&'static str, Message, u16, Echo);

fn known() -> Message {
    Message::query(KNOWN, rtype::A)
}

/// A question whose name is these bytes.
fn named(name: &[u8]) -> Message {
    Message::of_question([name, &[0, 1, 0, 1]].concat())
}

fn of_class(name: &str, asked: u16, class: u16) -> Message {
    Message::of_question(question(name, asked, class))
}

fn with_options(options: &[u8]) -> Message {
    known().additional(opt(1232, 0, options))
}

/// Counts that are not one question.
fn miscounted() -> Vec<Row> {
    let formerr = |what, message| Row(what, message, rcode::FORMERR, Echo::Header);
    let with_edns = |what, message: Message| Row(what, message.edns(1232), rcode::FORMERR, Echo::EdnsOnly);
    let empty = || Message::of_question(Vec::new());
    let two = Message {
        questions: vec![question(KNOWN, 1, 1), question(KNOWN, 28, 1)],
        ..known()
    };
    vec![
        formerr("a header alone", empty().counts([0; 4])),
        formerr("two questions", two.clone()),
        formerr("very many questions", known().counts([0xffff, 0, 0, 0])),
        formerr("a question that is missing", empty().counts([1, 0, 0, 0])),
        with_edns("no question but EDNS", empty().counts([0, 0, 0, 1])),
        with_edns("two questions and EDNS", two),
    ]
}

/// Questions that cannot be read.
fn unreadable() -> Vec<Row> {
    let formerr = |what, message| Row(what, message, rcode::FORMERR, Echo::Header);
    let cut = |question: &[u8]| Message::of_question(question.to_vec());
    let long_name: Vec<u8> = [[63; 64]; 4].concat().into_iter().chain([0]).collect();
    let long_label: Vec<u8> = [64; 65].into_iter().chain([0]).collect();
    vec![
        formerr("a name without end", cut(b"\x05alder")),
        formerr("a label beyond the end", cut(b"\x3falder")),
        formerr("a name without type", cut(&wire_name(KNOWN))),
        formerr("a name with half a class", cut(&question(KNOWN, 1, 1)[..25])),
        formerr("a pointer to itself", named(b"\xc0\x0c")),
        formerr("a pointer forward", named(b"\xc0\x20")),
        formerr("a pointer into the header", named(b"\xc0\x00")),
        formerr("two pointers in a circle", named(b"\x01a\xc0\x0e\xc0\x0c")),
        formerr("a pointer behind a label", named(b"\x03www\xc0\x0c")),
        formerr("a label of 64 octets", named(&long_label)),
        formerr("an extended label", named(b"\x41\x01\0")),
        formerr("a label of type 10", named(b"\x80\x01\0")),
        formerr("a name of 257 octets", named(&long_name)),
    ]
}

/// Records that must not be, or not there, or not so.
fn misplaced() -> Vec<Row> {
    let formerr = rcode::FORMERR;
    let a = || record(b"\0", rtype::A, CLASS_IN, 1, &[192, 0, 2, 1]);
    let edns = || opt(1232, 0, &[]);
    let in_answer = |record| Message {
        answers: vec![record],
        ..known()
    };
    let in_authority = |record| Message {
        authorities: vec![record],
        ..known()
    };
    let named_opt = record(b"\x01x\0", rtype::OPT, 1232, 0, &[]);
    let mut cut_opt = opt(1232, 0, b"\0\x64\0\x08octets");
    cut_opt.truncate(cut_opt.len() - 3);
    vec![
        Row("two OPT", known().edns(1232).edns(1232), formerr, Echo::Edns),
        Row("OPT in answer", in_answer(edns()), formerr, Echo::AnyEdns),
        Row("OPT in authority", in_authority(edns()), formerr, Echo::AnyEdns),
        Row(
            "OPT with an owner",
            known().additional(named_opt),
            formerr,
            Echo::AnyEdns,
        ),
        Row(
            "OPT that ends too early",
            known().additional(cut_opt),
            formerr,
            Echo::AnyEdns,
        ),
        Row(
            "OPT that is missing",
            known().counts([1, 0, 0, 1]),
            formerr,
            Echo::Question,
        ),
        Row("an answer", in_answer(a()), formerr, Echo::Question),
        Row("an authority", in_authority(a()), formerr, Echo::Question),
        Row(
            "an owner that points to itself",
            known().additional(record(b"\xc0\x26", 1, 1, 0, &[])),
            formerr,
            Echo::Question,
        ),
    ]
}

/// EDNS options and versions.
fn edns() -> Vec<Row> {
    let formerr = |what, options: &[u8]| Row(what, with_options(options), rcode::FORMERR, Echo::Edns);
    let fine = |what, options: &[u8]| Row(what, with_options(options), rcode::NOERROR, Echo::Edns);
    let version = |version: u32, options: &[u8]| known().additional(opt(1232, (version << 16) | 0x4000, options));
    let badvers = |what, message| Row(what, message, rcode::BADVERS, Echo::Edns);
    vec![
        formerr("an option longer than its record", b"\0\x64\0\x08four"),
        formerr("an option without length", b"\0\x64\0"),
        formerr(
            "a whole option and half of one",
            &[option(100, b"x"), vec![0, 3]].concat(),
        ),
        formerr("a cookie of 7 octets", &option(10, &[1; 7])),
        formerr("a cookie of 9 octets", &option(10, &[1; 9])),
        formerr("a cookie of 41 octets", &option(10, &[1; 41])),
        formerr("a subnet of no family", &option(8, &[0, 9, 24, 0, 192, 0, 2])),
        formerr(
            "a subnet with a long prefix",
            &option(8, &[0, 1, 33, 0, 192, 0, 2, 1, 0]),
        ),
        formerr("a subnet that is cut", &option(8, &[0, 1, 24])),
        fine("a cookie", &option(10, &[1; 8])),
        fine("a subnet nobody may add to", &option(8, &[0, 1, 0, 0])),
        fine("a subnet", &option(8, &[0, 1, 24, 0, 192, 0, 2])),
        fine("an empty option", &option(3, &[])),
        fine("an unknown option", &option(65_535, b"whatever")),
        fine(
            "the options of dig",
            &[option(3, &[]), option(9, &[]), option(8, &[0; 4])].concat(),
        ),
        badvers("EDNS version 1", version(1, &[])),
        badvers("EDNS version 255", version(255, &[])),
        badvers("EDNS version 1 with an option", version(1, &option(100, b"x"))),
        badvers("EDNS version 1 with what is no option in version 0", version(1, b"\0")),
        badvers("EDNS version 1 and a broken subnet", version(1, &option(8, &[9; 9]))),
    ]
}

/// Operations and questions that are not passed on.
fn not_for_providers() -> Vec<Row> {
    let refused = |what, message| Row(what, message, rcode::REFUSED, Echo::Question);
    let signature = record(b"\x03key\0", rtype::TSIG, 255, 0, &[0; 30]);
    let chaos = |name, asked| of_class(name, asked, CLASS_CH);
    let mut rows = vec![
        refused("recursion not desired", Message::query(FRESH, rtype::A).flags(0)),
        refused("class NONE", of_class(KNOWN, rtype::A, 254)),
        refused("class ANY", of_class(KNOWN, rtype::A, 255)),
        refused("a zone transfer", Message::query(KNOWN, rtype::AXFR)),
        refused("an incremental transfer", Message::query(KNOWN, rtype::IXFR)),
        refused("a signed query", known().additional(signature)),
        refused("an unknown CHAOS name", chaos("authors.bind", rtype::TXT)),
        refused("a known CHAOS name of another type", chaos("version.bind", rtype::A)),
        Row(
            "NXNAME",
            Message::query(KNOWN, rtype::NXNAME),
            rcode::FORMERR,
            Echo::Question,
        ),
        Row(
            "NXNAME with EDNS",
            Message::query(KNOWN, rtype::NXNAME).edns(1232),
            rcode::FORMERR,
            Echo::Edns,
        ),
        Row(
            "CHAOS with EDNS",
            chaos("authors.bind", rtype::TXT).edns(1232),
            rcode::REFUSED,
            Echo::Edns,
        ),
        Row(
            "recursion not desired of what is known",
            known().flags(0),
            rcode::NOERROR,
            Echo::Question,
        ),
    ];
    for meta in [rtype::OPT, 129, 200, 248, 249, rtype::TSIG, 253, 254] {
        rows.push(refused("a meta type", Message::query(KNOWN, meta)));
    }
    for opcode in [1, 2, 3, 4, 5, 6, 15] {
        for (message, echo) in [
            (known(), Echo::Header),
            (known().edns(1232), Echo::EdnsOnly),
            (known().flags(0x07f0), Echo::Header),
            (known().counts([0; 4]), Echo::Header),
        ] {
            rows.push(Row("an operation", message.opcode(opcode), rcode::NOTIMP, echo));
        }
    }
    rows
}

/// What is odd and still a query.
fn tolerated() -> Vec<Row> {
    let fine = |what, message| Row(what, message, rcode::NOERROR, Echo::Question);
    let tailed = |tail: &[u8]| Message {
        tail: tail.to_vec(),
        ..known()
    };
    vec![
        fine("octets behind the message", tailed(&[0; 40])),
        fine(
            "octets like a record behind the message",
            tailed(&opt(1232, 0x0001_0000, &[])),
        ),
        fine("all flags and a response code", known().flags(0x07ff)),
        fine(
            "an additional record",
            known().additional(record(b"\0", 1, 1, 0, &[192, 0, 2, 1])),
        ),
        Row(
            "EDNS behind an additional record",
            known().additional(record(b"\0", 1, 1, 0, &[])).edns(1232),
            0,
            Echo::Edns,
        ),
        Row(
            "an owner of a star",
            Message::query("*.alder-lane.com", rtype::A),
            rcode::NOERROR,
            Echo::Question,
        ),
        Row(
            "labels with any octet",
            named(b"\x04\0.\\\xff\x0aalder-lane\x03com\0"),
            rcode::NOERROR,
            Echo::Question,
        ),
        Row(
            "the root",
            Message::query(".", rtype::NS),
            rcode::NOERROR,
            Echo::Question,
        ),
    ]
}

fn table() -> Vec<Row> {
    let rows = [
        miscounted(),
        unreadable(),
        misplaced(),
        edns(),
        not_for_providers(),
        tolerated(),
    ];
    (0..)
        .zip(rows.into_iter().flatten())
        .map(|(id, Row(what, message, code, echo))| Row(what, message.id(id), code, echo))
        .collect()
}

/// What is wrong with this reply, if anything is.
fn objection(Row(_, message, code, echo): &Row, reply: &Reply) -> Option<String> {
    let asked_flags = message.flags;
    let flags = if *code == rcode::NOTIMP {
        // No flag is repeated and none of ours means anything (RFC 8906 3.1.4).
        flag::QR | (asked_flags & 0x7800)
    } else {
        flag::QR | flag::RA | (asked_flags & (flag::RD | flag::CD))
    };
    let question = match echo {
        Echo::Header | Echo::EdnsOnly => None,
        Echo::Question | Echo::Edns | Echo::AnyEdns => message.questions.first(),
    };
    let edns_as_wanted = match echo {
        Echo::Header | Echo::Question => reply.edns.is_none(),
        Echo::Edns | Echo::EdnsOnly => reply.edns.is_some(),
        Echo::AnyEdns => true,
    };
    let edns_is_sound = reply.edns.as_ref().is_none_or(|edns| {
        let ours = |(code, _): &(u16, Vec<u8>)| *code == 15;
        edns.version == 0 && edns.flags == 0 && edns.options.iter().all(ours)
    });
    let checks = [
        (reply.id == message.id, "id"),
        (reply.rcode == *code, "response code"),
        (reply.flags == flags, "flags"),
        (reply.question.as_ref() == question, "question"),
        (edns_as_wanted, "presence of EDNS"),
        (edns_is_sound, "EDNS"),
        (reply.records.is_empty() || *code == rcode::NOERROR, "records"),
    ];
    let wrong: Vec<_> = checks
        .iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, what)| *what)
        .collect();
    (!wrong.is_empty()).then(|| format!("{}: {reply:?}", wrong.join(", ")))
}

async fn start() -> (Fake, Node) {
    let fake = fake("fake");
    let node = Node::before(&[&fake]).await;
    let reply = Udp::to(node.dns()).await.ask(&known()).await;
    assert_eq!(reply.rcode, rcode::NOERROR);
    (fake, node)
}

/// Still there, still right, and nothing panicked.
async fn assert_unharmed(node: &mut Node) {
    assert!(node.is_running());
    let name = "afterwards.alder-lane.com";
    let reply = Udp::to(node.dns()).await.ask(&Message::query(name, rtype::A)).await;
    assert_eq!(reply.addresses(), [zone::expected_a(name).unwrap()]);
    assert_eq!(node.metric("detour_panics_total", &[]).await, 0, "{}", node.log());
}

#[tokio::test]
async fn every_odd_message_gets_its_reply_over_udp() {
    let (_fake, mut node) = start().await;
    let client = Udp::to(node.dns()).await;
    let mut wrong = Vec::new();
    for row in table() {
        client.send(&row.1.bytes()).await;
        let reply = client.receive().await;
        wrong.extend(objection(&row, &reply).map(|objection| format!("{}: {objection}", row.0)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_unharmed(&mut node).await;
}

#[tokio::test]
async fn every_odd_message_gets_the_same_reply_over_tcp() {
    let (_fake, mut node) = start().await;
    let mut client = Tcp::to(node.dns()).await;
    let mut wrong = Vec::new();
    for row in table() {
        client.send(&row.1.bytes()).await;
        let Some(reply) = client.receive().await else {
            wrong.push(format!("{}: the connection was closed", row.0));
            client = Tcp::to(node.dns()).await;
            continue;
        };
        wrong.extend(objection(&row, &reply).map(|objection| format!("{}: {objection}", row.0)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_unharmed(&mut node).await;
}

#[tokio::test]
async fn responses_and_scraps_get_no_reply() {
    let (_fake, mut node) = start().await;
    let client = Udp::to(node.dns()).await;
    let response = known().flags(flag::QR | flag::RD).bytes();
    let notify_response = known().flags(flag::QR).opcode(4).bytes();
    let scraps = [
        &known().bytes()[..11],
        &[0],
        &[],
        &response,
        &notify_response,
        &response[..12],
    ];
    for scrap in scraps {
        assert!(client.hears_nothing_of(scrap).await, "{scrap:02x?}");
        let mut connection = Tcp::to(node.dns()).await;
        connection.send(scrap).await;
        assert_eq!(connection.receive().await, None, "{scrap:02x?}");
    }
    assert_unharmed(&mut node).await;
}

#[tokio::test]
async fn questions_about_the_node_are_answered_by_the_node() {
    let (fake, node) = start().await;
    let (udp, mut tcp) = (Udp::to(node.dns()).await, Tcp::to(node.dns()).await);
    let asked = fake.stats().queries();
    let version = concat!("detour ", env!("CARGO_PKG_VERSION"));
    for (name, text) in [
        ("version.bind", version),
        ("VERSION.server", version),
        ("hostname.bind", "detour"),
        ("id.server", "detour"),
    ] {
        let query = of_class(name, rtype::TXT, CLASS_CH);
        for reply in [udp.ask(&query).await, tcp.ask(&query).await] {
            assert_eq!((reply.rcode, reply.records.len()), (rcode::NOERROR, 1));
            assert_eq!(reply.records[0].rdata[1..], *text.as_bytes());
            assert_eq!((reply.records[0].class, reply.records[0].ttl), (CLASS_CH, 0));
        }
    }
    assert_eq!(fake.stats().queries(), asked);
}

#[tokio::test]
async fn any_is_answered_in_brief_over_udp_and_asked_for_over_tcp() {
    let (fake, node) = start().await;
    let asked = fake.stats().queries();
    let query = Message::query("everything.alder-lane.com", rtype::ANY);
    let reply = Udp::to(node.dns()).await.ask(&query).await;
    assert_eq!((reply.rcode, reply.records.len()), (rcode::NOERROR, 1));
    assert_eq!(reply.records[0].rtype, rtype::HINFO);
    assert!(reply.records[0].rdata.starts_with(b"\x07RFC8482"));
    assert_eq!(fake.stats().queries(), asked);
    let reply = Tcp::to(node.dns()).await.ask(&query).await;
    assert_eq!(reply.rcode, rcode::NOERROR);
    assert!(fake.stats().queries() > asked);
}

#[tokio::test]
async fn refusals_say_why_to_those_who_can_read_it() {
    let (_fake, node) = start().await;
    let client = Udp::to(node.dns()).await;
    let reply = client.ask(&Message::query(KNOWN, rtype::AXFR).edns(1232)).await;
    assert_eq!(reply.extended_errors(), [21]);
}

#[tokio::test]
async fn messages_nobody_thought_of_do_no_harm() {
    let (_fake, mut node) = start().await;
    let client = Udp::to(node.dns()).await;
    let marker = of_class("version.bind", rtype::TXT, CLASS_CH).id(0xfeed);
    let seeds: Vec<_> = table().iter().map(|row| row.1.bytes()).collect();
    let mut random = Random::new(0x00de_7043);
    for round in 0..150 {
        // A few at a time, so that no buffer overflows; the marker's reply says that they were read.
        for _ in 0..20 {
            let pick = usize::try_from(random.below(u64::try_from(seeds.len()).unwrap())).unwrap();
            let mut message = seeds[pick].clone();
            for _ in 0..=random.below(4) {
                let limit = u64::try_from(message.len()).unwrap();
                let at = usize::try_from(random.below(limit)).unwrap();
                match random.below(4) {
                    0 => message.truncate(at.max(1)),
                    1 => message.extend(random.bytes(at % 16)),
                    _ => message[at] = random.bytes(1)[0],
                }
            }
            client.send(&message).await;
        }
        client.send(&marker.bytes()).await;
        while client.receive().await.id != marker.id {}
        assert!(node.is_running(), "in round {round}");
    }
    assert_unharmed(&mut node).await;
}
