//! What nodes say to each other, as bytes: snapshots, hello, pull and push. `docs/PROTOCOL.md` is its specification.
//!
//! Fixed layouts, integers only and big-endian, every length checked before it is believed; no input can panic or
//! allocate more than its own size allows. Signatures are made and verified by the caller: [`snapshot::open`] hands out
//! the bytes that were signed. No I/O, no libp2p, no clock: the simulator speaks the same bytes.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::missing_docs_in_private_items
)]

mod bytes;
pub mod codes;
mod error;
mod frame;
pub mod hello;
pub mod keys;
pub mod snapshot;
pub mod sync;

pub use error::{DecodeError, EncodeError};
pub use frame::{REFUSAL_TEXT_MAX, Refused};

/// The version of every layout here: the number in the protocols' names and in the first byte of every message.
pub const VERSION: u8 = 1;
