//! The committed vectors, both ways: the values below are these bytes, and these bytes are the values.
//!
//! They were made by another program than this crate, from `docs/PROTOCOL.md`; whether the signatures are good is checked
//! in `mesh/`, which can.

use core::net::SocketAddr;
use std::sync::Arc;

use detour_core::health::state::State;
use detour_core::mesh::{DigestLine, Hello, Passed, Refusal, RejectedSnapshot};
use detour_core::outcome::Cause;
use detour_core::report::{BootId, Edition, Entry, NodeId, Snapshot};
use detour_core::topology::Transport;
use detour_wire::codes::{CAUSES, STATES};
use detour_wire::keys::{self, canonical_url};
use detour_wire::snapshot::{SIGNATURE_LENGTH, open, seal, signed_part};
use detour_wire::sync::{Answer, Pull, PullAnswer, Push, PushAnswer, Receipt, Request};
use detour_wire::{Refused, hello};

use crate::files;

/// The public keys of TEST 1 and TEST 2 of RFC 8032 section 7.1.
const NODES: [&str; 2] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
];
/// The first of January 2026.
const WALL_MS: u64 = 1_767_225_600_000;
const BOOT: BootId = BootId(0x0123_4567_89ab_cdef);

fn vector(name: &str) -> Vec<u8> {
    files::hex(&format!("vectors/{name}.hex"))
}

fn node(index: usize) -> NodeId {
    NodeId(files::bytes(NODES[index]).try_into().unwrap())
}

fn edition(sequence: u32) -> Edition {
    Edition {
        incarnation: WALL_MS,
        sequence,
    }
}

fn entry(url: &str, state: State, cause: Cause, ages: [Option<u32>; 3]) -> Entry {
    Entry {
        endpoint: keys::endpoint("office", url),
        state,
        cause,
        witnessed: false,
        stalled: false,
        first_failure_age_ms: ages[0],
        last_failure_age_ms: ages[1],
        last_success_age_ms: ages[2],
    }
}

fn down() -> Entry {
    let ages = [Some(1_850), Some(120), Some(61_000)];
    Entry {
        witnessed: true,
        ..entry("tls://9.9.9.10:853", State::Down, Cause::Timeout, ages)
    }
}

fn empty() -> Snapshot {
    Snapshot {
        node: node(0),
        boot: BOOT,
        edition: edition(0),
        issued_wall_ms: WALL_MS,
        period_s: 10,
        site: keys::site("office", "vienna"),
        uplink_suspect: false,
        leaving: false,
        entries: Vec::new(),
    }
}

fn two() -> Snapshot {
    let up = entry(
        "https://[2620:fe::10]:443/dns-query",
        State::Up,
        Cause::Answering,
        [None, None, Some(35)],
    );
    Snapshot {
        edition: edition(7),
        issued_wall_ms: WALL_MS + 65_000,
        entries: vec![down(), up],
        ..empty()
    }
}

fn full() -> Snapshot {
    // Those there were when the bytes were written down.
    let causes: Vec<_> = CAUSES.iter().filter(|(code, _)| *code <= 20 || *code == 255).collect();
    let entries = (0..32).map(|index| {
        let (state, cause) = (STATES[index % 5].1, causes[index % causes.len()].1);
        let number = u32::try_from(index).unwrap();
        let ages = [
            Some(number * 1_000),
            (index % 2 == 1).then_some(number * 100),
            (index % 3 != 0).then_some(u32::MAX - 1),
        ];
        let entry = entry(&format!("udp://192.0.2.{index}:53"), state, cause, ages);
        Entry {
            witnessed: index & 1 != 0,
            stalled: index & 2 != 0,
            ..entry
        }
    });
    Snapshot {
        node: node(1),
        boot: BootId(u64::MAX),
        edition: Edition {
            incarnation: (1 << 48) - 1,
            sequence: u32::MAX,
        },
        issued_wall_ms: (1 << 48) - 1,
        period_s: 255,
        uplink_suspect: true,
        leaving: true,
        entries: entries.collect(),
        ..empty()
    }
}

#[test]
fn snapshots_are_these_bytes() {
    for (name, value) in [
        ("snapshot-empty", empty()),
        ("snapshot-two", two()),
        ("snapshot-full", full()),
    ] {
        let bytes = vector(name);
        let opened = open(&bytes, keys::cluster("office")).unwrap();
        assert_eq!(opened.snapshot, value, "{name}");
        assert_eq!(
            opened.signed,
            signed_part(&value, keys::cluster("office")).unwrap(),
            "{name}"
        );
        assert_eq!(seal(opened.signed.to_vec(), opened.signature), bytes, "{name}");
    }
    assert_eq!(vector("snapshot-full").len(), 891);
}

#[test]
fn what_a_later_build_says_is_read_as_far_as_it_is_known() {
    let bytes = vector("snapshot-later");
    let opened = open(&bytes, keys::cluster("office")).unwrap();
    let suspect = entry(
        "https://[2620:fe::10]:443/dns-query",
        State::Suspect,
        Cause::Other,
        [Some(40), Some(40), None],
    );
    let value = Snapshot {
        node: node(1),
        edition: edition(8),
        period_s: 3,
        leaving: true,
        entries: vec![
            down(),
            Entry {
                stalled: true,
                ..suspect
            },
        ],
        ..empty()
    };
    assert_eq!(
        (&opened.snapshot, opened.skipped, opened.extension),
        (&value, 1, &b"\x07\x03new"[..])
    );
    assert_eq!(opened.signed.len() + SIGNATURE_LENGTH, bytes.len());
}

