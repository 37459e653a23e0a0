//! One lookup, signal by signal: the client's column of the outcome table.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]

use std::sync::Arc;

use super::*;
use crate::Strategy;
use crate::dice::Dice;
use crate::health::latency::Latencies;
use crate::health::state::State;
use crate::outcome::Cause;
use crate::plan::{PROVIDERS_MAX, Question, plan};
use crate::routes::{EndpointRoute, PlaceWhy, Settings};
use crate::testing::{providers, with_transports};
use crate::topology::{GroupId, Topology, Transport};

/// What endpoints were heard of.
#[derive(Debug)]
struct HeardAt {
    at: Time,
    connect_us: u64,
}

impl Heard for HeardAt {
    fn last_heard(&self, _endpoint: EndpointId) -> Time {
        self.at
    }

    fn connect_us(&self, _endpoint: EndpointId) -> u64 {
        self.connect_us
    }
}

/// A lookup and its surroundings; times are milliseconds since its start.
struct Bench {
    routes: Routes,
    usage: Usage,
    heard: HeardAt,
    lookup: Option<Lookup>,
    start: Time,
    /// Endpoint, way and reason of each attempt.
    begun: Vec<(u16, Via, Why)>,
    /// Everything else that came out.
    told: Vec<Output>,
}

/// Answers take 10 ms: overdue after about 11, timed out after 250.
fn bench_of(topology: Topology) -> Bench {
    let mut latencies = Latencies::default();
    for _ in 0..40 {
        latencies.record(10 * MS);
    }
    let route = EndpointRoute {
        state: State::Up,
        cause: Cause::Answering,
        since: Time::ZERO,
        why: PlaceWhy::Healthy,
        timing: latencies.timing(),
        ok_permille: 1_000,
        strained: false,
        hinted: false,
        paused_until: None,
    };
    let endpoints = vec![route; topology.endpoints.len()];
    let start = Time::at_ms(100_000);
    Bench {
        usage: Usage::new(&topology, start),
        routes: Routes {
            version: 0,
            group: GroupId::PUBLIC,
            routed: Vec::new(),
            choices: Routes::choose(&topology, &endpoints),
            topology: Arc::new(topology),
            settings: Settings {
                strategy: Strategy::Balanced,
                ..Settings::default()
            },
            dice: Dice::new(3),
            endpoints,
            said: Vec::new(),
            nothing_up: false,
            in_the_clear: false,
            warm: [None; 2],
            uplink_suspect: Vec::new(),
            clock_wrong: None,
            avoided: Vec::new(),
        },
        heard: HeardAt {
            at: Time::ZERO,
            connect_us: 0,
        },
        lookup: None,
        start,
        begun: Vec::new(),
        told: Vec::new(),
    }
}

fn bench(count: u16) -> Bench {
    bench_of(providers(count))
}

impl Bench {
    fn start(mut self, positive_known: bool) -> Self {
        let question = Question { number: 5, domain: 1 };
        let plan = plan(&self.routes, &mut self.usage, question, self.start, &mut |_, _| {});
        let mut view = View {
            routes: &self.routes,
            usage: &mut self.usage,
            heard: &self.heard,
        };
        self.lookup = Some(Lookup::start(plan, positive_known, self.start, &mut view));
        self.drain();
        self
    }

