//! Matrix products.

use super::{Bytes, against, assert_same, naive, threads};
use crate::{Strided, compare::equal};
use gristmill_core::{Activation, MatRef, Workspace};
use gristmill_gemm::{self as gemm, GemmOptions, PackedRhs, Rhs};
use gristmill_simd::{Element, bf16, f16};

/// Sizes up to 70 by 130 by 90, now and then of several jobs, every option, plain and packed, in a mix of storage types.
pub fn gemm(data: &[u8]) {
    let bytes = &Bytes::new(data);
    // The types come first and zero is f32, so that truncated inputs stay the simplest.
    let kind = bytes.byte();
    let times = if kind >= 240 { 3 } else { 1 };
    match kind % 16 {
        0..8 => product::<f32, f32, f32>(bytes, times),
        8 => product::<f32, f16, f32>(bytes, times),
        9 => product::<f32, bf16, f32>(bytes, times),
        10 => product::<f16, f16, f16>(bytes, times),
        11 | 12 => product::<bf16, bf16, bf16>(bytes, times),
        13 => product::<bf16, bf16, f32>(bytes, times),
        14 => product::<f16, f32, f16>(bytes, times),
        _ => product::<bf16, f16, f32>(bytes, times),
    }
}

/// A product of usual sizes, of which `n` and `k` are taken some `times`.
fn product<A: Element, B: Element, C: Element>(bytes: &Bytes, times: usize) {
    let [m, n, k] = [bytes.size(70), times * bytes.size(130), times * bytes.size(90)];
    let a: Strided<A, 2> = bytes.input([m, bytes.slip(k)]);
    let b: Strided<B, 2> = bytes.input([k, n]);
    let before: Strided<C, 2> = bytes.output([bytes.slip(m), bytes.slip(n)]);
    let bias: Option<Vec<C>> = bytes.flag().then(|| bytes.vector(bytes.slip(n)));
    let residual: Option<Strided<C, 2>> = bytes.flag().then(|| bytes.input([bytes.slip(m), bytes.slip(n)]));
    let [alpha, beta] = [1.0, 0.0].map(|usual| if bytes.flag() { bytes.f32() } else { usual });
    let options = GemmOptions {
        alpha,
        beta,
        bias: bias.as_deref(),
        activation: bytes.pick(&Activation::ALL),
        residual: residual.as_ref().map(Strided::mat),
        threads: threads(bytes),
        level: None,
    };
    let packed = [PackedRhs::from_in_out(b.mat()), PackedRhs::from_out_in(b.mat().transposed())];
    let packed = packed.map(|packed| packed.expect("small matrices can be packed"));
    for packed in &packed {
        assert_rows(packed, b.mat());
    }
    let rights = [Rhs::Plain(b.mat()), Rhs::Packed(&packed[0]), Rhs::Packed(&packed[1])];
    let types = [A::NAME, B::NAME, C::NAME];
    let mut workspace = Workspace::new();
    against(
        |level| {
            let mut c = before.clone();
            let result = naive!(level, gemm::naive::gemm(a.mat(), b.mat(), c.mat_mut(), &options));
            (result, c)
        },
        |level, want| {
            let options = GemmOptions { level: Some(level), ..options };
            for (form, rhs) in ["plain", "packed from [k, n]", "packed from [n, k]"].into_iter().zip(rights) {
                let mut c = before.clone();
                // Inside the pool, where less work is shared.
                let run = || gemm::gemm(a.mat(), rhs, c.mat_mut(), &options, &mut workspace);
                let result = options.threads.enter(run);
                assert_same(
                    &(result, c),
                    want,
                    &before,
                    format!("gemm {types:?} {m}x{n}x{k} {level} {form} {options:?}"),
                );
            }
        },
    );
}

/// Asserts that a packed matrix gives back the columns of `b`.
fn assert_rows<B: Element>(packed: &PackedRhs<B>, b: MatRef<B>) {
    assert_eq!([packed.k(), packed.n()], [b.rows(), b.cols()]);
    let mut row = vec![B::default(); b.rows()];
    for j in 0..b.cols() {
        packed.row_into(j, &mut row).expect("the output exists and the row has k values");
        let same = row.iter().enumerate().all(|(p, &x)| equal(x, b.at(p, j)));
        assert!(same, "column {j} of {b:?} comes back from packing as {row:?}");
    }
}
