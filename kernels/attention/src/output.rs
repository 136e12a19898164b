//! From the sums of a block, or from its weights, to rows of the output.

use crate::any::{AnyOutput, any};
use crate::block::{Block, Worker};
use crate::plan::Unit;
use crate::skip::Skip;
use gristmill_core::{MatMut, SharedHeads};
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Divisor, Divisors, Element, Isa, Kernel, Magnitudes, slices};

/// Divisors that are prepared together.
const DIVISORS: usize = 16;

impl Worker<'_, '_> {
    /// Divides the sums of a block and writes its rows.
    #[inline(always)]
    pub(crate) fn finish<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block) {
        // SAFETY: every unit, and every row of it, is computed once.
        any!(AnyOutput, &self.call.out, out => unsafe { self.finish_into(isa, unit, block, out) });
    }

    /// [`finish`](Self::finish) for an output of type O.
    ///
    /// # Safety
    /// Nobody else uses the block's rows of `out`.
    #[inline(always)]
    unsafe fn finish_into<I: Isa, O: Element>(&mut self, isa: I, unit: &Unit, block: &Block, out: &SharedHeads<O>) {
        let dim = self.call.source.value_dim();
        // SAFETY: the caller's promise.
        if unsafe { self.finish_safe(isa, unit, block, out) } {
            return;
        }
        for r in 0..block.rows.count {
            let (h, i) = block.rows.at(r);
            // SAFETY: the caller's promise.
            let mut out = unsafe { out.block(unit.batch, h, i..i + 1) };
            let row = block.slot * self.plan.block_rows + r;
            let sum = self.denominators[row];
            if sum == 0.0 {
                (0..dim).for_each(|d| out.set(0, d, O::default()));
                continue;
            }
            let hides = self.hides(unit, block, i);
            let sums = &mut self.sums[row * self.plan.out_stride..][..self.plan.out_stride];
            // A hidden key with a weight of zero has left a NaN if its value was not finite.
            if hides && any_nan(isa, &sums[..dim]) {
                let skip = Skip {
                    call: self.call,
                    kv_head: unit.kv_head + if self.plan.by_head { r } else { 0 },
                    row: [unit.batch, h, i],
                    weights: &self.scores[row * self.plan.score_stride..][..block.limit.next_multiple_of(2)],
                    keys: block.limit,
                    sums: &mut sums[..dim],
                };
                if self.plan.pairs {
                    skip.pairs(self.ways[block.slot].values);
                } else {
                    isa.vectorize(skip);
                }
            }
            divide_into(isa, sums, sum, &mut out, dim);
        }
    }

    /// Whether the keys of a block, and the partner of the last one in a pair, include some that the query at `position`
    /// does not see.
    fn hides(&self, unit: &Unit, block: &Block, position: usize) -> bool {
        let keys = block.limit.next_multiple_of(if self.plan.pairs { 2 } else { 1 });
        !self.call.options.mask.is_dense() || self.call.key_end(unit.batch, position) < keys
    }

    /// [`finish_into`](Self::finish_into) the short way, which is right if it returns true.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn finish_safe<I: Isa, O: Element>(&self, isa: I, unit: &Unit, block: &Block, out: &SharedHeads<O>) -> bool {
        if out.strides()[3] != 1 {
            return false;
        }
        let (rows, stride, first) = (block.rows.count, self.plan.out_stride, block.slot * self.plan.block_rows);
        let (h, i) = block.rows.at(0);
        let sums = &self.sums[first * stride..][..rows * stride];
        let (divisors, dim) = (&self.denominators[first..][..rows], self.call.source.value_dim());
        // SAFETY: the caller's promise; the rows of a block are as far apart, their values side by side.
        let divide = unsafe {
            let first = out.block(unit.batch, h, i..i + 1).as_mut_ptr();
            Divide::new((sums, stride), divisors, (first, block.rows.step(out.strides())), dim)
        };
        crate::apart(isa, &divide)
    }

    /// Divides the weights of a block and writes its rows, of which `out` has `keys` columns.
    ///
    /// # Safety
    /// Nobody else uses the block's rows of `out`.
    #[inline(always)]
    pub(crate) unsafe fn write_weights<I: Isa, O: Element>(
        &mut self,
        isa: I,
        unit: &Unit,
        block: &Block,
        out: &SharedHeads<O>,
        keys: usize,
    ) {
        let (call, stride, first) = (self.call, self.plan.score_stride, block.slot * self.plan.block_rows);
        let rows = self.scores[first * stride..].chunks_exact_mut(stride).zip(&self.denominators[first..]);
        for (r, (row, &sum)) in rows.enumerate().take(block.rows.count) {
            let (h, i) = block.rows.at(r);
            // SAFETY: the caller's promise.
            let mut out = unsafe { out.block(unit.batch, h, i..i + 1) };
            let seen = if sum == 0.0 { 0 } else { block.limit };
            if sum.is_nan() {
                // Hidden keys have a weight of zero all the same.
                let sizes = (call.q.sizes()[1], keys);
                for j in 0..seen {
                    let visible = call.options.mask.visible([unit.batch, h, i, j], sizes.0, sizes.1);
                    out.set(0, j, O::from_f32(if visible { f32::NAN } else { 0.0 }));
                }
            } else if seen > 0 {
                let panels = seen.next_multiple_of(PANEL);
                divide_into(isa, &mut row[..panels], sum, &mut out, seen);
            }
            (seen..keys).for_each(|j| out.set(0, j, O::default()));
        }
    }
}

