//! Layer and RMS norms, row by row.

use crate::{
    dispatch::{get, same_type, threads, typed},
    status::{Failure, Status, guard},
    view::{self, Matrix, Span},
};
use gristmill::{
    Error, LayerNormOptions, MatMut, MatRef, add_layer_norm, add_layer_norm_in_place, add_rms_norm,
    add_rms_norm_in_place, layer_norm, layer_norm_in_place, rms_norm, rms_norm_in_place, simd::Element,
};

/// `gristmill_norm_options`; null stands for an epsilon of 1e-5 and nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Added to the variance, or to the mean square.
    pub eps: f32,
    /// A factor per column, of f32; null for none.
    pub gamma: *const f32,
    /// A shift per column, of f32; null for none.
    pub beta: *const f32,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options { eps: 1e-5, gamma: std::ptr::null(), beta: std::ptr::null(), serial: 0 };

#[derive(Clone, Copy)]
enum Norm {
    Layer,
    Rms,
}

/// `y = norm(x)`; `y` may be `x`.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, `y` writable; nobody uses `y` meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_layer_norm(x: *const Matrix, y: *const Matrix, options: *const Options) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(Norm::Layer, x, None, y, None, options) })
}

/// [`gristmill_layer_norm`] without a mean.
///
/// # Safety
/// As [`gristmill_layer_norm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_rms_norm(x: *const Matrix, y: *const Matrix, options: *const Options) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(Norm::Rms, x, None, y, None, options) })
}

/// `y = norm(x + residual)`, and `sum = x + residual` unless it is null; `sum` may be `x`, or `y` where `sum` is null.
///
/// # Safety
/// As [`gristmill_layer_norm`], and what `sum` describes is writable; nobody uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_add_layer_norm(
    x: *const Matrix,
    residual: *const Matrix,
    y: *const Matrix,
    sum: *const Matrix,
    options: *const Options,
) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(Norm::Layer, x, Some(get("residual", residual)?), y, sum.as_ref(), options) })
}

/// [`gristmill_add_layer_norm`] without a mean.
///
/// # Safety
/// As [`gristmill_add_layer_norm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_add_rms_norm(
    x: *const Matrix,
    residual: *const Matrix,
    y: *const Matrix,
    sum: *const Matrix,
    options: *const Options,
) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { norm(Norm::Rms, x, Some(get("residual", residual)?), y, sum.as_ref(), options) })
}

/// # Safety
/// As [`gristmill_add_layer_norm`].
unsafe fn norm(
    norm: Norm,
    x: *const Matrix,
    residual: Option<&Matrix>,
    y: *const Matrix,
    sum: Option<&Matrix>,
    options: *const Options,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (x, y, options) = unsafe { (get("x", x)?, get("y", y)?, options.as_ref().unwrap_or(&PLAIN)) };
    let type_or_x = |matrix: Option<&Matrix>| matrix.map_or(x.element, |matrix| matrix.element);
    let types = [("x", x.element), ("y", y.element), ("residual", type_or_x(residual)), ("sum", type_or_x(sum))];
    same_type(&types)?;
    typed!("x", x.element, T => {
        // SAFETY: the caller's promise: a value per column.
        let column = |name, values| unsafe { view::read_optional(name, values, x.cols) };
        let (gamma, beta) = (column("gamma", options.gamma)?, column("beta", options.beta)?);
        let in_place = x.same_as(sum.unwrap_or(y));
        let inputs = [
            ("x", if in_place { None } else { Some(x.span::<T>("x")?) }),
            ("residual", residual.map(|residual| residual.span::<T>("residual")).transpose()?),
            ("gamma", gamma.map(Span::of)),
            ("beta", beta.map(Span::of)),
        ];
        let y_span = y.span::<T>("y")?;
        y_span.apart("y", &inputs)?;
        if let Some(sum) = sum {
            let sum = sum.span::<T>("sum")?;
            sum.apart("sum", &inputs)?;
            sum.apart("sum", &[("y", Some(y_span))])?;
        }
        let options = LayerNormOptions {
            eps: options.eps,
            gamma,
            beta,
            threads: threads(options.serial != 0),
            level: None,
        };
        // SAFETY: the caller's promise; the outputs share no memory with the others and each other, or one of them is X
        // and X is not viewed.
        unsafe {
            let x = if in_place { None } else { Some(x.view::<T>("x")?) };
            let residual = residual.map(|residual| residual.view::<T>("residual")).transpose()?;
            let sum = sum.map(|sum| sum.view_mut::<T>("sum")).transpose()?;
            run(norm, x, residual, y.view_mut::<T>("y")?, sum, &options)?;
        }
        Ok(())
    })
}

/// Without an `x` it is the sum, or `y` where no sum is wanted.
fn run<T: Element>(
    norm: Norm,
    x: Option<MatRef<'_, T>>,
    residual: Option<MatRef<'_, T>>,
    y: MatMut<'_, T>,
    sum: Option<MatMut<'_, T>>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    match (x, residual) {
        (Some(x), None) => match norm {
            Norm::Layer => layer_norm(x, y, options),
            Norm::Rms => rms_norm(x, y, options),
        },
        (None, None) => match norm {
            Norm::Layer => layer_norm_in_place(y, options),
            Norm::Rms => rms_norm_in_place(y, options),
        },
        (Some(x), Some(residual)) => match norm {
            Norm::Layer => add_layer_norm(x, residual, y, sum, options),
            Norm::Rms => add_rms_norm(x, residual, y, sum, options),
        },
        (None, Some(residual)) => {
            let (x, y) = match sum {
                Some(sum) => (sum, Some(y)),
                None => (y, None),
            };
            match norm {
                Norm::Layer => add_layer_norm_in_place(x, residual, y, options),
                Norm::Rms => add_rms_norm_in_place(x, residual, y, options),
            }
        }
    }
}
