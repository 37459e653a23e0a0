//! Stamps of the real world, of every kind, and of those who mean harm.

use proptest::prelude::*;

use super::*;

/// A stamp as its URL, with how many hashes.
fn read(text: &str) -> (String, usize) {
    let stamp: Stamp = text.parse().unwrap();
    (stamp.to_url(), stamp.hashes.len())
}

#[test]
fn stamps_of_public_resolvers_are_read() {
    // Cloudflare over DoH, as its stamp is published.
    let cloudflare = "sdns://AgcAAAAAAAAABzEuMC4wLjEAEmRucy5jbG91ZGZsYXJlLmNvbQovZG5zLXF1ZXJ5";
    assert_eq!(
        read(cloudflare),
        ("https://1.0.0.1/dns-query#dns.cloudflare.com".to_owned(), 0)
    );
    let stamp: Stamp = cloudflare.parse().unwrap();
    assert!(stamp.properties.validates() && stamp.properties.filters_nothing());
    assert_eq!(stamp.to_text(), cloudflare);
    // Plain.
    assert_eq!(read("sdns://AAcAAAAAAAAABzguOC44Ljg"), ("udp://8.8.8.8".to_owned(), 0));
    assert_eq!(read("AAcAAAAAAAAABzguOC44Ljg").0, "udp://8.8.8.8");
}

/// Parts of a stamp with nothing in it.
fn stamp(transport: Transport) -> Stamp {
    Stamp {
        transport,
        properties: Properties(5),
        address: None,
        port: None,
        hashes: Vec::new(),
        host: "dns.example".to_owned(),
        path: String::new(),
        bootstrap: Vec::new(),
    }
}

#[test]
fn every_part_survives_the_round_trip() {
    let hash = |octet| CertificateHash([octet; 32]);
    let full = Stamp {
        address: Some("2620:fe::9".parse().unwrap()),
        port: Some(8443),
        hashes: vec![hash(1), hash(2)],
        path: "/q".to_owned(),
        bootstrap: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ..stamp(Transport::Https)
    };
    for (stamp, url) in [
        (full, "https://[2620:fe::9]:8443/q#dns.example"),
        (stamp(Transport::Tls), "tls://dns.example"),
        (
            Stamp {
                port: Some(8853),
                hashes: vec![hash(7)],
                ..stamp(Transport::Quic)
            },
            "quic://dns.example:8853",
        ),
        (
            Stamp {
                address: Some("192.0.2.7".parse().unwrap()),
                host: String::new(),
                ..stamp(Transport::Tls)
            },
            "tls://192.0.2.7",
        ),
    ] {
        let text = stamp.to_text();
        assert_eq!(text.parse(), Ok(stamp), "{text}");
        assert_eq!(read(&text).0, url);
    }
}

/// A stamp of these octets.
fn of(octets: &[u8]) -> Result<Stamp, ParseStampError> {
    format!("sdns://{}", encode(octets)).parse()
}

/// Octets of a DoT stamp: address, then what follows.
fn dot(address: &str, rest: &[u8]) -> Vec<u8> {
    let mut octets = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
    push_fields(&mut octets, &[address.as_bytes()]);
    octets.extend_from_slice(rest);
    octets
}

#[test]
fn what_is_wrong_with_a_stamp_is_said() {
    assert_eq!("sdns://AA==".parse::<Stamp>(), Err(ParseStampError::Base64));
    assert_eq!("sdns://A".parse::<Stamp>(), Err(ParseStampError::Base64));
    assert_eq!("sdns://AB".parse::<Stamp>(), Err(ParseStampError::Base64));
    assert_eq!("sdns://".parse::<Stamp>(), Err(ParseStampError::Short));
    assert_eq!("A".repeat(3_000).parse::<Stamp>(), Err(ParseStampError::TooLong));
    for (protocol, error) in [
        (1, ParseStampError::Protocol("DNSCrypt")),
        (5, ParseStampError::Protocol("oblivious DoH")),
        (0x81, ParseStampError::Protocol("a relay of anonymized DNSCrypt")),
        (0x85, ParseStampError::Protocol("a relay of oblivious DoH")),
        (0x77, ParseStampError::UnknownProtocol(0x77)),
    ] {
        assert_eq!(of(&[protocol, 0, 0]), Err(error));
    }
    let name = [0, 1, b'a'];
    for (octets, error) in [
        (dot("dns.example", &name), ParseStampError::Address),
        (dot("[192.0.2.1]", &name), ParseStampError::Address),
        (dot("192.0.2.1:0", &name), ParseStampError::Port),
        (dot("192.0.2.1:+1", &name), ParseStampError::Port),
        (dot("[::1]1", &name), ParseStampError::Port),
        (dot(":1", &[0, 3, b'a', b':', b'2']), ParseStampError::TwoPorts),
        (dot(":1", &[0, 0]), ParseStampError::Nowhere),
        (dot("", &[1, 9, 1, b'a']), ParseStampError::Hash(1)),
        (dot("", &[0x80, 0x80, 33]), ParseStampError::Short),
        (dot("", &[0, 1, 0xff]), ParseStampError::Text),
        (dot("", &[0, 1, b'a', 1, b'b']), ParseStampError::Bootstrap),
        (dot("", &[0, 1, b'a', 0, 7]), ParseStampError::Long(1)),
        (dot("", &[0, 9, b'a']), ParseStampError::Short),
    ] {
        assert_eq!(of(&octets), Err(error), "{octets:?}");
    }
    // A plain one has nothing behind its address.
    let mut plain = dot("192.0.2.1", &[0]);
    plain[0] = 0;
    assert_eq!(of(&plain), Err(ParseStampError::Long(1)));
    let hashes = Stamp {
        hashes: vec![CertificateHash([1; 32]); HASHES_MAX + 1],
        ..stamp(Transport::Tls)
    };
    assert_eq!(hashes.to_text().parse::<Stamp>(), Err(ParseStampError::Hashes));
    let resolvers = Stamp {
        bootstrap: vec![IpAddr::V4(Ipv4Addr::LOCALHOST); BOOTSTRAP_MAX + 1],
        ..stamp(Transport::Tls)
    };
    assert_eq!(resolvers.to_text().parse::<Stamp>(), Err(ParseStampError::Bootstraps));
}

#[test]
fn a_stamp_that_ends_too_soon_is_none() {
    let whole = dot("192.0.2.1", &[0, 3, b'a', b'.', b'b']);
    assert!(of(&whole).is_ok());
    for length in 0..whole.len() {
        assert_eq!(of(&whole[..length]), Err(ParseStampError::Short), "{length}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_written_alike(octets in prop::collection::vec(any::<u8>(), 0..120), kind in 0_u8..5) {
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = kind;
        }
        if let Ok(stamp) = of(&octets) {
            prop_assert_eq!(stamp.to_text().parse::<Stamp>(), Ok(stamp));
        }
    }

    #[test]
    fn no_text_is_too_odd(text in "(sdns://)?\\PC{0,80}") {
        let _read = text.parse::<Stamp>();
    }
}
