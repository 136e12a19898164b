//! Memory that is known beforehand.

use gristmill_model::{Config, GenerateOptions, Precision, SessionOptions, Transformer};
use gristmill_testkit::models::{sentences, small, variants};

#[test]
fn weights_are_as_large_as_predicted() {
    // Packed bf16 has whole pairs of a layer's inputs.
    let odd = Config { heads: 3, d_model: 15, d_ff: 51, ..small() };
    for (name, config) in variants().into_iter().chain([("odd", odd)]) {
        for precision in Precision::ALL {
            let predicted = config.model_bytes(precision).unwrap();
            let model = Transformer::seeded(config.clone(), 1, precision).unwrap();
            assert_eq!(model.bytes(), predicted, "{name}, {precision}");
        }
    }
    // The base model: little more than its parameters, and half of that.
    let [f32, f16, bf16] = Precision::ALL.map(|precision| Config::base().model_bytes(precision).unwrap());
    assert!((4 * 63_082_496..253_000_000).contains(&f32), "{f32}");
    assert!(f16 == bf16 && f16 < f32 * 51 / 100, "{f16}");
    assert!(Config { d_model: usize::MAX, ..Config::base() }.model_bytes(Precision::F32).is_err());
}

#[test]
fn caches_are_as_large_as_predicted() {
    let sources = sentences(&[70; 3], 41, 1);
    // Heads of an odd size leave the pages of bf16 the most to fill up.
    let odd = Config { heads: 3, d_model: 15, ..small() };
    for (config, precision) in [small(), odd].iter().flat_map(|c| Precision::ALL.map(|precision| (c, precision))) {
        let model = Transformer::seeded(Config { eos: None, ..config.clone() }, 1, precision).unwrap();
        let mut session = model.session(SessionOptions::default()).unwrap();
        assert_eq!(session.cache_bytes(), 0);
        let bytes = |beams| model.config().cache_bytes(precision, 3, beams, [70, 130]);
        let options = GenerateOptions { max_new_tokens: 130, ..Default::default() };
        session.generate(&sources, &options).unwrap();
        assert_eq!(session.cache_bytes(), bytes(1), "{precision}, {} of {}", config.heads, config.d_model);
        session.generate(&sources, &GenerateOptions { beams: 4, ..options }).unwrap();
        assert!(session.cache_bytes() > bytes(1) && session.cache_bytes() <= bytes(4), "{precision}");
    }
    let absurd = Config { d_model: usize::MAX, ..Config::base() };
    assert_eq!(absurd.cache_bytes(Precision::F32, 1, 1, [1, 1]), usize::MAX);
}
