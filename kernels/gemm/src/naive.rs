//! The specification of [`gemm`](crate::gemm): plain loops, the same bits.

use crate::batch::check_counts;
use crate::{GemmOptions, check};
use gristmill_core::{BatchMut, BatchRef, Error, MatMut, MatRef, Operand};
use gristmill_simd::{Dtype, Element, naive::dot_step, naive::fma};

/// `C = epilogue(A B)` with A `[m, k]`, B `[k, n]` and C `[m, n]`, each of any storage type: values are widened exactly
/// when read and rounded once when written. Where A and B are both bf16, products of pairs are summed as the
/// instruction does that such products have: [`dot_pair`](gristmill_simd::naive::dot_pair).
///
/// `FUSED` says whether a multiply-add rounds once: [`Level::fused`](gristmill_simd::Level::fused) of the level to
/// compare with. The options' threads and level are not used.
///
/// # Errors
/// [`Error::ShapeMismatch`] when sizes disagree; C is untouched then.
pub fn gemm<const FUSED: bool>(
    a: MatRef<'_, impl Element>,
    b: MatRef<'_, impl Element>,
    mut c: MatMut<'_, impl Element>,
    options: &GemmOptions<'_, impl Element, impl Element>,
) -> Result<(), Error> {
    check([a.rows(), a.cols()], [b.rows(), b.cols()], [c.rows(), c.cols()], options)?;
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    let pairs = [Operand::from(a), b.into()].iter().all(|factor| factor.dtype() == Dtype::Bf16);
    for i in 0..m {
        for j in 0..n {
            let mut y = 0.0;
            if pairs {
                for p in (0..k).step_by(2) {
                    // The odd elements first; +0 where k ends before them.
                    let odd = if p + 1 < k { [a.at(i, p + 1).to_f32(), b.at(p + 1, j).to_f32()] } else { [0.0; 2] };
                    y = dot_step(odd[0], odd[1], y);
                    y = dot_step(a.at(i, p).to_f32(), b.at(p, j).to_f32(), y);
                }
            } else {
                for p in 0..k {
                    y = fma::<FUSED>(a.at(i, p).to_f32(), b.at(p, j).to_f32(), y);
                }
            }
            if options.alpha != 1.0 {
                y *= options.alpha;
            }
            if options.beta != 0.0 {
                y = fma::<FUSED>(options.beta, c.at(i, j).to_f32(), y);
            }
            if let Some(bias) = options.bias {
                y += bias[j].to_f32();
            }
            y = options.activation.naive::<FUSED>(y);
            if let Some(residual) = options.residual {
                y += residual.at(i, j).to_f32();
            }
            c.set(i, j, Element::from_f32(y));
        }
    }
    Ok(())
}

/// [`gemm`] for each product of a batch: A `[count, m, k]`, B `[count, k, n]`, C `[count, m, n]`.
///
/// # Errors
/// [`Error::ShapeMismatch`] when sizes or counts disagree; C is untouched then.
pub fn gemm_batch<const FUSED: bool>(
    a: BatchRef<'_, impl Element>,
    b: BatchRef<'_, impl Element>,
    mut c: BatchMut<'_, impl Element>,
    options: &GemmOptions<'_, impl Element, impl Element>,
) -> Result<(), Error> {
    check_counts(a.count(), b.count(), c.count())?;
    check([a.rows(), a.cols()], [b.rows(), b.cols()], [c.rows(), c.cols()], options)?;
    for i in 0..c.count() {
        if let (Some(a), Some(b), Some(c)) = (a.get(i), b.get(i), c.get(i)) {
            gemm::<FUSED>(a, b, c, options)?;
        }
    }
    Ok(())
}
