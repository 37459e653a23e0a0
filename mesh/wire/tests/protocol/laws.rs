//! What holds for every value and for every sequence of bytes.

use detour_core::report::OPINIONS_MAX;
use detour_wire::snapshot::{self, ENTRY_LENGTH, MAGIC, SIGNATURE_LENGTH, SNAPSHOT_MAX};
use detour_wire::sync::{ANSWER_MAX, Answer, REQUEST_MAX, Request};
use detour_wire::{DecodeError, VERSION, hello};
use proptest::prelude::*;

use crate::exercise::exercise;
use crate::values::{self, CLUSTER};

/// A sealed snapshot of this value.
fn sealed(value: &detour_core::report::Snapshot) -> Vec<u8> {
    snapshot::seal(snapshot::signed_part(value, CLUSTER).unwrap(), [7; SIGNATURE_LENGTH])
}

proptest! {
    #[test]
    fn a_snapshot_comes_back_as_it_went(value in values::snapshot()) {
        let bytes = sealed(&value);
        prop_assert!(bytes.len() <= SNAPSHOT_MAX);
        let opened = snapshot::open(&bytes, CLUSTER).unwrap();
        prop_assert_eq!(&opened.snapshot, &value);
        prop_assert_eq!(opened.signed, &bytes[..bytes.len() - SIGNATURE_LENGTH]);
        prop_assert_eq!(opened.signature, [7; SIGNATURE_LENGTH]);
        prop_assert_eq!((opened.skipped, opened.extension), (0, &[][..]));
        let head = snapshot::head(&bytes, CLUSTER).unwrap();
        prop_assert_eq!((head.node, head.boot, head.edition), (value.node, value.boot, value.edition));
    }

    #[test]
    fn a_hello_comes_back_as_it_went(value in values::hello()) {
        let bytes = hello::encode_request(&value).unwrap();
        prop_assert!(bytes.len() <= hello::HELLO_MAX);
        prop_assert_eq!(hello::decode_request(&bytes).unwrap(), value);
    }

    #[test]
    fn an_answer_to_hello_comes_back_as_it_went(value in values::hello_answer()) {
        let bytes = hello::encode_answer(&value).unwrap();
        prop_assert!(bytes.len() <= hello::HELLO_MAX);
        prop_assert_eq!(hello::decode_answer(&bytes).unwrap(), value);
    }

    #[test]
    fn a_request_comes_back_as_it_went(value in values::request()) {
        let bytes = value.encode().unwrap();
        prop_assert!(bytes.len() <= REQUEST_MAX);
        prop_assert_eq!(Request::decode(&bytes).unwrap(), value);
    }

    #[test]
    fn an_answer_comes_back_as_it_went(value in values::answer()) {
        let bytes = value.encode().unwrap();
        prop_assert!(bytes.len() <= ANSWER_MAX);
        prop_assert_eq!(Answer::decode(&bytes).unwrap(), value);
    }

    #[test]
    fn a_snapshot_that_is_cut_or_longer_is_none(value in values::snapshot(), more in 1_usize..80) {
        let bytes = sealed(&value);
        for length in 0..bytes.len() {
            prop_assert!(snapshot::open(&bytes[..length], CLUSTER).is_err(), "{length} of {}", bytes.len());
        }
        let mut longer = bytes.clone();
        longer.extend(std::iter::repeat_n(0, more));
        let error = snapshot::open(&longer, CLUSTER).unwrap_err();
        let too_long = DecodeError::TooLong { length: longer.len(), max: SNAPSHOT_MAX };
        prop_assert!(error == DecodeError::Trailing(more) || error == too_long, "{error}");
    }

    #[test]
    fn one_wrong_byte_is_an_error_or_bounded_and_never_hidden_from_the_signature(
        value in values::snapshot(),
        bit in 0_u8..8,
    ) {
        let bytes = sealed(&value);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(opened) = snapshot::open(&wrong, CLUSTER) {
                prop_assert!(opened.snapshot.entries.len() <= OPINIONS_MAX && opened.snapshot.period_s > 0);
                prop_assert!(wrong.starts_with(opened.signed) && opened.signed.len() + SIGNATURE_LENGTH == wrong.len());
            }
        }
    }

    #[test]
    fn messages_that_are_cut_or_longer_are_none(request in values::request(), answer in values::hello_answer()) {
        let bytes = request.encode().unwrap();
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
            prop_assert!(Request::decode(&bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(Request::decode(&longer).unwrap_err(), DecodeError::Trailing(1));
        let bytes = hello::encode_answer(&answer).unwrap();
        for length in 0..bytes.len() {
            prop_assert!(hello::decode_answer(&bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(hello::decode_answer(&longer).unwrap_err(), DecodeError::Trailing(1));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_200), kind in 0_u8..9) {
        let head = [&MAGIC[..], &[VERSION]].concat();
        exercise(&bytes);
        exercise(&[&head[..], &bytes].concat());
        exercise(&[&[VERSION, kind], &bytes[..]].concat());
    }
}

#[test]
fn a_full_snapshot_is_under_a_thousand_bytes() {
    let fixed = 16 + 1 + 8 + 32 + 8 + 6 + 4 + 6 + 1 + 1 + 4 + 1 + 1 + 2 + SIGNATURE_LENGTH;
    let full = fixed + OPINIONS_MAX * usize::from(ENTRY_LENGTH);
    assert_eq!((fixed, full), (155, 891));
    assert!(full <= SNAPSHOT_MAX);
}
