//! Peer ids as text: what `detour id` prints, the configuration lists and the API shows.
//!
//! A node's key as libp2p writes it: 52 characters that begin with `12D3KooW`. The mesh knows the notation.

use detour_core::report::NodeId;
use detour_mesh::PeerAddress;

pub(crate) use detour_mesh::name_of as text;

/// Why a text is no peer id of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no peer id of a node: `detour id` prints it there, 52 characters that begin with 12D3KooW")]
pub(crate) struct PeerIdError;

/// The key of such a text.
///
/// # Errors
/// When it is none, or one of another kind of key.
pub(crate) fn parse(text: &str) -> Result<NodeId, PeerIdError> {
    // Whatever the address: the mesh reads ids in addresses only.
    let address = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{text}");
    let address: PeerAddress = address.parse().map_err(|_other_kind| PeerIdError)?;
    // One key has several notations; one of them is a node's name.
    Some(address.node())
        .filter(|node| self::text(*node) == text)
        .ok_or(PeerIdError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_is_written_as_libp2p_writes_it() {
        // The Ed25519 test vector of libp2p specs, peer-ids.
        let vector = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
        let node = parse("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq").unwrap();
        let digits: String = node.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, vector);
        assert_eq!(text(node), "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
    }

    #[test]
    fn anything_else_is_no_peer_id() {
        let good = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq";
        for text in [
            "",
            "1",
            good.trim_start_matches('1'),
            &format!("{good}1"),
            &format!("1{good}"),
            &good.replace("12D3KooW", "12D3KoOW"),
            &format!("{good}/p2p-circuit"),
            &format!("{good}/p2p/{good}"),
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            "bafzaajaiaejcaxxx",
            &"z".repeat(9_000),
            "12D3KooW\u{e9}",
        ] {
            assert_eq!(parse(text), Err(PeerIdError), "{text}");
        }
    }
}
