//! Whatever peers say, and however many of them lie.

use super::*;
use proptest::prelude::*;

/// One thing a liar says: who, of which endpoint, of which site, how old its first and last failure, and how.
type Lie = (u8, u16, u8, u64, u64, u8);

fn lie() -> impl Strategy<Value = Lie> {
    (
        1..40_u8,
        0..4_u16,
        any::<u8>(),
        0..20_000_u64,
        0..9_000_u64,
        any::<u8>(),
    )
}

/// A report that says so at `ms`.
fn told((number, endpoint, site, first, last, what): Lie, ms: u64) -> PeerReport {
    const CAUSES: [Cause; 5] = [
        Cause::Timeout,
        Cause::Reset,
        Cause::Servfail,
        Cause::TlsExpired,
        Cause::Loss,
    ];
    let claim = Opinion {
        cause: CAUSES[usize::from(what) % 5],
        stalled: what % 16 == 15,
        ..down(endpoint, ms.saturating_sub(first.max(last)), ms - last)
    };
    let other = up((endpoint + 1) % 4, ms - last);
    let second = down((endpoint + 2) % 4, ms.saturating_sub(first / 2), ms);
    let opinions = if what % 3 == 0 {
        vec![claim, other, second]
    } else {
        vec![claim, other]
    };
    PeerReport {
        site: SiteKey([site % 3; 4]),
        circle: if what % 11 == 10 {
            Circle::Foreign(1)
        } else {
            Circle::Own
        },
        ..report(number, &opinions, ms)
    }
}

/// Operators with a provider in its normal place.
fn in_place(bench: &Bench) -> usize {
    let normal = |why: PlaceWhy| why.place() == Place::Normal;
    bench.control.routes().choices.iter().filter(|c| normal(c.why)).count()
}

/// At most one in five seconds.
fn assert_spaced(bench: &Bench) {
    for endpoint in 0..bench.count() {
        let at = bench.claim_probes(endpoint);
        assert!(
            at.windows(2).all(|pair| pair[1] - pair[0] >= 5_000),
            "{endpoint}: {at:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Everything answers; nobody asks. A place moves only while an own probe is under way.
    #[test]
    fn a_lie_lasts_no_longer_than_one_own_probe_and_leaves_two_operators(
        lies in proptest::collection::vec((0..400_u64, lie()), 1..120),
    ) {
        let mut bench = Bench::meshed(providers(4));
        let mut ms = 100_000;
        bench.wait(ms, all_well);
        for (pause, lie) in lies {
            ms += pause;
            bench.wait(ms, all_well);
            bench.hear(told(lie, ms));
            prop_assert!(in_place(&bench) >= 2);
            for endpoint in (0..4).filter(|endpoint| bench.place(*endpoint) == PlaceWhy::Reported) {
                let sent = bench.claim_probes(endpoint).last().copied();
                prop_assert!(sent.is_some_and(|sent| ms - sent <= 10), "{} at {}: {:?}", endpoint, ms, sent);
            }
        }
        // The last one may have waited for its probe, and still be said.
        bench.wait(ms + 12_000, all_well);
        prop_assert_eq!(in_place(&bench), 4);
        prop_assert!((0..4).all(|endpoint| bench.state(endpoint) == State::Up));
        assert_spaced(&bench);
        // What liars cost: probes, no more than one in five seconds and endpoint.
        bench.wait(ms + 200_000, all_well);
        prop_assert_eq!(bench.control.poll_timeout(Time::at_ms(bench.last)), None);
    }

    /// Clients are answered all the time: what began before their newest success moves nothing.
    #[test]
    fn own_successes_keep_an_endpoint_in_place(lies in proptest::collection::vec(lie(), 1..80)) {
        let mut bench = Bench::meshed(providers(4));
        let mut ms = 10_000;
        for lie in lies {
            ms += 40;
            bench.wait(ms, all_well);
            for endpoint in 0..4 {
                bench.served(endpoint, ms);
            }
            // Nobody's first failure is later than the last success, or it is the last thing told.
            let newest = Time::at_ms(ms);
            let mut report = told(lie, ms + 10);
            let opinions: Vec<Opinion> = report.opinions.iter().map(|o| Opinion {
                first_failure: o.first_failure.map(|at| at.min(newest.minus(1))),
                ..*o
            }).collect();
            report.opinions = opinions.into();
            bench.hear(report);
            prop_assert_eq!(in_place(&bench), 4);
            prop_assert!((0..4).all(|endpoint| bench.place(endpoint) == PlaceWhy::Healthy));
        }
        assert_spaced(&bench);
    }

    /// Without influence nothing moves and nobody is probed; as hints no place moves.
    #[test]
    fn without_influence_no_place_moves(
        lies in proptest::collection::vec((0..400_u64, lie()), 1..80),
        hint in any::<bool>(),
    ) {
        let mut bench = Bench::meshed(providers(4));
        let mut ms = 100_000;
        bench.wait(ms, all_well);
        bench.influence(if hint { Influence::Hint } else { Influence::None }, ms);
        for (pause, lie) in lies {
            ms += pause;
            bench.wait(ms, all_well);
            bench.hear(told(lie, ms));
            prop_assert_eq!(in_place(&bench), 4);
        }
        prop_assert!(hint || bench.probes.is_empty());
        assert_spaced(&bench);
    }

    /// Reports never return an endpoint: what is down stays down, whatever they say, until own probes are answered.
    #[test]
    fn no_report_returns_what_own_evidence_left(lies in proptest::collection::vec((0..900_u64, lie()), 1..60)) {
        let mut bench = Bench::meshed(providers(4));
        bench.wait(10_000, all_well);
        bench.begin(0, 10_000);
        bench.wait(11_000, all_but(0));
        let mut ms = 11_000;
        for (pause, lie) in lies {
            ms += pause;
            bench.wait(ms, all_but(0));
            bench.hear(told(lie, ms));
            bench.hear(report(lie.0, &[up(0, ms - lie.4)], ms));
            prop_assert_eq!(bench.place(0), PlaceWhy::Down);
            prop_assert!(in_place(&bench) >= 2);
        }
    }
}
