//! Which cases there are. Users have other shapes: nothing may be tuned to just these.

use crate::cases::{Attention, Case, Dtype, Gemm, Layout, MaskKind, Model, RowOp, Rows, Task, Work};
use gristmill_testkit::shapes::{self, ATTENTION_LIKE, LINEAR_LAYERS, LINEAR_ROWS, ODD, SQUARES, VOCABULARY};

/// Rows of the linear layers outside the list that the tests share.
pub const ODD_ROWS: [usize; 7] = [3, 5, 9, 17, 33, 100, 777];
/// `[n, k]` of the linear layers outside the main list.
pub const ODD_LAYERS: [[usize; 2]; 5] = [[768, 768], [3072, 768], [1024, 4096], [4096, 1024], [511, 513]];

/// `([B, H, Sq, Sk, D], mask)`.
pub const ATTENTION: [([usize; 5], MaskKind); 16] = [
    ([1, 8, 128, 128, 64], MaskKind::None),
    ([1, 8, 512, 512, 64], MaskKind::None),
    ([1, 8, 2048, 2048, 64], MaskKind::None),
    ([1, 8, 512, 512, 128], MaskKind::None),
    ([1, 8, 4096, 4096, 128], MaskKind::None),
    ([1, 8, 128, 128, 64], MaskKind::Causal),
    ([1, 8, 512, 512, 64], MaskKind::Causal),
    ([1, 8, 2048, 2048, 64], MaskKind::Causal),
    ([32, 8, 32, 32, 64], MaskKind::None),
    ([32, 8, 32, 32, 64], MaskKind::Causal),
    ([32, 8, 32, 32, 64], MaskKind::Keypad),
    ([8, 8, 128, 128, 64], MaskKind::Keypad),
    ([8, 8, 32, 128, 64], MaskKind::None),
    ([1, 8, 1, 512, 64], MaskKind::None),
    ([8, 8, 1, 128, 64], MaskKind::None),
    ([1, 8, 1, 4096, 64], MaskKind::None),
];

/// `(operation, rows, cols)`, in f32.
pub const ROWS: [(RowOp, usize, usize); 20] = [
    (RowOp::LayerNorm, 1, 512),
    (RowOp::LayerNorm, 512, 512),
    (RowOp::LayerNorm, 4096, 512),
    (RowOp::LayerNorm, 2048, 4096),
    (RowOp::AddLayerNorm, 1, 512),
    (RowOp::AddLayerNorm, 512, 512),
    (RowOp::AddLayerNorm, 4096, 512),
    (RowOp::RmsNorm, 512, 512),
    (RowOp::AddRmsNorm, 512, 512),
    (RowOp::Softmax, 512, 512),
    (RowOp::Softmax, 512, 2048),
    (RowOp::Softmax, 32, 37000),
    (RowOp::LogSoftmax, 512, 2048),
    (RowOp::LogSoftmax, 32, 37000),
    (RowOp::BiasRelu, 32, 2048),
    (RowOp::BiasRelu, 512, 2048),
    (RowOp::BiasGelu, 32, 2048),
    (RowOp::BiasGelu, 512, 2048),
    (RowOp::BiasGeluTanh, 512, 2048),
    (RowOp::BiasSilu, 512, 2048),
];

/// Those that run in f16 and bf16 too.
pub const NARROW_ROWS: [(RowOp, usize, usize); 7] = [
    (RowOp::LayerNorm, 1, 512),
    (RowOp::LayerNorm, 512, 512),
    (RowOp::LayerNorm, 4096, 512),
    (RowOp::AddLayerNorm, 512, 512),
    (RowOp::RmsNorm, 512, 512),
    (RowOp::Softmax, 512, 2048),
    (RowOp::BiasGelu, 512, 2048),
];

/// `(task, sentences, tokens)` of the base model.
pub const MODEL: [(Task, usize, usize); 16] = [
    (Task::Encoder, 1, 16),
    (Task::Encoder, 1, 128),
    (Task::Encoder, 1, 512),
    (Task::Encoder, 8, 32),
    (Task::Encoder, 32, 32),
    (Task::Forced, 32, 32),
    (Task::Step, 1, 32),
    (Task::Step, 8, 32),
    (Task::Step, 32, 32),
    (Task::Greedy, 1, 32),
    (Task::Greedy, 8, 32),
    (Task::Greedy, 32, 32),
    (Task::Greedy, 128, 32),
    (Task::Beam4, 1, 32),
    (Task::Beam4, 8, 32),
    (Task::Beam4, 32, 32),
];

