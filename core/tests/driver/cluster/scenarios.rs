//! What a cluster promises when a provider fails, or a node does, or a node lies.

use detour_core::Time;
use detour_core::control::Event;
use detour_core::control::claims::Influence;
use detour_core::health::state::State;
use detour_core::routes::Place;
use detour_core::time::{MS, SEC};

use super::machine::Lie;
use super::world::{Config, World};
use super::{nodes, seeds};
use crate::provider::Fault;

/// Between the first `down` and the last idle node's change of place, beyond the network's delay.
const LEFT_WITHIN_US: u64 = 250 * MS;
/// A message takes at most this long in fair weather.
const DELAY_US: u64 = 22 * MS;
/// A claim is decided by one own probe: its answer takes 10 ms here.
const PROBE_US: u64 = 20 * MS;
/// A client every 33 ms, 100 ms.
const BUSY_US: u64 = 33_333;
const QUIET_US: u64 = 100 * MS;

/// A cluster in which everybody has asked a little and only the first node goes on.
fn idle_but_one(config: Config) -> World {
    let mut world = World::new(config);
    if !world.run_until(4 * SEC, World::all_connected) {
        world.fail("not everybody is connected after 4 s");
    }
    for node in world.nodes() {
        world.set_interval(node, QUIET_US / 2);
    }
    world.run(3 * SEC);
    for node in world.nodes() {
        world.set_interval(node, if node == 0 { BUSY_US } else { 0 });
    }
    world.run(3 * SEC);
    world
}

/// When a node found a provider down.
fn down_at(world: &World, node: u16, provider: u16) -> Option<Time> {
    let mut events = world.node(node).events.iter();
    let fell = events.find(
        |(_, event)| matches!(event, Event::StateChanged { endpoint, to: State::Down, .. } if endpoint.0 == provider),
    );
    fell.map(|(at, _)| *at)
}

/// When a provider's place at a node was no longer the normal one.
fn left_at(world: &World, node: u16, provider: u16) -> Option<Time> {
    let mut events = world.node(node).events.iter();
    let left = events.find(|(_, event)| {
        matches!(event, Event::PlaceChanged { endpoint, to, .. }
            if endpoint.0 == provider && to.place() != Place::Normal)
    });
    left.map(|(at, _)| *at)
}

/// Black-holes a provider; the time of the first `down`.
fn fail_one(world: &mut World, victim: u16) -> Time {
    for node in world.nodes() {
        world.forget_events(node);
    }
    world.set_fault(victim, Fault::Blackhole);
    if !world.run_until(4 * SEC, |world| down_at(world, 0, victim).is_some()) {
        world.fail("the first node does not find it down");
    }
    down_at(world, 0, victim).unwrap()
}

/// Idle nodes leave, and what they ask when they wake goes elsewhere.
fn assert_idle_nodes_leave(config: Config) {
    let victim = u16::try_from(config.seed % u64::from(config.providers)).unwrap();
    let mut world = idle_but_one(config);
    let down = fail_one(&mut world, victim);
    world.run(LEFT_WITHIN_US + DELAY_US + MS);
    for node in world.nodes().skip(1) {
        let left = left_at(&world, node, victim);
        if left.is_none_or(|left| left > down.plus(LEFT_WITHIN_US + DELAY_US)) {
            world.fail(&format!("node {node} left at {left:?}, the first down was at {down}"));
        }
        world.set_interval(node, 3_333);
    }
    world.run(300 * MS);
    for node in world.nodes().skip(1) {
        world.set_interval(node, QUIET_US);
    }
    world.run(3 * SEC);
    for node in world.nodes().skip(1) {
        let left = left_at(&world, node, victim);
        let asked = world.node(node).last_query.get(&victim).copied();
        if asked > left {
            world.fail(&format!("node {node} left at {left:?} and asked at {asked:?}"));
        }
        let hurt = world.node(node).counts.hurt;
        if hurt > 0 {
            world.fail(&format!("{hurt} hurt at node {node}"));
        }
    }
}

#[test]
fn idle_nodes_leave_a_dead_provider_because_one_node_says_so() {
    for seed in seeds() {
        assert_idle_nodes_leave(Config::new(seed, vec![0; usize::from(nodes(seed))]));
    }
}

#[test]
fn clocks_ten_minutes_off_change_nothing() {
    for seed in seeds().filter(|seed| seed % 5 == 0) {
        let mut config = Config::new(seed, vec![0; 4]);
        config.skews_ms = vec![-600_000, 600_000, 0, 300_000];
        assert_idle_nodes_leave(config);
    }
}

