//! The end of a tile of C^T, whose columns are the rows of C: they are turned in registers, four at a time.

use crate::epilogue::Spilled;
use crate::registers::{Accumulators, Columns};
use crate::tile::PANEL;
use gristmill_simd::{Isa, Kernel};

/// Columns that are turned at a time.
const COLUMNS: usize = 4;

/// Finishes a spilled tile of no more rows than a register has lanes.
pub(crate) struct FinishTurned<'t>(pub(crate) Spilled<'t>);

impl Kernel for FinishTurned<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Spilled { epilogue, acc, rows, cols, acc_row } = self.0;
        debug_assert!(rows <= I::LANES, "{rows} rows");
        // Rows that the tile has not: they end in lanes that are not stored.
        let mut panel = [0.0; PANEL * PANEL];
        for first in (0..cols).step_by(PANEL) {
            for (r, row) in panel.chunks_exact_mut(PANEL).enumerate().take(rows) {
                for v in (0..PANEL).step_by(I::LANES) {
                    // SAFETY: the tile has whole panels, and so has `panel`.
                    unsafe { isa.store(row.as_mut_ptr().add(v), isa.load(acc.add(r * acc_row + first + v))) };
                }
            }
            let cols = (cols - first).min(PANEL);
            for j in (0..cols).step_by(COLUMNS) {
                // SAFETY: the panel has LANES rows and, from `j` on, four columns.
                let columns =
                    unsafe { isa.load_columns(panel.as_ptr().add(j).cast(), size_of_val(&panel[..PANEL]) as isize) };
                let mut turned: Accumulators<I, COLUMNS, 1> = [[isa.splat_row(0.0)]; COLUMNS];
                for (row, column) in turned.iter_mut().zip(columns) {
                    row[0].as_mut()[0] = column;
                }
                if j + COLUMNS <= cols {
                    // SAFETY: the caller's promise: what was valid for these columns is for these rows.
                    unsafe {
                        epilogue.turned(first + j).finish(isa, &mut turned, Columns::side_by_side::<1>(0, rows), true)
                    };
                } else {
                    for (j, row) in (first + j..).zip(turned).take(cols - j) {
                        // SAFETY: as above.
                        unsafe {
                            epilogue.turned(j).finish(isa, &mut [row], Columns::side_by_side::<1>(0, rows), true)
                        };
                    }
                }
            }
        }
    }
}
