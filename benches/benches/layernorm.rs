//! Layer normalisation, with and without a residual.

mod suite;

fn main() {
    suite::run(&[
        "layernorm/f32/1x512",
        "layernorm/f32/512x512",
        "layernorm/f32/4096x512",
        "layernorm/f32/2048x4096",
        "add-layernorm/f32/1x512",
        "add-layernorm/f32/512x512",
    ]);
}
