//! The others: one small file each, built with their fastest features and used as their documentation says.
//!
//! All get the operands that we get and write the same row-major output. What a rival can prepack through its own
//! public means stays outside the timed part, as our packing does.

mod faer;
mod gemm;
mod gemmkit;
mod matrixmultiply;
pub mod plain;

pub use self::matrixmultiply::THREADS_VARIABLE;

use crate::{buffer::Stored, cases, contest::Contender};
use gristmill_simd::{bf16, f16};

/// Every rival, with what was chosen for it; `versus` prints them.
pub const ROSTER: &[&str] = &[
    "gemm (x86-v4, rayon)",
    "gemmkit (rayon; prepacked for one row)",
    "matrixmultiply (threading)",
    "faer (nightly, rayon)",
    "plain loops",
];

/// A matrix product as rivals see it: row-major `a: [m, k]`, and `b` either `[k, n]` or, `transposed`, `[n, k]`.
#[derive(Clone, Copy)]
pub struct Product<'a, T = f32> {
    /// Sizes and layout.
    pub case: &'a cases::Gemm,
    /// Threads of the pool that the call runs in.
    pub threads: usize,
    /// The left operand.
    pub a: &'a [T],
    /// The right operand.
    pub b: &'a [T],
}

impl<T> Product<'_, T> {
    /// Row and column stride of `b` seen as `[k, n]`.
    fn b_strides(&self) -> (isize, isize) {
        if self.case.layout.transposed() { (1, self.case.k as isize) } else { (self.case.n as isize, 1) }
    }
}

/// A type whose matrices rivals multiply.
pub trait Multiplied: Stored {
    /// Those who multiply matrices of the type, ready to do so. Outputs have the type too.
    fn rivals(product: Product<'_, Self>) -> Vec<Contender<'_>>;
}

impl Multiplied for f32 {
    fn rivals(product: Product<'_>) -> Vec<Contender<'_>> {
        let mut rivals = vec![
            gemm::contender(product),
            gemmkit::contender(product),
            matrixmultiply::contender(product),
            faer::contender(product),
        ];
        rivals.extend(gemmkit::packed_contender(product));
        rivals
    }
}

impl Multiplied for f16 {
    fn rivals(product: Product<'_, f16>) -> Vec<Contender<'_>> {
        let rivals = [gemm::contender(product), gemmkit::contender(product)].into_iter();
        rivals.chain(gemmkit::packed_contender(product)).collect()
    }
}

impl Multiplied for bf16 {
    fn rivals(product: Product<'_, bf16>) -> Vec<Contender<'_>> {
        [gemmkit::contender(product)].into_iter().chain(gemmkit::packed_contender(product)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buffer::{Buffer, Output},
        cases::{Dtype, Layout},
    };

    /// Every rival against f64. Errors are those of the output's type, of order 1e-2 for bf16 sums of order 4.
    fn check<T: Multiplied>(dtype: Dtype, layout: Layout, m: usize, tolerance: f64) {
        let (n, k) = (40, 37);
        let case = cases::Gemm { odd: false, dtype, layout, m, n, k };
        let (a, b) = (Buffer::<T>::uniform(m * k, 1), Buffer::<T>::uniform(k * n, 2));
        let product = Product { case: &case, threads: 1, a: &a, b: &b };
        for mut rival in T::rivals(product) {
            let mut output = Output::of::<T>(m * n);
            rival.call(&mut output);
            rival.deliver(&mut output);
            for (at, got) in output.values().into_iter().enumerate() {
                let b = |p: usize| if layout.transposed() { b[at % n * k + p] } else { b[p * n + at % n] };
                let term = |p: usize| f64::from(a[at / n * k + p].to_f32()) * f64::from(b(p).to_f32());
                let want: f64 = (0..k).map(term).sum();
                let name = rival.name;
                assert!((f64::from(got) - want).abs() <= tolerance, "{name}, {dtype:?}, {layout:?}: {got} for {want}");
            }
        }
    }

    #[test]
    fn all_multiply_all_types() {
        for layout in [Layout::Nn, Layout::Nt, Layout::NnPacked, Layout::NtPacked] {
            for m in [1, 9] {
                check::<f32>(Dtype::F32, layout, m, 1e-5);
                check::<f16>(Dtype::F16, layout, m, 1e-2);
                check::<bf16>(Dtype::Bf16, layout, m, 6e-2);
            }
        }
    }
}
