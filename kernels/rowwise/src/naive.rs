//! The definition of the kernels, in plain loops. The tuned kernels return these bits.
//!
//! `FUSED` says whether a multiply-add rounds once, as [`Level::fused`](gristmill_simd::Level::fused) tells. Options
//! that name threads and levels are not read. Values of any type are widened to f32 when read and rounded once when
//! written; everything between is f32.

use crate::{EmbedOptions, SoftmaxOptions, check};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_simd::Element;
use gristmill_simd::naive::{exp_nonpositive, ln};

/// Softmax of the scores of each row of `x`: [rows, n] into `y`: [rows, n].
///
/// # Errors
/// As [`softmax`](crate::softmax).
pub fn softmax<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    mut y: MatMut<'_, impl Element>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::softmax(x.rows(), x.cols(), options)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        let s = scores(x, i, options);
        let (max, sum) = max_and_sum::<FUSED>(&s);
        for (j, s) in s.into_iter().enumerate() {
            let p = exp_nonpositive::<FUSED>(s - max);
            // A sum of 0 is that of a row of minus infinities, which is zeros.
            y.set(i, j, Element::from_f32(if sum == 0.0 { 0.0 } else { p / sum }));
        }
    }
    Ok(())
}

/// Logarithms of the softmax of the scores of each row of `x`: [rows, n] into `y`: [rows, n].
///
/// # Errors
/// As [`log_softmax`](crate::log_softmax).
pub fn log_softmax<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    mut y: MatMut<'_, impl Element>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::softmax(x.rows(), x.cols(), options)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        let s = scores(x, i, options);
        let (max, sum) = max_and_sum::<FUSED>(&s);
        // A sum of 0 is that of a row of minus infinities, which stays so.
        let ln = ln::<FUSED>(if sum == 0.0 { 1.0 } else { sum });
        for (j, s) in s.into_iter().enumerate() {
            y.set(i, j, Element::from_f32((s - max) - ln));
        }
    }
    Ok(())
}

/// The scores of row `i`: scaled, the bias added, minus infinity where hidden.
fn scores(x: MatRef<'_, impl Element>, i: usize, options: &SoftmaxOptions<'_>) -> Vec<f32> {
    let (n, mask) = (x.cols(), options.mask);
    // Row i is a query of a head of a sequence.
    let queries = x.rows() / (options.batch * options.heads);
    let (b, h, q) = (i / queries / options.heads, i / queries % options.heads, i % queries);
    let score = |j| {
        if !mask.visible([b, h, q, j], queries, n) {
            return f32::NEG_INFINITY;
        }
        let scaled = options.scale * x.at(i, j).to_f32();
        match mask.bias {
            Some(bias) => scaled + bias.at(b, h, q, j),
            None => scaled,
        }
    };
    (0..n).map(score).collect()
}

/// The largest score, and the sum of all `exp(s - max)`.
fn max_and_sum<const FUSED: bool>(s: &[f32]) -> (f32, f32) {
    // The largest that is not NaN; 0 for a row of minus infinities, whose differences shall not be NaN.
    let mut max = f32::NEG_INFINITY;
    for &s in s {
        if s > max {
            max = s;
        }
    }
    if max == f32::NEG_INFINITY {
        max = 0.0;
    }

    // Element j goes to lane j % 64, and the lanes are halved until one is left.
    let mut lanes = [0.0; 64];
    for (j, s) in s.iter().enumerate() {
        lanes[j % 64] += exp_nonpositive::<FUSED>(s - max);
    }
    for half in [32, 16, 8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    (max, lanes[0])
}

/// `y = activation(x + bias)`, element by element; `x`, `y`: [rows, n], `bias`: `[n]`.
///
/// # Errors
/// As [`bias_activation`](crate::bias_activation).
pub fn bias_activation<const FUSED: bool>(
    x: MatRef<'_, impl Element>,
    bias: Option<&[f32]>,
    activation: Activation,
    mut y: MatMut<'_, impl Element>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::bias(x.cols(), bias)?;
    for i in 0..if x.cols() > 0 { x.rows() } else { 0 } {
        for j in 0..x.cols() {
            let z = match bias {
                Some(bias) => x.at(i, j).to_f32() + bias[j],
                None => x.at(i, j).to_f32(),
            };
            y.set(i, j, Element::from_f32(activation.naive::<FUSED>(z)));
        }
    }
    Ok(())
}

/// `out[i]` = the column of the largest value of row `i` of `x`: [rows, n], the first of equal ones; of the first NaN
/// if there is one.
///
/// # Errors
/// As [`argmax`](crate::argmax).
pub fn argmax(x: MatRef<'_, impl Element>, out: &mut [usize]) -> Result<(), Error> {
    check::argmax(x, out)?;
    for (i, out) in out.iter_mut().enumerate() {
        *out = 0;
        for j in 1..x.cols() {
            let (best, value) = (x.at(i, *out).to_f32(), x.at(i, j).to_f32());
            if !best.is_nan() && (value > best || value.is_nan()) {
                *out = j;
            }
        }
    }
    Ok(())
}

/// `out[i]` = the columns of the largest values of row `i` of `x`: [rows, n], the largest first, equal ones in the
/// order of their columns; NaNs before everything. `out` is [rows, k].
///
/// # Errors
/// As [`top_k`](crate::top_k).
pub fn top_k(x: MatRef<'_, impl Element>, mut out: MatMut<'_, usize>) -> Result<(), Error> {
    check::top_k(x, &out)?;
    for i in 0..if out.cols() > 0 { out.rows() } else { 0 } {
        let mut columns: Vec<usize> = (0..x.cols()).collect();
        // A stable sort: NaNs first, then falling values.
        columns.sort_by(|&a, &b| {
            let (a, b) = (x.at(i, a).to_f32(), x.at(i, b).to_f32());
            b.is_nan().cmp(&a.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
        });
        for (k, column) in columns.into_iter().take(out.cols()).enumerate() {
            out.set(i, k, column);
        }
    }
    Ok(())
}

/// Row `t` of `y`: [tokens, d] = `scale` times row `ids[t]` of `table`: [vocabulary, d], plus the row of its position.
///
/// # Errors
/// As [`embed`](crate::embed).
pub fn embed(
    table: MatRef<'_, impl Element>,
    ids: &[u32],
    mut y: MatMut<'_, impl Element>,
    options: &EmbedOptions<'_>,
) -> Result<(), Error> {
    check::embed(table, ids, &y, options)?;
    for (t, &id) in ids.iter().enumerate() {
        for j in 0..table.cols() {
            let scaled = options.scale * table.at(id as usize, j).to_f32();
            let value = match options.positions {
                Some(positions) => scaled + positions.table.at(positions.rows.of(t), j),
                None => scaled,
            };
            y.set(t, j, Element::from_f32(value));
        }
    }
    Ok(())
}
