//! What must hold for any accepted answer and any client: the body of the fuzz target `patch`, which takes this file as it
//! is.
//!
//! The first eight octets of the input are the client and the time that has passed, the rest is what a provider sends.

use detour_core::Time;
use detour_core::time::SEC;
use detour_resolver::ask::{Ask, GroupKey, key_of};
use detour_resolver::cache::{Cache, Entry, Found, Wanted};
use detour_resolver::wire::{
    Answer, Ede, Expected, Freshness, Kind, Parsed, Query, Section, Via, accept, parse, question_of, reply_limit, write,
};

use crate::model::{self, Message};

/// When hits take place.
const NOW: Time = Time::at_ms(10_000);
/// Keys the cache.
const SEED: u64 = 7;
/// What a stale answer lives.
const STALE_S: u32 = 30;
/// What replies are appended to.
const BEFORE: &[u8] = &[0xAA, 0xBB];
/// What can be said beside an answer.
const EDES: [Ede<'static>; 2] = [
    Ede {
        code: 3,
        text: "no provider has answered so far",
    },
    Ede { code: 19, text: "" },
];

thread_local! {
    /// Emptied before each use.
    static CACHE: Cache = Cache::new(1 << 20, 0);
}

/// How an answer is told.
struct Telling<'a> {
    query: &'a Query,
    freshness: Freshness,
    edes: &'a [Ede<'a>],
    limit: usize,
}

/// Accepts bytes as a provider's answer, and writes it for a client.
pub(crate) fn exercise(input: &[u8]) {
    let Some((client, msg)) = input.split_first_chunk::<8>() else {
        return;
    };
    let [flags, edns, size0, size1, case, edes, age0, age1] = *client;
    let Some((question, _, _)) = question_of(msg) else {
        return;
    };
    let expected = Expected {
        id: u16::from_be_bytes([msg[0], msg[1]]),
        question,
        check_case: true,
        encrypted: true,
    };
    let Ok(accepted) = accept(msg, &expected) else {
        return;
    };
    let size = u16::from_be_bytes([size0, size1]);
    let query = client_query(question, (flags, case), (edns & 1 != 0).then_some((size, edns)));
    let age_s = u32::from(age0) << 12 | u32::from(age1);
    let freshness = match flags & 4 {
        0 => Freshness::Fresh { age_s },
        _ => Freshness::Stale { ttl_s: STALE_S },
    };
    // Any limit there can be, and the two that there are.
    let limit = match flags & 3 {
        0 => reply_limit(&query.echo, Via::Udp),
        1 => reply_limit(&query.echo, Via::Tcp),
        _ => usize::from(size).max(512),
    };
    let said = EDES.get(..usize::from(edes % 3)).unwrap_or_default();
    let telling = Telling {
        query: &query,
        freshness,
        edes: said,
        limit,
    };
    let reply = told(&accepted.answer, &telling);
    if let Freshness::Fresh { age_s } = freshness {
        hit(&accepted.answer, &telling, age_s, &reply);
    }
}

/// A client's query for the question in a case of its own.
fn client_query(question: &[u8], (flags, case): (u8, u8), edns: Option<(u16, u8)>) -> Query {
    let mut msg = vec![
        case,
        flags,
        flags >> 7,
        flags & 0x30,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(edns.is_some()),
    ];
    let (name, kind) = question.split_at(question.len() - 4);
    let turned = (0_u32..).zip(name).map(|(at, octet)| {
        let is_turned = octet.is_ascii_alphabetic() && case.rotate_left(at) & 1 != 0;
        if is_turned { octet ^ 0x20 } else { *octet }
    });
    msg.extend(turned);
    msg.extend(kind);
    if let Some((size, bits)) = edns {
        msg.extend([0, 0, 41]);
        msg.extend(size.to_be_bytes());
        msg.extend([0, 0, bits & 0x80, 0, 0, 0]);
    }
    match parse(&msg) {
        Parsed::Query(query) => query,
        other @ (Parsed::Silence | Parsed::Reject(_)) => panic!("no query: {other:?}"),
    }
}

/// Writes the answer and looks at what the client gets.
fn told(answer: &Answer, telling: &Telling<'_>) -> Vec<u8> {
    let reply = written(answer, telling, telling.edes);
    let echo = &telling.query.echo;
    assert!(
        reply.len() <= telling.limit,
        "{} octets, {} at most",
        reply.len(),
        telling.limit
    );
    let read = model::read(&reply).unwrap();
    assert_eq!(read.end, reply.len());
    assert_eq!(
        (read.id, read.questions.as_slice()),
        (echo.id, &[echo.question.as_bytes().to_vec()][..])
    );
    assert!(read.has(0x8080), "QR and RA");
    assert_eq!(
        (read.has(0x0100), read.has(0x0010)),
        (echo.rd, echo.cd),
        "RD and CD of the client"
    );
    let wants_ad = echo.ad || echo.edns.is_some_and(|edns| edns.do_bit);
    assert_eq!(
        read.has(0x0020),
        wants_ad && answer.is_authentic(),
        "AD for who can use it"
    );
    assert_eq!(
        read.opts().count(),
        usize::from(echo.edns.is_some()),
        "OPT for who has it"
    );
    if let Some(opt) = read.opts().last() {
        assert_eq!(Some(opt), read.records.last(), "at the end");
        assert_eq!(
            opt.ttl & 0x00FF_FFFF,
            u32::from(echo.edns.is_some_and(|edns| edns.do_bit)) << 15
        );
    }
    let rcode = match answer.rcode() {
        // Of our EDNS and our cookie, not the client's.
        16 | 23 => 2,
        rcode if rcode > 15 && echo.edns.is_none() => 2,
        rcode => rcode,
    };
    assert_eq!(model::whole_rcode(&read), rcode);
    records(answer, &read, &reply, telling);

    // What explains the answer costs none of it.
    let bare = written(answer, telling, &[]);
    let (bare, whole) = (model::read(&bare).unwrap(), &read);
    let kept = |message: &Message| message.records.iter().filter(|record| record.rtype != 41).count();
    assert_eq!((bare.flags, kept(&bare)), (whole.flags, kept(whole)));
    downstream(answer, &read, &reply, echo.question.as_bytes());
    reply
}

