//! Many products in one call: batches of one shape, and lists of any products.

use crate::driver::{self, Products};
use crate::product::{Product, Right};
use crate::{GemmOptions, PackedRhs, Rhs, check};
use gristmill_core::{BatchMut, BatchRef, Error, MatMut, MatRef, Operand, Threads, Workspace};
use gristmill_simd::{Element, Level, Simd};
use std::{fmt, marker::PhantomData};

/// The right-hand sides of a batch, each `[k, n]`.
#[derive(Clone, Copy, Debug)]
pub enum BatchRhs<'a, B: Element = f32> {
    /// Matrices of any strides; [`BatchRef::broadcast`] is one matrix for all products.
    Plain(BatchRef<'a, B>),
    /// One packed matrix for all products.
    Packed(&'a PackedRhs<B>),
}

impl<'a, B: Element> From<BatchRef<'a, B>> for BatchRhs<'a, B> {
    fn from(b: BatchRef<'a, B>) -> Self {
        BatchRhs::Plain(b)
    }
}

impl<'a, B: Element> From<&'a PackedRhs<B>> for BatchRhs<'a, B> {
    fn from(b: &'a PackedRhs<B>) -> Self {
        BatchRhs::Packed(b)
    }
}

/// `C_b = epilogue(A_b B_b)` for every product of a batch, with A `[count, m, k]`, B `[count, k, n]` and
/// C `[count, m, n]`.
///
/// Every product has the bits of [`gemm`](crate::gemm), alone or in a batch. A batch stride of zero broadcasts A or B.
/// The options hold for each product: all have the same bias and the same residual, `[m, n]`. The work of all products
/// is shared in one parallel region.
///
/// ```
/// use gristmill_core::{BatchMut, BatchRef, Workspace};
/// use gristmill_gemm::{GemmOptions, gemm_batch};
///
/// // Two products of a 1 x 2 by a 2 x 1 matrix.
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
/// let mut c = [0.0; 2];
/// let (left, right) = (BatchRef::new(&a, [2, 1, 2])?, BatchRef::new(&b, [2, 2, 1])?);
/// gemm_batch(left, right, BatchMut::new(&mut c, [2, 1, 1])?, &GemmOptions::default(), &mut Workspace::new())?;
/// assert_eq!(c, [17.0, 53.0]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
///
/// # Errors
/// As [`gemm`](crate::gemm), and [`Error::ShapeMismatch`] when the counts disagree. C is untouched then.
pub fn gemm_batch<'b, A: Element, B: Element, C: Element, V: Element>(
    a: BatchRef<'_, A>,
    b: impl Into<BatchRhs<'b, B>>,
    mut c: BatchMut<'_, C>,
    options: &GemmOptions<'_, C, V>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let b = b.into();
    let count = c.count();
    let (b_sizes, b_count) = match &b {
        BatchRhs::Plain(b) => ([b.rows(), b.cols()], b.count()),
        BatchRhs::Packed(b) => ([b.k(), b.n()], count),
    };
    check_counts(a.count(), b_count, count)?;
    check([a.rows(), a.cols()], b_sizes, [c.rows(), c.cols()], options)?;
    let simd = Simd::choose(options.level)?;
    let c_stride = c.strides()[0];
    let (Some(first_a), Some(first_c)) = (a.get(0), c.get(0)) else { return Ok(()) };
    let (right, b_stride) = match b {
        BatchRhs::Plain(b) => match b.get(0) {
            Some(first) => (Right::from(Rhs::Plain(first)), b.strides()[0]),
            None => return Ok(()),
        },
        BatchRhs::Packed(b) => (Right::from(Rhs::Packed(b)), 0),
    };
    let first = Product { a: first_a.into(), b: right, c: first_c.into(), steps: options.into() };
    let mut batch = Batch { first, strides: [a.strides()[0], b_stride, c_stride], count };
    driver::run_many(simd, &mut batch, options.threads, workspace)
}

/// Checks that all operands of a batch have as many matrices as C.
pub(crate) fn check_counts(a: usize, b: usize, c: usize) -> Result<(), Error> {
    let counts = [("matrices of a against matrices of c", a), ("matrices of b against matrices of c", b)];
    match counts.into_iter().find(|&(_, found)| found != c) {
        Some((what, found)) => Err(Error::ShapeMismatch { what, expected: c, found }),
        None => Ok(()),
    }
}

