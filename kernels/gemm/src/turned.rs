//! The end of a tile of C^T, whose columns are the rows of C: they are turned in registers, four at a time.

use crate::epilogue::Epilogue;
use crate::registers::Accumulators;
use crate::tile::PANEL;
use gristmill_simd::{Isa, Kernel};

/// Columns that are turned at a time.
const COLUMNS: usize = 4;

/// Finishes a spilled tile of no more rows than a register has lanes.
///
/// `acc` holds `rows` rows, `acc_row` apart, each padded to whole panels; bias, residual and C are valid for `rows` rows
/// and `cols` columns, and nobody else uses this part of C.
pub(crate) struct FinishTurned<'t> {
    pub(crate) epilogue: &'t Epilogue<'t>,
    pub(crate) acc: *const f32,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) acc_row: usize,
}

impl Kernel for FinishTurned<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        debug_assert!(self.rows <= I::LANES, "{} rows", self.rows);
        // Rows that the tile has not: they end in lanes that are not stored.
        let mut panel = [0.0; PANEL * PANEL];
        for first in (0..self.cols).step_by(PANEL) {
            for (r, row) in panel.chunks_exact_mut(PANEL).enumerate().take(self.rows) {
                for v in (0..PANEL).step_by(I::LANES) {
                    // SAFETY: the tile has whole panels, and so has `panel`.
                    unsafe { isa.store(row.as_mut_ptr().add(v), isa.load(self.acc.add(r * self.acc_row + first + v))) };
                }
            }
            let cols = (self.cols - first).min(PANEL);
            for j in (0..cols).step_by(COLUMNS) {
                // SAFETY: the panel has LANES rows and, from `j` on, four columns.
                let columns = unsafe { isa.load_columns(panel.as_ptr().add(j), PANEL as isize) };
                let mut rows: Accumulators<I, COLUMNS, 1> = [[isa.splat_row(0.0)]; COLUMNS];
                for (row, column) in rows.iter_mut().zip(columns) {
                    row[0].as_mut()[0] = column;
                }
                let turned = |j| self.epilogue.turned(first + j);
                if j + COLUMNS <= cols {
                    // SAFETY: the caller's promise: what was valid for these columns is for these rows.
                    unsafe { turned(j).finish::<I, true, COLUMNS, 1>(isa, &mut rows, self.rows) };
                } else {
                    for (j, row) in (j..cols).zip(rows) {
                        // SAFETY: as above.
                        unsafe { turned(j).finish::<I, true, 1, 1>(isa, &mut [row], self.rows) };
                    }
                }
            }
        }
    }
}
