//! The control plane, input by input: verdicts, uplink, probes, routes.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]

mod claims;
mod clock;
mod configuration;
mod groups;
mod names;
mod network;
mod pause;

use super::probes::PROBES_MAX;
use super::*;
use crate::Encryption;
use crate::outcome::{Failure, Reply};
use crate::routes::Place;
use crate::testing::{providers, with_transports};
use crate::topology::{Family, Transport};

/// A node and what came out of it; times are milliseconds.
struct Bench {
    control: Control,
    /// Of the last input, milliseconds.
    last: u64,
    next: u64,
    probes: Vec<(u64, u64, u16, ProbeWhy)>,
    events: Vec<Event>,
    /// Probes from this number on are begun by [`Bench::wait`], also those sent before; `None`: only those sent in it.
    unbegun: Option<u64>,
    /// Their answers to come.
    pending: Vec<(u64, u64, u16, Reply)>,
}

impl Bench {
    fn new(topology: Topology) -> Self {
        Self {
            control: Control::new(Arc::new(topology), Settings::default(), Time::ZERO, 1),
            last: 0,
            next: 1,
            probes: Vec::new(),
            events: Vec::new(),
            unbegun: None,
            pending: Vec::new(),
        }
    }

    /// Every endpoint has answered 40 attempts in 10 ms, the last begun at 1,960 ms.
    fn warm(topology: Topology) -> Self {
        let mut bench = Self::new(topology);
        let count = bench.count();
        for n in 1..=40 {
            for endpoint in 0..count {
                bench.served(endpoint, 1_000 + n * 24);
            }
        }
        bench.probes.clear();
        bench.events.clear();
        bench
    }

    fn count(&self) -> u16 {
        u16::try_from(self.control.topology.endpoints.len()).unwrap()
    }

    fn drain(&mut self, ms: u64) {
        self.last = ms;
        let now = Time::at_ms(ms);
        for _ in 0..1_000 {
            let wakeup = self.control.poll_timeout(now);
            let Some(output) = self.control.poll_output() else {
                return;
            };
            assert_eq!(wakeup, Some((now, "output")));
            match output {
                Output::Probe { id, endpoint, why } => self.probes.push((ms, id, endpoint.0, why)),
                Output::OwnReport | Output::RoutesChanged => {}
                Output::Event(event) => self.events.push(event),
            }
        }
        panic!("outputs without end");
    }

    fn begin(&mut self, endpoint: u16, ms: u64) -> Begun {
        let begun = Begun {
            id: self.next,
            at: Time::at_ms(ms),
            socket: self.next,
            purpose: Purpose::Client,
        };
        self.next += 1;
        self.control.handle_begun(EndpointId(endpoint), begun, Time::at_ms(ms));
        self.drain(ms);
        begun
    }

    fn finish(&mut self, endpoint: u16, begun: Begun, finish: Finish, ms: u64) {
        self.control
            .handle_finished(EndpointId(endpoint), begun, finish, Time::at_ms(ms));
        self.drain(ms);
    }

    fn reply(&mut self, endpoint: u16, begun: Begun, reply: Reply, ms: u64) {
        let latency_us = Time::at_ms(ms).since(begun.at);
        self.finish(endpoint, begun, Finish::Answered { reply, latency_us }, ms);
    }

    /// An attempt that is answered well 10 ms later.
    fn served(&mut self, endpoint: u16, ms: u64) {
        let begun = self.begin(endpoint, ms);
        self.reply(endpoint, begun, Reply::Positive, ms + 10);
    }

    /// An attempt that fails a millisecond later.
    fn fails(&mut self, endpoint: u16, failure: Failure, ms: u64) {
        let begun = self.begin(endpoint, ms);
        self.finish(endpoint, begun, Finish::Failed(failure), ms + 1);
    }

