//! A value as it lies on the disk: version, checksum, payload.
//!
//! The checksum covers the tree and the key too, so that a value under another key is as unreadable as a broken one.

use super::Tree;

/// Version and checksum.
const OVERHEAD_BYTES: usize = 5;

/// Why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Another version of this program wrote it.
    Version,
    /// It is not what was written.
    Checksum,
}

/// Puts a payload under seal.
#[must_use]
pub(super) fn seal(tree: Tree, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + payload.len());
    sealed.push(tree.version());
    sealed.extend_from_slice(&checksum(tree.version(), tree, key, payload).to_le_bytes());
    sealed.extend_from_slice(payload);
    sealed
}

/// The payload under a seal.
pub(super) fn unseal<'a>(tree: Tree, key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Unreadable> {
    let (version, rest) = sealed.split_first().ok_or(Unreadable::Checksum)?;
    let (sum, payload) = rest.split_first_chunk::<4>().ok_or(Unreadable::Checksum)?;
    if checksum(*version, tree, key, payload) != u32::from_le_bytes(*sum) {
        return Err(Unreadable::Checksum);
    }
    if *version == tree.version() {
        Ok(payload)
    } else {
        Err(Unreadable::Version)
    }
}

fn checksum(version: u8, tree: Tree, key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [&[version][..], tree.name().as_bytes(), key, payload] {
        // With its length, or a byte could move from one part to the next.
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: Tree = Tree::Latencies;

    #[test]
    fn a_payload_comes_back_and_every_flipped_bit_is_noticed() {
        let sealed = seal(TREE, b"key", b"payload");
        assert_eq!(unseal(TREE, b"key", &sealed), Ok(&b"payload"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut broken = sealed.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(TREE, b"key", &broken), Err(Unreadable::Checksum), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(unseal(TREE, b"key", &sealed[..length]), Err(Unreadable::Checksum));
        }
    }

    #[test]
    fn a_value_belongs_to_its_key() {
        assert_eq!(
            unseal(TREE, b"yek", &seal(TREE, b"key", b"payload")),
            Err(Unreadable::Checksum)
        );
        assert_eq!(
            unseal(TREE, b"keyp", &seal(TREE, b"key", b"payload")),
            Err(Unreadable::Checksum)
        );
    }

    #[test]
    fn a_sound_value_of_another_version_is_told_from_a_broken_one() {
        let mut other = vec![TREE.version() + 1];
        other.extend_from_slice(&checksum(TREE.version() + 1, TREE, b"key", b"x").to_le_bytes());
        other.extend_from_slice(b"x");
        assert_eq!(unseal(TREE, b"key", &other), Err(Unreadable::Version));
    }
}
