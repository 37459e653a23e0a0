//! Each kind of malformed input is turned down with its own error: one file each in `vectors/invalid`.

use detour_core::mesh::Refusal;
use detour_wire::sync::{Answer, Request};
use detour_wire::{DecodeError, hello, keys, snapshot};

use crate::files;

/// The error of a file, by the decoder that it names.
fn error(decoder: &str, bytes: &[u8]) -> Option<DecodeError> {
    match decoder {
        "snapshot" => snapshot::open(bytes, keys::cluster("office")).err(),
        "hello" => hello::decode_request(bytes).err(),
        "hello-answer" => hello::decode_answer(bytes).err(),
        "request" => Request::decode(bytes).err(),
        "answer" => Answer::decode(bytes).err(),
        other => panic!("no decoder {other}"),
    }
}

#[test]
fn each_kind_of_malformed_input_has_its_error() {
    let mut objections = Vec::new();
    for path in files::below("vectors/invalid") {
        let path = path.to_str().unwrap();
        let text = files::text(path);
        let word = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let found = error(word("# decoder: "), &files::hex(path));
        let found = found.map_or_else(|| "none".to_owned(), |error| error.to_string());
        if found != word("# error: ") {
            objections.push(format!("{path}: {found}"));
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn every_error_has_its_file() {
    let of_layouts = [
        DecodeError::TooLong {
            length: 1_000,
            max: 999,
        },
        DecodeError::TooLong { length: 513, max: 512 },
        DecodeError::TooShort,
        DecodeError::Trailing(1),
        DecodeError::NotASnapshot,
        DecodeError::Version(2),
        DecodeError::Kind(2),
        DecodeError::OtherCluster,
        DecodeError::Period,
        DecodeError::EntryCount(33),
        DecodeError::EntryLength(22),
        DecodeError::EntryTwice,
        DecodeError::Versions(3, 2),
        DecodeError::TextLength(33),
        DecodeError::Text,
        DecodeError::DigestLength(513),
        DecodeError::SnapshotCount(17),
        DecodeError::SnapshotLength(0),
    ];
    let paths = files::below("vectors/invalid");
    let files: Vec<_> = paths.iter().map(|path| files::text(path.to_str().unwrap())).collect();
    for error in of_layouts {
        let line = format!("# error: {error}\n");
        assert!(files.iter().any(|text| text.contains(&line)), "{error}");
    }
}

#[test]
fn too_long_is_not_looked_at() {
    let long = vec![0; 200_000];
    let decoders = ["snapshot", "hello", "hello-answer", "request", "answer"];
    for (decoder, max) in decoders.into_iter().zip([999, 512, 512, 16_384, 131_072]) {
        let expected = DecodeError::TooLong { length: 200_000, max };
        assert_eq!(error(decoder, &long), Some(expected), "{decoder}");
    }
}

#[test]
fn whoever_asks_for_too_new_a_thing_is_not_to_blame() {
    for (error, later, refusal) in [
        (DecodeError::Version(2), true, Refusal::Unsupported),
        (DecodeError::Kind(9), true, Refusal::Unsupported),
        (DecodeError::OtherCluster, false, Refusal::OtherCluster),
        (DecodeError::Trailing(1), false, Refusal::Malformed),
    ] {
        assert_eq!((error.is_later_version(), error.refusal()), (later, refusal), "{error}");
    }
}
