//! One endpoint's health, input by input; the sentences of the design's section on health and selection.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]

use super::failures::FAILURES_MAX;
use super::*;
use crate::outcome::Rcode;

/// An endpoint and the shell's side of it.
struct Bench {
    health: Health,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            health: Health::new(Time::ZERO),
            next: 1,
        }
    }

    /// 40 answers of 10 ms, the last begun at 400 ms.
    fn warm() -> Self {
        let mut bench = Self::new();
        for n in 1..=40 {
            let begun = bench.ask(n * 10);
            bench.answer(begun, n * 10 + 10);
        }
        assert_eq!(bench.health.latencies().timing().timeout_us, 250 * MS);
        bench
    }

    fn begin(&mut self, ms: u64, socket: u64, purpose: Purpose) -> Begun {
        let begun = Begun {
            id: self.next,
            at: Time::at_ms(ms),
            socket,
            purpose,
        };
        self.next += 1;
        self.health.begin(begun);
        begun
    }

    /// A client's attempt on a socket of its own.
    fn ask(&mut self, ms: u64) -> Begun {
        self.begin(ms, self.next, Purpose::Client)
    }

    fn finish(&mut self, begun: Begun, finish: Finish, good: bool, ms: u64) {
        self.health.finish(begun, finish, good, Time::at_ms(ms));
    }

    /// A good answer.
    fn answer(&mut self, begun: Begun, ms: u64) {
        let finish = Finish::Answered {
            reply: Reply::Positive,
            latency_us: Time::at_ms(ms).since(begun.at),
        };
        self.finish(begun, finish, true, ms);
    }

    fn fail(&mut self, begun: Begun, failure: Failure, ms: u64) {
        self.finish(begun, Finish::Failed(failure), false, ms);
    }

    fn advance(&mut self, ms: u64) {
        self.health.advance(Time::at_ms(ms));
    }

    fn state(&self) -> (State, Cause) {
        (self.health.state(), self.health.cause())
    }

    /// Three distinct failures from `ms` on, and the verdict.
    fn fall_at(&mut self, ms: u64) {
        for n in 0..3 {
            let begun = self.ask(ms + n * 100);
            self.fail(begun, Failure::Reset, ms + n * 100 + 1);
        }
        assert!(self.health.condemnable_since().is_some());
        self.health.condemn(Time::at_ms(ms + 201));
        assert_eq!(self.health.state(), State::Down);
    }

    /// A probe that is answered after 10 ms.
    fn good_probe(&mut self, ms: u64) {
        let begun = self.begin(ms, self.next, Purpose::Probe);
        self.answer(begun, ms + 10);
    }

    fn assert_within_caps(&self) {
        let health = &self.health;
        assert!(health.open.len() <= OPEN_MAX);
        assert!(health.timeouts.len() <= 2 * OPEN_MAX && health.maturing.len() <= 2 * OPEN_MAX);
        assert!(health.lapsed.len() <= OPEN_MAX);
        assert!(health.failures.iter().len() <= FAILURES_MAX && health.unheard.len() <= SILENCE_ATTEMPTS);
        assert!(health.loss_probes.len() <= 32 && health.falls.len() <= FALLS_MAX);
        assert!(health.changes.len() <= 64, "{}", health.changes.len());
    }
}

#[test]
fn a_timeout_is_four_p95_between_250_ms_and_one_second() {
    for (latency_ms, timeout_ms) in [(10, 250), (100, 400), (400, 1_000)] {
        let mut bench = Bench::new();
        for n in 0..32 {
            let begun = bench.ask(n * 1_000);
            bench.answer(begun, n * 1_000 + latency_ms);
        }
        let timeout = bench.health.latencies().timing().timeout_us / MS;
        // A bucket of the histogram is 6 % wide.
        assert!(
            (timeout_ms..=timeout_ms * 107 / 100).contains(&timeout),
            "{latency_ms}: {timeout}"
        );
    }
}

#[test]
fn a_timeout_makes_suspect_since_the_attempt_began() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    bench.advance(1_249);
    assert_eq!(bench.health.state(), State::Up);
    bench.advance(1_250);
    assert_eq!(bench.state(), (State::Suspect, Cause::Timeout));
    assert_eq!(bench.health.doubt().unwrap().since, Time::at_ms(1_000));
}

