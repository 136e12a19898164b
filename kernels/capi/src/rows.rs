//! Norms and softmax, row by row.

use crate::{
    dispatch::{get, same_type, threads, typed},
    status::{Failure, Status, guard},
    view::{self, Matrix, Span},
};
use gristmill::{
    LayerNormOptions, SoftmaxOptions, add_layer_norm, add_layer_norm_in_place, layer_norm, layer_norm_in_place,
    softmax, softmax_in_place,
};

/// `gristmill_norm_options`; null stands for an epsilon of 1e-5 and nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Added to the variance.
    pub eps: f32,
    /// A factor per column, of f32; null for none.
    pub gamma: *const f32,
    /// A shift per column, of f32; null for none.
    pub beta: *const f32,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options { eps: 1e-5, gamma: std::ptr::null(), beta: std::ptr::null(), serial: 0 };

/// `y = norm(x)`; `y` may be `x`.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, `y` writable; nobody uses `y` meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_layer_norm(x: *const Matrix, y: *const Matrix, options: *const Options) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(x, None, y, options) })
}

/// `y = norm(x + residual)`; `y` may be `x`.
///
/// # Safety
/// As [`gristmill_layer_norm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_add_layer_norm(
    x: *const Matrix,
    residual: *const Matrix,
    y: *const Matrix,
    options: *const Options,
) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(x, Some(get("residual", residual)?), y, options) })
}

/// # Safety
/// As [`gristmill_layer_norm`].
unsafe fn norm(
    x: *const Matrix,
    residual: Option<&Matrix>,
    y: *const Matrix,
    options: *const Options,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (x, y, options) = unsafe { (get("x", x)?, get("y", y)?, options.as_ref().unwrap_or(&PLAIN)) };
    same_type(&[("x", x.element), ("y", y.element), ("residual", residual.map_or(y.element, |r| r.element))])?;
    typed!("x", x.element, T => {
        let column = |name, values: *const f32| {
            let len = if values.is_null() { 0 } else { x.cols };
            // SAFETY: the caller's promise: a value per column.
            unsafe { view::read::<f32>(name, values.cast(), len) }
        };
        let (gamma, beta) = (column("gamma", options.gamma)?, column("beta", options.beta)?);
        let residual_span = residual.map(|residual| residual.span::<T>("residual")).transpose()?;
        let in_place = same(x, y);
        let x_span = if in_place { None } else { Some(x.span::<T>("x")?) };
        let others = [
            ("x", x_span),
            ("residual", residual_span),
            ("gamma", Some(Span::of(gamma))),
            ("beta", Some(Span::of(beta))),
        ];
        y.span::<T>("y")?.apart("y", &others)?;
        let options = LayerNormOptions {
            eps: options.eps,
            gamma: (!options.gamma.is_null()).then_some(gamma),
            beta: (!options.beta.is_null()).then_some(beta),
            threads: threads(options.serial != 0),
            level: None,
        };
        // SAFETY: the caller's promise; Y shares no memory with the others, or is X and X is not viewed.
        unsafe {
            let out = y.view_mut::<T>("y")?;
            let residual = residual.map(|residual| residual.view::<T>("residual")).transpose()?;
            match (residual, in_place) {
                (None, true) => layer_norm_in_place(out, &options)?,
                (None, false) => layer_norm(x.view::<T>("x")?, out, &options)?,
                (Some(residual), true) => add_layer_norm_in_place(out, residual, None, &options)?,
                (Some(residual), false) => add_layer_norm(x.view::<T>("x")?, residual, out, None, &options)?,
            }
        }
        Ok(())
    })
}

/// Whether two descriptions are of the same elements, so that an operation is in place.
fn same(x: &Matrix, y: &Matrix) -> bool {
    (x.data, x.rows, x.cols) == (y.data, y.rows, y.cols) && (x.row_stride == y.row_stride || x.rows <= 1)
}

/// `y = softmax(x)`, row by row; `y` may be `x`. `serial` not 0: the calling thread alone.
///
/// # Safety
/// As [`gristmill_layer_norm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_softmax(x: *const Matrix, y: *const Matrix, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { (get("x", x)?, get("y", y)?) };
        same_type(&[("x", x.element), ("y", y.element)])?;
        let options = SoftmaxOptions { threads: threads(serial != 0), ..SoftmaxOptions::default() };
        typed!("x", x.element, T => {
            let in_place = same(x, y);
            let x_span = if in_place { None } else { Some(x.span::<T>("x")?) };
            y.span::<T>("y")?.apart("y", &[("x", x_span)])?;
            // SAFETY: the caller's promise; Y shares no memory with X, or is X and X is not viewed.
            unsafe {
                let out = y.view_mut::<T>("y")?;
                if in_place { softmax_in_place(out, &options)? } else { softmax(x.view::<T>("x")?, out, &options)? }
            }
            Ok(())
        })
    })
}
