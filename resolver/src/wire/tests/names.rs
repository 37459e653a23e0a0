//! Names: what is followed, what is refused, and what belongs to whom.

use super::super::name::{NameBuf, fingerprint, read_name_folded, skip_name, skip_plain_name};
use super::wire;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// Twelve octets of header, then `body`.
fn message(body: &[u8]) -> Vec<u8> {
    let mut msg = vec![0; 12];
    msg.extend(body);
    msg
}

#[test]
fn names_are_followed_backwards_only() {
    let mut found = NameBuf::root();
    for (what, body, at, end, text) in [
        ("plain", &b"\x03WwW\x01t\0"[..], 12, Some(19), "www.t."),
        ("root", b"\0", 12, Some(13), "."),
        ("pointer", b"\x01t\0\x01a\xC0\x0C", 15, Some(19), "a.t."),
        (
            "pointer to pointer",
            b"\x01t\0\x01a\xC0\x0C\x01b\xC0\x0F",
            19,
            Some(23),
            "b.a.t.",
        ),
        ("pointer to root", b"\0\xC0\x0C", 13, Some(15), "."),
        ("pointer to itself", b"\xC0\x0C", 12, None, "."),
        ("loop of two", b"\xC0\x0E\xC0\x0C", 14, None, "."),
        ("forward pointer", b"\xC0\x0E\x01t\0", 12, None, "."),
        ("into own labels", b"\x01a\x01b\xC0\x0E", 12, None, "."),
        ("to own start", b"\x01a\xC0\x0C", 12, None, "."),
        ("into a label", b"\x02\x01a\x01b\0\x01t\xC0\x0D", 18, Some(22), "t.a.b."),
        ("across own start", b"\x02\x01a\x04\x01t\xC0\x0F\0", 16, None, "."),
        ("into the header", b"\x01a\xC0\x02", 12, None, "."),
        ("label type 01", b"\x41a\0", 12, None, "."),
        ("label type 10", b"\x81a\0", 12, None, "."),
        ("label past the end", b"\x05abc", 12, None, "."),
        ("no root", b"\x01a", 12, None, "."),
        ("half a pointer", b"\x01a\xC0", 12, None, "."),
        ("past the message", b"", 12, None, "."),
    ] {
        let msg = message(body);
        assert_eq!(read_name_folded(&msg, at, &mut found), end, "{what}");
        assert_eq!(skip_name(&msg, at), end, "{what}");
        assert_eq!(found.to_string(), text, "{what}");
    }
    assert_eq!(skip_name(&[], usize::MAX), None);
    assert_eq!(skip_plain_name(&message(b"\x01t\0\xC0\x0C"), 15), None);
}

#[test]
fn length_counts_decoded_octets() {
    // 127 labels of one octet and the root: 255.
    let longest = wire(&"a.".repeat(127));
    assert_eq!(longest.len(), 255);
    assert!(NameBuf::from_wire(&longest).is_some());
    assert!(NameBuf::from_wire(&wire(&"a.".repeat(128))).is_none());
    let label_63 = "b".repeat(63);
    assert!(NameBuf::from_wire(&wire(&label_63)).is_some());
    // One label more, through a pointer.
    let mut msg = message(&longest);
    msg.extend(b"\x01c\xC0\x0C\xC0\x0C");
    assert_eq!(skip_name(&msg, 12 + 255), None);
    assert_eq!(skip_name(&msg, 12 + 255 + 4), Some(12 + 255 + 6));
}

#[test]
fn hops_are_bounded() {
    // Each hop is a pointer to the pointer before it: no labels, strictly backwards.
    let mut body = vec![0];
    for hop in 0..200_usize {
        let target = if hop == 0 { 12 } else { 13 + 2 * (hop - 1) };
        body.extend((0xC000 | u16::try_from(target).unwrap()).to_be_bytes());
    }
    let msg = message(&body);
    assert!(skip_name(&msg, 13 + 2 * 127).is_some());
    assert!(skip_name(&msg, 13 + 2 * 128).is_none());
}

#[test]
fn a_name_knows_its_labels_and_zones() {
    let www = name("www.Example.co.uk");
    let labels: Vec<&[u8]> = www.labels().collect();
    assert_eq!(labels, [&b"www"[..], b"example", b"co", b"uk"]);
    assert_eq!(www.suffixes().count(), 5);
    assert_eq!(name(".").suffixes().count(), 1);
    assert_eq!(name(".").labels().count(), 0);
    assert_eq!(NameBuf::from_wire(b"\x01a\0x"), None);
    assert_eq!(NameBuf::from_wire(b""), None);
    assert_eq!(NameBuf::from_wire(b"\x01A\0"), Some(name("a")));
}

#[test]
fn registrable_domains_follow_the_public_suffix_list() {
    for (full, registrable) in [
        ("www.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("com", "com"),
        (".", "."),
        ("x.y.unlisted", "y.unlisted"),
        ("a.user.github.io", "user.github.io"),
        (r"a.b\.com", r"a.b\.com"),
        (r"w.a\.b.com", r"a\.b.com"),
    ] {
        let full = name(full);
        assert_eq!(full.registrable(), name(registrable).as_wire(), "{full}");
    }
    let longest = name(&"a.".repeat(127));
    assert_eq!(longest.registrable(), b"\x01a\x01a\0");
}

#[test]
fn fingerprints_are_stable_and_ignore_case() {
    assert_eq!(name("Example.COM").fingerprint(), name("example.com").fingerprint());
    assert_ne!(name("example.com").fingerprint(), name("example.org").fingerprint());
    assert_ne!(name("a").fingerprint_seeded(1), name("a").fingerprint_seeded(2));
    assert_eq!(
        fingerprint(b"\x07example\x03com\0", 0),
        name("example.com").fingerprint()
    );
    // Written down: shards of nodes of different versions must agree.
    assert_eq!(name("example.com").fingerprint(), 1_269_434_919_462_225_879);
}
