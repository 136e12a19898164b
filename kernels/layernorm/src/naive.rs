//! The definition of the kernels, in plain loops. The tuned kernels return these bits.
//!
//! `FUSED` says whether a multiply-add rounds once, as [`Level::fused`](gristmill_simd::Level::fused) tells.
//! `options.threads` and `options.level` are not read. Values of any type are widened to f32 when read and rounded
//! once when written; everything between is f32.

use crate::{LayerNormOptions, NormOutput, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::{Element, naive::fma};

/// Layer normalisation of each row of `x`: [rows, n] into `out.y`: [rows, n].
///
/// # Errors
/// As [`layer_norm`](crate::layer_norm).
pub fn layer_norm<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    mut out: NormOutput<'_, impl Element>,
    options: &LayerNormOptions<'_, impl Element>,
) -> Result<(), Error> {
    check::norm(x, &out, options)?;
    let n = x.cols();
    if n == 0 {
        out.no_columns();
        return Ok(());
    }
    for i in 0..x.rows() {
        // A first mean: accurate to an ULP of the row's magnitude, and exact for a constant row.
        let c = x.at(i, 0).to_f32();
        let mut s = [0.0; 64];
        for j in 0..n {
            s[j % 64] += x.at(i, j).to_f32() - c;
        }
        let m = c + halve(s) / n as f32;

        // Both moments of what is left; d is the error of the first mean.
        let (mut s1, mut s2) = ([0.0; 64], [0.0; 64]);
        for j in 0..n {
            let u = x.at(i, j).to_f32() - m;
            s1[j % 64] += u;
            s2[j % 64] = fma::<FUSED>(u, u, s2[j % 64]);
        }
        let (s1, s2) = (halve(s1), halve(s2));
        let d = s1 / n as f32;
        let variance = fma::<FUSED>(-d, s1, s2) / n as f32;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let r = 1.0 / (variance + options.eps).sqrt();
        out.statistics(i, m + d, r);

        // (u - d) * r, then gamma and beta.
        let e = -(d * r);
        for j in 0..n {
            let z = fma::<FUSED>(x.at(i, j).to_f32() - m, r, e);
            out.y.set(i, j, Element::from_f32(scale_and_shift::<FUSED>(z, j, options)));
        }
    }
    Ok(())
}

/// Root-mean-square normalisation of each row of `x`: [rows, n] into `out.y`: [rows, n].
///
/// # Errors
/// As [`rms_norm`](crate::rms_norm).
pub fn rms_norm<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    mut out: NormOutput<'_, impl Element>,
    options: &LayerNormOptions<'_, impl Element>,
) -> Result<(), Error> {
    check::norm(x, &out, options)?;
    let n = x.cols();
    if n == 0 {
        out.no_columns();
        return Ok(());
    }
    for i in 0..x.rows() {
        let mut s = [0.0; 64];
        for j in 0..n {
            let x = x.at(i, j).to_f32();
            s[j % 64] = fma::<FUSED>(x, x, s[j % 64]);
        }
        let r = 1.0 / (halve(s) / n as f32 + options.eps).sqrt();
        out.statistics(i, 0.0, r);
        for j in 0..n {
            let z = x.at(i, j).to_f32() * r;
            out.y.set(i, j, Element::from_f32(scale_and_shift::<FUSED>(z, j, options)));
        }
    }
    Ok(())
}

/// [`layer_norm`] of `x + residual`, which is also written to `sum` when there is one. All matrices are [rows, n].
/// What is normalised is the sum in f32, before any rounding to the type of `sum`.
///
/// # Errors
/// As [`add_layer_norm`](crate::add_layer_norm).
pub fn add_layer_norm<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    residual: MatRef<'_, impl Element>,
    out: NormOutput<'_, impl Element>,
    sum: Option<MatMut<'_, impl Element>>,
    options: &LayerNormOptions<'_, impl Element>,
) -> Result<(), Error> {
    check::add(x, residual, sum.as_ref())?;
    check::norm(x, &out, options)?;
    let total = add(x, residual, sum);
    layer_norm::<FUSED>(MatRef::new(&total, x.rows(), x.cols())?, out, options)
}

/// [`rms_norm`] of `x + residual`, as [`add_layer_norm`] is of [`layer_norm`].
///
/// # Errors
/// As [`add_rms_norm`](crate::add_rms_norm).
pub fn add_rms_norm<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    residual: MatRef<'_, impl Element>,
    out: NormOutput<'_, impl Element>,
    sum: Option<MatMut<'_, impl Element>>,
    options: &LayerNormOptions<'_, impl Element>,
) -> Result<(), Error> {
    check::add(x, residual, sum.as_ref())?;
    check::norm(x, &out, options)?;
    let total = add(x, residual, sum);
    rms_norm::<FUSED>(MatRef::new(&total, x.rows(), x.cols())?, out, options)
}

/// `x + residual`, row-major, each sum rounded to f32; and a copy of it to `sum`.
fn add(
    x: MatRef<'_, impl Element>,
    residual: MatRef<'_, impl Element>,
    mut sum: Option<MatMut<'_, impl Element>>,
) -> Vec<f32> {
    let (rows, n) = (x.rows(), x.cols());
    let mut total = vec![0.0; rows * n];
    for i in 0..if n > 0 { rows } else { 0 } {
        for j in 0..n {
            let value = x.at(i, j).to_f32() + residual.at(i, j).to_f32();
            total[i * n + j] = value;
            if let Some(sum) = &mut sum {
                sum.set(i, j, Element::from_f32(value));
            }
        }
    }
    total
}

/// `z * gamma[j] + beta[j]`, of which a missing gamma or beta drops its operation.
fn scale_and_shift<const FUSED: bool>(z: f32, j: usize, options: &LayerNormOptions<'_, impl Element>) -> f32 {
    match (options.gamma, options.beta) {
        (None, None) => z,
        (Some(gamma), None) => z * gamma[j].to_f32(),
        (None, Some(beta)) => z + beta[j].to_f32(),
        (Some(gamma), Some(beta)) => fma::<FUSED>(z, gamma[j].to_f32(), beta[j].to_f32()),
    }
}

/// The 64 lanes of a sum, halved until one is left.
fn halve(mut lanes: [f32; 64]) -> f32 {
    for half in [32, 16, 8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}
