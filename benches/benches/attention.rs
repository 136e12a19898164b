//! Attention: whole sequences, masks, batches of short sentences, single queries against a cache,
//! some in 16 bits. What appending to a cache takes.

mod suite;

use criterion::Throughput;
use gristmill_attention::KvCache;
use gristmill_bench::buffer::Buffer;
use gristmill_core::HeadsRef;
use suite::Extra;

fn main() {
    let ids = [
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
    ];
    // Keys and values, read and written.
    let appended = Throughput::Bytes(2 * 2 * 4 * 8 * 128 * 8 * 64);
    let extras: [Extra; 1] = [("append/f32/8x8x128x64", appended, || {
        let (k, v) = (Buffer::<f32>::uniform(8 * 128 * 8 * 64, 1), Buffer::<f32>::uniform(8 * 128 * 8 * 64, 2));
        let mut cache = KvCache::<f32>::new(8, 64, 64).unwrap();
        Box::new(move || {
            let heads = |values| HeadsRef::bhsd(values, [8, 128, 8, 64]).unwrap();
            cache.reset(8).unwrap();
            cache.append(heads(&k), heads(&v)).unwrap();
        })
    })];
    suite::run(&ids, &extras);
}
