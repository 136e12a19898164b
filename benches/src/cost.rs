//! What a case costs at least: arithmetic that its definition asks for, and bytes that must be moved once.
//!
//! A multiply-add counts as two operations. Bytes count every operand once, read or written, whatever a kernel really
//! moves; keys that are hidden by a causal mask or by padding cost nothing.

mod model;

use crate::cases::{Attention, Gemm, MaskKind, RowOp, Rows, Work};
use gristmill_limits::{Footprint, Traffic};

/// Arithmetic and traffic of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }
}

impl Work {
    /// The operations, one after another.
    pub fn operations(&self) -> Vec<Cost> {
        match self {
            Work::Gemm(work) => vec![work.cost()],
            Work::Attention(work) => vec![work.cost()],
            Work::Rows(work) => vec![work.cost()],
            Work::Model(work) => work.operations(),
        }
    }

    /// What a repeated call goes through again and again.
    pub fn footprint(&self) -> Footprint {
        let total = || self.operations().into_iter().sum::<Cost>().bytes;
        let (traffic, bytes) = match self {
            Work::Model(work) => (Traffic::Read, work.footprint()),
            Work::Gemm(_) | Work::Attention(_) => (Traffic::Read, total()),
            Work::Rows(work) if work.op.adds() => (Traffic::Add, total()),
            Work::Rows(_) => (Traffic::Copy, total()),
        };
        Footprint { traffic, bytes }
    }
}

impl Gemm {
    /// `2 m n k` operations; A, B and C once.
    pub fn cost(&self) -> Cost {
        let (activation, weight) = (self.dtype.activation_bytes(), self.dtype.weight_bytes());
        let bytes = activation * (self.m * self.k + self.m * self.n) + weight * self.k * self.n;
        Cost { flops: 2 * (self.m * self.n * self.k) as u64, bytes: bytes as u64 }
    }
}

impl Attention {
    /// Pairs of a query and a key that it sees, over all heads and batches.
    pub fn pairs(&self) -> usize {
        let seen_by_one_batch = |length: usize| match self.mask {
            MaskKind::Causal => {
                let last = |i: usize| (i + 1 + self.keys).saturating_sub(self.queries);
                (0..self.queries).map(|i| last(i).min(length)).sum::<usize>()
            }
            MaskKind::None | MaskKind::Keypad => self.queries * length,
        };
        self.heads * self.key_lengths().into_iter().map(seen_by_one_batch).sum::<usize>()
    }

    /// `4 D` operations for each visible pair; queries, true keys, true values and the output once.
    pub fn cost(&self) -> Cost {
        let keys: usize = self.key_lengths().iter().sum();
        let elements = 2 * self.heads * self.dim * (self.batch * self.queries + keys);
        Cost { flops: 4 * (self.dim * self.pairs()) as u64, bytes: (self.dtype.activation_bytes() * elements) as u64 }
    }
}

impl Rows {
    /// The operations of the defined arithmetic, a polynomial's included; every matrix and vector once.
    pub fn cost(&self) -> Cost {
        let elements = self.rows * self.cols;
        let (flops, matrices, vectors, biases) = match self.op {
            RowOp::LayerNorm => (10, 2, 2, 0),
            RowOp::AddLayerNorm => (11, 3, 2, 0),
            RowOp::RmsNorm => (4, 2, 1, 0),
            RowOp::AddRmsNorm => (5, 3, 1, 0),
            RowOp::Softmax => (26, 2, 0, 0),
            RowOp::LogSoftmax => (26, 2, 0, 0),
            RowOp::BiasRelu => (2, 2, 0, 1),
            RowOp::BiasGelu => (28, 2, 0, 1),
            RowOp::BiasGeluTanh => (30, 2, 0, 1),
            RowOp::BiasSilu => (26, 2, 0, 1),
        };
        // Biases are f32 whatever the matrix is.
        let (activation, weight) = (self.dtype.activation_bytes(), self.dtype.weight_bytes());
        let bytes = activation * matrices * elements + weight * vectors * self.cols + 4 * biases * self.cols;
        Cost { flops: (flops * elements) as u64, bytes: bytes as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Dtype, Layout};

    #[test]
    fn products_count_every_operand_once() {
        let case = Gemm { odd: false, dtype: Dtype::F32, layout: Layout::Nt, m: 2, n: 3, k: 5 };
        assert_eq!(case.cost(), Cost { flops: 60, bytes: 4 * (10 + 15 + 6) });
        let case = Gemm { dtype: Dtype::F16w, ..case };
        assert_eq!(case.cost(), Cost { flops: 60, bytes: 4 * (10 + 6) + 2 * 15 });
    }

    #[test]
    fn hidden_keys_cost_nothing() {
        let case =
            Attention { dtype: Dtype::F32, batch: 2, heads: 3, queries: 4, keys: 8, dim: 16, mask: MaskKind::None };
        assert_eq!(case.pairs(), 2 * 3 * 4 * 8);
        assert_eq!(case.cost().flops, 4 * 16 * (2 * 3 * 4 * 8));
        assert_eq!(Attention { mask: MaskKind::Causal, ..case }.pairs(), 2 * 3 * (5 + 6 + 7 + 8));
        assert_eq!(Attention { mask: MaskKind::Keypad, ..case }.pairs(), 3 * 4 * (6 + 8));
        // More queries than keys: the first ones see nothing.
        assert_eq!(Attention { queries: 8, keys: 4, mask: MaskKind::Causal, ..case }.pairs(), 2 * 3 * (1 + 2 + 3 + 4));
    }
}
