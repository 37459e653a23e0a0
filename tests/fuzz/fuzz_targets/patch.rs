//! Any bytes, as a client and what a provider answers it: the reply, fresh or stale, from the answer or from the cache.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../resolver/tests/bytes/model.rs"]
mod model;
#[path = "../../../resolver/tests/bytes/patch.rs"]
mod patch;

fuzz_target!(|bytes: &[u8]| patch::exercise(bytes));
