//! A product with all its operands, and the comparison of every way to compute it with `naive`.

use gristmill_core::{Activation, MatRef, Threads, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm, naive};
use gristmill_simd::{Element, Level};
use gristmill_testkit::{Strided, naive, sweep};
use std::collections::BTreeMap;

/// The operands and options of one product; the bias has the type of C.
#[derive(Clone, Debug)]
pub(crate) struct Product<A = f32, B = f32, C = f32>
where
    A: Element,
    B: Element,
    C: Element,
{
    pub(crate) a: Strided<A, 2>,
    pub(crate) b: Strided<B, 2>,
    pub(crate) c: Strided<C, 2>,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) bias: Option<Vec<C>>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<Strided<C, 2>>,
}

impl<A: Element, B: Element, C: Element> Product<A, B, C> {
    /// `A B` without an epilogue.
    pub(crate) fn plain(a: Strided<A, 2>, b: Strided<B, 2>, c: Strided<C, 2>) -> Self {
        Self { a, b, c, alpha: 1.0, beta: 0.0, bias: None, activation: Activation::Identity, residual: None }
    }

    pub(crate) fn options(&self) -> GemmOptions<'_, C, C> {
        GemmOptions {
            alpha: self.alpha,
            beta: self.beta,
            bias: self.bias.as_deref(),
            activation: self.activation,
            residual: self.residual.as_ref().map(|r| r.mat()),
            ..GemmOptions::new()
        }
    }

    /// What `naive` makes of C.
    pub(crate) fn naive(&self, level: Level) -> Strided<C, 2> {
        let mut c = self.c.clone();
        naive!(level, naive::gemm(self.a.mat(), self.b.mat(), c.mat_mut(), &self.options())).expect("sizes agree");
        c
    }

    /// What the kernel makes of C.
    pub(crate) fn tuned<'b>(&self, b: impl Into<Rhs<'b, B>>, level: Level, threads: Threads<'_>) -> Strided<C, 2> {
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
        let mut far = packed.clone();
        far.set_working_set(usize::MAX);
        let mut expected = BTreeMap::new();
        sweep::levels_and_threads(|level, threads| {
            let want = expected.entry(level.fused()).or_insert_with(|| self.naive(level));
            let (plain, packed) = (Rhs::Plain(self.b.mat()), Rhs::Packed(&packed));
            for (rhs, name) in [(plain, "plain"), (packed, "packed"), (Rhs::Packed(&far), "packed, in memory")] {
                let got = self.tuned(rhs, level, threads);
                let [a, b, c] = [A::NAME, B::NAME, C::NAME];
                let context = format!("{a} {b} {c}, {level}, {} threads, {name}", threads.count());
                gristmill_testkit::assert_mat_bits_eq(got.mat(), want.mat(), &context);
                got.assert_gaps(&context);
            }
        });
    }
}

/// Calls a generic function, `f::<A, B, C>(arguments)`, for every mix of storage types.
macro_rules! every_mix {
    ($f:ident($($argument:expr),*)) => {
        $crate::common::every_mix!(@a $f [$($argument),*] f32 f16 bf16)
    };
    (@a $f:ident $arguments:tt $($a:ident)+) => { $($crate::common::every_mix!(@b $f $arguments $a f32 f16 bf16);)+ };
    (@b $f:ident $arguments:tt $a:ident $($b:ident)+) => {
        $($crate::common::every_mix!(@c $f $arguments $a $b f32 f16 bf16);)+
    };
    (@c $f:ident $arguments:tt $a:ident $b:ident $($c:ident)+) => {
        $($crate::common::every_mix!(@d $f $arguments $a $b $c);)+
    };
    (@d $f:ident [$($argument:expr),*] $a:ident $b:ident $c:ident) => { $f::<$a, $b, $c>($($argument),*) };
}
pub(crate) use every_mix;

/// A row-major view of a slice.
pub(crate) fn mat<T>(data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::new(data, rows, cols).expect("the slice holds the matrix")
}
