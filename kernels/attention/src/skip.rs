//! The weighted sum of values over the visible keys alone.

use crate::driver::Call;
use crate::plan::VALUE_BLOCK;
use gristmill_gemm::Chain;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::naive::dot_step;
use gristmill_simd::{Isa, Kernel, bf16};
use std::slice;

/// Sums the values of one query row again, key by key, without those that the row does not see.
///
/// The tiles give a hidden key a weight of zero, which is exact unless its value is not finite.
pub(crate) struct Skip<'s, 'a> {
    pub(crate) call: &'s Call<'a>,
    /// The row's key/value head.
    pub(crate) kv_head: usize,
    /// Sequence, query head, position.
    pub(crate) row: [usize; 3],
    /// Weights of the keys, hidden or not, and room for another one.
    pub(crate) weights: &'s [f32],
    /// How many keys.
    pub(crate) keys: usize,
    /// The sums, D_v of them.
    pub(crate) sums: &'s mut [f32],
}

impl Skip<'_, '_> {
    /// The same for products of pairs, whose weights have the form that `chain` reads. Zeros stand for what is hidden.
    #[cold]
    pub(crate) fn pairs(self, chain: Chain) {
        let (q, source) = (&self.call.q, &self.call.source);
        let [b, h, i] = self.row;
        let visible = |j| j < self.keys && self.call.options.mask.visible([b, h, i, j], q.sizes()[1], source.keys(b));
        // SAFETY: an f32 has the bits of two bf16.
        let narrow = unsafe { slice::from_raw_parts(self.weights.as_ptr().cast::<bf16>(), self.weights.len()) };
        let weight = |j: usize| match chain {
            Chain::Dot => narrow[j].to_f32(),
            Chain::OddFirst => self.weights[j ^ 1],
            Chain::InOrder => self.weights[j],
        };
        for (d, total) in self.sums.iter_mut().enumerate() {
            *total = 0.0;
            for first in (0..self.keys).step_by(VALUE_BLOCK) {
                let mut chain = 0.0;
                for even in (first..self.keys.min(first + VALUE_BLOCK)).step_by(2) {
                    for j in [even + 1, even].into_iter().filter(|&j| visible(j)) {
                        chain = dot_step(weight(j), source.value([b, self.kv_head, j], d), chain);
                    }
                }
                *total += chain;
            }
        }
    }
}

impl Kernel for Skip<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (q, source) = (&self.call.q, &self.call.source);
        let [b, h, i] = self.row;
        let visible = |j| self.call.options.mask.visible([b, h, i, j], q.sizes()[1], source.keys(b));
        for (part, sums) in self.sums.chunks_mut(I::LANES).enumerate() {
            let mut total = isa.splat(0.0);
            for (block, weights) in self.weights[..self.keys].chunks(VALUE_BLOCK).enumerate() {
                let mut chain = isa.splat(0.0);
                for (j, &weight) in weights.iter().enumerate().map(|(l, w)| (block * VALUE_BLOCK + l, w)) {
                    if visible(j) {
                        let mut values = [0.0; PANEL];
                        for (l, value) in values.iter_mut().enumerate().take(sums.len()) {
                            *value = source.value([b, self.kv_head, j], part * I::LANES + l);
                        }
                        // SAFETY: a register has at most as many lanes as the array has values.
                        chain = isa.fma(isa.splat(weight), unsafe { isa.load(values.as_ptr()) }, chain);
                    }
                }
                total = isa.add(total, chain);
            }
            // SAFETY: the tail has as many lanes as `sums` has values.
            unsafe { isa.store_tail(sums.as_mut_ptr(), total, isa.tail(sums.len())) };
        }
    }
}
