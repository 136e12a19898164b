//! One thread's work: blocks of query rows from scores to output.

use crate::abreast::Abreast;
use crate::ahead::{Ahead, LINE, RowsAhead};
use crate::any::{AnyOutput, any};
use crate::cache::PAGE;
use crate::driver::Call;
use crate::mask::Edit;
use crate::operands::Form;
use crate::pairs::Ways;
use crate::plan::{Plan, Rows, Unit, VALUE_BLOCK, WAVE};
use crate::product::{Left, Product, Right, block_rows};
use crate::rounded::Rounded;
use crate::short;
use crate::softmax::{self, LOWEST, Scores};
use crate::source::Source;
use gristmill_gemm::Chain;
use gristmill_gemm::tile::Tiles;
use gristmill_simd::{Bf16Magnitudes, Dtype, Isa, Simd, bf16};
use std::ops::Range;
use std::{array, ptr};

/// The most rows of a block at any level.
pub(crate) const MAX_ROWS: usize = 12;

/// Bytes from a value of a cache that is read to the one that is asked for.
const REACH: usize = 64 * LINE;

/// A thread with its scratch memory.
pub(crate) struct Worker<'w, 'a> {
    pub(crate) call: &'w Call<'a>,
    pub(crate) plan: &'w Plan,
    simd: Simd,
    tiles: Tiles,
    /// Packed keys: of the whole unit, or of one chunk; of a cache the newest, of every row's head.
    pub(crate) keys: &'w mut [f32],
    /// Packed values, if they are packed: pieces of as many keys as the plan says, each in panels of 16 columns.
    pub(crate) values: &'w mut [f32],
    /// Scores, then weights, of every block of a wave.
    pub(crate) scores: &'w mut [f32],
    /// The outputs of every block of a wave before the division.
    pub(crate) sums: &'w mut [f32],
    /// Chains that the next page of a cache goes on with.
    pub(crate) chains: &'w mut [f32],
    /// The queries of every block of a wave, widened or gathered; empty where they are read in place.
    pub(crate) queries: &'w mut [f32],
    /// What the sums of every block's rows are divided by: zero for a row of zeros.
    pub(crate) denominators: [f32; WAVE * MAX_ROWS],
    /// What the products of the next blocks prefetch.
    pub(crate) ahead: Ahead,
    /// What its tiles of scores ask for.
    rows_ahead: RowsAhead,
    /// How keys and values of views are packed.
    pub(crate) form: Form,
    /// How the blocks of a wave are computed, where that is to be decided.
    pub(crate) ways: [Ways; WAVE],
    /// Magnitudes of the keys and values of what the scratch memory holds, where they were asked for.
    pub(crate) magnitudes: Option<[Bf16Magnitudes; 2]>,
    /// Which sequence and key/value head the scratch memory holds.
    pub(crate) holds: Option<(usize, usize)>,
    /// How many of its keys are packed.
    pub(crate) packed_keys: usize,
    /// How many rows of its values are packed.
    pub(crate) packed_values: usize,
}

/// A block of a wave, or several whose rows follow each other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Block {
    /// Which part of the scratch memory it has, or begins with.
    pub(crate) slot: usize,
    pub(crate) rows: Rows,
    /// The keys that it looks at: as many as its last row sees.
    pub(crate) limit: usize,
}

impl<'w, 'a> Worker<'w, 'a> {
    /// `scratch` holds at least the plan's total.
    pub(crate) fn new(
        call: &'w Call<'a>,
        plan: &'w Plan,
        (simd, tiles): (Simd, Tiles),
        scratch: &'w mut [f32],
    ) -> Self {
        let (keys, rest) = scratch.split_at_mut(plan.scratch.keys);
        let (values, rest) = rest.split_at_mut(plan.scratch.values);
        let (scores, rest) = rest.split_at_mut(plan.scratch.scores);
        let (sums, rest) = rest.split_at_mut(plan.scratch.sums);
        let (chains, rest) = rest.split_at_mut(plan.scratch.chains);
        let queries = &mut rest[..plan.scratch.queries];
        let denominators = [0.0; WAVE * MAX_ROWS];
        let (ahead, rows_ahead) = (Ahead::default(), RowsAhead::default());
        let (ways, magnitudes) = ([Ways::IN_ORDER; WAVE], None);
        let (holds, packed_keys, packed_values) = (None, 0, 0);
        Self {
            call,
            plan,
            simd,
            tiles,
            keys,
            values,
            scores,
            sums,
            chains,
            queries,
            denominators,
            ahead,
            rows_ahead,
            form: Form::Steps,
            ways,
            magnitudes,
            holds,
            packed_keys,
            packed_values,
        }
    }

