//! What a thread asks memory for before it needs it.
//!
//! Tiles prefetch what they walk through. Where that is in a near cache already, they can walk through something else
//! ahead of its use; and what lies in pieces too short for that is asked for line by line, between one tile and the next.

use crate::any::{AnyHeads, AnyOutput, any};
use crate::block::{Block, Worker};
use crate::plan::{Unit, WAVE};
use crate::source::Source;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Dtype, Isa, TypedPtr};
use std::ptr;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// What the products of the first blocks of a unit with the keys and with the values prefetch for the next unit, as if
/// those began there; null, and nothing, stand for what they read themselves soon.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead {
    of_keys: [*const f32; 2],
    of_values: [*const f32; 2],
    /// The first block that has not begun.
    from: usize,
}

impl Ahead {
    /// Passes over some blocks.
    pub(crate) fn skip(&mut self, blocks: usize) {
        self.from = 2.min(self.from + blocks);
    }

    /// What products with the keys prefetch, block by block, from block `slot` of those to come.
    pub(crate) fn of_keys(&self, slot: usize) -> &[*const f32] {
        &self.of_keys[2.min(self.from + slot)..]
    }

    /// What products with the values prefetch.
    pub(crate) fn of_values(&self, slot: usize) -> &[*const f32] {
        &self.of_values[2.min(self.from + slot)..]
    }
}

impl Worker<'_, '_> {
    /// What the first blocks of a unit prefetch if unit `index` is the next one. What they read themselves is in a near
    /// cache, or soon will be, but the operands of the next unit may be far: the first block asks for its keys and
    /// values, the second one for its queries and its output. Only what lies in memory as the products walk is asked
    /// for.
    pub(crate) fn look_ahead(&mut self, index: usize) {
        let ahead = &mut self.ahead;
        *ahead = Ahead::default();
        let Source::Views { k, v } = &self.call.source else { return };
        if index >= self.plan.units {
            return;
        }
        let unit = self.plan.unit(index);
        let rows = self.plan.rows(unit.kv_head, unit.first_block);
        let dense = |heads: &AnyHeads| {
            let [.., dim] = heads.sizes();
            heads.dtype() == Dtype::F32 && heads.strides()[1] == dim as isize && heads.strides()[3] == 1
        };
        if dense(k) {
            ahead.of_keys[0] = k.vector(unit.batch, 0, unit.kv_head).cast();
        }
        if dense(&self.call.q) {
            ahead.of_keys[1] = rows.locate(&self.call.q, unit.batch).0.cast();
        }
        if let (false, Dtype::F32, [_, row, _, 1]) = (self.plan.pack_values, v.dtype(), v.strides()) {
            ahead.of_values[0] = v.vector(unit.batch, 0, unit.kv_head).cast();
            if let AnyOutput::F32(out) = &self.call.out
                && out.strides()[1] == row
            {
                ahead.of_values[1] = out.vector(unit.batch, rows.at(0).1, rows.at(0).0);
            }
        }
    }

    /// The rows that a wave of blocks asks for: its outputs, and the queries of the blocks that come next, of which
    /// `next` is the first.
    pub(crate) fn rows_ahead(&self, unit: &Unit, wave: &[Block], next: usize) -> RowsAhead {
        let mut ahead = RowsAhead::default();
        let q = &self.call.q;
        for (slot, (block, [out, queries])) in wave.iter().zip(&mut ahead.wanted).enumerate() {
            any!(AnyOutput, &self.call.out, of => {
                let (h, i) = block.rows.at(0);
                let (start, step) = (of.vector(unit.batch, i, h), block.rows.step(of.strides()));
                *out = Vectors::new(TypedPtr::new(start), step, block.rows.count, self.call.source.value_dim());
            });
            if next + slot < unit.end_block {
                let rows = self.plan.rows(unit.kv_head, next + slot);
                let (start, step) = rows.locate(q, unit.batch);
                *queries = Vectors::new(start, step, rows.count, q.sizes()[3]);
            }
        }
        let lines: usize = ahead.wanted.as_flattened().iter().map(|vectors| vectors.count * vectors.lines).sum();
        let panels: usize = wave.iter().map(|block| block.limit.div_ceil(PANEL)).sum();
        ahead.pace = lines.div_ceil(panels.max(1));
        ahead
    }
}

/// Vectors of as many lines each, a uniform number of bytes apart.
#[derive(Clone, Copy, Default)]
struct Vectors {
    /// The address of the first line.
    first: usize,
    step: usize,
    count: usize,
    lines: usize,
}

impl Vectors {
    /// `count` vectors of `dim` elements, `step` elements apart.
    fn new(start: TypedPtr, step: isize, count: usize, dim: usize) -> Self {
        let (address, size) = (start.address().addr(), start.dtype().size());
        let lines = (address % LINE + dim * size).div_ceil(LINE);
        Self { first: address / LINE * LINE, step: step.wrapping_mul(size as isize) as usize, count, lines }
    }
}

/// Rows that are asked for a few at a time.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowsAhead {
    /// Outputs and queries.
    wanted: [[Vectors; 2]; WAVE],
    /// The first of them, one after the other, that are not done.
    at: usize,
    /// How many lines are asked for with each panel of scores.
    pace: usize,
}

impl RowsAhead {
    /// Whether there was nothing to ask for.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.pace == 0
    }

    /// Asks for the next rows, beside so many panels of scores.
    #[inline(always)]
    pub(crate) fn ask<I: Isa>(&mut self, isa: I, panels: usize) {
        let (mut lines, end) = (0, self.pace * panels);
        while lines < end
            && let Some(vectors) = self.wanted.as_flattened_mut().get_mut(self.at)
        {
            if vectors.count == 0 {
                self.at += 1;
                continue;
            }
            for line in 0..vectors.lines {
                isa.prefetch(ptr::without_provenance::<u8>(vectors.first.wrapping_add(line * LINE)));
            }
            lines += vectors.lines.max(1);
            vectors.first = vectors.first.wrapping_add(vectors.step);
            vectors.count -= 1;
        }
    }
}
