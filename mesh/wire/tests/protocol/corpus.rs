//! What the fuzzer found worth keeping, and every vector, through the body of the fuzz target.

use crate::exercise::exercise;
use crate::files;

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    for path in files::below("../../tests/fuzz/corpus/wire") {
        exercise(&files::raw(&path));
    }
}

#[test]
fn every_vector_holds() {
    for folder in ["vectors", "vectors/invalid"] {
        for path in files::below(folder)
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "hex"))
        {
            exercise(&files::hex(path.to_str().unwrap()));
        }
    }
}