/// The records are those that were kept, as many sections as fit, and only their TTLs differ.
fn records(answer: &Answer, read: &Message, reply: &[u8], telling: &Telling<'_>) {
    let wire = answer.wire();
    let stored = model::read(wire).unwrap();
    let told: Vec<_> = read.records.iter().filter(|record| record.rtype != 41).collect();
    let opt_bytes = if telling.query.echo.edns.is_some() { 11 } else { 0 };
    let is_cut = read.has(0x0200);
    if is_cut {
        assert!(told.is_empty(), "nothing or whole sections");
        let fits = wire.len() + opt_bytes <= telling.limit;
        assert!(
            !fits || answer.kind() == Kind::Truncated,
            "cut only where it does not fit"
        );
    } else {
        for section in [Section::Answer, Section::Authority] {
            assert_eq!(read.count(section), stored.count(section), "all of {section:?}");
        }
        let fits = wire.len() + opt_bytes <= telling.limit;
        assert_eq!(
            told.len() == stored.records.len(),
            fits || stored.count(Section::Additional) == 0
        );
    }
    for (record, before) in told.iter().zip(&stored.records) {
        assert_eq!((record.essence(), record.ttl_at), (before.essence(), before.ttl_at));
        let ttl_s = match telling.freshness {
            Freshness::Fresh { age_s } => before.ttl.saturating_sub(age_s),
            Freshness::Stale { ttl_s } => ttl_s,
        };
        assert_eq!(record.ttl, ttl_s);
    }
    // Octet for octet, the TTLs apart.
    let start = 12 + answer.question().len();
    let end = told.last().map_or(start, |last| last.ttl_at + 6 + last.rdata.len());
    let without_ttls = |bytes: &[u8]| {
        let mut bytes = bytes[..end].to_vec();
        told.iter()
            .for_each(|record| bytes[record.ttl_at..record.ttl_at + 4].fill(0));
        bytes.split_off(start)
    };
    assert_eq!(without_ttls(reply), without_ttls(wire));
}

/// Another node that asked us would take the reply for what it is.
fn downstream(answer: &Answer, read: &Message, reply: &[u8], question: &[u8]) {
    let expected = Expected {
        id: read.id,
        question,
        check_case: true,
        encrypted: true,
    };
    let there = accept(reply, &expected).unwrap();
    assert_eq!(there.has_opt, read.opts().count() > 0);
    if read.has(0x0200) {
        assert_eq!(there.answer.kind(), Kind::Truncated);
    } else if model::whole_rcode(read) == answer.rcode() {
        assert_eq!(
            (there.answer.kind(), there.answer.rcode()),
            (answer.kind(), answer.rcode())
        );
    }
}

/// What the query asks. The registrable domain is for plans alone, and the list that it comes from would fill the corpus.
fn ask(query: &Query) -> Ask {
    let (do_bit, cd) = (query.echo.edns.is_some_and(|edns| edns.do_bit), query.echo.cd);
    Ask {
        name: query.name.clone(),
        qtype: query.qtype,
        qclass: query.qclass,
        do_bit,
        cd,
        group: GroupKey::PUBLIC,
        key: key_of(
            &query.name,
            query.qtype,
            query.qclass,
            (do_bit, cd),
            GroupKey::PUBLIC,
            SEED,
        ),
        domain: 0,
    }
}

/// Out of the cache comes the same reply.
fn hit(answer: &Answer, telling: &Telling<'_>, age_s: u32, reply: &[u8]) {
    CACHE.with(|cache| {
        cache.forget_all();
        let ask = ask(telling.query);
        let entry = Entry::aged(answer.clone(), &ask, u64::from(age_s) * SEC, NOW);
        cache.store(&ask, &entry, NOW);
        let looked = cache.look(&Wanted::of(&ask), NOW, |answer, age_s| {
            let mut out = BEFORE.to_vec();
            let freshness = Freshness::Fresh { age_s };
            write(
                answer,
                &telling.query.echo,
                freshness,
                telling.edes,
                telling.limit,
                &mut out,
            );
            out
        });
        let is_fresh = answer.ttl_s().is_some_and(|ttl_s| age_s < ttl_s);
        match looked.found {
            Found::Fresh(hit) => {
                assert!(is_fresh);
                assert_eq!(&hit[BEFORE.len()..], reply);
            }
            Found::Stale(_) => panic!("nothing stale is kept here"),
            Found::Nothing => assert!(!is_fresh),
        }
    });
}

/// The reply, which touches nothing before it.
fn written(answer: &Answer, telling: &Telling<'_>, edes: &[Ede<'_>]) -> Vec<u8> {
    let mut out = BEFORE.to_vec();
    write(
        answer,
        &telling.query.echo,
        telling.freshness,
        edes,
        telling.limit,
        &mut out,
    );
    assert_eq!(&out[..BEFORE.len()], BEFORE);
    out.split_off(BEFORE.len())
}