#[test]
fn a_timeout_after_a_later_success_changes_nothing() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    let later = bench.ask(1_001);
    bench.answer(later, 1_011);
    bench.advance(1_300);
    assert_eq!(bench.health.state(), State::Up);
}

#[test]
fn a_late_answer_withdraws_its_failure_and_is_no_success() {
    let mut bench = Bench::warm();
    let late = bench.ask(1_000);
    bench.advance(1_250);
    assert_eq!(bench.health.failures.iter().len(), 1);
    bench.answer(late, 1_400);
    assert!(bench.health.failures.is_empty());
    assert_eq!(bench.health.state(), State::Suspect);
    assert_eq!(bench.health.last_success(), Some(Time::at_ms(400)));
    assert_eq!(bench.health.latencies().answers(), 41);
}

#[test]
fn a_late_answer_does_not_end_down() {
    let mut bench = Bench::warm();
    let late = bench.ask(1_000);
    bench.advance(1_250);
    bench.fall_at(1_300);
    bench.answer(late, 2_000);
    assert_eq!(bench.health.state(), State::Down);
    assert_eq!(bench.health.recovery.0, 0);
}

#[test]
fn a_failure_of_many_attempts_stands_until_all_were_answered_late() {
    let mut bench = Bench::warm();
    let (first, second) = (bench.ask(1_000), bench.ask(1_099));
    bench.advance(1_400);
    assert_eq!(bench.health.failures.iter().len(), 1);
    bench.answer(first, 1_500);
    assert_eq!(bench.health.failures.iter().len(), 1);
    bench.answer(second, 1_500);
    assert!(bench.health.failures.is_empty());
}

#[test]
fn failures_begun_less_than_100_ms_apart_are_one() {
    let mut bench = Bench::warm();
    for ms in [1_000, 1_050, 1_099, 1_100, 1_200] {
        let begun = bench.ask(ms);
        bench.fail(begun, Failure::Unreachable, ms + 1);
    }
    let begun: Vec<u64> = bench.health.failures.iter().map(|f| f.begun.as_micros() / MS).collect();
    assert_eq!(begun, [1_000, 1_100, 1_200]);
}

#[test]
fn five_attempts_older_than_p75_and_nothing_heard_are_silence() {
    let mut bench = Bench::warm();
    for n in 0..5 {
        bench.ask(1_000 + n * 4);
    }
    let p75_us = bench.health.latencies().timing().p75_us;
    let due = Time::at_ms(1_016).plus(p75_us.max(50 * MS));
    bench.health.advance(due.minus(1));
    assert_eq!(bench.health.state(), State::Up);
    assert_eq!(bench.health.next_due(), Some((due, "silence")));
    bench.health.advance(due);
    assert_eq!(bench.state(), (State::Suspect, Cause::Silence));
    assert_eq!(bench.health.doubt().unwrap().since, Time::at_ms(1_000));
}

#[test]
fn the_first_two_seconds_of_answers_are_no_measure_of_loss() {
    let mut bench = Bench::warm();
    lose_a_third(&mut bench, 1_000, 40);
    assert_eq!(bench.health.state(), State::Up);
}

#[test]
fn anything_received_ends_the_silence() {
    let mut bench = Bench::warm();
    let first = bench.ask(1_000);
    for n in 1..5 {
        bench.ask(1_000 + n * 4);
    }
    bench.finish(
        first,
        Finish::Answered {
            reply: Reply::Failed(Rcode::SERVFAIL),
            latency_us: 17 * MS,
        },
        false,
        1_017,
    );
    bench.advance(1_040);
    assert_eq!(bench.health.state(), State::Up);
    for n in 0..5 {
        bench.ask(1_040 + n);
    }
    bench.health.note_garbage(Time::at_ms(1_046));
    bench.advance(1_100);
    assert_eq!(bench.health.state(), State::Up);
}

#[test]
fn backups_are_no_measure_of_latency_silence_or_loss() {
    let mut bench = Bench::warm();
    let backup = bench.begin(1_000, 1, Purpose::Backup);
    bench.answer(backup, 1_240);
    assert_eq!(bench.health.latencies().answers(), 40);
    for n in 0..5 {
        bench.begin(2_000 + n, 1, Purpose::Backup);
    }
    bench.advance(2_100);
    assert_eq!(bench.health.state(), State::Up);
    // Their silence is a failure like any other's.
    bench.advance(2_250);
    assert_eq!(bench.state(), (State::Suspect, Cause::Timeout));
}

