//! Everybody comes to know what everybody says, whatever the network and the processes do.

use detour_core::time::{MS, SEC};

use super::net::Weather;
use super::world::{Config, World};
use super::{nodes, seeds};

/// Three rounds of pulls, each up to a fifth late.
const THREE_ROUNDS_US: u64 = 18 * SEC;

#[test]
fn nodes_find_each_other_and_hold_every_snapshot() {
    for seed in seeds() {
        let mut world = World::new(Config::new(seed, vec![0; usize::from(nodes(seed))]));
        if !world.run_until(4 * SEC, World::all_connected) {
            world.fail("not everybody is connected after 4 s");
        }
        let editions = world.editions();
        if !world.run_until(5 * SEC, |world| world.all_hold(&editions)) {
            world.fail("not everybody knows everybody");
        }
    }
}

#[test]
fn a_third_of_the_messages_lost_doubled_and_late_is_no_matter() {
    for seed in seeds() {
        let mut world = World::new(Config::new(seed, vec![0; usize::from(nodes(seed).min(8))]));
        world.set_weather(Weather {
            loss: 300,
            twice: 300,
            spread_us: 300 * MS,
        });
        // Every other hello fails too, which QUIC would not let happen.
        if !world.run_until(150 * SEC, World::all_connected) {
            world.fail("not everybody is connected after two and a half minutes");
        }
        let editions = world.editions();
        // Every other exchange fails.
        if !world.run_until(2 * THREE_ROUNDS_US, |world| world.all_hold(&editions)) {
            world.fail("not everybody knows everybody");
        }
    }
}

#[test]
fn after_a_short_partition_everybody_holds_the_newest_within_three_rounds() {
    for seed in seeds() {
        let count = nodes(seed);
        let mut world = World::new(Config::new(seed, vec![0; usize::from(count)]));
        world.run(5 * SEC);
        let (left, right): (Vec<u16>, Vec<u16>) = world.nodes().partition(|node| *node < count / 2);
        // One way or both; connections survive, messages do not.
        world.cut(&left, &right, seed % 2 == 0);
        world.run(4 * SEC);
        world.mend();
        let editions = world.editions();
        // Sixteen nodes ask three of fifteen others in a round: that takes longer.
        let within_us = if count > 8 {
            2 * THREE_ROUNDS_US
        } else {
            THREE_ROUNDS_US
        };
        if !world.run_until(within_us, |world| world.all_hold(&editions)) {
            world.fail("not everybody knows everybody");
        }
    }
}

#[test]
fn after_a_long_partition_connections_return_and_then_everybody_holds_the_newest() {
    for seed in seeds() {
        let count = nodes(seed).min(8);
        let mut world = World::new(Config::new(seed, vec![0; usize::from(count)]));
        world.run(5 * SEC);
        let (left, right): (Vec<u16>, Vec<u16>) = world.nodes().partition(|node| *node < count / 2);
        world.cut(&left, &right, seed % 2 == 0);
        world.run((20 + seed % 3 * 60) * SEC);
        world.mend();
        // The longest backoff, and a dial.
        if !world.run_until(35 * SEC, World::all_connected) {
            world.fail("not everybody is connected again");
        }
        let editions = world.editions();
        if !world.run_until(THREE_ROUNDS_US, |world| world.all_hold(&editions)) {
            world.fail("not everybody knows everybody");
        }
    }
}

#[test]
fn killed_twice_within_5_s_a_node_is_heard_and_hears_within_10_s() {
    for seed in seeds() {
        let mut world = World::new(Config::new(seed, vec![0; usize::from(nodes(seed))]));
        world.run(6 * SEC);
        let victim = u16::try_from(seed).unwrap() % world.nodes().end;
        for down_us in [300 * MS, seed % 7 * 200 * MS] {
            world.restart(victim, down_us);
            if seed % 3 == 0 {
                world.lose_disk(victim);
            }
            world.run(down_us + 2 * SEC);
        }
        let both_ways = |world: &World| world.all_connected() && world.flows(victim);
        if !world.run_until(8 * SEC, both_ways) {
            world.fail("reports do not flow both ways 10 s after the last start");
        }
    }
}

#[test]
fn a_lost_disk_and_a_clock_far_behind_are_overcome() {
    for seed in seeds().filter(|seed| seed % 5 == 3) {
        let mut world = World::new(Config::new(seed, vec![0; 4]));
        world.run(12 * SEC);
        world.set_skew(2, -3_600_000);
        world.lose_disk(2);
        world.restart(2, 8 * SEC);
        world.run(12 * SEC);
        let editions = world.editions();
        if !world.run_until(10 * SEC, |world| world.all_connected() && world.all_hold(&editions)) {
            world.fail("not everybody knows the node that forgot itself");
        }
    }
}

#[test]
fn two_runs_of_one_seed_are_the_same_and_others_differ() {
    let run = |seed| {
        let mut world = World::new(Config::new(seed, vec![50 * MS; 4]));
        world.set_weather(Weather {
            loss: 50,
            twice: 50,
            spread_us: 50 * MS,
        });
        world.run(5 * SEC);
        world.restart(1, SEC);
        world.cut(&[2], &[3], true);
        world.run(15 * SEC);
        world.env.hash
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}
