//! What peers' reports move here, rule by rule.

mod laws;
mod own;

use super::*;
use crate::control::claims::{Influence, MeshSettings};
use crate::report::{Circle, Edition, EndpointKey, NodeId, Opinion, PeerReport, SiteKey};
use crate::verdict::{Attribution, ClaimState, Doubtful, Verdict, VerdictSource};

const HERE: SiteKey = SiteKey([1; 4]);
const ELSEWHERE: SiteKey = SiteKey([2; 4]);

fn key(endpoint: u16) -> EndpointKey {
    let [high, low] = endpoint.to_be_bytes();
    EndpointKey([7, 0, 0, 0, 0, 0, high, low])
}

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn opinion(endpoint: u16, state: State, cause: Cause) -> Opinion {
    Opinion {
        endpoint: key(endpoint),
        state,
        cause,
        witnessed: false,
        stalled: false,
        first_failure: None,
        last_failure: None,
        last_success: None,
    }
}

/// Down since an attempt begun at `first`, last failed at `last`, milliseconds.
fn down(endpoint: u16, first: u64, last: u64) -> Opinion {
    Opinion {
        witnessed: true,
        first_failure: Some(Time::at_ms(first)),
        last_failure: Some(Time::at_ms(last)),
        ..opinion(endpoint, State::Down, Cause::Timeout)
    }
}

/// Up, by an answer to an attempt begun at `success`.
fn up(endpoint: u16, success: u64) -> Opinion {
    Opinion {
        last_success: Some(Time::at_ms(success)),
        ..opinion(endpoint, State::Up, Cause::Answering)
    }
}

/// Of a node of the own circle and site, issued 50 ms before `ms`, fresh for 30 s.
fn report(number: u8, opinions: &[Opinion], ms: u64) -> PeerReport {
    PeerReport {
        node: node(number),
        edition: Edition::default(),
        circle: Circle::Own,
        site: HERE,
        issued: Time::at_ms(ms - 50),
        arrived: Time::at_ms(ms),
        fresh_until: Time::at_ms(ms + 30_000),
        uplink_suspect: false,
        opinions: opinions.into(),
    }
}

impl Bench {
    /// A warm node in a mesh.
    fn meshed(topology: Topology) -> Self {
        let mut bench = Self::warm(topology);
        bench.unbegun = Some(0);
        bench.influence(Influence::Full, 2_000);
        bench
    }

    fn influence(&mut self, influence: Influence, ms: u64) {
        let settings = MeshSettings {
            influence,
            keys: (0..self.count()).map(key).collect(),
            site: Some(HERE),
        };
        self.control.handle_mesh(settings, Time::at_ms(ms));
        self.drain(ms);
    }

    /// A report comes; what was due before has been done, every probe answered.
    fn hear(&mut self, report: PeerReport) {
        let ms = report.arrived.as_micros() / MS;
        self.control.handle_report(report, Time::at_ms(ms));
        self.drain(ms);
    }

    /// Node `number` says this at `ms`, and that the last endpoint is up.
    fn told(&mut self, number: u8, opinions: &[Opinion], ms: u64) {
        let mut opinions = opinions.to_vec();
        opinions.push(up(self.count() - 1, ms - 1_000));
        self.hear(report(number, &opinions, ms));
    }

    fn claim(&self, endpoint: u16) -> Option<(u8, &'static str)> {
        let claim = self.said(endpoint).claim?;
        Some((claim.by.0[0], claim.state.word()))
    }

    fn said(&self, endpoint: u16) -> crate::verdict::Said {
        self.control.routes().said(EndpointId(endpoint))
    }

    fn is_hinted(&self, endpoint: u16) -> bool {
        self.control.routes().endpoint(EndpointId(endpoint)).unwrap().hinted
    }

    /// When claims of `endpoint` were probed, milliseconds.
    fn claim_probes(&self, endpoint: u16) -> Vec<u64> {
        let own = self.probes.iter().filter(|p| p.2 == endpoint && p.3 == ProbeWhy::Claim);
        own.map(|(ms, ..)| *ms).collect()
    }

    fn decided(&self) -> Vec<(u16, u8, &'static str)> {
        let decided = self.events.iter().filter_map(|event| {
            let Event::ClaimDecided { endpoint, claim } = event else {
                return None;
            };
            Some((endpoint.0, claim.by.0[0], claim.state.word()))
        });
        decided.collect()
    }
}

