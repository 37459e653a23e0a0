//! Own snapshots: when, under which edition, and who gets them.

use super::*;

/// Pushes and gossip since the last look.
fn spread(said: &[Output]) -> (Vec<u8>, usize) {
    let pushed = said.iter().filter_map(|output| match output {
        Output::Push { to, .. } => Some(to.0[0]),
        _ => None,
    });
    let gossiped = said.iter().filter(|output| matches!(output, Output::Gossip(_))).count();
    (pushed.collect(), gossiped)
}

fn stored(said: &[Output]) -> Vec<u64> {
    let stored = said.iter().filter_map(|output| match output {
        Output::StoreIncarnation(incarnation) => Some(*incarnation),
        _ => None,
    });
    stored.collect()
}

#[test]
fn the_incarnation_grows_and_is_on_disk_before_anything_is_said() {
    for (stored_incarnation, expected) in [(0, WALL_MS), (WALL_MS + 5, WALL_MS + 6), (u64::MAX, (1 << 48) - 1)] {
        let mut bench = Bench::new(Settings {
            stored_incarnation,
            ..settings(&[])
        });
        assert_eq!(stored(&bench.take()), [expected]);
        bench.report(1, false);
        let edition = bench.cluster.own_edition().unwrap();
        assert_eq!(
            edition,
            Edition {
                incarnation: expected,
                sequence: 1
            }
        );
    }
    let now = Time::at_ms(1_000);
    let mut cluster = Cluster::new(settings(&[]), now);
    cluster.handle_own_report(Arc::new(OwnReport::default()), now);
    cluster.handle_incarnation_stored(3, now);
    let outputs: Vec<Output> = std::iter::from_fn(|| cluster.poll_output()).collect();
    assert_eq!(outputs, [Output::StoreIncarnation(WALL_MS)]);
    cluster.handle_incarnation_stored(WALL_MS, now);
    assert!(matches!(cluster.poll_output(), Some(Output::Sign(_))));
}

#[test]
fn a_change_is_published_at_once_and_at_most_every_100_ms() {
    let mut bench = Bench::of(&[120, 121]);
    bench.join(120);
    bench.join(121);
    bench.take();
    bench.report(1, false);
    assert_eq!(spread(&bench.take()), (vec![120, 121], 1));
    for urgent in 2..50 {
        bench.pass(7);
        bench.report(urgent, false);
    }
    bench.pass(100);
    let signed: Vec<u64> = bench.signed().iter().map(|(at, _)| *at).collect();
    assert!(
        signed.len() >= 4 && signed.windows(2).all(|pair| pair[1] - pair[0] >= 100),
        "{signed:?}"
    );
    // Mere times are no change.
    bench.take();
    bench.report(49, false);
    bench.pass(500);
    assert_eq!(bench.signed(), []);
}

#[test]
fn it_is_signed_anew_every_10_s_and_told_to_who_asks() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.report(1, false);
    bench.take();
    bench.pass(100_000);
    let signed = bench.signed();
    assert!((10..=13).contains(&signed.len()), "{}", signed.len());
    let sequences: Vec<u32> = signed.iter().map(|(_, snapshot)| snapshot.edition.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(signed.iter().all(|(_, snapshot)| snapshot.period_s == 10));
    // An hour-old success is said to be an hour old.
    let (at, last) = signed.last().unwrap();
    assert_eq!(u64::from(last.entries[0].last_success_age_ms.unwrap()), at - 900);
    assert_eq!(spread(&bench.take()), (vec![], 0));
    let answer = bench
        .give(|cluster, now| cluster.handle_pull(node(120), &[], now))
        .unwrap();
    assert_eq!(answer.len(), 1);
}

#[test]
fn while_a_down_stands_it_is_signed_and_pushed_every_3_s() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.report(1, false);
    bench.pass(200);
    bench.report(2, true);
    bench.take();
    bench.pass(30_000);
    let signed = bench.signed();
    assert!((10..=13).contains(&signed.len()), "{}", signed.len());
    assert!(signed.iter().all(|(_, snapshot)| snapshot.period_s == 3));
    let (pushed, gossiped) = spread(&bench.take());
    assert_eq!((pushed.len(), gossiped), (signed.len(), 0));
    // Over: the next one is good for long again.
    bench.report(3, false);
    assert_eq!(bench.signed()[0].1.period_s, 10);
}

