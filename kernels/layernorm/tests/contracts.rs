//! What the documentation promises beyond bits: errors, special values, memory, accuracy.

use gristmill_core::{Error, MatMut, MatRef, Threads, cache::Caches};
use gristmill_layernorm::{
    LayerNormOptions, NormOutput, add_layer_norm, add_layer_norm_in_place, add_rms_norm, add_rms_norm_in_place,
    layer_norm, layer_norm_in_place, naive, rms_norm, rms_norm_in_place,
};
use gristmill_simd::{Element, Level, LevelError, bf16, f16};
use gristmill_testkit::{Fill, Layout, Matrix, assert_bits_eq, fill, naive, pin, sweep};
use std::collections::BTreeMap;

fn matrix(rows: usize, cols: usize, seed: u64) -> Matrix {
    Matrix::filled([rows, cols], &Default::default(), Fill::Normal, seed)
}

/// Every entry refuses these options, and every output is untouched.
#[track_caller]
fn refused(options: &LayerNormOptions<'_>, error: &Error) {
    let x = matrix(3, 5, 1);
    let (mut y, mut sum, mut stream) = (matrix(3, 5, 2), matrix(3, 5, 3), matrix(3, 5, 4));
    let before = [y.clone(), sum.clone(), stream.clone()];
    assert_eq!(layer_norm(x.mat(), y.mat_mut(), options), Err(error.clone()));
    assert_eq!(layer_norm_in_place(stream.mat_mut(), options), Err(error.clone()));
    let sums = Some(sum.mat_mut());
    assert_eq!(add_layer_norm(x.mat(), x.mat(), y.mat_mut(), sums, options), Err(error.clone()));
    assert_eq!(add_layer_norm_in_place(stream.mat_mut(), x.mat(), None, options), Err(error.clone()));
    let y_too = Some(y.mat_mut());
    assert_eq!(add_layer_norm_in_place(stream.mat_mut(), x.mat(), y_too, options), Err(error.clone()));
    assert_eq!(rms_norm(x.mat(), y.mat_mut(), options), Err(error.clone()));
    assert_eq!(rms_norm_in_place(stream.mat_mut(), options), Err(error.clone()));
    let sums = Some(sum.mat_mut());
    assert_eq!(add_rms_norm(x.mat(), x.mat(), y.mat_mut(), sums, options), Err(error.clone()));
    assert_eq!(add_rms_norm_in_place(stream.mat_mut(), x.mat(), None, options), Err(error.clone()));
    for (now, before) in [y, sum, stream].iter().zip(&before) {
        now.assert_untouched(before, error);
    }
}

/// Every mistake, at every entry, and every output untouched.
#[test]
fn mistakes_are_typed_and_touch_nothing() {
    let (x, good) = (matrix(3, 5, 1), LayerNormOptions::default());
    let mismatch = |what, expected, found| Error::ShapeMismatch { what, expected, found };
    let options = |gamma, beta, eps| LayerNormOptions { gamma, beta, eps, ..good };
    let short = [1.0; 4];
    let mut cases = vec![
        (options(Some(&short[..]), None, 1e-5), mismatch("length of gamma", 5, 4)),
        (options(None, Some(&short[..3]), 1e-5), mismatch("length of beta", 5, 3)),
    ];
    for eps in [-1e-9, f32::INFINITY, -f32::MIN_POSITIVE] {
        let what = "eps must be finite and not negative";
        cases.push((options(None, None, eps), Error::InvalidOption { what, value: eps }));
    }
    if let Some(level) = Level::ALL.into_iter().find(|level| !level.is_available()) {
        cases.push((LayerNormOptions { level: Some(level), ..good }, LevelError::Unsupported(level).into()));
    }
    for (options, error) in cases {
        refused(&options, &error);
    }
    let nan = layer_norm_in_place(matrix(1, 1, 1).mat_mut(), &options(None, None, f32::NAN));
    assert!(matches!(nan, Err(Error::InvalidOption { value, .. }) if value.is_nan()));

    for (rows, cols, suffix) in [(2, 5, "rows"), (3, 6, "columns")] {
        let (mut other, mut y) = (matrix(rows, cols, 5), matrix(3, 5, 6));
        let before = (other.clone(), y.clone());
        let (expected, found) = if suffix == "rows" { (3, rows) } else { (5, cols) };
        let check = |result: Result<(), Error>, name: &str| match result {
            Err(Error::ShapeMismatch { what, expected: e, found: f }) => {
                assert_eq!((what, e, f), (format!("{suffix} of {name}").as_str(), expected, found));
            }
            other => panic!("{name}: {other:?}"),
        };
        check(layer_norm(x.mat(), other.mat_mut(), &good), "y");
        check(add_layer_norm(x.mat(), x.mat(), other.mat_mut(), None, &good), "y");
        check(add_layer_norm(x.mat(), x.mat(), y.mat_mut(), Some(other.mat_mut()), &good), "sum");
        check(add_layer_norm(x.mat(), other.mat(), y.mat_mut(), None, &good), "residual");
        check(add_layer_norm_in_place(y.mat_mut(), other.mat(), None, &good), "residual");
        check(add_layer_norm_in_place(y.mat_mut(), x.mat(), Some(other.mat_mut()), &good), "y");
        other.assert_untouched(&before.0, suffix);
        y.assert_untouched(&before.1, suffix);
    }

    let (mut y, mut right, mut wrong) = (matrix(3, 5, 6), [7.0; 3], [7.0; 4]);
    let before = y.clone();
    let out = NormOutput { y: y.mat_mut(), mean: Some(&mut wrong), rstd: Some(&mut right) };
    assert_eq!(layer_norm(x.mat(), out, &good), Err(mismatch("length of mean", 3, 4)));
    let out = NormOutput { y: y.mat_mut(), mean: Some(&mut right), rstd: Some(&mut wrong) };
    assert_eq!(rms_norm_in_place(out, &good), Err(mismatch("length of rstd", 3, 4)));
    y.assert_untouched(&before, "statistics");
    assert_eq!((right, wrong), ([7.0; 3], [7.0; 4]));
}