/// Products of one shape at fixed distances.
struct Batch<'p> {
    first: Product<'p>,
    /// Elements from one matrix of A, B, C to the next.
    strides: [isize; 3],
    count: usize,
}

impl<'p> Products for Batch<'p> {
    fn count(&self) -> usize {
        self.count
    }
    fn get(&self, i: usize) -> Product<'_> {
        let [a, b, c] = self.strides.map(|stride| stride.wrapping_mul(i as isize));
        // SAFETY: each operand has so many matrices, so far apart.
        let at = |operand: Operand<'p>, n| unsafe { operand.shifted(n) };
        let right = if let Right::Plain(first) = self.first.b { Right::Plain(at(first, b)) } else { self.first.b };
        Product { a: at(self.first.a, a), b: right, c: at(self.first.c, c), ..self.first }
    }
    fn alike(&self) -> bool {
        true
    }
    fn start_at(&mut self, _: usize, _: usize) {}
    fn find(&self, job: usize) -> (usize, usize) {
        (job, job)
    }
}

/// One product of a list: checked when built, computed by [`gemm_list`].
///
/// The products of a list may differ in everything, storage types included.
pub struct Problem<'a> {
    product: Product<'a>,
    first_job: usize,
    life: PhantomData<&'a mut ()>,
}

impl<'a> Problem<'a> {
    /// `C = epilogue(A B)`, as [`gemm`](crate::gemm) computes it. The threads and the level of the options are not
    /// used: those of the list hold.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when sizes disagree.
    pub fn new<A: Element, B: Element, C: Element, V: Element>(
        a: MatRef<'a, A>,
        b: impl Into<Rhs<'a, B>>,
        c: MatMut<'a, C>,
        options: &GemmOptions<'a, C, V>,
    ) -> Result<Self, Error> {
        let b = b.into();
        check([a.rows(), a.cols()], [b.k(), b.n()], [c.rows(), c.cols()], options)?;
        let product = Product { a: a.into(), b: b.into(), c: Operand::from(c), steps: options.into() };
        Ok(Self { product, first_job: 0, life: PhantomData })
    }
}

impl fmt::Debug for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem").field("sizes", &self.product.sizes()).finish_non_exhaustive()
    }
}

/// Where the products of a list run.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions<'a> {
    /// Where the work runs; small lists stay on the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; by default the best one.
    pub level: Option<Level>,
}

/// Computes independent products, in one parallel region. Each has the bits of [`gemm`](crate::gemm).
///
/// ```
/// use gristmill_core::{MatMut, MatRef, Workspace};
/// use gristmill_gemm::{GemmOptions, ListOptions, Problem, gemm_list};
///
/// let (x, w, v) = ([1.0, 2.0], [3.0, 4.0], [5.0; 4]);
/// let (mut y, mut z) = ([0.0; 1], [0.0; 2]);
/// let (x, options) = (MatRef::new(&x, 1, 2)?, GemmOptions::default());
/// let mut list = [
///     Problem::new(x, MatRef::new(&w, 2, 1)?, MatMut::new(&mut y, 1, 1)?, &options)?,
///     Problem::new(x, MatRef::new(&v, 2, 2)?, MatMut::new(&mut z, 1, 2)?, &options)?,
/// ];
/// gemm_list(&mut list, &ListOptions::default(), &mut Workspace::new())?;
/// drop(list);
/// assert_eq!((y, z), ([11.0], [15.0, 15.0]));
/// # Ok::<(), gristmill_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Level`] when the level cannot be used, [`Error::SizeOverflow`] or [`Error::OutOfMemory`] when scratch memory
/// cannot be had. No C is touched then.
pub fn gemm_list(
    problems: &mut [Problem<'_>],
    options: &ListOptions<'_>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let simd = Simd::choose(options.level)?;
    driver::run_many(simd, &mut List(problems), options.threads, workspace)
}

struct List<'l, 'a>(&'l mut [Problem<'a>]);

impl Products for List<'_, '_> {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> Product<'_> {
        self.0[i].product
    }
    fn alike(&self) -> bool {
        false
    }
    fn start_at(&mut self, i: usize, first: usize) {
        self.0[i].first_job = first;
    }
    fn find(&self, job: usize) -> (usize, usize) {
        // The last product that starts here or before; empty ones start where the next does.
        let i = self.0.partition_point(|problem| problem.first_job <= job) - 1;
        (i, self.0[i].first_job)
    }
}