/// Every third attempt from `from_ms` on stays unanswered, one each 20 ms.
fn lose_a_third(bench: &mut Bench, from_ms: u64, attempts: u64) {
    for n in 0..attempts {
        let ms = from_ms + n * 20;
        let begun = bench.ask(ms);
        if n % 3 != 0 {
            bench.answer(begun, ms + 10);
        }
        bench.advance(ms + 19);
        if bench.health.state() != State::Up {
            break;
        }
    }
}

/// The sixteen probes that measure loss from `from` on, of which those that `lost` says stay unanswered; and the time
/// at which they are judged.
fn measure_loss(bench: &mut Bench, from: Time, lost: fn(u64) -> bool) -> Time {
    for n in 0..16 {
        let ms = from.plus(n * 125 * MS).as_micros() / MS;
        if lost(n) {
            bench.begin(ms, 1_000 + n, Purpose::Probe);
        } else {
            bench.good_probe(ms);
        }
    }
    from.plus(2 * SEC).plus(bench.health.latencies().timing().p95_us)
}

#[test]
fn a_third_unanswered_is_loss_and_two_seconds_of_it_put_it_out() {
    let mut bench = Bench::warm();
    lose_a_third(&mut bench, 3_000, 40);
    assert_eq!(bench.state(), (State::Suspect, Cause::Loss));
    let raised = bench.health.doubt().unwrap().raised;
    let judged = measure_loss(&mut bench, raised, |n| n % 3 == 0);
    assert!(!bench.health.loss_lasts());
    bench.health.advance(judged);
    assert!(bench.health.loss_lasts());
    assert_eq!(bench.health.state(), State::Suspect);
}

#[test]
fn what_lost_a_third_returns_after_three_answers_and_sixteen_more_without_loss() {
    let mut bench = Bench::warm();
    lose_a_third(&mut bench, 3_000, 40);
    let raised = bench.health.doubt().unwrap().raised;
    let judged = measure_loss(&mut bench, raised, |n| n % 3 == 0);
    bench.health.advance(judged);
    let mut from_ms = judged.as_micros() / MS + 1_000;
    for lost in [(|n| n == 15) as fn(u64) -> bool, |_| false] {
        bench.advance(from_ms);
        for n in 0..3 {
            bench.good_probe(from_ms + n * 110);
        }
        assert!(bench.health.loss_lasts(), "three answers in a row come by chance");
        let judged = measure_loss(&mut bench, Time::at_ms(from_ms + 230), lost);
        bench.health.advance(judged);
        from_ms += 5_000;
    }
    assert_eq!(bench.state(), (State::Up, Cause::Answering));
}

#[test]
fn down_by_loss_returns_like_loss() {
    let mut bench = Bench::warm();
    lose_a_third(&mut bench, 3_000, 40);
    let ms = bench.health.doubt().unwrap().raised.as_micros() / MS;
    for n in 0..3 {
        let begun = bench.begin(ms + n * 125, 1_000 + n, Purpose::Probe);
        bench.fail(begun, Failure::Reset, ms + n * 125 + 1);
    }
    bench.health.condemn(Time::at_ms(ms + 260));
    assert_eq!(bench.state(), (State::Down, Cause::Reset));
    for n in 0..3 {
        bench.good_probe(ms + 1_000 + n * 110);
    }
    assert_eq!(bench.health.state(), State::Down);
    let judged = measure_loss(&mut bench, Time::at_ms(ms + 1_230), |_| false);
    bench.health.advance(judged);
    assert_eq!(bench.state(), (State::Probation, Cause::Answering));
}

#[test]
fn loss_that_is_over_after_two_seconds_was_none() {
    let mut bench = Bench::warm();
    lose_a_third(&mut bench, 3_000, 40);
    let raised = bench.health.doubt().unwrap().raised;
    let judged = measure_loss(&mut bench, raised, |_| false);
    bench.health.advance(judged);
    assert_eq!(bench.state(), (State::Up, Cause::Answering));
}

#[test]
fn a_doubt_is_probed_at_0_and_240_ms_after_a_timeout() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    bench.advance(1_250);
    let mut at = Vec::new();
    for _ in 0..3 {
        let due = bench.health.probes.due().unwrap();
        at.push(due.as_micros() / MS);
        bench.health.probes.sent(due, 0);
    }
    assert_eq!(at, [1_250, 1_490, 2_490]);
}

