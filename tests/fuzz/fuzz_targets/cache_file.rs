//! Any bytes, as a cache file, and as answers in one that is damaged.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../node/src/cache_file"]
mod cache_file {
    pub(crate) mod exercise;
    mod format;
}
#[path = "../../../node/src/clock.rs"]
mod clock;
#[path = "../../../node/src/stamp.rs"]
mod stamp;

fuzz_target!(|bytes: &[u8]| cache_file::exercise::exercise(bytes));
