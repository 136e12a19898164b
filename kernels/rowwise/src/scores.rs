//! The softmax family over rows of any type and layout, with masks.
//!
//! A row is brought into scratch memory piece by piece as f32 scores, scaled and masked. One that fits is brought
//! once, a longer one for each of the three passes: the largest score, the sum of exponentials, the results.

use crate::rows::{self, Buffers, Input, Job};
use crate::{RowOptions, SoftmaxOptions};
use gristmill_core::{Error, Mask, MatMut};
use gristmill_simd::slices::{self, Map, Map2};
use gristmill_simd::sums::{reduce64, sum_registers};
use gristmill_simd::{Element, Isa, math};
use std::ops::Range;

/// Elements of a row that is brought once: whole blocks of 64 lanes, in a part of the nearest cache.
const KEPT: usize = 2048;

/// What becomes of a score once the largest and the sum of the exponentials are known.
pub(crate) trait Finish: Sync {
    /// The result for a hidden score of a row with this sum.
    fn hidden(sum: f32) -> f32;

    /// Turns scores into results, in place; `p` has their exponentials if they are at hand, and room for them if not.
    fn finish<I: Isa>(isa: I, scores: &mut [f32], p: &mut [f32], at_hand: bool, max: f32, sum: f32);

    /// A row without the detour over scratch memory. Returns its sum.
    fn short<I: Isa>(isa: I, row: ShortRow<'_>) -> f32;
}

/// A row that needs no scratch memory: its visible scores (the output's own values, if it works in place), and its
/// output.
pub(crate) struct ShortRow<'a> {
    pub(crate) x: Option<&'a [f32]>,
    pub(crate) y: &'a mut [f32],
    /// The next row's places.
    pub(crate) next: [*const f32; 2],
}

/// Runs a member of the family over all rows of `y`.
pub(crate) fn run<F: Finish, In: Input<Y>, Y: Element>(
    input: In,
    y: MatMut<'_, Y>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    let &SoftmaxOptions { scale, mask, batch, heads, threads, level } = options;
    let (rows, n) = (y.rows(), y.cols());
    let scores = Scores { scale, mask, heads, queries: rows / (batch * heads).max(1) };
    let job = Family::<F, In> { input, scores, finish: std::marker::PhantomData };
    rows::divide(y, n, &RowOptions { threads, level }, &job)
}

struct Family<'a, F, In> {
    input: In,
    scores: Scores<'a>,
    finish: std::marker::PhantomData<F>,
}

/// What lies between a row of the input and its scores.
#[derive(Clone, Copy)]
struct Scores<'a> {
    scale: f32,
    mask: Mask<'a>,
    heads: usize,
    queries: usize,
}

impl<F: Finish, In: Input<Y>, Y: Element> Job<Y> for Family<'_, F, In> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut y: MatMut<'_, Y>) {
        let mut buffers = Buffers::default();
        for i in 0..y.rows() {
            let visible = self.scores.visible(first + i, y.cols());
            let sum = match self.short(isa, first, i, &mut y, visible) {
                Some(sum) => sum,
                None => self.row(isa, (first, i), &mut y, visible, buffers.both()),
            };
            for columns in rows::pieces(y.cols() - visible, KEPT) {
                let [hidden, _] = buffers.both();
                hidden[..columns.len()].fill(F::hidden(sum));
                rows::write(isa, &mut y, i, visible + columns.start, &hidden[..columns.len()]);
            }
        }
    }
}