fn greeting() -> Hello {
    Hello {
        cluster: keys::cluster("office"),
        versions: (1, 1),
        boot: BOOT,
        wall_ms: WALL_MS,
        site: keys::site("office", "vienna"),
        port: 4_853,
        software: "detour/0.1.0".to_owned(),
        yours: None,
    }
}

#[test]
fn hellos_are_these_bytes() {
    assert_eq!(hello::encode_request(&greeting()).unwrap(), vector("hello"));
    assert_eq!(hello::decode_request(&vector("hello")), Ok(greeting()));
    let answer = hello::Answer::Hello(Hello {
        yours: Some((edition(7), BOOT)),
        ..greeting()
    });
    assert_eq!(hello::encode_answer(&answer).unwrap(), vector("hello-answer"));
    assert_eq!(hello::decode_answer(&vector("hello-answer")), Ok(answer));
    let later = Hello {
        versions: (1, 3),
        ..greeting()
    };
    assert_eq!(hello::decode_request(&vector("hello-later")), Ok(later));
}

#[test]
fn refusals_are_these_bytes() {
    let refused = Refused::new(Refusal::UnknownNode, "add this node to [mesh] peers");
    assert_eq!(refused.encode().unwrap(), vector("refused"));
    assert_eq!(
        hello::decode_answer(&vector("refused")),
        Ok(hello::Answer::Refused(refused.clone()))
    );
    assert_eq!(Answer::decode(&vector("refused")), Ok(Answer::Refused(refused)));
    let later = Answer::Refused(Refused::new(Refusal::Other, ""));
    assert_eq!(Answer::decode(&vector("refused-later")), Ok(later));
}

#[test]
fn a_refusals_text_is_cut_and_can_be_shown() {
    assert_eq!(Refused::new(Refusal::TooMuch, "a\u{1b}[2J\né").text, "a?[2J???");
    assert_eq!(Refused::new(Refusal::TooMuch, &"x".repeat(99)).text, "x".repeat(64));
}

#[test]
fn pulls_and_pushes_are_these_bytes() {
    let line = |index: usize, sequence| DigestLine {
        node: node(index).0[..8].try_into().unwrap(),
        edition: edition(sequence),
    };
    let passed = |name: &str, age_ms| Passed {
        bytes: Arc::from(vector(name)),
        age_ms,
    };
    let requests = [
        (
            "pull",
            Request::Pull(Pull {
                wall_ms: WALL_MS,
                digest: vec![line(0, 6), line(1, 8)],
            }),
        ),
        (
            "push",
            Request::Push(Push {
                wall_ms: WALL_MS + 66_000,
                snapshots: vec![passed("snapshot-two", 0), passed("snapshot-later", 66_000)],
            }),
        ),
    ];
    for (name, value) in requests {
        assert_eq!(value.encode().unwrap(), vector(name));
        assert_eq!(Request::decode(&vector(name)), Ok(value));
    }
    let receipts = vec![Receipt::Newest, Receipt::Rejected(RejectedSnapshot::Older)];
    let answers = [
        (
            "pull-answer",
            Answer::Pull(PullAnswer {
                wall_ms: WALL_MS + 66_000,
                snapshots: vec![passed("snapshot-two", 1_000)],
            }),
        ),
        (
            "push-answer",
            Answer::Push(PushAnswer {
                wall_ms: WALL_MS + 66_000,
                receipts,
            }),
        ),
    ];
    for (name, value) in answers {
        assert_eq!(value.encode().unwrap(), vector(name));
        assert_eq!(Answer::decode(&vector(name)), Ok(value));
    }
}

#[test]
fn names_are_these_keys() {
    let mut count = 0;
    for line in files::text("vectors/keys.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let parts: Vec<_> = line.split('"').collect();
        let (key, found): (_, Vec<u8>) = match parts[..] {
            ["cluster ", name, key] => (key, keys::cluster(name).0.into()),
            ["site ", cluster, _, name, key] => (key, keys::site(cluster, name).0.into()),
            ["endpoint ", cluster, _, url, key] => (key, keys::endpoint(cluster, url).0.into()),
            ["message ", name, key] => (key, keys::message_id(&vector(name)).into()),
            _ => panic!("{line}"),
        };
        assert_eq!(found, files::bytes(key), "{line}");
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn an_endpoint_has_one_url() {
    for (transport, address, path, url) in [
        (Transport::Udp, "9.9.9.10:53", "", "udp://9.9.9.10:53"),
        (Transport::Tcp, "9.9.9.10:53", "/ignored", "tcp://9.9.9.10:53"),
        (Transport::Tls, "[2620:00FE::0010]:853", "", "tls://[2620:fe::10]:853"),
        (
            Transport::Https,
            "9.9.9.10:443",
            "/dns-query",
            "https://9.9.9.10:443/dns-query",
        ),
        (
            Transport::Https,
            "[2001:db8:0:0:1:0:0:1]:8443",
            "/Q",
            "https://[2001:db8::1:0:0:1]:8443/Q",
        ),
        (Transport::Quic, "9.9.9.10:853", "/ignored", "quic://9.9.9.10:853"),
        (
            Transport::H3,
            "[2001:DB8::1]:443",
            "/dns-query",
            "h3://[2001:db8::1]:443/dns-query",
        ),
        (Transport::Udp, "[fe80::1%3]:53", "", "udp://[fe80::1]:53"),
        (
            Transport::Udp,
            "[::ffff:192.0.2.1]:53",
            "",
            "udp://[::ffff:192.0.2.1]:53",
        ),
        (
            Transport::Udp,
            "[2001:db8:0:1:1:1:1:1]:53",
            "",
            "udp://[2001:db8:0:1:1:1:1:1]:53",
        ),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(canonical_url(transport, address, path), url);
    }
}