/// Any report, with any times, or another word about the mesh.
pub(super) fn say_anything(control: &mut Control, endpoint: u16, what: u8, at: Time, now: Time) {
    let number = what % 7;
    match what % 16 {
        0 => control.handle_forget(node(number), now),
        1 | 2 => {
            let influence = [Influence::Full, Influence::Hint, Influence::None][usize::from(what) % 3];
            let keys = (0..u16::from(what % 12)).map(key).collect();
            let site = Some(HERE);
            control.handle_mesh(MeshSettings { influence, keys, site }, now);
        }
        _ => {
            let said = Opinion {
                state: State::ALL[usize::from(what) % 5],
                first_failure: Some(at),
                last_failure: Some(now),
                last_success: what.is_multiple_of(3).then_some(at),
                ..down(endpoint, 0, 0)
            };
            let report = PeerReport {
                arrived: now,
                issued: at,
                fresh_until: if what.is_multiple_of(5) { at } else { now.plus(30 * SEC) },
                ..report(number, &[said, up(endpoint + 1, 0)], 50)
            };
            control.handle_report(report, now);
        }
    }
    let said = control.own_report(now);
    assert!(said.opinions.len() <= crate::report::OPINIONS_MAX);
}

#[test]
fn a_credible_claim_puts_an_endpoint_last_at_once_until_a_good_probe_returns() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    assert_eq!(bench.control.routes().endpoints[0].place(), Place::Last);
    assert_eq!(bench.claim_probes(0), [100_000], "though nobody asked for a minute");
    assert_eq!(bench.claim(0), Some((9, "pending")));
    assert_eq!(bench.said(0).verdict, Verdict::Down);
    assert_eq!(bench.said(0).verdict_by, Some((VerdictSource::Own, node(9))));
    assert!(bench.is_hinted(0));
    bench.wait(100_010, all_well);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
    assert_eq!((bench.claim(0), bench.state(0)), (Some((9, "refuted")), State::Up));
    assert!(!bench.is_hinted(0));
    assert_eq!(bench.decided(), [(0, 9, "refuted")]);
    let claim = bench.said(0).claim.unwrap();
    assert_eq!(claim.probed, Some(Time::at_ms(100_000)));
    assert_eq!(claim.decided, Some(Time::at_ms(100_010)));
    assert_eq!(bench.probes.len(), 1, "{:?}", bench.probes);
}

#[test]
fn who_was_wrong_has_no_say_about_that_endpoint_for_a_minute_doubling() {
    let mut bench = Bench::meshed(providers(4));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    bench.wait(100_010, all_well);
    let mut moved = Vec::new();
    // It says so again and again, each time of a later failure.
    for second in 101..400_u64 {
        let ms = second * 1_000;
        bench.wait(ms, all_well);
        bench.told(9, &[down(0, ms - 500, ms - 100)], ms);
        if bench.place(0) == PlaceWhy::Reported {
            moved.push(second);
        }
        if second == 130 {
            assert_eq!(bench.claim(0), Some((9, "refuted")));
            assert_eq!(bench.said(0).verdict, Verdict::None, "no say");
        }
    }
    assert_eq!(moved, [161, 282]);
    assert_eq!(bench.claim_probes(0).len(), 3);
    // About others, it has.
    bench.wait(400_000, all_well);
    bench.told(9, &[down(1, 399_000, 399_900)], 400_000);
    assert_eq!(bench.place(1), PlaceWhy::Reported);
}

#[test]
fn who_takes_a_wrong_claim_back_or_dates_it_anew_before_the_probe_returns_has_no_say_either() {
    for way in 0..3 {
        let mut bench = Bench::meshed(providers(4));
        bench.wait(100_000, all_well);
        bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
        assert_eq!(bench.claim(0), Some((9, "pending")));
        match way {
            0 => bench.told(9, &[up(0, 100_000)], 100_005),
            1 => bench.told(9, &[down(0, 100_003, 100_004)], 100_005),
            _ => {
                bench.control.handle_forget(node(9), Time::at_ms(100_005));
                bench.drain(100_005);
            }
        }
        bench.wait(110_000, all_well);
        bench.told(9, &[down(0, 109_500, 109_900)], 110_000);
        assert_eq!(bench.place(0), PlaceWhy::Healthy, "{way}");
        assert_eq!(bench.claim_probes(0), [100_000], "{way}");
    }
}