#[test]
fn without_influence_nobody_leaves_because_others_say_so() {
    for seed in seeds() {
        let mut config = Config::new(seed, vec![0; usize::from(nodes(seed).min(4))]);
        config.influence = Influence::None;
        let mut world = idle_but_one(config);
        fail_one(&mut world, 1);
        world.run(3 * SEC);
        for node in world.nodes().skip(1) {
            if left_at(&world, node, 1).is_some() || world.place(node, 1) != Place::Normal {
                world.fail(&format!("node {node} left"));
            }
        }
    }
}

#[test]
fn all_return_when_the_provider_does() {
    for seed in seeds().filter(|seed| seed % 5 == 1) {
        let mut world = idle_but_one(Config::new(seed, vec![0; 4]));
        fail_one(&mut world, 2);
        world.run(10 * SEC);
        world.set_fault(2, Fault::None);
        for node in world.nodes() {
            world.set_interval(node, QUIET_US);
        }
        let normal = |world: &World| world.nodes().all(|node| world.place(node, 2) == Place::Normal);
        if !world.run_until(20 * SEC, normal) {
            world.fail("not everybody returned");
        }
    }
}

#[test]
fn a_node_whose_own_uplink_dies_moves_nobody() {
    for seed in seeds() {
        let mut intervals = vec![0; usize::from(nodes(seed).min(5))];
        intervals[0] = BUSY_US;
        intervals[1] = QUIET_US;
        let mut world = World::new(Config::new(seed, intervals));
        world.run(8 * SEC);
        for node in world.nodes() {
            world.forget_events(node);
        }
        world.set_uplink_dead(0, true);
        world.run(10 * SEC);
        world.set_uplink_dead(0, false);
        world.run(3 * SEC);
        for node in world.nodes().skip(1) {
            let mut events = world.node(node).events.iter();
            let moved = events.find(|(_, event)| matches!(event, Event::PlaceChanged { .. }));
            if let Some(moved) = moved {
                world.fail(&format!("node {node}: {moved:?}"));
            }
        }
    }
}

/// How long a provider's place was not the normal one at a node, microseconds: the longest time.
fn longest_away_us(world: &World, node: u16, provider: u16) -> u64 {
    let mut longest = 0;
    let mut away = None;
    for (at, event) in &world.node(node).events {
        if let Event::PlaceChanged { endpoint, to, .. } = event
            && endpoint.0 == provider
        {
            if to.place() != Place::Normal {
                away = away.or(Some(*at));
            } else if let Some(since) = away.take() {
                longest = longest.max(at.since(since));
            }
        }
    }
    away.map_or(longest, |since| longest.max(world.now().since(since)))
}

#[test]
fn a_liar_moves_no_honest_node_for_longer_than_a_probe_and_hurts_nobody() {
    for seed in seeds() {
        let count = usize::from(nodes(seed).min(5));
        let mut intervals = vec![QUIET_US; count];
        // One of them is idle and has no own evidence but its probes.
        intervals[1] = 0;
        let mut world = World::new(Config::new(seed, intervals));
        world.run(6 * SEC);
        for node in world.nodes() {
            world.forget_events(node);
        }
        world.lie(0, Lie::Down(1));
        world.run(20 * SEC);
        for node in world.nodes().skip(1) {
            let away = longest_away_us(&world, node, 1);
            let counts = &world.node(node).counts;
            if away > PROBE_US || counts.hurt > 0 {
                world.fail(&format!("node {node} away for {away} us, {counts:?}"));
            }
        }
        // It was heard, or this test would say nothing.
        if world.node(1).counts.all_probes() == 0 {
            world.fail("the idle node did not look");
        }
    }
}

#[test]
fn who_says_that_all_is_well_keeps_nobody_at_a_dead_provider() {
    for seed in seeds().filter(|seed| seed % 5 == 2) {
        let mut world = World::new(Config::new(seed, vec![QUIET_US; 4]));
        world.run(6 * SEC);
        world.lie(3, Lie::AllUp);
        world.run(2 * SEC);
        world.set_fault(0, Fault::Blackhole);
        let left = |world: &World| (0..3).all(|node| world.place(node, 0) != Place::Normal);
        if !world.run_until(3 * SEC, left) {
            world.fail("somebody stays");
        }
        world.run(10 * SEC);
        let hurt: u64 = (0..3).map(|node| world.node(node).counts.hurt).sum();
        if !left(&world) || hurt > 0 {
            world.fail(&format!("{hurt} hurt"));
        }
    }
}
