//! What the fuzzer found worth keeping, through the bodies of its targets.

use std::fs;
use std::path::Path;

use crate::{accept, frames, patch, query, stamp};

/// Calls `body` with each file of a target's corpus, of which there is at least one.
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        body(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn the_corpus_of_client_messages_holds() {
    replay("query", query::exercise);
}

#[test]
fn the_corpus_of_answers_holds() {
    replay("accept", accept::exercise);
}

#[test]
fn the_corpus_of_framed_streams_holds() {
    replay("frames", frames::exercise);
}

#[test]
fn the_corpus_of_patched_answers_holds() {
    replay("patch", patch::exercise);
}

#[test]
fn the_corpus_of_stamps_holds() {
    replay("stamp", stamp::exercise);
}

proptest::proptest! {
    #[test]
    fn any_frames_in_any_pieces_are_read_as_they_are(
        pieces: u8,
        messages in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..700), 0..12),
        cut in 0_usize..8,
    ) {
        let mut bytes = vec![pieces];
        for message in messages {
            bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&message);
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        frames::exercise(&bytes);
    }
}
