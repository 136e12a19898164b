//! A real trained model: greedy outputs and logits as its original implementation gives them.

use gristmill_model::{Checkpoint, GenerateOptions, Precision, SessionOptions, Tokenizer, Transformer};
use gristmill_testkit::compare::bits;
use gristmill_testkit::golden::Tensors;
use gristmill_testkit::sweep;
use std::io::Write;
use std::path::PathBuf;

#[derive(serde::Deserialize)]
struct Case {
    src: Vec<u32>,
    tgt: Vec<u32>,
}

/// The folder beside the repository with material that is too big for it, if it is there.
fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let folder = std::env::var_os("GRISTMILL_SHARED").map_or_else(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// The model's folder; says on stderr, past the test harness, whether the test runs.
fn folder(test: &str) -> Option<PathBuf> {
    let folder = shared().map(|shared| shared.join("models/annalog")).filter(|folder| folder.is_dir());
    let message = match &folder {
        Some(folder) => format!("{test}: runs with {}\n", folder.display()),
        None => format!("{test}: NOT RUN: no models/annalog in GRISTMILL_SHARED, nor in ../shared\n"),
    };
    std::io::stderr().write_all(message.as_bytes()).unwrap();
    folder
}

fn cases(folder: &std::path::Path) -> Vec<Case> {
    let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn all_greedy_outputs_are_reproduced_at_every_level() {
    let Some(folder) = folder("annalog, greedy") else { return };
    let (model, cases) = (Transformer::load(&folder, Precision::F32).unwrap(), cases(&folder));
    assert_eq!(cases.len(), 52);
    let sources: Vec<_> = cases.iter().map(|case| &case.src[..]).collect();
    sweep::levels_and_threads(|level, threads| {
        let mut session = model.session(SessionOptions { threads, level: Some(level) }).unwrap();
        let found = session.generate(&sources, &GenerateOptions { max_new_tokens: 128, ..Default::default() }).unwrap();
        let same = found.iter().zip(&cases).filter(|(found, case)| **found == case.tgt).count();
        println!("annalog {level}: {same} of 52 greedy outputs");
        assert_eq!(same, 52, "{level}");
    });
}

#[test]
fn logits_and_memory_agree_at_every_level() {
    let Some(folder) = folder("annalog, logits") else { return };
    let (model, cases) = (Transformer::load(&folder, Precision::F32).unwrap(), cases(&folder));
    let expected = Tensors::open(&folder.join("logits.safetensors"));
    sweep::levels(|level| {
        let mut session = model.session(SessionOptions { level: Some(level), ..SessionOptions::default() }).unwrap();
        let mut largest = [0.0f32; 2];
        for n in [0, 5, 18, 45, 50] {
            let Case { src, tgt } = &cases[n];
            let memory = session.encode(&[src]).unwrap().values().to_vec();
            let logits = session.forward(&[src], &[&tgt[..tgt.len() - 1]]).unwrap().values().to_vec();
            for (i, (found, name)) in [(memory, "memory"), (logits, "logits")].into_iter().enumerate() {
                let expected = expected.f32(&format!("{n}.{name}")).data;
                assert_eq!(found.len(), expected.len());
                assert!(found.iter().all(|value| value.is_finite()));
                let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                largest[i] = largest[i].max(error);
            }
        }
        println!("annalog {level}: largest difference {:e} in the memory, {:e} in the logits", largest[0], largest[1]);
        assert!(largest.iter().all(|&error| error <= 1e-4), "{level}: {largest:?}");
    });
}

#[test]
fn sixteen_bits_are_nearly_enough() {
    let Some(folder) = folder("annalog, 16 bits") else { return };
    let cases = cases(&folder);
    let sources: Vec<_> = cases.iter().map(|case| &case.src[..]).collect();
    let expected = Tensors::open(&folder.join("logits.safetensors"));
    for (precision, least, bound) in [(Precision::F16, 51, 0.1), (Precision::Bf16, 50, 0.8)] {
        let model = Transformer::load(&folder, precision).unwrap();
        sweep::levels(|level| {
            let mut session = model.session(SessionOptions { level: Some(level), ..Default::default() }).unwrap();
            let options = GenerateOptions { max_new_tokens: 128, ..Default::default() };
            let found = session.generate(&sources, &options).unwrap();
            let same = found.iter().zip(&cases).filter(|(found, case)| **found == case.tgt).count();
            let mut largest = 0.0f32;
            for n in [0, 5, 18, 45, 50] {
                let Case { src, tgt } = &cases[n];
                let logits = session.forward(&[src], &[&tgt[..tgt.len() - 1]]).unwrap().values().to_vec();
                let expected = expected.f32(&format!("{n}.logits")).data;
                let errors = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                largest = errors.fold(largest, |a, b| if b > a || b.is_nan() { b } else { a });
            }
            println!("annalog {precision} {level}: {same} of 52 greedy outputs, logits within {largest:e}");
            assert!(same >= least && largest <= bound, "{precision} {level}: {same}, {largest}");
        });
    }
}

#[test]
fn decoding_with_a_cache_gives_the_bits_of_one_pass() {
    let Some(folder) = folder("annalog, cache") else { return };
    let (model, cases) = (Transformer::load(&folder, Precision::F32).unwrap(), cases(&folder));
    let mut session = model.session(SessionOptions::default()).unwrap();
    for Case { src, tgt } in cases.iter().step_by(7) {
        let forced = bits(session.forward(&[src], &[tgt]).unwrap().values());
        let mut decoding = session.start(&[src]).unwrap();
        let steps: Vec<u32> = tgt.iter().flat_map(|&id| bits(decoding.step(&[id]).unwrap().row(0).unwrap())).collect();
        assert!(steps == forced);
    }
}

#[test]
fn text_goes_both_ways() {
    let Some(folder) = folder("annalog, text") else { return };
    let tokenizer = Tokenizer::new(&Checkpoint::config_of(&folder).unwrap()).unwrap();
    for Case { src, tgt } in cases(&folder) {
        for ids in [src, tgt] {
            assert_eq!(tokenizer.encode(&tokenizer.decode(&ids).unwrap()).unwrap(), ids);
        }
    }
    // The stereo centre is one token, not its letters; an unknown element is unknown letter by letter.
    assert_eq!(tokenizer.encode("[C@@H]Cl").unwrap(), [2, 19, 20, 3]);
    assert_eq!(tokenizer.encode("[Xx]C").unwrap(), [2, 0, 0, 0, 0, 5, 3]);
}