    fn feed(&mut self, ms: u64, input: impl FnOnce(&mut Lookup, Time, &mut View<'_>)) {
        let mut view = View {
            routes: &self.routes,
            usage: &mut self.usage,
            heard: &self.heard,
        };
        let now = self.start.plus(ms * MS);
        input(self.lookup.as_mut().unwrap(), now, &mut view);
        self.drain();
    }

    fn drain(&mut self) {
        let lookup = self.lookup.as_mut().unwrap();
        while let Some(output) = lookup.poll_output() {
            if let Output::Begin {
                slot,
                endpoint,
                via,
                why,
            } = output
            {
                assert_eq!(slot, self.begun.len());
                self.begun.push((endpoint.0, via, why));
            } else {
                self.told.push(output);
            }
        }
    }

    fn answer(&mut self, slot: Slot, reply: Reply, ms: u64) {
        self.signal(slot, Signal::Answered(reply), ms);
    }

    fn signal(&mut self, slot: Slot, signal: Signal, ms: u64) {
        self.feed(ms, |lookup, now, view| lookup.handle_signal(slot, signal, now, view));
    }

    /// Fires timers up to `ms`.
    fn wait(&mut self, ms: u64) {
        let end = self.start.plus(ms * MS);
        for _ in 0..100 {
            match self.lookup.as_ref().unwrap().poll_timeout() {
                Some((at, _)) if at <= end => {
                    let at_us = at.since(self.start);
                    let mut view = View {
                        routes: &self.routes,
                        usage: &mut self.usage,
                        heard: &self.heard,
                    };
                    let now = self.start.plus(at_us);
                    self.lookup.as_mut().unwrap().handle_timeout(now, &mut view);
                    self.drain();
                }
                Some(_) | None => return,
            }
        }
        panic!("timers without end");
    }

    fn done(&self) -> Option<Done> {
        self.told.iter().find_map(|output| match output {
            Output::Done(done) => Some(*done),
            Output::Begin { .. } | Output::Disagreed { .. } | Output::Mismatched { .. } => None,
        })
    }

    fn whys(&self) -> Vec<Why> {
        self.begun.iter().map(|(_, _, why)| *why).collect()
    }

    fn endpoint(&self, slot: Slot) -> EndpointId {
        EndpointId(self.begun[slot].0)
    }
}

const SERVFAIL: Reply = Reply::Failed(Rcode::SERVFAIL);
const REFUSED: Reply = Reply::Failed(Rcode::REFUSED);
const PROVEN: Reply = Reply::Denial { soa: true };
const BARE: Reply = Reply::Denial { soa: false };

#[test]
fn who_asked_to_be_left_alone_since_the_plan_was_made_is_passed_over() {
    let mut bench = bench(3).start(false);
    let second = bench.lookup.as_ref().unwrap().plan.steps[1].endpoint;
    bench.routes.endpoints[usize::from(second.0)].why = PlaceWhy::Throttled;
    bench.signal(0, Signal::Failed(Failure::Throttled { retry_after_s: None }), 5);
    assert_eq!(bench.whys(), [Why::First, Why::Retry]);
    assert_ne!(bench.endpoint(1), second);
}

#[test]
fn where_everybody_wants_to_be_left_alone_the_lookup_is_over_at_once() {
    let mut bench = bench(2);
    for route in &mut bench.routes.endpoints {
        route.why = PlaceWhy::Throttled;
    }
    bench.routes.choices = Routes::choose(&bench.routes.topology, &bench.routes.endpoints);
    let bench = bench.start(false);
    assert_eq!(bench.begun, []);
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::NoAnswer)));
}

#[test]
fn connecting_is_waited_for_as_long_as_it_takes_and_half_as_long_again() {
    for (connect_ms, hedged_ms) in [(0, 11), (40, 71), (160, 251), (600, 800)] {
        let mut bench = bench(2);
        bench.heard.connect_us = connect_ms * MS;
        let mut bench = bench.start(false);
        bench.wait(hedged_ms - 2);
        assert_eq!(bench.whys(), [Why::First], "{connect_ms} ms");
        bench.wait(hedged_ms + 2);
        assert_eq!(bench.whys(), [Why::First, Why::Hedge], "{connect_ms} ms");
    }
}

#[test]
fn good_answers_and_filtered_ones_end_the_lookup() {
    for reply in [Reply::Positive, PROVEN, Reply::Filtered] {
        let mut bench = bench(3).start(false);
        bench.answer(0, reply, 10);
        assert_eq!(bench.told, [Output::Done(Done::Answer(0))]);
        assert_eq!(bench.whys(), [Why::First]);
        assert_eq!(bench.lookup.unwrap().poll_timeout(), None);
    }
}

