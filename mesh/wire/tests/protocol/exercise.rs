//! What must hold for any bytes at all: the body of the fuzz target `wire`, which takes this file as it is.

use detour_core::report::{ClusterKey, OPINIONS_MAX};
use detour_wire::snapshot::{SIGNATURE_LENGTH, SNAPSHOT_MAX, head, open, seal, signed_part};
use detour_wire::sync::{Answer, PULLED_MAX, PUSHED_MAX, Request};
use detour_wire::{DecodeError, hello};

/// Reads bytes as everything they could be. What is read is bounded, and means the same after it was written again.
pub(crate) fn exercise(bytes: &[u8]) {
    snapshot(bytes);
    if let Ok(value) = hello::decode_request(bytes) {
        let again = hello::encode_request(&value).unwrap();
        assert_eq!(hello::decode_request(&again), Ok(value));
    }
    if let Ok(value) = hello::decode_answer(bytes) {
        let again = hello::encode_answer(&value).unwrap();
        assert_eq!(hello::decode_answer(&again), Ok(value));
    }
    if let Ok(value) = Request::decode(bytes) {
        if let Request::Push(push) = &value {
            assert!(push.snapshots.len() <= PUSHED_MAX);
            push.snapshots.iter().for_each(|passed| snapshot(&passed.bytes));
        }
        let again = value.encode().unwrap();
        assert!(again.len() <= bytes.len(), "no more than came");
        assert_eq!(Request::decode(&again), Ok(value));
    }
    if let Ok(value) = Answer::decode(bytes) {
        if let Answer::Pull(answer) = &value {
            assert!(answer.snapshots.len() <= PULLED_MAX);
            answer.snapshots.iter().for_each(|passed| snapshot(&passed.bytes));
        }
        let again = value.encode().unwrap();
        assert!(again.len() <= bytes.len(), "no more than came");
        assert_eq!(Answer::decode(&again), Ok(value));
    }
}

/// Of whichever cluster the bytes say.
fn snapshot(bytes: &[u8]) {
    let cluster = bytes
        .get(17..25)
        .and_then(|key| key.try_into().ok())
        .map_or(ClusterKey([0; 8]), ClusterKey);
    let opened = match open(bytes, cluster) {
        Ok(opened) => opened,
        Err(error) => {
            assert_ne!(error, DecodeError::OtherCluster, "it is the one that it says");
            return;
        }
    };
    let head = head(bytes, cluster).unwrap();
    let value = &opened.snapshot;
    assert_eq!(
        (head.node, head.boot, head.edition),
        (value.node, value.boot, value.edition)
    );
    assert!(value.entries.len() + usize::from(opened.skipped) <= OPINIONS_MAX && value.period_s > 0);
    assert_eq!(
        bytes,
        seal(opened.signed.to_vec(), opened.signature),
        "nothing beside what is signed and its signature"
    );
    let again = seal(signed_part(value, cluster).unwrap(), [0; SIGNATURE_LENGTH]);
    assert!(again.len() <= bytes.len().min(SNAPSHOT_MAX));
    assert_eq!(&open(&again, cluster).unwrap().snapshot, value);
}