#[test]
fn a_bad_probe_makes_suspect_and_settles_it_by_own_evidence_though_nobody_asks() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    bench.wait(100_499, all_but(0));
    assert_eq!((bench.place(0), bench.state(0)), (PlaceWhy::Reported, State::Up));
    bench.wait(100_500, all_but(0));
    assert_eq!((bench.place(0), bench.state(0)), (PlaceWhy::Suspect, State::Suspect));
    assert_eq!(bench.claim(0), Some((9, "confirmed")));
    assert_eq!(bench.decided(), [(0, 9, "confirmed")]);
    bench.wait(101_250, all_but(0));
    assert_eq!(bench.state(0), State::Down);
    // For those who ask why it was left.
    let claim = bench.said(0).claim.unwrap();
    assert_eq!((claim.by, claim.probed), (node(9), Some(Time::at_ms(100_000))));
    assert_eq!(claim.decided, Some(Time::at_ms(100_500)));
    // It is settled: an idle node rests.
    bench.wait(129_000, all_but(0));
    assert!(bench.probes.iter().all(|(ms, ..)| *ms <= 101_250), "{:?}", bench.probes);
    assert_eq!(bench.claim(0), Some((9, "confirmed")));
}

#[test]
fn what_cannot_be_settled_is_not_probed_for_ever() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    bench.wait(129_000, silence);
    assert_eq!(bench.state(0), State::Suspect, "nobody else answers");
    assert!(bench.probes.iter().all(|(ms, ..)| *ms < 106_000), "{:?}", bench.probes);
}

#[test]
fn an_own_success_begun_after_the_first_failure_beats_a_claim_and_is_told_at_once() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(9_000, all_well);
    bench.served(0, 9_200);
    let before = bench.control.own_report(Time::at_ms(9_999));
    bench.told(9, &[down(0, 9_000, 9_100)], 10_000);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((9, "beaten")))
    );
    assert_eq!(
        bench.said(0).verdict,
        Verdict::Down,
        "what they say, whether or not it moves anything"
    );
    assert!(bench.probes.is_empty(), "{:?}", bench.probes);
    let after = bench.control.own_report(Time::at_ms(10_000));
    assert_eq!(after.contradiction, before.contradiction + 1);
    // Said again is contradicted once.
    for ms in [13_000, 16_000, 19_000] {
        bench.told(9, &[down(0, 9_000, 9_100)], ms);
    }
    assert_eq!(
        bench.control.own_report(Time::at_ms(19_000)).contradiction,
        after.contradiction
    );
    // Exactly when: at the same moment is not after.
    bench.told(8, &[down(0, 9_200, 9_300)], 19_500);
    assert_eq!(bench.place(0), PlaceWhy::Healthy, "its last failure is ten seconds old");
    bench.told(8, &[down(0, 9_200, 19_300)], 19_600);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    // An own client's success ends it before the probe does.
    bench.served(0, 19_610);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
}

#[test]
fn a_reporter_that_failed_again_long_after_a_beaten_claim_is_worth_one_probe() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(9_000, all_well);
    // Both began within a moment, and the one here came through.
    bench.served(0, 9_001);
    bench.told(9, &[down(0, 9_000, 9_900)], 10_000);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((9, "beaten")))
    );
    assert_eq!(bench.claim_probes(0), [10_000]);
    bench.wait(10_100, all_well);
    for ms in [13_000, 16_000, 19_000, 22_000] {
        bench.wait(ms, all_well);
        bench.told(9, &[down(0, 9_000, ms - 100)], ms);
    }
    assert_eq!(bench.claim_probes(0), [10_000]);
}

