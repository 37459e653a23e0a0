//! Plans over hand-made routes.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows shall fail")]

use std::sync::Arc;

use super::*;
use crate::dice::Dice;
use crate::health::latency::Latencies;
use crate::health::state::State;
use crate::outcome::Cause;
use crate::routes::{EndpointRoute, Place, Settings};
use crate::testing::{providers, with_transports};
use crate::topology::{ClassId, EndpointId, Family, Group, GroupId, OperatorId, Topology, Transport};

const NOW: Time = Time::at_ms(100_000);

/// Routes where all is well, changed by `edit`.
fn routes_of(topology: Topology, strategy: Strategy, edit: impl FnOnce(&mut [EndpointRoute])) -> Routes {
    let well = EndpointRoute {
        state: State::Up,
        cause: Cause::Answering,
        since: Time::ZERO,
        why: PlaceWhy::Healthy,
        timing: Latencies::default().timing(),
        ok_permille: 1_000,
        strained: false,
        hinted: false,
        paused_until: None,
    };
    let mut endpoints = vec![well; topology.endpoints.len()];
    for endpoint in &mut endpoints {
        endpoint.timing.p50_us = Some(10 * MS);
    }
    edit(&mut endpoints);
    Routes {
        group: GroupId::PUBLIC,
        routed: Vec::new(),
        version: 0,
        choices: Routes::choose(&topology, &endpoints),
        nothing_up: endpoints
            .iter()
            .all(|e| e.place() != Place::Normal && e.why != PlaceWhy::Sibling),
        in_the_clear: false,
        warm: [None; 2],
        topology: Arc::new(topology),
        settings: Settings {
            strategy,
            ..Settings::default()
        },
        dice: Dice::new(1),
        endpoints,
        said: Vec::new(),
        uplink_suspect: Vec::new(),
        clock_wrong: None,
        avoided: Vec::new(),
    }
}

fn ask(routes: &Routes, number: u64) -> Plan {
    let mut usage = Usage::new(&routes.topology, NOW);
    ask_with(routes, &mut usage, number)
}

fn ask_with(routes: &Routes, usage: &mut Usage, number: u64) -> Plan {
    let question = Question {
        number,
        domain: number % 100,
    };
    plan(routes, usage, question, NOW, &mut |_, _| {})
}

/// First choices by provider over `count` questions.
fn first_choices(routes: &Routes, count: u64) -> Vec<u64> {
    let mut first = vec![0; routes.topology.providers.len()];
    for number in 0..count {
        first[usize::from(ask(routes, number).steps[0].provider.0)] += 1;
    }
    first
}

fn ids(plan: &Plan) -> Vec<u16> {
    plan.steps.iter().map(|step| step.endpoint.0).collect()
}

#[test]
fn balanced_spreads_over_all_that_are_nearly_as_fast_as_the_best() {
    // 10 ms and 50 %: 20 ms is as good as 10 ms, 21 ms is not; 150 ms is as good as 100 ms.
    let p50 = |us: [u64; 3]| {
        let routes = routes_of(providers(3), Strategy::Balanced, |endpoints| {
            for (endpoint, us) in endpoints.iter_mut().zip(us) {
                endpoint.timing.p50_us = Some(us);
            }
        });
        first_choices(&routes, 3_000)
    };
    for count in p50([10 * MS, 20 * MS, 12 * MS]) {
        assert!((900..1_100).contains(&count), "{count}");
    }
    for count in p50([100 * MS, 150 * MS, 149 * MS]) {
        assert!((900..1_100).contains(&count), "{count}");
    }
    let slow = p50([10 * MS, 21 * MS, 10 * MS]);
    assert!((100..200).contains(&slow[1]), "one in twenty explores: {slow:?}");
}

#[test]
fn fastest_asks_the_lowest_median_and_explores_one_in_twenty() {
    let routes = routes_of(providers(3), Strategy::Fastest, |endpoints| {
        endpoints[1].timing.p50_us = Some(9 * MS);
    });
    let first = first_choices(&routes, 10_000);
    let explored = first[0] + first[2];
    assert!((400..600).contains(&explored), "{first:?}");
}

