//! Matrix products: linear layers with packed and plain weights, squares, the products of attention; some of
//! them in 16 bits.

mod suite;

fn main() {
    suite::run(&[
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
    ]);
}
