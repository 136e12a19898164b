//! Narrow rows: as many at a time as a register has lanes, one in each lane. (Of 64 elements it would take twice the
//! time of one row after the other, of 8 it takes two thirds, with a residual one third.)
//!
//! The rows are transposed, so that the halving of a row's 64 lanes is a tree of additions of whole registers, and
//! nothing is reduced across lanes. Columns that are not there would add +0, and no sum here is -0, so they are left
//! out of the tree.

use crate::call::{Call, Norm, Raw};
use crate::ends::Source;
use gristmill_simd::{Element, Isa, typed};
use std::ops::Range;

/// Longest row that is worked on in this way: every element has a lane of its own in the row's sums.
pub(crate) const WIDEST: usize = 16;

/// Rows of the widest register.
const ROWS: usize = 16;

/// Elements from one row to the next, off the power of two that would put columns into one set of the cache.
const STRIDE: usize = WIDEST + 16;

/// Rows and their transpose; gamma and beta.
#[repr(align(64))]
struct Scratch {
    rows: [f32; ROWS * STRIDE],
    columns: [f32; WIDEST * ROWS],
    gamma: [f32; WIDEST],
    beta: [f32; WIDEST],
}

/// Runs whole groups of some rows, and returns the first row that is left.
///
/// # Safety
/// (Call), for these rows.
#[inline(always)]
pub(crate) unsafe fn blocks<I: Isa>(isa: I, call: &Call, rows: Range<usize>) -> usize {
    let (mut first, n) = (rows.start, call.n.n);
    if rows.len() < I::LANES {
        return first;
    }
    // A product with 1 and a sum with -0 are exact.
    let (gamma, beta) = ([1.0; WIDEST], [-0.0; WIDEST]);
    let mut scratch = Scratch { rows: [0.0; ROWS * STRIDE], columns: [0.0; WIDEST * ROWS], gamma, beta };
    for (values, place) in [(call.gamma, &mut scratch.gamma), (call.beta, &mut scratch.beta)] {
        if let Some(values) = values {
            // SAFETY: (Call): n <= WIDEST values.
            unsafe { values.read(isa, 1, n, place.as_mut_ptr()) };
        }
    }
    while rows.end - first >= I::LANES {
        // SAFETY: (Call): LANES <= ROWS rows, n <= WIDEST columns and places in the statistics.
        unsafe {
            load::<I, false>(isa, call, call.x, first, &mut scratch.rows);
            if let Some(residual) = call.residual {
                load::<I, true>(isa, call, residual, first, &mut scratch.rows);
            }
            if let Some(sum) = call.sum {
                store(isa, call, sum, first, &scratch.rows);
            }
        }
        for i in (0..n).step_by(I::LANES) {
            let (rows, columns) = (scratch.rows.as_ptr(), scratch.columns.as_mut_ptr());
            // SAFETY: LANES rows of scratch, and columns i .. i + LANES <= WIDEST of LANES values each.
            unsafe { isa.transpose(rows.add(i), STRIDE as isize, columns.add(i * I::LANES), I::LANES) };
        }
        let (mean, rstd) = normalise(isa, &mut scratch.columns, call, (&scratch.gamma, &scratch.beta));
        for i in (0..n).step_by(I::LANES) {
            let (rows, columns) = (scratch.rows.as_mut_ptr(), scratch.columns.as_ptr());
            // SAFETY: as above, the other way.
            unsafe { isa.transpose(columns.add(i * I::LANES), I::LANES as isize, rows.add(i), STRIDE) };
        }
        // SAFETY: as for loading.
        unsafe {
            store(isa, call, call.y, first, &scratch.rows);
            for l in 0..I::LANES {
                call.statistics.set(first + l, mean[l], rstd[l]);
            }
        }
        first += I::LANES;
    }
    first
}

/// Brings `LANES` rows of a matrix from row `first` on, or adds them to what is there.
///
/// # Safety
/// (Call), for these rows; n <= WIDEST.
#[inline(always)]
unsafe fn load<I: Isa, const ADD: bool>(
    isa: I,
    call: &Call,
    matrix: Raw,
    first: usize,
    rows: &mut [f32; ROWS * STRIDE],
) {
    let n = call.n.n;
    let rows = rows.chunks_exact_mut(STRIDE).take(I::LANES).enumerate();
    if !matrix.is_dense() {
        let mut values = [0.0; WIDEST];
        for (l, row) in rows {
            // SAFETY: the caller's promise.
            unsafe { matrix.at(first + l, 0).read(isa, matrix.col_stride, n, values.as_mut_ptr()) };
            for i in (0..n).step_by(I::LANES) {
                // SAFETY: i + LANES <= WIDEST.
                put::<I, ADD>(isa, row, i, unsafe { isa.load(values.as_ptr().add(i)) });
            }
        }
        return;
    }
    typed!(matrix.dtype(), T => {
        let start = matrix.at(first, 0).cast::<T>();
        for (l, row) in rows {
            let x = start.wrapping_offset(matrix.row_stride.wrapping_mul(l as isize));
            for i in (0..n).step_by(I::LANES) {
                // SAFETY: the caller's promise.
                put::<I, ADD>(isa, row, i, unsafe { x.load_tail(isa, i, I::LANES.min(n - i)) });
            }
        }
    });
}