#[test]
fn what_is_not_credible_is_a_hint() {
    let now = 100_000;
    let good = || down(0, now - 1_000, now - 100);
    let claim = |opinion: Opinion| report(9, &[opinion, up(2, now - 100)], now);
    let undated = Opinion {
        first_failure: None,
        ..good()
    };
    let unwitnessed = Opinion {
        witnessed: false,
        ..good()
    };
    let stalled = Opinion {
        stalled: true,
        ..good()
    };
    let uplink = PeerReport {
        uplink_suspect: true,
        ..claim(good())
    };
    let late = PeerReport {
        issued: Time::at_ms(now - 2_000),
        ..claim(good())
    };
    let answered = Opinion {
        last_success: Some(Time::at_ms(now - 50)),
        ..good()
    };
    let cases = [
        (claim(undated), Doubtful::Undated),
        (claim(unwitnessed), Doubtful::Unwitnessed),
        (claim(stalled), Doubtful::Stalled),
        (uplink, Doubtful::Uplink),
        (
            report(9, &[good(), down(1, now - 1_000, now - 100)], now),
            Doubtful::NothingUp,
        ),
        (late, Doubtful::Late),
        (claim(down(0, now - 12_000, now - 10_000)), Doubtful::Lapsed),
        (claim(answered), Doubtful::Lapsed),
    ];
    for (report, doubtful) in cases {
        let mut bench = Bench::meshed(providers(3));
        bench.wait(now, all_well);
        bench.hear(report);
        let claim = bench.said(0).claim.unwrap();
        assert_eq!(claim.state, ClaimState::NotCredible(doubtful));
        assert_eq!(bench.place(0), PlaceWhy::Healthy);
        assert_ne!(bench.said(0).verdict, Verdict::Down);
        let is_open = doubtful != Doubtful::Undated;
        assert_eq!(bench.is_hinted(0), is_open, "{doubtful:?}");
        assert_eq!(bench.claim_probes(0).len(), usize::from(is_open), "{doubtful:?}");
    }
}

#[test]
fn a_claim_heard_in_time_stands_when_it_is_repeated_late() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    let mut again = report(9, &[down(0, 99_003, 99_950), up(2, 99_000)], 100_100);
    again.issued = Time::at_ms(98_000);
    bench.hear(again);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    assert_eq!(bench.claim_probes(0), [100_000]);
}

#[test]
fn some_causes_a_foreign_circle_and_lasting_loss_are_hints() {
    let now = 30_000;
    let of = |cause: Cause| Opinion {
        cause,
        ..down(0, now - 1_000, now - 100)
    };
    let lossy = Opinion {
        state: State::Suspect,
        ..of(Cause::Loss)
    };
    let hints = [
        of(Cause::TlsExpired),
        of(Cause::TlsStalled),
        of(Cause::Mismatch),
        of(Cause::Loss),
        lossy,
    ];
    for hint in hints {
        let mut bench = Bench::meshed(providers(3));
        bench.wait(now, all_well);
        bench.told(9, &[hint], now);
        assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Healthy, Some((9, "hint"))));
        assert_eq!(bench.claim_probes(0), [now]);
        assert!(bench.is_hinted(0));
        bench.wait(now + 10, all_well);
        assert_eq!((bench.is_hinted(0), bench.claim(0)), (false, Some((9, "beaten"))));
        // A hint that was wrong takes nobody's say.
        bench.wait(now + 5_000, all_well);
        bench.told(9, &[down(0, now + 4_000, now + 4_900)], now + 5_000);
        assert_eq!(bench.place(0), PlaceWhy::Reported);
    }
    let mut bench = Bench::meshed(providers(3));
    bench.wait(now, all_well);
    let mut foreign = report(9, &[of(Cause::Timeout), up(2, now - 100)], now);
    foreign.circle = Circle::Foreign(0);
    bench.hear(foreign.clone());
    assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Healthy, Some((9, "hint"))));
    assert_eq!(bench.claim_probes(0).len(), 1);
    // Foreign nodes keep no idle one busy.
    let mut bench = Bench::meshed(providers(3));
    bench.wait(now + 60_000, all_well);
    foreign.arrived = Time::at_ms(now + 60_000);
    foreign.issued = foreign.arrived;
    foreign.fresh_until = Time::at_ms(now + 90_000);
    bench.hear(foreign);
    assert_eq!(bench.claim_probes(0), [0_u64; 0]);
}

#[test]
fn mere_suspicion_is_not_even_a_hint() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(30_000, all_well);
    let suspect = Opinion {
        state: State::Suspect,
        ..down(0, 29_000, 29_900)
    };
    bench.told(9, &[suspect], 30_000);
    assert!(bench.probes.is_empty());
    assert_eq!((bench.claim(0), bench.is_hinted(0)), (None, false));
}

