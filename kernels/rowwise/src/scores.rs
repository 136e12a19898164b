//! The softmax family over rows of any type and layout, with masks.
//!
//! A row is brought into scratch memory as f32 scores, scaled and masked. One that fits is worked on there as plain rows
//! are where they lie; a longer one is brought piece by piece for each of the three passes: the largest score, the sum of
//! exponentials, the results.

use crate::plain::{self, PlainRow, Summed};
use crate::rows::{self, Buffers, Job, Row};
use crate::{RowOptions, SoftmaxOptions};
use gristmill_core::{Error, Mask, Operand};
use gristmill_simd::math::{self, ExpNear};
use gristmill_simd::slices::{self, Chain, Map, Map2};
use gristmill_simd::sums::{reduce64, sum_registers};
use gristmill_simd::{Dtype, Element, Isa, bf16, f16};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

/// Elements of a row that is brought once: whole blocks of 64 lanes, in a part of the nearest cache.
const KEPT: usize = 2048;

/// What becomes of a score once the largest and the sum of the exponentials are known.
pub(crate) trait Finish: Copy + Sync {
    /// The result for a hidden score of a row with this sum.
    fn hidden(sum: f32) -> f32;

    /// Turns scores into results, in place.
    fn finish<I: Isa>(isa: I, scores: &mut [f32], max: f32, sum: f32);

    /// Where no score is so far below the largest, exponentials and results need no care.
    const NEAR: f32;

    /// The second pass over a plain row: the lanes of the sum of `f` of the scores. Asks for the row that begins at `next`.
    ///
    /// # Safety
    /// (Plain).
    unsafe fn sum<I: Isa, X: Element, Y: Element>(
        isa: I,
        row: PlainRow<X, Y>,
        f: &impl Chain<I>,
        next: *const X,
    ) -> I::Lanes64;

    /// The last pass over a plain row, and beside it the first pass over another, if there is one: its extremes.
    ///
    /// # Safety
    /// (Plain), for both; [`sum`](Finish::sum) has been over the whole row.
    unsafe fn last<I: Isa, X: Element, Y: Element>(
        self,
        isa: I,
        row: Summed<X, Y>,
        next: Option<PlainRow<X, Y>>,
    ) -> [f32; 2];
}

/// Runs a member of the family over all rows of `y`.
///
/// # Safety
/// (Job): the shapes agree; `x` is `y` or shares no memory with it, and `y` is exclusively the caller's.
pub(crate) unsafe fn run(
    finish: impl Finish,
    x: Operand<'_>,
    y: Operand<'_>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    let &SoftmaxOptions { scale, mask, batch, heads, threads, level } = options;
    let scores = Scores { scale, mask, heads, queries: y.rows() / (batch * heads).max(1) };
    let job = Family { x, y, scores, finish };
    // SAFETY: the caller's promise.
    unsafe { rows::divide(y.shape(), y.cols(), &RowOptions { threads, level }, &job) }
}

struct Family<'a, F> {
    x: Operand<'a>,
    y: Operand<'a>,
    scores: Scores<'a>,
    finish: F,
}

/// What lies between a row of the input and its scores.
#[derive(Clone, Copy)]
struct Scores<'a> {
    scale: f32,
    mask: Mask<'a>,
    heads: usize,
    queries: usize,
}

impl<F: Finish> Job for Family<'_, F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>) {
        if self.is_plain() {
            // SAFETY: (Job), nobody else makes the rows, and they are plain ones of these types.
            return unsafe {
                match self.y.dtype() {
                    Dtype::F32 => self.plain::<I, f32>(isa, rows),
                    Dtype::F16 => self.plain::<I, f16>(isa, rows),
                    Dtype::Bf16 => self.plain::<I, bf16>(isa, rows),
                }
            };
        }
        let mut buffers = Buffers::default();
        let n = self.y.cols();
        for i in rows {
            let (visible, [buffer, hidden]) = (self.scores.visible(i, n), buffers.both());
            // SAFETY: (Job), and nobody else makes the row.
            unsafe {
                if n <= KEPT {
                    self.kept(isa, i, visible, buffer);
                    continue;
                }
                let sum = self.row(isa, i, visible, buffer);
                for columns in rows::pieces(n - visible, KEPT) {
                    hidden[..columns.len()].fill(F::hidden(sum));
                    Row::of(&self.y, i).write(isa, visible + columns.start, &hidden[..columns.len()]);
                }
            }
        }
    }
}

