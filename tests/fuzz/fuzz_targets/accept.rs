//! Any bytes, as what a provider answers.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../resolver/tests/bytes/accept.rs"]
mod accept;
#[path = "../../../resolver/tests/bytes/model.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| accept::exercise(bytes));
