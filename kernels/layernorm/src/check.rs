//! What the arguments of a call must fulfil, before anything is written.

use crate::LayerNormOptions;
use gristmill_core::{Error, MatMut, MatRef};

pub(crate) fn layer_norm(x: MatRef<'_, f32>, y: &MatMut<'_, f32>, options: &LayerNormOptions<'_>) -> Result<(), Error> {
    same("rows of y", x.rows(), y.rows())?;
    same("columns of y", x.cols(), y.cols())?;
    arithmetic(x.cols(), options)
}

pub(crate) fn add_layer_norm(
    x: MatRef<'_, f32>,
    residual: MatRef<'_, f32>,
    y: &MatMut<'_, f32>,
    sum: Option<&MatMut<'_, f32>>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    addend(x, residual)?;
    if let Some(sum) = sum {
        same("rows of sum", x.rows(), sum.rows())?;
        same("columns of sum", x.cols(), sum.cols())?;
    }
    layer_norm(x, y, options)
}

pub(crate) fn addend(x: MatRef<'_, f32>, residual: MatRef<'_, f32>) -> Result<(), Error> {
    same("rows of residual", x.rows(), residual.rows())?;
    same("columns of residual", x.cols(), residual.cols())
}

pub(crate) fn arithmetic(n: usize, options: &LayerNormOptions<'_>) -> Result<(), Error> {
    for (what, values) in [("length of gamma", options.gamma), ("length of beta", options.beta)] {
        same(what, n, values.map_or(n, <[f32]>::len))?;
    }
    if !(options.eps >= 0.0 && options.eps.is_finite()) {
        return Err(Error::InvalidOption { what: "eps must be finite and not negative", value: options.eps });
    }
    Ok(())
}

fn same(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}
