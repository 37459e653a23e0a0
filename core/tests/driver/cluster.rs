//! Several nodes and the mesh between them: 3 to 16, each with its own control plane, mesh machine, clients and clock.

mod convergence;
mod links;
mod machine;
mod net;
mod notary;
mod random;
mod scenarios;
mod shell;
mod world;

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
    if seed.is_multiple_of(25) {
        return 16;
    }
    [3, 4, 3, 5, 3, 8, 4, 3, 6, 4][usize::try_from(seed % 10).unwrap()]
}
