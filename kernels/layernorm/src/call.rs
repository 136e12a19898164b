//! One call: its checks, its operands without their borrows and types, its rows divided among the threads.

use crate::row::{Affine, Length};
use crate::uniform::{self, Uniform};
use crate::{LayerNormOptions, NormOutput, check, fused};
use gristmill_core::{Error, MatMut, MatRef, SendPtr, Threads, cache::Caches};
use gristmill_simd::{Dtype, Element, Level, Simd, TypedPtr};

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Mean 0, variance 1.
    Layer,
    /// Mean square 1.
    Rms,
}

/// Inlined, so that a row alone has its operands in registers: on the way to a function they would be copied through memory,
/// where each copy waits for all that the call before has stored.
#[inline(always)]
pub(crate) fn plain<X: Element, Y: Element, P: Element>(
    norm: Norm,
    x: MatRef<'_, X>,
    mut out: NormOutput<'_, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::norm(x, &out, options)?;
    let Some(row) = only_row(norm, x, &mut out, options) else { return rows(norm, x, out, options) };
    let simd = Simd::choose(options.level)?;
    // SAFETY: shapes agree; out is borrowed exclusively.
    unsafe { uniform::one(&row, simd) };
    Ok(())
}

/// [`plain`] of checked arguments, whatever they are.
#[inline(never)]
fn rows<X: Element, Y: Element, P: Element>(
    norm: Norm,
    x: MatRef<'_, X>,
    mut out: NormOutput<'_, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    let operands = Operands { x: input(x), residual: None, sum: None, y: output(&mut out.y) };
    // SAFETY: shapes agree; out is borrowed exclusively.
    unsafe { run(norm, &mut out, operands, options) }
}

/// The operands of a call with one row, all of f32 and side by side: what a decoder asks for. It is so short that to
/// gather them as those of other calls takes a twentieth of its time.
#[inline(always)]
fn only_row<X: Element, Y: Element, P: Element>(
    norm: Norm,
    x: MatRef<'_, X>,
    out: &mut NormOutput<'_, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Option<Uniform<f32>> {
    let gamma = options.gamma.map_or(Some(None), |gamma| P::as_f32s(gamma).map(Some))?;
    let beta = options.beta.map_or(Some(None), |beta| P::as_f32s(beta).map(Some))?;
    if out.y.rows() != 1 {
        return None;
    }
    let x = X::as_f32s(x.row(0)?)?;
    let statistics = Statistics::new(out);
    let y = Y::as_f32s_mut(out.y.row_mut(0)?)?;
    let affine = Affine::new(gamma.map(<[f32]>::as_ptr), beta.map(<[f32]>::as_ptr));
    let (n, x, y) = (x.len(), x.as_ptr(), y.as_mut_ptr());
    let (n, eps, strides) = (Length::new(n), options.eps, [0; 2]);
    (n.n > 0).then_some(Uniform { norm, n, eps, x, y, strides, affine, statistics, streams: false })
}

#[inline]
pub(crate) fn in_place<X: Element, P: Element>(
    norm: Norm,
    mut x: NormOutput<'_, X>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::in_place(&x, options)?;
    let y = output(&mut x.y);
    let operands = Operands { x: y, residual: None, sum: None, y };
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { run(norm, &mut x, operands, options) }
}

#[inline]
pub(crate) fn added<X: Element, R: Element, Y: Element, P: Element>(
    norm: Norm,
    x: MatRef<'_, X>,
    residual: MatRef<'_, R>,
    mut out: NormOutput<'_, Y>,
    mut sum: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::add(x, residual, sum.as_ref())?;
    check::norm(x, &out, options)?;
    let (sum, residual) = (sum.as_mut().map(output), Some(input(residual)));
    let operands = Operands { x: input(x), residual, sum, y: output(&mut out.y) };
    // SAFETY: shapes agree; out and sum are borrowed exclusively.
    unsafe { run(norm, &mut out, operands, options) }
}

