//! What nodes say to each other, as bytes: snapshots, hello, pull and push. `docs/PROTOCOL.md` is its specification.
//!
//! Fixed layouts, integers only, every length checked before it is believed. No I/O, no libp2p: the simulator speaks the
//! same bytes.
