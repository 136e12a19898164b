//! How each kind of work is set up: one file per kind.

mod attention;
mod gemm;
mod model;
mod rows;

use crate::{
    cases::{Attention, Dtype, Gemm, Model, Rows},
    contest::Contest,
};
use gristmill_simd::{Simd, bf16, f16};

/// Multiply-adds that a comparison with a naive version may take; beyond it, rows are sampled.
const NAIVE_BUDGET: usize = 1 << 24;

pub(crate) fn gemm(work: &Gemm, threads: usize) -> Option<Box<dyn Contest>> {
    Some(match work.dtype {
        Dtype::F32 => Box::new(gemm::Products::<f32, f32>::new(*work, threads)),
        Dtype::F16 => Box::new(gemm::Products::<f16, f16>::new(*work, threads)),
        Dtype::Bf16 => Box::new(gemm::Products::<bf16, bf16>::new(*work, threads)),
        Dtype::F16w => Box::new(gemm::Products::<f32, f16>::mixed(*work, threads)),
        Dtype::Bf16w => Box::new(gemm::Products::<f32, bf16>::mixed(*work, threads)),
    })
}

pub(crate) fn attention(work: &Attention, threads: usize) -> Option<Box<dyn Contest>> {
    match work.dtype {
        Dtype::F32 => Some(Box::new(attention::Heads::<f32>::new(*work, threads))),
        Dtype::F16 => Some(Box::new(attention::Heads::<f16>::new(*work, threads))),
        Dtype::Bf16 => Some(Box::new(attention::Heads::<bf16>::new(*work, threads))),
        Dtype::F16w | Dtype::Bf16w => None,
    }
}

pub(crate) fn rows(work: &Rows) -> Option<Box<dyn Contest>> {
    match work.dtype {
        Dtype::F32 => Some(Box::new(rows::RowsOf::<f32>::new(*work))),
        Dtype::F16 => Some(Box::new(rows::RowsOf::<f16>::new(*work))),
        Dtype::Bf16 => Some(Box::new(rows::RowsOf::<bf16>::new(*work))),
        Dtype::F16w | Dtype::Bf16w => None,
    }
}

pub(crate) fn model(work: &Model) -> Result<Option<Box<dyn Contest>>, gristmill_model::Error> {
    Ok(model::Sentences::new(work.clone())?.map(|contest| Box::new(contest) as _))
}

/// Whether our kernels run at a level whose multiply-add rounds once, and so which naive version they equal.
fn fused() -> bool {
    Simd::choose(None).is_ok_and(|simd| simd.level().fused())
}

/// Row numbers, spread from the first to the last, so many that `budget` suffices at `cost` each; at least two.
fn sample(rows: usize, cost: usize) -> impl Iterator<Item = usize> {
    let count = (NAIVE_BUDGET / cost.max(1)).max(2).min(rows);
    (0..count).map(move |i| i * (rows - 1) / (count - 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_reach_both_ends() {
        assert_eq!(sample(5, 1).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(sample(9, NAIVE_BUDGET / 3).collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!(sample(9, NAIVE_BUDGET * 10).collect::<Vec<_>>(), [0, 8]);
        assert_eq!(sample(1, NAIVE_BUDGET * 10).collect::<Vec<_>>(), [0]);
        assert_eq!(sample(0, 1).count(), 0);
    }
}