    /// Fires timers up to `ms`; probes are answered by `reply` 10 ms later, `None` is silence.
    fn wait(&mut self, ms: u64, reply: impl Fn(u16) -> Option<Reply>) {
        let before = |probe: &&(u64, u64, u16, ProbeWhy)| self.unbegun.is_none_or(|first| probe.1 < first);
        let mut answered = self.probes.iter().take_while(before).count();
        let mut pending = std::mem::take(&mut self.pending);
        for _ in 0..100_000 {
            let fresh: Vec<_> = self.probes.get(answered..).unwrap_or_default().to_vec();
            answered = self.probes.len();
            for (at, id, endpoint, _) in fresh {
                let begun = probe_begun(id, at);
                self.unbegun = self.unbegun.map(|_| id + 1);
                self.control.handle_begun(EndpointId(endpoint), begun, Time::at_ms(at));
                self.drain(at);
                if let Some(reply) = reply(endpoint) {
                    pending.push((at, id, endpoint, reply));
                }
            }
            let due = pending.first().map(|(at, ..)| at + 10);
            let timer = self
                .control
                .poll_timeout(Time::at_ms(self.last))
                .map(|(at, _)| at.as_micros().div_ceil(MS));
            match (due, timer) {
                (Some(due), timer) if due <= ms && timer.is_none_or(|timer| due <= timer) => {
                    let (at, id, endpoint, reply) = pending.remove(0);
                    self.reply(endpoint, probe_begun(id, at), reply, due);
                }
                (_, Some(timer)) if timer <= ms => {
                    self.control.handle_timeout(Time::at_ms(timer));
                    self.drain(timer);
                }
                (None | Some(_), None | Some(_)) => {
                    if self.unbegun.is_some() {
                        self.pending = pending;
                    }
                    return;
                }
            }
        }
        panic!("timers without end");
    }

    fn state(&self, endpoint: u16) -> State {
        self.control.health(EndpointId(endpoint)).unwrap().state()
    }

    fn place(&self, endpoint: u16) -> PlaceWhy {
        self.control.routes().endpoint(EndpointId(endpoint)).unwrap().why
    }

    /// When probes of `endpoint` were sent, milliseconds.
    fn probed(&self, endpoint: u16) -> Vec<u64> {
        let own = self.probes.iter().filter(|(_, _, id, _)| *id == endpoint);
        own.map(|(ms, ..)| *ms).collect()
    }

    /// When scheduled probes of `endpoint` were sent, milliseconds.
    fn re_probed(&self, endpoint: u16) -> Vec<u64> {
        let own = self
            .probes
            .iter()
            .filter(|(_, _, id, why)| *id == endpoint && *why == ProbeWhy::Schedule);
        own.map(|(ms, ..)| *ms).collect()
    }
}

fn probe_begun(id: u64, ms: u64) -> Begun {
    Begun {
        id,
        at: Time::at_ms(ms),
        socket: id,
        purpose: Purpose::Probe,
    }
}

fn silence(_: u16) -> Option<Reply> {
    None
}

fn all_well(_: u16) -> Option<Reply> {
    Some(Reply::Positive)
}

/// Only this endpoint is silent.
fn all_but(dead: u16) -> impl Fn(u16) -> Option<Reply> {
    move |endpoint| (endpoint != dead).then_some(Reply::Positive)
}

#[test]
fn down_needs_another_operators_answer_to_an_attempt_begun_100_ms_after_the_first_failure() {
    let mut bench = Bench::warm(providers(3));
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(0, Failure::Reset, ms);
    }
    assert_eq!(bench.state(0), State::Suspect);
    let early = bench.begin(1, 10_099);
    bench.reply(1, early, Reply::Positive, 10_210);
    assert_eq!(bench.state(0), State::Suspect);
    let enough = bench.begin(1, 10_100);
    bench.reply(1, enough, Reply::Positive, 10_211);
    assert_eq!(bench.state(0), State::Down);
    assert_eq!(bench.place(0), PlaceWhy::Down);
}

#[test]
fn an_answer_of_the_same_operator_or_over_another_path_convicts_nobody() {
    let mut topology = with_transports(3, &[Transport::Udp, Transport::Tcp]);
    topology.providers[1].operator = topology.providers[0].operator;
    topology.endpoints[4].family = Family::V6;
    let mut bench = Bench::warm(topology);
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(0, Failure::Reset, ms);
    }
    // The same operator over UDP; another one over TCP, and over UDP with IPv6.
    for endpoint in [2, 5, 4] {
        bench.served(endpoint, 10_300);
        assert_eq!(bench.state(0), State::Suspect);
    }
}