#[test]
fn influence_takes_places_or_everything_away_at_once() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.influence(Influence::None, 100_000);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((9, "ignored")))
    );
    assert_eq!(bench.said(0).verdict, Verdict::Down, "shown all the same");
    assert!(bench.probes.is_empty() && !bench.is_hinted(0));
    bench.influence(Influence::Hint, 100_100);
    assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Healthy, Some((9, "hint"))));
    assert_eq!(bench.claim_probes(0), [100_100]);
    bench.influence(Influence::Full, 100_200);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    bench.influence(Influence::None, 100_300);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
}

#[test]
fn who_answered_another_node_since_is_probed_and_stays_in_place() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(8, &[up(0, 99_101)], 100_000);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_001);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((9, "contested")))
    );
    assert_eq!(bench.said(0).verdict, Verdict::Up);
    assert!(bench.is_hinted(0));
    assert_eq!(bench.claim_probes(0), [100_001]);
    // Clocks are a little off: within 100 ms nothing is contested.
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(8, &[up(0, 99_100)], 100_000);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_001);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    // It returns when somebody was answered after all; that is not for the reporter itself or a stranger to say.
    bench.told(9, &[down(0, 99_000, 99_900)], 100_002);
    let mut stranger = report(7, &[up(0, 99_900)], 100_003);
    stranger.circle = Circle::Foreign(1);
    bench.hear(stranger);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    bench.told(8, &[up(0, 99_500)], 100_004);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
}

#[test]
fn reports_leave_two_operators_in_place_and_apply_in_the_order_of_the_failures() {
    let mut bench = Bench::meshed(providers(4));
    bench.wait(100_000, all_well);
    let claims = [
        down(0, 99_200, 99_900),
        down(1, 99_100, 99_900),
        down(2, 99_000, 99_900),
    ];
    bench.told(9, &claims, 100_000);
    let places = |bench: &Bench| (0..4).map(|e| bench.place(e)).collect::<Vec<_>>();
    use PlaceWhy::{Healthy, Reported, Suspect};
    assert_eq!(places(&bench), [Healthy, Reported, Reported, Healthy]);
    assert_eq!(bench.claim(0), Some((9, "floor")));
    assert_eq!(bench.claim_probes(0), [100_000], "it is probed all the same");
    // Two that are left by own evidence leave no room for reports.
    let mut bench = Bench::meshed(providers(4));
    bench.wait(10_000, all_well);
    for endpoint in [2, 3] {
        bench.fails(endpoint, Failure::Reset, 10_000);
    }
    bench.hear(report(9, &[down(0, 9_900, 9_950), up(1, 9_000)], 10_001));
    assert_eq!(places(&bench), [Healthy, Healthy, Suspect, Suspect]);
    // Another class is nobody's backup.
    let mut topology = providers(3);
    topology.providers[2].class = crate::topology::ClassId(1);
    let mut bench = Bench::meshed(topology);
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    assert_eq!((bench.place(0), bench.claim(0)), (Healthy, Some((9, "floor"))));
    // Nor are providers of one operator each other's.
    let mut topology = providers(3);
    topology.providers[2].operator = topology.providers[1].operator;
    let mut bench = Bench::meshed(topology);
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    assert_eq!((bench.place(0), bench.claim(0)), (Healthy, Some((9, "floor"))));
}

#[test]
fn siblings_rank_behind_others_until_one_is_answered_since() {
    let mut bench = Bench::meshed(with_transports(3, &[Transport::Udp, Transport::Tcp]));
    bench.wait(30_000, all_well);
    bench.told(9, &[down(0, 29_000, 29_900)], 30_000);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Reported, PlaceWhy::ReportedSibling)
    );
    let choice = bench.control.routes().choices[0];
    assert_eq!((choice.endpoint, choice.why.place()), (EndpointId(1), Place::Last));
    bench.served(1, 30_001);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Reported, PlaceWhy::Healthy)
    );
    bench.wait(30_100, all_well);
    assert_eq!((bench.place(0), bench.place(1)), (PlaceWhy::Healthy, PlaceWhy::Healthy));
}

#[test]
fn a_claim_about_what_may_not_be_asked_moves_nothing() {
    let mut bench = Bench::meshed(with_transports(3, &[Transport::Tls, Transport::Udp]));
    bench.wait(30_000, all_well);
    bench.told(9, &[down(1, 29_000, 29_900)], 30_000);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Healthy, PlaceWhy::Cleartext)
    );
    assert!(bench.probes.is_empty());
    bench.wait(59_000, all_well);
    assert!(bench.probes.is_empty());
}

