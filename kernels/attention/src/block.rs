//! One thread's work: blocks of query rows from scores to output.

use crate::any::{AnyHeads, AnyOutput, any};
use crate::driver::Call;
use crate::mask::Edit;
use crate::plan::{CHUNK, Plan, Rows, Unit, VALUE_BLOCK, WAVE};
use crate::product::{Left, Product, Right, block_rows};
use crate::skip::Skip;
use crate::softmax::{self, RowLanes};
use crate::source::Source;
use gristmill_core::{MatMut, SharedHeads};
use gristmill_gemm::TypedPtr;
use gristmill_gemm::pack::pack_panels;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Divisor, Dtype, Element, Isa, slices};
use std::ops::Range;
use std::ptr;

/// The most rows of a block at any level.
const MAX_ROWS: usize = 12;

/// A thread with its scratch memory.
pub(crate) struct Worker<'w, 'a> {
    call: &'w Call<'a>,
    plan: &'w Plan,
    /// Packed keys: of the whole unit, or of one chunk.
    keys: &'w mut [f32],
    /// Packed values, if they are packed: blocks of 512 keys, each in panels of 16 columns.
    values: &'w mut [f32],
    /// Scores, then weights, of every block of a wave.
    scores: &'w mut [f32],
    /// The outputs of every block of a wave before the division.
    sums: &'w mut [f32],
    /// Chains that the next page of a cache goes on with.
    chains: &'w mut [f32],
    /// The queries of every block of a wave, widened; empty where they are f32.
    queries: &'w mut [f32],
    /// Which sequence and key/value head the scratch memory holds.
    holds: Option<(usize, usize)>,
    /// How many of its keys are packed.
    packed_keys: usize,
    /// How many rows of its values are packed.
    packed_values: usize,
}

/// A block of a wave.
#[derive(Clone, Copy, Default)]
struct Block {
    /// Which part of the scratch memory it has.
    slot: usize,
    rows: Rows,
    /// The keys that it looks at: as many as its last row sees.
    limit: usize,
    states: [RowState; MAX_ROWS],
}

/// The softmax of a row.
#[derive(Clone, Copy, Default)]
struct RowState {
    /// The keys that it may see.
    keys: usize,
    /// The denominator; zero for a row of zeros.
    sum: f32,
    /// Whether the block's keys include some that this row does not see.
    hides: bool,
}

impl<'w, 'a> Worker<'w, 'a> {
    /// `scratch` holds at least the plan's total.
    pub(crate) fn new(call: &'w Call<'a>, plan: &'w Plan, scratch: &'w mut [f32]) -> Self {
        let (keys, rest) = scratch.split_at_mut(plan.scratch.keys);
        let (values, rest) = rest.split_at_mut(plan.scratch.values);
        let (scores, rest) = rest.split_at_mut(plan.scratch.scores);
        let (sums, rest) = rest.split_at_mut(plan.scratch.sums);
        let (chains, rest) = rest.split_at_mut(plan.scratch.chains);
        let queries = &mut rest[..plan.scratch.queries];
        let (holds, packed_keys, packed_values) = (None, 0, 0);
        Self { call, plan, keys, values, scores, sums, chains, queries, holds, packed_keys, packed_values }
    }

    /// Computes a unit.
    #[inline(always)]
    pub(crate) fn run<I: Isa>(&mut self, isa: I, index: usize) {
        const { assert!(block_rows::<I>() <= MAX_ROWS, "a block has no more rows than states") };
        const { assert!(block_rows::<I>() <= I::LANES, "nor more than a register has lanes") };
        let unit = self.plan.unit(index);
        if self.holds != Some((unit.batch, unit.kv_head)) {
            self.holds = Some((unit.batch, unit.kv_head));
            (self.packed_keys, self.packed_values) = (0, 0);
        }
        for first in (unit.first_block..unit.end_block).step_by(self.plan.wave) {
            let mut wave = [Block::default(); WAVE];
            let blocks = self.plan.wave.min(unit.end_block - first);
            for (slot, block) in wave[..blocks].iter_mut().enumerate() {
                let rows = self.plan.rows(unit.kv_head, first + slot);
                // The last row sees the most keys.
                let limit = self.call.key_end(unit.batch, rows.at(rows.count - 1).1);
                *block = Block { slot, rows, limit, ..Block::default() };
            }
            self.wave(isa, unit, &mut wave[..blocks]);
        }
    }