    /// Computes a unit.
    #[inline(always)]
    pub(crate) fn run<I: Isa>(&mut self, isa: I, index: usize) {
        const { assert!(block_rows::<I>() <= MAX_ROWS, "a block has no more rows than denominators") };
        let mut unit = self.plan.unit(index);
        let kv_head = unit.kv_head;
        if self.holds != Some((unit.batch, unit.kv_head)) {
            self.holds = Some((unit.batch, unit.kv_head));
            (self.packed_keys, self.packed_values, self.magnitudes) = (0, 0, None);
        }
        self.choose_form(isa, &unit);
        // What a short block takes beside its arithmetic counts: such blocks go through the steps together.
        let joins = !(self.plan.pairs || self.plan.long || self.edits());
        if self.plan.far {
            self.look_ahead(index + 1);
        }
        for first in (unit.first_block..unit.end_block).step_by(self.plan.wave) {
            let mut wave = [Block::default(); WAVE];
            let mut blocks = 0;
            for slot in 0..self.plan.wave.min(unit.end_block - first) {
                let rows = self.plan.rows(kv_head, first + slot);
                // The last row sees the most keys.
                let limit = self.call.key_end(unit.batch, rows.at(rows.count - 1).1);
                if let Some(last) = wave[..blocks].last_mut()
                    && last.limit == limit
                    && joins
                    && short::takes::<I>(limit)
                    && last.rows.reach(&rows)
                {
                    last.rows.count += rows.count;
                } else {
                    wave[blocks] = Block { slot, rows, limit };
                    blocks += 1;
                }
            }
            if self.plan.long {
                self.rows_ahead = self.rows_ahead(&unit, &wave[..blocks], first + self.plan.wave);
            }
            if self.plan.by_head {
                unit.kv_head = wave[0].rows.at(0).0;
            }
            self.wave(isa, &unit, &wave[..blocks]);
            self.ahead.skip(self.plan.wave);
        }
    }