#[test]
fn who_asks_while_a_down_stands_gets_one_that_is_no_older_than_a_second() {
    let mut bench = Bench::of(&[120, 121]);
    bench.join(120);
    bench.join(121);
    bench.report(2, true);
    bench.pass(1_100);
    bench.take();
    let answer = bench
        .give(|cluster, now| cluster.handle_pull(node(120), &[], now))
        .unwrap();
    assert_eq!(answer.len(), 1);
    assert_eq!(spread(&bench.take()), (vec![120], 0));
    bench.pass(500);
    let answer = bench
        .give(|cluster, now| cluster.handle_pull(node(121), &[], now))
        .unwrap();
    assert_eq!((answer[0].age_ms, bench.signed().len()), (500, 0));
    // And that does not keep the others waiting for theirs.
    for _ in 0..4 {
        bench.pass(1_100);
        assert!(
            bench
                .give(|cluster, now| cluster.handle_pull(node(120), &[], now))
                .is_ok()
        );
    }
    let (pushed, _) = spread(&bench.take());
    assert!(pushed.contains(&121), "{pushed:?}");
}

#[test]
fn foreign_operators_are_not_pushed_to() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let foreign = Member {
        circle: Circle::Foreign(0),
        ..member(120)
    };
    bench.give(|cluster, now| cluster.handle_members(vec![foreign], now));
    bench.take();
    bench.report(1, false);
    assert_eq!(spread(&bench.take()), (vec![], 1));
}

#[test]
fn a_signature_that_never_comes_is_asked_for_again_and_a_late_one_is_of_no_use() {
    let mut bench = Bench::of(&[]);
    bench.signs = false;
    bench.report(1, false);
    bench.pass(1_500);
    let signed = bench.signed();
    assert_eq!(signed.len(), 2);
    let first = seal(signed[0].1.clone());
    bench.give(|cluster, now| cluster.handle_signed(first, now));
    assert_eq!(bench.cluster.own_edition(), None);
    let second = seal(signed[1].1.clone());
    bench.give(|cluster, now| cluster.handle_signed(second, now));
    assert_eq!(bench.cluster.own_edition().unwrap().sequence, 2);
    assert_eq!(spread(&bench.take()).1, 1);
}

#[test]
fn after_a_lost_disk_and_clock_it_goes_on_above_what_peers_hold() {
    let mut bench = Bench::new(Settings {
        wall_ms: 5,
        ..settings(&[120])
    });
    bench.report(1, false);
    let connection = bench.connect(120, true);
    bench.take();
    let held = Edition {
        incarnation: WALL_MS,
        sequence: 17,
    };
    let mut yours = hello(120);
    yours.yours = Some((held, BootId(77)));
    bench.pass(200);
    let sample = Some(bench.sample(0));
    assert!(
        bench
            .give(|cluster, now| cluster.handle_hello(connection, &yours, sample, now))
            .is_ok()
    );
    assert_eq!(stored(&bench.take()), [WALL_MS + 1]);
    let edition = bench.cluster.own_edition().unwrap();
    assert_eq!(
        edition,
        Edition {
            incarnation: WALL_MS + 1,
            sequence: 1
        }
    );
    // Its own life is no other one, and nobody can use up all incarnations.
    for (edition, boot) in [
        (edition, 1),
        (
            Edition {
                incarnation: 1 << 47,
                sequence: 1,
            },
            78,
        ),
    ] {
        let mut yours = hello(120);
        yours.yours = Some((edition, BootId(boot)));
        let connection = bench.connect(120, true);
        assert!(
            bench
                .give(|cluster, now| cluster.handle_hello(connection, &yours, None, now))
                .is_ok()
        );
        assert_eq!(stored(&bench.take()), []);
    }
}

#[test]
fn what_a_hello_claims_unsigned_never_silences() {
    let mut bench = Bench::of(&[120, 121]);
    bench.join(121);
    bench.report(1, false);
    bench.take();
    let connection = bench.join(120);
    for round in 0..50 {
        let reached = bench.cluster.own_edition().unwrap();
        let mut lie = hello(120);
        let incarnation = reached.incarnation + 1;
        lie.yours = Some((
            Edition {
                incarnation,
                sequence: 9,
            },
            BootId(1_000 + round % 20),
        ));
        bench.pass(2_000);
        assert!(
            bench
                .give(|cluster, now| cluster.handle_hello(connection, &lie, None, now))
                .is_ok()
        );
        bench.report(100 + round, false);
    }
    let said = bench.take();
    let alarms = events(&said).into_iter();
    assert_eq!(
        alarms
            .filter(|event| matches!(event, Event::DuplicateInstance { .. }))
            .count(),
        0
    );
    assert_eq!(stored(&said).len(), 4, "and it costs a few writes only");
    let (pushed, _) = spread(&said);
    assert!(pushed.iter().filter(|to| **to == 121).count() >= 50, "{}", pushed.len());
}