#[test]
fn a_bad_rcode_asks_the_next_provider_at_once_and_is_reported_when_that_answers_well() {
    let mut bench = bench(3).start(false);
    bench.answer(0, REFUSED, 10);
    assert_eq!(bench.whys(), [Why::First, Why::Retry]);
    assert_eq!(bench.done(), None);
    bench.answer(1, PROVEN, 20);
    let disagreed = Output::Disagreed {
        slot: 0,
        endpoint: bench.endpoint(0),
        rcode: Rcode::REFUSED,
    };
    assert_eq!(bench.told, [disagreed, Output::Done(Done::Answer(1))]);
}

#[test]
fn filtering_elsewhere_proves_no_rcode_wrong() {
    let mut bench = bench(3).start(false);
    bench.answer(0, SERVFAIL, 10);
    bench.answer(1, Reply::Filtered, 20);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn if_all_agree_their_rcode_is_the_answer_and_nobody_is_blamed() {
    let mut bench = bench(3).start(false);
    for slot in 0..3 {
        bench.answer(slot, SERVFAIL, 10 + u64::try_from(slot).unwrap());
    }
    assert_eq!(bench.begun.len(), 3, "nobody is asked twice");
    assert_eq!(bench.told, [Output::Done(Done::Agreed(0))]);
}

#[test]
fn a_validators_no_is_asked_for_at_one_other_validator_and_two_alike_are_the_answer() {
    let mut topology = providers(3);
    for provider in &mut topology.providers {
        provider.validates = false;
    }
    // Only the second backup validates.
    let probe = bench_of(topology.clone()).start(false);
    let second = probe.lookup.as_ref().unwrap().plan.steps[2].provider;
    topology.providers[usize::from(second.0)].validates = true;
    let mut bench = bench_of(topology).start(false);
    bench.answer(0, Reply::Bogus, 10);
    assert_eq!(bench.whys(), [Why::First, Why::Validate]);
    assert_eq!(bench.endpoint(1).0, second.0);
    bench.answer(1, Reply::Bogus, 20);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn a_validators_no_is_overruled_by_another_validators_answer_and_blames_nobody() {
    let mut bench = bench(3).start(false);
    bench.answer(0, Reply::Bogus, 10);
    bench.answer(1, Reply::Positive, 20);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn a_validators_no_is_the_answer_where_nobody_else_validates() {
    let mut topology = providers(3);
    for provider in &mut topology.providers {
        provider.validates = false;
    }
    let mut bench = bench_of(topology).start(false);
    bench.answer(0, Reply::Bogus, 10);
    assert_eq!(bench.told, [Output::Done(Done::Answer(0))]);
}

#[test]
fn formerr_to_edns_asks_the_same_endpoint_once_without_and_then_moves_on() {
    let mut bench = bench(3).start(false);
    bench.answer(0, Reply::NoEdns, 10);
    assert_eq!(bench.begun[1], (bench.begun[0].0, Via::NoEdns, Why::WithoutEdns));
    bench.answer(1, Reply::NoEdns, 20);
    assert_eq!(bench.whys(), [Why::First, Why::WithoutEdns, Why::Retry]);
    assert_ne!(bench.endpoint(2), bench.endpoint(0));
}

#[test]
fn truncation_asks_the_same_provider_over_a_stream() {
    let mut bench = bench(3).start(false);
    bench.answer(0, Reply::Truncated, 10);
    assert_eq!(bench.begun[1], (bench.begun[0].0, Via::Stream, Why::Truncated));
    bench.answer(1, Reply::Positive, 25);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn a_stream_that_fails_after_truncation_moves_on() {
    let mut bench = bench(3).start(false);
    bench.answer(0, Reply::Truncated, 10);
    bench.signal(1, Signal::Failed(Failure::Reset), 11);
    assert_eq!(bench.whys(), [Why::First, Why::Truncated, Why::Retry]);
    assert_ne!(bench.endpoint(2), bench.endpoint(0));
}

#[test]
fn what_could_be_forged_is_confirmed_over_a_stream_of_the_same_provider() {
    let mut bench = bench(3).start(false);
    bench.answer(0, Reply::Forgeable, 10);
    assert_eq!(bench.begun[1], (bench.begun[0].0, Via::Stream, Why::Forgeable));
    bench.answer(1, Reply::Positive, 25);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn what_could_be_forged_is_the_last_resort_where_nobody_confirms_it() {
    let mut bench = bench(2).start(false);
    bench.answer(0, Reply::Forgeable, 10);
    bench.signal(1, Signal::Failed(Failure::Unreachable), 11);
    assert_eq!(bench.whys(), [Why::First, Why::Forgeable, Why::Retry]);
    bench.answer(2, SERVFAIL, 30);
    assert_eq!(bench.done(), Some(Done::Answer(0)));
    // A good answer of anybody goes before it, and blames nobody.
    let mut bench = self::bench(2).start(false);
    bench.answer(0, Reply::Forgeable, 10);
    bench.signal(1, Signal::Failed(Failure::Unreachable), 11);
    bench.answer(2, Reply::Positive, 30);
    assert_eq!(bench.told, [Output::Done(Done::Answer(2))]);
}

#[test]
fn a_doubtful_denial_waits_200_ms_for_another_provider() {
    for (positive_known, reply) in [(false, BARE), (true, PROVEN), (true, BARE)] {
        let mut bench = bench(3).start(positive_known);
        bench.answer(0, reply, 10);
        assert_eq!(bench.whys(), [Why::First, Why::Confirm]);
        bench.wait(209);
        assert_eq!(bench.done(), None);
        bench.wait(210);
        assert_eq!(bench.done(), Some(Done::Answer(0)));
    }
}

#[test]
fn a_positive_answer_wins_over_a_doubtful_denial() {
    let mut bench = bench(3).start(false);
    bench.answer(0, BARE, 10);
    bench.answer(1, Reply::Positive, 150);
    assert_eq!(bench.told, [Output::Done(Done::Answer(1))]);
}

#[test]
fn a_second_denial_settles_the_first_and_the_one_with_proof_is_passed_on() {
    for (second, slot) in [(BARE, 0), (PROVEN, 1)] {
        let mut bench = bench(3).start(false);
        bench.answer(0, BARE, 10);
        bench.answer(1, second, 20);
        assert_eq!(bench.done(), Some(Done::Answer(slot)));
    }
}

#[test]
fn a_doubtful_denial_is_the_answer_where_nobody_else_can_be_asked() {
    let mut bench = bench(1).start(false);
    bench.answer(0, BARE, 10);
    assert_eq!(bench.done(), Some(Done::Answer(0)));
}

#[test]
fn garbage_starts_the_next_attempt_and_the_right_answer_still_counts() {
    let mut bench = bench(3).start(false);
    bench.signal(0, Signal::Garbage, 5);
    bench.signal(0, Signal::Garbage, 6);
    assert_eq!(bench.whys(), [Why::First, Why::Retry]);
    bench.answer(0, Reply::Positive, 10);
    assert_eq!(bench.told, [Output::Done(Done::Answer(0))]);
}

#[test]
fn a_mismatch_is_raced_by_a_stream_and_marked_only_if_the_race_answers() {
    let mut bench = bench(3).start(false);
    bench.signal(0, Signal::Mismatch, 5);
    bench.signal(0, Signal::Mismatch, 6);
    assert_eq!(bench.whys(), [Why::First, Why::Mismatch, Why::Retry]);
    assert_eq!(bench.begun[1], (bench.begun[0].0, Via::Stream, Why::Mismatch));
    bench.answer(1, Reply::Positive, 15);
    let marked = Output::Mismatched {
        slot: 0,
        endpoint: bench.endpoint(0),
    };
    assert_eq!(bench.told, [marked, Output::Done(Done::Answer(1))]);

    let mut bench = self::bench(3).start(false);
    bench.signal(0, Signal::Mismatch, 5);
    bench.signal(1, Signal::Failed(Failure::Unreachable), 6);
    bench.answer(2, Reply::Positive, 15);
    assert_eq!(bench.told, [Output::Done(Done::Answer(2))]);
}

#[test]
fn a_definite_failure_asks_the_next_for_free() {
    for failure in [
        Failure::Reset,
        Failure::Unreachable,
        Failure::Garbage,
        Failure::ConnectTimeout,
    ] {
        let mut bench = bench(3).start(false);
        let tokens = bench.usage.budget.tokens();
        bench.signal(0, Signal::Failed(failure), 5);
        assert_eq!(bench.whys(), [Why::First, Why::Retry]);
        assert_eq!(bench.usage.budget.tokens(), tokens);
    }
}

#[test]
fn an_overdue_answer_is_hedged_once_at_another_provider_and_paid_for() {
    let mut bench = bench(3).start(false);
    let tokens = bench.usage.budget.tokens();
    bench.wait(10);
    assert_eq!(bench.whys(), [Why::First]);
    bench.wait(12);
    assert_eq!(bench.whys(), [Why::First, Why::Hedge]);
    assert_ne!(bench.endpoint(0), bench.endpoint(1));
    assert_eq!(bench.usage.budget.tokens(), tokens - 1);
    bench.answer(0, Reply::Positive, 13);
    assert_eq!(bench.told, [Output::Done(Done::Answer(0))]);
}

#[test]
fn the_reserve_is_for_endpoints_that_have_sent_nothing_since() {
    for (heard_ms, hedges) in [(0, true), (100_005, false)] {
        let mut bench = bench(3);
        while bench.usage.budget.take(false, bench.start) {}
        bench.heard.at = Time::at_ms(heard_ms);
        let mut bench = bench.start(false);
        bench.wait(100);
        assert_eq!(bench.whys().contains(&Why::Hedge), hedges);
        // Once it counts as failed the next one is asked whatever the budget says.
        bench.wait(300);
        assert!(bench.whys().len() > 1);
    }
}

#[test]
fn what_becomes_suspect_is_hedged_at_once_and_for_free() {
    let mut bench = bench(3).start(false);
    while bench.usage.budget.take(true, bench.start) {}
    let first = usize::from(bench.begun[0].0);
    bench.routes.endpoints[first].why = PlaceWhy::Suspect;
    bench.feed(2, |lookup, now, view| lookup.handle_routes(now, view));
    assert_eq!(bench.whys(), [Why::First, Why::HedgeSuspect]);
    bench.feed(3, |lookup, now, view| lookup.handle_routes(now, view));
    assert_eq!(bench.begun.len(), 2);
}

#[test]
fn nothing_up_begins_a_pair() {
    let mut bench = bench(3);
    for endpoint in &mut bench.routes.endpoints {
        endpoint.why = PlaceWhy::Down;
    }
    bench.routes.choices = Routes::choose(&bench.routes.topology, &bench.routes.endpoints);
    bench.routes.nothing_up = true;
    let mut bench = bench.start(false);
    assert_eq!(bench.whys(), [Why::First, Why::Pair]);
    assert_ne!(bench.endpoint(0), bench.endpoint(1));
    bench.wait(1_999);
    assert_eq!(bench.done(), None);
    bench.wait(2_000);
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::NoAnswer)));
}

#[test]
fn silence_ends_after_four_seconds() {
    let mut bench = bench(3).start(false);
    bench.wait(3_999);
    assert_eq!(bench.done(), None);
    bench.wait(4_000);
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::NoAnswer)));
    let mut asked: Vec<u16> = bench.begun.iter().map(|(endpoint, ..)| *endpoint).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 3);
}

