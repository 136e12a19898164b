//! One call: its checks, its operands without their borrows, its rows divided among the threads.

use crate::fused::{Added, Alone, Arithmetic, Call, Form, Raw, Statistics};
use crate::row::{Affine, Length};
use crate::{LayerNormOptions, NormOutput, check};
use gristmill_core::{Error, MatMut, MatRef, SendPtr};
use gristmill_simd::{Element, Simd};

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Mean 0, variance 1.
    Layer,
    /// Mean square 1.
    Rms,
}

pub(crate) fn plain<X: Element, Y: Element, P: Element>(
    norm: Norm,
    x: MatRef<'_, X>,
    mut out: NormOutput<'_, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::norm(x, &out, options)?;
    let operands = Operands { x: input(x), added: Alone, y: output(&mut out.y) };
    // SAFETY: shapes agree; out is borrowed exclusively.
    unsafe { run(norm, &mut out, operands, options) }
}

pub(crate) fn in_place<X: Element, P: Element>(
    norm: Norm,
    mut x: NormOutput<'_, X>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    check::in_place(&x, options)?;
    let y = output(&mut x.y);
    let operands = Operands { x: y.as_input(), added: Alone, y };
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { run(norm, &mut x, operands, options) }
}

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
    let added = Added { residual: input(residual), sum: sum.as_mut().map(output) };
    let operands = Operands { x: input(x), added, y: output(&mut out.y) };
    // SAFETY: shapes agree; out and sum are borrowed exclusively.
    unsafe { run(norm, &mut out, operands, options) }
}

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
    let operands = Operands { x: stream.as_input(), added: Added { residual: input(residual), sum }, y };
    // SAFETY: shapes agree; x is borrowed exclusively and is input and one of the outputs, and so is y the other.
    unsafe { run(norm, &mut x, operands, options) }
}

/// The matrices of a call.
struct Operands<X, A, Y> {
    x: Raw<*const X>,
    added: A,
    y: Raw<*mut Y>,
}

fn input<T>(a: MatRef<'_, T>) -> Raw<*const T> {
    Raw { start: a.as_ptr(), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

fn output<T>(a: &mut MatMut<'_, T>) -> Raw<*mut T> {
    Raw { start: a.as_mut_ptr(), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

/// Elements that are worth a job of their own.
const JOB: usize = 1 << 15;

/// Divides the rows among the threads. `out` has the sizes and the statistics; its matrix is among the operands.
///
/// # Safety
/// Every operand has the rows and columns of `out`; two are the same memory, element for element, or do not overlap;
/// the outputs are the caller's alone; the lengths of the statistics, gamma and beta have been checked.
unsafe fn run<X: Element, A: Form<X>, Y: Element, O, P: Element>(
    norm: Norm,
    out: &mut NormOutput<'_, O>,
    operands: Operands<X, A, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    let simd = Simd::choose(options.level)?;
    let (rows, n) = (out.y.rows(), out.y.cols());
    if n == 0 {
        out.no_columns();
        return Ok(());
    }
    let pointer = |values: &mut Option<&mut [f32]>| values.as_mut().map(|values| SendPtr::new(values.as_mut_ptr()));
    let statistics = Statistics { mean: pointer(&mut out.mean), rstd: pointer(&mut out.rstd) };
    let Operands { x, added, y } = operands;
    let affine = Affine::new(options.gamma, options.beta);
    let arithmetic = Arithmetic { norm, n: Length::new(n), affine, eps: options.eps };
    let call = Call { x, added, y, statistics, arithmetic };
    let share = (JOB / n).max(1);
    options.threads.for_each(rows.div_ceil(share), |job| {
        let first = job * share;
        // SAFETY: the caller's promise is (Call); the jobs divide the rows.
        unsafe { A::run(&call, simd, first..rows.min(first + share)) };
    });
    Ok(())
}
