//! What the fuzzers have found worth keeping, replayed: a corpus in `fuzz/corpus`, and every script
//! that it began with.

use std::fs;
use std::path::Path;

use rustory_sim::fuzz;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let files = fs::read_dir(dir.join(target)).unwrap();
    let inputs: Vec<Vec<u8>> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty());
    inputs
}

#[test]
fn the_frames_that_fuzzing_found_do_no_harm() {
    for input in corpus("frames") {
        fuzz::frames(&input);
    }
}

#[test]
fn the_sessions_that_fuzzing_found_do_no_harm() {
    for input in corpus("session") {
        fuzz::session(&input);
    }
}

#[test]
fn the_scripts_that_fuzzing_begins_with_do_no_harm() {
    for script in fuzz::seeds() {
        fuzz::session(&script);
    }
}