#[test]
fn a_pin_that_cannot_be_used_is_an_error() {
    pin::misspelt("a_pin_that_cannot_be_used_is_an_error", || {
        refused(&LayerNormOptions::default(), &LevelError::Unknown(pin::MISSPELT.into()).into());
    });
}

#[test]
fn empty_matrices_are_legal() {
    for (rows, n) in [(0, 0), (0, 5), (4, 0), (usize::MAX, 0)] {
        let x = MatRef::<f32>::new(&[], rows, n).unwrap();
        let gamma = vec![1.0f32; n];
        let options = LayerNormOptions { gamma: Some(&gamma), ..Default::default() };
        let y = || MatMut::<f32>::new(&mut [], rows, n).unwrap();
        assert_eq!(layer_norm(x, y(), &options), Ok(()));
        assert_eq!(rms_norm(x, y(), &options), Ok(()));
        assert_eq!(add_layer_norm(x, x, y(), None, &options), Ok(()));
        assert_eq!(naive::layer_norm::<true>(x, y().into(), &options), Ok(()));
        assert_eq!(naive::add_rms_norm::<true>(x, x, y().into(), Some(y()), &options), Ok(()));
    }
}

/// A row without elements has no mean.
#[test]
fn statistics_of_empty_rows_are_nan() {
    let (x, options) = (MatRef::<f32>::new(&[], 2, 0).unwrap(), LayerNormOptions::default());
    let (mut mean, mut rstd) = ([1.0; 2], [1.0; 2]);
    let y = || MatMut::<f32>::new(&mut [], 2, 0).unwrap();
    layer_norm(x, NormOutput { y: y(), mean: Some(&mut mean), rstd: Some(&mut rstd) }, &options).unwrap();
    assert!(mean.iter().chain(&rstd).all(|x| x.is_nan()));
    mean = [1.0; 2];
    naive::rms_norm::<true>(x, NormOutput { y: y(), mean: Some(&mut mean), rstd: None }, &options).unwrap();
    assert!(mean.iter().all(|x| x.is_nan()));
}

/// Reads and writes stop at the edges of the slices.
#[cfg(unix)]
#[test]
fn nothing_outside_is_touched() {
    for n in (1..=130).chain([255, 257, 511, 513, 1025, 2049]) {
        nothing_outside::<f32>(n);
    }
    for n in (1..=70).chain([127, 129, 513, 2049]) {
        nothing_outside::<f16>(n);
        nothing_outside::<bf16>(n);
    }
}

