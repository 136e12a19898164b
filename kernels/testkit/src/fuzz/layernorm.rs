//! Layer and RMS normalisation.

use super::{Bytes, against, assert_same, naive, threads};
use crate::{Matrix, Strided};
use gristmill_core::{Error, Threads};
use gristmill_layernorm::{
    self as layernorm, LayerNormOptions, NormOutput, add_layer_norm, add_layer_norm_in_place, add_rms_norm,
    add_rms_norm_in_place, layer_norm, layer_norm_in_place, rms_norm, rms_norm_in_place,
};
use gristmill_simd::{Element, Level, bf16, f16};

/// Up to 5 rows of 600 values (some forms of the call need many jobs to be parallel: now and then 600 rows of 70),
/// with and without a residual, in place and not, in f32 or in a mix of 16-bit types.
pub fn layernorm(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let many = bytes.one_in(16);
    let (rows, n) = if many { (bytes.below(601), bytes.below(71)) } else { (bytes.below(6), bytes.size(600)) };
    let matrices = [
        bytes.output([rows, n]),
        bytes.input([bytes.slip(rows), bytes.slip(n)]),
        bytes.output([bytes.slip(rows), bytes.slip(n)]),
        bytes.output([bytes.slip(rows), bytes.slip(n)]),
    ];
    let parameters = [0; 2].map(|_| bytes.flag().then(|| bytes.vector(bytes.slip(n))));
    let eps = if bytes.flag() { bytes.f32() } else { 1e-5 };
    let statistics = [0; 2].map(|_| bytes.flag().then(|| vec![7.0; bytes.slip(rows)]));
    let (threads, rms, half) = (threads(bytes), bytes.flag(), bytes.flag());
    let rest = Rest { rms, eps, threads, statistics };
    if half {
        Call::<f16, bf16, f16, bf16>::new(&matrices, &parameters, rest).check();
    } else {
        Call::<f32, f32, f32, f32>::new(&matrices, &parameters, rest).check();
    }
}

/// What has no storage type.
struct Rest {
    rms: bool,
    eps: f32,
    threads: Threads<'static>,
    /// The places for mean and rstd.
    statistics: [Option<Vec<f32>>; 2],
}

/// The arguments of a call, as they are before it.
struct Call<X, R, Y, P> {
    x: Strided<X, 2>,
    residual: Strided<R, 2>,
    y: Strided<Y, 2>,
    sum: Strided<X, 2>,
    gamma: Option<Vec<P>>,
    beta: Option<Vec<P>>,
    rest: Rest,
}

/// Result and outputs: `y`, the sum, the statistics.
type Outcome<X, Y> = (Result<(), Error>, Strided<Y, 2>, Strided<X, 2>, [Option<Vec<f32>>; 2]);

impl<X: Element, R: Element, Y: Element, P: Element> Call<X, R, Y, P> {
    fn new([x, residual, y, sum]: &[Matrix; 4], [gamma, beta]: &[Option<Vec<f32>>; 2], rest: Rest) -> Self {
        let vector = |v: &Option<Vec<f32>>| v.as_ref().map(|v| v.iter().map(|&x| P::from_f32(x)).collect());
        let (gamma, beta) = (vector(gamma), vector(beta));
        Self { x: x.to(), residual: residual.to(), y: y.to(), sum: sum.to(), gamma, beta, rest }
    }

