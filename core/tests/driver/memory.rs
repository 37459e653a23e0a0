//! A node that remembers how fast its providers were: right, it is as quick at its first query as at its thousandth;
//! wrong, nobody is hurt by it and it is soon over.

use detour_core::control::{Event, Memory, Remembered};
use detour_core::health::latency::Learned;
use detour_core::health::state::State;
use detour_core::time::{MS, SEC};
use detour_core::topology::EndpointId;

use crate::node::{BOTH, Config, UDP};
use crate::provider::{Fault, Law};
use crate::world::World;

/// A world that asks ten times a second, and whose node remembers this answer time of every provider.
fn remembering(seed: u64, law: Law, remembered_us: u64) -> World {
    let mut world = World::new(Config {
        seed,
        providers: 3,
        transports: UDP,
        law,
        interval_us: 100 * MS,
    });
    let memory = |endpoint| Memory {
        endpoint: EndpointId(endpoint),
        learned: Learned::new(vec![remembered_us; 32]).unwrap(),
        age_us: 3_600 * SEC,
    };
    let memories: Vec<Memory> = (0..3).map(memory).collect();
    let now = world.now();
    assert_eq!(
        world.node.control.handle_learned(&memories, now),
        [Remembered::Taken; 3]
    );
    world
}

#[test]
fn a_memory_of_a_faster_network_hurts_nobody_and_condemns_nobody() {
    for seed in 1..=8 {
        let mut world = remembering(seed, Law::Far, 5 * MS);
        world.run(30 * SEC);
        let fell = |event: &Event| matches!(event, Event::StateChanged { to: State::Down, .. });
        if world.node.events.iter().any(|(_, event)| fell(event)) {
            world.fail("somebody was condemned for being far away");
        }
        if world.node.counts.hurt > 0 {
            world.fail(&format!("{:?}", world.node.counts));
        }
        // What it learned since is the truth.
        for endpoint in 0..3 {
            let timing = world.node.routes().endpoint(EndpointId(endpoint)).unwrap().timing;
            assert!(timing.p95_us >= 300 * MS, "seed {seed}: {timing:?}");
        }
    }
}

#[test]
fn a_memory_of_a_slower_network_hurts_nobody() {
    for seed in 1..=8 {
        let mut world = remembering(seed, Law::Flat, 400 * MS);
        // The first to be known again is preferred; the others are found out by exploration.
        world.run(300 * SEC);
        if world.node.counts.hurt > 0 {
            world.fail(&format!("{:?}", world.node.counts));
        }
        for endpoint in 0..3 {
            let timing = world.node.routes().endpoint(EndpointId(endpoint)).unwrap().timing;
            assert!(timing.p95_us <= 11 * MS, "seed {seed}: {timing:?}");
        }
    }
}

#[test]
fn who_remembers_leaves_a_dead_provider_from_the_first_query_on() {
    // Ten queries a second and one provider dead from the start: how long clients wait in the first second.
    let waits = |remembers: bool| {
        let mut hedged = 0;
        for seed in 1..=8 {
            let mut world = if remembers {
                remembering(seed, Law::Flat, 10 * MS)
            } else {
                World::new(Config {
                    seed,
                    providers: 3,
                    transports: UDP,
                    law: Law::Flat,
                    interval_us: 100 * MS,
                })
            };
            world.set_fault(0, BOTH, Fault::Blackhole);
            world.run(10 * SEC);
            if world.node.counts.hurt > 0 {
                world.fail(&format!("{:?}", world.node.counts));
            }
            let down = |event: &Event| matches!(event, Event::StateChanged { to: State::Down, .. });
            let fell = world.node.events.iter().find(|(_, event)| down(event));
            hedged += fell.unwrap().0.as_micros();
        }
        hedged / 8
    };
    let (with, without) = (waits(true), waits(false));
    assert!(with < without, "down after {with} us with memory, {without} us without");
}