impl<F: Finish> Family<'_, F> {
    /// Whether visible scores are the input's values, side by side and of the output's type.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.scores.are_plain()
            && self.x.dtype() == self.y.dtype()
            && [&self.x, &self.y].into_iter().all(|matrix| Row::of(matrix, 0).is_dense())
    }

    /// Plain rows of type T.
    ///
    /// # Safety
    /// (Job), nobody else makes the rows, and they are plain, of type T.
    #[inline(always)]
    unsafe fn plain<I: Isa, T: Element>(&self, isa: I, rows: Range<usize>) {
        let all = self.y.cols();
        // Of two rows at a time.
        let mut room = [const { MaybeUninit::<[f32; KEPT]>::uninit() }; 2];
        let room = room.each_mut().map(|room| room.as_mut_ptr().cast::<f32>());
        let rows = rows.map(|i| {
            let y = self.y.ptr_at(i, 0).cast::<T>().cast_mut();
            let kept = match T::DTYPE {
                Dtype::F32 => y.cast(),
                _ if all <= KEPT => room[i % 2],
                _ => ptr::null_mut(),
            };
            PlainRow { x: self.x.ptr_at(i, 0).cast::<T>(), kept, y, n: self.scores.visible(i, all), all }
        });
        // SAFETY: the caller's promise is (Plain) but for the exponentials, of which `y` has room if they are of its type,
        // and else the arrays, each for every other row.
        unsafe { plain::run(isa, self.finish, rows, all) }
    }

    /// A row that fits into `buffer`.
    ///
    /// # Safety
    /// (Job), nobody else makes the row, and it has at most `KEPT` elements.
    #[inline(always)]
    unsafe fn kept<I: Isa>(&self, isa: I, i: usize, visible: usize, buffer: &mut [f32; KEPT]) {
        let all = self.y.cols();
        // SAFETY: the caller's promise, and the buffer has room for all results.
        unsafe {
            self.bring(isa, i, 0..visible, buffer);
            let y = buffer.as_mut_ptr();
            plain::one(isa, self.finish, PlainRow { x: y, kept: y, y, n: visible, all });
            Row::of(&self.y, i).write(isa, 0, &buffer[..all]);
        }
    }

    /// A row of any length. Returns the sum.
    ///
    /// # Safety
    /// (Job), and nobody else makes the row.
    #[inline(always)]
    unsafe fn row<I: Isa>(&self, isa: I, i: usize, visible: usize, buffer: &mut [f32; KEPT]) -> f32 {
        let pieces = || rows::pieces(visible, KEPT);
        let mut largest = f32::NEG_INFINITY;
        for columns in pieces() {
            // SAFETY: the caller's promise.
            let piece = unsafe { self.bring(isa, i, columns, buffer) };
            let max = max(isa, piece);
            largest = if max > largest { max } else { largest };
        }
        let largest = finite(largest);
        let exponential = Exponential(isa.splat(largest));
        let mut lanes = isa.splat_lanes64(0.0);
        for columns in pieces() {
            // SAFETY: the caller's promise.
            unsafe {
                let piece = self.bring(isa, i, columns, buffer);
                lanes = slices::sum_of_raw(isa, piece.len(), piece.as_ptr(), lanes, &exponential, []);
            }
        }
        let sum = not_zero(reduce64(isa, lanes));
        for columns in pieces() {
            let start = columns.start;
            // SAFETY: the caller's promise. A piece is written when it has been read for the last time.
            unsafe {
                let piece = self.bring(isa, i, columns, buffer);
                F::finish(isa, piece, largest, sum);
                Row::of(&self.y, i).write(isa, start, piece);
            }
        }
        sum
    }

    /// Some scores of a row, at the start of `buffer`.
    ///
    /// # Safety
    /// (Job), and nobody else makes the row.
    #[inline(always)]
    unsafe fn bring<'b, I: Isa>(
        &self,
        isa: I,
        i: usize,
        columns: Range<usize>,
        buffer: &'b mut [f32; KEPT],
    ) -> &'b mut [f32] {
        // SAFETY: the caller's promise.
        let piece = unsafe { Row::of(&self.x, i).copy(isa, columns.clone(), buffer) };
        self.scores.edit(isa, i, columns, piece);
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

