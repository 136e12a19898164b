//! Products of a few rows with many columns, cut into tiles.

use crate::ahead::RowsAhead;
use gristmill_gemm::Chain;
use gristmill_gemm::epilogue::Epilogue;
use gristmill_gemm::tile::{PANEL, PREFETCH_STEPS, Tile, Tiles, max_rows};
use gristmill_simd::{Isa, TypedPtr, bf16};

/// A left operand: the value of row `r` at step `p` lies at `start + r * row + p * step`. For dot products it is of bf16,
/// which the strides count.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) start: *const f32,
    pub(crate) row: isize,
    pub(crate) step: isize,
}

/// A right operand of any storage type: the value of column `j` at step `p` lies at
/// `start + j / 16 * panel + p * step + j % 16`.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub(crate) start: TypedPtr,
    pub(crate) step: isize,
    pub(crate) panel: isize,
    /// From what a row is multiplied with to that of the next row, where each has its own.
    pub(crate) row: isize,
    /// Whether steps lie in pairs, `step` from pair to pair, the two values of a column side by side.
    pub(crate) pairs: bool,
    /// Whether the columns that fill up the last panel do not exist.
    pub(crate) exact: bool,
}

/// A product of a few rows, and what becomes of it: `c = alpha * left right`, or `c = c + left right`.
///
/// - **P1** `left` is readable for all rows and steps, and has the form that `chain` names;
/// - **P2** `right` is readable for all steps and columns, or, unless `exact`, for whole panels;
/// - **P3** `c + r * c_row + j` is writable for all rows and whole panels of columns, and nobody else uses it;
/// - **P4** there is at least one row;
/// - **P5** `chains` is null or readable where the destination is writable.
#[derive(Clone, Copy)]
pub(crate) struct Product<'p> {
    pub(crate) left: Left,
    pub(crate) right: Right,
    /// How it is computed, where the right operand lies in pairs.
    pub(crate) chain: Chain,
    /// Whether dot products have an instruction.
    pub(crate) has_dot: bool,
    /// Row 0 of the destination.
    pub(crate) c: *mut f32,
    /// From one row of the destination to the next.
    pub(crate) c_row: usize,
    /// Factor of the product.
    pub(crate) alpha: f32,
    /// Whether the product is added to what the destination holds.
    pub(crate) accumulate: bool,
    /// Row 0 of sums that the chains go on from, its rows as far apart as the destination's; null for +0.0.
    pub(crate) chains: *const f32,
    /// Where the tiles of each block of rows prefetch, as if `right`, then of f32, began so many values behind that; null,
    /// and nothing, stand for what they read themselves soon.
    pub(crate) ahead: (&'p [*const f32], isize),
}

/// Rows of a block: those of the level's tallest tile.
pub(crate) const fn block_rows<I: Isa>() -> usize {
    max_rows::<I>(1)
}

impl Product<'_> {
    /// Computes `rows` by `cols` elements, each a chain of `depth` multiply-adds, one block of rows after another, and asks
    /// for the rows `ahead` meanwhile.
    ///
    /// # Safety
    /// P1 to P5.
    #[inline(always)]
    pub(crate) unsafe fn run<I: Isa>(
        &self,
        isa: I,
        tiles: Tiles,
        [rows, cols, depth]: [usize; 3],
        ahead: &mut RowsAhead,
    ) {
        debug_assert!(rows > 0, "P4: {rows} rows");
        let (dtype, pairs) = (self.right.start.dtype(), self.right.pairs);
        let slow = pairs && self.chain == Chain::Dot && !self.has_dot;
        // Whole panels, as the tiles count them: a partial last one is masked, or as good as whole.
        let whole = if self.right.exact { cols / PANEL } else { cols.div_ceil(PANEL) };
        let ahead_step = if pairs { self.right.step / 2 } else { self.right.step };
        // Set up once; what differs from tile to tile follows.
        let mut epilogue = Epilogue::store(self.c, self.c_row as isize);
        epilogue.alpha = self.alpha;
        epilogue.beta = if self.accumulate { 1.0 } else { 0.0 };
        let c = epilogue.c;
        let mut tile = Tile {
            a: self.left.start,
            a_row: self.left.row,
            a_step: self.left.step,
            b: self.right.start,
            b_step: self.right.step,
            b_panel: self.right.panel,
            spread: 1,
            ahead: 0,
            ahead_step,
            turn: depth,
            k: depth,
            cols: 0,
            start: self.chains,
            start_row: self.c_row as isize,
            keep: std::ptr::null_mut(),
            epilogue,
        };
        let left_size = if pairs && self.chain == Chain::Dot { size_of::<bf16>() } else { size_of::<f32>() } as isize;
        let mut wanted = self.ahead.0.iter();
        for first in (0..rows).step_by(block_rows::<I>()) {
            let rows = (rows - first).min(block_rows::<I>());
            let get = |panels, masked| match pairs {
                true => tiles.of_pairs(self.chain, rows, panels),
                false => tiles.get(dtype, rows, panels, masked),
            };
            let widest = if slow { None } else { [8, 4, 2].into_iter().find(|&panels| rows <= tiles.max_rows(panels)) };
            let widest = widest.unwrap_or(1);
            let wide = get(widest, false);
            tile.ahead = match wanted.next() {
                Some(ahead) if !ahead.is_null() => {
                    let bytes = ahead.addr().wrapping_sub(self.right.start.cast::<f32>().addr()) as isize;
                    bytes / size_of::<f32>() as isize + self.ahead.1
                }
                _ => PREFETCH_STEPS as isize * ahead_step,
            };
            tile.a = self.left.start.wrapping_byte_offset(first as isize * self.left.row * left_size);
            tile.b = self.right.start;
            tile.epilogue.c = c.offset((first * self.c_row) as isize);
            if !self.chains.is_null() {
                tile.start = self.chains.wrapping_add(first * self.c_row);
            }
            let mut panel = 0;
            while panel < cols.div_ceil(PANEL) {
                let mut panels = widest;
                while panels > 1 && panel + panels > whole {
                    panels /= 2;
                }
                let masked = panel >= whole;
                let function = if panels == widest && !masked { wide } else { get(panels, masked) };
                // Where nothing is to be asked for between tiles, all that are as wide go in one call.
                if panels == widest && !masked && self.chains.is_null() && ahead.is_empty() {
                    panels = (whole - panel) / widest * widest;
                }
                tile.cols = if masked { cols - panel * PANEL } else { panels * PANEL };
                // SAFETY: the tile's operands and destination are those of the rows from `first` on and the columns from
                // `panel * 16` on: P1 to P3, P5. A masked tile is one panel wide and reads the columns that exist; there is
                // a tile of so many rows.
                unsafe { function(&tile) };
                ahead.ask(isa, panels);
                panel += panels;
                tile.b = tile.b.offset(panels as isize * self.right.panel);
                tile.epilogue.c = tile.epilogue.c.offset((panels * PANEL) as isize);
                if !tile.start.is_null() {
                    tile.start = tile.start.wrapping_add(panels * PANEL);
                }
            }
        }
    }
}
