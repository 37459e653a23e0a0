//! What the logs keep, what they forget, and what that weighs.

use std::collections::HashMap;

use super::*;
use crate::wire::{Expected, accept, question_of};

/// An answer to `name A` with this many addresses, and the question.
fn answer(name: &str, addresses: u8, ttl_s: u32) -> (Ask, Answer) {
    let mut packet = vec![0, 0, 0x80, 0, 0, 1, 0, addresses, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    let (question, name, [qtype, qclass]) = question_of(&packet).unwrap();
    let question = question.to_vec();
    let ask = Ask::new(&name, qtype, qclass, (false, false), GroupKey::PUBLIC, 7);
    for last in 0..addresses {
        packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        packet.extend_from_slice(&ttl_s.to_be_bytes());
        packet.extend_from_slice(&[0, 4, 192, 0, 2, last]);
    }
    let expected = Expected {
        id: 0,
        question: &question,
        check_case: true,
        encrypted: false,
    };
    (ask, accept(&packet, &expected).unwrap().answer)
}

fn store(cache: &Cache, name: &str, addresses: u8) -> Ask {
    let (ask, answer) = answer(name, addresses, 300);
    let now = Time::at_ms(1_000);
    cache.store(&ask, &Entry::new(answer, &ask, now), now);
    ask
}

/// The packet a client would get, as a client asks for it.
fn look(cache: &Cache, ask: &Ask) -> Option<Vec<u8>> {
    let looked = cache.look(&Wanted::of(ask), Time::at_ms(2_000), |answer, age_s| {
        assert_eq!(age_s, 1);
        answer.wire().to_vec()
    });
    match looked.found {
        Found::Fresh(wire) => Some(wire),
        Found::Stale(_) | Found::Nothing => None,
    }
}

#[test]
fn what_is_found_is_what_was_stored_last() {
    let cache = Cache::new(1 << 20, 0);
    let mut model: HashMap<String, (Ask, u8)> = HashMap::new();
    let mut dice = 1_u64;
    for _ in 0..200_000 {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let name = format!("n{}.example", (dice >> 33) % 3_000);
        let addresses = u8::try_from(dice >> 60).unwrap() + 1;
        if dice.is_multiple_of(3) {
            let ask = store(&cache, &name, addresses);
            model.insert(name, (ask, addresses));
        } else if let Some((ask, addresses)) = model.get(&name)
            && let Some(found) = look(&cache, ask)
        {
            assert_eq!(found, answer(&name, *addresses, 300).1.wire(), "{name}");
        }
    }
    let kept = model.values().filter(|(ask, _)| look(&cache, ask).is_some()).count();
    assert_eq!(kept, cache.len());
    assert!(
        kept > 1_500,
        "{kept} of 3,000 names of some 250 bytes are kept in a mebibyte"
    );
    cache.forget_all();
    assert_eq!((cache.len(), cache.size_bytes()), (0, 0));
    assert!(model.values().all(|(ask, _)| look(&cache, ask).is_none()));
}

#[test]
fn a_flood_of_new_names_does_not_displace_what_is_asked_for() {
    let cache = Cache::new(1 << 20, 0);
    let hot: Vec<Ask> = (0..500).map(|n| store(&cache, &format!("hot{n}.example"), 1)).collect();
    for round in 0..100 {
        for n in 0..1_000 {
            store(&cache, &format!("flood{round}-{n}.example"), 1);
        }
        // Each one once in a while.
        for ask in hot.iter().skip(round % 4).step_by(4) {
            assert!(look(&cache, ask).is_some(), "round {round}");
        }
    }
    assert!(cache.size_bytes() <= 1 << 20);
}

#[test]
fn an_entry_weighs_at_most_a_hundred_bytes_beyond_its_answer() {
    let cache = Cache::new(32 << 20, 0);
    let mut wire_bytes = 0;
    for n in 0..200_000 {
        let name = format!("n{n}.k.example.org");
        let (ask, answer) = answer(&name, 1, 300);
        wire_bytes += answer.wire().len();
        let now = Time::at_ms(1_000);
        cache.store(&ask, &Entry::new(answer, &ask, now), now);
    }
    assert_eq!(cache.len(), 200_000, "they all fit into the default size");
    let beyond = (cache.size_bytes() - u64::try_from(wire_bytes).unwrap()) / 200_000;
    assert!(beyond <= 100, "{beyond}");
}

#[test]
fn the_smallest_answers_take_no_more_memory_than_there_is_for_them() {
    for size in [1 << 20, 3 << 20] {
        let cache = Cache::new(size, 0);
        for n in 0..size / 96 {
            let name = format!("{n:x}");
            store(&cache, &name, 1);
        }
        let logs = cache.logs.iter().map(|log| log.lock().memory_bytes());
        let memory = logs.sum::<usize>();
        assert!(memory <= usize::try_from(size).unwrap(), "{memory} of {size}");
    }
}

#[test]
fn the_types_of_a_name_do_not_take_each_others_place() {
    let cache = Cache::new(1 << 20, 0);
    let now = Time::at_ms(1_000);
    for n in 0..1_000 {
        let (ask, answer) = answer(&format!("n{}.example", n / 10), 1, 300);
        let ask = Ask::new(&ask.name, 1 + n % 10, 1, (false, false), GroupKey::PUBLIC, 7);
        cache.store(&ask, &Entry::new(answer, &ask, now), now);
    }
    assert_eq!(cache.len(), 1_000);
}

#[test]
fn large_answers_come_and_go_like_small_ones() {
    let cache = Cache::new(1 << 20, 0);
    for round in 0..100 {
        let ask = store(&cache, &format!("large{}.example", round % 10), 255);
        let size = look(&cache, &ask).unwrap().len();
        assert!(size > 4_000, "{size}");
        // The same name with less, and with more again.
        store(&cache, &format!("large{}.example", round % 10), 1);
        assert!(look(&cache, &ask).unwrap().len() < 100);
    }
    assert!(cache.len() <= 10);
}

#[test]
fn the_fourth_hit_in_the_last_tenth_of_its_time_has_an_answer_anew_once() {
    let start = Time::at_ms(1_000);
    let cache = Cache::new(1 << 20, 0);
    let stored = |ttl_s| {
        let (ask, answer) = answer(&format!("t{ttl_s}.example"), 1, ttl_s);
        cache.store(&ask, &Entry::new(answer, &ask, start), start);
        ask
    };
    let hit = |ask: &Ask, ms: u64| {
        cache
            .look(&Wanted::of(ask), start.plus(ms * MS), |_, _| ())
            .hot
            .is_some()
    };
    let hot = stored(100);
    for (ms, anew) in [
        (1, false),
        (2, false),
        (95_000, false),
        (89_999, false),
        (90_000, true),
        (90_001, false),
    ] {
        assert_eq!(hit(&hot, ms), anew, "at {ms} ms");
    }
    // What came anew is counted anew, and three hits near the end are no crowd; what lives for seconds is let go.
    let cold = stored(100);
    assert_eq!([95_000, 95_001, 95_002].map(|ms| hit(&cold, ms)), [false; 3]);
    let brief = stored(9);
    assert_eq!([1, 2, 3, 8_900].map(|ms| hit(&brief, ms)), [false; 4]);
}

#[test]
fn only_what_was_asked_is_answered() {
    let cache = Cache::new(1 << 20, 0);
    let ask = store(&cache, "a.example", 1);
    let other = |change: fn(&mut Ask)| {
        let mut other = ask.clone();
        change(&mut other);
        look(&cache, &other)
    };
    assert!(other(|_| {}).is_some());
    // The same hash, as if by accident.
    assert!(other(|ask| ask.qtype = 28).is_none());
    assert!(other(|ask| ask.qclass = 3).is_none());
    assert!(other(|ask| ask.do_bit = true).is_none());
    assert!(other(|ask| ask.cd = true).is_none());
    assert!(other(|ask| ask.name = NameBuf::from_wire(b"\x01b\x07example\x00").unwrap()).is_none());
}

#[test]
fn a_failed_refresh_stays_with_its_entry_until_an_endpoint_returns() {
    let cache = Cache::new(1 << 20, 3_600 * SEC);
    let ask = store(&cache, "a.example", 1);
    let now = Time::at_ms(400_000);
    let stale = || match cache.look(&Wanted::of(&ask), now, |_, _| ()).found {
        Found::Stale(entry) => entry,
        Found::Fresh(()) | Found::Nothing => panic!("it is stale by now"),
    };
    assert!(!cache.refresh_failed_lately(&stale(), now));
    cache.note_refresh_failed(&ask, now);
    assert!(cache.refresh_failed_lately(&stale(), now));
    assert!(!cache.refresh_failed_lately(&stale(), now.plus(REFRESH_FAILED_US)));
    cache.forget_failures(now);
    assert!(!cache.refresh_failed_lately(&stale(), now));
}

#[test]
fn a_failure_is_remembered_if_it_is_short() {
    let cache = Cache::new(1 << 20, 0);
    let now = Time::at_ms(1_000);
    for (name, addresses, is_short) in [("short.example", 60, true), ("long.example", 90, false)] {
        let (ask, answer) = answer(name, addresses, 300);
        assert_eq!(answer.wire().len() <= FAILURE_BYTES, is_short);
        let failure = Failure::Agreed(Arc::new(Entry::new(answer, &ask, now)));
        cache.replace_by_failure(&ask, failure, now);
        assert_eq!(cache.find_failure(&ask, now).is_some(), is_short, "{name}");
    }
}