#[test]
fn a_black_hole_is_down_a_second_after_the_first_lost_query_without_any_other_query() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(10_249, all_but(0));
    assert_eq!(bench.state(0), State::Up);
    bench.wait(10_989, all_but(0));
    assert_eq!(bench.state(0), State::Suspect);
    bench.wait(10_990, all_but(0));
    assert_eq!(bench.state(0), State::Down);
    assert_eq!(bench.re_probed(0), [10_250, 10_490]);
    let references: Vec<u64> = bench
        .probes
        .iter()
        .filter(|p| p.3 == ProbeWhy::Reference)
        .map(|p| p.0)
        .collect();
    assert_eq!(references, [10_250], "one answer of another operator is enough");
}

#[test]
fn a_busy_black_hole_is_down_within_a_second_too() {
    let mut bench = Bench::warm(providers(3));
    for n in 0..6 {
        bench.begin(0, 10_000 + n * 10);
    }
    bench.wait(10_100, all_but(0));
    assert_eq!(bench.control.health(EndpointId(0)).unwrap().cause(), Cause::Silence);
    bench.wait(10_990, all_but(0));
    assert_eq!(bench.state(0), State::Down);
}

#[test]
fn down_is_probed_after_1_2_and_4_seconds_and_jitter_only_shortens() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(10_990, all_but(0));
    bench.probes.clear();
    for second in 11..60 {
        bench.control.note_client(Time::at_ms(second * 1_000));
        bench.wait(second * 1_000, all_but(0));
    }
    let at = bench.re_probed(0);
    let gaps: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, most) in gaps.iter().zip([1_000, 2_000, 4_000, 4_000, 4_000]) {
        assert!((most * 3 / 4..=most).contains(gap), "{gaps:?}");
    }
    assert!(gaps.len() > 8, "{gaps:?}");
}

#[test]
fn nobody_is_probed_when_no_client_asked_for_a_minute_and_at_once_when_one_asks() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(200_000, all_but(0));
    assert!(
        bench.probes.iter().all(|(ms, ..)| *ms < 70_000),
        "{:?}",
        bench.probes.last()
    );
    assert_eq!(bench.control.poll_timeout(Time::at_ms(200_000)), None);
    bench.probes.clear();
    bench.begin(1, 200_000);
    assert_eq!(bench.probed(0), [200_000]);
}

#[test]
fn a_provider_that_answers_three_probes_is_on_probation_and_up_five_seconds_later() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(10_990, all_but(0));
    bench.probes.clear();
    bench.wait(12_500, all_well);
    assert_eq!(bench.state(0), State::Probation);
    assert_eq!(bench.place(0), PlaceWhy::Ramp);
    let at = bench.re_probed(0);
    assert_eq!((at.len(), at[1] - at[0], at[2] - at[1]), (3, 110, 110), "{at:?}");
    bench.wait(18_000, all_well);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
}

