//! Any bytes, as a DNS stamp: its text, and the octets it stands for.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../resolver/tests/bytes/stamp.rs"]
mod stamp;

fuzz_target!(|bytes: &[u8]| stamp::exercise(bytes));
