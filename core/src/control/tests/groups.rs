//! Groups of routes: what is evidence for whom, what is asked in the clear, and what peers never hear of.

use super::*;
use crate::control::claims::{Influence, MeshSettings};
use crate::report::{EndpointKey, SiteKey};
use crate::topology::{Group, ProviderId};

/// Three providers for all names (0, 1, 2) and two for those of a route (3, 4), each with these transports.
fn with_a_route(transports: &[Transport]) -> Topology {
    let mut topology = with_transports(5, transports);
    for id in [3, 4] {
        topology.providers[id].is_public = false;
    }
    topology.routed.push(Group {
        name: "office".to_owned(),
        providers: vec![ProviderId(3), ProviderId(4)],
        is_quiet: false,
    });
    topology
}

fn key(endpoint: u16) -> EndpointKey {
    let [high, low] = endpoint.to_be_bytes();
    EndpointKey([7, 0, 0, 0, 0, 0, high, low])
}

impl Bench {
    fn office(&self) -> Arc<Routes> {
        let routes = self.control.routes();
        Arc::clone(routes.of(GroupId(1)).unwrap())
    }

    fn with_settings(topology: Topology, settings: Settings) -> Self {
        let mut bench = Self::new(topology);
        bench.control = Control::new(Arc::clone(&bench.control.topology), settings, Time::ZERO, 1);
        bench
    }
}

#[test]
fn each_group_has_its_own_table() {
    let bench = Bench::warm(with_a_route(&[Transport::Udp]));
    let (public, office) = (bench.control.routes(), bench.office());
    let of = |routes: &Routes| routes.choices.iter().map(|c| c.provider.0).collect::<Vec<_>>();
    assert_eq!((of(public), of(&office)), (vec![0, 1, 2], vec![3, 4]));
    assert_eq!((public.group, office.group), (GroupId::PUBLIC, GroupId(1)));
    assert_eq!(public.version, office.version);
    assert!(public.of(GroupId(2)).is_none());
    assert_eq!(public.all().count(), 2);
}

#[test]
fn what_an_office_answers_convicts_nobody_on_the_way_to_the_internet() {
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    // The uplink is dead, the office's servers answer all the while.
    for endpoint in 0..3 {
        bench.begin(endpoint, 10_000);
    }
    for ms in [10_300, 10_600, 11_000, 12_000] {
        bench.served(3, ms);
    }
    bench.wait(14_000, |endpoint| (endpoint >= 3).then_some(Reply::Positive));
    for endpoint in 0..3 {
        assert_eq!(bench.state(endpoint), State::Suspect, "{endpoint}");
    }
    assert_eq!(bench.control.routes().uplink_suspect.len(), 1);
    assert!(bench.control.routes().nothing_up && !bench.office().nothing_up);
    assert!(bench.office().uplink_suspect.is_empty());
    assert!(bench.events.contains(&Event::NothingUp(GroupId::PUBLIC)));
    assert!(!bench.events.contains(&Event::NothingUp(GroupId(1))));
}

