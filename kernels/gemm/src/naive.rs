//! The specification of [`gemm`](crate::gemm): plain loops, the same bits.

use crate::{GemmOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::naive::fma;

/// `C = epilogue(A B)` with A `[m, k]`, B `[k, n]` and C `[m, n]`.
///
/// `FUSED` says whether a multiply-add rounds once: [`Level::fused`](gristmill_simd::Level::fused) of the level to
/// compare with. The options' threads and level are not used.
///
/// # Errors
/// [`Error::ShapeMismatch`] when sizes disagree; C is untouched then.
pub fn gemm<const FUSED: bool>(
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    mut c: MatMut<'_, f32>,
    options: &GemmOptions<'_>,
) -> Result<(), Error> {
    check(&a, [b.rows(), b.cols()], &c, options)?;
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    for i in 0..m {
        for j in 0..n {
            let mut y = 0.0;
            for p in 0..k {
                y = fma::<FUSED>(a.at(i, p), b.at(p, j), y);
            }
            if options.alpha != 1.0 {
                y *= options.alpha;
            }
            if options.beta != 0.0 {
                y = fma::<FUSED>(options.beta, c.at(i, j), y);
            }
            if let Some(bias) = options.bias {
                y += bias[j];
            }
            y = options.activation.naive::<FUSED>(y);
            if let Some(residual) = options.residual {
                y += residual.at(i, j);
            }
            c.set(i, j, y);
        }
    }
    Ok(())
}
