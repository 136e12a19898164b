//! One call in all its forms, against `naive`.

use gristmill_core::{Error, MatMut, MatRef, Threads};
use gristmill_layernorm::{
    LayerNormOptions, NormOutput, add_layer_norm, add_layer_norm_in_place, add_rms_norm, add_rms_norm_in_place,
    layer_norm, layer_norm_in_place, naive, rms_norm, rms_norm_in_place,
};
use gristmill_simd::{Element, Level};
use gristmill_testkit::{Matrix, Strided, assert_bits_eq, naive};

/// The two norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    Layer,
    Rms,
}

pub(crate) const NORMS: [Norm; 2] = [Norm::Layer, Norm::Rms];

/// The operands of a call, each in its storage type.
pub(crate) struct Call<X, R, Y, P> {
    x: Strided<X, 2>,
    residual: Strided<R, 2>,
    y: Strided<Y, 2>,
    sum: Strided<X, 2>,
    eps: f32,
    gamma: Option<Vec<P>>,
    beta: Option<Vec<P>>,
}

/// What a call leaves behind: `y`, the sum, mean and rstd.
struct Results<X, Y> {
    y: Strided<Y, 2>,
    sum: Strided<X, 2>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

impl<X: Element, Y: Element> Results<X, Y> {
    fn new(y: &Strided<Y, 2>, sum: &Strided<X, 2>) -> Self {
        let statistics = || vec![7.0; y.sizes[0]];
        Self { y: y.clone(), sum: sum.clone(), mean: statistics(), rstd: statistics() }
    }

    /// Equal in bits, and nothing written between the elements.
    #[track_caller]
    fn check(&self, want: &Results<f32, f32>, sum_too: bool, context: &str) {
        assert_bits_eq(&self.y.values(), &want.y.to::<Y>().values(), format!("{context}, y"));
        self.y.assert_gaps(format!("{context}, y"));
        assert_bits_eq(&self.mean, &want.mean, format!("{context}, mean"));
        assert_bits_eq(&self.rstd, &want.rstd, format!("{context}, rstd"));
        if sum_too {
            assert_bits_eq(&self.sum.values(), &want.sum.to::<X>().values(), format!("{context}, sum"));
            self.sum.assert_gaps(format!("{context}, sum"));
        }
    }
}

/// An output with both statistics.
fn out<'a, T>(y: &'a mut Strided<T, 2>, mean: &'a mut [f32], rstd: &'a mut [f32]) -> NormOutput<'a, T> {
    NormOutput { y: y.mat_mut(), mean: Some(mean), rstd: Some(rstd) }
}

impl<X: Element, R: Element, Y: Element, P: Element> Call<X, R, Y, P> {
    /// Operands rounded from `[x, residual, y, sum]`, gamma and beta.
    pub(crate) fn new(
        [x, residual, y, sum]: &[Matrix; 4],
        eps: f32,
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
    ) -> Self {
        let vector = |values: Option<&[f32]>| Some(values?.iter().map(|&x| P::from_f32(x)).collect());
        let (x, residual, y, sum) = (x.to(), residual.to(), y.to(), sum.to());
        Self { x, residual, y, sum, eps, gamma: vector(gamma), beta: vector(beta) }
    }