#[test]
fn the_deadline_shrinks_to_two_seconds_when_nothing_is_up_and_grows_again() {
    let mut bench = bench(3).start(false);
    bench.wait(1_000);
    bench.routes.nothing_up = true;
    bench.feed(1_500, |lookup, now, view| lookup.handle_routes(now, view));
    bench.routes.nothing_up = false;
    bench.feed(1_900, |lookup, now, view| lookup.handle_routes(now, view));
    bench.wait(2_500);
    assert_eq!(bench.done(), None);
    bench.routes.nothing_up = true;
    bench.feed(2_600, |lookup, now, view| lookup.handle_routes(now, view));
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::NoAnswer)));
}

#[test]
fn a_network_that_refuses_everything_is_told_apart_from_silence() {
    let mut bench = bench(2).start(false);
    let mut slot = 0;
    while bench.done().is_none() {
        assert!(slot < bench.begun.len());
        bench.signal(slot, Signal::Failed(Failure::Unreachable), 5);
        slot += 1;
    }
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::Network)));

    let mut bench = self::bench(1).start(false);
    bench.signal(0, Signal::Failed(Failure::Unreachable), 5);
    bench.wait(5_000);
    assert_eq!(bench.done(), Some(Done::GaveUp(GaveUp::NoAnswer)));

    let empty = bench_of(Topology::default()).start(false);
    assert_eq!(empty.done(), Some(Done::GaveUp(GaveUp::Network)));
}