#[test]
fn exploration_replaces_the_first_choice_and_adds_nothing() {
    let routes = routes_of(providers(3), Strategy::Fastest, |endpoints| {
        endpoints[1].timing.p50_us = Some(9 * MS);
    });
    let mut explored = 0;
    for number in 0..1_000 {
        let plan = ask(&routes, number);
        assert!(!plan.pair);
        assert_eq!(plan.steps.len(), 5, "three providers, and the first two once more");
        explored += u64::from(plan.steps[0].chosen == Chosen::Explored);
    }
    assert!(explored > 0);
}

#[test]
fn exploration_asks_only_who_is_up() {
    let routes = routes_of(providers(3), Strategy::Fastest, |endpoints| {
        endpoints[1].timing.p50_us = Some(9 * MS);
        endpoints[0].why = PlaceWhy::Suspect;
        endpoints[2].why = PlaceWhy::Down;
    });
    assert_eq!(first_choices(&routes, 1_000), [0, 1_000, 0]);
}

#[test]
fn shard_gives_each_provider_its_domains_and_moves_only_those_of_who_leaves() {
    let all = routes_of(providers(4), Strategy::Shard, |_| {});
    let without = routes_of(providers(4), Strategy::Shard, |endpoints| {
        endpoints[2].why = PlaceWhy::Down
    });
    let mut owners = [0; 4];
    for number in 0..100 {
        let owner = ask(&all, number).steps[0];
        assert_eq!(owner.chosen, Chosen::Shard);
        assert_eq!(owner, ask(&all, number + 100).steps[0], "by domain, not by question");
        owners[usize::from(owner.provider.0)] += 1;
        if owner.provider.0 != 2 {
            assert_eq!(owner, ask(&without, number).steps[0]);
        }
    }
    assert!(owners.iter().all(|count| *count > 5), "{owners:?}");
}

#[test]
fn tier_two_is_a_standby() {
    let mut topology = providers(3);
    topology.providers[0].tier = 2;
    let well = routes_of(topology.clone(), Strategy::Balanced, |_| {});
    assert_eq!(first_choices(&well, 1_000)[0], 0);
    assert!(ids(&ask(&well, 1))[..2].iter().all(|id| *id != 0));
    let failed = routes_of(topology, Strategy::Balanced, |endpoints| {
        endpoints[1].why = PlaceWhy::Down;
        endpoints[2].why = PlaceWhy::Suspect;
    });
    assert_eq!(first_choices(&failed, 1_000), [1_000, 0, 0]);
}

#[test]
fn max_share_caps_first_choices_and_is_dropped_when_nobody_else_is_left() {
    let mut topology = providers(2);
    topology.providers[0].max_share_permille = Some(250);
    let routes = routes_of(topology.clone(), Strategy::Balanced, |_| {});
    let mut usage = Usage::new(&routes.topology, NOW);
    for number in 0..1_000 {
        let plan = ask_with(&routes, &mut usage, number);
        usage.count_first_choice(plan.steps[0].provider, NOW);
    }
    let share = usage.share_permille(ProviderId(0), NOW);
    assert!((240..=250).contains(&share), "{share}");
    assert_eq!(usage.cap_ignored(), None);
    let alone = routes_of(topology, Strategy::Balanced, |endpoints| {
        endpoints[1].why = PlaceWhy::Down
    });
    let plan = ask_with(&alone, &mut usage, 1);
    assert_eq!(plan.steps[0].provider, ProviderId(0));
    assert!(plan.cap_ignored && usage.cap_ignored() == Some(NOW));
}

#[test]
fn max_qps_moves_first_choices_elsewhere_and_is_dropped_when_nobody_else_is_left() {
    let mut topology = providers(2);
    topology.providers[0].max_qps = Some(10);
    let routes = routes_of(topology, Strategy::Balanced, |_| {});
    let mut usage = Usage::new(&routes.topology, NOW);
    let mut capped = 0;
    for number in 0..100 {
        let step = ask_with(&routes, &mut usage, number).steps[0];
        usage.count_sent(step.provider, step.endpoint);
        capped += u64::from(step.provider.0 == 0);
    }
    assert_eq!(capped, 1);
    let mut topology = providers(1);
    topology.endpoints[0].max_qps = Some(1);
    let alone = routes_of(topology, Strategy::Balanced, |_| {});
    let mut usage = Usage::new(&alone.topology, NOW);
    for number in 0..10 {
        let plan = ask_with(&alone, &mut usage, number);
        assert_eq!(plan.cap_ignored, number > 0);
        usage.count_sent(plan.steps[0].provider, plan.steps[0].endpoint);
    }
}

