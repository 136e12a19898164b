//! bf16 by bf16: which multiply-adds give the bits of the dot product of pairs, and the queries as those read them.

use crate::any::AnyHeads;
use crate::block::{Block, Worker};
use crate::cache::PAGE;
use crate::operands::Form;
use crate::plan::{Rows, Unit};
use crate::source::Source;
use gristmill_core::{HeadsRef, Operand};
use gristmill_gemm::Chain;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Bf16Magnitudes, Isa, bf16};
use std::slice;

/// How the products of a block with keys and with values are computed, where their panels are of pairs.
#[derive(Clone, Copy)]
pub(crate) struct Ways {
    pub(crate) scores: Chain,
    /// Also what weights are: bf16 for dot products; else f32, the pairs swapped if the odd one comes first.
    pub(crate) values: Chain,
}

impl Ways {
    /// Those of operands of different types.
    pub(crate) const IN_ORDER: Self = Self { scores: Chain::InOrder, values: Chain::InOrder };
}

/// The least weight that is not zero: it is above `exp(-41)`, which is 2^-59.2.
const LEAST_WEIGHT: bf16 = bf16::from_bits((127 - 60) << 7);

impl Worker<'_, '_> {
    /// Decides how a block is computed, and brings its queries into that form.
    #[inline(always)]
    pub(crate) fn pair_queries<I: Isa>(&mut self, isa: I, unit: &Unit, block: &Block) {
        let AnyHeads::Bf16(q) = self.call.q else { unreachable!("pairs are of bf16") };
        let chain = match self.form {
            _ if self.plan.dots => Chain::Dot,
            Form::Swapped => Chain::OddFirst,
            // Of a cache, or not to be added plainly.
            Form::Steps | Form::Pairs => Chain::Dot,
        };
        let mut ways = Ways { scores: chain, values: chain };
        if let (Source::Cache(_), false) = (&self.call.source, self.plan.dots) {
            let heads = if self.plan.by_head { block.rows.count } else { 1 };
            let [keys, values] = match self.magnitudes {
                Some(magnitudes) if !self.plan.by_head => magnitudes,
                _ => self.operand_magnitudes(isa, unit, heads),
            };
            self.magnitudes = Some([keys, values]);
            if self.query_magnitudes(isa, &q, unit, block.rows).allow_plain(keys, I::FUSED) {
                ways.scores = Chain::OddFirst;
            }
            if weight_magnitudes(isa).allow_plain(values, I::FUSED) {
                ways.values = Chain::OddFirst;
            }
        }
        if let Source::Keys(_) = self.call.source {
            ways.values = Chain::InOrder;
        }
        self.ways[block.slot] = ways;
        if ways.scores == Chain::Dot {
            if q.strides()[3] != 1 {
                self.gather(&q, unit, block);
            }
            return;
        }
        self.widen(isa, unit, block);
        let stride = self.plan.query_stride;
        let rows = self.queries[block.slot * self.plan.block_rows * stride..].chunks_exact_mut(stride.max(1));
        for row in rows.take(block.rows.count) {
            row[q.dim()..q.dim().next_multiple_of(2)].fill(0.0);
            swap_pairs(&mut row[..q.dim().next_multiple_of(2)]);
        }
    }

    /// Decides how the keys and values of a unit of views are packed: what was packed in another form is forgotten.
    #[inline(always)]
    pub(crate) fn choose_form<I: Isa>(&mut self, isa: I, unit: &Unit) {
        let form = match self.call.q {
            AnyHeads::Bf16(_) if self.plan.dots => Form::Pairs,
            AnyHeads::Bf16(q) if self.plan.pairs && !matches!(self.call.source, Source::Cache(_)) => {
                let [keys, values] = self.magnitudes.unwrap_or_else(|| self.operand_magnitudes(isa, unit, 1));
                self.magnitudes = Some([keys, values]);
                let queries = (unit.first_block..unit.end_block).fold(Bf16Magnitudes::NONE, |all, block| {
                    all.and(self.query_magnitudes(isa, &q, unit, self.plan.rows(unit.kv_head, block)))
                });
                let plain = queries.allow_plain(keys, I::FUSED);
                if plain && weight_magnitudes(isa).allow_plain(values, I::FUSED) { Form::Swapped } else { Form::Pairs }
            }
            _ => Form::Steps,
        };
        if form != self.form {
            (self.form, self.packed_keys, self.packed_values) = (form, 0, 0);
        }
    }

