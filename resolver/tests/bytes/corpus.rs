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
