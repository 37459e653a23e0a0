//! Another configuration while the node runs, and the first look at providers.

use super::*;

/// Providers of these names (`p<number>`) in this order, numbered anew, each with an endpoint of its own.
fn named(numbers: &[u16]) -> Topology {
    let all = providers(8);
    let mut topology = Topology::default();
    for number in numbers {
        let id = u16::try_from(topology.providers.len()).unwrap();
        let mut provider = all.providers[usize::from(*number)].clone();
        let mut endpoint = all.endpoints[usize::from(*number)].clone();
        provider.operator = OperatorId(id);
        provider.endpoints = vec![EndpointId(id)];
        endpoint.provider = crate::topology::ProviderId(id);
        topology.providers.push(provider);
        topology.endpoints.push(endpoint);
    }
    topology
}

impl Bench {
    fn configure(&mut self, topology: Topology, ms: u64) {
        let settings = self.control.settings;
        self.control
            .handle_configuration(Arc::new(topology), settings, Time::at_ms(ms));
        self.drain(ms);
    }
}

#[test]
fn the_same_configuration_changes_nothing_and_follows_what_is_under_way() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    let lost = bench.begin(1, 10_000);
    let before = bench.control.routes().clone();
    bench.configure(providers(3), 10_050);
    let after = bench.control.routes().clone();
    assert_eq!((&before.endpoints, &before.choices), (&after.endpoints, &after.choices));
    assert!(bench.events.is_empty() && bench.probes.is_empty(), "{:?}", bench.events);
    bench.reply(1, lost, Reply::Positive, 10_060);
    bench.wait(11_000, all_but(0));
    assert_eq!((bench.state(0), bench.state(1)), (State::Down, State::Up));
}

#[test]
fn health_goes_with_the_endpoint_to_its_new_id() {
    let mut bench = Bench::warm(providers(3));
    bench.begin(0, 10_000);
    bench.wait(11_000, all_but(0));
    assert_eq!(bench.state(0), State::Down);
    bench.events.clear();
    // p2 is gone, p5 is new, p0 has another number.
    bench.configure(named(&[5, 1, 0]), 11_050);
    let states = [bench.state(0), bench.state(1), bench.state(2)];
    assert_eq!(states, [State::Unknown, State::Up, State::Down]);
    assert_eq!(bench.control.routes().choices.len(), 3);
    assert_eq!(bench.control.routes().topology.providers[0].name, "p5");
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    let timing = bench.control.routes().endpoints[1].timing;
    assert!(timing.p95_us < 20 * MS, "{timing:?}");
    // Recovery needs nothing but probes, as ever.
    bench.wait(20_000, all_well);
    assert!(bench.state(2).is_usable());
}

#[test]
fn attempts_under_way_are_no_failures_once_nobody_tells_how_they_ended() {
    let mut bench = Bench::warm(providers(3));
    for n in 0..40 {
        bench.begin(0, 10_000 + n);
        bench.begin(1, 10_000 + n);
    }
    bench.configure(named(&[1, 0]), 10_045);
    assert_eq!(bench.control.health(EndpointId(0)).unwrap().open_count(), 0);
    bench.wait(20_000, all_well);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    assert_eq!((bench.state(0), bench.state(1)), (State::Up, State::Up));
}

#[test]
fn doubts_go_on_to_be_settled_by_probes_and_by_what_others_answered_before() {
    let mut bench = Bench::warm(providers(3));
    for ms in [10_000, 10_100] {
        bench.fails(0, Failure::Reset, ms);
    }
    bench.served(1, 10_150);
    assert_eq!(bench.state(0), State::Suspect);
    bench.configure(named(&[7, 1, 0]), 10_160);
    assert_eq!(bench.state(2), State::Suspect);
    bench.fails(2, Failure::Reset, 10_250);
    assert_eq!(bench.state(2), State::Down);
}

#[test]
fn an_operator_that_was_split_is_no_witness_any_more() {
    let mut topology = providers(3);
    topology.providers[2].operator = OperatorId(1);
    let mut bench = Bench::warm(topology);
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(0, Failure::Reset, ms);
    }
    // Numbered alike, so that the answer comes through; but whose it was cannot be told any more.
    let answer = bench.begin(1, 10_120);
    bench.configure(providers(3), 10_210);
    assert_eq!(bench.state(0), State::Suspect);
    bench.reply(1, answer, Reply::Positive, 10_220);
    assert_eq!(bench.state(0), State::Down);
}

