//! The signatures of the protocol's test vectors are good, and cover every byte: what `mesh/wire`, which knows no
//! cryptography, cannot check.

use std::fs;
use std::path::Path;

use detour_wire::{keys, snapshot};
use libp2p::identity::ed25519::PublicKey;

fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/vectors").join(name);
    let text = fs::read_to_string(path).unwrap_or_default();
    let digits: String = text.lines().filter_map(|line| line.split('#').next()).collect();
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// Whether a snapshot that can be read is signed by the node that it names.
fn is_signed(bytes: &[u8]) -> bool {
    snapshot::open(bytes, keys::cluster("office")).is_ok_and(|opened| {
        let key = PublicKey::try_from_bytes(&opened.snapshot.node.0);
        key.is_ok_and(|key| key.verify(opened.signed, &opened.signature))
    })
}

#[test]
fn the_signatures_of_the_vectors_are_good() {
    for name in ["empty", "two", "full", "later"] {
        assert!(is_signed(&vector(&format!("snapshot-{name}.hex"))), "{name}");
    }
}

#[test]
fn a_signature_covers_every_byte() {
    for name in ["two", "later"] {
        let bytes = vector(&format!("snapshot-{name}.hex"));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << (at % 8);
            assert!(!is_signed(&wrong), "{name}, a bit of byte {at}");
        }
    }
}
