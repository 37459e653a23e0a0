//! Random troubles of providers, paths and processes, then everything heals.

use detour_core::time::{MS, SEC};

use super::net::Weather;
use super::seeds;
use super::world::{Config, World};
use crate::node::{BOTH, UDP};
use crate::provider::{Fault, Law, Random};

/// What may be wrong with a provider.
const FAULTS: [Fault; 8] = [
    Fault::Blackhole,
    Fault::Blackhole,
    Fault::Servfail,
    Fault::Slow(1_500 * MS),
    Fault::Loss(400),
    Fault::Garbage,
    Fault::Flap(3 * SEC),
    Fault::Rst,
];

/// Runs one seed.
fn run(seed: u64) {
    let mut dice = Random(seed.wrapping_mul(0x9e37_79b9));
    let count = 3 + dice.below(4);
    let intervals = (0..count).map(|_| dice.pick(&[0, 100 * MS, 200 * MS, SEC]));
    let mut config = Config::new(seed, intervals.collect());
    config.transports = dice.pick(&[UDP, BOTH]);
    config.law = dice.pick(&[Law::Flat, Law::Bimodal]);
    config.skews_ms = (0..count).map(|_| dice.pick(&[0, 600_000, -600_000, 1_500])).collect();
    let mut world = World::new(config);
    let end = world.now().plus(40 * SEC);
    while world.now() < end {
        world.run(dice.below(4 * SEC) + MS);
        let (one, other) = (dice.below(count), dice.below(count));
        let (one, other) = (u16::try_from(one).unwrap(), u16::try_from(other).unwrap());
        match dice.below(12) {
            0 => world.set_uplink_dead(one, dice.below(2) == 0),
            1 => world.restart(one, dice.below(3 * SEC)),
            2 => {
                world.lose_disk(one);
                world.restart(one, dice.below(8 * SEC));
            }
            3 | 4 => world.cut(&[one], &[other, (one + 1) % 3], dice.below(2) == 0),
            5 => world.mend(),
            6 => world.set_weather(Weather {
                loss: dice.below(400),
                twice: dice.below(300),
                spread_us: dice.below(SEC),
            }),
            7 => world.set_skew(one, dice.pick(&[0, 600_000, -3_600_000])),
            8 => world.set_fault(one % 3, Fault::None),
            _ => {
                let fault = dice.pick(&FAULTS);
                world.set_fault(one % 3, fault);
            }
        }
    }
    world.mend();
    world.set_weather(Weather::default());
    for node in world.nodes() {
        world.set_uplink_dead(node, false);
        world.set_interval(node, 200 * MS);
    }
    for provider in 0..3 {
        world.set_fault(provider, Fault::None);
    }
    if !world.run_until(45 * SEC, World::all_connected) {
        world.fail("not everybody is connected 45 s after everything healed");
    }
    let editions = world.editions();
    if !world.run_until(18 * SEC, |world| world.all_hold(&editions)) {
        world.fail("not everybody knows everybody");
    }
    let normal = |world: &World| world.nodes().all(|node| world.node(node).all_normal());
    if !world.run_until(75 * SEC, normal) {
        world.fail("not every endpoint is used again");
    }
    world.run(6 * SEC);
    for node in world.nodes() {
        world.reset_counts(node);
    }
    world.run(5 * SEC);
    let lost: u64 = world.nodes().map(|node| world.node(node).counts.lost).sum();
    if lost > 0 {
        world.fail("questions are lost though everything is well");
    }
}

#[test]
fn random_troubles_of_a_cluster_break_no_invariant_and_all_heal() {
    for seed in seeds() {
        run(seed);
    }
}