#[cfg(unix)]
fn nothing_outside<T: Element>(n: usize) {
    use gristmill_testkit::guard::Guarded;
    // Enough narrow rows for a group that is transposed, and one more.
    let rows = if n <= 16 { 17 } else { 2 };
    let values: Vec<T> = fill::normal(n as u64, rows * n).into_iter().map(T::from_f32).collect();
    for guarded in [Guarded::flush_end, Guarded::flush_start] {
        let (x, residual) = (guarded(&values), guarded(&values));
        let (mut y, mut sum) = (guarded(&values), guarded(&values));
        let (gamma, beta) = (guarded(&values[..n]), guarded(&values[..n]));
        let mat = |data| MatRef::new(data, rows, n).unwrap();
        sweep::levels(|level| {
            let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
            let (level, threads) = (Some(level), Threads::Serial);
            let options = LayerNormOptions { eps: 1e-5, gamma, beta, level, threads };
            layer_norm(mat(&x), MatMut::new(&mut y, rows, n).unwrap(), &options).unwrap();
            rms_norm(mat(&x), MatMut::new(&mut y, rows, n).unwrap(), &options).unwrap();
            let sums = Some(MatMut::new(&mut sum, rows, n).unwrap());
            let y = MatMut::new(&mut y, rows, n).unwrap();
            add_layer_norm(mat(&x), mat(&residual), y, sums, &options).unwrap();
            let transposed = MatRef::new(&x, n, rows).unwrap().transposed();
            let y = MatMut::new(&mut sum, n, rows).unwrap().transposed();
            layer_norm(transposed, y, &options).unwrap();
        });
    }
}

/// Outputs that no cache keeps are written around the caches: rows that begin anywhere, and that end in parts.
#[test]
fn outputs_larger_than_the_caches() {
    let n = 4101;
    let rows = 2 + 8 * Caches::detected().l2 / size_of::<f32>() / n;
    let (x, residual) = (matrix(rows, n, 1), matrix(rows, n, 2));
    let layout = Layout { padding: [3, 0], ..Default::default() };
    let y: Matrix = Matrix::filled([rows, n], &layout, Fill::Normal, 3);
    let gamma: Vec<f32> = Fill::Normal.vec(4, n);
    let options = LayerNormOptions { gamma: Some(&gamma[..]), ..Default::default() };
    let mut want = BTreeMap::new();
    sweep::levels_and_threads(|level, threads| {
        let [plain, added] = want.entry(level.fused()).or_insert_with(|| {
            let [mut plain, mut added] = [y.clone(), y.clone()];
            let none = None::<MatMut<'_, f32>>;
            naive!(level, naive::layer_norm(x.mat(), plain.mat_mut().into(), &options)).unwrap();
            let y = added.mat_mut().into();
            naive!(level, naive::add_layer_norm(x.mat(), residual.mat(), y, none, &options)).unwrap();
            [plain, added]
        });
        let options = LayerNormOptions { level: Some(level), threads, ..options };
        let mut got = y.clone();
        layer_norm(x.mat(), got.mat_mut(), &options).unwrap();
        assert_bits_eq(&got.values(), &plain.values(), format!("{level}, {threads:?}"));
        got.assert_gaps(level);
        add_layer_norm(x.mat(), residual.mat(), got.mat_mut(), None, &options).unwrap();
        assert_bits_eq(&got.values(), &added.values(), format!("{level}, {threads:?}, with a residual"));
        got.assert_gaps(level);
    });
}

/// A NaN or an infinity makes its row NaN, and no other; RMS norms divide by the infinity.
#[test]
fn specials_fill_their_row() {
    let n = 131;
    for (at, special) in [(0, f32::NAN), (130, f32::NAN), (0, f32::INFINITY), (77, f32::NEG_INFINITY)] {
        let mut x = matrix(3, n, 9);
        x.data[n + at] = special;
        sweep::levels(|level| {
            let mut y = matrix(3, n, 10);
            let options = LayerNormOptions { level: Some(level), ..Default::default() };
            layer_norm(x.mat(), y.mat_mut(), &options).unwrap();
            for (i, row) in y.data.chunks(n).enumerate() {
                assert!(row.iter().all(|y| y.is_nan() == (i == 1)), "{level}: {special} at {at}, row {i}");
            }
            rms_norm(x.mat(), y.mat_mut(), &options).unwrap();
            for (i, j, y) in y.data.iter().enumerate().map(|(at, y)| (at / n, at % n, y)) {
                let nan = i == 1 && (special.is_nan() || j == at);
                assert_eq!(y.is_nan(), nan, "{level}: {special} at {at}, RMS, ({i}, {j})");
                assert!(nan || i != 1 || *y == 0.0, "{level}: {special} at {at}, RMS, ({i}, {j}): {y}");
            }
        });
    }
}

/// One over the standard deviation, and the normalised row, in f64.
fn reference(x: &[f32], eps: f32) -> (f64, Vec<f64>) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    // Once more about the first mean, so that the reference's own rounding does not count.
    let mean = mean + x.iter().map(|&x| f64::from(x) - mean).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let r = 1.0 / (variance + f64::from(eps)).sqrt();
    (r, x.iter().map(|&x| (f64::from(x) - mean) * r).collect())
}

