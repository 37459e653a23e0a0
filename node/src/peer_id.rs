//! Peer ids as text: what `detour id` prints, the configuration lists and the API shows.
//!
//! A node's key in libp2p's notation (libp2p specs, peer-ids): the multihash "identity" of the protobuf message that
//! holds an Ed25519 public key, in base58 of Bitcoin's alphabet. Always 52 characters that begin with `12D3KooW`.

use detour_core::report::NodeId;

/// Multihash "identity" of 36 bytes; key type Ed25519; 32 bytes of key.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Bytes of a peer id.
const BYTES: usize = 38;
/// No zero, no upper-case O and I, no lower-case l.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Longest text that is looked at; one more than any peer id of this kind has.
const CHARS_MAX: usize = 53;

/// Why a text is no peer id of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no peer id of a node: `detour id` prints it there, 52 characters that begin with 12D3KooW")]
pub(crate) struct PeerIdError;

/// The text of a node's key.
#[must_use]
pub(crate) fn text(node: NodeId) -> String {
    let bytes = PREFIX.iter().chain(&node.0);
    // Digits of base 58, lowest first.
    let mut digits: Vec<u8> = Vec::with_capacity(CHARS_MAX);
    let mut zeros = 0_usize;
    for byte in bytes {
        if digits.is_empty() && *byte == 0 {
            zeros = zeros.saturating_add(1);
            continue;
        }
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry = carry.saturating_add(u32::from(*digit) << 8);
            *digit = low_byte(carry % 58);
            carry /= 58;
        }
        while carry > 0 {
            digits.push(low_byte(carry % 58));
            carry /= 58;
        }
    }
    digits.resize(digits.len().saturating_add(zeros), 0);
    let character = |digit: &u8| ALPHABET.get(usize::from(*digit)).map_or('?', |byte| char::from(*byte));
    digits.iter().rev().map(character).collect()
}

/// The key of such a text.
///
/// # Errors
/// When it is none, or one of another kind of key.
pub(crate) fn parse(text: &str) -> Result<NodeId, PeerIdError> {
    if text.len() >= CHARS_MAX {
        return Err(PeerIdError);
    }
    let mut bytes = [0_u8; BYTES];
    for character in text.bytes() {
        let digit = ALPHABET
            .iter()
            .position(|known| *known == character)
            .ok_or(PeerIdError)?;
        let mut carry = u32::try_from(digit).map_err(|_never| PeerIdError)?;
        for byte in bytes.iter_mut().rev() {
            carry = carry.saturating_add(u32::from(*byte).saturating_mul(58));
            *byte = low_byte(carry & 0xff);
            carry >>= 8;
        }
        if carry > 0 {
            return Err(PeerIdError);
        }
    }
    let key = bytes
        .strip_prefix(&PREFIX)
        .and_then(|key| key.try_into().ok())
        .map(NodeId);
    // The first byte is zero and stands for itself: a text without it would mean the same number.
    key.filter(|key| self::text(*key) == text).ok_or(PeerIdError)
}

/// Of a number below 256.
fn low_byte(number: u32) -> u8 {
    number.to_le_bytes().first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_is_written_as_libp2p_writes_it() {
        // The Ed25519 test vector of libp2p specs, peer-ids.
        let vector = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
        let digits: Vec<char> = vector.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        let key: Vec<u8> = digits.chunks(2).map(byte).collect();
        let key: [u8; 32] = key.try_into().unwrap();
        assert_eq!(
            text(NodeId(key)),
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
        );
        assert_eq!(
            text(NodeId([255; 32])),
            "12D3KooWT3gYEvLJyx1FyyHqrmvdy1tMjpgxmu9aSeKMEuafQtyC"
        );
        for seed in 0..=255_u8 {
            let mut key = [seed; 32];
            key[31] = seed.wrapping_mul(37);
            let text = text(NodeId(key));
            assert!(text.starts_with("12D3KooW") && text.len() == 52, "{text}");
            assert_eq!(parse(&text), Ok(NodeId(key)));
        }
    }

    #[test]
    fn anything_else_is_no_peer_id() {
        let good = text(NodeId([7; 32]));
        let short = good.trim_start_matches('1');
        let long = format!("{good}1");
        let wrong = good.replace("12D3KooW", "12D3KoOW");
        for text in [
            "",
            "1",
            short,
            &long,
            &wrong,
            &format!("1{good}"),
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            "bafzaajaiaejcaxxx",
            &"z".repeat(52),
            &"z".repeat(9_000),
            "12D3KooW\u{e9}",
        ] {
            assert_eq!(parse(text), Err(PeerIdError), "{text}");
        }
    }
}