#[inline]
pub(crate) fn added_in_place<X: Element, R: Element, P: Element>(
    norm: Norm,
    mut x: NormOutput<'_, X>,
    residual: MatRef<'_, R>,
    mut y: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::add(x.y.as_ref(), residual, None::<&MatMut<'_, X>>)?;
    if let Some(y) = &y {
        check::same_shape(["rows of y", "columns of y"], x.y.as_ref(), y.as_ref())?;
    }
    check::in_place(&x, options)?;
    let stream = output(&mut x.y);
    let (y, sum) = match y.as_mut().map(output) {
        Some(y) => (y, Some(stream)),
        None => (stream, None),
    };
    let operands = Operands { x: stream, residual: Some(input(residual)), sum, y };
    // SAFETY: shapes agree; x is borrowed exclusively and is input and one of the outputs, and so is y the other.
    unsafe { run(norm, &mut x, operands, options) }
}

/// A matrix without its borrow: where it starts and its strides.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    start: TypedPtr,
    pub(crate) row_stride: isize,
    pub(crate) col_stride: isize,
}

impl Raw {
    /// Where an element lies.
    #[inline(always)]
    pub(crate) fn at(self, r: usize, i: usize) -> TypedPtr {
        let (row, column) = (r as isize, i as isize);
        self.start.offset(row.wrapping_mul(self.row_stride).wrapping_add(column.wrapping_mul(self.col_stride)))
    }

    #[inline(always)]
    pub(crate) fn dtype(self) -> Dtype {
        self.start.dtype()
    }

    /// Whether the elements of a row lie side by side.
    #[inline(always)]
    pub(crate) fn is_dense(self) -> bool {
        self.col_stride == 1
    }
}

/// The matrices of a call.
struct Operands {
    x: Raw,
    residual: Option<Raw>,
    sum: Option<Raw>,
    y: Raw,
}

