//! Any text, as an endpoint of the configuration.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../node/src/config/mod.rs"]
mod config;
#[path = "../../../node/src/peer_id.rs"]
mod peer_id;

fuzz_target!(|bytes: &[u8]| config::exercise::endpoint(bytes));
