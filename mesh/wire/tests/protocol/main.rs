//! The protocol from outside: laws over random values and bytes, vectors, malformed input, and its document.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where its assumptions do"
)]

mod laws;
mod values;
