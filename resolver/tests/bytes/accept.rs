//! What must hold for anything that comes back from a provider: the body of the fuzz target `accept`, which takes this
//! file as it is.
//!
//! The first octet of the input says how the message is looked at, the rest is the message.

use detour_core::outcome::Reply;
use detour_resolver::wire::{
    Accepted, Answer, Expected, Kind, Mismatch, Rejected, Section, TTL_S_MAX, accept, classify, question_of,
};

use crate::model::{self, Message};

/// Asked where the message has no question.
const QUESTION: &[u8] = b"\x01a\x01T\0\0\x01\0\x01";

/// The longest that a denial is kept, seconds.
const DENIAL_S_MAX: u32 = 3_600;

/// Walks bytes as the answer to the question in them.
pub(crate) fn exercise(input: &[u8]) {
    let Some((options, msg)) = input.split_first() else {
        return;
    };
    let has = |bit: u8| options & bit != 0;
    let question = question_of(msg).map_or(QUESTION, |(question, _, _)| question);
    let expected = Expected {
        id: msg.first_chunk().map_or(0, |id| u16::from_be_bytes(*id)),
        question,
        check_case: has(1),
        encrypted: has(2),
    };
    let verdict = accept(msg, &expected);
    strangers(msg, &expected, &verdict);
    if let Ok(accepted) = &verdict {
        taken(msg, &expected, accepted);
    }
}

/// Who guesses the id, the question or its case wrong has not answered.
fn strangers(msg: &[u8], expected: &Expected<'_>, verdict: &Result<Accepted, Rejected>) {
    let id = expected.id.wrapping_add(1);
    let is_readable = match accept(msg, &Expected { id, ..*expected }) {
        Ok(_) => panic!("the id is another one"),
        Err(Rejected::Mismatch(Mismatch::Id)) => true,
        Err(_) => false,
    };
    assert!(is_readable || verdict.is_err());

    let mut other = expected.question.to_vec();
    let kind_at = other.len() - 4;
    other[kind_at] ^= 0x20;
    let question = other.as_slice();
    if let Ok(accepted) = accept(msg, &Expected { question, ..*expected }) {
        assert_eq!(question_count(msg), 0, "the type is another one");
        assert_eq!(accepted.answer.question(), question);
        let rcode = msg[3] & 0xF;
        assert!(
            !expected.check_case || matches!(rcode, 1 | 4),
            "only who cannot read leaves the question out"
        );
    }

    let other: Vec<u8> = expected.question.iter().map(|octet| flip_case(*octet)).collect();
    let other = [&other[..kind_at], &expected.question[kind_at..]].concat();
    let question = other.as_slice();
    if question != expected.question && question_count(msg) == 1 {
        let lax = accept(
            msg,
            &Expected {
                question,
                check_case: false,
                ..*expected
            },
        );
        let strict = accept(
            msg,
            &Expected {
                question,
                check_case: true,
                ..*expected
            },
        );
        let own = accept(
            msg,
            &Expected {
                check_case: false,
                ..*expected
            },
        );
        assert_eq!(
            lax.as_ref().map(meaning),
            own.as_ref().map(meaning),
            "case does not matter unless it is to"
        );
        assert!(lax.is_err() || strict == Err(Rejected::Mismatch(Mismatch::Case)));
    }
}

/// All of an answer but its question.
fn meaning(accepted: &Accepted) -> (&[u8], Kind, u16, Option<u32>) {
    let answer = &accepted.answer;
    let records = &answer.wire()[12 + answer.question().len()..];
    (records, answer.kind(), answer.rcode(), answer.ttl_s())
}

/// Letters only; length octets are below them.
fn flip_case(octet: u8) -> u8 {
    if octet.is_ascii_alphabetic() {
        octet ^ 0x20
    } else {
        octet
    }
}

fn question_count(msg: &[u8]) -> u16 {
    let count = msg.get(4..).and_then(<[u8]>::first_chunk);
    count.map_or(0, |count| u16::from_be_bytes(*count))
}

