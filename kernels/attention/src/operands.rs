//! Where a thread finds the operands of its products: keys in panels, values, queries as f32.

use crate::any::{AnyHeads, any};
use crate::block::{Block, Worker};
use crate::cache::PAGE;
use crate::keys::pack_keys;
use crate::pages::Layout;
use crate::plan::Unit;
use crate::product::Right;
use crate::source::Source;
use crate::squares::turn;
use gristmill_core::pack::{pack_operand, pack_panels};
use gristmill_core::pack_pairs::{PAIR_ROW, pack_pairs};
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Element, Isa, TypedPtr, bf16, slices};
use std::{ops::Range, slice};

/// How keys and values are packed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// As f32, step by step.
    Steps,
    /// The same, the steps of each pair swapped; a missing one is +0.
    Swapped,
    /// As pairs of bf16.
    Pairs,
}

impl Form {
    /// Steps, with what fills up a pair.
    fn depth(self, steps: usize) -> usize {
        if self == Form::Steps { steps } else { steps.next_multiple_of(2) }
    }

    /// Values of f32 that so many steps of a column take the room of.
    fn words(self, steps: usize) -> usize {
        if self == Form::Pairs { steps.div_ceil(2) } else { self.depth(steps) }
    }

    /// From a step to the next, or from a pair to the next.
    fn step(self) -> isize {
        (if self == Form::Pairs { PAIR_ROW } else { PANEL }) as isize
    }
}

impl Worker<'_, '_> {
    /// The panels of the chunk of keys `first .. end`, packed now if they are not yet.
    #[inline(always)]
    pub(crate) fn keys_from<I: Isa>(&mut self, isa: I, unit: &Unit, first: usize, end: usize) -> Right {
        let dim = self.call.q.sizes()[3];
        let (start, heads, form) = match self.call.source {
            Source::Views { k, .. } | Source::Keys(k) => (self.pack_keys(isa, &k, unit, first, end), 1, self.form),
            Source::Cache(cache) => {
                let Layout { kv_heads, pairs, .. } = cache.layout();
                let form = if pairs { Form::Pairs } else { Form::Steps };
                (cache.keys_from(unit.batch, unit.kv_head, first), kv_heads, form)
            }
        };
        let row = (PANEL * form.depth(dim)) as isize;
        let panel = heads as isize * row;
        Right { start, step: form.step(), panel, row, pairs: form == Form::Pairs, exact: false }
    }

    /// The panels of the newest keys of some heads, those of a page that are still in squares.
    #[inline(always)]
    pub(crate) fn newest_keys<I: Isa>(&mut self, isa: I, unit: &Unit, heads: usize, keys: Range<usize>) -> Right {
        let Source::Cache(cache) = self.call.source else { unreachable!("views have no squares") };
        let Layout { kv_heads, pairs, .. } = cache.layout();
        let (panel, slot) = (PANEL * cache.layout().key_len(), keys.start % PAGE);
        let words = if pairs { panel / 2 } else { panel };
        for (h, to) in self.keys.chunks_exact_mut(words).take(heads).enumerate() {
            let squares = cache.keys_from(unit.batch, unit.kv_head + h, keys.start - slot);
            let squares = squares.offset((slot / PANEL * kv_heads * panel) as isize);
            // Pairs are turned as the words that they are.
            let squares = if pairs { TypedPtr::new(squares.address().cast::<f32>()) } else { squares };
            // SAFETY: the page holds squares from there on, and in them these keys.
            unsafe { turn(isa, squares, keys.len(), to) };
        }
        let start = self.keys.as_ptr();
        let (start, step) = match pairs {
            true => (TypedPtr::new(start.cast::<bf16>()), PAIR_ROW as isize),
            false => (TypedPtr::new(start), PANEL as isize),
        };
        let panel = panel as isize;
        Right { start, step, panel, row: panel, pairs, exact: false }
    }