/// The largest error, relative to max(1, |reference|), of the normalised row without gamma and beta.
fn error<const FUSED: bool>(x: &[f32], eps: f32) -> f64 {
    let n = x.len();
    let mut y = vec![0.0; n];
    let options = LayerNormOptions { eps, ..Default::default() };
    let out = MatMut::new(&mut y, 1, n).unwrap().into();
    naive::layer_norm::<FUSED>(MatRef::new(x, 1, n).unwrap(), out, &options).unwrap();
    let pairs = y.iter().zip(reference(x, eps).1);
    pairs.map(|(&y, want)| (f64::from(y) - want).abs() / want.abs().max(1.0)).fold(0.0, f64::max)
}

/// The specification itself, against f64, over means, spreads and lengths. The tuned kernels have its bits.
#[test]
fn the_grid_is_accurate() {
    let mut worst = [(0.0f64, String::new()), (0.0, String::new())];
    for n in 1..=1030usize {
        let normal = fill::normal(n as u64, n);
        for mean in [0.0f32, 1.0, 1e3, 1e6, -1e7] {
            for spread in [0.0f32, 1e-3, 1.0, 1e3] {
                let x: Vec<f32> = normal.iter().map(|z| z * spread + mean).collect();
                let errors = [error::<true>(&x, 1e-5), error::<false>(&x, 1e-5)];
                for (worst, error) in worst.iter_mut().zip(errors) {
                    assert!(!error.is_nan(), "n {n}, mean {mean}, spread {spread}");
                    if error > worst.0 {
                        *worst = (error, format!("n {n}, mean {mean}, spread {spread}"));
                    }
                }
            }
        }
    }
    println!("largest errors of the grid, fused and not: {worst:?}");
    assert!(worst.iter().all(|(error, _)| *error <= 1e-6), "{worst:?}");
}

/// The same for long rows, where the chains of the sums are longer.
#[test]
fn long_rows_are_accurate() {
    for (n, bound) in [(2048usize, 1e-6), (4096, 1e-6), (12_288, 1e-6), (65_536, 1e-6), (1 << 20, 1e-5)] {
        let normal = fill::normal(n as u64, n);
        let mut worst = 0.0f64;
        for (mean, spread) in [(0.0f32, 1.0f32), (1e3, 1.0), (1e6, 1.0), (-1e7, 1e3)] {
            let x: Vec<f32> = normal.iter().map(|z| z * spread + mean).collect();
            worst = worst.max(error::<true>(&x, 1e-5)).max(error::<false>(&x, 1e-5));
        }
        println!("n {n}: largest error {worst:e}");
        assert!(worst <= bound, "n {n}: {worst:e}");
    }
}

/// A first element far from the rest, whose difference every other term carries.
#[test]
fn an_outlier_first_does_no_harm() {
    let mut worst = 0.0f64;
    for n in [2usize, 3, 16, 17, 64, 65, 512, 1030] {
        for outlier in [1e3f32, -1e4, 1e6, -1e7, 1e12] {
            for mean in [0.0f32, 1.0, 1e3] {
                let mut x: Vec<f32> = fill::normal(n as u64, n).iter().map(|z| z + mean).collect();
                x[0] = outlier;
                worst = worst.max(error::<true>(&x, 1e-5)).max(error::<false>(&x, 1e-5));
            }
        }
    }
    println!("largest error with an outlier: {worst:e}");
    assert!(worst <= 1e-6, "{worst:e}");
}

#[test]
fn constant_rows_give_beta() {
    for n in [1usize, 2, 3, 15, 64, 65, 511, 1030, 4099] {
        let (gamma, beta) = (fill::normal(1, n), fill::normal(2, n));
        for value in [0.0f32, 1.0, 0.1, -3.3e-7, 1.234_567e6, -1e7, 3e38] {
            let x = vec![value; n];
            sweep::levels(|level| {
                let mut y = vec![0.0; n];
                let (gamma, level) = (Some(&gamma[..]), Some(level));
                let options = LayerNormOptions { gamma, beta: Some(&beta), level, ..Default::default() };
                let x = MatRef::new(&x, 1, n).unwrap();
                layer_norm(x, MatMut::new(&mut y, 1, n).unwrap(), &options).unwrap();
                assert_bits_eq(&y, &beta, format!("{n} times {value}"));
                let without_eps = LayerNormOptions { eps: 0.0, ..options };
                layer_norm(x, MatMut::new(&mut y, 1, n).unwrap(), &without_eps).unwrap();
                assert!(y.iter().all(|y| y.is_nan()), "{n} times {value}, eps 0, {level:?}");
            });
        }
    }
}
