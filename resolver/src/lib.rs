//! DNS in, DNS out: listeners, wire view, cache, endpoint transports, driving lookups.
//!
//! Decides nothing about providers: `detour_core` does, and this crate carries it out. Knows neither the mesh nor
//! the configuration file. The path of a query: [`listen`], `serve`, [`local`], [`cache`], `inflight`, `drive`, [`generation`],
//! [`exchange`]; what it meets on the way in bytes is [`wire`]'s alone.

pub mod acl;
pub mod ask;
pub mod bootstrap;
mod bounded;
pub mod cache;
pub mod designation;
mod drive;
pub mod exchange;
mod fair;
pub mod forwarder;
pub mod generation;
mod inflight;
pub mod listen;
pub mod local;
pub mod metrics;
mod places;
mod readers;
pub mod report;
pub mod sdns;
mod serve;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod translate;
pub mod wire;
