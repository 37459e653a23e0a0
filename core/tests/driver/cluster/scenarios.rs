//! What a cluster promises.

use detour_core::time::{MS, SEC};

use super::net::Weather;
use super::world::{Config, World};

/// How many seeds run.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("DETOUR_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("DETOUR_SEEDS").unwrap_or(50),
    }
}

/// Nodes in this seed's cluster: 3 to 16, mostly few.
fn nodes(seed: u64) -> u16 {
    [3, 4, 3, 5, 3, 8, 4, 3, 6, 16][usize::try_from(seed % 10).unwrap()]
}

#[test]
fn nodes_find_each_other_and_hold_every_snapshot() {
    for seed in seeds() {
        let mut world = World::new(Config::new(seed, vec![0; usize::from(nodes(seed))]));
        if !world.run_until(4 * SEC, World::all_connected) {
            world.fail("not everybody is connected after 4 s");
        }
        if !world.run_until(5 * SEC, |world| world.all_hold_the_newest(0)) {
            world.fail("not everybody knows everybody");
        }
    }
}

#[test]
fn a_third_of_the_messages_lost_doubled_and_late_is_no_matter() {
    for seed in seeds() {
        let mut world = World::new(Config::new(seed, vec![0; usize::from(nodes(seed))]));
        world.set_weather(Weather {
            loss: 300,
            twice: 300,
            spread_us: 300 * MS,
        });
        if !world.run_until(60 * SEC, World::all_connected) {
            world.fail("not everybody is connected after a minute");
        }
        if !world.run_until(60 * SEC, |world| world.all_hold_the_newest(15 * SEC)) {
            world.fail("not everybody knows everybody");
        }
    }
}
