//! Changes of the network, told by the system.

use super::*;

const FIRST: [EndpointId; 1] = [EndpointId(0)];

#[test]
fn an_endpoint_whose_route_the_system_knows_to_be_gone_is_out_without_an_attempt() {
    let mut bench = Bench::warm(providers(2));
    let lost = bench.begin(0, 9_900);
    bench.control.handle_unrouted(&FIRST, Time::at_ms(10_000));
    bench.drain(10_000);
    assert_eq!(bench.place(0), PlaceWhy::NoRoute);
    // What was in flight is no failure.
    bench.wait(12_000, silence);
    assert_eq!(bench.state(0), State::Up);
    bench.finish(0, lost, Finish::Failed(Failure::NoRoute), 12_000);
    bench.control.handle_routed(&FIRST, Time::at_ms(13_000));
    bench.drain(13_000);
    assert_eq!((bench.place(0), bench.state(0)), (PlaceWhy::Healthy, State::Up));
    bench.wait(30_000, all_well);
    assert!(bench.probes.iter().all(|probe| probe.0 < 13_000), "{:?}", bench.probes);
}

#[test]
fn a_route_that_was_there_all_the_time_changes_nothing() {
    let mut bench = Bench::warm(providers(2));
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(0, Failure::Reset, ms);
    }
    bench.served(1, 10_400);
    let version = bench.control.routes().version;
    bench
        .control
        .handle_routed(&[EndpointId(0), EndpointId(1)], Time::at_ms(10_420));
    bench.drain(10_420);
    assert_eq!(bench.state(0), State::Down);
    assert_eq!(bench.control.routes().version, version);
}

#[test]
fn only_endpoints_whose_way_changed_begin_anew() {
    let mut bench = Bench::warm(providers(3));
    for endpoint in [0, 1] {
        for ms in [10_000, 10_100, 10_200] {
            bench.fails(endpoint, Failure::Reset, ms + u64::from(endpoint));
        }
    }
    bench.served(2, 10_400);
    assert_eq!((bench.state(0), bench.state(1)), (State::Down, State::Down));
    bench.control.handle_new_path(&FIRST, Time::at_ms(10_500));
    bench.drain(10_500);
    assert_eq!((bench.state(0), bench.state(1)), (State::Probation, State::Down));
}

#[test]
fn a_sleep_that_the_shell_found_is_one_resume_whoever_was_idle() {
    let mut bench = Bench::warm(providers(2));
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(0, Failure::Reset, ms);
    }
    bench.served(1, 10_400);
    let resumes = |bench: &Bench| {
        let resumed = |event: &&Event| matches!(event, Event::Resumed { .. });
        bench.events.iter().filter(resumed).count()
    };
    bench.control.handle_gap(2 * SEC - 1, Time::at_ms(20_000));
    bench.drain(20_000);
    assert_eq!((resumes(&bench), bench.state(0)), (0, State::Down));
    assert!(bench.control.poll_timeout(Time::at_ms(20_000)).is_some());
    bench.control.handle_gap(3_600 * SEC, Time::at_ms(3_620_000));
    bench.drain(3_620_000);
    bench.served(1, 3_620_000);
    assert_eq!((resumes(&bench), bench.state(0)), (1, State::Probation));
}
