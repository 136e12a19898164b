//! The definition of the kernels, in plain loops. The tuned kernels return these bits.
//!
//! `FUSED` says whether a multiply-add rounds once, as [`Level::fused`](gristmill_simd::Level::fused) tells. Options
//! that name threads and levels are not read.

use crate::{EmbedOptions, check};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_simd::naive::{exp_nonpositive, ln};

/// Softmax of each row of `x`: [rows, n] into `y`: [rows, n].
///
/// # Errors
/// As [`softmax`](crate::softmax).
pub fn softmax<const FUSED: bool>(x: MatRef<'_, f32>, mut y: MatMut<'_, f32>) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        // The largest value that is not NaN; 0 for a row of minus infinities, whose differences shall not be NaN.
        let mut max = f32::NEG_INFINITY;
        for j in 0..x.cols() {
            if x.at(i, j) > max {
                max = x.at(i, j);
            }
        }
        if max == f32::NEG_INFINITY {
            max = 0.0;
        }

        // Exponentials and their sum: element j goes to lane j % 64, and the lanes are halved until one is left.
        let mut lanes = [0.0; 64];
        for j in 0..x.cols() {
            let p = exp_nonpositive::<FUSED>(x.at(i, j) - max);
            y.set(i, j, p);
            lanes[j % 64] += p;
        }
        for half in [32, 16, 8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] += lanes[l + half];
            }
        }

        // A sum of 0 is that of a row of minus infinities, which stays zeros.
        for j in 0..if lanes[0] == 0.0 { 0 } else { x.cols() } {
            y.set(i, j, y.at(i, j) / lanes[0]);
        }
    }
    Ok(())
}

/// Logarithms of the softmax of each row of `x`: [rows, n] into `y`: [rows, n].
///
/// # Errors
/// As [`log_softmax`](crate::log_softmax).
pub fn log_softmax<const FUSED: bool>(x: MatRef<'_, f32>, mut y: MatMut<'_, f32>) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        // The largest value that is not NaN; 0 for a row of minus infinities, whose differences shall not be NaN.
        let mut max = f32::NEG_INFINITY;
        for j in 0..x.cols() {
            if x.at(i, j) > max {
                max = x.at(i, j);
            }
        }
        if max == f32::NEG_INFINITY {
            max = 0.0;
        }

        // The sum of the exponentials, in lanes as for softmax.
        let mut lanes = [0.0; 64];
        for j in 0..x.cols() {
            lanes[j % 64] += exp_nonpositive::<FUSED>(x.at(i, j) - max);
        }
        for half in [32, 16, 8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] += lanes[l + half];
            }
        }

        // A sum of 0 is that of a row of minus infinities, which stays so.
        let ln = ln::<FUSED>(if lanes[0] == 0.0 { 1.0 } else { lanes[0] });
        for j in 0..x.cols() {
            y.set(i, j, (x.at(i, j) - max) - ln);
        }
    }
    Ok(())
}

/// `y = activation(x + bias)`, element by element; `x`, `y`: [rows, n], `bias`: `[n]`.
///
/// # Errors
/// As [`bias_activation`](crate::bias_activation).
pub fn bias_activation<const FUSED: bool>(
    x: MatRef<'_, f32>,
    bias: Option<&[f32]>,
    activation: Activation,
    mut y: MatMut<'_, f32>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::bias(x.cols(), bias)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        for j in 0..x.cols() {
            let z = match bias {
                Some(bias) => x.at(i, j) + bias[j],
                None => x.at(i, j),
            };
            y.set(i, j, activation.naive::<FUSED>(z));
        }
    }
    Ok(())
}

/// `out[i]` = the column of the largest value of row `i` of `x`: [rows, n], the first of equal ones; of the first NaN
/// if there is one.
///
/// # Errors
/// As [`argmax`](crate::argmax).
pub fn argmax(x: MatRef<'_, f32>, out: &mut [usize]) -> Result<(), Error> {
    check::argmax(x, out)?;
    for (i, out) in out.iter_mut().enumerate() {
        *out = 0;
        for j in 1..x.cols() {
            let (best, value) = (x.at(i, *out), x.at(i, j));
            if !best.is_nan() && (value > best || value.is_nan()) {
                *out = j;
            }
        }
    }
    Ok(())
}

/// Row `t` of `y`: [tokens, d] = `scale` times row `ids[t]` of `table`: [vocabulary, d], plus the row of its position.
///
/// # Errors
/// As [`embed`](crate::embed).
pub fn embed(
    table: MatRef<'_, f32>,
    ids: &[u32],
    mut y: MatMut<'_, f32>,
    options: &EmbedOptions<'_>,
) -> Result<(), Error> {
    check::embed(table, ids, &y, options)?;
    for (t, &id) in ids.iter().enumerate() {
        for j in 0..table.cols() {
            let scaled = options.scale * table.at(id as usize, j);
            y.set(
                t,
                j,
                match options.positions {
                    Some(positions) => scaled + positions.table.at(positions.rows.of(t), j),
                    None => scaled,
                },
            );
        }
    }
    Ok(())
}