    /// The magnitudes of the queries of a block.
    #[inline(always)]
    fn query_magnitudes<I: Isa>(&self, isa: I, q: &HeadsRef<bf16>, unit: &Unit, rows: Rows) -> Bf16Magnitudes {
        let ((h, i), (last_head, last)) = (rows.at(0), rows.at(rows.count - 1));
        (h..=last_head).fold(Bf16Magnitudes::NONE, |all, h| all.and(of_rows(isa, q, [unit.batch, h], i..last + 1)))
    }

    /// Brings the values of each query of a block side by side.
    #[cold]
    fn gather(&mut self, q: &HeadsRef<bf16>, unit: &Unit, block: &Block) {
        let stride = self.plan.query_stride;
        let rows = self.queries[block.slot * self.plan.block_rows * stride..].chunks_exact_mut(stride.max(1));
        for (r, row) in rows.take(block.rows.count).enumerate() {
            let (h, i) = block.rows.at(r);
            // SAFETY: two bf16 fit into an f32, and any bits are bf16.
            let row = unsafe { slice::from_raw_parts_mut(row.as_mut_ptr().cast::<bf16>(), 2 * row.len()) };
            row.iter_mut().enumerate().take(q.dim()).for_each(|(d, to)| *to = q.at(unit.batch, i, h, d));
        }
    }

    /// The magnitudes of the keys and values of some heads, from the unit's on.
    #[inline(never)]
    fn operand_magnitudes<I: Isa>(&self, isa: I, unit: &Unit, heads: usize) -> [Bf16Magnitudes; 2] {
        let seen = self.seen(unit);
        let (b, mut all) = (unit.batch, [Bf16Magnitudes::NONE; 2]);
        let [keys, values] = &mut all;
        match self.call.source {
            Source::Views { k: AnyHeads::Bf16(k), v: AnyHeads::Bf16(v) } => {
                *keys = of_rows(isa, &k, [b, unit.kv_head], 0..seen);
                *values = of_rows(isa, &v, [b, unit.kv_head], 0..seen);
            }
            Source::Keys(AnyHeads::Bf16(k)) => *keys = of_rows(isa, &k, [b, unit.kv_head], 0..seen),
            Source::Cache(cache) => {
                let layout = cache.layout();
                let (panel, head) = (PANEL * layout.key_len(), PAGE * layout.value_len());
                for first in (0..seen).step_by(PAGE) {
                    if let Some(of_page) = cache.magnitudes(b, first) {
                        (*keys, *values) = (keys.and(of_page[0]), values.and(of_page[1]));
                        continue;
                    }
                    for h in unit.kv_head..unit.kv_head + heads {
                        let from = cache.keys_from(b, h, first).cast::<bf16>();
                        for p in 0..PAGE / PANEL {
                            let at = from.wrapping_add(p * layout.kv_heads * panel);
                            // SAFETY: a page holds as many panels of keys, those of all heads after one another.
                            let panel = unsafe { slice::from_raw_parts(at, panel) };
                            *keys = keys.and(Bf16Magnitudes::of(isa, panel));
                        }
                        // SAFETY: and all values of a head.
                        let all = unsafe { slice::from_raw_parts(cache.values_from(b, h, first).cast::<bf16>(), head) };
                        *values = values.and(Bf16Magnitudes::of(isa, all));
                    }
                }
            }
            Source::Views { .. } | Source::Keys(_) => unreachable!("pairs are of bf16"),
        }
        all
    }
}

