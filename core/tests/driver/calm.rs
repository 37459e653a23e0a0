//! Calm weather: what the node asks on its own account.

use detour_core::time::{MS, SEC};

use crate::node::{BOTH, Config, Node, UDP};
use crate::provider::Law;
use crate::world::World;

fn world(law: Law, interval_us: u64, seed: u64) -> World {
    World::new(Config {
        seed,
        providers: 3,
        transports: UDP,
        law,
        interval_us,
    })
}

fn assert_few_extra_queries(law: Law, interval_us: u64, seconds: u64) {
    for seed in 1..=2 {
        let mut world = world(law, interval_us, seed);
        world.run(seconds * SEC);
        let counts = &world.node.counts;
        let (asked, extra) = (counts.asked, counts.extra());
        if extra * 20 > asked {
            world.fail(&format!("{extra} extra queries to {asked}: {counts:?}"));
        }
        if counts.lost > 0 {
            world.fail(&format!("{counts:?}"));
        }
    }
}

#[test]
fn at_most_5_percent_are_extra_at_30_per_second_with_flat_answers() {
    assert_few_extra_queries(Law::Flat, 33_333, 120);
}

#[test]
fn at_most_5_percent_are_extra_at_30_per_second_with_bimodal_answers() {
    assert_few_extra_queries(Law::Bimodal, 33_333, 120);
}

#[test]
fn at_most_5_percent_are_extra_at_300_per_second_with_flat_answers() {
    assert_few_extra_queries(Law::Flat, 3_333, 20);
}

#[test]
fn at_most_5_percent_are_extra_at_300_per_second_with_bimodal_answers() {
    assert_few_extra_queries(Law::Bimodal, 3_333, 20);
}

#[test]
fn without_clients_nothing_is_probed_even_if_everything_is_down() {
    let mut world = World::new(Config {
        seed: 5,
        providers: 3,
        transports: BOTH,
        law: Law::Flat,
        interval_us: 10 * MS,
    });
    world.run(5 * SEC);
    world.node.uplink_dead = true;
    world.run(5 * SEC);
    world.set_interval(0);
    world.run(61 * SEC);
    world.node.reset_counts();
    world.run(300 * SEC);
    assert_eq!(world.node.counts.all_probes(), 0, "{:?}", world.node.counts);
    // The first client to ask wakes the probes, and everything is found well.
    world.heal();
    world.set_interval(100 * MS);
    assert!(world.run_until(10 * SEC, Node::all_normal));
}

#[test]
fn never_a_probe_without_any_client() {
    let mut world = world(Law::Flat, 0, 1);
    world.run(120 * SEC);
    assert_eq!(world.node.counts.all_probes(), 0);
}