/// A snapshot under our own key by another process.
fn of_another(incarnation: u64) -> Snapshot {
    let mut other = snapshot(100, incarnation, 1, WALL_MS + 5_000);
    other.boot = BootId(666);
    other
}

#[test]
fn of_two_processes_under_one_key_the_lower_is_silent() {
    let via = Via::Pull(node(120));
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.report(1, false);
    bench.pass(10_000);
    bench.take();
    // One that began its life after the other goes on.
    assert_eq!(
        bench.bring(of_another(WALL_MS - 1), via, Some(0)),
        Err(RejectedSnapshot::Own)
    );
    assert_eq!(
        bench.take(),
        [Output::Event(Event::DuplicateInstance { own_is_lower: false })]
    );
    bench.pass(70_000);
    bench.take();
    assert!(bench.bring(of_another(WALL_MS + 1), via, Some(0)).is_err());
    assert_eq!(
        bench.take(),
        [Output::Event(Event::DuplicateInstance { own_is_lower: true })]
    );
    bench.report(2, true);
    for _ in 0..10 {
        bench.pass(30_000);
        assert!(bench.bring(of_another(WALL_MS + 1), via, Some(0)).is_err());
        let answer = bench.give(|cluster, now| cluster.handle_pull(node(120), &[], now));
        assert_eq!(answer, Ok(vec![]));
    }
    assert_eq!(bench.signed(), []);
    // A minute after the other is gone it speaks again, and is heard.
    bench.take();
    bench.pass(60_000);
    assert_eq!(stored(&bench.take()), [WALL_MS + 2]);
    assert_eq!(bench.cluster.own_edition().unwrap().incarnation, WALL_MS + 2);
}

#[test]
fn a_former_life_is_no_other_process() {
    let via = Via::Pull(node(120));
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.report(1, false);
    bench.take();
    let age_ms = Some(u32::try_from(bench.now.as_micros() / MS).unwrap() + 500);
    assert!(bench.bring(of_another(WALL_MS - 1), via, age_ms).is_err());
    assert_eq!(bench.take(), []);
    // Nor if who brings it makes it younger: its own clock is signed.
    let mut replayed = snapshot(100, WALL_MS - 1, 1, WALL_MS - 1_000);
    replayed.boot = BootId(666);
    bench.pass(5_000);
    bench.take();
    assert!(bench.bring(replayed, via, Some(0)).is_err());
    assert_eq!(events(&bench.take()), []);
    let age_ms = Some(u32::try_from(bench.now.as_micros() / MS).unwrap() + 500);
    assert!(bench.bring(of_another(WALL_MS + 7), via, age_ms).is_err());
    assert_eq!(stored(&bench.take()), [WALL_MS + 8]);
    // The same life with a still higher edition lives.
    assert!(bench.bring(of_another(WALL_MS + 9), via, age_ms).is_err());
    assert_eq!(events(&bench.take()), [Event::DuplicateInstance { own_is_lower: true }]);
}

#[test]
fn who_stops_says_so_once_and_closes() {
    let mut bench = Bench::of(&[120, 121]);
    let connection = bench.join(120);
    bench.report(1, false);
    bench.pass(1_000);
    bench.take();
    bench.give(Cluster::handle_stop);
    let signed = bench.signed();
    assert!(signed.len() == 1 && signed[0].1.leaving);
    let said = bench.take();
    assert_eq!(spread(&said), (vec![120], 1));
    assert_eq!(closes(&said), []);
    bench.give(Cluster::handle_stop);
    bench.pass(250);
    assert_eq!(closes(&bench.take()), [(connection.0, CloseWhy::Stopping)]);
    bench.give(|cluster, now| cluster.handle_disconnected(connection, now));
    bench.pass(120_000);
    assert!(
        bench
            .take()
            .iter()
            .all(|output| matches!(output, Output::Event(_) | Output::Forget(_)))
    );
}
