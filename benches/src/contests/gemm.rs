//! Matrix products: ours with a packed or plain right-hand side, against the linear algebra crates.

use super::{fused, sample};
use crate::{
    buffer::{Buffer, Output},
    cases,
    contest::{Contender, Contest, Difference},
    rivals::{Multiplied, Product},
};
use gristmill_core::{MatMut, MatRef, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm, naive};

pub(super) struct Products {
    case: cases::Gemm,
    threads: usize,
    a: Buffer,
    b: Buffer,
}

impl Products {
    pub(super) fn new(case: cases::Gemm, threads: usize) -> Self {
        let (a, b) = (Buffer::uniform(case.m * case.k, 1), Buffer::uniform(case.k * case.n, 2));
        Products { case, threads, a, b }
    }

    fn left(&self) -> MatRef<'_, f32> {
        MatRef::new(&self.a, self.case.m, self.case.k).expect("the buffer was made for the case")
    }

    /// The right-hand side as it is stored.
    fn stored(&self) -> MatRef<'_, f32> {
        let (n, k) = (self.case.n, self.case.k);
        let (rows, cols) = if self.case.layout.transposed() { (n, k) } else { (k, n) };
        MatRef::new(&self.b, rows, cols).expect("the buffer was made for the case")
    }

    /// The right-hand side as `[k, n]`.
    fn right(&self) -> MatRef<'_, f32> {
        if self.case.layout.transposed() { self.stored().transposed() } else { self.stored() }
    }

    fn pack(&self) -> PackedRhs {
        let packed = match self.case.layout.transposed() {
            true => PackedRhs::from_out_in(self.stored()),
            false => PackedRhs::from_in_out(self.stored()),
        };
        packed.expect("the sizes of a case do not overflow")
    }
}

impl Contest for Products {
    fn output(&self) -> Output {
        Output::of::<f32>(self.case.m * self.case.n)
    }

    fn ours(&self) -> Contender<'_> {
        let (m, n) = (self.case.m, self.case.n);
        let packed = self.case.layout.packed().then(|| self.pack());
        let (mut workspace, options) = (Workspace::new(), GemmOptions::default());
        Contender::new("ours", move |output| {
            let b = packed.as_ref().map_or(Rhs::Plain(self.right()), Rhs::Packed);
            let c = MatMut::new(output, m, n).expect("the output was made for the case");
            gemm(self.left(), b, c, &options, &mut workspace).expect("the operands fit together");
        })
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        f32::rivals(Product { case: &self.case, threads: self.threads, a: &self.a, b: &self.b })
    }

    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let (n, k) = (self.case.n, self.case.k);
        let mut expected = vec![f32::NAN; n];
        for row in sample(self.case.m, n * k) {
            let a = self.left().submatrix(row..row + 1, 0..k).expect("the row is one of A's");
            let c = MatMut::new(&mut expected, 1, n).expect("one row of C");
            let naive = if fused() { naive::gemm::<true> } else { naive::gemm::<false> };
            naive(a, self.right(), c, &GemmOptions::<f32>::default()).expect("the operands fit together");
            Difference::in_bits(&output[row * n..(row + 1) * n], &expected, row * n)?;
        }
        Ok(())
    }

    /// Sums of k products of values below 1 in different orders: each rounding is at most half an ULP of a partial
    /// sum, these are about the root of k, and the roundings do not all point the same way.
    fn tolerance(&self) -> f32 {
        self.case.k.max(4) as f32 * 2.0_f32.powi(-22)
    }
}
