//! Endpoints whose addresses come from a name, and those that are connected to slowly.

use super::*;

/// A provider at a name: TLS over IPv6 (0) and over IPv4 (1); and another one over IPv4 (2, 3).
fn named() -> Topology {
    let mut topology = with_transports(2, &[Transport::Tls, Transport::Tls]);
    topology.endpoints[0].family = Family::V6;
    topology
}

#[test]
fn an_endpoint_without_an_address_is_out_until_it_has_one() {
    let mut bench = Bench::new(named());
    let both = [EndpointId(0), EndpointId(1)];
    bench.control.handle_unresolved(&both, Time::ZERO);
    bench.control.handle_start(Time::ZERO);
    bench.drain(0);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Unresolved, PlaceWhy::Unresolved)
    );
    let choices = |bench: &Bench| -> Vec<u16> {
        let choices = bench.control.routes().choices.iter();
        choices.map(|choice| choice.endpoint.0).collect()
    };
    assert_eq!(choices(&bench), [2]);
    bench.wait(2_000, all_well);
    assert_eq!(bench.probed(1), [0; 0], "nobody is sent nowhere");
    bench.unbegun = bench.probes.last().map(|probe| probe.1 + 1);
    bench.control.handle_resolved(&both[1..], Time::at_ms(2_000));
    bench.drain(2_000);
    assert_eq!(choices(&bench), [1, 2]);
    assert_eq!(bench.place(0), PlaceWhy::Unresolved);
    bench.wait(3_000, all_well);
    assert_eq!(bench.probed(1), [2_000], "it is looked at once, as at the start");
    assert_eq!(bench.state(1), State::Up);
}

#[test]
fn another_address_is_another_place() {
    let mut bench = Bench::warm(named());
    for ms in [10_000, 10_100, 10_200] {
        bench.fails(1, Failure::Reset, ms);
    }
    bench.served(2, 10_400);
    assert_eq!(bench.state(1), State::Down);
    bench.control.handle_resolved(&[EndpointId(1)], Time::at_ms(11_000));
    bench.drain(11_000);
    assert_eq!(bench.state(1), State::Probation);
    // And none at all is no failure of anybody's.
    let lost = bench.begin(1, 11_100);
    bench.control.handle_unresolved(&[EndpointId(1)], Time::at_ms(11_200));
    bench.drain(11_200);
    bench.finish(1, lost, Finish::Failed(Failure::Local), 11_300);
    assert_eq!(
        (bench.state(1), bench.place(1)),
        (State::Probation, PlaceWhy::Unresolved)
    );
}

#[test]
fn while_one_family_is_slow_the_other_one_is_asked() {
    let mut bench = Bench::new(named());
    let slow = |bench: &mut Bench, endpoint, ms| {
        bench.control.handle_slow(EndpointId(endpoint), Time::at_ms(ms));
        bench.drain(ms);
    };
    bench.unbegun = Some(0);
    bench.control.note_client(Time::at_ms(1_000));
    slow(&mut bench, 0, 1_250);
    assert_eq!(bench.probes.len(), 1);
    assert_eq!((bench.probes[0].2, bench.probes[0].3), (1, ProbeWhy::Family));
    bench.wait(1_300, all_well);
    assert_eq!(bench.state(1), State::Up);
    // It answered a moment ago.
    slow(&mut bench, 0, 2_000);
    assert_eq!(bench.probed(1), [1_250]);
    // When the slow one fails, the other stands as if nothing were.
    let begun = Begun {
        id: 77,
        at: Time::at_ms(1_000),
        socket: 77,
        purpose: Purpose::Client,
    };
    bench.finish(0, begun, Finish::Failed(Failure::ConnectTimeout), 3_000);
    assert_eq!((bench.place(0), bench.place(1)), (PlaceWhy::Suspect, PlaceWhy::Healthy));
    // Nobody stands in for a provider that has no other family, or no address of it.
    bench.probes.clear();
    slow(&mut bench, 2, 20_000);
    bench.control.handle_unresolved(&[EndpointId(1)], Time::at_ms(20_100));
    slow(&mut bench, 0, 20_200);
    let family = bench.probes.iter().filter(|probe| probe.3 == ProbeWhy::Family);
    assert_eq!(family.count(), 0);
}