#[test]
fn nothing_up_probes_every_provider_each_half_second() {
    let mut bench = Bench::warm(providers(3));
    for endpoint in 0..3 {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(12_000, silence);
    assert!(bench.control.routes().nothing_up);
    assert!(bench.events.contains(&Event::NothingUp(GroupId::PUBLIC)));
    bench.probes.clear();
    bench.wait(22_000, silence);
    for endpoint in 0..3 {
        let count = bench.re_probed(endpoint).len();
        assert!((19..=21).contains(&count), "{count}");
    }
    bench.wait(23_000, all_well);
    assert!(bench.events.contains(&Event::SomethingUp(GroupId::PUBLIC)));
}

#[test]
fn without_any_answer_for_two_seconds_the_uplink_is_suspect_and_nobody_goes_down() {
    let mut bench = Bench::warm(providers(3));
    for endpoint in 0..3 {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(11_999, silence);
    assert!(bench.control.routes().uplink_suspect.is_empty());
    bench.wait(12_000, silence);
    let path = bench.control.topology.endpoints[0].path();
    assert_eq!(bench.control.routes().uplink_suspect, [path]);
    assert!(bench.events.contains(&Event::UplinkSuspect(path)));
    bench.wait(30_000, silence);
    assert!((0..3).all(|endpoint| bench.state(endpoint) == State::Suspect));
}

#[test]
fn the_first_answer_forgives_the_others_what_began_before_it() {
    let mut bench = Bench::warm(providers(3));
    for endpoint in 0..3 {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(14_000, silence);
    let open = bench.begin(1, 14_050);
    bench.served(0, 14_100);
    assert_eq!(bench.state(0), State::Up);
    assert_eq!(bench.state(1), State::Unknown);
    assert_eq!(bench.state(2), State::Unknown);
    let path = bench.control.topology.endpoints[0].path();
    assert!(bench.events.contains(&Event::UplinkReturned(path)));
    assert!(bench.control.routes().uplink_suspect.is_empty());
    // What was in flight before it is forgotten with the rest, what began later counts.
    bench.finish(1, open, Finish::Failed(Failure::Unreachable), 14_200);
    assert_eq!(bench.state(1), State::Unknown);
    bench.fails(1, Failure::Unreachable, 14_300);
    assert_eq!(bench.state(1), State::Suspect);
}

#[test]
fn a_failure_that_no_dead_path_explains_is_no_uplink_trouble() {
    let mut bench = Bench::warm(providers(2));
    bench.begin(0, 10_000);
    bench.fails(1, Failure::Reset, 10_000);
    bench.wait(20_000, silence);
    assert!(bench.control.routes().uplink_suspect.is_empty());
}

#[test]
fn one_operator_alone_is_no_uplink_trouble() {
    let mut topology = providers(2);
    topology.providers[1].operator = topology.providers[0].operator;
    let mut bench = Bench::warm(topology);
    bench.begin(0, 10_000);
    bench.begin(1, 10_000);
    bench.wait(20_000, silence);
    assert!(bench.control.routes().uplink_suspect.is_empty());
    assert_eq!(bench.state(0), State::Suspect);
}

#[test]
fn each_path_is_judged_on_its_own() {
    let mut bench = Bench::warm(with_transports(3, &[Transport::Udp, Transport::Tcp]));
    for provider in 0..3 {
        bench.begin(provider * 2, 10_000);
    }
    // Only TCP works: odd ids.
    bench.wait(13_000, |endpoint| (endpoint % 2 == 1).then_some(Reply::Positive));
    let routes = Arc::clone(bench.control.routes());
    assert_eq!(routes.uplink_suspect, [bench.control.topology.endpoints[0].path()]);
    assert!(!routes.nothing_up);
    assert!(routes.choices.iter().all(|choice| choice.endpoint.0 % 2 == 1));
    for provider in 0..3 {
        assert_eq!(bench.state(provider * 2), State::Suspect);
        assert_eq!(bench.place(provider * 2 + 1), PlaceWhy::Healthy);
    }
}

#[test]
fn siblings_rank_behind_until_one_answers_an_attempt_begun_since() {
    let mut bench = Bench::warm(with_transports(3, &[Transport::Udp, Transport::Tcp]));
    let before = bench.begin(1, 9_999);
    bench.fails(0, Failure::Unreachable, 10_000);
    assert_eq!(bench.place(0), PlaceWhy::Suspect);
    assert_eq!(bench.place(1), PlaceWhy::Sibling);
    assert_eq!(
        bench.control.routes().endpoint(EndpointId(1)).unwrap().place(),
        Place::Last
    );
    assert!(
        bench.probes.iter().any(|p| p.2 == 1 && p.3 == ProbeWhy::Standby),
        "{:?}",
        bench.probes
    );
    bench.reply(1, before, Reply::Positive, 10_010);
    assert_eq!(bench.place(1), PlaceWhy::Sibling);
    bench.served(1, 10_020);
    assert_eq!(bench.place(1), PlaceWhy::Healthy);
}

#[test]
fn bad_rcodes_of_three_domains_make_suspect_and_probes_settle_it() {
    for (probe_reply, state) in [
        (Reply::Failed(Rcode::REFUSED), State::Down),
        (Reply::Positive, State::Up),
    ] {
        let mut bench = Bench::warm(providers(3));
        for n in 0..30 {
            let ms = 20_000 + n * 10;
            let begun = bench.begin(0, ms);
            bench.reply(0, begun, Reply::Failed(Rcode::REFUSED), ms + 1);
            bench.served(1, ms + 1);
            let now = Time::at_ms(ms + 11);
            bench
                .control
                .handle_disagreed(EndpointId(0), begun, n % 5, Rcode::REFUSED, now);
            bench.drain(ms + 11);
            if n < 2 {
                assert_eq!(bench.state(0), State::Up);
                assert!(bench.control.routes().avoids(n % 5, EndpointId(0), now));
            }
            if bench.state(0) != State::Up {
                break;
            }
        }
        assert_eq!(bench.control.health(EndpointId(0)).unwrap().cause(), Cause::Refused);
        bench.wait(24_000, |endpoint| {
            Some(if endpoint == 0 { probe_reply } else { Reply::Positive })
        });
        assert_eq!(bench.state(0), state);
    }
}

#[test]
fn datagrams_that_send_everybody_to_a_broken_stream_clear_nobody_of_it() {
    for (cause, failure, state) in [
        (Cause::Garbage, Failure::Garbage, State::Suspect),
        (Cause::Reset, Failure::Reset, State::Up),
    ] {
        let mut bench = Bench::warm(providers(3));
        bench.fails(0, failure, 20_000);
        assert_eq!(bench.control.health(EndpointId(0)).unwrap().cause(), cause);
        bench.wait(24_000, |endpoint| {
            Some(if endpoint == 0 {
                Reply::Truncated
            } else {
                Reply::Positive
            })
        });
        assert_eq!(bench.state(0), state);
    }
}

#[test]
fn a_single_bad_domain_is_avoided_for_a_minute() {
    let mut bench = Bench::warm(providers(3));
    for n in 0..10 {
        let begun = bench.begin(0, 20_000 + n);
        bench.reply(0, begun, Reply::Failed(Rcode::SERVFAIL), 20_000 + n);
        let now = Time::at_ms(20_000 + n);
        bench
            .control
            .handle_disagreed(EndpointId(0), begun, 7, Rcode::SERVFAIL, now);
        bench.drain(20_000 + n);
    }
    assert_eq!(bench.state(0), State::Up);
    let routes = bench.control.routes();
    assert!(routes.avoids(7, EndpointId(0), Time::at_ms(79_999)));
    assert!(!routes.avoids(7, EndpointId(0), Time::at_ms(80_009)));
    assert!(!routes.avoids(8, EndpointId(0), Time::at_ms(20_009)));
    assert!(!routes.avoids(7, EndpointId(1), Time::at_ms(20_009)));
}

#[test]
fn an_endpoint_without_a_route_leaves_the_routes_at_once_until_the_path_changes() {
    let mut bench = Bench::warm(providers(2));
    let begun = bench.begin(0, 10_000);
    bench.finish(0, begun, Finish::Failed(Failure::NoRoute), 10_000);
    assert_eq!(bench.place(0), PlaceWhy::NoRoute);
    assert_eq!(bench.control.routes().choices.len(), 1);
    bench.control.handle_new_path(&[EndpointId(0)], Time::at_ms(11_000));
    bench.drain(11_000);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
}

#[test]
fn loss_that_lasts_two_seconds_is_out_at_once() {
    let mut bench = Bench::warm(providers(2));
    let mut ms = 10_000;
    while bench.state(0) == State::Up && ms < 12_000 {
        let begun = bench.begin(0, ms);
        if ms % 30 != 10 {
            bench.reply(0, begun, Reply::Positive, ms + 10);
        }
        bench.wait(ms + 10, all_well);
        ms += 20;
    }
    assert_eq!(bench.control.health(EndpointId(0)).unwrap().cause(), Cause::Loss);
    assert_eq!(bench.place(0), PlaceWhy::Suspect);
    bench.probes.clear();
    bench.wait(ms + 1_900, silence);
    assert_eq!(bench.place(0), PlaceWhy::Suspect);
    // The last of the probes has its time, too.
    bench.wait(ms + 2_020, silence);
    assert!(matches!(bench.place(0), PlaceWhy::Loss), "{:?}", bench.place(0));
}

#[test]
fn a_timer_two_seconds_late_is_a_resume_and_voids_what_was_known_of_the_paths() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(10_990, all_but(0));
    bench.begin(2, 11_050);
    assert_eq!(bench.state(0), State::Down);
    let (promised, _) = bench.control.poll_timeout(Time::at_ms(11_050)).unwrap();
    let late = promised.plus(2 * SEC);
    bench.control.handle_timeout(late);
    bench.drain(late.as_micros() / MS);
    assert!(bench.events.contains(&Event::Resumed { gap_us: 2 * SEC }));
    assert_eq!(bench.state(0), State::Probation);
    // What was in flight is no failure.
    bench.wait(late.as_micros() / MS + 400, all_well);
    assert_eq!(bench.state(2), State::Up);
}

#[test]
fn a_timer_less_than_two_seconds_late_is_none() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    let (promised, _) = bench.control.poll_timeout(Time::at_ms(10_000)).unwrap();
    bench.control.handle_timeout(promised.plus(2 * SEC - 1));
    bench.drain(12_250);
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Resumed { .. })));
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    /// One input with arbitrary numbers: kind, endpoint, attempt, when begun, what, when told.
    type Input = (u8, u16, u64, u64, u8, u64);

    fn input() -> impl Strategy<Value = Input> {
        let time = || prop_oneof![12 => 0..60_000_u64, 1 => any::<u64>()];
        (0..14_u8, 0..9_u16, 0..40_u64, time(), any::<u8>(), time())
    }

    fn apply(control: &mut Control, (kind, endpoint, attempt, at, what, now): Input) {
        let endpoint = EndpointId(endpoint);
        let begun = Begun {
            id: if what % 5 == 0 { PROBE_IDS + attempt } else { attempt },
            at: Time::at_ms(at),
            socket: attempt % 4,
            purpose: [Purpose::Client, Purpose::Backup, Purpose::Probe][usize::from(what) % 3],
        };
        let now = Time::at_ms(now);
        let latency_us = now.since(begun.at);
        let replies = [
            Reply::Positive,
            Reply::Positive,
            Reply::Denial { soa: false },
            Reply::Bogus,
            Reply::Truncated,
            Reply::Failed(Rcode::SERVFAIL),
        ];
        let failures = [
            Failure::Reset,
            Failure::NoRoute,
            Failure::Unreachable,
            Failure::ConnectTimeout,
            Failure::Local,
        ];
        match kind {
            0..=2 => control.handle_begun(endpoint, begun, now),
            3..=5 => {
                let reply = replies[usize::from(what) % replies.len()];
                control.handle_finished(endpoint, begun, Finish::Answered { reply, latency_us }, now);
            }
            6 => {
                let failure = failures[usize::from(what) % failures.len()];
                control.handle_finished(endpoint, begun, Finish::Failed(failure), now);
            }
            7 => control.handle_finished(endpoint, begun, Finish::Mismatched, now),
            8 => control.handle_disagreed(endpoint, begun, u64::from(what % 5), Rcode::REFUSED, now),
            9 => control.handle_garbage(endpoint, now),
            10 if what % 8 == 0 => control.handle_new_path(&[endpoint], now),
            10 if what % 8 == 1 => control.handle_start(now),
            10 => {
                let mut topology = with_transports(1 + u16::from(what) % 4, &[Transport::Udp, Transport::Tcp]);
                if what % 3 == 0 {
                    topology.endpoints.rotate_left(1);
                }
                control.handle_configuration(Arc::new(topology), Settings::default(), now);
            }
            12 => claims::say_anything(control, endpoint.0, what, begun.at, now),
            _ => {
                control.note_client(now);
                control.handle_timeout(now);
            }
        }
    }

    fn assert_within_caps(control: &Control) {
        let endpoints = control.topology.endpoints.len();
        assert!(control.probes.len() <= PROBES_MAX);
        assert!(control.references.len() <= endpoints);
        assert_eq!(control.routes.endpoints.len(), endpoints);
        assert!(control.routes.choices.len() <= control.topology.providers.len());
        assert!(control.routes.avoided.len() <= 64 * endpoints);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_order_of_inputs_breaks_a_bound_and_all_heals(
            inputs in proptest::collection::vec(input(), 0..250),
            both in any::<bool>(),
        ) {
            let transports: &[Transport] = if both { &[Transport::Udp, Transport::Tcp] } else { &[Transport::Udp] };
            let mut control = Control::new(Arc::new(with_transports(4, transports)), Settings::default(), Time::ZERO, 1);
            for input in inputs {
                apply(&mut control, input);
                let now = Time::at_ms(input.5);
                let mut drained = 0;
                while let Some((at, _)) = control.poll_timeout(now) && control.poll_output().is_some() {
                    prop_assert_eq!(at, now);
                    drained += 1;
                    prop_assert!(drained < 200);
                }
                assert_within_caps(&control);
            }
            // Times may have been anything; healing is judged from where nothing of that is in the future.
            let all: Vec<EndpointId> = control.topology.endpoint_ids().collect();
            control.handle_new_path(&all, Time::at_ms(120_000));
            while control.poll_output().is_some() {}
            let mut bench = Bench { control, last: 120_000, next: 1_000_000, probes: Vec::new(), events: Vec::new(), unbegun: None, pending: Vec::new() };
            let count = bench.count();
            let usable = |bench: &Bench| (0..count).all(|e| {
                bench.control.routes().endpoint(EndpointId(e)).is_some_and(|route| route.place() == Place::Normal)
            });
            for second in 120..200 {
                for endpoint in 0..count {
                    bench.served(endpoint, second * 1_000 + u64::from(endpoint));
                }
                bench.wait(second * 1_000 + 900, all_well);
            }
            prop_assert!(usable(&bench), "{:?}", bench.control.routes().endpoints);
        }
    }
}