#[test]
fn an_office_that_is_gone_is_its_own_trouble_only() {
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    bench.events.clear();
    for endpoint in [3, 4] {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(15_000, |endpoint| (endpoint < 3).then_some(Reply::Positive));
    // The public ones answered, and it was nobody of theirs.
    assert_eq!((bench.state(3), bench.state(4)), (State::Suspect, State::Suspect));
    assert!(bench.office().nothing_up && !bench.control.routes().nothing_up);
    assert!(bench.events.contains(&Event::NothingUp(GroupId(1))));
    assert!(
        !bench
            .events
            .iter()
            .any(|event| matches!(event, Event::UplinkSuspect(_)))
    );
    assert!(bench.control.routes().uplink_suspect.is_empty());
    // Among themselves one convicts the other.
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    bench.begin(3, 10_000);
    bench.wait(11_000, all_but(3));
    assert_eq!(bench.state(3), State::Down);
}

#[test]
fn a_reference_is_asked_within_the_group_and_any_answer_of_an_office_is_life() {
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    bench.probes.clear();
    bench.begin(3, 10_000);
    bench.wait(10_400, silence);
    let references: Vec<u16> = bench
        .probes
        .iter()
        .filter(|probe| probe.3 == ProbeWhy::Reference)
        .map(|probe| probe.2)
        .collect();
    assert_eq!(references, [4]);
    // It knows its own zones and refuses the probe's question, which all others answer.
    let refused = |endpoint: u16| {
        Some(if endpoint == 3 {
            Reply::Failed(Rcode::REFUSED)
        } else {
            Reply::Positive
        })
    };
    bench.wait(20_000, refused);
    assert_eq!(
        bench.state(3),
        State::Up,
        "{:?}",
        bench.control.health(EndpointId(3)).unwrap().cause()
    );
}

#[test]
fn a_route_without_encryption_is_asked_in_the_clear_and_others_are_not() {
    let mut topology = with_a_route(&[Transport::Tls, Transport::Udp]);
    // The first of the office speaks UDP only, and so does a group of it alone; the second one both.
    topology.endpoints[6].transport = Transport::Tcp;
    topology.routed.push(Group {
        name: "printer".to_owned(),
        providers: vec![ProviderId(3)],
        is_quiet: false,
    });
    for (policy, public, printer, office) in [
        (
            Encryption::Prefer,
            PlaceWhy::Cleartext,
            PlaceWhy::Healthy,
            PlaceWhy::Cleartext,
        ),
        (
            Encryption::Require,
            PlaceWhy::Cleartext,
            PlaceWhy::Healthy,
            PlaceWhy::Cleartext,
        ),
        (Encryption::Any, PlaceWhy::Healthy, PlaceWhy::Healthy, PlaceWhy::Healthy),
    ] {
        let settings = Settings {
            encryption: policy,
            ..Settings::default()
        };
        let bench = Bench::with_settings(topology.clone(), settings);
        let routes = bench.control.routes();
        let why = |group: u16, endpoint: u16| {
            routes
                .of(GroupId(group))
                .unwrap()
                .endpoint(EndpointId(endpoint))
                .unwrap()
                .why
        };
        assert_eq!(why(0, 1), public, "{policy:?}");
        assert_eq!(why(2, 7), printer, "{policy:?}");
        assert_eq!((why(1, 7), why(1, 9)), (office, office), "{policy:?}");
    }
}

#[test]
fn peers_hear_of_the_public_group_and_of_nothing_else() {
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    let settings = MeshSettings {
        influence: Influence::Full,
        keys: (0..5).map(key).collect(),
        site: Some(SiteKey([1; 4])),
    };
    bench.control.handle_mesh(settings, Time::at_ms(2_000));
    bench.drain(2_000);
    let report = bench.control.own_report(Time::at_ms(2_000));
    let keys: Vec<EndpointKey> = report.opinions.iter().map(|opinion| opinion.endpoint).collect();
    assert_eq!(keys.len(), 3);
    assert!([3, 4].iter().all(|private| !keys.contains(&key(*private))));
    // Not even that something happened there, and when.
    let before = report.urgent;
    for endpoint in [3, 4] {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(14_000, |endpoint| (endpoint < 3).then_some(Reply::Positive));
    assert_eq!(bench.state(3), State::Suspect);
    bench.wait(20_000, all_well);
    bench.begin(3, 20_000);
    bench.wait(24_000, all_but(3));
    assert_eq!(bench.state(3), State::Down);
    let report = bench.control.own_report(Time::at_ms(24_000));
    assert_eq!(
        (report.urgent, report.any_down, report.uplink_suspect),
        (before, false, false)
    );
    assert_eq!(report.opinions.len(), 3);
}

#[test]
fn what_is_known_of_a_route_goes_with_its_name() {
    let mut bench = Bench::warm(with_a_route(&[Transport::Udp]));
    bench.begin(3, 10_000);
    bench.wait(11_000, all_but(3));
    assert_eq!(bench.state(3), State::Down);
    bench.events.clear();
    let settings = bench.control.settings;
    let mut topology = with_a_route(&[Transport::Udp]);
    // Another route before it takes its number.
    let first = Group {
        name: "lab".to_owned(),
        providers: Vec::new(),
        is_quiet: false,
    };
    topology.routed.insert(0, first);
    bench
        .control
        .handle_configuration(Arc::new(topology), settings, Time::at_ms(11_100));
    bench.drain(11_100);
    assert_eq!(bench.state(3), State::Down);
    let routes = bench.control.routes();
    let lab = routes.of(GroupId(1)).unwrap();
    assert!(lab.nothing_up && lab.choices.is_empty(), "nobody is to be asked");
    assert!(!routes.of(GroupId(2)).unwrap().nothing_up);
    assert_eq!(bench.events, [Event::NothingUp(GroupId(1))]);
}

#[test]
fn the_trouble_of_a_quiet_group_is_nobodys() {
    let mut topology = with_a_route(&[Transport::Udp]);
    topology.routed[0].is_quiet = true;
    assert!(topology.is_quiet(ProviderId(3)) && !topology.is_quiet(ProviderId(0)));
    let mut bench = Bench::warm(topology);
    bench.events.clear();
    for endpoint in [3, 4] {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(15_000, |endpoint| (endpoint < 3).then_some(Reply::Positive));
    assert!(bench.office().nothing_up);
    assert!(!bench.events.contains(&Event::NothingUp(GroupId(1))));
}