/// What is kept is what came, less what is not for others, and says of itself what a plain look at it says.
fn taken(msg: &[u8], expected: &Expected<'_>, accepted: &Accepted) {
    let answer = &accepted.answer;
    let wire = answer.wire();
    let kept = model::read(wire).unwrap();
    assert_eq!(kept.end, wire.len(), "nothing behind the records");
    assert!(wire.len() <= msg.len().max(12 + expected.question.len()));
    assert_eq!(
        (kept.id, kept.questions.as_slice()),
        (0, &[answer.question().to_vec()][..])
    );
    assert!(answer.question().eq_ignore_ascii_case(expected.question));
    let own_flags = 0x8000 | 0x0200 | 0xF | if expected.encrypted { 0x20 } else { 0 };
    assert!(kept.has(0x8000) && kept.flags & !own_flags == 0, "{:04x}", kept.flags);
    assert_eq!(kept.rcode(), answer.rcode() & 0xF);
    assert!(kept.records.iter().all(|record| !record.is_hop_by_hop()));
    assert_eq!(answer.records().count(), kept.records.len());
    assert_eq!(kept.has(0x0200), answer.kind() == Kind::Truncated);
    assert!(answer.addresses().count() <= kept.count(Section::Answer));

    // A message that was cut may not be readable, and nothing of it is kept; so with one that has no question.
    match model::read(msg).filter(|came| answer.kind() != Kind::Truncated && came.questions.len() == 1) {
        Some(came) => passed(&came, &kept, answer),
        None => assert!(kept.records.is_empty()),
    }
    lifetimes(&kept, answer);
    described(accepted);
    again(answer);
}

/// Every record up to the first that is not for others, in its order, octet for octet.
fn passed(came: &Message, kept: &Message, answer: &Answer) {
    let own: Vec<_> = came
        .records
        .iter()
        .take_while(|record| !record.is_hop_by_hop())
        .collect();
    assert!(
        own.iter()
            .map(|record| record.essence())
            .eq(kept.records.iter().map(|record| record.essence()))
    );
    assert_eq!(answer.rcode(), model::whole_rcode(came));
    let sane = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    for (record, before) in kept.records.iter().zip(&own) {
        let of_set = own.iter().filter(|other| other.set() == before.set());
        let lowest = of_set.map(|other| sane(other.ttl)).min();
        assert!(Some(record.ttl) <= lowest, "an RRset's lowest TTL, or less");
    }
    let has_soa = own
        .iter()
        .any(|record| record.section == Section::Authority && record.rtype == 6);
    match answer.kind() {
        Kind::Positive => assert!(answer.rcode() == 0 && kept.count(Section::Answer) > 0),
        Kind::Denial { soa } => assert!(matches!(answer.rcode(), 0 | 3) && soa == has_soa),
        Kind::Failure => assert!(!matches!(answer.rcode(), 0 | 3)),
        Kind::Truncated => panic!("was seen to"),
    }
}

/// One TTL for an RRset, none too long, and the whole as long as the shortest.
fn lifetimes(kept: &Message, answer: &Answer) {
    for record in &kept.records {
        assert!(record.ttl <= TTL_S_MAX);
        let mut of_set = kept.records.iter().filter(|other| other.set() == record.set());
        assert!(of_set.all(|other| other.ttl == record.ttl));
    }
    let lowest = kept.records.iter().map(|record| record.ttl).min();
    match answer.kind() {
        Kind::Positive => assert_eq!(answer.ttl_s(), lowest),
        Kind::Denial { soa: true } => {
            assert_eq!(answer.ttl_s(), lowest);
            assert!(lowest <= Some(DENIAL_S_MAX));
        }
        Kind::Denial { soa: false } | Kind::Failure | Kind::Truncated => assert_eq!(answer.ttl_s(), None),
    }
}

/// What is told of it to the core, to people and to clients.
fn described(accepted: &Accepted) {
    if let Some(ede) = accepted.answer.ede() {
        assert_eq!(accepted.edes.iter().next(), Some(ede.code));
        assert!(
            ede.text.len() <= 64 && !ede.text.chars().any(char::is_control),
            "{:?}",
            ede.text
        );
    }
    let [with, without] = [true, false].map(|edns_sent| classify(accepted, edns_sent));
    assert!(with == without || with == Reply::NoEdns);
    assert_ne!(without, Reply::NoEdns, "we sent none");
    let is_cut = accepted.answer.kind() == Kind::Truncated;
    assert!(!is_cut || with == Reply::Truncated);
}

/// What was kept is accepted as it is, as from a file.
fn again(answer: &Answer) {
    let expected = Expected {
        id: 0,
        question: answer.question(),
        check_case: false,
        encrypted: true,
    };
    let second = accept(answer.wire(), &expected).unwrap();
    assert!(!second.has_opt && second.answer.ede().is_none());
    // What OPT added to the code is lost, so another may stand there; nobody keeps such an answer.
    assert!(answer.rcode() <= 0xF || answer.ttl_s().is_none());
    if answer.rcode() <= 0xF {
        assert_eq!(second.answer.wire(), answer.wire());
        let of = |answer: &Answer| (answer.kind(), answer.rcode(), answer.ttl_s(), answer.is_authentic());
        assert_eq!(of(&second.answer), of(answer));
    }
}