/// Divides rows of sums the short way, and returns whether all divisors and sums allowed it.
struct Divide<'s, O> {
    sums: &'s [f32],
    stride: usize,
    divisors: &'s [f32],
    out: *mut O,
    out_row: isize,
    dim: usize,
}

impl<'s, O: Element> Divide<'s, O> {
    /// Rows of sums, `stride` apart and in whole panels, each with a divisor, and where the quotients of the first `dim`
    /// values go, `out_row` from row to row.
    ///
    /// # Safety
    /// The sums have as many rows as there are divisors, each of whole panels for `dim` values, and so has the output of `dim`
    /// values: they are writable and used by nobody else (D1).
    #[inline(always)]
    unsafe fn new(
        (sums, stride): (&'s [f32], usize),
        divisors: &'s [f32],
        (out, out_row): (*mut O, isize),
        dim: usize,
    ) -> Self {
        Self { sums, stride, divisors, out, out_row, dim }
    }

    /// Divisors `first .. first + 16` and ones; none if one is zero.
    #[inline(always)]
    fn divisors<I: Isa>(&self, isa: I, first: usize) -> Option<Divisors> {
        let (mut values, mut zeros) = ([1.0; DIVISORS], 0);
        for lane in (0..DIVISORS).step_by(I::LANES) {
            let from = &self.divisors[self.divisors.len().min(first + lane)..];
            let tail = isa.tail(from.len());
            // SAFETY: the tail has as many lanes as there are divisors; `values` has whole registers.
            unsafe {
                let x = isa.select(isa.tail_mask(tail), isa.load_tail(from.as_ptr(), tail), isa.splat(1.0));
                zeros |= isa.mask_bits(isa.eq(x, isa.splat(0.0)));
                isa.store(values.as_mut_ptr().add(lane), x);
            }
        }
        (zeros == 0).then(|| Divisors::new(isa, values))
    }

    /// Divides one row, several registers in step.
    ///
    /// # Safety
    /// `from` has whole panels for `dim` values, `to` as many places as that.
    #[inline(always)]
    unsafe fn row<I: Isa>(
        &self,
        isa: I,
        divisor: Divisor<I>,
        from: *const f32,
        to: *mut O,
        sizes: &mut [Magnitudes<I>; 4],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut d = 0;
            while d + 4 * I::LANES <= self.dim {
                step::<I, O, 4>(isa, divisor, from.add(d), to.add(d), sizes);
                d += 4 * I::LANES;
            }
            if d + 2 * I::LANES <= self.dim {
                step::<I, O, 2>(isa, divisor, from.add(d), to.add(d), sizes);
                d += 2 * I::LANES;
            }
            if d + I::LANES <= self.dim {
                step::<I, O, 1>(isa, divisor, from.add(d), to.add(d), sizes);
                d += I::LANES;
            }
            if d < self.dim {
                let tail = isa.tail(self.dim - d);
                let x = isa.load(from.add(d));
                sizes[3].see(isa, isa.select(isa.tail_mask(tail), x, isa.splat(1.0)));
                O::store_tail(isa, to.add(d), divisor.divide_safe(isa, x), tail);
            }
        }
    }
}

impl<O: Element> Kernel for &Divide<'_, O> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        // Each has a chain of its own.
        let mut sizes = [Magnitudes::new(isa); 4];
        let (mut from, mut to) = (self.sums.as_ptr(), self.out);
        for first in (0..self.divisors.len()).step_by(DIVISORS) {
            let Some(divisors) = self.divisors(isa, first) else { return false };
            for r in 0..DIVISORS.min(self.divisors.len() - first) {
                // SAFETY: D1.
                unsafe { self.row(isa, divisors.get(isa, r), from, to, &mut sizes) };
                (from, to) = (from.wrapping_add(self.stride), to.wrapping_offset(self.out_row));
            }
        }
        let [a, b, c, d] = sizes;
        a.with(isa, b).with(isa, c.with(isa, d)).safe(isa)
    }
}

/// Divides `N` registers, as many as there are at least at `from` and `to`.
///
/// # Safety
/// That.
#[inline(always)]
unsafe fn step<I: Isa, O: Element, const N: usize>(
    isa: I,
    divisor: Divisor<I>,
    from: *const f32,
    to: *mut O,
    sizes: &mut [Magnitudes<I>; 4],
) {
    for (j, sizes) in sizes.iter_mut().enumerate().take(N) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = isa.load(from.add(j * I::LANES));
            sizes.see(isa, x);
            O::store(isa, to.add(j * I::LANES), divisor.divide_safe(isa, x));
        }
    }
}

/// Writes the first `dim` of `sums / divisor` to the one row of `out`; `sums` has whole panels.
#[inline(always)]
fn divide_into<I: Isa, O: Element>(isa: I, sums: &mut [f32], divisor: f32, out: &mut MatMut<O>, dim: usize) {
    let divisor = Divisor::new(isa, divisor);
    let start = out.as_mut_ptr();
    if out.col_stride() == 1 {
        let whole = dim / I::LANES * I::LANES;
        // SAFETY: `sums` has whole panels, `out` has at least `dim` values.
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

/// Whether there is a NaN among the values.
#[inline(always)]
fn any_nan<I: Isa>(isa: I, values: &[f32]) -> bool {
    let lanes = slices::fold(isa, values, 0.0, |seen, x| isa.select(isa.is_nan(x), x, seen));
    lanes.as_ref().iter().any(|&lanes| isa.mask_bits(isa.is_nan(lanes)) != 0)
}
