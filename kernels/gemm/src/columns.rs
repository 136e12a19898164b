//! The microkernel for few rows of A where the columns of B are contiguous: `x W^T` with a plain weight.
//!
//! Packing would cost more than the product. Four steps of 16 columns are transposed in registers and used at once:
//!
//! ```text
//!   W, row-major          registers
//!   w00 w01 w02 w03       w00 w10 w20 ... w15.0     step 0
//!   w10 w11 w12 w13   ->  w01 w11 w21 ...           step 1
//!   ...                   ...
//! ```

use crate::registers::Accumulators;
use crate::tile::{PANEL, Tile, TileFn};
use gristmill_simd::{Isa, Kernel};

/// The most rows for which columns are read in place.
pub(crate) const MAX_ROWS: usize = 4;

/// Steps that are transposed at a time.
const STEPS: usize = 4;

/// Values of a cache line.
const LINE: usize = 16;

/// How many lines ahead of its use a column is prefetched.
const PREFETCH_LINES: usize = 4;

/// The tile of `rows` rows, at most [`MAX_ROWS`], and one panel, whose columns are contiguous.
///
/// The function's safety rests on P1 and P3 to P5 of [`Tile`], without `start`, and on
///
/// - **P2'** `b + j * b_step + p` is f32 and readable for `j < 16`, `p < k`, and `cols` is 16.
pub(crate) fn columns_fn<I: Isa>(_proof: I, rows: usize) -> TileFn {
    match rows {
        1 => tile::<I, 1>,
        2 => tile::<I, 2>,
        3 => tile::<I, 3>,
        4 => tile::<I, 4>,
        _ => unreachable!("no tile of {rows} rows over columns"),
    }
}

/// # Safety
/// As [`columns_fn`] says; the CPU has the level: a token of I exists.
unsafe fn tile<I: Isa, const MR: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on.
    unsafe { I::assume().vectorize(Micro::<MR>::new(tile)) };
}

/// A tile whose preconditions somebody promised.
struct Micro<'t, const MR: usize>(&'t Tile<'t>);

impl<'t, const MR: usize> Micro<'t, MR> {
    /// # Safety
    /// As [`columns_fn`] says.
    unsafe fn new(tile: &'t Tile<'_>) -> Self {
        Self(tile)
    }
}

impl<const MR: usize> Kernel for Micro<'_, MR> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let t = self.0;
        let b = t.b.cast::<f32>();
        debug_assert!(t.cols == PANEL && t.start.is_null());
        let mut acc: Accumulators<I, MR, 1> = [[isa.splat_row(0.0); 1]; MR];
        let whole = t.k / STEPS * STEPS;
        for p in (0..whole).step_by(STEPS) {
            if p % LINE == 0 {
                for j in 0..PANEL as isize {
                    isa.prefetch(b.wrapping_offset(j * t.b_step).wrapping_add(p + PREFETCH_LINES * LINE));
                }
            }
            for v in 0..PANEL / I::LANES {
                let first = b.wrapping_offset((v * I::LANES) as isize * t.b_step).wrapping_add(p);
                // SAFETY: P2': LANES columns from this one on, and four steps of each.
                let columns = unsafe { isa.load_columns(first, t.b_step) };
                for (u, column) in columns.into_iter().enumerate() {
                    for (r, row) in acc.iter_mut().enumerate() {
                        // SAFETY: P1.
                        let value = unsafe { *t.a.offset(r as isize * t.a_row + (p + u) as isize * t.a_step) };
                        let register = &mut row[0].as_mut()[v];
                        *register = isa.fma(isa.splat(value), column, *register);
                    }
                }
            }
        }
        for p in whole..t.k {
            let mut step = [0.0; PANEL];
            for (j, value) in step.iter_mut().enumerate() {
                // SAFETY: P2'.
                *value = unsafe { *b.offset(j as isize * t.b_step).add(p) };
            }
            for (r, row) in acc.iter_mut().enumerate() {
                // SAFETY: P1.
                let value = isa.splat(unsafe { *t.a.offset(r as isize * t.a_row + p as isize * t.a_step) });
                for (v, register) in row[0].as_mut().iter_mut().enumerate() {
                    // SAFETY: the step has 16 values.
                    let column = unsafe { isa.load(step.as_ptr().add(v * I::LANES)) };
                    *register = isa.fma(value, column, *register);
                }
            }
        }
        // SAFETY: P3, P5.
        unsafe { t.epilogue.finish::<_, true, MR, 1>(isa, &mut acc, t.cols) };
    }
}
