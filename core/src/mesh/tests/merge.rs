//! Which snapshot is a node's newest, and when it was issued.

use super::*;

const PUSH: Via = Via::Push(node(120));

fn reports(said: &[Output]) -> Vec<crate::report::PeerReport> {
    let reports = said.iter().filter_map(|output| match output {
        Output::Report(report) => Some(report.clone()),
        _ => None,
    });
    reports.collect()
}

#[test]
fn the_last_writer_wins_by_incarnation_then_sequence() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let cases = [
        (5, 1, Ok(Merged::Newest)),
        (5, 1, Ok(Merged::Known)),
        (5, 3, Ok(Merged::Newest)),
        (5, 2, Err(RejectedSnapshot::Older)),
        (4, 9, Err(RejectedSnapshot::Older)),
        (6, 1, Ok(Merged::Newest)),
    ];
    let wall_ms = bench.wall_ms();
    for (incarnation, sequence, expected) in cases {
        bench.take();
        let result = bench.bring(snapshot(120, incarnation, sequence, wall_ms), PUSH, Some(0));
        assert_eq!(result, expected, "{incarnation} {sequence}");
        let news = reports(&bench.take());
        assert_eq!(news.len(), usize::from(expected == Ok(Merged::Newest)));
    }
    assert_eq!(bench.view(120).unwrap().edition.unwrap().incarnation, 6);
}

#[test]
fn only_members_are_heard_and_only_of_those_admitted() {
    let mut bench = Bench::of(&[90, 120]);
    bench.join(120);
    let wall_ms = bench.wall_ms();
    let cases = [
        (Via::Gossip(node(120)), 33, RejectedSnapshot::UnknownNode),
        (Via::Gossip(node(33)), 120, RejectedSnapshot::NoHello),
        (Via::Pull(node(90)), 120, RejectedSnapshot::NoHello),
        (PUSH, 100, RejectedSnapshot::Own),
    ];
    for (via, of, expected) in cases {
        assert_eq!(bench.bring(snapshot(of, 1, 1, wall_ms), via, Some(0)), Err(expected));
    }
    // A member that is not connected here is heard of through others.
    let taken = bench.bring(snapshot(90, 1, 1, wall_ms), Via::Gossip(node(120)), Some(100));
    assert_eq!(taken, Ok(Merged::Newest));
    assert_eq!(bench.view(90).unwrap().issued, Some(bench.now.minus(100 * MS)));
}

#[test]
fn two_truths_under_one_edition_end_all_trust() {
    let mut bench = Bench::of(&[90, 120]);
    bench.join(120);
    let wall_ms = bench.wall_ms();
    assert!(bench.bring(snapshot(90, 5, 1, wall_ms), PUSH, Some(0)).is_ok());
    bench.take();
    let mut other = snapshot(90, 5, 1, wall_ms);
    other.uplink_suspect = true;
    let result = bench.bring(other, PUSH, Some(0));
    assert_eq!(result, Err(RejectedSnapshot::Equivocation));
    let said = bench.take();
    assert_eq!(
        said,
        [Output::Event(Event::Equivocation(node(90))), Output::Forget(node(90))]
    );
    let result = bench.bring(snapshot(90, 6, 1, wall_ms), PUSH, Some(0));
    assert_eq!(result, Err(RejectedSnapshot::Quarantined));
    assert_eq!(bench.state(90), PeerState::Quarantined);
    // Another life under the same edition is no second truth of one process, but it is no newer either.
    assert!(bench.bring(snapshot(120, 5, 1, wall_ms), PUSH, Some(0)).is_ok());
    let mut other = snapshot(120, 5, 1, wall_ms);
    other.boot = BootId(9_999);
    assert_eq!(bench.bring(other, PUSH, Some(0)), Err(RejectedSnapshot::Older));
}

#[test]
fn a_clock_ten_minutes_off_is_understood() {
    for offset_ms in [-600_000_i64, 0, 600_000] {
        let mut bench = Bench::of(&[90, 120]);
        bench.join(120);
        let first = bench.connect(90, true);
        let sample = Some(bench.sample(offset_ms));
        let answer = bench.give(|cluster, now| cluster.handle_hello(first, &hello(90), sample, now));
        assert!(answer.is_ok());
        bench.pass(3_000);
        // Issued three seconds ago, brought by another node that says something else of its age.
        let wall_ms = bench.wall_ms().saturating_add_signed(offset_ms) - 3_000;
        bench.take();
        let result = bench.bring(snapshot(90, 5, 1, wall_ms), PUSH, Some(1));
        assert_eq!(result, Ok(Merged::Newest));
        let report = reports(&bench.take()).remove(0);
        let age_ms = bench.now.since(report.issued) / MS;
        assert!((2_994..=3_006).contains(&age_ms), "{age_ms}");
        assert_eq!(report.fresh_until, report.issued.plus(30 * SEC));
        let shown = bench.view(90).unwrap().clock_offset_ms.unwrap();
        assert!((shown - offset_ms).abs() < 10, "{shown}");
    }
}

