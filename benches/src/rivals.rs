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

use crate::{cases, contest::Contender};

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
pub struct Product<'a> {
    /// Sizes and layout.
    pub case: &'a cases::Gemm,
    /// Threads of the pool that the call runs in.
    pub threads: usize,
    /// The left operand.
    pub a: &'a [f32],
    /// The right operand.
    pub b: &'a [f32],
}

impl Product<'_> {
    /// Row and column stride of `b` seen as `[k, n]`.
    fn b_strides(&self) -> (isize, isize) {
        if self.case.layout.transposed() { (1, self.case.k as isize) } else { (self.case.n as isize, 1) }
    }
}

/// Those who multiply matrices, ready to do so.
pub fn products<'a>(product: Product<'a>) -> Vec<Contender<'a>> {
    let mut rivals = vec![
        gemm::contender(product),
        gemmkit::contender(product),
        matrixmultiply::contender(product),
        faer::contender(product),
    ];
    rivals.extend(gemmkit::packed_contender(product));
    rivals
}
