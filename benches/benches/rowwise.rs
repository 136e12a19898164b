//! Softmax, its logarithm, bias with activation, choices and embeddings.

mod suite;

use criterion::Throughput;
use gristmill_bench::buffer::Buffer;
use gristmill_core::{MatMut, MatRef};
use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, argmax, embed, sinusoidal_positions, top_k,
};
use suite::Extra;

fn main() {
    let ids = [
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
    ];
    let extras: [Extra; 3] = [
        ("argmax/f32/32x37000", Throughput::Bytes(4 * 32 * 37000), || {
            let (x, mut out) = (Buffer::<f32>::uniform(32 * 37000, 1), vec![0; 32]);
            Box::new(move || {
                argmax(MatRef::new(&x, 32, 37000).unwrap(), &mut out, &RowOptions::default()).unwrap();
            })
        }),
        ("top-k/f32/32x37000x8", Throughput::Bytes(4 * 32 * 37000), || {
            let (x, mut out) = (Buffer::<f32>::uniform(32 * 37000, 1), vec![0; 32 * 8]);
            Box::new(move || {
                let out = MatMut::new(&mut out, 32, 8).unwrap();
                top_k(MatRef::new(&x, 32, 37000).unwrap(), out, &RowOptions::default()).unwrap();
            })
        }),
        // Read, with a position each, and written.
        ("embed/f32/512x512", Throughput::Bytes(3 * 4 * 512 * 512), || {
            let (table, mut y) = (Buffer::<f32>::uniform(37000 * 512, 1), Buffer::<f32>::filled(512 * 512, 0.0));
            let ids: Vec<u32> = (0..512).map(|position| position * 7919 % 37000).collect();
            let positions = sinusoidal_positions(512, 512).unwrap();
            Box::new(move || {
                let positions = MatRef::new(&positions, 512, 512).unwrap();
                let positions = Positions { table: positions, rows: PositionRows::From(0) };
                let options = EmbedOptions { scale: 22.6, positions: Some(positions), ..Default::default() };
                let y = MatMut::new(&mut y, 512, 512).unwrap();
                embed(MatRef::new(&table, 37000, 512).unwrap(), &ids, y, &options).unwrap();
            })
        }),
    ];
    suite::run(&ids, &extras);
}