#[test]
fn what_is_older_than_three_periods_or_from_the_future_does_not_count() {
    let mut bench = Bench::of(&[90, 120]);
    bench.join(120);
    bench.pass(100_000);
    let wall_ms = bench.wall_ms();
    let cases = [
        (120, wall_ms - 30_100, Some(30_100), false),
        (120, wall_ms - 29_900, Some(29_900), true),
        (120, wall_ms + 1_900, None, true),
        (120, wall_ms + 2_100, None, false),
        // Never met: the age that is told.
        (90, wall_ms, Some(30_001), false),
        (90, wall_ms + 600_000, Some(29_999), true),
        // Never met, and nobody says.
        (90, wall_ms, None, false),
    ];
    for (sequence, (of, wall_ms, age_ms, counts)) in (1..).zip(cases) {
        bench.take();
        let result = bench.bring(snapshot(of, 5, sequence, wall_ms), PUSH, age_ms);
        let expected = if counts {
            Ok(Merged::Newest)
        } else {
            Err(RejectedSnapshot::Stale)
        };
        assert_eq!(result, expected, "{sequence}");
        for report in reports(&bench.take()) {
            assert!(report.issued <= bench.now);
        }
    }
}

#[test]
fn a_peers_clock_that_was_set_does_not_make_it_unheard() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    for (sequence, jump_ms) in [(1, 600_000_i64), (2, -600_000)] {
        bench.pass(1_000);
        let wall_ms = bench.wall_ms().saturating_add_signed(jump_ms);
        bench.take();
        let result = bench.bring(snapshot(120, 5, sequence, wall_ms), PUSH, Some(20));
        assert_eq!(result, Ok(Merged::Newest));
        assert_eq!(reports(&bench.take())[0].issued, bench.now.minus(20 * MS));
    }
}

#[test]
fn what_was_held_back_on_the_way_is_as_old_as_it_is_whatever_it_says() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    bench.pass(20_000);
    // Signed and sent five seconds ago, "just now" as it says itself.
    let wall_ms = bench.wall_ms() - 5_000;
    bench.give(|cluster, now| cluster.handle_unanswered(node(120), now));
    bench.take();
    let result = bench.bring(snapshot(120, 5, 1, wall_ms), PUSH, Some(0));
    assert_eq!(result, Ok(Merged::Newest));
    let said = bench.take();
    let age_ms = bench.now.since(reports(&said)[0].issued) / MS;
    assert!((4_990..=5_010).contains(&age_ms), "{age_ms}");
    // If its clock was set instead, the answer to this tells.
    assert!(said.iter().any(|output| matches!(output, Output::Pull { .. })));
}

#[test]
fn absurd_periods_are_not_believed() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    for (sequence, period_s, fresh_s) in [(1, 0, 3), (2, 255, 180), (3, 3, 9)] {
        let mut snapshot = snapshot(120, 5, sequence, bench.wall_ms());
        snapshot.period_s = period_s;
        bench.take();
        assert!(bench.bring(snapshot, PUSH, Some(0)).is_ok());
        let report = reports(&bench.take()).remove(0);
        assert_eq!(report.fresh_until, report.issued.plus(fresh_s * SEC));
    }
}

#[test]
fn who_leaves_is_forgotten_and_who_is_silent_too() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let mut leaving = snapshot(120, 5, 1, bench.wall_ms());
    leaving.leaving = true;
    bench.take();
    assert!(bench.bring(leaving, PUSH, Some(0)).is_ok());
    assert_eq!(bench.take(), [Output::Forget(node(120))]);
    let next = snapshot(120, 6, 1, bench.wall_ms());
    assert!(bench.bring(next, PUSH, Some(0)).is_ok());
    bench.take();
    bench.pass(899_000);
    assert!(!bench.take().contains(&Output::Forget(node(120))));
    bench.pass(1_100);
    assert!(bench.take().contains(&Output::Forget(node(120))));
    // What was once taken is never taken again.
    let old = snapshot(120, 6, 1, bench.wall_ms());
    assert_eq!(bench.bring(old, PUSH, Some(0)), Err(RejectedSnapshot::Older));
}

#[test]
fn a_peer_that_brings_too_much_is_cut_off_for_a_while() {
    let mut bench = Bench::of(&[90, 120]);
    bench.join(120);
    bench.join(90);
    let wall_ms = bench.wall_ms();
    let results = (1..400).map(|n| bench.bring(snapshot(120, 5, n, wall_ms), PUSH, Some(0)));
    let refused = results
        .filter(|result| *result == Err(RejectedSnapshot::TooMuch))
        .count();
    assert_eq!(refused, 399 - 256);
    let other = bench.bring(snapshot(90, 5, 1, wall_ms), Via::Push(node(90)), Some(0));
    assert_eq!(other, Ok(Merged::Newest));
    bench.pass(1_000);
    assert!(bench.bring(snapshot(120, 5, 500, wall_ms), PUSH, Some(1_000)).is_ok());
}

#[test]
fn a_member_that_changes_hands_is_weighed_anew() {
    let mut bench = Bench::of(&[120]);
    bench.join(120);
    let now = snapshot(120, 5, 1, bench.wall_ms());
    assert!(bench.bring(now, PUSH, Some(0)).is_ok());
    bench.take();
    let foreign = Member {
        circle: Circle::Foreign(3),
        ..member(120)
    };
    bench.give(|cluster, now| cluster.handle_members(vec![foreign], now));
    assert_eq!(reports(&bench.take())[0].circle, Circle::Foreign(3));
    assert_eq!(bench.state(120), PeerState::Connected);
}