#[test]
fn a_claim_stands_no_longer_than_its_last_failure_its_report_and_its_reporter() {
    // Nobody learns how the probe ended.
    let lost = |bench: &mut Bench, until: u64| {
        while let Some((at, _)) = bench.control.poll_timeout(Time::at_ms(bench.last))
            && at <= Time::at_ms(until)
        {
            bench.control.handle_timeout(at);
            bench.drain(at.as_micros().div_ceil(MS));
        }
    };
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    lost(&mut bench, 109_899);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    assert_eq!(bench.claim_probes(0), [100_000, 105_000]);
    lost(&mut bench, 109_900);
    assert_eq!(bench.place(0), PlaceWhy::Healthy);
    assert_eq!(
        bench.said(0).claim.unwrap().state,
        ClaimState::NotCredible(Doubtful::Lapsed)
    );
    lost(&mut bench, 130_000);
    assert_eq!((bench.claim(0), bench.said(0).verdict), (None, Verdict::None));
    assert_eq!(bench.control.poll_timeout(Time::at_ms(140_000)), None);
    bench.told(9, &[down(0, 139_000, 139_900)], 140_000);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    bench.control.handle_forget(node(9), Time::at_ms(140_001));
    bench.drain(140_001);
    assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Healthy, None));
    bench.told(9, &[down(0, 139_000, 139_900)], 140_002);
    bench.told(9, &[], 140_003);
    assert_eq!(bench.place(0), PlaceWhy::Healthy, "it does not say so any more");
}

#[test]
fn one_that_comes_soon_after_a_good_probe_waits_for_its_own() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    bench.wait(100_900, all_well);
    bench.told(8, &[down(0, 100_500, 100_800)], 101_000);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((8, "waiting")))
    );
    bench.wait(104_999, all_but(0));
    assert_eq!(bench.claim_probes(0), [100_000]);
    bench.wait(105_000, all_but(0));
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Reported, Some((8, "pending")))
    );
    assert_eq!(bench.claim_probes(0), [100_000, 105_000]);
    bench.wait(106_300, all_but(0));
    assert_eq!((bench.state(0), bench.claim(0)), (State::Down, Some((8, "confirmed"))));
}

#[test]
fn a_claim_of_bad_rcodes_is_settled_by_another_operators_answer_on_a_cold_node() {
    let servfail = |endpoint: u16| match endpoint {
        0 => Some(Reply::Failed(Rcode::SERVFAIL)),
        _ => Some(Reply::Positive),
    };
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    let refused = Opinion {
        cause: Cause::Servfail,
        ..down(0, 99_000, 99_900)
    };
    bench.told(9, &[refused], 100_000);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
    let asked: Vec<_> = bench.probes.iter().map(|(ms, _, id, why)| (*ms, *id, *why)).collect();
    assert_eq!(
        asked,
        [(100_000, 0, ProbeWhy::Claim), (100_000, 1, ProbeWhy::Reference)]
    );
    bench.wait(100_010, servfail);
    assert_eq!(
        (bench.state(0), bench.claim(0)),
        (State::Suspect, Some((9, "confirmed")))
    );
    assert_eq!(bench.control.health(EndpointId(0)).unwrap().cause(), Cause::Servfail);
    bench.wait(101_500, servfail);
    assert_eq!(bench.state(0), State::Down);
    // A good answer refutes it as any other.
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[refused], 100_000);
    bench.wait(100_100, all_well);
    assert_eq!(
        (bench.place(0), bench.claim(0)),
        (PlaceWhy::Healthy, Some((9, "refuted")))
    );
}

#[test]
fn what_was_left_by_own_evidence_before_is_known_and_its_state_rules() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(10_000, all_well);
    bench.begin(0, 10_000);
    bench.wait(11_000, all_but(0));
    assert_eq!(bench.state(0), State::Down);
    bench.told(9, &[down(0, 10_000, 10_900)], 11_100);
    assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Down, Some((9, "known"))));
    assert_eq!(bench.claim_probes(0), [0_u64; 0]);
}