#[test]
fn a_lost_datagram_to_the_only_provider_gets_a_second_one() {
    let mut bench = bench(1).start(false);
    bench.wait(300);
    assert_eq!(bench.begun.len(), 2);
    assert_eq!(bench.endpoint(0), bench.endpoint(1));
}

#[test]
fn at_most_three_providers_learn_a_name_over_all_their_transports() {
    let mut bench = bench_of(with_transports(6, &[Transport::Udp, Transport::Tcp])).start(false);
    for slot in 0..20 {
        if slot < bench.begun.len() {
            bench.signal(slot, Signal::Failed(Failure::Reset), 5);
        }
    }
    let providers: std::collections::BTreeSet<u16> = bench.begun.iter().map(|(endpoint, ..)| endpoint / 2).collect();
    assert_eq!(providers.len(), PROVIDERS_MAX);
    assert_eq!(bench.begun.len(), 8);
}

#[test]
fn only_choices_are_a_measure_of_an_endpoints_speed() {
    for why in Why::ALL {
        let choice = matches!(why, Why::First | Why::Pair);
        assert_eq!(why.purpose() == Purpose::Client, choice, "{}", why.word());
    }
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    fn signal(index: u8) -> Signal {
        [
            Signal::Answered(Reply::Positive),
            Signal::Answered(PROVEN),
            Signal::Answered(BARE),
            Signal::Answered(Reply::Bogus),
            Signal::Answered(Reply::NoEdns),
            Signal::Answered(Reply::Truncated),
            Signal::Answered(Reply::Forgeable),
            Signal::Answered(SERVFAIL),
            Signal::Answered(REFUSED),
            Signal::Failed(Failure::Reset),
            Signal::Failed(Failure::Local),
            Signal::Garbage,
            Signal::Mismatch,
        ][usize::from(index) % 13]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_order_of_signals_ends_with_one_result_by_the_deadline(
            count in 1..5_u16,
            inputs in proptest::collection::vec((0..10_usize, 2..13_u8, 0..4_500_u64, any::<bool>()), 0..40),
        ) {
            let mut bench = bench_of(with_transports(count, &[Transport::Udp, Transport::Tcp])).start(false);
            let mut ms = 0;
            for (slot, kind, at, later) in inputs {
                // Times mostly go on, and sometimes back.
                ms = if later { ms + at / 10 } else { at };
                bench.routes.nothing_up = kind == 7;
                bench.signal(slot, signal(kind), ms);
                prop_assert!(bench.begun.len() <= SLOTS_MAX);
            }
            bench.wait(4_000);
            let over = bench.told.iter().filter(|output| matches!(output, Output::Done(_))).count();
            prop_assert_eq!(over, 1);
            prop_assert!(bench.lookup.as_ref().unwrap().is_done());
            prop_assert_eq!(bench.lookup.as_ref().unwrap().poll_timeout(), None);
            if let Some(Done::Answer(slot) | Done::Agreed(slot)) = bench.done() {
                prop_assert!(slot < bench.begun.len());
            }
        }
    }
}

