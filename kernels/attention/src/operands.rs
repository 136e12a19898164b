//! Where a thread finds the operands of its products: keys in panels, values, queries as f32.

use crate::any::{AnyHeads, any};
use crate::block::{Block, Worker};
use crate::cache::PAGE;
use crate::plan::{Unit, VALUE_BLOCK};
use crate::product::Right;
use crate::source::Source;
use crate::squares::turn;
use gristmill_gemm::pack::pack_panels;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Element, Isa, TypedPtr, slices};
use std::ops::Range;

impl Worker<'_, '_> {
    /// The panels of the chunk of keys `first .. end`, packed now if they are not yet.
    #[inline(always)]
    pub(crate) fn keys_from<I: Isa>(&mut self, isa: I, unit: Unit, first: usize, end: usize) -> Right {
        let panel = PANEL * self.call.q.sizes()[3];
        let (step, row) = (PANEL as isize, panel as isize);
        let (start, heads) = match self.call.source {
            Source::Views { k, .. } | Source::Keys(k) => (self.pack_keys(isa, &k, unit, first, end), 1),
            Source::Cache(cache) => (cache.keys_from(unit.batch, unit.kv_head, first), cache.sizes()[0]),
        };
        Right { start, step, panel: (heads * panel) as isize, row, exact: false }
    }

    /// The panels of the newest keys of some heads, those of a page that are still in squares.
    #[inline(always)]
    pub(crate) fn newest_keys<I: Isa>(&mut self, isa: I, unit: Unit, heads: usize, keys: Range<usize>) -> Right {
        let Source::Cache(cache) = self.call.source else { unreachable!("views have no squares") };
        let [kv_heads, dim, _] = cache.sizes();
        let (panel, slot) = (PANEL * dim, keys.start % PAGE);
        for (h, to) in self.keys.chunks_exact_mut(panel).take(heads).enumerate() {
            let squares = cache.keys_from(unit.batch, unit.kv_head + h, keys.start - slot);
            // SAFETY: the page holds squares from there on, and in them these keys.
            unsafe { turn(isa, squares.offset((slot * kv_heads * dim) as isize), keys.len(), to) };
        }
        let panel = panel as isize;
        Right { start: TypedPtr::new(self.keys.as_ptr()), step: PANEL as isize, panel, row: panel, exact: false }
    }

    #[inline(always)]
    fn pack_keys<I: Isa>(&mut self, isa: I, k: &AnyHeads, unit: Unit, first: usize, end: usize) -> TypedPtr {
        let dim = k.sizes()[3];
        if !self.plan.keep_keys {
            pack(isa, k, unit, true, first..end, self.keys);
            return TypedPtr::new(self.keys.as_ptr());
        }
        if self.packed_keys < end {
            // Whole chunks, unless no query sees that many.
            let end = (first + self.plan.chunk).min(self.seen(unit));
            pack(isa, k, unit, true, first..end, &mut self.keys[first * dim..]);
            self.packed_keys = end;
        }
        TypedPtr::new(self.keys[first * dim..].as_ptr())
    }

    /// The block of values `first .. end`, packed now if they are to be and are not yet.
    #[inline(always)]
    pub(crate) fn values_from<I: Isa>(&mut self, isa: I, unit: Unit, first: usize, end: usize) -> Right {
        let v = match self.call.source {
            Source::Views { v, .. } => v,
            Source::Keys(_) => unreachable!("weights alone are not multiplied"),
            Source::Cache(cache) => {
                let start = cache.values_from(unit.batch, unit.kv_head, first);
                let [heads, _, dim] = cache.sizes().map(|size| size as isize);
                return Right { start, step: heads * dim, panel: PANEL as isize, row: dim, exact: true };
            }
        };
        if !self.plan.pack_values {
            let panel = PANEL as isize;
            let start = v.vector(unit.batch, first, unit.kv_head);
            return Right { start, step: v.strides()[1], panel, row: 0, exact: true };
        }
        let block_end = (first + VALUE_BLOCK).min(self.seen(unit));
        let values = &mut self.values[first * self.plan.out_stride..];
        if self.packed_values < end {
            pack(isa, &v, unit, false, first..block_end, values);
            self.packed_values = block_end;
        }
        let panel = ((block_end - first) * PANEL) as isize;
        Right { start: TypedPtr::new(values.as_ptr()), step: PANEL as isize, panel, row: 0, exact: false }
    }

    /// The keys that some query of the sequence sees.
    pub(crate) fn seen(&self, unit: Unit) -> usize {
        self.call.key_end(unit.batch, self.call.q.sizes()[1] - 1)
    }

    /// Widens the queries of a block.
    #[inline(always)]
    pub(crate) fn widen<I: Isa>(&mut self, isa: I, unit: Unit, block: &Block) {
        let stride = self.plan.query_stride;
        let rows = self.queries[block.slot * self.plan.block_rows * stride..].chunks_exact_mut(stride.max(1));
        for (r, wide) in rows.take(block.rows.count).enumerate() {
            let (h, i) = block.rows.at(r);
            any!(AnyHeads, self.call.q, q => {
                let (q, wide) = (q.head(unit.batch, h), &mut wide[..q.dim()]);
                match q.row(i) {
                    Some(row) => slices::convert(isa, row, wide),
                    None => wide.iter_mut().enumerate().for_each(|(d, x)| *x = q.at(i, d).to_f32()),
                }
            });
        }
    }
}

/// Packs these rows of the unit's head, or what is `transposed` of them, into the first panels of `panels`.
#[inline(always)]
fn pack<I: Isa>(isa: I, heads: &AnyHeads, unit: Unit, transposed: bool, rows: Range<usize>, panels: &mut [f32]) {
    any!(AnyHeads, heads, heads => {
        let Ok(rows) = heads.head(unit.batch, unit.kv_head).submatrix(rows, 0..heads.dim()) else {
            unreachable!("the keys that queries see exist");
        };
        let b = if transposed { rows.transposed() } else { rows };
        pack_panels(isa, b, &mut panels[..b.cols().next_multiple_of(PANEL) * b.rows()]);
    });
}
