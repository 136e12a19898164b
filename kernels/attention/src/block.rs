//! One thread's work: blocks of query rows from scores to output.

use crate::driver::Call;
use crate::mask::Edit;
use crate::plan::{CHUNK, Plan, Rows, Unit, VALUE_BLOCK, WAVE};
use crate::product::Product;
use crate::skip::Skip;
use crate::softmax;
use gristmill_core::MatRef;
use gristmill_gemm::pack::pack_panels;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Isa, slices};
use std::ops::Range;

/// The most rows of a block at any level.
const MAX_ROWS: usize = 12;

/// A thread with its scratch memory.
pub(crate) struct Worker<'w, 'a> {
    call: &'w Call<'a>,
    plan: &'w Plan,
    /// Packed keys: of the whole unit, or of one chunk.
    keys: &'w mut [f32],
    /// Copied values, row by row, if they are copied.
    values: &'w mut [f32],
    /// Scores, then weights, of every block of a wave.
    scores: &'w mut [f32],
    /// The output of a block before the division.
    out: &'w mut [f32],
    /// Which sequence and key/value head the scratch memory holds.
    holds: Option<(usize, usize)>,
    /// How many of its keys are packed.
    packed: usize,
    /// How many of its values are copied.
    copied: usize,
}

/// What the softmax of a row leaves to be done.
#[derive(Clone, Copy, Default)]
struct RowEnd {
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
        let out = &mut rest[..plan.scratch.out];
        Self { call, plan, keys, values, scores, out, holds: None, packed: 0, copied: 0 }
    }

    /// Computes a unit.
    #[inline(always)]
    pub(crate) fn run<I: Isa>(&mut self, isa: I, index: usize) {
        let unit = self.plan.unit(index);
        if self.holds != Some((unit.batch, unit.kv_head)) {
            (self.holds, self.packed, self.copied) = (Some((unit.batch, unit.kv_head)), 0, 0);
        }
        for first in (unit.first_block..unit.end_block).step_by(self.plan.wave) {
            let mut wave = [(Rows::default(), 0); WAVE];
            let blocks = self.plan.wave.min(unit.end_block - first);
            for (block, slot) in wave[..blocks].iter_mut().enumerate() {
                let rows = self.plan.rows(unit.kv_head, first + block);
                // The last row sees the most keys.
                *slot = (rows, self.call.key_end(unit.batch, rows.at(rows.count - 1).1));
            }
            self.wave(isa, unit, &wave[..blocks]);
        }
    }

    /// Computes some blocks, given with the number of keys that each looks at.
    #[inline(always)]
    fn wave<I: Isa>(&mut self, isa: I, unit: Unit, wave: &[(Rows, usize)]) {
        let end = wave.iter().fold(0, |end, block| end.max(block.1));
        let k = self.call.k.head(unit.batch, unit.kv_head);
        let dim = k.cols();
        for first in (0..end).step_by(CHUNK) {
            let chunk_end = (first + CHUNK).min(end);
            let panels = if self.plan.keep_keys {
                self.pack_up_to(isa, &k, chunk_end);
                self.keys[first * dim..].as_ptr()
            } else {
                pack(isa, &k, first..chunk_end, self.keys);
                self.keys.as_ptr()
            };
            for (slot, (rows, limit)) in wave.iter().enumerate().filter(|(_, block)| first < block.1) {
                let (a, a_row) = rows.locate(&self.call.q, unit.batch);
                let product = Product {
                    a,
                    a_row,
                    a_step: self.call.q.strides()[3],
                    b: panels,
                    b_step: PANEL as isize,
                    b_panel: (PANEL * dim) as isize,
                    exact: false,
                    c: self.strip(slot)[first..].as_mut_ptr(),
                    c_row: self.plan.score_stride,
                    alpha: self.call.scale,
                    accumulate: false,
                };
                // SAFETY: the rows exist; the chunk's panels are packed and full; a strip has a block's rows, each
                // as long as the keys in whole panels.
                unsafe { product.run(isa, rows.count, (limit - first).min(CHUNK), dim) };
            }
        }
        for (slot, (rows, limit)) in wave.iter().enumerate() {
            let ends = self.weights(isa, unit.batch, slot, rows, *limit);
            self.weigh(isa, unit, slot, rows.count, *limit);
            self.finish(isa, unit, slot, rows, *limit, &ends);
        }
    }

    /// The scores of a block of the wave.
    fn strip(&mut self, slot: usize) -> &mut [f32] {
        let len = self.plan.block_rows * self.plan.score_stride;
        &mut self.scores[slot * len..][..len]
    }

    /// Packs the keys below `end` that are not packed yet, whole panels unless the sequence ends.
    #[inline(always)]
    fn pack_up_to<I: Isa>(&mut self, isa: I, k: &MatRef<f32>, end: usize) {
        if self.packed < end {
            let (batch, _) = self.holds.unwrap_or_default();
            let seen = self.call.key_end(batch, self.call.q.seq() - 1);
            let end = end.next_multiple_of(CHUNK).min(seen);
            let from = self.packed / PANEL * PANEL;
            pack(isa, k, from..end, &mut self.keys[from * k.cols()..]);
            self.packed = end;
        }
    }

    /// Turns the scores of a block into weights: `exp(score - max)` for what a row sees, zeros for the rest.
    #[inline(always)]
    fn weights<I: Isa>(&mut self, isa: I, b: usize, slot: usize, rows: &Rows, limit: usize) -> [RowEnd; MAX_ROWS] {
        let (call, stride) = (self.call, self.plan.score_stride);
        let dense = call.options.mask.is_dense();
        let edited = !dense || call.options.softcap.is_some();
        let strip = self.strip(slot);
        let mut ends = [RowEnd::default(); MAX_ROWS];
        for (r, end) in ends.iter_mut().enumerate().take(rows.count) {
            let (h, i) = rows.at(r);
            let row = &mut strip[r * stride..][..limit];
            let n = call.key_end(b, i);
            let max = if edited {
                softmax::edit_and_max(isa, &mut row[..n], &Edit::new(call.options, [b, h, i]))
            } else {
                softmax::max(isa, &row[..n])
            };
            end.sum = softmax::exp_and_sum(isa, row, n, max);
            end.hides = n < limit || !dense;
        }
        ends
    }

    /// Sums the values of `limit` keys under the weights of a block.
    #[inline(always)]
    fn weigh<I: Isa>(&mut self, isa: I, unit: Unit, slot: usize, rows: usize, limit: usize) {
        let v = self.call.v.head(unit.batch, unit.kv_head);
        let (start, row) = self.values_up_to(&v, limit);
        for first in (0..limit).step_by(VALUE_BLOCK) {
            let product = Product {
                a: self.strip(slot)[first..].as_ptr(),
                a_row: self.plan.score_stride as isize,
                a_step: 1,
                b: start.wrapping_offset(first as isize * row),
                b_step: row,
                b_panel: PANEL as isize,
                exact: !self.plan.copy_values,
                c: self.out.as_mut_ptr(),
                c_row: self.plan.out_stride,
                alpha: 1.0,
                accumulate: first > 0,
            };
            // SAFETY: the strip holds `limit` weights per row; as many values exist, and those in place are read
            // exactly; the output has whole panels.
            unsafe { product.run(isa, rows, v.cols(), (limit - first).min(VALUE_BLOCK)) };
        }
    }

    /// The rows of values below `limit`, side by side within a row, and the distance of one row to the next.
    fn values_up_to(&mut self, v: &MatRef<f32>, limit: usize) -> (*const f32, isize) {
        if !self.plan.copy_values {
            return (v.as_ptr(), v.row_stride());
        }
        let stride = self.plan.out_stride;
        for key in self.copied..limit {
            let row = &mut self.values[key * stride..][..stride];
            row.fill(0.0);
            row.iter_mut().zip(0..v.cols()).for_each(|(value, d)| *value = v.at(key, d));
        }
        self.copied = self.copied.max(limit);
        (self.values.as_ptr(), stride as isize)
    }

    /// Divides the sums of a block and writes its rows.
    #[inline(always)]
    fn finish<I: Isa>(
        &mut self,
        isa: I,
        unit: Unit,
        slot: usize,
        rows: &Rows,
        limit: usize,
        ends: &[RowEnd; MAX_ROWS],
    ) {
        let dim = self.call.v.dim();
        for (r, end) in ends.iter().enumerate().take(rows.count) {
            let at = rows.at(r);
            // SAFETY: every unit, and every row of it, is computed once.
            let mut out = unsafe { self.call.out.block(unit.batch, at.0, at.1..at.1 + 1) };
            if end.sum == 0.0 {
                (0..dim).for_each(|d| out.set(0, d, 0.0));
                continue;
            }
            let row = r * self.plan.out_stride;
            let sums = &mut self.out[row..][..dim];
            // A hidden key with a weight of zero has left a NaN if its value was not finite.
            if end.hides && any_nan(isa, sums) {
                let strip = slot * self.plan.block_rows + r;
                isa.vectorize(Skip {
                    call: self.call,
                    v: self.call.v.head(unit.batch, unit.kv_head),
                    row: [unit.batch, at.0, at.1],
                    weights: &self.scores[strip * self.plan.score_stride..][..limit],
                    sums,
                });
            }
            let (divisor, zero) = (isa.splat(end.sum), isa.splat(0.0));
            for d in (0..dim).step_by(I::LANES) {
                let n = (dim - d).min(I::LANES);
                // SAFETY: a row of sums has whole panels; the output has the row's `n` values from `d` on.
                unsafe {
                    // Adding +0 turns a sum of -0 into +0, as adding it to an output of +0 does.
                    let sum = isa.add(isa.load(self.out[row + d..].as_ptr()), zero);
                    let y = isa.div(sum, divisor);
                    if out.col_stride() == 1 {
                        isa.store_tail(out.as_mut_ptr().wrapping_add(d), y, isa.tail(n));
                    } else {
                        let mut lanes = [0.0f32; PANEL];
                        isa.store(lanes.as_mut_ptr(), y);
                        (0..n).for_each(|l| out.set(0, d + l, lanes[l]));
                    }
                }
            }
        }
    }
}

/// Packs these keys, transposed, into the first panels of `panels`.
#[inline(always)]
fn pack<I: Isa>(isa: I, k: &MatRef<f32>, keys: Range<usize>, panels: &mut [f32]) {
    let len = keys.len().next_multiple_of(PANEL) * k.cols();
    if let Ok(keys) = k.submatrix(keys, 0..k.cols()) {
        pack_panels(isa, keys.transposed(), &mut panels[..len]);
    }
}

/// Whether there is a NaN among the values.
#[inline(always)]
fn any_nan<I: Isa>(isa: I, values: &[f32]) -> bool {
    let lanes = slices::fold(isa, values, 0.0, |seen, x| isa.select(isa.is_nan(x), x, seen));
    lanes.as_ref().iter().any(|&lanes| isa.mask_bits(isa.is_nan(lanes)) != 0)
}
