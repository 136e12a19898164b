//! Layer and RMS norms, with and without a residual.

mod suite;

fn main() {
    let ids = [
        "layernorm/f32/1x512",
        "layernorm/f32/512x512",
        "layernorm/f32/4096x512",
        "layernorm/f32/2048x4096",
        "add-layernorm/f32/1x512",
        "add-layernorm/f32/512x512",
        "layernorm/f16/512x512",
        "layernorm/bf16/512x512",
        "add-layernorm/f16/512x512",
        "rmsnorm/f32/512x512",
        "add-rmsnorm/f32/512x512",
    ];
    suite::run(&ids, &[]);
}