/// Every case of the referee for pools of `threads`, in the order in which it runs them.
pub fn cases(threads: usize) -> Vec<Case> {
    let works = products().chain(odd_products()).map(Work::Gemm);
    let works = works.chain(attentions().map(Work::Attention)).chain(rows().map(Work::Rows));
    works.chain(models().map(Work::Model)).map(|work| Case { work, threads }).collect()
}

fn products() -> impl Iterator<Item = Gemm> {
    let squares = SQUARES.into_iter().map(|side| (Layout::Nn, [side; 3]));
    let linear = |layout| {
        let shapes = layers(&LINEAR_LAYERS, &LINEAR_ROWS).chain(VOCABULARY);
        shapes.map(move |shape| (layout, shape))
    };
    // The scores are `q k^T`, the mixtures `p v`.
    let scores = |[m, n, k]: shapes::Gemm| if m == n { (Layout::Nt, [m, n, k]) } else { (Layout::Nn, [m, n, k]) };
    let odd = ODD.into_iter().map(|shape| (Layout::Nn, shape));
    let both = linear(Layout::NtPacked).chain(linear(Layout::Nt));
    let all = squares.chain(both).chain(ATTENTION_LIKE.into_iter().map(scores)).chain(odd);
    let narrow = [Dtype::F16, Dtype::Bf16].into_iter().flat_map(move |dtype| {
        let squares = SQUARES.into_iter().filter(|&side| side >= 256).map(|side| (Layout::Nn, [side; 3]));
        let plain = layers(&LINEAR_LAYERS, &[1, 8]).map(|shape| (Layout::Nt, shape));
        squares
            .chain(linear(Layout::NtPacked))
            .chain(plain)
            .map(move |(layout, shape)| product(false, dtype, layout, shape))
    });
    let weights = [Dtype::F16w, Dtype::Bf16w].into_iter().flat_map(move |dtype| {
        linear(Layout::NtPacked).map(move |(layout, shape)| product(false, dtype, layout, shape))
    });
    all.map(|(layout, shape)| product(false, Dtype::F32, layout, shape)).chain(narrow).chain(weights)
}

fn odd_products() -> impl Iterator<Item = Gemm> {
    layers(&ODD_LAYERS, &ODD_ROWS).map(|shape| product(true, Dtype::F32, Layout::NtPacked, shape))
}

/// Every layer `[n, k]` with every number of rows.
fn layers(layers: &'static [[usize; 2]], rows: &'static [usize]) -> impl Iterator<Item = shapes::Gemm> {
    layers.iter().flat_map(move |&[n, k]| rows.iter().map(move |&m| [m, n, k]))
}

fn product(odd: bool, dtype: Dtype, layout: Layout, [m, n, k]: shapes::Gemm) -> Gemm {
    Gemm { odd, dtype, layout, m, n, k }
}

fn attentions() -> impl Iterator<Item = Attention> {
    [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().flat_map(|dtype| {
        ATTENTION.into_iter().map(move |([batch, heads, queries, keys, dim], mask)| Attention {
            dtype,
            batch,
            heads,
            queries,
            keys,
            dim,
            mask,
        })
    })
}

fn rows() -> impl Iterator<Item = Rows> {
    let wide = ROWS.into_iter().map(|row| (Dtype::F32, row));
    let narrow = [Dtype::F16, Dtype::Bf16].into_iter().flat_map(|dtype| NARROW_ROWS.map(|row| (dtype, row)));
    wide.chain(narrow).map(|(dtype, (op, rows, cols))| Rows { op, dtype, rows, cols })
}

fn models() -> impl Iterator<Item = Model> {
    let types = [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter();
    types.flat_map(|dtype| {
        let model = move |(task, batch, seq)| Model { task, dtype, config: "base".to_owned(), batch, seq };
        MODEL.into_iter().map(model)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_id_is_there_once_and_can_be_read_back() {
        let mut ids = HashSet::new();
        for case in cases(1).into_iter().chain(cases(2)) {
            let id = case.to_string();
            assert_eq!(id.parse(), Ok(case));
            assert!(ids.insert(id));
        }
        assert!(ids.contains("gemm/f32/nt-packed/32x2048x512/t1"));
        assert!(ids.contains("gemm-odd/f32/nt-packed/777x511x513/t2"));
    }
}