#[test]
fn a_doubt_is_cleared_only_by_an_answer_to_an_attempt_begun_since() {
    let mut bench = Bench::warm();
    let before = bench.ask(1_000);
    let failed = bench.ask(1_005);
    bench.fail(failed, Failure::Reset, 1_010);
    assert_eq!(bench.state(), (State::Suspect, Cause::Reset));
    bench.answer(before, 1_015);
    assert_eq!(bench.health.state(), State::Suspect);
    bench.good_probe(1_020);
    assert_eq!(bench.state(), (State::Up, Cause::Answering));
    assert_eq!(bench.health.probes.due(), None);
}

#[test]
fn down_needs_three_distinct_failures() {
    let mut bench = Bench::warm();
    for ms in [1_000, 1_050, 1_100] {
        let begun = bench.ask(ms);
        bench.fail(begun, Failure::Reset, ms + 1);
    }
    assert_eq!(bench.health.condemnable_since(), None);
    let begun = bench.ask(1_200);
    bench.fail(begun, Failure::Reset, 1_201);
    assert_eq!(bench.health.condemnable_since(), Some(Time::at_ms(1_000)));
}

#[test]
fn down_needs_failures_over_two_sockets() {
    let mut bench = Bench::warm();
    for ms in [1_000, 1_100, 1_200, 1_300] {
        let begun = bench.begin(ms, 7, Purpose::Client);
        bench.fail(begun, Failure::Reset, ms + 1);
    }
    assert_eq!(bench.health.condemnable_since(), None);
    let begun = bench.begin(1_310, 8, Purpose::Probe);
    bench.fail(begun, Failure::Reset, 1_311);
    assert_eq!(bench.health.condemnable_since(), Some(Time::at_ms(1_000)));
}

#[test]
fn a_success_begun_since_the_first_failure_starts_the_count_anew() {
    let mut bench = Bench::warm();
    for ms in [1_000, 1_100] {
        let begun = bench.ask(ms);
        bench.fail(begun, Failure::Reset, ms + 1);
    }
    bench.good_probe(1_150);
    let begun = bench.ask(1_200);
    bench.fail(begun, Failure::Reset, 1_201);
    assert_eq!(bench.health.condemnable_since(), None);
}

#[test]
fn causes_follow_what_was_seen() {
    let cases = [
        (Failure::Reset, Cause::Reset),
        (Failure::Unreachable, Cause::Unreachable),
        (Failure::ConnectTimeout, Cause::Connect),
        (Failure::Garbage, Cause::Garbage),
    ];
    for (failure, cause) in cases {
        let mut bench = Bench::warm();
        let begun = bench.ask(1_000);
        bench.fail(begun, failure, 1_001);
        assert_eq!(bench.state(), (State::Suspect, cause));
    }
    let mut bench = Bench::warm();
    let begun = bench.ask(1_000);
    bench.fail(begun, Failure::Local, 1_001);
    assert_eq!(bench.health.state(), State::Up);
    let begun = bench.ask(1_100);
    bench.finish(begun, Finish::Mismatched, false, 1_110);
    assert_eq!(bench.state(), (State::Suspect, Cause::Mismatch));
}

#[test]
fn a_timeout_after_garbage_has_garbage_as_its_cause() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    bench.health.note_garbage(Time::at_ms(1_010));
    bench.advance(1_250);
    assert_eq!(bench.state(), (State::Suspect, Cause::Garbage));
}

#[test]
fn three_answers_100_ms_apart_lead_to_probation_and_five_seconds_later_to_up() {
    let mut bench = Bench::warm();
    bench.fall_at(1_000);
    bench.good_probe(3_000);
    assert_eq!(bench.health.probes.due(), Some(Time::at_ms(3_110)));
    // Less than 100 ms after the first: not counted.
    bench.good_probe(3_050);
    bench.good_probe(3_110);
    assert_eq!(bench.health.state(), State::Down);
    bench.good_probe(3_220);
    assert_eq!(bench.health.state(), State::Probation);
    bench.advance(8_229);
    assert_eq!(bench.health.state(), State::Probation);
    bench.advance(8_230);
    assert_eq!(bench.health.state(), State::Up);
}

#[test]
fn a_failure_in_between_starts_the_recovery_anew() {
    let mut bench = Bench::warm();
    bench.fall_at(1_000);
    bench.good_probe(3_000);
    bench.good_probe(3_110);
    let begun = bench.begin(3_220, 99, Purpose::Probe);
    bench.fail(begun, Failure::Unreachable, 3_221);
    bench.good_probe(3_330);
    assert_eq!(bench.health.state(), State::Down);
}

