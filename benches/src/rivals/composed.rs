//! Attention from the crate `gemmkit`: its two products, and between them our own softmax, the fastest there is here.
//!
//! Heads are shared out to the threads, each product is serial. Hidden scores are overwritten with minus infinity; they
//! are computed all the same, as three operations one after the other do.

use super::AttentionOperands;
use crate::{buffer::Buffer, cases::MaskKind, contest::Contender};
use gemmkit::{MatMut, MatRef, Parallelism, Workspace};
use gristmill_core::Threads;
use gristmill_rowwise::{SoftmaxOptions, softmax_in_place};
use rayon::prelude::*;
use std::sync::Mutex;

pub(super) fn contender(operands: AttentionOperands<'_>) -> Contender<'_> {
    let case = operands.case;
    let scratch = || Mutex::new((Buffer::filled(case.queries * case.keys, 0.0), Workspace::new()));
    let scratch: Vec<_> = (0..operands.threads).map(|_| scratch()).collect();
    Contender::new("gemmkit-3op", move |output| {
        let heads = output.par_chunks_mut(case.queries * case.dim).enumerate();
        heads.for_each(|(head, output)| {
            let thread = rayon::current_thread_index().unwrap_or(0) % scratch.len();
            let mut scratch = scratch[thread].lock().expect("no thread panics with the scratch memory");
            let (scores, workspace) = &mut *scratch;
            attend(operands, head, output, scores, workspace);
        });
    })
}

/// One head of one sequence.
fn attend(
    operands: AttentionOperands<'_>,
    head: usize,
    output: &mut [f32],
    scores: &mut [f32],
    workspace: &mut Workspace,
) {
    let AttentionOperands { case, q, k, v, key_lengths, .. } = operands;
    let (queries, keys, dim) = (case.queries, case.keys, case.dim);
    let q = MatRef::from_row_major(&q[head * queries * dim..][..queries * dim], queries, dim);
    let k = MatRef::from_col_major(&k[head * keys * dim..][..keys * dim], dim, keys);
    let v = MatRef::from_row_major(&v[head * keys * dim..][..keys * dim], keys, dim);

    let scale = 1.0 / (dim as f32).sqrt();
    let product = MatMut::from_row_major(scores, queries, keys);
    gemmkit::gemm_with(workspace, scale, q, k, 0.0, product, Parallelism::Serial);

    let length = key_lengths[head / case.heads];
    for (i, scores) in scores.chunks_exact_mut(keys).enumerate() {
        let visible = match case.mask {
            MaskKind::None => keys,
            MaskKind::Causal => (i + 1 + keys).saturating_sub(queries),
            MaskKind::Keypad => length,
        };
        scores[visible..].fill(f32::NEG_INFINITY);
    }
    let rows = gristmill_core::MatMut::new(scores, queries, keys).expect("the scores were made for the case");
    let options = SoftmaxOptions { threads: Threads::Serial, ..SoftmaxOptions::default() };
    softmax_in_place(rows, &options).expect("a softmax of any rows");

    let weights = MatRef::from_row_major(scores, queries, keys);
    let output = MatMut::from_row_major(output, queries, dim);
    gemmkit::gemm_with(workspace, 1.0, weights, v, 0.0, output, Parallelism::Serial);
}
