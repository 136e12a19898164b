//! Tiled matrix products with prepacked weights and fused epilogues.
//!
//! [`gemm`] computes `C = epilogue(A B)` for matrices of f32, f16 and bf16, in any mix and of any strides, in f32
//! arithmetic. The right-hand side is a plain matrix or a
//! [`PackedRhs`], made once per weight. The result has the bits of [`naive::gemm`], whatever the level, the threads,
//! the strides and the packing. [`gemm_batch`] and [`gemm_list`] compute many products in one call.
//!
//! ```
//! use gristmill_core::{Activation, MatMut, MatRef, Workspace};
//! use gristmill_gemm::{GemmOptions, PackedRhs, gemm};
//!
//! # fn main() -> Result<(), gristmill_core::Error> {
//! let (x, w, bias) = ([1.0, 2.0], [3.0, 4.0, -5.0, 6.0, 7.0, 8.0], [0.5, 0.0, -20.0]);
//! let weight = PackedRhs::from_out_in(MatRef::new(&w, 3, 2)?)?; // 3 outputs, 2 inputs
//! let mut y = [0.0; 3];
//! let options = GemmOptions { bias: Some(&bias), activation: Activation::Relu, ..Default::default() };
//! gemm(MatRef::new(&x, 1, 2)?, &weight, MatMut::new(&mut y, 1, 3)?, &options, &mut Workspace::new())?;
//! assert_eq!(y, [11.5, 7.0, 3.0]);
//! # Ok(())
//! # }
//! ```

mod batch;
mod columns;
mod driver;
#[doc(hidden)]
pub mod epilogue;
mod left;
pub mod naive;
mod packed;
mod pairs;
mod panels;
mod plan;
mod product;
mod registers;
mod short;
#[doc(hidden)]
pub mod tile;
mod turned;

pub use batch::{BatchRhs, ListOptions, Problem, gemm_batch, gemm_list};
pub use packed::{PackedRhs, PackedRhsBuilder};
#[doc(hidden)]
pub use product::Chain;

use gristmill_core::{Activation, Error, MatMut, MatRef, Threads, Workspace};
use gristmill_simd::{Element, Level, Simd};
use product::Product;

/// The right-hand side B, `[k, n]`.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<'a, B: Element = f32> {
    /// A matrix of any strides; for a weight `[n, k]` of a linear layer pass its transpose.
    Plain(MatRef<'a, B>),
    /// A matrix packed beforehand.
    Packed(&'a PackedRhs<B>),
}

impl<B: Element> Rhs<'_, B> {
    /// Rows of B.
    pub fn k(&self) -> usize {
        match self {
            Rhs::Plain(b) => b.rows(),
            Rhs::Packed(b) => b.k(),
        }
    }

    /// Columns of B.
    pub fn n(&self) -> usize {
        match self {
            Rhs::Plain(b) => b.cols(),
            Rhs::Packed(b) => b.n(),
        }
    }
}

impl<'a, B: Element> From<MatRef<'a, B>> for Rhs<'a, B> {
    fn from(b: MatRef<'a, B>) -> Self {
        Rhs::Plain(b)
    }
}

impl<'a, B: Element> From<&'a PackedRhs<B>> for Rhs<'a, B> {
    fn from(b: &'a PackedRhs<B>) -> Self {
        Rhs::Packed(b)
    }
}

/// What a product computes besides `A B`, and where it runs.
///
/// The steps, each one rounded f32 operation, in this order: `y = alpha * acc` (absent when alpha is 1),
/// `y = fma(beta, c, y)` (absent when beta is 0: C is not read), `y + bias`, activation, `y + residual`. Last, one
/// rounding to the type of C. The residual has the storage type of C, the bias any, f32 by default.
#[derive(Clone, Copy, Debug)]
pub struct GemmOptions<'a, C = f32, V = f32> {
    /// Factor of the product; 0 is not special: 0 times an infinity is NaN.
    pub alpha: f32,
    /// Factor of what C holds before the call.
    pub beta: f32,
    /// `n` values, added to every row.
    pub bias: Option<&'a [V]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// `m x n` values, added last.
    pub residual: Option<MatRef<'a, C>>,
    /// Where the work runs; small products stay on the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; by default the best one.
    pub level: Option<Level>,
}

impl<C, V> GemmOptions<'_, C, V> {
    /// The product alone, on the global threads at the best level: what [`Default`] gives, for a bias of any type.
    pub const fn new() -> Self {
        Self {
            alpha: 1.0,
            beta: 0.0,
            bias: None,
            activation: Activation::Identity,
            residual: None,
            threads: Threads::Global,
            level: None,
        }
    }
}

impl<C> Default for GemmOptions<'_, C> {
    fn default() -> Self {
        Self::new()
    }
}

/// `C = epilogue(A B)` with A `[m, k]`, B `[k, n]` and C `[m, n]`, each of its own storage type.
///
/// Values are widened exactly. Where A and B are both bf16, products of pairs are summed as
/// [`dot_pair`](gristmill_simd::naive::dot_pair) does; otherwise every element is one chain of multiply-adds over k
/// from +0.0. Then come the steps of [`GemmOptions`]; see `kernels/NUMERICS.md`, "Matrix products". With `k = 0` the
/// product is +0.0. The error of the chain is within `gamma_k * |A| |B|`, element by element.
///
/// Fastest is a packed B with C of unit column stride. A may have any strides at the same speed; a column-major C
/// is computed transposed where B is plain, and turned tile by tile where it is packed.
///
/// # Errors
/// [`Error::ShapeMismatch`] when sizes disagree, [`Error::Level`] when the level cannot be used,
/// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] when scratch memory cannot be had. C is untouched then.
pub fn gemm<'b, A: Element, B: Element, C: Element, V: Element>(
    a: MatRef<'_, A>,
    b: impl Into<Rhs<'b, B>>,
    c: MatMut<'_, C>,
    options: &GemmOptions<'_, C, V>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let b = b.into();
    check([a.rows(), a.cols()], [b.k(), b.n()], [c.rows(), c.cols()], options)?;
    let simd = Simd::choose(options.level)?;
    let product = Product { a: a.into(), b: b.into(), c: c.into(), steps: options.into() };
    driver::run(simd, &product, options.threads, workspace)
}

/// Checks that the sizes of all operands agree.
fn check<C, V>(
    [m, a_cols]: [usize; 2],
    [k, n]: [usize; 2],
    [rows, cols]: [usize; 2],
    options: &GemmOptions<'_, C, V>,
) -> Result<(), Error> {
    let expect = |what, expected, found| {
        if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
    };
    expect("rows of b against columns of a", a_cols, k)?;
    expect("rows of c against rows of a", m, rows)?;
    expect("columns of c against columns of b", n, cols)?;
    if let Some(bias) = options.bias {
        expect("length of the bias against columns of b", n, bias.len())?;
    }
    if let Some(residual) = options.residual {
        expect("rows of the residual against rows of c", rows, residual.rows())?;
        expect("columns of the residual against columns of c", cols, residual.cols())?;
    }
    Ok(())
}