/// Two providers with DNS over TLS and UDP each: endpoints 0 and 2, 1 and 3.
fn secure(encryption: Encryption) -> Bench {
    let topology = Arc::new(with_transports(2, &[Transport::Tls, Transport::Udp]));
    let settings = Settings {
        encryption,
        ..Settings::default()
    };
    let mut bench = Bench::new(providers(1));
    bench.control = Control::new(topology, settings, Time::ZERO, 1);
    bench
}

#[test]
fn cleartext_waits_until_everything_encrypted_has_failed_for_two_seconds() {
    let mut bench = secure(Encryption::Prefer);
    for ms in [10_000, 10_100] {
        bench.served(0, ms);
        bench.served(2, ms);
    }
    assert_eq!(
        (bench.place(1), bench.place(3)),
        (PlaceWhy::Cleartext, PlaceWhy::Cleartext)
    );
    bench.fails(0, Failure::TlsExpired, 11_000);
    bench.wait(13_900, all_but(0));
    assert_eq!(bench.place(1), PlaceWhy::Cleartext, "the other one may still answer");
    bench.fails(2, Failure::TlsExpired, 14_000);
    bench.wait(15_990, silence);
    assert_eq!(bench.place(1), PlaceWhy::Cleartext);
    assert!(!bench.control.routes().nothing_up, "there is hope");
    bench.wait(16_010, silence);
    assert_ne!(bench.place(1), PlaceWhy::Cleartext);
    assert!(bench.probed(1).is_empty() || bench.probed(1)[0] >= 16_000);
    bench.served(2, 17_000);
    assert_eq!(
        (bench.place(1), bench.place(3)),
        (PlaceWhy::Cleartext, PlaceWhy::Cleartext)
    );
}