#[test]
fn a_bad_domain_is_asked_elsewhere_and_the_bad_endpoint_comes_last() {
    let mut routes = routes_of(providers(3), Strategy::Balanced, |_| {});
    for domain in 0..100 {
        routes.avoided.push((domain, EndpointId(1), NOW.plus(1)));
    }
    for number in 0..200 {
        let steps = ask(&routes, number).steps;
        assert_eq!(steps[2].endpoint, EndpointId(1));
    }
    for entry in &mut routes.avoided {
        entry.2 = NOW;
    }
    assert!(first_choices(&routes, 300)[1] > 50, "the minute is over");
}

#[test]
fn the_share_ramps_up_in_five_seconds_after_a_recovery() {
    for (age_ms, from, to) in [(0, 0, 0), (1_250, 200, 400), (2_500, 350, 600), (5_000, 850, 1_150)] {
        let routes = routes_of(providers(3), Strategy::Balanced, |endpoints| {
            endpoints[1].state = State::Probation;
            endpoints[1].why = PlaceWhy::Ramp;
            endpoints[1].since = NOW.minus(age_ms * MS);
        });
        let first = first_choices(&routes, 3_000)[1];
        assert!((from..=to).contains(&first), "after {age_ms} ms: {first}");
    }
}

#[test]
fn a_plan_never_leaves_its_class() {
    let mut topology = providers(4);
    topology.providers[1].class = ClassId(1);
    topology.providers[3].class = ClassId(1);
    let routes = routes_of(topology, Strategy::Balanced, |_| {});
    for number in 0..100 {
        let plan = ask(&routes, number);
        let first = plan.steps[0].provider.0 % 2;
        assert!(plan.steps.iter().all(|step| step.provider.0 % 2 == first));
    }
}

#[test]
fn backups_are_of_another_operator_network_and_jurisdiction_while_there_are_any() {
    let mut topology = providers(4);
    topology.providers[1].operator = OperatorId(0);
    topology.providers[2].asn = topology.providers[0].asn;
    for (provider, jurisdiction) in topology.providers.iter_mut().zip([1, 1, 1, 2]) {
        provider.jurisdiction = Some(jurisdiction);
    }
    let mut routes = routes_of(topology, Strategy::Fastest, |endpoints| {
        endpoints[0].timing.p50_us = Some(MS)
    });
    for number in 0..100 {
        let plan = ask(&routes, number);
        if plan.steps[0].provider.0 == 0 {
            assert_eq!(ids(&plan)[..3], [0, 3, 2], "other operator and network first");
        }
    }
    // Nobody else left: the same operator is better than none.
    routes.endpoints[2].why = PlaceWhy::NoRoute;
    routes.endpoints[3].why = PlaceWhy::NoRoute;
    routes.choices = Routes::choose(&routes.topology, &routes.endpoints);
    assert_eq!(ids(&ask(&routes, 1))[..2], [0, 1]);
}

#[test]
fn siblings_of_a_failing_endpoint_rank_behind_every_other_provider() {
    let routes = routes_of(
        with_transports(3, &[Transport::Udp, Transport::Tcp]),
        Strategy::Balanced,
        |endpoints| {
            endpoints[0].why = PlaceWhy::Suspect;
            endpoints[1].why = PlaceWhy::Sibling;
        },
    );
    assert_eq!(first_choices(&routes, 300)[0], 0);
    for number in 0..100 {
        let plan = ask(&routes, number);
        assert_eq!(
            plan.steps[2].endpoint,
            EndpointId(1),
            "the sibling is the last provider's endpoint"
        );
    }
}

