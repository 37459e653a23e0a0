//! Any bytes, as what a connection to a provider brings, in any pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../resolver/tests/bytes/frames.rs"]
mod frames;

fuzz_target!(|bytes: &[u8]| frames::exercise(bytes));