    /// Computes some blocks.
    #[inline(always)]
    fn wave<I: Isa>(&mut self, isa: I, unit: Unit, wave: &mut [Block]) {
        let end = wave.iter().fold(0, |end, block| end.max(block.limit));
        if self.call.q.dtype() != Dtype::F32 {
            for block in wave.iter() {
                self.widen(isa, unit, block);
            }
        }
        for first in (0..end).step_by(CHUNK) {
            let panels = self.keys_from(isa, unit, first, (first + CHUNK).min(end));
            for block in wave.iter().filter(|block| first < block.limit) {
                self.score(isa, unit, block, panels, first);
            }
        }
        for block in wave.iter_mut() {
            self.weight(isa, unit, block);
        }
        for first in (0..end).step_by(self.plan.value_piece) {
            let values = self.values_from(isa, unit, first, (first + self.plan.value_piece).min(end));
            for block in wave.iter().filter(|block| first < block.limit) {
                self.sum(isa, block, values, first);
            }
        }
        for block in wave.iter() {
            self.finish(isa, unit, block);
        }
    }

    /// The panels of the chunk of keys `first .. end`, packed now if they are not yet.
    #[inline(always)]
    fn keys_from<I: Isa>(&mut self, isa: I, unit: Unit, first: usize, end: usize) -> TypedPtr {
        let k = match self.call.source {
            Source::Views { k, .. } => k,
            Source::Cache(cache) => return cache.keys_from(unit.batch, unit.kv_head, first),
        };
        let dim = k.sizes()[3];
        if !self.plan.keep_keys {
            pack(isa, &k, unit, true, first..end, self.keys);
            return TypedPtr::new(self.keys.as_ptr());
        }
        if self.packed_keys < end {
            // Whole chunks, unless no query sees that many.
            let end = (first + CHUNK).min(self.seen(unit));
            pack(isa, &k, unit, true, first..end, &mut self.keys[first * dim..]);
            self.packed_keys = end;
        }
        TypedPtr::new(self.keys[first * dim..].as_ptr())
    }

    /// The block of values `first .. end`, packed now if they are to be and are not yet.
    #[inline(always)]
    fn values_from<I: Isa>(&mut self, isa: I, unit: Unit, first: usize, end: usize) -> Right {
        let v = match self.call.source {
            Source::Views { v, .. } => v,
            Source::Cache(cache) => {
                let start = cache.values_from(unit.batch, unit.kv_head, first);
                return Right { start, step: cache.sizes()[2] as isize, panel: PANEL as isize, exact: true };
            }
        };
        if !self.plan.pack_values {
            let panel = PANEL as isize;
            let start = v.vector(unit.batch, first, unit.kv_head);
            return Right { start, step: v.strides()[1], panel, exact: true };
        }
        let block_end = (first + VALUE_BLOCK).min(self.seen(unit));
        let values = &mut self.values[first * self.plan.out_stride..];
        if self.packed_values < end {
            pack(isa, &v, unit, false, first..block_end, values);
            self.packed_values = block_end;
        }
        let panel = ((block_end - first) * PANEL) as isize;
        Right { start: TypedPtr::new(values.as_ptr()), step: PANEL as isize, panel, exact: false }
    }

    /// The keys that some query of the sequence sees.
    fn seen(&self, unit: Unit) -> usize {
        self.call.key_end(unit.batch, self.call.q.sizes()[1] - 1)
    }