/// Milliseconds from the first good probe at `ms` to probation, by a probe every 110 ms.
fn recovery_ms(bench: &mut Bench, ms: u64) -> u64 {
    for n in 0..1_000 {
        bench.good_probe(ms + n * 110);
        if bench.health.state() == State::Probation {
            return n * 110;
        }
    }
    u64::MAX
}

#[test]
fn the_hold_down_grows_from_the_second_fall_in_ten_minutes() {
    let mut bench = Bench::warm();
    let mut held = Vec::new();
    for fall in 0..6 {
        let ms = 1_000 + fall * 80_000;
        bench.fall_at(ms);
        held.push(recovery_ms(&mut bench, ms + 201) / 1_000);
        bench.advance(ms + 79_000);
    }
    assert_eq!(held, [0, 2, 8, 32, 60, 60]);
    // Ten minutes later the first fall is a first one again.
    bench.fall_at(2_000_000);
    assert_eq!(recovery_ms(&mut bench, 2_000_201), 220);
}

#[test]
fn forgiven_failures_are_forgotten_and_later_ones_count() {
    let mut bench = Bench::warm();
    let before = bench.ask(1_000);
    let after = bench.ask(1_400);
    bench.fail(before, Failure::Unreachable, 1_001);
    bench.health.forgive(Time::at_ms(1_300), Time::at_ms(1_310));
    assert_eq!(bench.state(), (State::Unknown, Cause::Forgiven));
    bench.fail(after, Failure::Unreachable, 1_401);
    assert_eq!(bench.health.state(), State::Suspect);
    assert_eq!(bench.health.failures.iter().len(), 1);
}

#[test]
fn attempts_begun_before_the_uplink_returned_cannot_fail_afterwards() {
    let mut bench = Bench::warm();
    for n in 0..5 {
        bench.ask(1_000 + n * 10);
    }
    bench.advance(1_100);
    assert_eq!(bench.state(), (State::Suspect, Cause::Silence));
    let open = bench.ask(1_200);
    bench.health.forgive(Time::at_ms(1_210), Time::at_ms(1_220));
    assert_eq!(bench.health.state(), State::Unknown);
    // Neither the old silence nor the timeout of what was in flight is held against it.
    bench.advance(1_221);
    assert_eq!(bench.health.state(), State::Unknown);
    bench.advance(1_500);
    assert_eq!(bench.health.state(), State::Unknown);
    bench.fail(open, Failure::Reset, 1_501);
    assert_eq!(bench.health.state(), State::Unknown);
}

#[test]
fn three_bad_domains_that_are_a_fifth_of_ten_seconds_make_suspect() {
    let mut bench = Bench::warm();
    for (n, domain) in [11, 11, 11, 22, 33].into_iter().enumerate() {
        let ms = 20_000 + u64::try_from(n).unwrap() * 10;
        let begun = bench.ask(ms);
        let finish = Finish::Answered {
            reply: Reply::Failed(Rcode::REFUSED),
            latency_us: MS,
        };
        bench.finish(begun, finish, false, ms + 1);
        assert_eq!(bench.health.state(), State::Up);
        bench
            .health
            .fail_domain(begun, domain, Cause::Refused, Time::at_ms(ms + 2));
    }
    assert_eq!(bench.state(), (State::Suspect, Cause::Refused));
}

#[test]
fn no_route_is_no_failure_and_ends_with_an_answer() {
    let mut bench = Bench::warm();
    let begun = bench.ask(1_000);
    bench.fail(begun, Failure::NoRoute, 1_000);
    assert_eq!(bench.health.state(), State::Up);
    assert!(bench.health.has_no_route());
    let due = bench.health.probes.due();
    assert_eq!(due, Some(Time::at_ms(6_000)));
    bench.good_probe(6_000);
    assert!(!bench.health.has_no_route());
    assert_eq!(bench.health.probes.due(), None);
}

#[test]
fn an_endpoint_without_a_route_is_looked_for_even_after_the_uplink_returned() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    bench.advance(1_250);
    let probe = bench.begin(1_250, 9, Purpose::Probe);
    bench.fail(probe, Failure::NoRoute, 1_250);
    bench.health.forgive(Time::at_ms(1_300), Time::at_ms(1_310));
    assert!(bench.health.has_no_route());
    assert!(bench.health.probes.due().is_some());
}

