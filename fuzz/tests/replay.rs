//! The corpus, and the seeds as the code makes them today, through every target: no fuzzer needed.
//!
//! One test only: the targets measure what the whole process allocates.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::path::Path;

use veilcast_fuzz::seeds::seeds;
use veilcast_fuzz::{TARGETS, Target};

#[test]
fn no_input_of_the_corpus_breaks_a_decoder_and_each_has_some_that_are_taken_and_some_that_are_not() {
    for &(name, target) in TARGETS {
        let made = seeds().into_iter().filter(|seed| seed.target == name);
        let made: Vec<_> = made.map(|seed| (seed.name, seed.bytes)).collect();
        assert!(made.iter().any(|(_, bytes)| target(bytes)), "a decoder that takes nothing proves nothing: {name}");
        assert!(made.iter().any(|(_, bytes)| !target(bytes)), "nothing damaged among the seeds of {name}");
        replay(name, target);
    }
}

fn replay(name: &str, target: Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "no corpus for {name}");
    for file in files {
        // The name of the file at fault comes with the test's output.
        println!("{}", file.display());
        target(&std::fs::read(&file).unwrap());
    }
}