impl<I: Isa> Chain<I> for Exponential<I::F32> {
    type Half = ([I::F32; 4], ExpNear<I, 4>);

    #[inline(always)]
    fn begin(&self, isa: I, x: [I::F32; 4]) -> Self::Half {
        let x = differences(isa, x, self.0);
        (x, ExpNear::begin(isa, x))
    }
    #[inline(always)]
    fn end(&self, isa: I, (x, half): Self::Half) -> [I::F32; 4] {
        math::exp_cut_each(isa, x, half.end(isa))
    }
    #[inline(always)]
    fn end_behind(&self, isa: I, (x, begun): Self::Half, next: [I::F32; 4]) -> ([I::F32; 4], Self::Half) {
        let next = differences(isa, next, self.0);
        let (y, half) = begun.end_behind(isa, next);
        (math::exp_cut_each(isa, x, y), (next, half))
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

impl<I: Isa> Chain<I> for NearExponential<I::F32> {
    type Half = ExpNear<I, 4>;

    #[inline(always)]
    fn begin(&self, isa: I, x: [I::F32; 4]) -> Self::Half {
        ExpNear::begin(isa, differences(isa, x, self.0))
    }
    #[inline(always)]
    fn end(&self, isa: I, half: Self::Half) -> [I::F32; 4] {
        half.end(isa)
    }
    #[inline(always)]
    fn end_behind(&self, isa: I, begun: Self::Half, x: [I::F32; 4]) -> ([I::F32; 4], Self::Half) {
        begun.end_behind(isa, differences(isa, x, self.0))
    }
}

/// `x - max`.
#[inline(always)]
fn differences<I: Isa>(isa: I, mut x: [I::F32; 4], max: I::F32) -> [I::F32; 4] {
    for x in &mut x {
        *x = isa.sub(*x, max);
    }
    x
}

/// The smallest and the largest value that is not NaN, in a few chains each.
pub(crate) struct Extremes<I: Isa>([(I::F32, I::F32); 4]);

impl<I: Isa> Extremes<I> {
    /// Elements of a block.
    pub(crate) const BLOCK: usize = 4 * I::LANES;

    /// Of no values: plus and minus infinity.
    #[inline(always)]
    pub(crate) fn new(isa: I) -> Self {
        let infinity = isa.splat(f32::INFINITY);
        Self([(infinity, isa.neg(infinity)); 4])
    }

    /// A block of values.
    ///
    /// # Safety
    /// They must be readable.
    #[inline(always)]
    pub(crate) unsafe fn block<T: Element>(isa: I, start: *const T) -> [I::F32; 4] {
        let mut block = [isa.splat(0.0); 4];
        for (g, v) in block.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe { T::load(isa, start.add(g * I::LANES)) };
        }
        block
    }

    /// Takes note of a block.
    #[inline(always)]
    pub(crate) fn see_block(&mut self, isa: I, block: [I::F32; 4]) {
        for ((min, max), v) in self.0.iter_mut().zip(block) {
            (*min, *max) = (isa.min(v, *min), isa.max(v, *max));
        }
    }

    /// Takes note of some values.
    #[inline(always)]
    pub(crate) fn see<T: Element>(&mut self, isa: I, x: &[T]) {
        let mut blocks = x.chunks_exact(Self::BLOCK);
        for block in &mut blocks {
            // SAFETY: a block.
            self.see_block(isa, unsafe { Self::block(isa, block.as_ptr()) });
        }
        for (rest, (min, max)) in blocks.remainder().chunks(I::LANES).zip(&mut self.0) {
            let tail = isa.tail(rest.len());
            // SAFETY: the tail has as many lanes as `rest` has values.
            let v = unsafe { T::load_tail(isa, rest.as_ptr(), tail) };
            let here = isa.tail_mask(tail);
            (*min, *max) = (isa.select(here, isa.min(v, *min), *min), isa.select(here, isa.max(v, *max), *max));
        }
    }

    /// The smallest and the largest of all.
    #[inline(always)]
    pub(crate) fn reduce(self, isa: I) -> [f32; 2] {
        let [a, b, c, d] = self.0;
        let max = isa.max(isa.max(a.1, b.1), isa.max(c.1, d.1));
        let min = isa.min(isa.min(a.0, b.0), isa.min(c.0, d.0));
        [-isa.reduce_max(isa.neg(min)), isa.reduce_max(max)]
    }
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
