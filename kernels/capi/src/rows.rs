//! Operations on each row.

use crate::{
    dispatch::{activation, get, same_type, threads, typed},
    status::{Failure, Status, guard},
    view::{self, Matrix, Span, extent},
};
use gristmill::{
    Error, MatMut, MatRef, RowOptions, SoftmaxOptions, argmax, bias_activation, bias_activation_in_place, log_softmax,
    log_softmax_in_place, simd::Element, softmax, softmax_in_place, top_k,
};

/// `y = softmax(x)`, row by row; `y` may be `x`. `serial` not 0: the calling thread alone.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, `y` writable; nobody uses `y` meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_softmax(x: *const Matrix, y: *const Matrix, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { operands(x, y)? };
        let options = SoftmaxOptions { threads: threads(serial != 0), ..SoftmaxOptions::default() };
        typed!("x", x.element, T => {
            // SAFETY: the caller's promise.
            unsafe { map::<T>(x, y, None, |x, y| softmax(x, y, &options), |x| softmax_in_place(x, &options)) }
        })
    })
}

/// The logarithm of [`gristmill_softmax`].
///
/// # Safety
/// As [`gristmill_softmax`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_log_softmax(x: *const Matrix, y: *const Matrix, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { operands(x, y)? };
        let options = SoftmaxOptions { threads: threads(serial != 0), ..SoftmaxOptions::default() };
        typed!("x", x.element, T => {
            // SAFETY: the caller's promise.
            unsafe { map::<T>(x, y, None, |x, y| log_softmax(x, y, &options), |x| log_softmax_in_place(x, &options)) }
        })
    })
}

/// `y = activation(x + bias)`; `y` may be `x`, and a null bias adds nothing. `serial` not 0: the calling thread alone.
///
/// # Safety
/// As [`gristmill_softmax`]; `bias` is null or has a value per column.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_bias_activation(
    x: *const Matrix,
    bias: *const f32,
    function: u32,
    y: *const Matrix,
    serial: i32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { operands(x, y)? };
        // SAFETY: the caller's promise.
        let bias = unsafe { view::read_optional("bias", bias, x.cols)? };
        let function = activation(function)?;
        let options = RowOptions { threads: threads(serial != 0), level: None };
        typed!("x", x.element, T => {
            // SAFETY: the caller's promise.
            unsafe {
                map::<T>(
                    x,
                    y,
                    bias.map(Span::of),
                    |x, y| bias_activation(x, bias, function, y, &options),
                    |x| bias_activation_in_place(x, bias, function, &options),
                )
            }
        })
    })
}

/// What two pointers to matrices of one type point to.
///
/// # Safety
/// They are null or point to values that live for `'a`, unchanged.
unsafe fn operands<'a>(x: *const Matrix, y: *const Matrix) -> Result<(&'a Matrix, &'a Matrix), Failure> {
    // SAFETY: the caller's promise.
    let (x, y) = unsafe { (get("x", x)?, get("y", y)?) };
    same_type(&[("x", x.element), ("y", y.element)])?;
    Ok((x, y))
}

/// Calls `in_place` if `y` is `x`, else `apart`, if `y` shares no memory with `x` and the bias.
///
/// # Safety
/// As [`gristmill_softmax`]; both are of type `T`.
unsafe fn map<T: Element>(
    x: &Matrix,
    y: &Matrix,
    bias: Option<Span>,
    apart: impl FnOnce(MatRef<'_, T>, MatMut<'_, T>) -> Result<(), Error>,
    in_place: impl FnOnce(MatMut<'_, T>) -> Result<(), Error>,
) -> Result<(), Failure> {
    let same = x.same_as(y);
    let x_span = if same { None } else { Some(x.span::<T>("x")?) };
    y.span::<T>("y")?.apart("y", &[("x", x_span), ("bias", bias)])?;
    // SAFETY: the caller's promise; Y shares no memory with X, or is X and X is not viewed.
    unsafe {
        let out = y.view_mut::<T>("y")?;
        if same { in_place(out)? } else { apart(x.view::<T>("x")?, out)? }
    }
    Ok(())
}

/// `out[i]` = the column of the largest value of row i. `serial` not 0: the calling thread alone.
///
/// # Safety
/// As [`gristmill_softmax`]; `out` is null or has a place per row, and nobody uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_argmax(x: *const Matrix, out: *mut usize, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let x = unsafe { get("x", x)? };
        let options = RowOptions { threads: threads(serial != 0), level: None };
        // SAFETY: the caller's promise.
        typed!("x", x.element, T => unsafe { choose::<T>(x, 1, out, |x, out| argmax(x, out, &options)) })
    })
}

/// Row i of `out`, `[rows, k]` without gaps, = the columns of the `k` largest values of row i, the largest first.
///
/// # Safety
/// As [`gristmill_argmax`], with `k` places per row.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_top_k(x: *const Matrix, k: usize, out: *mut usize, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let x = unsafe { get("x", x)? };
        let options = RowOptions { threads: threads(serial != 0), level: None };
        typed!("x", x.element, T => {
            // SAFETY: the caller's promise.
            unsafe { choose::<T>(x, k, out, |x, out| top_k(x, MatMut::new(out, x.rows(), k)?, &options)) }
        })
    })
}

/// Calls `run` with `x` and with `k` places for each of its rows, if they share no memory.
///
/// # Safety
/// As [`gristmill_top_k`]; `x` is of type `T`.
unsafe fn choose<T: Element>(
    x: &Matrix,
    k: usize,
    out: *mut usize,
    run: impl FnOnce(MatRef<'_, T>, &mut [usize]) -> Result<(), Error>,
) -> Result<(), Failure> {
    let len = extent("out", [x.rows, k], [k, 1])?;
    Span::new(out, len).apart("out", &[("x", Some(x.span::<T>("x")?))])?;
    // SAFETY: the caller's promise; the places share no memory with X.
    unsafe { run(x.view::<T>("x")?, view::write("out", out.cast(), len)?)? }
    Ok(())
}