#[test]
fn what_may_not_be_asked_in_the_clear_waits_until_it_may() {
    let mut bench = bench_of(with_transports(2, &[Transport::Tls, Transport::Udp]));
    for endpoint in [1, 3] {
        bench.routes.endpoints[endpoint].why = PlaceWhy::Cleartext;
    }
    bench.routes.choices = Routes::choose(&bench.routes.topology, &bench.routes.endpoints);
    let mut bench = bench.start(false);
    for slot in 0..4 {
        bench.feed(1 + slot, |lookup, now, view| {
            lookup.handle_signal(
                usize::try_from(slot).unwrap(),
                Signal::Failed(Failure::Reset),
                now,
                view,
            );
        });
    }
    let asked: Vec<u16> = bench.begun.iter().map(|(endpoint, ..)| *endpoint).collect();
    assert!(asked.iter().all(|endpoint| endpoint % 2 == 0), "{asked:?}");
    assert!(bench.told.is_empty(), "it is not over: {:?}", bench.told);
    for endpoint in [1, 3] {
        bench.routes.endpoints[endpoint].why = PlaceWhy::Healthy;
    }
    bench.feed(2_000, |lookup, now, view| lookup.handle_routes(now, view));
    let (endpoint, ..) = bench.begun.last().unwrap();
    assert_eq!(endpoint % 2, 1);
}

