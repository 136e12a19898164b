//! Fused scaled-dot-product attention, on f32, f16 and bf16.
//!
//! [`attention`] computes `softmax(scale * q k^T + bias) v` per head without ever holding more than a few rows of
//! scores, over views with any strides, with grouped key/value heads and every combination of masks ([`Mask`]). It
//! returns exactly the bits of [`naive::attention`], whatever the level, the threads, the other rows and sequences
//! of the batch, and however the values lie in memory. [`attention_cached`] does the same to a [`KvCache`], which keeps
//! the keys and values of generated tokens in the layout that the kernel wants. Every operand may be f32, f16 or bf16;
//! sums are f32, and the output is rounded once. Where all operands are bf16 they are multiplied in pairs.
//!
//! ```
//! use gristmill_attention::{AttentionOptions, attention};
//! use gristmill_core::{Causal, HeadsMut, HeadsRef, Mask, Workspace};
//!
//! // One sequence of 4 positions, 2 heads of 8 values; a query sees the keys up to its own position.
//! let [q, k, v] = [1.0, 2.0, 3.0].map(|x| vec![x; 4 * 2 * 8]);
//! let mut out = vec![0.0; 4 * 2 * 8];
//! let sizes = [1, 4, 2, 8];
//! let options = AttentionOptions {
//!     mask: Mask { causal: Some(Causal::BottomRight), ..Mask::default() },
//!     ..AttentionOptions::default()
//! };
//! attention(
//!     HeadsRef::bshd(&q, sizes)?,
//!     HeadsRef::bshd(&k, sizes)?,
//!     HeadsRef::bshd(&v, sizes)?,
//!     HeadsMut::bshd(&mut out, sizes)?,
//!     &options,
//!     &mut Workspace::new(),
//! )?;
//! assert!(out.iter().all(|&x| x == 3.0));
//! # Ok::<(), gristmill_core::Error>(())
//! ```

mod abreast;
mod ahead;
mod any;
mod block;
mod cache;
mod check;
mod driver;
mod keys;
mod mask;
pub mod naive;
mod operands;
mod output;
mod pages;
mod pairs;
mod plan;
mod product;
mod rounded;
mod short;
mod skip;
mod softmax;
mod source;
mod squares;
mod write;

pub use cache::{AppendOptions, KvCache, PAGE};

use gristmill_core::{Error, HeadsMut, HeadsRef, Mask, Threads, Workspace};
use gristmill_simd::{Element, Isa, Kernel, Level, Simd};

/// Runs a kernel in a function of its own, where all registers are its own: those of a worker's long function hold what is
/// needed far away.
#[inline(never)]
fn apart<I: Isa, K: Kernel>(isa: I, kernel: K) -> K::Output {
    isa.vectorize(kernel)
}

/// What [`attention`] computes and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttentionOptions<'a> {
    /// Multiplies `q . k`; `None` is `1 / sqrt(D)`, computed in f32.
    pub scale: Option<f32>,
    /// `s = cap * tanh(s / cap)` after scaling and before the bias; finite and positive.
    pub softcap: Option<f32>,
    /// Which keys a query sees, and what is added to their scores.
    pub mask: Mask<'a>,
    /// Where to run. The result does not depend on it.
    pub threads: Threads<'a>,
    /// The instruction set to use; `None` is the best there is.
    pub level: Option<Level>,
}

impl AttentionOptions<'_> {
    /// The factor for heads of `dim` values. Without any values every product is zero and so is every score.
    pub(crate) fn scale_for(&self, dim: usize) -> f32 {
        self.scale.unwrap_or_else(|| 1.0 / (dim.max(1) as f32).sqrt())
    }
}