    /// Computes some blocks.
    #[inline(always)]
    fn wave<I: Isa>(&mut self, isa: I, unit: &Unit, wave: &[Block]) {
        let end = wave.iter().fold(0, |end, block| end.max(block.limit));
        for block in wave.iter() {
            if self.plan.pairs {
                self.pair_queries(isa, unit, block);
            } else if self.call.q.dtype() != Dtype::F32 {
                self.widen(isa, unit, block);
            }
        }
        for first in (0..end).step_by(self.plan.chunk) {
            let end = (first + self.plan.chunk).min(end);
            let turned = (first + self.call.source.turned(unit.batch, first)).min(end);
            for keys in [first..turned, turned..end].into_iter().filter(|keys| !keys.is_empty()) {
                let right = if keys.start < turned {
                    self.keys_from(isa, unit, first, end)
                } else {
                    let heads = if self.plan.by_head { wave[0].rows.count } else { 1 };
                    self.newest_keys(isa, unit, heads, keys.clone())
                };
                for block in wave.iter().filter(|block| keys.start < block.limit) {
                    self.score(isa, unit, block, right, keys.clone());
                }
            }
        }
        for block in wave.iter() {
            self.weight(isa, unit, block);
        }
        if let Source::Keys(k) = &self.call.source {
            for block in wave.iter() {
                // SAFETY: every unit, and every row of it, is computed once.
                any!(AnyOutput, &self.call.out, out => unsafe { self.write_weights(isa, unit, block, out, k.sizes()[1]) });
            }
            return;
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

    /// The scores of a block for some keys, whose panels are these.
    #[inline(always)]
    fn score<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block, right: Right, keys: Range<usize>) {
        let ([.., dim], [.., step]) = (self.call.q.sizes(), self.call.q.strides());
        let chain = self.ways[block.slot].scores;
        let (narrow, depth) =
            (chain == Chain::Dot, if chain == Chain::OddFirst { dim.next_multiple_of(2) } else { dim });
        let left = if self.call.q.dtype() == Dtype::F32 || (narrow && step == 1) {
            let (start, row) = block.rows.locate(&self.call.q, unit.batch);
            Left { start: start.address().cast(), row, step }
        } else {
            let stride = self.plan.query_stride;
            let start = self.queries[block.slot * self.plan.block_rows * stride..].as_ptr();
            Left { start, row: (if narrow { 2 * stride } else { stride }) as isize, step: 1 }
        };
        let stride = self.plan.score_stride;
        let product = Product {
            left,
            right,
            chain,
            has_dot: self.plan.has_dot,
            c: self.strip(block.slot)[keys.start..].as_mut_ptr(),
            c_row: stride,
            // Tiles over pairs do nothing but store; the softmax scales what they leave.
            alpha: if self.plan.pairs { 1.0 } else { self.call.scale },
            accumulate: false,
            chains: ptr::null(),
            ahead: (self.ahead.of_keys(block.slot), (keys.start * dim) as isize),
        };
        let (rows, keys) = (block.rows.count, block.limit.min(keys.end) - keys.start);
        // SAFETY: the rows exist; the keys' panels are packed and full; a strip has a block's rows, each as long as the
        // keys in whole panels, of which these begin one.
        unsafe {
            if self.plan.by_head {
                self.abreast(isa, Abreast::new(product, [rows, keys, depth], 0));
            } else {
                product.run(isa, self.tiles, [rows, keys, depth], &mut self.rows_ahead);
            }
        }
    }

    /// Computes a product of rows that each have a right operand.
    #[inline(always)]
    fn abreast<I: Isa>(&self, isa: I, product: Abreast) {
        if product.is_of_pairs() {
            // The level has an instruction that this function is not compiled with.
            self.simd.run(product.of_pairs());
        } else {
            isa.vectorize(product);
        }
    }

    /// The scores from a block of the wave on.
    fn strip(&mut self, slot: usize) -> &mut [f32] {
        &mut self.scores[slot * self.plan.block_rows * self.plan.score_stride..]
    }

    /// Whether scores are looked at before their softmax.
    fn edits(&self) -> bool {
        !self.call.options.mask.is_dense() || self.call.options.softcap.is_some()
    }

    /// Turns the scores of a block into weights: `exp(score - max)` for what a row sees, zeros for the rest.
    #[inline(always)]
    fn weight<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block) {
        let (call, stride, edited, rows) = (self.call, self.plan.score_stride, self.edits(), block.rows.count);
        let mut keys = [block.limit; WAVE * MAX_ROWS];
        if call.options.mask.causal.is_some() {
            for (r, keys) in keys.iter_mut().enumerate().take(rows) {
                *keys = call.key_end(unit.batch, block.rows.at(r).1);
            }
        }
        let keys = &keys[..rows];
        if self.plan.pairs {
            self.round_weights(isa, unit, block, keys);
            return;
        }
        let first = block.slot * self.plan.block_rows;
        let strip = &mut self.scores[first * stride..][..rows * stride];
        let sums = &mut self.denominators[first..][..rows];
        if !edited && short::takes::<I>(block.limit) {
            // SAFETY: the strip has these rows, each as long as the keys in whole panels; the last one sees the most keys,
            // the first one the fewest.
            unsafe { short::weigh(isa, strip.as_mut_ptr(), stride, block.limit, keys, sums) };
        } else if block.limit > 0 {
            let (mut maxima, mut minima) = ([isa.splat(LOWEST); MAX_ROWS], [isa.splat(f32::INFINITY); MAX_ROWS]);
            for (r, row) in strip.chunks_exact_mut(stride).enumerate() {
                let row = &mut row[..keys[r]];
                if edited {
                    let (h, i) = block.rows.at(r);
                    maxima[r] = softmax::edit_and_max(isa, row, &Edit::new(call.options, [unit.batch, h, i]));
                } else {
                    [maxima[r], minima[r]] = softmax::extremes(isa, row);
                }
            }
            for maxima in maxima.chunks_exact_mut(4) {
                maxima.copy_from_slice(&isa.reduce_max_each(array::from_fn(|r| maxima[r])).map(|max| isa.splat(max)));
            }
            let near = !edited && softmax::near(isa, maxima, minima);
            let mut lanes = [isa.splat(0.0); MAX_ROWS];
            // SAFETY: the strip has these rows, each of whole blocks; the last one sees the most keys.
            let scores = unsafe { Scores::new(strip.as_mut_ptr(), stride, block.limit, keys, &maxima[..rows]) };
            if near {
                scores.exp_and_sum::<I, true>(isa, &mut lanes);
            } else {
                scores.exp_and_sum::<I, false>(isa, &mut lanes);
            }
            for (first, sums) in (0..rows).step_by(4).zip(sums.chunks_mut(4)) {
                let all = isa.reduce_add_each(array::from_fn(|r| lanes[first + r]));
                sums.copy_from_slice(&all[..sums.len()]);
            }
        } else {
            sums.fill(0.0);
        }
    }

