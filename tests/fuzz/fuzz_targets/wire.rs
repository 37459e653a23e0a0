//! Any bytes, as everything that they could be on the mesh. From the root of the repository:
//!
//! ```console
//! $ cargo +nightly fuzz run --fuzz-dir tests/fuzz wire -- -max_len=4096
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../mesh/wire/tests/protocol/exercise.rs"]
mod exercise;

fuzz_target!(|bytes: &[u8]| exercise::exercise(bytes));