/// Puts a register at element `i` of a row of scratch, or adds it.
#[inline(always)]
fn put<I: Isa, const ADD: bool>(isa: I, row: &mut [f32], i: usize, v: I::F32) {
    let to = row[i..i + I::LANES].as_mut_ptr();
    // SAFETY: the row has a register there.
    unsafe { isa.store(to, if ADD { isa.add(isa.load(to), v) } else { v }) };
}

/// Rounds `LANES` rows to those of a matrix from row `first` on.
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn store<I: Isa>(isa: I, call: &Call, matrix: Raw, first: usize, rows: &[f32; ROWS * STRIDE]) {
    let n = call.n.n;
    let rows = rows.chunks_exact(STRIDE).take(I::LANES).enumerate();
    if !matrix.is_dense() {
        for (l, row) in rows {
            // SAFETY: the caller's promise.
            unsafe { matrix.at(first + l, 0).write(isa, matrix.col_stride, n, row.as_ptr()) };
        }
        return;
    }
    typed!(matrix.dtype(), T => {
        let start = matrix.at(first, 0).cast::<T>().cast_mut();
        for (l, row) in rows {
            let y = start.wrapping_offset(matrix.row_stride.wrapping_mul(l as isize));
            for i in (0..n).step_by(I::LANES) {
                // SAFETY: as above; a row of scratch has a register at i < WIDEST.
                unsafe { T::store_tail(isa, y.add(i), isa.load(row.as_ptr().add(i)), isa.tail(I::LANES.min(n - i))) };
            }
        }
    });
}

/// Normalises the rows in the lanes of their columns, and returns the mean and the factor of each.
#[inline(always)]
fn normalise<I: Isa>(
    isa: I,
    columns: &mut [f32; WIDEST * ROWS],
    call: &Call,
    (gamma, beta): (&[f32; WIDEST], &[f32; WIDEST]),
) -> ([f32; ROWS], [f32; ROWS]) {
    let &Call { norm, n, eps, .. } = call;
    let zero = isa.splat(0.0);
    let (mut m, mut d, mut e) = (zero, zero, isa.splat(-0.0));
    let mut sums = [zero; WIDEST];
    let variance = match norm {
        Norm::Layer => {
            let c = column(isa, columns, 0);
            for (j, sum) in sums.iter_mut().enumerate().take(n.n) {
                *sum = isa.add(zero, isa.sub(column(isa, columns, j), c));
            }
            m = isa.add(c, n.divide_lanes(isa, halve(isa, &mut sums, n.n)));
            let mut squares = [zero; WIDEST];
            for (j, (sum, square)) in sums.iter_mut().zip(&mut squares).enumerate().take(n.n) {
                let u = isa.sub(column(isa, columns, j), m);
                (*sum, *square) = (isa.add(zero, u), isa.mul(u, u));
            }
            let (s1, s2) = (halve(isa, &mut sums, n.n), halve(isa, &mut squares, n.n));
            d = n.divide_lanes(isa, s1);
            let variance = n.divide_lanes(isa, isa.fma(isa.neg(d), s1, s2));
            isa.select(isa.lt(variance, zero), zero, variance)
        }
        Norm::Rms => {
            for (j, sum) in sums.iter_mut().enumerate().take(n.n) {
                let x = column(isa, columns, j);
                *sum = isa.mul(x, x);
            }
            n.divide_lanes(isa, halve(isa, &mut sums, n.n))
        }
    };
    let r = isa.div(isa.splat(1.0), isa.sqrt(isa.add(variance, isa.splat(eps))));
    if norm == Norm::Layer {
        e = isa.neg(isa.mul(d, r));
    }
    for j in 0..n.n {
        let z = isa.fma(isa.sub(column(isa, columns, j), m), r, e);
        let y = isa.fma(z, isa.splat(gamma[j]), isa.splat(beta[j]));
        // SAFETY: j < WIDEST, and a column has LANES <= ROWS values.
        unsafe { isa.store(columns.as_mut_ptr().add(j * I::LANES), y) };
    }
    let (mut mean, mut rstd) = ([0.0; ROWS], [0.0; ROWS]);
    // SAFETY: no register has more than ROWS lanes.
    unsafe {
        isa.store(mean.as_mut_ptr(), isa.add(m, d));
        isa.store(rstd.as_mut_ptr(), r);
    }
    (mean, rstd)
}

/// Column `j` of the rows.
#[inline(always)]
fn column<I: Isa>(isa: I, columns: &[f32; WIDEST * ROWS], j: usize) -> I::F32 {
    debug_assert!(j < WIDEST);
    // SAFETY: j < n <= WIDEST, and a column has LANES <= ROWS values.
    unsafe { isa.load(columns.as_ptr().add(j * I::LANES)) }
}

/// The halving of the 64 lanes of a sum, of which the first `n` are not +0.
#[inline(always)]
fn halve<I: Isa>(isa: I, lanes: &mut [I::F32; WIDEST], n: usize) -> I::F32 {
    for half in [WIDEST / 2, WIDEST / 4, WIDEST / 8, WIDEST / 16] {
        for l in 0..n.saturating_sub(half).min(half) {
            lanes[l] = isa.add(lanes[l], lanes[l + half]);
        }
    }
    lanes[0]
}