impl<F: Finish, In> Family<'_, F, In> {
    /// The way without scratch memory, where there is one. Returns the sum.
    #[inline(always)]
    fn short<I: Isa, Y: Element>(
        &self,
        isa: I,
        first: usize,
        i: usize,
        y: &mut MatMut<'_, Y>,
        visible: usize,
    ) -> Option<f32>
    where
        In: Input<Y>,
    {
        if !self.scores.are_plain() {
            return None;
        }
        let next = (i + 1).min(y.rows() - 1);
        let next = [self.input.row(first, next, y).start().cast(), y.ptr_at(next, 0).cast_const().cast()];
        let x = match In::IN_PLACE {
            true => None,
            false => Some(&self.input.slice(first + i).and_then(In::X::as_f32s)?[..visible]),
        };
        let y = &mut y.row_mut(i).and_then(Y::as_f32s_mut)?[..visible];
        Some(F::short(isa, ShortRow { x, y, next }))
    }

    /// The way that always works. Returns the sum.
    #[inline(always)]
    fn row<I: Isa, Y: Element>(
        &self,
        isa: I,
        (first, i): (usize, usize),
        y: &mut MatMut<'_, Y>,
        visible: usize,
        [scores, p]: &mut [[f32; KEPT]; 2],
    ) -> f32
    where
        In: Input<Y>,
    {
        let once = visible <= KEPT;
        let pieces = || rows::pieces(visible, KEPT);
        let mut largest = f32::NEG_INFINITY;
        for columns in pieces() {
            let piece = self.bring(isa, (first, i), y, columns, scores);
            let max = max(isa, piece);
            largest = if max > largest { max } else { largest };
        }
        let largest = finite(largest);
        let exponential = Exponential(isa.splat(largest));
        let mut lanes = isa.splat_lanes64(0.0);
        for columns in pieces() {
            let len = columns.len();
            if !once {
                self.bring(isa, (first, i), y, columns, scores);
            }
            lanes = slices::map_sum(isa, &scores[..len], &mut p[..len], lanes, &exponential);
        }
        let sum = not_zero(reduce64(isa, lanes));
        for columns in pieces() {
            let (len, start) = (columns.len(), columns.start);
            if !once {
                self.bring(isa, (first, i), y, columns, scores);
            }
            F::finish(isa, &mut scores[..len], &mut p[..len], once, largest, sum);
            rows::write(isa, y, i, start, &scores[..len]);
        }
        sum
    }

    /// Some scores of a row, at the start of `buffer`.
    #[inline(always)]
    fn bring<'b, I: Isa, Y: Element>(
        &self,
        isa: I,
        (first, i): (usize, usize),
        y: &MatMut<'_, Y>,
        columns: Range<usize>,
        buffer: &'b mut [f32; KEPT],
    ) -> &'b mut [f32]
    where
        In: Input<Y>,
    {
        let piece = self.input.row(first, i, y).copy(isa, columns.clone(), buffer);
        self.scores.edit(isa, first + i, columns, piece);
        piece
    }
}

impl Scores<'_> {
    /// Whether visible scores are the input's values.
    #[inline(always)]
    fn are_plain(&self) -> bool {
        self.scale == 1.0 && self.mask.is_dense()
    }

    /// Sequence, head and query of a row.
    #[inline(always)]
    fn place(&self, row: usize) -> [usize; 3] {
        let (pair, query) = (row / self.queries, row % self.queries);
        [pair / self.heads, pair % self.heads, query]
    }

    /// How many scores of a row causality and lengths leave.
    #[inline(always)]
    fn visible(&self, row: usize, n: usize) -> usize {
        if self.mask.causal.is_none() && self.mask.key_lengths.is_none() {
            return n;
        }
        let [b, _, query] = self.place(row);
        self.mask.key_range(b, query, self.queries, n).end
    }

    /// Scales some values of a row, adds their bias, and hides what is to be hidden.
    #[inline(always)]
    fn edit<I: Isa>(&self, isa: I, row: usize, columns: Range<usize>, piece: &mut [f32]) {
        if self.scale != 1.0 {
            slices::map_in_place(isa, piece, &Scale(isa.splat(self.scale)));
        }
        let [b, h, query] = self.place(row);
        if let Some(bias) = self.mask.bias {
            match bias.row(b, h, query) {
                Some(bias) => slices::map2_in_place(isa, piece, &bias[columns.clone()], &Bias),
                None => piece.iter_mut().zip(columns.clone()).for_each(|(score, j)| {
                    let bias = bias.at(b, h, query, j);
                    *score = if bias == f32::NEG_INFINITY { bias } else { *score + bias };
                }),
            }
        }
        if let Some(keep) = self.mask.keep {
            let hide = |score: &mut f32, keep| *score = if keep { *score } else { f32::NEG_INFINITY };
            match keep.row(b, h, query) {
                Some(keep) => piece.iter_mut().zip(&keep[columns]).for_each(|(score, &keep)| hide(score, keep)),
                None => piece.iter_mut().zip(columns).for_each(|(score, j)| hide(score, keep.at(b, h, query, j))),
            }
        }
    }
}

