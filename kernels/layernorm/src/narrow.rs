//! Narrow rows: as many at a time as a register has lanes, one in each lane. (Of 64 elements it would take twice the
//! time of one row after the other, of 8 it takes two thirds, with a residual one third.)
//!
//! The rows are transposed, so that the halving of a row's 64 lanes is a tree of additions of whole registers, and
//! nothing is reduced across lanes. Columns that are not there would add +0, and no sum here is -0, so they are left
//! out of the tree.

use crate::call::Norm;
use crate::fused::{Arithmetic, Block};
use crate::operand::{Sink, Source};
use crate::row::Affine;
use gristmill_simd::{Element, Isa};

/// Longest row that is worked on in this way: every element has a lane of its own in the row's sums.
pub(crate) const WIDEST: usize = 16;

/// Rows of the widest register.
const ROWS: usize = 16;

/// Elements from one row to the next, off the power of two that would put columns into one set of the cache.
const STRIDE: usize = WIDEST + 16;

/// Rows and their transpose.
#[repr(align(64))]
struct Scratch {
    rows: [f32; ROWS * STRIDE],
    columns: [f32; WIDEST * ROWS],
}

/// Runs whole groups of rows, and leaves the others to the block.
#[inline(always)]
pub(crate) fn blocks<I: Isa, X: Source, Y: Sink, Z: Sink, P: Element>(isa: I, block: &mut Block<X, Y, Z, P>) {
    if block.rows.len() < I::LANES {
        return;
    }
    let mut scratch = Scratch { rows: [0.0; ROWS * STRIDE], columns: [0.0; WIDEST * ROWS] };
    let n = block.arithmetic.n.n;
    while block.rows.len() >= I::LANES {
        let first = block.rows.start;
        for l in 0..I::LANES {
            let (x, sum) = (block.x.row(first + l), block.sum.row(first + l));
            for i in (0..n).step_by(I::LANES) {
                // SAFETY: (Call) gives the row n elements; n <= WIDEST, and a row of scratch has room for the register
                // that is stored at i < WIDEST.
                unsafe {
                    let count = I::LANES.min(n - i);
                    let v = x.load_tail(isa, i, count);
                    sum.store_tail(isa, i, count, v);
                    isa.store(scratch.rows.as_mut_ptr().add(l * STRIDE + i), v);
                }
            }
        }
        let (rows, columns) = (scratch.rows.as_mut_ptr(), scratch.columns.as_mut_ptr());
        for i in (0..n).step_by(I::LANES) {
            // SAFETY: LANES rows of scratch, and columns i .. i + LANES <= WIDEST of LANES values each.
            unsafe { isa.transpose(rows.add(i), STRIDE as isize, columns.add(i * I::LANES), I::LANES) };
        }
        let (mean, rstd) = columns_of(isa, &mut scratch.columns, &block.arithmetic);
        for i in (0..n).step_by(I::LANES) {
            let (rows, columns) = (scratch.rows.as_mut_ptr(), scratch.columns.as_ptr());
            // SAFETY: as above, the other way.
            unsafe { isa.transpose(columns.add(i * I::LANES), I::LANES as isize, rows.add(i), STRIDE) };
        }
        for l in 0..I::LANES {
            let y = block.y.row(first + l);
            for i in (0..n).step_by(I::LANES) {
                // SAFETY: as for loading; (Call) gives the statistics a place for the row.
                unsafe {
                    let v = isa.load(scratch.rows.as_ptr().add(l * STRIDE + i));
                    y.store_tail(isa, i, I::LANES.min(n - i), v);
                }
            }
            // SAFETY: (Call) gives the statistics a place for the row.
            unsafe { block.statistics.set(first + l, mean[l], rstd[l]) };
        }
        block.rows.start += I::LANES;
    }
}

/// Normalises the rows in the lanes of their columns, and returns the mean and the factor of each.
#[inline(always)]
fn columns_of<I: Isa, P: Element>(
    isa: I,
    columns: &mut [f32; WIDEST * ROWS],
    &Arithmetic { norm, n, affine, eps }: &Arithmetic<P>,
) -> ([f32; ROWS], [f32; ROWS]) {
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
        // SAFETY: (Call): gamma and beta, where present, have n <= WIDEST columns.
        let (gamma, beta) = unsafe { Affine::column(&affine, j) };
        let z = isa.fma(isa.sub(column(isa, columns, j), m), r, e);
        let y = isa.fma(z, isa.splat(gamma), isa.splat(beta));
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