    /// The scores of a block for the chunk of keys from `first` on.
    #[inline(always)]
    fn score<I: Isa>(&mut self, isa: I, unit: Unit, block: &Block, panels: TypedPtr, first: usize) {
        let ([.., dim], [.., step]) = (self.call.q.sizes(), self.call.q.strides());
        let left = if self.call.q.dtype() == Dtype::F32 {
            let (start, row) = block.rows.locate(&self.call.q, unit.batch);
            Left { start: start.cast(), row, step }
        } else {
            let stride = self.plan.query_stride;
            let start = self.queries[block.slot * self.plan.block_rows * stride..].as_ptr();
            Left { start, row: stride as isize, step: 1 }
        };
        let stride = self.plan.score_stride;
        let product = Product {
            left,
            right: Right { start: panels, step: PANEL as isize, panel: (PANEL * dim) as isize, exact: false },
            c: self.strip(block.slot)[first..].as_mut_ptr(),
            c_row: stride,
            alpha: self.call.scale,
            accumulate: false,
            chains: ptr::null(),
        };
        // SAFETY: the rows exist; the chunk's panels are packed and full; a strip has a block's rows, each as long as
        // the keys in whole panels.
        unsafe { product.run(isa, block.rows.count, (block.limit - first).min(CHUNK), dim) };
    }

