//! Softmax, and bias with activation.

mod suite;

fn main() {
    suite::run(&[
        "softmax/f32/512x512",
        "softmax/f32/512x2048",
        "softmax/f32/32x37000",
        "bias-relu/f32/512x2048",
        "bias-gelu/f32/32x2048",
        "bias-gelu/f32/512x2048",
    ]);
}
