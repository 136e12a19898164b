//! The tuned kernels against `naive`, in bits, over everything that a call can vary.

use gristmill_core::{MatMut, MatRef, Threads};
use gristmill_layernorm::{
    LayerNormOptions, add_layer_norm, add_layer_norm_in_place, layer_norm, layer_norm_in_place, naive,
};
use gristmill_simd::Level;
use gristmill_testkit::{Fill, Layout, Matrix, assert_bits_eq, naive, strategy, sweep};
use proptest::prelude::*;

/// Arithmetic options with their values owned.
#[derive(Clone, Debug)]
struct Arithmetic {
    eps: f32,
    gamma: Option<Vec<f32>>,
    beta: Option<Vec<f32>>,
}

impl Arithmetic {
    fn options<'a>(&'a self, level: Level, threads: Threads<'a>) -> LayerNormOptions<'a> {
        let (gamma, beta) = (self.gamma.as_deref(), self.beta.as_deref());
        LayerNormOptions { eps: self.eps, gamma, beta, threads, level: Some(level) }
    }
}

fn arithmetic(n: usize) -> impl Strategy<Value = Arithmetic> {
    let eps = prop_oneof![Just(1e-5f32), Just(0.0), Just(1e-12), Just(f32::MAX), 0.0..10.0f32];
    let vector = || proptest::option::of(strategy::vector(n));
    (eps, vector(), vector()).prop_map(|(eps, gamma, beta)| Arithmetic { eps, gamma, beta })
}

/// Rows and columns: rows of every length around the registers and the 64 lanes, and beyond the kept row.
fn shape() -> impl Strategy<Value = (usize, usize)> {
    let n = prop_oneof![4 => strategy::size(200), 2 => 0..=1100usize, 1 => 2000..2100usize];
    (0..6usize, n)
}

/// Values of any kind, or close together around a mean of any size.
fn recentred(x: &mut Matrix, spread: f32, mean: f32) {
    for address in x.addresses().collect::<Vec<_>>() {
        x.data[address] = x.data[address] * spread + mean;
    }
}

fn centre() -> impl Strategy<Value = (f32, f32)> {
    prop_oneof![
        4 => Just((1.0, 0.0)),
        1 => (select(&[0.0f32, 1e-3, 1.0, 1e3]), select(&[0.0f32, 1.0, 1e3, 1e6, -1e7])),
    ]
}

