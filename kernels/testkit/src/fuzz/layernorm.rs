//! Layer normalisation.

use super::{Bytes, against, assert_same, naive, threads};
use crate::Matrix;
use gristmill_core::Error;
use gristmill_layernorm::{
    self as layernorm, LayerNormOptions, add_layer_norm, add_layer_norm_in_place, layer_norm, layer_norm_in_place,
};

/// Up to 5 rows of 600 values (some forms of the call need many jobs to be parallel: now and then 600 rows of 70),
/// with and without a residual, in place and not.
pub fn layernorm(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let many = bytes.one_in(16);
    let (rows, n) = if many { (bytes.below(601), bytes.below(71)) } else { (bytes.below(6), bytes.size(600)) };
    let x: Matrix = bytes.output([rows, n]);
    let residual: Matrix = bytes.input([bytes.slip(rows), bytes.slip(n)]);
    let y: Matrix = bytes.output([bytes.slip(rows), bytes.slip(n)]);
    let sum: Matrix = bytes.output([bytes.slip(rows), bytes.slip(n)]);
    let [gamma, beta] = [0; 2].map(|_| bytes.flag().then(|| bytes.vector(bytes.slip(n))));
    let eps = if bytes.flag() { bytes.f32() } else { 1e-5 };
    let threads = threads(bytes);
    let options = LayerNormOptions { eps, gamma: gamma.as_deref(), beta: beta.as_deref(), threads, level: None };
    let call = Call { x, residual, y, sum };
    plain(&call, &options);
    added(&call, &options);
}

/// The matrices of a call, as they are before it.
struct Call {
    x: Matrix,
    residual: Matrix,
    y: Matrix,
    sum: Matrix,
}

fn plain(call: &Call, options: &LayerNormOptions) {
    let Call { x, y: before, .. } = call;
    let want_in = |before: &Matrix, level: gristmill_simd::Level| {
        let mut y = before.clone();
        let result = naive!(level, layernorm::naive::layer_norm(x.mat(), y.mat_mut(), options));
        (result, y)
    };
    against(
        |level| [want_in(before, level), want_in(x, level)],
        |level, [apart, in_place]| {
            let options = LayerNormOptions { level: Some(level), ..*options };
            let mut y = before.clone();
            let result = layer_norm(x.mat(), y.mat_mut(), &options);
            assert_same(&(result, y), apart, before, format!("layer_norm {level} {x:?} {options:?}"));
            let mut y = x.clone();
            let result = layer_norm_in_place(y.mat_mut(), &options);
            assert_same(&(result, y), in_place, x, format!("layer_norm_in_place {level} {x:?} {options:?}"));
        },
    );
}

/// Results and outputs of a call that may have two.
type Pair = (Result<(), Error>, Matrix, Matrix);

fn assert_pair(got: Pair, want: &Pair, [y, sum]: [&Matrix; 2], context: String) {
    assert_same(&(got.0.clone(), got.1), &(want.0.clone(), want.1.clone()), y, format!("{context}, y"));
    assert_same(&(got.0, got.2), &(want.0.clone(), want.2.clone()), sum, format!("{context}, sum"));
}

fn added(call: &Call, options: &LayerNormOptions) {
    let Call { x, residual, y, sum } = call;
    let want_in = |y: &Matrix, sum: &Matrix, level: gristmill_simd::Level| -> Pair {
        let (mut y, mut sum) = (y.clone(), sum.clone());
        let (y_view, sum_view) = (y.mat_mut(), Some(sum.mat_mut()));
        let result =
            naive!(level, layernorm::naive::add_layer_norm(x.mat(), residual.mat(), y_view, sum_view, options));
        (result, y, sum)
    };
    against(
        |level| [want_in(y, sum, level), want_in(x, x, level), want_in(y, x, level)],
        |level, [apart, post, pre]| {
            let options = LayerNormOptions { level: Some(level), ..*options };
            let context = |form| format!("{form} {level} {x:?} {residual:?} {options:?}");

            let (mut got_y, mut got_sum) = (y.clone(), sum.clone());
            let (y_view, sum_view) = (got_y.mat_mut(), Some(got_sum.mat_mut()));
            let result = add_layer_norm(x.mat(), residual.mat(), y_view, sum_view, &options);
            assert_pair((result, got_y, got_sum), apart, [y, sum], context("add_layer_norm"));

            let mut got_x = x.clone();
            let result = add_layer_norm_in_place(got_x.mat_mut(), residual.mat(), None, &options);
            let want = (post.0.clone(), post.1.clone());
            assert_same(&(result, got_x), &want, x, context("add_layer_norm_in_place without y"));

            let (mut got_x, mut got_y) = (x.clone(), y.clone());
            let y_view = Some(got_y.mat_mut());
            let result = add_layer_norm_in_place(got_x.mat_mut(), residual.mat(), y_view, &options);
            assert_pair((result, got_y, got_x), pre, [y, x], context("add_layer_norm_in_place with y"));
        },
    );
}