#[test]
fn transports_are_used_in_listed_order_and_never_by_latency() {
    let routes = routes_of(
        with_transports(3, &[Transport::Tcp, Transport::Udp]),
        Strategy::Balanced,
        |endpoints| {
            for endpoint in endpoints.iter_mut().step_by(2) {
                endpoint.timing.p50_us = Some(300 * MS);
            }
        },
    );
    for number in 0..100 {
        let plan = ask(&routes, number);
        assert!(plan.steps[..3].iter().all(|step| step.endpoint.0.is_multiple_of(2)));
        assert!(
            plan.steps[3..6]
                .iter()
                .all(|step| step.chosen == Chosen::OtherTransport)
        );
    }
}

#[test]
fn second_transports_of_the_providers_in_a_plan_are_of_different_paths() {
    // Over IPv6 first, then the same over IPv4.
    let mut topology = with_transports(3, &[Transport::Udp, Transport::Tcp, Transport::Udp, Transport::Tcp]);
    for (index, endpoint) in topology.endpoints.iter_mut().enumerate() {
        endpoint.family = if index % 4 < 2 { Family::V6 } else { Family::V4 };
    }
    let routes = routes_of(topology, Strategy::Balanced, |_| {});
    for number in 0..20 {
        let plan = ask(&routes, number);
        let others = plan.steps.iter().filter(|step| step.chosen == Chosen::OtherTransport);
        // By its number within its provider: TCP over IPv4, TCP over IPv6, UDP over IPv4.
        assert_eq!(others.map(|step| step.endpoint.0 % 4).collect::<Vec<_>>(), [3, 1, 2]);
    }
    // What is encrypted is not asked in the clear sooner for that.
    let topology = with_transports(1, &[Transport::Quic, Transport::Tcp, Transport::H3, Transport::Tls]);
    let plan = ask(&routes_of(topology, Strategy::Balanced, |_| {}), 1);
    let others = plan.steps.iter().filter(|step| step.chosen == Chosen::OtherTransport);
    assert_eq!(others.map(|step| step.endpoint.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn nothing_up_asks_pairs_of_different_operators_in_rotation() {
    let mut topology = providers(4);
    topology.providers[1].operator = OperatorId(0);
    let routes = routes_of(topology, Strategy::Fastest, |endpoints| {
        for (endpoint, why) in
            endpoints
                .iter_mut()
                .zip([PlaceWhy::Suspect, PlaceWhy::Suspect, PlaceWhy::Down, PlaceWhy::Loss])
        {
            endpoint.why = why;
        }
    });
    assert!(routes.nothing_up);
    for number in 0..40 {
        let plan = ask(&routes, number);
        assert!(plan.pair);
        assert_eq!(plan.steps[0].chosen, Chosen::Rotation);
        assert_eq!(u64::from(plan.steps[0].provider.0), number % 4);
        let operator = |step: &Step| routes.topology.provider(step.provider).unwrap().operator;
        assert_ne!(operator(&plan.steps[0]), operator(&plan.steps[1]), "{plan:?}");
    }
}

#[test]
fn why_each_provider_was_passed_over_is_told() {
    let mut topology = providers(5);
    topology.providers[4].tier = 2;
    let mut routes = routes_of(topology, Strategy::Fastest, |endpoints| {
        endpoints[1].why = PlaceWhy::Down;
        endpoints[0].timing.p50_us = Some(MS);
        endpoints[3].timing.p50_us = Some(500 * MS);
    });
    routes.avoided.push((1, EndpointId(2), NOW.plus(1)));
    let mut usage = Usage::new(&routes.topology, NOW);
    let mut notes = Vec::new();
    let question = Question { number: 1, domain: 1 };
    let plan = plan(&routes, &mut usage, question, NOW, &mut |provider, why| {
        notes.push((provider.0, why))
    });
    assert_eq!(plan.steps[0].provider, ProviderId(0));
    notes.sort_by_key(|(provider, _)| *provider);
    assert_eq!(
        notes,
        [
            (1, Skipped::Place(PlaceWhy::Down)),
            (2, Skipped::Domain),
            (3, Skipped::Slower),
            (4, Skipped::Standby)
        ]
    );
}

#[test]
fn no_providers_make_an_empty_plan() {
    let routes = routes_of(Topology::default(), Strategy::Balanced, |_| {});
    assert_eq!(ask(&routes, 1), Plan::default());
}

mod laws {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_assume, proptest};
    use proptest::strategy::Strategy as Generator;

    const WHYS: [PlaceWhy; 7] = [
        PlaceWhy::Healthy,
        PlaceWhy::Ramp,
        PlaceWhy::Sibling,
        PlaceWhy::Suspect,
        PlaceWhy::Loss,
        PlaceWhy::Down,
        PlaceWhy::NoRoute,
    ];
    const STRATEGIES: [Strategy; 3] = [Strategy::Balanced, Strategy::Fastest, Strategy::Shard];

    /// One provider: place of each endpoint, median, class, tier, operator.
    type Drawn = (Vec<usize>, u64, u16, u8, u16);

    fn drawn() -> impl Generator<Value = Vec<Drawn>> {
        let one = (
            proptest::collection::vec(0..7_usize, 1..4),
            1..400_u64,
            0..2_u16,
            1..3_u8,
            0..4_u16,
        );
        proptest::collection::vec(one, 1..7)
    }

    /// The table of what was drawn; every median differs by provider.
    fn table(drawn: &[Drawn], strategy: Strategy) -> Routes {
        let mut topology = providers(u16::try_from(drawn.len()).unwrap());
        let template = topology.endpoints[0].clone();
        topology.endpoints.clear();
        for (index, (places, _, class, tier, operator)) in drawn.iter().enumerate() {
            let provider = &mut topology.providers[index];
            provider.class = ClassId(*class);
            provider.tier = *tier;
            provider.operator = OperatorId(*operator);
            provider.endpoints.clear();
            for _ in places {
                provider
                    .endpoints
                    .push(EndpointId(u16::try_from(topology.endpoints.len()).unwrap()));
                let mut endpoint = template.clone();
                endpoint.provider = ProviderId(u16::try_from(index).unwrap());
                topology.endpoints.push(endpoint);
            }
        }
        routes_of(topology, strategy, |endpoints| {
            let mut next = endpoints.iter_mut();
            for (places, p50, ..) in drawn {
                for place in places {
                    let endpoint = next.next().unwrap();
                    endpoint.why = WHYS[*place];
                    endpoint.timing.p50_us = Some(p50 * MS);
                }
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_plan_keeps_the_law(drawn in drawn(), strategy in 0..3_usize, number in any::<u64>()) {
            let routes = table(&drawn, STRATEGIES[strategy]);
            let plan = ask(&routes, number);
            prop_assert!(plan.steps.len() <= STEPS_MAX);
            prop_assert_eq!(plan.steps.is_empty(), routes.choices.is_empty());
            let mut providers: Vec<ProviderId> = plan.steps.iter().map(|step| step.provider).collect();
            providers.sort();
            providers.dedup();
            prop_assert!(providers.len() <= PROVIDERS_MAX);
            let class = |step: &Step| routes.topology.provider(step.provider).unwrap().class;
            let has_route = |route: &EndpointRoute| route.why != PlaceWhy::NoRoute;
            let any_route = routes.endpoints.iter().any(has_route);
            for step in &plan.steps {
                prop_assert_eq!(has_route(routes.endpoint(step.endpoint).unwrap()), any_route);
                prop_assert_eq!(routes.topology.endpoint(step.endpoint).unwrap().provider, step.provider);
                prop_assert_eq!(class(step), class(&plan.steps[0]));
            }
            let usable = |why: PlaceWhy| why.place() == Place::Normal;
            if let Some(first) = plan.steps.first()
                && routes.choices.iter().any(|choice| usable(choice.why))
            {
                prop_assert!(usable(routes.endpoint(first.endpoint).unwrap().why));
                let tier = |id: ProviderId| routes.topology.provider(id).unwrap().tier;
                let best = routes.choices.iter().filter(|c| usable(c.why)).map(|c| tier(c.provider)).min();
                prop_assert_eq!(Some(tier(first.provider)), best);
                prop_assert!(!plan.pair);
            }
        }

        #[test]
        fn the_order_of_providers_decides_nothing(drawn in drawn(), turn in 0..6_usize, number in any::<u64>()) {
            let drawn: Vec<Drawn> = drawn
                .into_iter()
                .enumerate()
                .map(|(index, (places, _, class, tier, operator))| {
                    // Nothing but the dice may decide between equals, so there are none.
                    (places, u64::try_from(index).unwrap() * 40 + 1, class, tier, operator)
                })
                .collect();
            let mut turned = drawn.clone();
            turned.rotate_left(turn % drawn.len());
            let (a, b) = (table(&drawn, Strategy::Fastest), table(&turned, Strategy::Fastest));
            prop_assume!(!a.nothing_up);
            let (a_plan, b_plan) = (ask(&a, number), ask(&b, number));
            prop_assert_eq!(a_plan.pair, b_plan.pair);
            let renamed = |id: ProviderId| (usize::from(id.0) + turn % drawn.len()) % drawn.len();
            if let (Some(first), Some(turned_first)) = (a_plan.steps.first(), b_plan.steps.first())
                && first.chosen == Chosen::Fastest
                && a.choices.iter().all(|choice| choice.why != PlaceWhy::Ramp)
            {
                prop_assert_eq!(usize::from(first.provider.0), renamed(turned_first.provider));
                let standing = |routes: &Routes, plan: &Plan| {
                    let own = routes.topology.provider(plan.steps[0].provider).unwrap().operator;
                    plan.steps
                        .iter()
                        .take_while(|step| step.chosen != Chosen::OtherTransport && step.chosen != Chosen::Again)
                        .map(|step| {
                            let provider = routes.topology.provider(step.provider).unwrap();
                            let why = routes.endpoint(step.endpoint).unwrap().why.settled();
                            (why, provider.tier, provider.operator == own)
                        })
                        .collect::<Vec<_>>()
                };
                prop_assert_eq!(standing(&a, &a_plan), standing(&b, &b_plan));
            }
        }
    }
}

/// The last provider serves a route and nothing else, the one before it both.
fn with_a_route(transports: &[Transport]) -> Topology {
    let mut topology = with_transports(4, transports);
    topology.providers[3].is_public = false;
    topology.routed.push(Group {
        name: "office".to_owned(),
        providers: vec![ProviderId(2), ProviderId(3)],
        is_quiet: false,
    });
    topology
}

/// The same routes for the group of the route.
fn routed(routes: &Routes) -> Routes {
    Routes {
        group: GroupId(1),
        choices: Routes::choose_of(&routes.topology, GroupId(1), &routes.endpoints),
        ..routes.clone()
    }
}

#[test]
fn a_plan_names_nobody_outside_of_its_group() {
    let both = [Transport::Https, Transport::Udp];
    let cleartext = |endpoints: &mut [EndpointRoute]| {
        for endpoint in endpoints.iter_mut().skip(1).step_by(2) {
            endpoint.why = PlaceWhy::Cleartext;
        }
    };
    for strategy in [Strategy::Balanced, Strategy::Fastest, Strategy::Shard] {
        for (topology, edit) in [
            (with_a_route(&[Transport::Udp]), None),
            (with_a_route(&both), None),
            (with_a_route(&both), Some(&cleartext as &dyn Fn(&mut [EndpointRoute]))),
        ] {
            let public = routes_of(topology, strategy, |endpoints| {
                if let Some(edit) = edit {
                    edit(endpoints);
                }
            });
            let mut office = routed(&public);
            let seen = |routes: &Routes| {
                let mut seen: Vec<u16> = Vec::new();
                for number in 0..400 {
                    seen.extend(ask(routes, number).steps.iter().map(|step| step.provider.0));
                }
                seen.sort_unstable();
                seen.dedup();
                seen
            };
            assert_eq!(seen(&public), [0, 1, 2], "{strategy:?}");
            assert_eq!(seen(&office), [2, 3], "{strategy:?}");
            // When nothing of it is up, it is still nobody else's.
            for endpoint in &mut office.endpoints {
                endpoint.why = PlaceWhy::Down;
            }
            office.nothing_up = true;
            office.choices = Routes::choose_of(&office.topology, GroupId(1), &office.endpoints);
            assert_eq!(seen(&office), [2, 3], "{strategy:?}");
        }
    }
}

#[test]
fn a_group_of_nobody_has_no_plan() {
    let mut topology = with_a_route(&[Transport::Udp]);
    topology.routed[0].providers.clear();
    let public = routes_of(topology, Strategy::Balanced, |_| {});
    assert!(ask(&routed(&public), 1).steps.is_empty());
}
