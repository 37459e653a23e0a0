//! One node and its providers in virtual time: the real control plane, the real lookups, plans and budget, around
//! fake providers that fail in every way the outcome table knows.
//!
//! Everything follows from a seed. `env` is the event queue, `node` the shell's part, `world` one node, `cluster`
//! several with the mesh between them, `provider` what comes back from whom and when; the other modules are scenarios.
//! Invariants are checked after every step; a violation prints the seed and the last 50 events. `DETOUR_SEEDS` sets how
//! many random scenarios and clusters run, `DETOUR_SEED` runs one, `DETOUR_SHOW_HURT` tells the story of every hurt
//! query.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that goes wrong shall say so; clippy sees helpers of integration tests as production code"
)]

mod calm;
mod cluster;
mod env;
mod failover;
mod memory;
mod node;
mod provider;
mod random;
mod world;