#[test]
fn a_peer_that_was_answered_since_returns_nothing_but_hurries_the_own_probe() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(10_000, all_well);
    bench.begin(0, 10_000);
    bench.wait(200_000, all_but(0));
    assert_eq!(bench.state(0), State::Down);
    bench.probes.clear();
    bench.told(9, &[up(0, 10_050)], 200_000);
    assert!(bench.probes.is_empty(), "no later than the clocks may be off");
    bench.told(9, &[up(0, 199_000)], 200_001);
    assert_eq!((bench.place(0), bench.re_probed(0)), (PlaceWhy::Down, vec![200_001]));
    // One node is a reason once, another one another time, not within five seconds.
    bench.wait(201_000, all_but(0));
    bench.told(9, &[up(0, 200_900)], 201_000);
    bench.told(8, &[up(0, 200_900)], 201_001);
    bench.wait(205_000, all_but(0));
    assert_eq!(bench.re_probed(0), [200_001]);
    bench.wait(205_001, all_but(0));
    assert_eq!(bench.re_probed(0), [200_001, 205_001]);
    bench.wait(220_000, all_but(0));
    assert_eq!(bench.re_probed(0).len(), 2, "an idle node rests");
    bench.told(7, &[up(0, 219_900)], 220_000);
    bench.wait(221_000, all_well);
    assert_eq!(bench.state(0), State::Probation);
    // Influence none: not even that.
    let mut bench = Bench::meshed(providers(3));
    bench.influence(Influence::None, 2_001);
    bench.wait(10_000, all_well);
    bench.begin(0, 10_000);
    bench.wait(200_000, all_but(0));
    bench.probes.clear();
    bench.told(9, &[up(0, 199_000)], 200_001);
    assert!(bench.probes.is_empty());
}

#[test]
fn claims_go_with_the_endpoint_to_its_new_id() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    let mut topology = providers(4);
    topology.endpoints.rotate_left(3);
    for (id, endpoint) in (0..).zip(&mut topology.endpoints) {
        endpoint.provider = crate::topology::ProviderId(id);
    }
    // Labels p3, p0, p1, p2.
    bench
        .control
        .handle_configuration(Arc::new(topology), Settings::default(), Time::at_ms(100_001));
    bench.drain(100_001);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Healthy, PlaceWhy::Reported)
    );
    let settings = MeshSettings {
        influence: Influence::Full,
        keys: [3, 0, 1, 2].map(key).to_vec(),
        site: Some(HERE),
    };
    bench.control.handle_mesh(settings, Time::at_ms(100_002));
    bench.drain(100_002);
    assert_eq!(
        (bench.place(1), bench.claim(1)),
        (PlaceWhy::Reported, Some((9, "pending")))
    );
    // What was said of a new endpoint before it was there is known.
    let settings = MeshSettings {
        influence: Influence::Full,
        keys: [0, 3, 1, 2].map(key).to_vec(),
        site: Some(HERE),
    };
    bench.control.handle_mesh(settings, Time::at_ms(100_003));
    bench.drain(100_003);
    assert_eq!(
        (bench.place(0), bench.place(1)),
        (PlaceWhy::Reported, PlaceWhy::Healthy)
    );
}

#[test]
fn whose_trouble_it_is_needs_a_view_from_elsewhere() {
    let said = |number: u8, site: SiteKey, opinion: Opinion| PeerReport {
        site,
        ..report(number, &[opinion, up(2, 9_000)], 11_000)
    };
    let dead = || down(0, 10_000, 10_900);
    let well = || up(0, 10_900);
    let here_down = [
        (vec![], Attribution::NoReports),
        (vec![said(9, HERE, dead())], Attribution::OneSite),
        (vec![said(9, HERE, well())], Attribution::OneSite),
        (vec![said(9, ELSEWHERE, dead())], Attribution::TheirOutage),
        (
            vec![said(9, ELSEWHERE, well()), said(8, HERE, dead())],
            Attribution::MyPath,
        ),
        (
            vec![said(9, ELSEWHERE, well()), said(8, SiteKey([3; 4]), dead())],
            Attribution::Mixed,
        ),
    ];
    let here_up = [
        (vec![], Attribution::None),
        (vec![said(9, ELSEWHERE, well())], Attribution::None),
        (vec![said(9, HERE, dead())], Attribution::OneSite),
        (vec![said(9, ELSEWHERE, dead())], Attribution::OtherPath),
    ];
    let cases = here_down.into_iter().map(|case| (false, case));
    for (is_up, (reports, wanted)) in cases.chain(here_up.into_iter().map(|case| (true, case))) {
        let mut bench = Bench::meshed(providers(3));
        bench.wait(10_000, all_well);
        if is_up {
            bench.served(0, 10_900);
        } else {
            bench.begin(0, 10_000);
        }
        bench.wait(11_000, all_but(0));
        for report in reports {
            bench.hear(report);
        }
        assert_eq!(bench.said(0).attribution, wanted);
    }
    // Another operator's node stands elsewhere, too.
    let mut bench = Bench::meshed(providers(3));
    bench.wait(11_000, all_well);
    bench.served(0, 11_000);
    let mut foreign = said(9, HERE, dead());
    foreign.circle = Circle::Foreign(2);
    foreign.arrived = Time::at_ms(11_010);
    bench.hear(foreign);
    assert_eq!(bench.said(0).attribution, Attribution::OtherPath);
}

