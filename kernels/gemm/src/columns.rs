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
use crate::tile::{PANEL, Promised, Tile, TileFn};
use gristmill_simd::{Isa, Kernel, RowPointers};

/// Steps that are transposed at a time.
const STEPS: usize = 4;

/// Values of a cache line.
const LINE: usize = 16;

/// How many lines ahead of its use a column is prefetched. The next panel's columns lie [`Tile::ahead`].
const PREFETCH_LINES: usize = 4;

/// The most rows for which columns are read in place: as many accumulators as leave registers to the transposition.
pub(crate) const fn max_rows<I: Isa>() -> usize {
    if I::LANES == 16 { 12 } else { 4 }
}

/// The tile of `rows` rows, at most [`max_rows`], and one panel, whose columns are contiguous.
///
/// The function's safety rests on P1 and P3 to P5 of [`Tile`], without `start`, and on
///
/// - **P2'** `b + j * b_step + p` is f32 and readable for `j < 16`, `p < k`, and `cols` is 16.
pub(crate) fn columns_fn<I: Isa>(_proof: I, rows: usize) -> TileFn {
    macro_rules! rows {
        ($($mr:literal)+) => {
            match rows {
                $($mr => tile::<I, $mr>,)+
                _ => unreachable!("no tile of {rows} rows over columns"),
            }
        };
    }
    // Matched on the constant, so that a level is compiled for its own shapes only.
    match I::LANES {
        16 => rows!(1 2 3 4 5 6 7 8 9 10 11 12),
        _ => rows!(1 2 3 4),
    }
}

/// # Safety
/// As [`columns_fn`] says; the CPU has the level: a token of I exists.
unsafe fn tile<I: Isa, const MR: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on.
    unsafe { I::assume().vectorize(Micro::<MR>(Promised::new(tile))) };
}

struct Micro<'t, const MR: usize>(Promised<'t>);

impl<const MR: usize> Micro<'_, MR> {
    /// `times` times [`STEPS`] steps, from the first one on. With `UNIT` the steps of A are next to each other.
    ///
    /// # Safety
    /// P1, P2'; `times * STEPS <= k`; `UNIT` only if `a_step` is 1.
    #[inline(always)]
    unsafe fn steps<I: Isa, const UNIT: bool>(&self, isa: I, acc: &mut Accumulators<I, MR, 1>, times: usize) {
        let t = self.0.tile();
        let mut a = RowPointers::new(t.a, t.a_row, if UNIT { 1 } else { t.a_step });
        let mut b = t.b.cast::<f32>();
        for p in (0..times * STEPS).step_by(STEPS) {
            if p % LINE == 0 {
                // Behind the end of these columns, the beginning of the next ones.
                let near = (PREFETCH_LINES * LINE) as isize;
                let ahead = if p as isize + near < t.k as isize { near } else { t.ahead + near - t.k as isize };
                let mut line = b.wrapping_offset(ahead);
                for _ in 0..PANEL {
                    isa.prefetch(line);
                    line = isa.opaque(line.wrapping_offset(t.b_step));
                }
            }
            for v in 0..PANEL / I::LANES {
                let first = b.wrapping_offset((v * I::LANES) as isize * t.b_step);
                // SAFETY: P2': LANES columns from this one on, and four steps of each.
                let columns = unsafe { isa.load_columns(first, t.b_step) };
                for (u, column) in columns.into_iter().enumerate() {
                    for (r, row) in acc.iter_mut().enumerate() {
                        // SAFETY: P1.
                        let value = isa.splat(unsafe { *a.at::<f32>(r, u as isize) });
                        let register = &mut row[0].as_mut()[v];
                        *register = isa.fma(value, column, *register);
                    }
                }
            }
            a.advance(isa, STEPS as isize);
            b = b.wrapping_add(STEPS);
        }
    }
}

impl<const MR: usize> Kernel for Micro<'_, MR> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let t = self.0.tile();
        let b = t.b.cast::<f32>();
        debug_assert!(t.cols == PANEL && t.start.is_null());
        let mut acc: Accumulators<I, MR, 1> = [[isa.splat_row(0.0); 1]; MR];
        let times = t.k / STEPS;
        // SAFETY: P1, P2'.
        unsafe {
            if t.a_step == 1 {
                self.steps::<I, true>(isa, &mut acc, times);
            } else {
                self.steps::<I, false>(isa, &mut acc, times);
            }
        }
        for p in times * STEPS..t.k {
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
