//! What this node says of endpoints to its mesh.

use super::*;
use crate::report::OwnReport;

impl Bench {
    fn says(&self) -> OwnReport {
        self.control.own_report(Time::at_ms(self.last))
    }

    fn says_of(&self, endpoint: u16) -> Opinion {
        let report = self.says();
        *report.opinions.iter().find(|o| o.endpoint == key(endpoint)).unwrap()
    }
}

#[test]
fn a_down_is_said_at_once_with_when_it_began_and_that_another_operator_answered() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(10_000, all_well);
    let before = bench.says();
    assert!(!before.any_down && !before.uplink_suspect);
    let well = bench.says_of(0);
    assert_eq!((well.state, well.first_failure), (State::Up, None));
    assert_eq!(well.last_success, Some(Time::at_ms(1_960)));
    bench.begin(0, 10_000);
    bench.wait(10_900, all_but(0));
    assert_eq!(
        (bench.state(0), bench.says().urgent),
        (State::Suspect, before.urgent),
        "not yet"
    );
    bench.wait(11_000, all_but(0));
    let after = bench.says();
    assert_eq!((after.urgent, after.any_down), (before.urgent + 1, true));
    let said = after.opinions[0];
    assert_eq!(
        (said.endpoint, said.state, said.cause),
        (key(0), State::Down, Cause::Timeout)
    );
    assert!(said.witnessed && !said.stalled);
    assert_eq!(said.first_failure, Some(Time::at_ms(10_000)));
    assert_eq!(said.last_failure, Some(Time::at_ms(10_490)));
    assert_eq!(said.last_success, Some(Time::at_ms(1_960)));
    // The first failure is kept, the last one goes on.
    bench.wait(20_000, all_but(0));
    let said = bench.says_of(0);
    assert_eq!(said.first_failure, Some(Time::at_ms(10_000)));
    assert!(said.last_failure > Some(Time::at_ms(14_000)), "{said:?}");
    assert_eq!(bench.says().urgent, after.urgent);
    bench.wait(30_000, all_well);
    assert_eq!((bench.says().urgent, bench.says().any_down), (after.urgent + 1, false));
    assert_eq!(bench.says_of(0).first_failure, None);
}

#[test]
fn a_doubt_that_nobody_else_answered_in_is_not_witnessed_and_a_dead_uplink_is_said() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(10_000, all_well);
    let before = bench.says().urgent;
    for endpoint in 0..3 {
        bench.begin(endpoint, 10_000);
    }
    bench.wait(12_000, silence);
    let report = bench.says();
    assert!(report.uplink_suspect && !report.any_down);
    assert_eq!(report.urgent, before + 1);
    assert!(
        report
            .opinions
            .iter()
            .all(|o| o.state == State::Suspect && !o.witnessed)
    );
    bench.served(1, 13_000);
    assert!(!bench.says().uplink_suspect);
    assert_eq!(bench.says().urgent, before + 2);
}

#[test]
fn who_stood_still_while_it_found_an_endpoint_down_says_so() {
    for (late_ms, stalled) in [(249, false), (250, true)] {
        let mut bench = Bench::meshed(providers(3));
        bench.wait(10_000, all_well);
        bench.begin(0, 10_000);
        let (at, _) = bench.control.poll_timeout(Time::at_ms(10_000)).unwrap();
        let late = at.plus(late_ms * MS);
        bench.control.handle_timeout(late);
        bench.drain(late.as_micros() / MS);
        bench.wait(12_000, all_but(0));
        assert_eq!((bench.state(0), bench.says_of(0).stalled), (State::Down, stalled));
    }
    // What came after that says nothing about it.
    let mut bench = Bench::meshed(providers(3));
    bench.wait(10_000, all_well);
    bench.begin(0, 10_000);
    bench.wait(11_000, all_but(0));
    let (at, _) = bench.control.poll_timeout(Time::at_ms(11_000)).unwrap();
    let late = at.plus(SEC);
    bench.control.handle_timeout(late);
    bench.drain(late.as_micros() / MS);
    assert_eq!((bench.state(0), bench.says_of(0).stalled), (State::Down, false));
}