fn input<T: Element>(a: MatRef<'_, T>) -> Raw {
    Raw { start: TypedPtr::new(a.as_ptr()), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

fn output<T: Element>(a: &mut MatMut<'_, T>) -> Raw {
    Raw { start: TypedPtr::new(a.as_mut_ptr()), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

/// The arguments of a call.
///
/// Whoever runs it promises **(Call)**: every matrix has `n >= 1` columns and the rows that are run, and so have the
/// statistics that are wanted; any two are the same memory, element for element, or do not overlap, and the outputs
/// are exclusively the caller's; gamma and beta, where present, have `n` elements.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) norm: Norm,
    /// All of them, whoever runs them.
    pub(crate) rows: usize,
    pub(crate) n: Length,
    pub(crate) eps: f32,
    pub(crate) x: Raw,
    /// What is added to `x`.
    pub(crate) residual: Option<Raw>,
    /// Where the sum goes, if it is wanted.
    pub(crate) sum: Option<Raw>,
    pub(crate) y: Raw,
    pub(crate) gamma: Option<TypedPtr>,
    pub(crate) beta: Option<TypedPtr>,
    pub(crate) statistics: Statistics,
    /// Whether `y` is written around the caches: it is of f32, apart from all others, and more than they keep.
    pub(crate) streams: bool,
}

// SAFETY: (Call) is about exclusive outputs and shared inputs of plain numbers, whichever thread runs it.
unsafe impl Send for Call {}
// SAFETY: as above; running only reads the call itself.
unsafe impl Sync for Call {}

impl Call {
    /// Whether all operands are f32, their elements side by side.
    #[inline(always)]
    pub(crate) fn is_of_f32s(&self) -> bool {
        let Self { x, residual, sum, y, gamma, beta, .. } = self;
        let f32s = |matrix: &Raw| matrix.dtype() == Dtype::F32 && (matrix.is_dense() || self.n.n == 1);
        let mut vectors = [gamma, beta].into_iter().flatten();
        [Some(x), residual.as_ref(), sum.as_ref(), Some(y)].into_iter().flatten().all(f32s)
            && vectors.all(|values| values.dtype() == Dtype::F32)
    }

    /// The same call, where that is so, with the types in a place where the compiler sees them.
    #[inline(always)]
    pub(crate) fn of_f32s(&self) -> Self {
        let values = |p: TypedPtr| TypedPtr::new(p.cast::<f32>());
        let matrix = |raw: Raw| Raw { start: values(raw.start), row_stride: raw.row_stride, col_stride: 1 };
        let Self { x, residual, sum, y, gamma, beta, .. } = *self;
        Self {
            x: matrix(x),
            residual: residual.map(matrix),
            sum: sum.map(matrix),
            y: matrix(y),
            gamma: gamma.map(values),
            beta: beta.map(values),
            ..*self
        }
    }
}

/// Where the statistics of the rows go, when they are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    mean: Option<SendPtr<f32>>,
    rstd: Option<SendPtr<f32>>,
}

impl Statistics {
    #[inline(always)]
    fn new<T>(out: &mut NormOutput<'_, T>) -> Self {
        let pointer = |values: &mut Option<&mut [f32]>| values.as_mut().map(|values| SendPtr::new(values.as_mut_ptr()));
        Self { mean: pointer(&mut out.mean), rstd: pointer(&mut out.rstd) }
    }

    /// # Safety
    /// (Call): there is a row `r`.
    #[inline(always)]
    pub(crate) unsafe fn set(self, r: usize, mean: f32, rstd: f32) {
        for (values, value) in [(self.mean, mean), (self.rstd, rstd)] {
            if let Some(values) = values {
                // SAFETY: the caller's promise.
                unsafe { values.get().add(r).write(value) };
            }
        }
    }
}

/// Runs a call whose arguments have been checked. `out` has the sizes and the statistics; its matrix is among the
/// operands.
///
/// # Safety
/// Every operand has the rows and columns of `out`; two are the same memory, element for element, or do not overlap;
/// the outputs are the caller's alone; the lengths of the statistics, gamma and beta have been checked.
#[inline(always)]
unsafe fn run<O, P: Element>(
    norm: Norm,
    out: &mut NormOutput<'_, O>,
    Operands { x, residual, sum, y }: Operands,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    let (rows, n) = (out.y.rows(), out.y.cols());
    let statistics = Statistics::new(out);
    let vector = |values: Option<&[P]>| values.map(|values| TypedPtr::new(values.as_ptr()));
    let (gamma, beta) = (vector(options.gamma), vector(options.beta));
    let apart = |matrix: Raw| matrix.start.address() != y.start.address();
    let bytes = rows.saturating_mul(n).saturating_mul(size_of::<f32>());
    let streams = bytes > LARGE
        && y.dtype() == Dtype::F32
        && [Some(x), residual, sum].into_iter().flatten().all(apart)
        && !Caches::detected().keep(bytes);
    let (n, eps) = (Length::new(n), options.eps);
    let call = Call { norm, rows, n, eps, x, residual, sum, y, gamma, beta, statistics, streams };
    if n.n == 0 {
        Simd::choose(options.level)?;
        out.no_columns();
        return Ok(());
    }
    // SAFETY: the caller's promise is (Call).
    unsafe { divide(&call, options.threads, options.level) }
}

/// Bytes that no cache lacks the room for; whether there is more is found out for larger matrices.
const LARGE: usize = 1 << 20;

/// Elements that are worth a job of their own: about a microsecond. Other threads are then awake for what follows.
const JOB: usize = 1 << 13;

/// The same where the pool must be entered first.
const ENTRY_JOB: usize = 1 << 15;

/// Divides the rows among the threads.
///
/// # Safety
/// (Call).
#[inline]
unsafe fn divide(call: &Call, threads: Threads<'_>, level: Option<Level>) -> Result<(), Error> {
    let simd = Simd::choose(level)?;
    if call.rows == 1 {
        // SAFETY: the caller's promise.
        unsafe { fused::run(call, simd, 0..1) };
        return Ok(());
    }
    let job = if threads.is_entered() { JOB } else { ENTRY_JOB };
    threads.for_each_range(call.rows, (job / call.n.n).max(1), |rows| {
        // SAFETY: the caller's promise is (Call); the ranges divide the rows.
        unsafe { fused::run(call, simd, rows) };
    });
    Ok(())
}
