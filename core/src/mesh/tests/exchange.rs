//! Pulls: rounds, answers, bounds.

use super::*;

fn pulls(bench: &Bench) -> Vec<(u64, u8)> {
    let pulls = bench.said.iter().filter_map(|(at, output)| match output {
        Output::Pull { from, .. } => Some((at.as_micros() / MS, from.0[0])),
        _ => None,
    });
    pulls.collect()
}

/// Lets time pass; every pull is answered at once.
fn pass_answering(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / 100 {
        let seen = bench.said.len();
        bench.pass(100);
        for index in seen..bench.said.len() {
            if let Output::Pull { from, .. } = bench.said[index].1 {
                let sample = bench.sample(0);
                bench.give(|cluster, now| cluster.handle_answered(from, sample, now));
            }
        }
    }
}

fn line(number: u8, incarnation: u64, sequence: u32) -> DigestLine {
    DigestLine {
        node: [number; 8],
        edition: Edition { incarnation, sequence },
    }
}

#[test]
fn rounds_come_every_5_s_and_ask_two_or_three_peers() {
    for (members, per_round) in [(&[120, 121][..], 2), (&[120, 121, 122, 123, 124][..], 3)] {
        let mut bench = Bench::of(members);
        for number in members {
            bench.join(*number);
        }
        bench.take();
        pass_answering(&mut bench, 100_000);
        let pulls = pulls(&bench);
        let mut rounds: Vec<u64> = pulls.iter().map(|(at, _)| *at).collect();
        rounds.dedup();
        assert!((18..=24).contains(&rounds.len()), "{rounds:?}");
        assert_eq!(pulls.len(), rounds.len() * per_round, "{pulls:?}");
        for number in members {
            assert!(pulls.iter().filter(|(_, from)| from == number).count() > 5);
        }
    }
}

#[test]
fn a_pull_that_is_not_answered_is_not_piled_upon() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.take();
    bench.pass(9_000);
    assert_eq!(pulls(&bench).len(), 0, "the first one is not answered yet");
    bench.pass(21_000);
    let count = pulls(&bench).len();
    assert!((1..=3).contains(&count), "{count}");
    bench.take();
    bench.give(|cluster, now| cluster.handle_unanswered(node(120), now));
    bench.pass(6_000);
    assert_eq!(pulls(&bench).len(), 1);
    assert_eq!(bench.state(120), PeerState::Connected);
}

#[test]
fn a_digest_tells_what_is_held_and_an_answer_what_is_newer() {
    let mut bench = Bench::of(&[90, 120, 121]);
    bench.report(1, false);
    bench.join(120);
    let wall_ms = bench.wall_ms();
    for (of, sequence) in [(90, 4), (120, 5), (121, 6)] {
        let taken = bench.bring(snapshot(of, 7, sequence, wall_ms), Via::Pull(node(120)), Some(50));
        assert_eq!(taken, Ok(Merged::Newest));
    }
    let sample = bench.sample(0);
    bench.give(|cluster, now| cluster.handle_answered(node(120), sample, now));
    bench.take();
    bench.pass(6_000);
    let digest = bench.said.iter().find_map(|(_, output)| match output {
        Output::Pull { digest, .. } => Some(digest.clone()),
        _ => None,
    });
    let own = bench.cluster.own_edition().unwrap();
    let expected = [
        line(100, own.incarnation, own.sequence),
        line(90, 7, 4),
        line(120, 7, 5),
        line(121, 7, 6),
    ];
    assert_eq!(digest.unwrap(), expected);
    let known = [
        line(100, own.incarnation, own.sequence),
        line(90, 7, 4),
        line(121, 7, 5),
    ];
    let answer = bench
        .give(|cluster, now| cluster.handle_pull(node(120), &known, now))
        .unwrap();
    let said: Vec<String> = answer
        .iter()
        .map(|p| String::from_utf8_lossy(&p.bytes).into_owned())
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        answer.iter().all(|passed| (5_990..=6_060).contains(&passed.age_ms)),
        "{answer:?}"
    );
    // What counts no more is not passed on.
    bench.pass(31_000);
    let answer = bench
        .give(|cluster, now| cluster.handle_pull(node(120), &[], now))
        .unwrap();
    assert_eq!(answer.len(), 1);
}

#[test]
fn strangers_get_nothing_and_peers_not_too_much() {
    let mut bench = Bench::of(&[90, 120]);
    bench.join(120);
    let pull = |bench: &mut Bench, from| bench.give(|cluster, now| cluster.handle_pull(node(from), &[], now));
    assert_eq!(pull(&mut bench, 33), Err(Refusal::NoHello));
    assert_eq!(pull(&mut bench, 90), Err(Refusal::NoHello));
    let served = (0..30).filter(|_| pull(&mut bench, 120).is_ok()).count();
    assert_eq!(served, 10);
    assert_eq!(pull(&mut bench, 120), Err(Refusal::TooMuch));
    bench.pass(1_000);
    assert!(pull(&mut bench, 120).is_ok());
}

#[test]
fn an_answer_is_bounded_and_the_rest_comes_soon() {
    let others: Vec<u8> = (101..=240).collect();
    let mut bench = Bench::of(&others);
    bench.join(120);
    bench.join(121);
    let wall_ms = bench.wall_ms();
    for other in &others {
        let via = Via::Pull(node(120));
        assert!(bench.bring(snapshot(*other, 1, 1, wall_ms), via, Some(0)).is_ok());
    }
    // Full answers are followed by another pull without waiting for the round.
    let asked: Vec<u64> = pulls(&bench)
        .iter()
        .filter(|(_, from)| *from == 120)
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(asked.len(), 1);
    let sample = bench.sample(0);
    bench.give(|cluster, now| cluster.handle_answered(node(120), sample, now));
    bench.pass(1_000);
    let asked = pulls(&bench).iter().filter(|(_, from)| *from == 120).count();
    assert_eq!(asked, 2);
    let mut got = BTreeSet::new();
    for _ in 0..12 {
        let answer = bench
            .give(|cluster, now| cluster.handle_pull(node(120), &[], now))
            .unwrap_or_default();
        assert!(answer.len() <= 64);
        got.extend(answer.into_iter().map(|passed| passed.bytes));
        bench.pass(500);
    }
    assert_eq!(got.len(), others.len(), "every one of them in one of the answers");
}

#[test]
fn a_sleep_is_no_burst() {
    let mut bench = Bench::of(&[120, 121, 122, 123]);
    bench.report(1, true);
    for number in [120, 121, 122, 123] {
        bench.join(number);
    }
    pass_answering(&mut bench, 10_000);
    bench.take();
    bench.now = bench.now.plus(3_600 * SEC);
    bench.give(Cluster::handle_timeout);
    assert_eq!(pulls(&bench).len(), 3);
    assert_eq!(bench.signed().len(), 1);
}
