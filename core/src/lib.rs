//! Every decision of Detour: health of endpoints, plans, hedges and retries, budgets, routes.
//!
//! # Contract
//!
//! Nothing here does I/O, reads a clock, draws randomness of its own or iterates a hash map; `now` is an argument
//! of everything that can depend on time, and an endpoint that fails is an input, not an error. A shell feeds one
//! input at a time (`handle_…(…, now)`), drains the outputs (`poll_output` until `None`) before the next one, and
//! sleeps until `poll_timeout`, which also says why it wants to be woken. Getters change nothing. Every decision
//! returns its reason as an enum value; log line, metric, `explain` and test read that value.
//!
//! Two machines live here. [`control::Control`] has one owner and may be slow: it turns the outcomes of attempts
//! into [`routes::Routes`]. [`lookup::Lookup`] carries one question to its answer by such a table; there are as
//! many as questions in flight and they share nothing but [`usage::Usage`].

#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::missing_docs_in_private_items
)]
#![deny(missing_docs)]

pub mod control;
pub mod ddr;
pub mod dice;
pub mod dns64;
pub mod doctor;
pub mod eyeballs;
pub mod given;
pub mod health;
pub mod idle;
pub mod lookup;
pub mod mesh;
pub mod names;
pub mod network;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod routes;
#[cfg(test)]
mod testing;
pub mod time;
pub mod topology;
pub mod usage;
pub mod verdict;
pub mod zones;

pub use time::{Clock, Time};
pub use topology::{
    ClassId, Endpoint, EndpointId, Family, Group, GroupId, OperatorId, Path, Provider, ProviderId, Topology, Transport,
    TransportClass,
};

/// How the first choice falls among equally usable providers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// At random among those nearly as fast as the best.
    #[default]
    Balanced,
    /// The lowest median.
    Fastest,
    /// By registrable domain, so that each provider learns a stable part of the names.
    Shard,
}

/// When queries may travel in the clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Once no encrypted endpoint answers any more.
    #[default]
    Prefer,
    /// Never.
    Require,
    /// Whenever it is an endpoint's turn.
    Any,
}
