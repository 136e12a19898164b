//! Products so small that planning them would take as long as computing them.

use crate::plan::{Sizes, group_panels, next_group};
use crate::product::{Product, Right};
use crate::tile::{PANEL, PREFETCH_STEPS, Tile, Tiles, max_rows};
use gristmill_core::parts::part;
use gristmill_simd::{Dtype, Isa};

impl Product<'_> {
    /// Computes the product at once, on this thread, if it is small and tiles find and leave all rows where they lie. Tells
    /// whether it did; otherwise nothing has happened.
    pub(crate) fn run_short<I: Isa>(&self, isa: I) -> bool {
        let (sizes, a, c) = (self.sizes(), &self.a, &self.c);
        let Right::Plain(b) = &self.b else { return false };
        let in_place = a.dtype() == Dtype::F32 && b.strides()[1] == 1 && c.strides()[1] == 1;
        if !in_place || !sizes.keep_b_near() || !sizes.suit_one() || sizes.is_empty() {
            return false;
        }
        let Sizes { m, n, k } = sizes;
        let ([a_row, a_step], b_step) = (a.strides(), b.strides()[0]);
        let group = group_panels::<I>(m);
        let blocks = if m <= max_rows::<I>(group) { 1 } else { m.div_ceil(max_rows::<I>(group)) };
        for index in 0..blocks {
            let rows = part(m, blocks, index);
            let mut panel = 0;
            while panel * PANEL < n {
                let (first, left) = (panel * PANEL, n.div_ceil(PANEL) - panel);
                let count = next_group::<I>(group, left);
                // One call computes all tiles but a last one that differs.
                let alike = left.is_multiple_of(count) && n.is_multiple_of(PANEL);
                let width = if left <= count || alike { left } else { (left / count - 1).max(1) * count };
                let cols = (n - first).min(width * PANEL);
                let tile = Tile {
                    a: a.ptr_at(rows.start, 0).cast(),
                    a_row,
                    a_step,
                    b: b.ptr_at(0, first),
                    b_step,
                    b_panel: PANEL as isize,
                    spread: 1,
                    // There may be no memory behind the last row.
                    ahead: if k > PREFETCH_STEPS { PREFETCH_STEPS as isize * b_step } else { 0 },
                    ahead_step: b_step,
                    turn: k,
                    k,
                    cols,
                    start: std::ptr::null(),
                    start_row: 0,
                    keep: std::ptr::null_mut(),
                    epilogue: self.epilogue(rows.start, first),
                };
                let function = Tiles::at(isa).get(b.dtype(), rows.len(), count, !cols.is_multiple_of(PANEL));
                // SAFETY: P1, P2: these rows of A and columns of B, where they lie. P3: a multiple of `count` panels, cut at
                // n. P4, P6: neither start nor place to keep. P5: C, bias and residual have these rows and columns, and
                // C is nobody else's.
                unsafe { function(&tile) };
                panel += width;
            }
        }
        true
    }
}