/// `out = softmax(scale * q k^T + bias) v`, for every sequence and head.
///
/// `q` is `[B, S_q, H, D]`, `k` is `[B, S_k, H_kv, D]`, `v` is `[B, S_k, H_kv, D_v]` and `out` is
/// `[B, S_q, H, D_v]`; `H_kv` divides `H`, and query head `h` reads key/value head `h / (H / H_kv)`. Any size may be
/// zero. Values of 16 bits are widened exactly, and the quotient that is written is rounded once to nearest even.
///
/// Where `q`, `k` and `v` are all bf16, both products are those of bf16 pairs, as the dot instruction of AVX512-BF16 computes
/// them, and the weights, before they are divided by their sum, are rounded to bf16: each is off by up to 2^-9 of itself
/// (and some 4 % of that for a shorter exponential), and an output by as much of its distance from the values, beside the
/// rounding of the output itself. Without that
/// instruction the bits are the same; values so small that a product of two might underflow (weights are 2^-60 or more,
/// if not zero) are then multiplied slowly.
///
/// Bits equal [`naive::attention`] with the level's [`fused`](Level::fused). A hidden key changes nothing, whatever
/// its key and value hold; keys that lengths and causality hide from all queries of the sequence are not even read. A
/// query without visible keys, or whose visible scores are all minus infinity, gives a row of zeros. A visible score of
/// NaN or plus infinity makes the row NaN; a NaN in a visible value makes its column of the row NaN.
///
/// Scratch memory does not grow with `S_q`: per thread at most `(S_k + 80) * (D + D_v + 48) + 48 * (D + D_v)` values of
/// f32, with `D` and `D_v` rounded up to multiples of 16.
///
/// # Errors
/// [`Error::ShapeMismatch`] and [`Error::HeadGroups`] when the views disagree, the errors of [`Mask::validate`],
/// [`Error::InvalidOption`] for a soft cap that is not finite and positive, [`Error::Level`] when the level cannot
/// be used, [`Error::OutOfMemory`] and [`Error::SizeOverflow`] when the scratch memory cannot be had. `out` is then
/// untouched.
pub fn attention<Q: Element, K: Element, O: Element>(
    q: HeadsRef<Q>,
    k: HeadsRef<K>,
    v: HeadsRef<K>,
    mut out: HeadsMut<O>,
    options: &AttentionOptions,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    check::call(&q, &k, &v, &out, options)?;
    let simd = Simd::choose(options.level)?;
    let scale = options.scale_for(q.dim());
    let source = source::Source::Views { k: k.into(), v: v.into() };
    let call = driver::Call { q: q.into(), source, out: any::AnyOutput::new(&mut out), options, scale };
    driver::run(simd, &call, workspace)
}

/// The attention weights themselves, `softmax(scale * q k^T + bias)`, for a look inside: `out` is `[B, S_q, H, S_k]`,
/// in memory usually `[B, H, S_q, S_k]` ([`HeadsMut::bhsd`]). [`attention`] never has them in one place.
///
/// Where `q` and `k` are bf16, they are the weights that [`attention`] gives bf16 values: rounded to bf16 before the
/// division.
///
/// Bits equal [`naive::attention_weights`]. A hidden key has weight +0, and so have all keys of a query that sees none or
/// whose visible scores are all minus infinity; a visible score of NaN or plus infinity makes the weights of all visible
/// keys NaN. Rows are rounded to the type of the output after the division, so that their sum is 1 only up to that.
///
/// What it costs: half of the arithmetic of [`attention`], the same scratch memory, and an output of
/// `B * H * S_q * S_k` values, which for long sequences takes more time to write than to compute.
///
/// # Errors
/// As [`attention`]; `out` is then untouched.
pub fn attention_weights<Q: Element, K: Element, O: Element>(
    q: HeadsRef<Q>,
    k: HeadsRef<K>,
    mut out: HeadsMut<O>,
    options: &AttentionOptions,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    check::weights(&q, &k, &out, options)?;
    let simd = Simd::choose(options.level)?;
    let scale = options.scale_for(q.dim());
    let source = source::Source::Keys(k.into());
    let call = driver::Call { q: q.into(), source, out: any::AnyOutput::new(&mut out), options, scale };
    driver::run(simd, &call, workspace)
}

/// [`attention`] of queries `q`, `[B, S_q, H, D]`, to the keys and values of `cache`, one sequence of it for each of
/// the batch. Every sequence has its own number of keys, S_k = `cache.len(b)`, and gets exactly the bits that
/// [`attention`] gives it alone, of keys and values rounded to the type of the cache:
/// [`Causal::BottomRight`](gristmill_core::Causal::BottomRight) counts from each one's own end, as queries whose keys have
/// just been appended need. A bias or boolean mask that does not broadcast over keys has `cache.longest()` of them;
/// shorter sequences read the first ones.
///
/// Nothing is packed and no key is copied; keys and values of 16 bits are widened in registers, or multiplied in pairs. Scratch memory per
/// thread is at most `48 * (S_k + 80 + 3 * D + 2 * D_v)` values of f32 for the longest S_k, with `D` and `D_v` rounded up to
/// multiples of 16.
///
/// # Errors
/// As [`attention`]; [`Error::ShapeMismatch`] also when the cache holds another number of sequences, and
/// [`Error::KeyLength`] for a key length above that sequence's. `out` is then untouched.
pub fn attention_cached<Q: Element, K: Element, O: Element>(
    q: HeadsRef<Q>,
    cache: &KvCache<K>,
    mut out: HeadsMut<O>,
    options: &AttentionOptions,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    check::cached(&q, cache, &out, options)?;
    let simd = Simd::choose(options.level)?;
    let scale = options.scale_for(q.dim());
    let source = source::Source::Cache(cache);
    let call = driver::Call { q: q.into(), source, out: any::AnyOutput::new(&mut out), options, scale };
    driver::run(simd, &call, workspace)
}