fn select<T: Clone + std::fmt::Debug + 'static>(from: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layer_norm_equals_naive(
        (mut x, y, arithmetic) in shape().prop_flat_map(|(rows, n)| {
            (strategy::matrix(rows, n), strategy::output_matrix(rows, n), arithmetic(n))
        }),
        (spread, mean) in centre(),
    ) {
        recentred(&mut x, spread, mean);
        sweep::levels_and_threads(|level, threads| {
            let options = arithmetic.options(level, threads);
            let (mut got, mut want) = (y.clone(), y.clone());
            layer_norm(x.mat(), got.mat_mut(), &options).unwrap();
            naive!(level, naive::layer_norm(x.mat(), want.mat_mut(), &options)).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn in_place_equals_naive(
        (x, arithmetic) in shape().prop_flat_map(|(rows, n)| (strategy::output_matrix(rows, n), arithmetic(n))),
    ) {
        sweep::levels_and_threads(|level, threads| {
            let options = arithmetic.options(level, threads);
            let (mut got, mut want) = (x.clone(), x.clone());
            layer_norm_in_place(got.mat_mut(), &options).unwrap();
            naive!(level, naive::layer_norm(x.mat(), want.mat_mut(), &options)).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn add_layer_norm_equals_naive(
        (x, residual, y, sum, arithmetic) in shape().prop_flat_map(|(rows, n)| {
            let (input, output) = (|| strategy::matrix(rows, n), || strategy::output_matrix(rows, n));
            (input(), input(), output(), output(), arithmetic(n))
        }),
    ) {
        sweep::levels_and_threads(|level, threads| {
            let options = arithmetic.options(level, threads);
            let (mut got, mut got_sum) = (y.clone(), sum.clone());
            let (mut want, mut want_sum) = (y.clone(), sum.clone());
            let sums = Some(want_sum.mat_mut());
            naive!(level, naive::add_layer_norm(x.mat(), residual.mat(), want.mat_mut(), sums, &options)).unwrap();

            add_layer_norm(x.mat(), residual.mat(), got.mat_mut(), None, &options).unwrap();
            assert_bits_eq(&got.values(), &want.values(), format!("{level}, no sum"));
            got = y.clone();
            add_layer_norm(x.mat(), residual.mat(), got.mat_mut(), Some(got_sum.mat_mut()), &options).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            assert_bits_eq(&got_sum.values(), &want_sum.values(), format!("{level}, sum"));
            got.assert_gaps(level);
            got_sum.assert_gaps(level);
        });
    }

    #[test]
    fn adding_in_place_equals_naive(
        (x, residual, y, arithmetic) in shape().prop_flat_map(|(rows, n)| {
            let output = || strategy::output_matrix(rows, n);
            (output(), strategy::matrix(rows, n), output(), arithmetic(n))
        }),
    ) {
        sweep::levels_and_threads(|level, threads| {
            let options = arithmetic.options(level, threads);
            let (mut want, mut want_sum) = (y.clone(), y.clone());
            let sums = Some(want_sum.mat_mut());
            naive!(level, naive::add_layer_norm(x.mat(), residual.mat(), want.mat_mut(), sums, &options)).unwrap();

            let mut post = x.clone();
            add_layer_norm_in_place(post.mat_mut(), residual.mat(), None, &options).unwrap();
            assert_bits_eq(&post.values(), &want.values(), format!("{level}, post-norm"));
            post.assert_gaps(level);

            let (mut pre, mut got) = (x.clone(), y.clone());
            add_layer_norm_in_place(pre.mat_mut(), residual.mat(), Some(got.mat_mut()), &options).unwrap();
            assert_bits_eq(&pre.values(), &want_sum.values(), format!("{level}, pre-norm stream"));
            assert_bits_eq(&got.values(), &want.values(), format!("{level}, pre-norm"));
            pre.assert_gaps(level);
        });
    }
}

/// Every length around the registers of all levels and the 64 lanes, aligned and not, every kind of value.
#[test]
fn every_length() {
    let lengths = (0..=200).chain([255, 256, 257, 319, 511, 512, 513, 768, 1023, 1024, 1025, 2047, 2048, 2049, 4097]);
    for n in lengths {
        let fill = [Fill::Normal, Fill::Special, Fill::Scaled][n % 3];
        let layout = Layout { margin: n % 17, padding: [n % 5, 0], ..Layout::default() };
        let x = Matrix::filled([3, n], &layout, fill, n as u64);
        let residual = Matrix::filled([3, n], &layout, Fill::Normal, n as u64 + 1);
        let (gamma, beta) = (Fill::Normal.vec(1, n), Fill::Normal.vec(2, n));
        sweep::levels(|level| {
            for (gamma, beta) in [(None, None), (Some(&gamma), None), (None, Some(&beta)), (Some(&gamma), Some(&beta))]
            {
                let (gamma, beta, level) = (gamma.map(Vec::as_slice), beta.map(Vec::as_slice), Some(level));
                let options = LayerNormOptions { gamma, beta, level, threads: Threads::Serial, ..Default::default() };
                check_both(&x, &residual, &options);
            }
        });
    }
}

fn check_both(x: &Matrix, residual: &Matrix, options: &LayerNormOptions<'_>) {
    let [rows, n] = x.sizes;
    let mut got = [vec![7.0; rows * n], vec![7.0; rows * n]];
    let mut want = got.clone();
    let level = options.level.unwrap();
    layer_norm(x.mat(), matrix(&mut got[0], rows, n), options).unwrap();
    naive!(level, naive::layer_norm(x.mat(), matrix(&mut want[0], rows, n), options)).unwrap();
    add_layer_norm(x.mat(), residual.mat(), matrix(&mut got[1], rows, n), None, options).unwrap();
    let y = matrix(&mut want[1], rows, n);
    naive!(level, naive::add_layer_norm(x.mat(), residual.mat(), y, None, options)).unwrap();
    assert_bits_eq(&got[0], &want[0], format!("{level} {x:?}"));
    assert_bits_eq(&got[1], &want[1], format!("{level} {x:?} + {residual:?}"));
}

fn matrix(data: &mut [f32], rows: usize, n: usize) -> MatMut<'_, f32> {
    MatMut::new(data, rows, n).unwrap()
}

/// Enough rows that three threads share them, and that the rows ahead are fetched.
#[test]
fn rows_are_divided_among_threads() {
    for (rows, n) in [(500, 333), (3, 70_000), (70_000, 3)] {
        let x = Fill::Normal.vec(1, rows * n);
        let x = MatRef::new(&x, rows, n).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let options = LayerNormOptions { level: Some(level), threads, ..Default::default() };
            let (mut got, mut want) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            layer_norm(x, matrix(&mut got, rows, n), &options).unwrap();
            naive!(level, naive::layer_norm(x, matrix(&mut want, rows, n), &options)).unwrap();
            assert_bits_eq(&got, &want, format!("{level} {threads:?} {rows} x {n}"));
        });
    }
}
