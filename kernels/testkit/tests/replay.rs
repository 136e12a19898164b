//! Runs the fuzz targets without a fuzzer: over the committed corpus, and over seeded random inputs.

use gristmill_testkit::{
    Rng,
    fuzz::{TARGETS, Target},
};
use std::{
    panic::{UnwindSafe, catch_unwind},
    path::Path,
};

/// Random inputs for each target.
const RANDOM: u64 = 2000;

/// Runs a body; when it panics, says on which input.
fn run((name, body): Target, input: &str, data: impl AsRef<[u8]> + UnwindSafe) {
    let outcome = catch_unwind(move || body(data.as_ref()));
    assert!(outcome.is_ok(), "target {name} fails on {input}");
}

#[test]
fn the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.0);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            run(target, &file.display().to_string(), std::fs::read(&file).unwrap());
        }
    }
}

/// Inputs of random bytes and lengths; the body reads zeros after the end.
fn random_inputs_pass(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.0 == name).expect("a target has this name");
    for seed in 0..RANDOM {
        let mut rng = Rng::new(seed);
        let data: Vec<u8> = (0..rng.below(400)).map(|_| rng.bits() as u8).collect();
        run(target, &format!("the random input of seed {seed}"), data);
    }
}

#[test]
fn random_attention_passes() {
    random_inputs_pass("attention");
}

#[test]
fn random_cache_passes() {
    random_inputs_pass("cache");
}

#[test]
fn random_checkpoints_pass() {
    random_inputs_pass("checkpoint");
}

#[test]
fn random_gemm_passes() {
    random_inputs_pass("gemm");
}

#[test]
fn random_layernorm_passes() {
    random_inputs_pass("layernorm");
}

#[test]
fn random_rowwise_passes() {
    random_inputs_pass("rowwise");
}

#[test]
fn random_views_pass() {
    random_inputs_pass("views");
}
