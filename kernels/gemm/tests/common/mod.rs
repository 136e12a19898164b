//! A product with all its operands, and the comparison of every way to compute it with `naive`.

#![allow(dead_code, reason = "no test file uses all of it")]

use gristmill_core::{Activation, MatRef, Threads, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm, naive};
use gristmill_simd::Level;
use gristmill_testkit::{Matrix, naive, sweep};
use std::collections::BTreeMap;

/// The operands and options of one product.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
    pub(crate) c: Matrix,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<Matrix>,
}

impl Product {
    /// `A B` without an epilogue.
    pub(crate) fn plain(a: Matrix, b: Matrix, c: Matrix) -> Self {
        Self { a, b, c, alpha: 1.0, beta: 0.0, bias: None, activation: Activation::Identity, residual: None }
    }

    pub(crate) fn options(&self) -> GemmOptions<'_> {
        GemmOptions {
            alpha: self.alpha,
            beta: self.beta,
            bias: self.bias.as_deref(),
            activation: self.activation,
            residual: self.residual.as_ref().map(|r| r.mat()),
            ..Default::default()
        }
    }

    /// What `naive` makes of C.
    pub(crate) fn naive(&self, level: Level) -> Matrix {
        let mut c = self.c.clone();
        naive!(level, naive::gemm(self.a.mat(), self.b.mat(), c.mat_mut(), &self.options())).expect("sizes agree");
        c
    }

    /// What the kernel makes of C.
    pub(crate) fn tuned<'b>(&self, b: impl Into<Rhs<'b>>, level: Level, threads: Threads<'_>) -> Matrix {
        let mut c = self.c.clone();
        let options = GemmOptions { level: Some(level), threads, ..self.options() };
        gemm(self.a.mat(), b, c.mat_mut(), &options, &mut Workspace::new()).expect("sizes agree");
        c
    }

    /// Asserts that every level, with one thread and three, plain and packed, gives the bits of `naive` and writes
    /// nothing else.
    #[track_caller]
    pub(crate) fn check(&self) {
        let packed = PackedRhs::from_in_out(self.b.mat()).expect("packing succeeds");
        let mut expected = BTreeMap::new();
        sweep::levels_and_threads(|level, threads| {
            let want = expected.entry(level.fused()).or_insert_with(|| self.naive(level));
            for (rhs, name) in [(Rhs::Plain(self.b.mat()), "plain"), (Rhs::Packed(&packed), "packed")] {
                // Inside the pool, where even small products are shared.
                let got = threads.enter(|| self.tuned(rhs, level, threads));
                let context = format!("{level}, {} threads, {name}", threads.count());
                gristmill_testkit::assert_mat_bits_eq(got.mat(), want.mat(), &context);
                got.assert_gaps(&context);
            }
        });
    }
}

/// A row-major view of a slice.
pub(crate) fn mat(data: &[f32], rows: usize, cols: usize) -> MatRef<'_, f32> {
    MatRef::new(data, rows, cols).expect("the slice holds the matrix")
}