#[test]
fn a_path_nobody_uses_any_more_is_no_trouble() {
    let mut topology = with_transports(3, &[Transport::Udp, Transport::Tcp]);
    let mut bench = Bench::warm(topology.clone());
    for endpoint in [0, 2, 4] {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(12_500, |endpoint| (endpoint % 2 == 1).then_some(Reply::Positive));
    assert_eq!(bench.control.routes().uplink_suspect.len(), 1);
    topology.endpoints = topology.endpoints.into_iter().skip(1).step_by(2).collect();
    for (id, provider) in (0..).zip(&mut topology.providers) {
        provider.endpoints = vec![EndpointId(id)];
    }
    bench.configure(topology, 12_600);
    assert!(bench.control.routes().uplink_suspect.is_empty());
    assert_eq!(bench.state(0), State::Up);
}

#[test]
fn loss_is_measured_by_probes_whose_outcome_is_told() {
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
    bench.wait(ms + 1_000, all_well);
    let (sent, id, ..) = *bench.probes.last().unwrap();
    bench
        .control
        .handle_begun(EndpointId(0), probe_begun(id + 7, sent), Time::at_ms(ms + 1_000));
    bench.configure(named(&[1, 0]), ms + 1_001);
    // Sixteen new ones decide: of those before nobody tells.
    bench.wait(ms + 2_500, all_well);
    assert_eq!(bench.place(1), PlaceWhy::Suspect);
    bench.wait(ms + 3_600, all_well);
    assert_eq!(
        bench.place(1),
        PlaceWhy::Healthy,
        "an unanswered probe of before is no loss"
    );
}

#[test]
fn a_start_asks_each_provider_once_by_its_first_choice_and_is_idle_then() {
    let mut bench = Bench::new(with_transports(3, &[Transport::Udp, Transport::Tcp]));
    bench.control.handle_start(Time::ZERO);
    bench.wait(60_000, all_well);
    let probes: Vec<_> = bench.probes.iter().map(|(ms, _, id, why)| (*ms, *id, *why)).collect();
    assert_eq!(probes, [0, 2, 4].map(|id| (0, id, ProbeWhy::Start)));
    assert_eq!(bench.state(4), State::Up);
    assert_eq!(bench.control.poll_timeout(Time::at_ms(60_000)), None);
}

#[test]
fn a_start_tries_the_next_transport_where_the_first_fails() {
    let mut bench = Bench::new(with_transports(2, &[Transport::Udp, Transport::Tcp]));
    bench.control.handle_start(Time::ZERO);
    bench.drain(0);
    // No route to the first one of p1; a black hole at the first one of p0.
    let [hole, none] = [0, 1].map(|n: usize| probe_begun(bench.probes[n].1, 0));
    bench.control.handle_begun(EndpointId(0), hole, Time::ZERO);
    let begun = none;
    bench.finish(2, begun, Finish::Failed(Failure::NoRoute), 1);
    let answered = probe_begun(bench.probes[2].1, 1);
    assert_eq!(bench.probed(3), [1]);
    bench.reply(3, answered, Reply::Positive, 11);
    bench.wait(2_900, all_but(0));
    assert!(!bench.state(0).is_usable());
    assert_eq!((bench.state(1), bench.state(3)), (State::Up, State::Up));
    bench.probes.clear();
    bench.wait(60_000, all_but(0));
    let late: Vec<_> = bench.probes.iter().filter(|(ms, ..)| *ms >= 3_000).collect();
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_start_without_a_network_finds_out_within_three_seconds_and_rests() {
    let mut bench = Bench::new(providers(4));
    bench.control.handle_start(Time::ZERO);
    bench.wait(2_700, silence);
    assert!(bench.control.routes().nothing_up);
    assert_eq!(bench.control.routes().uplink_suspect.len(), 1);
    bench.wait(60_000, silence);
    assert!(bench.probes.iter().all(|(ms, ..)| *ms < 6_000));
    assert!((0..4).all(|endpoint| bench.state(endpoint) == State::Suspect));
}

#[test]
fn a_start_where_nothing_encrypted_answers_finds_what_does_in_the_clear() {
    let mut bench = Bench::new(with_transports(2, &[Transport::Https, Transport::Udp]));
    bench.control.handle_start(Time::ZERO);
    bench.wait(60_000, |endpoint| (endpoint % 2 == 1).then_some(Reply::Positive));
    assert_eq!((bench.state(1), bench.state(3)), (State::Up, State::Up));
    let (first, last) = (bench.probed(1)[0], bench.probes.last().unwrap().0);
    assert!((2_000..6_000).contains(&first) && last < 6_000, "{first}, {last}");
}

#[test]
fn a_new_provider_is_asked_once_and_those_that_stay_are_not() {
    let mut bench = Bench::new(providers(2));
    bench.control.handle_start(Time::ZERO);
    bench.wait(30_000, all_well);
    bench.probes.clear();
    bench.configure(named(&[1, 6, 0]), 30_000);
    bench.wait(40_000, all_well);
    let probes: Vec<_> = bench.probes.iter().map(|(ms, _, id, why)| (*ms, *id, *why)).collect();
    assert_eq!(probes, [(30_000, 1, ProbeWhy::Start)]);
    // A node that does not run looks at nobody.
    let mut bench = Bench::new(providers(2));
    bench.configure(named(&[1, 6, 0]), 0);
    assert!(bench.probes.is_empty());
}