    /// Every form of the call against `naive`, in bits. In place only where x can be an output.
    #[track_caller]
    pub(crate) fn check(&self, norm: Norm, level: Level, threads: Threads<'_>) {
        let (gamma, beta) = (self.gamma.as_deref(), self.beta.as_deref());
        let options = LayerNormOptions { eps: self.eps, gamma, beta, threads, level: Some(level) };
        let [plain, added] = self.wanted(norm, level, &options);
        let context = |form| format!("{norm:?} {form} {level} {:?} {:?} {options:?}", self.x, self.residual);
        let (x, residual) = (self.x.mat(), self.residual.mat());

        let mut got = Results::new(&self.y, &self.sum);
        let outs = out(&mut got.y, &mut got.mean, &mut got.rstd);
        match norm {
            Norm::Layer => layer_norm(x, outs, &options),
            Norm::Rms => rms_norm(x, outs, &options),
        }
        .unwrap();
        got.check(&plain, false, &context("alone"));

        let mut got = Results::new(&self.y, &self.sum);
        let outs = out(&mut got.y, &mut got.mean, &mut got.rstd);
        let sum = Some(got.sum.mat_mut());
        match norm {
            Norm::Layer => add_layer_norm(x, residual, outs, sum, &options),
            Norm::Rms => add_rms_norm(x, residual, outs, sum, &options),
        }
        .unwrap();
        got.check(&added, true, &context("with residual and sum"));

        let mut y = self.y.clone();
        match norm {
            Norm::Layer => add_layer_norm(x, residual, y.mat_mut(), None, &options),
            Norm::Rms => add_rms_norm(x, residual, y.mat_mut(), None, &options),
        }
        .unwrap();
        assert_bits_eq(&y.values(), &added.y.to::<Y>().values(), context("with residual"));

        let Strided { offset, sizes, strides, .. } = self.x;
        if MatMut::strided(&mut self.x.data.clone(), offset, sizes, strides).is_err() {
            return;
        }
        // The sum is where x was; y has its type.
        let mut got = Results::new(&self.x, &self.x);
        let outs = out(&mut got.y, &mut got.mean, &mut got.rstd);
        match norm {
            Norm::Layer => layer_norm_in_place(outs, &options),
            Norm::Rms => rms_norm_in_place(outs, &options),
        }
        .unwrap();
        got.check(&plain, false, &context("in place"));

        let mut got = Results::new(&self.x, &self.x);
        let outs = out(&mut got.y, &mut got.mean, &mut got.rstd);
        match norm {
            Norm::Layer => add_layer_norm_in_place(outs, residual, None, &options),
            Norm::Rms => add_rms_norm_in_place(outs, residual, None, &options),
        }
        .unwrap();
        got.check(&added, false, &context("post-norm in place"));

        let mut got = Results::new(&self.sum, &self.x);
        let stream = out(&mut got.sum, &mut got.mean, &mut got.rstd);
        let y = Some(got.y.mat_mut());
        match norm {
            Norm::Layer => add_layer_norm_in_place(stream, residual, y, &options),
            Norm::Rms => add_rms_norm_in_place(stream, residual, y, &options),
        }
        .unwrap();
        got.check(&added, true, &context("pre-norm in place"));
    }

    /// The results of `naive` without and with the residual, before they are rounded: a rounding of f32 results is
    /// what every output type must have.
    fn wanted(&self, norm: Norm, level: Level, options: &LayerNormOptions<'_, P>) -> [Results<f32, f32>; 2] {
        let empty = Matrix::filled(self.x.sizes, &Default::default(), gristmill_testkit::Fill::Normal, 1);
        let (mut plain, mut added) = (Results::new(&empty, &empty), Results::new(&empty, &empty));
        let outs = out(&mut plain.y, &mut plain.mean, &mut plain.rstd);
        let result: Result<(), Error> = match norm {
            Norm::Layer => naive!(level, naive::layer_norm(self.x.mat(), outs, options)),
            Norm::Rms => naive!(level, naive::rms_norm(self.x.mat(), outs, options)),
        };
        result.unwrap();
        let outs = out(&mut added.y, &mut added.mean, &mut added.rstd);
        let sum = Some(added.sum.mat_mut());
        let residual: MatRef<'_, R> = self.residual.mat();
        match norm {
            Norm::Layer => naive!(level, naive::add_layer_norm(self.x.mat(), residual, outs, sum, options)),
            Norm::Rms => naive!(level, naive::add_rms_norm(self.x.mat(), residual, outs, sum, options)),
        }
        .unwrap();
        [plain, added]
    }
}