    fn options(&self, level: Option<Level>) -> LayerNormOptions<'_, P> {
        let (gamma, beta) = (self.gamma.as_deref(), self.beta.as_deref());
        LayerNormOptions { eps: self.rest.eps, gamma, beta, threads: self.rest.threads, level }
    }

    /// Calls `f` on copies of what the call has before it.
    fn outcome<A: Element, B: Element>(
        &self,
        (y, sum): (&Strided<B, 2>, &Strided<A, 2>),
        f: impl FnOnce(NormOutput<'_, B>, &mut Strided<A, 2>) -> Result<(), Error>,
    ) -> Outcome<A, B> {
        let (mut y, mut sum, mut statistics) = (y.clone(), sum.clone(), self.rest.statistics.clone());
        let [mean, rstd] = &mut statistics;
        let out = NormOutput { y: y.mat_mut(), mean: mean.as_deref_mut(), rstd: rstd.as_deref_mut() };
        let result = f(out, &mut sum);
        (result, y, sum, statistics)
    }

    fn same<A: Element, B: Element>(
        &self,
        got: Outcome<A, B>,
        want: &Outcome<A, B>,
        (y, sum): (&Strided<B, 2>, &Strided<A, 2>),
        form: &str,
        level: Level,
    ) {
        let context = format!("{form} {level} {:?} {:?} {:?}", self.x, self.residual, self.options(None));
        assert_same(&(got.0.clone(), got.1), &(want.0.clone(), want.1.clone()), y, format!("{context}, y"));
        assert_same(&(got.0, got.2), &(want.0.clone(), want.2.clone()), sum, format!("{context}, sum"));
        let bits = |outcome: &[Option<Vec<f32>>; 2]| {
            let quiet = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            outcome.each_ref().map(|v| v.as_ref().map(|v| v.iter().map(quiet).collect::<Vec<_>>()))
        };
        assert_eq!(bits(&got.3), bits(&want.3), "{context}, statistics");
    }

    fn check(&self) {
        self.plain((&self.y, &self.sum));
        self.added((&self.y, &self.sum));
        self.in_place();
    }

    fn plain(&self, outputs: (&Strided<Y, 2>, &Strided<X, 2>)) {
        let Self { x, rest, .. } = self;
        against(
            |level| {
                let options = self.options(None);
                self.outcome(outputs, |out, _| match rest.rms {
                    false => naive!(level, layernorm::naive::layer_norm(x.mat(), out, &options)),
                    true => naive!(level, layernorm::naive::rms_norm(x.mat(), out, &options)),
                })
            },
            |level, want| {
                let options = self.options(Some(level));
                let got = self.outcome(outputs, |out, _| match rest.rms {
                    false => layer_norm(x.mat(), out, &options),
                    true => rms_norm(x.mat(), out, &options),
                });
                self.same(got, want, outputs, "plain", level);
            },
        );
    }

    fn added(&self, outputs: (&Strided<Y, 2>, &Strided<X, 2>)) {
        let (x, residual, rest) = (self.x.mat(), self.residual.mat(), &self.rest);
        against(
            |level| {
                let options = self.options(None);
                self.outcome(outputs, |out, sum| {
                    let sum = Some(sum.mat_mut());
                    match rest.rms {
                        false => naive!(level, layernorm::naive::add_layer_norm(x, residual, out, sum, &options)),
                        true => naive!(level, layernorm::naive::add_rms_norm(x, residual, out, sum, &options)),
                    }
                })
            },
            |level, want| {
                let options = self.options(Some(level));
                let got = self.outcome(outputs, |out, sum| match rest.rms {
                    false => add_layer_norm(x, residual, out, Some(sum.mat_mut()), &options),
                    true => add_rms_norm(x, residual, out, Some(sum.mat_mut()), &options),
                });
                self.same(got, want, outputs, "added", level);
            },
        );
    }

    /// `x` as the output: alone, of a post-norm and of a pre-norm.
    fn in_place(&self) {
        let (x, residual, rest) = (&self.x, self.residual.mat(), &self.rest);
        let nothing = &Strided::<X, 2>::filled([0, 0], &Default::default(), crate::Fill::Normal, 1);
        against(
            |level| {
                let options = self.options(None);
                let alone = self.outcome((x, nothing), |out, _| match rest.rms {
                    false => naive!(level, layernorm::naive::layer_norm(x.mat(), out, &options)),
                    true => naive!(level, layernorm::naive::rms_norm(x.mat(), out, &options)),
                });
                let post = self.outcome((x, nothing), |out, _| {
                    let sum = None::<gristmill_core::MatMut<'_, f32>>;
                    match rest.rms {
                        false => naive!(level, layernorm::naive::add_layer_norm(x.mat(), residual, out, sum, &options)),
                        true => naive!(level, layernorm::naive::add_rms_norm(x.mat(), residual, out, sum, &options)),
                    }
                });
                let pre = self.outcome((&self.sum, x), |out, sum| {
                    let sum = Some(sum.mat_mut());
                    match rest.rms {
                        false => naive!(level, layernorm::naive::add_layer_norm(x.mat(), residual, out, sum, &options)),
                        true => naive!(level, layernorm::naive::add_rms_norm(x.mat(), residual, out, sum, &options)),
                    }
                });
                [alone, post, pre]
            },
            |level, [alone, post, pre]| {
                let options = self.options(Some(level));
                let got = self.outcome((x, nothing), |out, _| match rest.rms {
                    false => layer_norm_in_place(out, &options),
                    true => rms_norm_in_place(out, &options),
                });
                self.same(got, alone, (x, nothing), "in place", level);
                let got = self.outcome((x, nothing), |out, _| match rest.rms {
                    false => add_layer_norm_in_place(out, residual, None, &options),
                    true => add_rms_norm_in_place(out, residual, None, &options),
                });
                self.same(got, post, (x, nothing), "post-norm in place", level);
                let got = self.outcome((&self.sum, x), |out, stream| {
                    let NormOutput { y, mean, rstd } = out;
                    let stream = NormOutput { y: stream.mat_mut(), mean, rstd };
                    match rest.rms {
                        false => add_layer_norm_in_place(stream, residual, Some(y), &options),
                        true => add_rms_norm_in_place(stream, residual, Some(y), &options),
                    }
                });
                self.same(got, pre, (&self.sum, x), "pre-norm in place", level);
            },
        );
    }
}