/// `scale * x`.
struct Scale<V>(V);

impl<I: Isa> Map<I> for Scale<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        isa.mul(self.0, x)
    }
}

/// `score + bias`, minus infinity where the bias is.
struct Bias;

impl<I: Isa> Map2<I> for Bias {
    #[inline(always)]
    fn map(&self, isa: I, score: I::F32, bias: I::F32) -> I::F32 {
        let hidden = isa.eq(bias, isa.splat(f32::NEG_INFINITY));
        isa.select(hidden, bias, isa.add(score, bias))
    }
}

/// `exp(x - max)`.
pub(crate) struct Exponential<V>(pub(crate) V);

impl<I: Isa> Map<I> for Exponential<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        math::exp_nonpositive(isa, isa.sub(x, self.0))
    }
}

/// As [`Exponential`], where no difference is below -87.
pub(crate) struct NearExponential<V>(pub(crate) V);

impl<I: Isa> Map<I> for NearExponential<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        math::exp_near(isa, isa.sub(x, self.0))
    }
}

/// The smallest and the largest value that is not NaN, plus and minus infinity if there is none.
#[inline(always)]
pub(crate) fn extremes<I: Isa>(isa: I, x: &[f32]) -> (f32, f32) {
    let infinity = isa.splat(f32::INFINITY);
    let mut lanes = [(infinity, isa.neg(infinity)); 4];
    let mut blocks = x.chunks_exact(4 * I::LANES);
    for block in &mut blocks {
        for (g, (min, max)) in lanes.iter_mut().enumerate() {
            // SAFETY: register g of a block of 4 registers.
            let v = unsafe { isa.load(block.as_ptr().add(g * I::LANES)) };
            (*min, *max) = (isa.min(v, *min), isa.max(v, *max));
        }
    }
    for (rest, (min, max)) in blocks.remainder().chunks(I::LANES).zip(&mut lanes) {
        let tail = isa.tail(rest.len());
        // SAFETY: the tail has as many lanes as `rest` has values.
        let v = unsafe { isa.load_tail(rest.as_ptr(), tail) };
        let here = isa.tail_mask(tail);
        (*min, *max) = (isa.select(here, isa.min(v, *min), *min), isa.select(here, isa.max(v, *max), *max));
    }
    let [a, b, c, d] = lanes;
    let max = isa.max(isa.max(a.1, b.1), isa.max(c.1, d.1));
    let min = isa.min(isa.min(a.0, b.0), isa.min(c.0, d.0));
    (-isa.reduce_max(isa.neg(min)), isa.reduce_max(max))
}

/// The largest score, for subtraction: a row of minus infinities must not have NaN for its differences.
#[inline(always)]
pub(crate) fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// The sum, for division. Only a row of minus infinities has the sum 0: divided by 1, or less the logarithm of 1, its
/// results stay what they are.
#[inline(always)]
pub(crate) fn not_zero(sum: f32) -> f32 {
    if sum == 0.0 { 1.0 } else { sum }
}

/// The largest value that is not NaN, minus infinity if there is none.
#[inline(always)]
pub(crate) fn max<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let lanes = slices::fold(isa, x, f32::NEG_INFINITY, |max, x| isa.max(x, max));
    let mut max = isa.splat(f32::NEG_INFINITY);
    for &lane in &lanes.as_ref()[..sum_registers::<I>()] {
        max = isa.max(lane, max);
    }
    isa.reduce_max(max)
}
