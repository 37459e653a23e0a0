//! Any bytes, as a client's message, and the replies that need no provider. The first line of each target's
//! documentation says what its bytes are; CONTRIBUTING.md says how targets are run.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../resolver/tests/bytes/model.rs"]
mod model;
#[path = "../../../resolver/tests/bytes/query.rs"]
mod query;

fuzz_target!(|bytes: &[u8]| query::exercise(bytes));