#[test]
fn a_new_path_forgets_doubt_and_what_is_in_flight_and_turns_down_into_probation() {
    let mut bench = Bench::warm();
    bench.ask(1_000);
    let failed = bench.ask(1_001);
    bench.fail(failed, Failure::Reset, 1_002);
    bench.health.new_path(Time::at_ms(1_100));
    assert_eq!(bench.state(), (State::Unknown, Cause::NewPath));
    bench.advance(5_000);
    assert_eq!(bench.health.state(), State::Unknown);
    bench.fall_at(6_000);
    bench.health.new_path(Time::at_ms(7_000));
    assert_eq!(bench.state(), (State::Probation, Cause::NewPath));
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    /// One input with arbitrary numbers.
    #[derive(Debug, Clone)]
    enum Op {
        Begin(u64, u64, u64, u8),
        Finish(u64, u64, u8, u64),
        Domain(u64, u64, u64),
        Garbage(u64),
        Forgive(u64, u64),
        NewPath(u64),
        Condemn(u64),
        Advance(u64),
    }

    fn time() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0..20_000_000_u64, 1 => any::<u64>()]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..64_u64, time(), 0..4_u64, 0..3_u8).prop_map(|(id, at, s, p)| Op::Begin(id, at, s, p)),
            6 => (0..64_u64, time(), 0..10_u8, time()).prop_map(|(id, at, f, now)| Op::Finish(id, at, f, now)),
            1 => (time(), any::<u64>(), time()).prop_map(|(at, d, now)| Op::Domain(at, d, now)),
            1 => time().prop_map(Op::Garbage),
            1 => (time(), time()).prop_map(|(before, now)| Op::Forgive(before, now)),
            1 => time().prop_map(Op::NewPath),
            1 => time().prop_map(Op::Condemn),
            3 => time().prop_map(Op::Advance),
        ]
    }

    fn purpose(index: u8) -> Purpose {
        [Purpose::Client, Purpose::Backup, Purpose::Probe][usize::from(index) % 3]
    }

    fn apply(health: &mut Health, op: Op) {
        let time = Time::from_micros;
        match op {
            Op::Begin(id, at, socket, p) => health.begin(Begun {
                id,
                at: time(at),
                socket,
                purpose: purpose(p),
            }),
            Op::Finish(id, at, f, now) => {
                let begun = Begun {
                    id,
                    at: time(at),
                    socket: id % 3,
                    purpose: purpose(f),
                };
                let finish = match f {
                    0 => Finish::Mismatched,
                    1 => Finish::Abandoned,
                    2 => Finish::Failed(Failure::NoRoute),
                    3 => Finish::Failed(Failure::Reset),
                    4 => Finish::Failed(Failure::Local),
                    _ => Finish::Answered {
                        reply: Reply::Positive,
                        latency_us: now.saturating_sub(at),
                    },
                };
                health.finish(begun, finish, f > 6, time(now));
            }
            Op::Domain(at, domain, now) => health.fail_domain(
                Begun {
                    id: 1,
                    at: time(at),
                    socket: 1,
                    purpose: Purpose::Client,
                },
                domain,
                Cause::Servfail,
                time(now),
            ),
            Op::Garbage(now) => health.note_garbage(time(now)),
            Op::Forgive(before, now) => health.forgive(time(before), time(now)),
            Op::NewPath(now) => health.new_path(time(now)),
            Op::Condemn(now) => {
                if health.condemnable_since().is_some() {
                    health.condemn(time(now));
                }
            }
            Op::Advance(now) => health.advance(time(now)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn no_order_of_inputs_breaks_a_bound_or_panics(ops in proptest::collection::vec(op(), 0..300)) {
            let mut bench = Bench::new();
            for op in ops {
                apply(&mut bench.health, op);
                while bench.health.poll_change().is_some() {}
                bench.assert_within_caps();
            }
        }
    }

    #[test]
    fn a_flood_of_attempts_is_followed_only_up_to_its_bound() {
        let mut bench = Bench::new();
        for n in 0..20_000 {
            let begun = bench.begin(n / 100, n, Purpose::Client);
            if n % 2 == 0 {
                bench.answer(begun, n / 100);
            }
        }
        bench.assert_within_caps();
        bench.advance(60_000);
        bench.assert_within_caps();
        assert_eq!(bench.health.open_count(), 0);
    }
}
