//! The others: one small file each, built with their fastest features and used as their documentation says.
//!
//! One of them, candle, chooses its own vector code when it is compiled, by the target's features: only a build with
//! `RUSTFLAGS="-C target-cpu=native"` has the fastest. The roster says what this build has.
//!
//! All get the operands that we get and write the same row-major output. What a rival can prepack through its own
//! public means stays outside the timed part, as our packing does.

#[cfg(feature = "candle")]
mod candle;
mod composed;
mod faer;
mod gemm;
mod gemmkit;
mod matrixmultiply;
pub mod plain;
#[cfg(feature = "rten")]
mod rten;

use crate::{buffer::Stored, cases, contest::Contender};
use gristmill_simd::{bf16, f16};

/// Every rival of this build, with what was chosen for it; `versus` prints them.
pub fn roster() -> Vec<&'static str> {
    let mut roster = vec![
        "gemm (x86-v4, rayon)",
        "gemmkit (rayon; prepacked for one row)",
        "matrixmultiply (threading)",
        "faer (nightly, rayon)",
        "gemmkit-3op (its products, our softmax)",
        "plain loops",
    ];
    let candle = if cfg!(target_feature = "avx2") {
        "candle (gemm x86-v4, rayon, built with avx2)"
    } else {
        "candle (gemm x86-v4, rayon, built without avx2)"
    };
    let optional = [
        (cfg!(feature = "candle"), candle, "no candle (--features candle)"),
        (cfg!(feature = "rten"), "rten (prepacked)", "no rten (--features rten)"),
    ];
    roster.extend(optional.map(|(there, with, without)| if there { with } else { without }));
    roster
}

/// The environment variables that give rivals their number of threads, which they read once, at their first work:
/// matrixmultiply's, then candle's for its products and for its own pool. So a process that measures them has one
/// thread count, and is started with these variables set.
pub const THREADS_VARIABLES: [&str; 3] = ["MATMUL_NUM_THREADS", "RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

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
        #[cfg(feature = "rten")]
        rivals.extend([rten::contender(product)].into_iter().chain(rten::packed_contender(product)));
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

/// An operation on rows as rivals see it.
#[derive(Clone, Copy)]
pub struct RowOperands<'a, T = f32> {
    /// The operation and its sizes.
    pub case: &'a cases::Rows,
    /// The matrix.
    pub x: &'a [T],
    /// What is added to it; empty where nothing is.
    pub residual: &'a [T],
    /// A norm's factor for each column.
    pub gamma: &'a [T],
    /// A norm's shift for each column.
    pub beta: &'a [T],
    /// An activation's bias for each column.
    pub bias: &'a [f32],
    /// Added to variances.
    pub eps: f32,
}

/// Those who compute operations on rows.
pub fn rows<T: Stored>(operands: RowOperands<'_, T>) -> Vec<Contender<'_>> {
    let rivals = vec![Contender::of("plain loop", move |output: &mut [T]| plain::rows(operands, output))];
    #[cfg(feature = "candle")]
    let rivals = rivals.into_iter().chain([candle::rows(operands)]).collect();
    rivals
}

/// Attention as rivals see it: queries, keys and values `[B, H, S, D]`.
#[derive(Clone, Copy)]
pub struct AttentionOperands<'a> {
    /// Sizes and mask.
    pub case: &'a cases::Attention,
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Keys that each sequence really has.
    pub key_lengths: &'a [usize],
    /// Threads of the pool that the call runs in.
    pub threads: usize,
}

/// Operations above which nobody waits for a plain loop.
const PLAIN_BUDGET: u64 = 1 << 30;

/// Those who compute attention.
pub fn attention(operands: AttentionOperands<'_>) -> Vec<Contender<'_>> {
    let mut rivals = vec![composed::contender(operands)];
    #[cfg(feature = "candle")]
    rivals.extend(candle::attention(operands));
    if operands.case.cost().flops <= PLAIN_BUDGET {
        rivals.push(Contender::new("plain loop", move |output| plain::attention(operands, output)));
    }
    rivals
}

/// A run of the seeded model as rivals see it.
#[derive(Clone, Copy)]
pub struct SentenceOperands<'a> {
    /// The task and its sizes.
    pub case: &'a cases::Model,
    /// The seed of the weights.
    pub seed: u64,
    /// Source ids, sentences of one length.
    pub sources: &'a [Vec<u32>],
}

/// Those who run a Transformer.
pub fn sentences(operands: SentenceOperands<'_>) -> Vec<Contender<'_>> {
    #[cfg(feature = "candle")]
    return candle::marian(operands).into_iter().collect();
    #[cfg(not(feature = "candle"))]
    {
        let _ = operands;
        Vec::new()
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
