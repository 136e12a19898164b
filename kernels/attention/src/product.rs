//! Products of a few rows with many columns, cut into tiles.

use gristmill_gemm::epilogue::Epilogue;
use gristmill_gemm::tile::{PANEL, Tile, max_rows, tile_fn};
use gristmill_simd::Isa;

/// Rows by columns of a product, and what becomes of it: `c = alpha * a b`, or `c = c + a b` to accumulate.
///
/// - **P1** `a + r * a_row + p * a_step` is readable for `r < rows`, `p < depth`;
/// - **P2** `b + (j / 16) * b_panel + p * b_step + j % 16` is readable for `p < depth` and `j < cols`, or, unless
///   `exact`, for `j` below the next multiple of 16;
/// - **P3** `c + r * c_row + j` is writable for `r < rows` and `j` below the next multiple of 16 from `cols` on, and
///   nobody else uses it;
/// - **P4** `rows` is from 1 to [`block_rows`].
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Row 0 of the left operand.
    pub(crate) a: *const f32,
    /// From one row of the left operand to the next.
    pub(crate) a_row: isize,
    /// From one step to the next.
    pub(crate) a_step: isize,
    /// Panel 0 of the right operand.
    pub(crate) b: *const f32,
    /// From one step to the next.
    pub(crate) b_step: isize,
    /// From one panel to the next.
    pub(crate) b_panel: isize,
    /// Whether the columns that fill up the last panel must not be read.
    pub(crate) exact: bool,
    /// Row 0 of the destination.
    pub(crate) c: *mut f32,
    /// From one row of the destination to the next.
    pub(crate) c_row: usize,
    /// Factor of the product.
    pub(crate) alpha: f32,
    /// Whether the product is added to what the destination holds.
    pub(crate) accumulate: bool,
}

/// Rows of a block: those of the level's tallest tile.
pub(crate) const fn block_rows<I: Isa>() -> usize {
    max_rows::<I>(1)
}

impl Product {
    /// Computes `rows` by `cols` elements, each a chain of `depth` multiply-adds.
    ///
    /// # Safety
    /// P1 to P4.
    #[inline(always)]
    pub(crate) unsafe fn run<I: Isa>(&self, isa: I, rows: usize, cols: usize, depth: usize) {
        debug_assert!((1..=block_rows::<I>()).contains(&rows), "P4: {rows} rows");
        let widest = [8, 4, 2].into_iter().find(|&panels| rows <= max_rows::<I>(panels)).unwrap_or(1);
        // Whole panels, as the tiles count them: a partial last one is masked, or as good as whole.
        let whole = if self.exact { cols / PANEL } else { cols.div_ceil(PANEL) };
        let mut panel = 0;
        while panel < cols.div_ceil(PANEL) {
            let mut panels = widest;
            while panels > 1 && panel + panels > whole {
                panels /= 2;
            }
            let masked = panel >= whole;
            let c = self.c.wrapping_add(panel * PANEL);
            let mut epilogue = Epilogue::store(c, self.c_row as isize);
            epilogue.alpha = self.alpha;
            epilogue.beta = if self.accumulate { 1.0 } else { 0.0 };
            let tile = Tile {
                a: self.a,
                a_row: self.a_row,
                a_step: self.a_step,
                b: self.b.wrapping_offset(panel as isize * self.b_panel),
                b_step: self.b_step,
                b_panel: self.b_panel,
                k: depth,
                cols: if masked { cols - panel * PANEL } else { panels * PANEL },
                start: std::ptr::null(),
                start_row: 0,
                epilogue,
            };
            // SAFETY: the tile's operands and destination are those of the columns from `panel * 16` on: P1 to P3.
            // A masked tile is one panel wide and reads the columns that exist; P4 bounds the rows.
            unsafe { tile_fn::<I>(rows, panels, masked)(isa, &tile) };
            panel += panels;
        }
    }
}
