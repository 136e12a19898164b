//! Softmax, its logarithm, and bias with activation.

mod suite;

fn main() {
    suite::run(&[
        "softmax/f32/512x512",
        "softmax/f32/512x2048",
        "softmax/f32/32x37000",
        "softmax/f16/512x2048",
        "log-softmax/f32/512x2048",
        "bias-relu/f32/512x2048",
        "bias-gelu/f32/32x2048",
        "bias-gelu/f32/512x2048",
        "bias-gelu/f16/512x2048",
        "bias-gelu-tanh/f32/512x2048",
        "bias-silu/f32/512x2048",
    ]);
}
