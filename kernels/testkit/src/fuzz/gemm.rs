//! Matrix products.

use super::{Bytes, against, assert_same, naive, threads};
use crate::Matrix;
use gristmill_core::{Activation, MatRef, Workspace};
use gristmill_gemm::{self as gemm, GemmOptions, PackedRhs, Rhs};

/// Sizes up to 70 by 130 by 90, every option, plain and packed.
pub fn gemm(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let [m, n, k] = [bytes.size(70), bytes.size(130), bytes.size(90)];
    let a = bytes.input([m, bytes.slip(k)]);
    let b = bytes.input([k, n]);
    let before: Matrix = bytes.output([bytes.slip(m), bytes.slip(n)]);
    let bias = bytes.flag().then(|| bytes.vector(bytes.slip(n)));
    let residual = bytes.flag().then(|| bytes.input([bytes.slip(m), bytes.slip(n)]));
    let [alpha, beta] = [1.0, 0.0].map(|usual| if bytes.flag() { bytes.f32() } else { usual });
    let options = GemmOptions {
        alpha,
        beta,
        bias: bias.as_deref(),
        activation: bytes.pick(&Activation::ALL),
        residual: residual.as_ref().map(Matrix::mat),
        threads: threads(bytes),
        level: None,
    };
    let packed = [PackedRhs::from_in_out(b.mat()), PackedRhs::from_out_in(b.mat().transposed())];
    let packed = packed.map(|packed| packed.expect("small matrices can be packed"));
    for packed in &packed {
        assert_rows(packed, b.mat());
    }
    let rights = [Rhs::Plain(b.mat()), Rhs::Packed(&packed[0]), Rhs::Packed(&packed[1])];
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
                let result = gemm::gemm(a.mat(), rhs, c.mat_mut(), &options, &mut workspace);
                assert_same(&(result, c), want, &before, format!("gemm {m}x{n}x{k} {level} {form} {options:?}"));
            }
        },
    );
}

/// Asserts that a packed matrix gives back the columns of `b`.
fn assert_rows(packed: &PackedRhs, b: MatRef<f32>) {
    assert_eq!([packed.k(), packed.n()], [b.rows(), b.cols()]);
    let mut row = vec![0.0; b.rows()];
    for j in 0..b.cols() {
        packed.row_into(j, &mut row).expect("the output exists and the row has k values");
        let same = row.iter().enumerate().all(|(p, x)| x.to_bits() == b.at(p, j).to_bits());
        assert!(same, "column {j} of {b:?} comes back from packing as {row:?}");
    }
}