    /// [`weight`](Self::weight) where weights are rounded to bf16: of each row's first `keys` scores.
    #[inline(always)]
    fn round_weights<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block, keys: &[usize]) {
        let (call, stride, chain) = (self.call, self.plan.score_stride, self.ways[block.slot].values);
        let (edited, first) = (self.edits(), block.slot * self.plan.block_rows);
        let strip = &mut self.scores[first * stride..][..keys.len() * stride];
        let sums = &mut self.denominators[first..][..keys.len()];
        let mut scale = call.scale;
        if edited || !(scale > 0.0 && scale < f32::INFINITY) {
            scale = 1.0;
            for (r, (row, &keys)) in strip.chunks_exact_mut(stride).zip(keys).enumerate() {
                let row = &mut row[..keys];
                row.iter_mut().for_each(|score| *score *= call.scale);
                if edited {
                    let (h, i) = block.rows.at(r);
                    softmax::edit_and_max(isa, row, &Edit::new(call.options, [unit.batch, h, i]));
                }
            }
        }
        let rows = (strip.as_mut_ptr(), stride, block.limit);
        // SAFETY: the strip has these rows, each of whole blocks; no row sees more keys than the block looks at.
        self.simd.run(unsafe { Rounded::new(rows, keys, sums, scale, chain) });
    }

    /// Adds the values of the piece of keys from `first` on, under the weights of a block of rows.
    #[inline(always)]
    fn sum<I: Isa>(&mut self, isa: I, block: &Block, right: Right, first: usize) {
        let (row, stride) = (self.plan.score_stride as isize, self.plan.out_stride);
        let depth = (block.limit - first).min(self.plan.value_piece);
        let chain = self.ways[block.slot].values;
        let begins = first.is_multiple_of(VALUE_BLOCK);
        let ends = first + depth == block.limit || (first + depth).is_multiple_of(VALUE_BLOCK);
        let at = block.slot * self.plan.block_rows * stride;
        let chains = if begins && ends { ptr::null_mut() } else { self.chains[at..].as_mut_ptr() };
        let weights = self.strip(block.slot).as_ptr();
        let left = match chain {
            Chain::Dot => Left { start: weights.cast::<bf16>().wrapping_add(first).cast(), row: 2 * row, step: 1 },
            Chain::InOrder | Chain::OddFirst => Left { start: weights.wrapping_add(first), row, step: 1 },
        };
        // Behind the last key there is a weight of zero, if it has no partner.
        let steps = if chain == Chain::InOrder { depth } else { depth.next_multiple_of(2) };
        let adds = ends && first >= VALUE_BLOCK;
        // Tiles over pairs do nothing but store.
        let apart = adds && right.pairs && !self.plan.by_head;
        let product = Product {
            left,
            right,
            chain,
            has_dot: self.plan.has_dot,
            c: if ends && !apart { self.sums[at..].as_mut_ptr() } else { self.chains[at..].as_mut_ptr() },
            c_row: stride,
            alpha: 1.0,
            accumulate: adds && !apart,
            chains: if begins { ptr::null() } else { chains },
            ahead: (self.ahead.of_values(block.slot), first as isize * right.step),
        };
        let (rows, dim) = (block.rows.count, self.call.source.value_dim());
        // SAFETY: the strip holds a weight for each key below the limit; as many values exist, and those in place are
        // read exactly; the sums, and the chains of a cache, have whole panels.
        unsafe {
            if self.plan.by_head {
                // Behind the last value of a page that is not full nothing is wanted.
                let reach = if depth == PAGE { REACH } else { 0 };
                self.abreast(isa, Abreast::new(product, [rows, dim, steps], reach));
            } else {
                product.run(isa, self.tiles, [rows, dim, steps], &mut RowsAhead::default());
            }
        }
        if apart {
            let sums = self.sums[at..][..rows * stride].iter_mut();
            sums.zip(&self.chains[at..]).for_each(|(sum, chain)| *sum += chain);
        }
    }
}
