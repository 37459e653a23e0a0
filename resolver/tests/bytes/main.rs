//! Bytes from outside as clients and providers send them: the corpora of the fuzzer, through the bodies of its targets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its assumptions do"
)]

mod accept;
mod corpus;
mod frames;
mod model;
mod patch;
mod query;
mod stamp;