#[test]
fn what_is_only_said_again_changes_no_table() {
    let mut bench = Bench::meshed(providers(4));
    bench.wait(10_000, all_well);
    bench.begin(3, 10_000);
    bench.wait(11_000, all_but(3));
    let say = |bench: &mut Bench, ms: u64| {
        for number in 7..10 {
            // Their clocks are a little off, and they go on failing and answering.
            let jitter = u64::from(number) * 3 + ms % 7;
            let opinions = [
                up(0, ms - jitter),
                down(1, 1_900 + jitter, ms - 300),
                down(3, 10_000 + jitter, ms - 300),
                opinion(2, State::Unknown, Cause::Untried),
            ];
            bench.hear(report(number, &opinions, ms));
        }
    };
    say(&mut bench, 12_000);
    bench.wait(12_900, all_but(3));
    assert_eq!(
        [bench.claim(1), bench.claim(3)],
        [Some((7, "refuted")), Some((7, "known"))]
    );
    let version = bench.control.routes().version;
    for ms in [13_000, 15_000, 18_000, 21_001, 30_003] {
        bench.wait(ms, all_but(3));
        say(&mut bench, ms);
        bench.wait(ms + 500, all_but(3));
    }
    assert_eq!(bench.control.routes().version, version);
}

#[test]
fn an_endpoint_that_only_peers_speak_against_is_not_asked_in_pairs() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    let routes = bench.control.routes();
    let mut usage = crate::usage::Usage::new(&routes.topology, Time::at_ms(100_000));
    for number in 0..100 {
        let question = crate::plan::Question { number, domain: 1 };
        let plan = crate::plan::plan(routes, &mut usage, question, Time::at_ms(100_000), &mut |_, _| {});
        assert!(!plan.pair && plan.steps[0].endpoint != EndpointId(0), "{plan:?}");
    }
    assert!(!routes.nothing_up);
}

#[test]
fn without_keys_there_is_no_mesh() {
    let mut bench = Bench::warm(providers(3));
    bench.wait(100_000, all_well);
    bench.told(9, &[down(0, 99_000, 99_900)], 100_000);
    assert_eq!((bench.place(0), bench.claim(0)), (PlaceWhy::Healthy, None));
    assert!(bench.control.own_report(Time::at_ms(100_000)).opinions.is_empty());
    // What was said before is known once there is one.
    bench.influence(Influence::Full, 100_100);
    assert_eq!(bench.place(0), PlaceWhy::Reported);
}

#[test]
fn nodes_and_opinions_are_bounded() {
    let mut bench = Bench::meshed(providers(3));
    bench.wait(100_000, all_well);
    let filler: Vec<Opinion> = (100..132).map(|n| up(n, 99_000)).collect();
    let mut hidden = filler.clone();
    hidden.push(down(0, 99_000, 99_900));
    bench.hear(report(9, &hidden, 100_000));
    assert_eq!(bench.claim(0), None, "the thirty-third opinion");
    for number in 0..600_u16 {
        let mut own = report(0, &filler, 100_000);
        own.node.0[..2].copy_from_slice(&number.to_be_bytes());
        bench.control.handle_report(own, Time::at_ms(100_000));
    }
    let mut one_more = report(200, &[down(0, 99_000, 99_900), up(1, 99_000)], 100_000);
    bench.hear(one_more.clone());
    assert_eq!(bench.claim(0), None);
    // Who is known is heard.
    one_more.node = node(9);
    bench.hear(one_more);
    assert_eq!(bench.claim(0), Some((9, "pending")));
}