#[test]
fn lasting_loss_is_urgent() {
    let mut bench = Bench::meshed(providers(2));
    let before = bench.says().urgent;
    let mut ms = 10_000;
    while bench.state(0) == State::Up && ms < 12_000 {
        let begun = bench.begin(0, ms);
        if ms % 30 != 10 {
            bench.reply(0, begun, Reply::Positive, ms + 10);
        }
        bench.wait(ms + 10, all_well);
        ms += 20;
    }
    assert_eq!(bench.says().urgent, before);
    let probes = std::cell::Cell::new(0);
    bench.wait(ms + 2_020, |endpoint| {
        probes.set(probes.get() + 1);
        (endpoint != 0 || probes.get() % 3 != 0).then_some(Reply::Positive)
    });
    assert_eq!((bench.place(0), bench.says().urgent), (PlaceWhy::Loss, before + 1));
}

#[test]
fn what_is_not_up_goes_first_then_what_was_used_last_and_no_more_than_fit() {
    let mut bench = Bench::meshed(providers(40));
    bench.wait(10_000, all_well);
    bench.served(20, 10_000);
    bench.served(30, 10_100);
    bench.fails(7, Failure::Reset, 10_200);
    for ms in [10_200, 10_300, 10_400] {
        bench.fails(5, Failure::Reset, ms);
    }
    bench.served(20, 10_500);
    let said: Vec<EndpointKey> = bench.says().opinions.iter().map(|o| o.endpoint).collect();
    assert_eq!(said.len(), 32);
    assert_eq!(said[..5], [5, 7, 20, 30, 0].map(key), "{said:?}");
}

/// What this node says, as a peer hears it at `ms`: through whole milliseconds of age.
fn heard(bench: &Bench, ms: u64) -> PeerReport {
    let (says, now) = (bench.says(), Time::at_ms(ms));
    let snapshot = crate::report::Snapshot {
        node: node(1),
        boot: crate::report::BootId(1),
        edition: Edition::default(),
        issued_wall_ms: 0,
        period_s: 10,
        site: HERE,
        uplink_suspect: says.uplink_suspect,
        leaving: false,
        entries: says.opinions.iter().map(|opinion| opinion.entry(now)).collect(),
    };
    PeerReport {
        uplink_suspect: says.uplink_suspect,
        opinions: snapshot.opinions(now),
        issued: now,
        ..report(1, &[], ms)
    }
}

#[test]
fn what_one_node_found_moves_the_place_at_an_idle_one_that_was_never_asked() {
    let mut first = Bench::meshed(providers(3));
    let mut idle = Bench::new(providers(3));
    idle.unbegun = Some(0);
    idle.influence(Influence::Full, 0);
    first.wait(10_000, all_well);
    first.begin(0, 10_000);
    first.wait(10_989, all_but(0));
    idle.wait(11_000, all_well);
    idle.hear(heard(&first, 10_989));
    assert_eq!(idle.place(0), PlaceWhy::Healthy, "mere suspicion");
    first.wait(11_000, all_but(0));
    idle.hear(heard(&first, 11_000));
    assert_eq!(
        (idle.place(0), idle.claim(0)),
        (PlaceWhy::Reported, Some((1, "pending")))
    );
    idle.wait(12_250, all_but(0));
    assert_eq!((idle.state(0), idle.claim(0)), (State::Down, Some((1, "confirmed"))));
    // Both find it again; the first to do so hurries the other one.
    first.wait(20_000, all_well);
    idle.wait(20_000, all_well);
    assert_eq!(idle.state(0), State::Down, "nobody asks there");
    idle.hear(heard(&first, 20_000));
    idle.wait(21_000, all_well);
    assert_eq!((idle.place(0), idle.claim(0)), (PlaceWhy::Ramp, None));
}

#[test]
fn a_node_whose_own_uplink_dies_moves_no_place_elsewhere() {
    let mut cut = Bench::meshed(providers(3));
    let mut peer = Bench::meshed(providers(3));
    cut.wait(10_000, all_well);
    for ms in (10_000..20_000).step_by(100) {
        for endpoint in 0..3 {
            cut.begin(endpoint, ms);
        }
        cut.wait(ms + 100, silence);
        peer.wait(ms + 100, all_well);
        peer.hear(heard(&cut, ms + 100));
        assert!((0..3).all(|endpoint| peer.place(endpoint) == PlaceWhy::Healthy));
    }
    assert!(cut.says().uplink_suspect);
    assert!(peer.probes.is_empty(), "{:?}", peer.probes);
}
