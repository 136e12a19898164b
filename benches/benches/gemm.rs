//! Matrix products: linear layers with packed and plain weights, squares, the products of attention; some of
//! them in 16 bits. A batch of products of short sentences.

mod suite;

use criterion::Throughput;
use gristmill_bench::buffer::Buffer;
use gristmill_core::{BatchMut, BatchRef, Workspace};
use gristmill_gemm::{GemmOptions, gemm_batch};
use suite::Extra;

fn main() {
    let ids = [
        "gemm/f32/nt-packed/1x512x512",
        "gemm/f32/nt-packed/8x512x512",
        "gemm/f32/nt-packed/32x512x512",
        "gemm/f32/nt-packed/512x512x512",
        "gemm/f32/nt-packed/1x2048x512",
        "gemm/f32/nt-packed/8x2048x512",
        "gemm/f32/nt-packed/32x2048x512",
        "gemm/f32/nt-packed/512x2048x512",
        "gemm/f32/nt-packed/32x512x2048",
        "gemm/f32/nt-packed/1x37000x512",
        "gemm/f32/nt-packed/32x37000x512",
        "gemm/f32/nt/1x2048x512",
        "gemm/f32/nt/8x2048x512",
        "gemm/f32/nt/32x2048x512",
        "gemm/f32/nt/512x2048x512",
        "gemm/f32/nt/128x128x64",
        "gemm/f32/nn/128x64x128",
        "gemm/f32/nn/128x128x128",
        "gemm/f32/nn/512x512x512",
        "gemm/f32/nn/1024x1024x1024",
        "gemm/f32/nn/127x509x253",
        "gemm/f32/nn/7x1000x3",
        "gemm/f32/nn/33x33x33",
        "gemm/f16/nt-packed/1x2048x512",
        "gemm/bf16/nt-packed/1x2048x512",
        "gemm/f16/nt-packed/512x2048x512",
        "gemm/bf16/nt-packed/512x2048x512",
        "gemm/f16w/nt-packed/32x2048x512",
        "gemm/bf16w/nt-packed/32x2048x512",
    ];
    let batch = Throughput::Elements(2 * 256 * 32 * 32 * 64);
    let extras: [Extra; 1] = [("gemm-batch/f32/nn/256x32x32x64", batch, || {
        let (a, b) = (Buffer::<f32>::uniform(256 * 32 * 64, 1), Buffer::<f32>::uniform(256 * 64 * 32, 2));
        let (mut c, mut workspace) = (Buffer::<f32>::filled(256 * 32 * 32, 0.0), Workspace::new());
        Box::new(move || {
            let (a, b) = (BatchRef::new(&a, [256, 32, 64]).unwrap(), BatchRef::new(&b, [256, 64, 32]).unwrap());
            let c = BatchMut::new(&mut c, [256, 32, 32]).unwrap();
            gemm_batch(a, b, c, &GemmOptions::default(), &mut workspace).unwrap();
        })
    })];
    suite::run(&ids, &extras);
}