/// The magnitudes that weights may have.
#[inline(always)]
fn weight_magnitudes<I: Isa>(isa: I) -> Bf16Magnitudes {
    Bf16Magnitudes::of(isa, &[LEAST_WEIGHT, bf16::ONE])
}

/// The magnitudes of some positions of a head.
#[inline(always)]
fn of_rows<I: Isa>(isa: I, heads: &HeadsRef<bf16>, [b, h]: [usize; 2], rows: std::ops::Range<usize>) -> Bf16Magnitudes {
    let head = heads.head(b, h);
    let Ok(rows) = head.submatrix(rows, 0..head.cols()) else { unreachable!("positions of a head") };
    Operand::from(rows).bf16_magnitudes(isa)
}

/// Swaps the values of each pair.
#[inline(always)]
pub(crate) fn swap_pairs(values: &mut [f32]) {
    for pair in values.chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
}

#[cfg(test)]
mod tests {
    use crate::any::AnyOutput;
    use crate::driver::{self, Call};
    use crate::source::Source;
    use crate::{AttentionOptions, KvCache, naive};
    use gristmill_core::{Causal, Mask, Threads, Workspace};
    use gristmill_simd::{Simd, bf16};
    use gristmill_testkit::{Fill, Heads, assert_bits_eq, naive, sweep};

    /// From views and from a cache, of values that multiply-adds may replace dot products of, and of such as they may not.
    #[test]
    fn bits_do_not_depend_on_what_pays() {
        for [queries, group, keys, dim, value_dim] in
            [[1, 1, 70, 18, 16], [1, 2, 130, 17, 33], [30, 1, 90, 20, 20], [16, 1, 530, 24, 18]]
        {
            // Sums of products about the smallest normal number, which the scale makes scores that differ, and weighted
            // values of that size.
            for ([of_keys, of_values], scale) in [([0, 0], None), ([-63, -125], Some(2f32.powi(126)))] {
                let filled = |seq, heads, dim, exponent, seed| {
                    let mut x = Heads::filled([2, seq, heads, dim], &Default::default(), Fill::Normal, seed);
                    x.data.iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
                    x.to::<bf16>()
                };
                let q = filled(queries, 2 * group, dim, of_keys, 1);
                let out = filled(queries, 2 * group, value_dim, of_values, 2);
                let (k, v) = (filled(keys, 2, dim, of_keys, 3), filled(keys, 2, value_dim, of_values, 4));
                let mask = Mask { causal: Some(Causal::BottomRight), ..Mask::default() };
                let options = AttentionOptions { mask, scale, threads: Threads::Serial, ..AttentionOptions::default() };
                sweep::levels(|level| {
                    let mut want = out.clone();
                    let views = (q.heads(), k.heads(), v.heads());
                    naive!(level, naive::attention(views.0, views.1, views.2, want.heads_mut(), &options)).unwrap();
                    for pays in [false, true] {
                        let simd = Simd::choose(Some(level)).unwrap().with_dot_pays(pays);
                        let mut cache = KvCache::<bf16>::new(2, dim, value_dim).unwrap();
                        cache.reset(2).unwrap();
                        cache.append_at(simd, views.1, views.2, None, Threads::Serial).unwrap();
                        for source in [Source::Views { k: views.1.into(), v: views.2.into() }, Source::Cache(&cache)] {
                            let mut got = out.clone();
                            let out = &mut got.heads_mut();
                            let scale = options.scale_for(dim);
                            let call =
                                Call { q: views.0.into(), source, out: AnyOutput::new(out), options: &options, scale };
                            driver::run(simd, &call, &mut Workspace::new()).unwrap();
                            let cached = matches!(source, Source::Cache(_));
                            let context = format_args!("{level}, pays: {pays}, cached: {cached}, {queries} queries");
                            assert_bits_eq(&got.values(), &want.values(), context);
                        }
                    }
                });
            }
        }
    }
}
