//! Real nodes joined by the mesh: what a peer's word moves, who is let in, and what of it can fail without DNS failing.
//!
//! Every test has nodes of its own on ports of the system's choice. Nothing leaves the machine, nothing needs a privilege
//! or IPv6. A test waits for something to become true, with a deadline far above what is promised; promised times are the
//! figures' matter. Tests run on several threads, because fakes must answer while a command is waited for.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its assumptions do"
)]

mod admission;
mod leave;
mod lifecycle;
mod privacy;
mod trial;
mod world;
