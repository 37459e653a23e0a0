//! Every decision of Detour.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::missing_docs_in_private_items
)]
#![deny(missing_docs)]

pub mod topology;

pub use topology::{
    ClassId, Endpoint, EndpointId, Family, OperatorId, Path, Provider, ProviderId, Topology, Transport, TransportClass,
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
