//! Matrix products: ours with a packed or plain right-hand side, against the linear algebra crates.

use super::{fused, sample};
use crate::{
    buffer::{Buffer, Output, Stored},
    cases,
    contest::{Contender, Contest, Difference},
    rivals::{Multiplied, Product},
};
use gristmill_core::{MatMut, MatRef, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm, naive};

/// Products of a matrix of `T` by a weight of `W`, written as `T`.
pub(super) struct Products<T, W> {
    case: cases::Gemm,
    threads: usize,
    a: Buffer<T>,
    b: Buffer<W>,
    rivals: fn(&Self) -> Vec<Contender<'_>>,
}

impl<T: Multiplied> Products<T, T> {
    /// All of one type.
    pub(super) fn new(case: cases::Gemm, threads: usize) -> Self {
        Self::against(Self::multiplying, case, threads)
    }

    fn multiplying(&self) -> Vec<Contender<'_>> {
        T::rivals(Product { case: &self.case, threads: self.threads, a: &self.a, b: &self.b })
    }
}

impl<T: Stored, W: Stored> Products<T, W> {
    /// Of two types, which no rival multiplies.
    pub(super) fn mixed(case: cases::Gemm, threads: usize) -> Self {
        Self::against(|_| Vec::new(), case, threads)
    }

    fn against(rivals: fn(&Self) -> Vec<Contender<'_>>, case: cases::Gemm, threads: usize) -> Self {
        let (a, b) = (Buffer::uniform(case.m * case.k, 1), Buffer::uniform(case.k * case.n, 2));
        Products { case, threads, a, b, rivals }
    }

    fn left(&self) -> MatRef<'_, T> {
        MatRef::new(&self.a, self.case.m, self.case.k).expect("the buffer was made for the case")
    }

    /// The right-hand side as it is stored.
    fn stored(&self) -> MatRef<'_, W> {
        let (n, k) = (self.case.n, self.case.k);
        let (rows, cols) = if self.case.layout.transposed() { (n, k) } else { (k, n) };
        MatRef::new(&self.b, rows, cols).expect("the buffer was made for the case")
    }

    /// The right-hand side as `[k, n]`.
    fn right(&self) -> MatRef<'_, W> {
        if self.case.layout.transposed() { self.stored().transposed() } else { self.stored() }
    }

    fn pack(&self) -> PackedRhs<W> {
        let packed = match self.case.layout.transposed() {
            true => PackedRhs::from_out_in(self.stored()),
            false => PackedRhs::from_in_out(self.stored()),
        };
        packed.expect("the sizes of a case do not overflow")
    }
}

impl<T: Stored, W: Stored> Contest for Products<T, W> {
    fn output(&self) -> Output {
        Output::of::<T>(self.case.m * self.case.n)
    }

    fn ours(&self) -> Contender<'_> {
        let (m, n) = (self.case.m, self.case.n);
        let packed = self.case.layout.packed().then(|| self.pack());
        let (mut workspace, options) = (Workspace::new(), GemmOptions::<T>::default());
        Contender::of::<T>("ours", move |output| {
            let b = packed.as_ref().map_or(Rhs::Plain(self.right()), Rhs::Packed);
            let c = MatMut::new(output, m, n).expect("the output was made for the case");
            gemm(self.left(), b, c, &options, &mut workspace).expect("the operands fit together");
        })
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        (self.rivals)(self)
    }

    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let (n, k) = (self.case.n, self.case.k);
        let mut expected = vec![T::from_f32(f32::NAN); n];
        for row in sample(self.case.m, n * k) {
            let a = self.left().submatrix(row..row + 1, 0..k).expect("the row is one of A's");
            let c = MatMut::new(&mut expected, 1, n).expect("one row of C");
            let options = GemmOptions::<T>::default();
            match fused() {
                true => naive::gemm::<true>(a, self.right(), c, &options),
                false => naive::gemm::<false>(a, self.right(), c, &options),
            }
            .expect("the operands fit together");
            let expected: Vec<f32> = expected.iter().map(|x| x.to_f32()).collect();
            Difference::in_bits(&output[row * n..(row + 1) * n], &expected, row * n)?;
        }
        Ok(())
    }

    /// Sums of k products of values below 1 in different orders: each rounding is at most half an ULP of a partial
    /// sum, these are about the root of k, and the roundings do not all point the same way. Those who write 16 bits
    /// round the sum once more, and some of them partial sums too.
    fn tolerance(&self) -> f32 {
        let k = self.case.k.max(4) as f32;
        let last = match T::NAME {
            "f16" => 2.0_f32.powi(-10),
            "bf16" => 2.0_f32.powi(-7),
            _ => 0.0,
        };
        k * 2.0_f32.powi(-22) + k.sqrt() * 4.0 * last
    }
}
