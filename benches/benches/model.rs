//! The base model on seeded weights: encoder, teacher-forced pass, decoder step, generation.

mod suite;

fn main() {
    let ids = [
        "model/encoder/f32/base/1x16",
        "model/encoder/f32/base/1x128",
        "model/encoder/f32/base/32x32",
        "model/forced/f32/base/8x32",
        "model/step/f32/base/1x32",
        "model/step/f32/base/32x32",
        "model/greedy/f32/base/1x32",
        "model/greedy/f32/base/8x32",
        "model/beam4/f32/base/1x32",
    ];
    suite::run(&ids, &[]);
}
