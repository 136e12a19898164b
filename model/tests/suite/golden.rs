//! Whole models against an independent implementation in f64.

use gristmill_model::{Precision, Rows, SessionOptions, Transformer};
use gristmill_testkit::golden::{self, Tensors};
use gristmill_testkit::sweep;

/// The largest difference in the rows that are not padding.
fn largest_error(rows: Rows, expected: &golden::Tensor<f64>) -> f64 {
    let [sentences, padded, width] = expected.shape[..] else { panic!("shape {:?}", expected.shape) };
    assert_eq!((rows.sentences(), rows.width()), (sentences, width));
    let errors = (0..sentences).flat_map(|sentence| {
        let found = rows.sentence(sentence).unwrap();
        let expected = &expected.data[sentence * padded * width..][..found.rows() * width];
        let errors = (0..expected.len()).map(move |i| (f64::from(found.at(i / width, i % width)) - expected[i]).abs());
        errors.collect::<Vec<_>>()
    });
    // NaN must not pass for small.
    errors.map(|error| if error.is_nan() { f64::INFINITY } else { error }).fold(0.0, f64::max)
}

/// The sentences of a padded batch.
fn sentences(ids: &golden::Tensor<i64>, lengths: &golden::Value) -> Vec<Vec<u32>> {
    let lengths = lengths.as_array().unwrap().iter().map(|length| length.as_u64().unwrap() as usize);
    let rows = ids.data.chunks(ids.shape[1]).zip(lengths);
    rows.map(|(row, length)| row[..length].iter().map(|&id| id as u32).collect()).collect()
}

#[test]
fn golden_models_agree_at_every_level() {
    let models = golden::models();
    assert_eq!(models.len(), 11);
    for folder in models {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let case = golden::json(&folder.join("case.json"));
        let io = Tensors::open(&folder.join("io.safetensors"));
        let sources = sentences(&io.i64("in.src"), &case["src_lengths"]);
        let targets = sentences(&io.i64("in.tgt"), &case["tgt_lengths"]);
        let torch = case["torch_f32_max_abs_error"].as_f64().unwrap();
        // Roundings to 11 and to 8 bits are so many times as large as those to 24.
        for (precision, unit) in [(Precision::F32, 1.0), (Precision::F16, 8192.0), (Precision::Bf16, 65536.0)] {
            let (model, torch) = (Transformer::load(&folder, precision).unwrap(), torch * unit);
            sweep::levels_and_threads(|level, threads| {
                let mut session = model.session(SessionOptions { threads, level: Some(level) }).unwrap();
                let errors = [
                    largest_error(session.encode(&sources).unwrap(), &io.f64("out.encoder")),
                    largest_error(session.decode(&sources, &targets).unwrap(), &io.f64("out.decoder_causal")),
                    largest_error(session.forward(&sources, &targets).unwrap(), &io.f64("out.logits")),
                ];
                let [encoder, decoder, logits] = errors.map(|error| error / torch);
                println!(
                    "{name} {precision} {level}: encoder {encoder:.2}, decoder {decoder:.2}, logits {logits:.2} of \
                     torch's f32 error in units of the type"
                );
                assert!(
                    errors.iter().all(|&error| error <= 4.0 * torch),
                    "{name} {precision} at {level}: {errors:?} against {torch:e}"
                );
            });
        }
    }
}
