//! What must hold for any DNS stamp: the body of the fuzz target `stamp`, which takes this file as it is.
//!
//! The input is read twice: as a text, and as the octets that a text stands for, since hardly any change of a text in
//! base64 leaves it one.

use std::fmt::Write as _;

use detour_resolver::sdns::{BOOTSTRAP_MAX, HASHES_MAX, ParseStampError, Stamp};

/// Longest stamp that is read, characters.
const TEXT_MAX: usize = 2_048;
/// base64url (RFC 4648 section 5).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Reads bytes as a stamp.
pub(crate) fn exercise(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        read(text).ok();
    }
    let text = format!("sdns://{}", base64url(input));
    match read(&text) {
        Ok(stamp) => of_octets(&stamp, input),
        Err(error) => assert_ne!(error, ParseStampError::Base64, "{text}"),
    }
}

/// Reads a text; what is read can be written, and is the same then.
fn read(text: &str) -> Result<Stamp, ParseStampError> {
    let read = text.parse::<Stamp>();
    match &read {
        Ok(stamp) => sound(stamp),
        Err(error) => {
            let told = error.to_string();
            assert!(told.len() < 120 && !told.chars().any(char::is_control), "{told}");
        }
    }
    let is_long = text.len() > TEXT_MAX;
    assert_eq!(is_long, read == Err(ParseStampError::TooLong));
    read
}

/// Within its bounds, somewhere, and the same in another spelling.
fn sound(stamp: &Stamp) {
    assert!(stamp.hashes.len() <= HASHES_MAX && stamp.bootstrap.len() <= BOOTSTRAP_MAX);
    assert!(stamp.address.is_some() || !stamp.host.is_empty());
    assert!(stamp.port != Some(0));
    if !stamp.transport.is_encrypted() {
        assert!(stamp.hashes.is_empty() && stamp.bootstrap.is_empty());
        assert!(stamp.host.is_empty() && stamp.path.is_empty());
    }
    let text = stamp.to_text();
    let again: Stamp = text.parse().unwrap();
    assert_eq!((&again, again.to_text()), (stamp, text));
    url(stamp);
}

/// Its parts stand in the URL, in their order, and nothing beside them.
fn url(stamp: &Stamp) {
    let url = stamp.to_url();
    let (scheme, rest) = url.split_once("://").unwrap();
    assert!(["udp", "https", "tls", "quic"].contains(&scheme), "{url}");
    let mut parts = match stamp.address {
        Some(ip) if ip.is_ipv6() => format!("[{ip}]"),
        Some(ip) => ip.to_string(),
        None => stamp.host.clone(),
    };
    if let Some(port) = stamp.port {
        write!(parts, ":{port}").unwrap();
    }
    parts.push_str(&stamp.path);
    if stamp.address.is_some() && !stamp.host.is_empty() {
        write!(parts, "#{}", stamp.host).unwrap();
    }
    assert_eq!(rest, parts);
}

/// What was read stands in the octets.
fn of_octets(stamp: &Stamp, octets: &[u8]) {
    assert!(octets.len() >= 10, "a protocol, properties, an address' length");
    assert_eq!(stamp.properties.validates(), octets[1] & 1 != 0);
    assert_eq!(stamp.properties.filters_nothing(), octets[1] & 4 != 0);
    let holds = |part: &[u8]| part.is_empty() || octets.windows(part.len()).any(|window| window == part);
    assert!(stamp.hashes.iter().all(|hash| holds(&hash.0)));
    assert!(holds(stamp.host.as_bytes()) && holds(stamp.path.as_bytes()));
}

fn base64url(octets: &[u8]) -> String {
    let mut text = String::new();
    for three in octets.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(three.get(at).copied().unwrap_or_default())
        });
        for letter in 0..=three.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * letter) & 63]));
        }
    }
    text
}