#[test]
fn nothing_travels_in_the_clear_where_everything_is_encrypted() {
    let all = [Transport::Tls, Transport::Udp];
    for (transports, is_clear) in [(&all[..], true), (&all[..1], false)] {
        let mut bench = Bench::new(with_transports(2, transports));
        for endpoint in (0..2).map(|n| n * u16::try_from(transports.len()).unwrap()) {
            bench.fails(endpoint, Failure::TlsExpired, 10_000);
        }
        bench.wait(20_000, silence);
        assert_eq!(bench.control.routes().in_the_clear, is_clear, "{transports:?}");
    }
}

#[test]
fn nothing_counts_against_encryption_within_two_seconds_of_a_start() {
    let mut bench = secure(Encryption::Prefer);
    for endpoint in [0, 2] {
        let begun = bench.begin(endpoint, 10);
        bench.finish(endpoint, begun, Finish::Failed(Failure::NoRoute), 11);
    }
    assert_eq!(bench.place(1), PlaceWhy::Cleartext);
    bench.wait(1_990, silence);
    assert_eq!(bench.place(1), PlaceWhy::Cleartext);
    bench.wait(2_010, silence);
    assert_ne!(bench.place(1), PlaceWhy::Cleartext);
}

#[test]
fn required_encryption_is_never_given_up_and_any_never_asks_for_it() {
    let mut bench = secure(Encryption::Require);
    for ms in [10_000, 10_200, 10_400] {
        bench.fails(0, Failure::Reset, ms);
        bench.fails(2, Failure::Reset, ms);
    }
    bench.wait(60_000, silence);
    assert_eq!(
        (bench.place(1), bench.place(3)),
        (PlaceWhy::Cleartext, PlaceWhy::Cleartext)
    );
    assert!(bench.control.routes().nothing_up);
    assert_eq!(bench.probed(1), [0_u64; 0]);
    let bench = secure(Encryption::Any);
    assert_eq!(bench.place(1), PlaceWhy::Healthy);
}
