//! Attention: whole sequences, masks, batches of short sentences, single queries against a cache,
//! some in 16 bits.

mod suite;

fn main() {
    suite::run(&[
        "attention/f32/1x8x128x128x64/none",
        "attention/f32/1x8x512x512x64/none",
        "attention/f32/1x8x512x512x128/none",
        "attention/f32/1x8x2048x2048x64/none",
        "attention/f32/1x8x512x512x64/causal",
        "attention/f32/1x8x2048x2048x64/causal",
        "attention/f32/32x8x32x32x64/none",
        "attention/f32/32x8x32x32x64/keypad",
        "attention/f32/1x8x1x512x64/none",
        "attention/f32/8x8x1x128x64/none",
        "attention/f16/1x8x512x512x64/none",
        "attention/bf16/1x8x512x512x64/none",
        "attention/f16/1x8x1x512x64/none",
        "attention/bf16/1x8x1x512x64/none",
    ]);
}
