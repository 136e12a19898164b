//! The definition of the kernels, in plain loops. The tuned kernels return these bits.
//!
//! `FUSED` says whether a multiply-add rounds once, as [`Level::fused`](gristmill_simd::Level::fused) tells.
//! `options.threads` and `options.level` are not read.

use crate::{LayerNormOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::naive::fma;

/// Layer normalisation of each row of `x`: [rows, n] into `y`: [rows, n].
///
/// # Errors
/// As [`layer_norm`](crate::layer_norm).
pub fn layer_norm<const FUSED: bool>(
    x: MatRef<'_, f32>,
    mut y: MatMut<'_, f32>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    check::layer_norm(x, &y, options)?;
    let n = x.cols();
    if n == 0 {
        return Ok(());
    }
    for i in 0..x.rows() {
        // A first mean: accurate to an ULP of the row's magnitude, and exact for a constant row.
        let c = x.at(i, 0);
        let mut s = [0.0; 64];
        for j in 0..n {
            s[j % 64] += x.at(i, j) - c;
        }
        let m = c + halve(s) / n as f32;

        // Both moments of what is left; d is the error of the first mean.
        let (mut s1, mut s2) = ([0.0; 64], [0.0; 64]);
        for j in 0..n {
            let u = x.at(i, j) - m;
            s1[j % 64] += u;
            s2[j % 64] = fma::<FUSED>(u, u, s2[j % 64]);
        }
        let (s1, s2) = (halve(s1), halve(s2));
        let d = s1 / n as f32;
        let variance = fma::<FUSED>(-d, s1, s2) / n as f32;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let r = 1.0 / (variance + options.eps).sqrt();

        // (u - d) * r, then gamma and beta.
        let e = -(d * r);
        for j in 0..n {
            let z = fma::<FUSED>(x.at(i, j) - m, r, e);
            y.set(
                i,
                j,
                match (options.gamma, options.beta) {
                    (None, None) => z,
                    (Some(gamma), None) => z * gamma[j],
                    (None, Some(beta)) => z + beta[j],
                    (Some(gamma), Some(beta)) => fma::<FUSED>(z, gamma[j], beta[j]),
                },
            );
        }
    }
    Ok(())
}

/// Layer normalisation of each row of `x + residual`, which is also written to `sum` when there is one. All
/// matrices are [rows, n].
///
/// # Errors
/// As [`add_layer_norm`](crate::add_layer_norm).
pub fn add_layer_norm<const FUSED: bool>(
    x: MatRef<'_, f32>,
    residual: MatRef<'_, f32>,
    y: MatMut<'_, f32>,
    sum: Option<MatMut<'_, f32>>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    check::add_layer_norm(x, residual, &y, sum.as_ref(), options)?;
    let (rows, n) = (x.rows(), x.cols());
    if n == 0 {
        return Ok(());
    }
    let mut total = vec![0.0; rows * n];
    for i in 0..rows {
        for j in 0..n {
            total[i * n + j] = x.at(i, j) + residual.at(i, j);
        }
    }
    if let Some(mut sum) = sum {
        for i in 0..rows {
            for j in 0..n {
                sum.set(i, j, total[i * n + j]);
            }
        }
    }
    layer_norm::<FUSED>(MatRef::new(&total, rows, n)?, y, options)
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
