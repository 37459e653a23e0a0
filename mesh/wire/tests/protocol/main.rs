//! The protocol from outside: laws over random values and bytes, vectors, malformed input, the corpus of the fuzzer, and
//! its document.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its assumptions do"
)]

mod corpus;
mod document;
mod exercise;
mod files;
mod laws;
mod malformed;
mod values;
mod vectors;