    #[inline(always)]
    fn pack_keys<I: Isa>(&mut self, isa: I, k: &AnyHeads, unit: &Unit, first: usize, end: usize) -> TypedPtr {
        let form = self.form;
        if !self.plan.keep_keys {
            return pack(isa, k, unit, true, first..end, self.keys, form);
        }
        let seen = self.seen(unit);
        let keys = &mut self.keys[first * form.words(k.sizes()[3])..];
        if self.packed_keys < end {
            // Whole chunks, unless no query sees that many.
            let end = (first + self.plan.chunk).min(seen);
            pack(isa, k, unit, true, first..end, keys, form);
            self.packed_keys = end;
        }
        packed(keys, form)
    }

    /// The block of values `first .. end`, packed now if they are to be and are not yet.
    #[inline(always)]
    pub(crate) fn values_from<I: Isa>(&mut self, isa: I, unit: &Unit, first: usize, end: usize) -> Right {
        let v = match self.call.source {
            Source::Views { v, .. } => v,
            Source::Keys(_) => unreachable!("weights alone are not multiplied"),
            Source::Cache(cache) => {
                let start = cache.values_from(unit.batch, unit.kv_head, first);
                let layout = cache.layout();
                let (len, page) = (layout.value_len() as isize, PAGE as isize);
                let panel = PANEL as isize;
                let (step, panel) = if layout.pairs { (PAIR_ROW as isize, page * panel) } else { (len, panel) };
                return Right { start, step, panel, row: page * len, pairs: layout.pairs, exact: !layout.pairs };
            }
        };
        if !self.plan.pack_values {
            let panel = PANEL as isize;
            let start = v.vector(unit.batch, first, unit.kv_head);
            return Right { start, step: v.strides()[1], panel, row: 0, pairs: false, exact: true };
        }
        let (form, block_end) = (self.form, (first + self.plan.value_piece).min(self.seen(unit)));
        let start = if self.plan.pairs && !self.plan.keep_keys {
            pack(isa, &v, unit, false, first..block_end, self.values, form)
        } else {
            // Blocks begin at even keys.
            let values = &mut self.values[form.words(first) * self.plan.out_stride..];
            if self.packed_values < end {
                pack(isa, &v, unit, false, first..block_end, values, form);
                self.packed_values = block_end;
            }
            packed(values, form)
        };
        let panel = (form.depth(block_end - first) * PANEL) as isize;
        Right { start, step: form.step(), panel, row: 0, pairs: form == Form::Pairs, exact: false }
    }

    /// The keys that some query of the sequence sees.
    pub(crate) fn seen(&self, unit: &Unit) -> usize {
        self.call.key_end(unit.batch, self.call.q.sizes()[1] - 1)
    }

    /// Widens the queries of a block.
    #[inline(always)]
    pub(crate) fn widen<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block) {
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

/// Where panels begin.
#[inline(always)]
fn packed(panels: &[f32], form: Form) -> TypedPtr {
    match form {
        Form::Pairs => TypedPtr::new(panels.as_ptr().cast::<bf16>()),
        Form::Steps | Form::Swapped => TypedPtr::new(panels.as_ptr()),
    }
}

/// Packs these rows of the unit's head, or what is `transposed` of them, into the first panels of `panels`.
#[inline(always)]
fn pack<I: Isa>(
    isa: I,
    heads: &AnyHeads,
    unit: &Unit,
    transposed: bool,
    rows: Range<usize>,
    panels: &mut [f32],
    form: Form,
) -> TypedPtr {
    any!(AnyHeads, heads, heads => {
        let Ok(rows) = heads.head(unit.batch, unit.kv_head).submatrix(rows, 0..heads.dim()) else {
            unreachable!("the keys that queries see exist");
        };
        let b = if transposed { rows.transposed() } else { rows };
        let panels = &mut panels[..b.cols().next_multiple_of(PANEL) * form.words(b.rows())];
        match form {
            Form::Steps if transposed && rows.col_stride() == 1 => pack_keys(isa, rows, panels),
            Form::Steps => pack_panels(isa, b, panels),
            Form::Swapped => pack_operand(isa, b.into(), form.depth(b.rows()), true, panels),
            Form::Pairs => {
                // SAFETY: two bf16 fit into an f32, and any bits are bf16.
                let panels = unsafe { slice::from_raw_parts_mut(panels.as_mut_ptr().cast(), 2 * panels.len()) };
                pack_pairs(isa, b.into(), panels);
            }
        }
    });
    packed(panels, form)
}