#[test]
fn a_second_validator_is_not_asked_in_the_clear() {
    // Two providers with TLS and a third that has but UDP.
    let mut topology = with_transports(3, &[Transport::Tls]);
    topology.endpoints[2].transport = Transport::Udp;
    let mut bench = bench_of(topology);
    bench.routes.endpoints[2].why = PlaceWhy::Cleartext;
    bench.routes.choices = Routes::choose(&bench.routes.topology, &bench.routes.endpoints);
    let mut bench = bench.start(false);
    bench.feed(5, |lookup, now, view| {
        lookup.handle_signal(0, Signal::Answered(Reply::Bogus), now, view)
    });
    bench.feed(6, |lookup, now, view| {
        lookup.handle_signal(1, Signal::Failed(Failure::Reset), now, view)
    });
    let asked: Vec<u16> = bench.begun.iter().map(|(endpoint, ..)| *endpoint).collect();
    assert!(!asked.contains(&2), "{asked:?}");
}

#[test]
fn what_peers_speak_against_is_hedged_early_and_the_budget_pays_without_its_reserve() {
    for why in [PlaceWhy::Healthy, PlaceWhy::Reported, PlaceWhy::ReportedSibling] {
        let hinted = |mut bench: Bench| {
            for route in &mut bench.routes.endpoints {
                route.why = why;
                route.hinted = true;
                route.timing.overdue_us = 100 * MS;
            }
            bench
        };
        let mut rich = hinted(bench(3)).start(false);
        let tokens = rich.usage.budget.tokens();
        rich.wait(9);
        assert_eq!(rich.whys(), [Why::First]);
        rich.wait(10);
        assert_eq!(rich.whys(), [Why::First, Why::Hedge]);
        assert_eq!(rich.usage.budget.tokens(), tokens - 1);
        // Without a token beyond the reserve it waits for its usual time.
        let mut poor = hinted(bench(3));
        while poor.usage.budget.take(false, poor.start) {}
        let mut poor = poor.start(false);
        poor.wait(99);
        assert_eq!(poor.whys(), [Why::First]);
        poor.wait(100);
        assert_eq!(poor.whys(), [Why::First, Why::Hedge]);
    }
}

#[test]
fn a_claim_that_comes_while_an_attempt_waits_hedges_it_within_the_budget() {
    let mut bench = bench(3).start(false);
    let tokens = bench.usage.budget.tokens();
    let first = usize::from(bench.begun[0].0);
    bench.routes.endpoints[first].timing.overdue_us = 100 * MS;
    bench.routes.endpoints[first].why = PlaceWhy::Reported;
    bench.routes.endpoints[first].hinted = true;
    bench.feed(5, |lookup, now, view| lookup.handle_routes(now, view));
    assert_eq!(bench.whys(), [Why::First], "free of charge only by own evidence");
    bench.wait(10);
    assert_eq!(bench.whys(), [Why::First, Why::Hedge]);
    assert_eq!(bench.usage.budget.tokens(), tokens - 1);
}