    /// Widens the queries of a block.
    #[inline(always)]
    fn widen<I: Isa>(&mut self, isa: I, unit: Unit, block: &Block) {
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

    /// The scores of a block of the wave.
    fn strip(&mut self, slot: usize) -> &mut [f32] {
        let len = self.plan.block_rows * self.plan.score_stride;
        &mut self.scores[slot * len..][..len]
    }

    /// Turns the scores of a block into weights: `exp(score - max)` for what a row sees, zeros for the rest.
    #[inline(always)]
    fn weight<I: Isa>(&mut self, isa: I, unit: Unit, block: &mut Block) {
        let (call, stride) = (self.call, self.plan.score_stride);
        let dense = call.options.mask.is_dense();
        let edited = !dense || call.options.softcap.is_some();
        let rows = block.rows.count;
        let strip = &mut self.strip(block.slot)[..rows * stride];
        let mut lanes = RowLanes::new();
        for (r, (row, state)) in strip.chunks_exact_mut(stride).zip(&mut block.states).enumerate() {
            let (h, i) = block.rows.at(r);
            state.keys = call.key_end(unit.batch, i);
            state.hides = state.keys < block.limit || !dense;
            let row = &mut row[..state.keys];
            let max = if edited {
                softmax::edit_and_max(isa, row, &Edit::new(call.options, [unit.batch, h, i]))
            } else {
                softmax::max(isa, row)
            };
            lanes.set(isa, r, max);
        }
        let maxima = lanes.maxima(isa, rows);
        for (r, (row, state)) in strip.chunks_exact_mut(stride).zip(&block.states).enumerate() {
            lanes.set(isa, r, softmax::exp_and_sum(isa, &mut row[..block.limit], state.keys, maxima[r]));
        }
        let sums = lanes.sums(isa, rows);
        block.states.iter_mut().zip(sums).for_each(|(state, sum)| state.sum = sum);
    }

    /// Adds the values of the piece of keys from `first` on, under the weights of a block of rows.
    #[inline(always)]
    fn sum<I: Isa>(&mut self, isa: I, block: &Block, right: Right, first: usize) {
        let (row, stride) = (self.plan.score_stride as isize, self.plan.out_stride);
        let depth = (block.limit - first).min(self.plan.value_piece);
        let begins = first.is_multiple_of(VALUE_BLOCK);
        let ends = first + depth == block.limit || (first + depth).is_multiple_of(VALUE_BLOCK);
        let at = block.slot * self.plan.block_rows * stride;
        let chains = if begins && ends { ptr::null_mut() } else { self.chains[at..].as_mut_ptr() };
        let product = Product {
            left: Left { start: self.strip(block.slot)[first..].as_ptr(), row, step: 1 },
            right,
            c: if ends { self.sums[at..].as_mut_ptr() } else { chains },
            c_row: stride,
            alpha: 1.0,
            accumulate: ends && first >= VALUE_BLOCK,
            chains: if begins { ptr::null() } else { chains },
        };
        // SAFETY: the strip holds a weight for each key below the limit; as many values exist, and those in place
        // are read exactly; the sums, and the chains of a cache, have whole panels.
        unsafe { product.run(isa, block.rows.count, self.call.source.value_dim(), depth) };
    }

    /// Divides the sums of a block and writes its rows.
    #[inline(always)]
    fn finish<I: Isa>(&mut self, isa: I, unit: Unit, block: &Block) {
        // SAFETY: every unit, and every row of it, is computed once.
        any!(AnyOutput, &self.call.out, out => unsafe { self.finish_into(isa, unit, block, out) });
    }

    /// [`finish`](Self::finish) for an output of type O.
    ///
    /// # Safety
    /// Nobody else uses the block's rows of `out`.
    #[inline(always)]
    unsafe fn finish_into<I: Isa, O: Element>(&mut self, isa: I, unit: Unit, block: &Block, out: &SharedHeads<O>) {
        let dim = self.call.source.value_dim();
        for (r, state) in block.states.iter().enumerate().take(block.rows.count) {
            let (h, i) = block.rows.at(r);
            // SAFETY: the caller's promise.
            let mut out = unsafe { out.block(unit.batch, h, i..i + 1) };
            if state.sum == 0.0 {
                (0..dim).for_each(|d| out.set(0, d, O::default()));
                continue;
            }
            let row = block.slot * self.plan.block_rows + r;
            let sums = &mut self.sums[row * self.plan.out_stride..][..self.plan.out_stride];
            // A hidden key with a weight of zero has left a NaN if its value was not finite.
            if state.hides && any_nan(isa, &sums[..dim]) {
                isa.vectorize(Skip {
                    call: self.call,
                    kv_head: unit.kv_head,
                    row: [unit.batch, h, i],
                    weights: &self.scores[row * self.plan.score_stride..][..block.limit],
                    sums: &mut sums[..dim],
                });
            }
            divide_into(isa, sums, state.sum, &mut out);
        }
    }
}

/// Writes `sums / divisor` to the one row of `out`; `sums` has whole panels.
#[inline(always)]
fn divide_into<I: Isa, O: Element>(isa: I, sums: &mut [f32], divisor: f32, out: &mut MatMut<O>) {
    let divisor = Divisor::new(isa, divisor);
    let (dim, start) = (out.cols(), out.as_mut_ptr());
    if out.col_stride() == 1 {
        let whole = dim / I::LANES * I::LANES;
        // SAFETY: `sums` has whole panels, `out` has `dim` values.
        unsafe {
            for d in (0..whole).step_by(I::LANES) {
                O::store(isa, start.add(d), quotient(isa, divisor, sums.as_ptr().add(d)));
            }
            if whole < dim {
                let tail = isa.tail(dim - whole);
                O::store_tail(isa, start.add(whole), quotient(isa, divisor, sums.as_ptr().add(whole)), tail);
            }
        }
    } else {
        for register in sums.chunks_exact_mut(I::LANES) {
            // SAFETY: the chunk is one register.
            unsafe { isa.store(register.as_mut_ptr(), quotient(isa, divisor, register.as_ptr())) };
        }
        sums[..dim].iter().enumerate().for_each(|(d, &y)| out.set(0, d, O::from_f32(y)));
    }
}

/// A register of sums, divided.
///
/// # Safety
/// `LANES` values at `sums` must be readable.
#[inline(always)]
unsafe fn quotient<I: Isa>(isa: I, divisor: Divisor<I>, sums: *const f32) -> I::F32 {
    // Adding +0 turns a sum of -0 into +0, as adding it to an output of +0 does.
    // SAFETY: the caller's promise.
    let sums = isa.add(unsafe { isa.load(sums) }, isa.splat(0.0));
    divisor.divide(isa, sums)
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

/// Whether there is a NaN among the values.
#[inline(always)]
fn any_nan<I: Isa>(isa: I, values: &[f32]) -> bool {
    let lanes = slices::fold(isa, values, 0.0, |seen, x| isa.select(isa.is_nan(x), x, seen));
    lanes.as_ref().iter().any(|&lanes| isa.mask_bits(isa.is_nan(lanes)) != 0)
}
