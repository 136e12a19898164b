//! What the arguments of a call must fulfil, before anything is written.

use crate::{LayerNormOptions, NormOutput};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::Element;

#[inline]
pub(crate) fn norm<X, Y, P: Element>(
    x: MatRef<'_, X>,
    out: &NormOutput<'_, Y>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    same_shape(["rows of y", "columns of y"], x, out.y.as_ref())?;
    in_place(out, options)
}

#[inline]
pub(crate) fn in_place<Y, P: Element>(out: &NormOutput<'_, Y>, options: &LayerNormOptions<'_, P>) -> Result<(), Error> {
    let (rows, n) = (out.y.rows(), out.y.cols());
    // One by one: a loop over all would write them down first.
    same("length of mean", rows, out.mean.as_ref().map_or(rows, |values| values.len()))?;
    same("length of rstd", rows, out.rstd.as_ref().map_or(rows, |values| values.len()))?;
    same("length of gamma", n, options.gamma.map_or(n, <[P]>::len))?;
    same("length of beta", n, options.beta.map_or(n, <[P]>::len))?;
    if !(0.0..=f32::MAX).contains(&options.eps) {
        return Err(Error::InvalidOption { what: "eps must be finite and not negative", value: options.eps });
    }
    Ok(())
}

#[inline]
pub(crate) fn add<X, R, S>(
    x: MatRef<'_, X>,
    residual: MatRef<'_, R>,
    sum: Option<&MatMut<'_, S>>,
) -> Result<(), Error> {
    same_shape(["rows of residual", "columns of residual"], x, residual)?;
    sum.map_or(Ok(()), |sum| same_shape(["rows of sum", "columns of sum"], x, sum.as_ref()))
}

#[inline]
pub(crate) fn same_shape<A, B>(what: [&'static str; 2], a: MatRef<'_, A>, b: MatRef<'_, B>) -> Result<(), Error> {
    same(what[0], a.rows(), b.rows())?;
    same(what[1], a.cols(), b.cols())
}

#[inline]
fn same(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}
