//! The tuned kernels against `naive`, in bits, over everything that a call can vary.

mod common;

use common::{Call, NORMS};
use gristmill_core::{MatMut, MatRef, Threads};
use gristmill_layernorm::{LayerNormOptions, layer_norm, naive};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::{Fill, Layout, Matrix, assert_bits_eq, naive, strategy, sweep};
use proptest::prelude::*;

/// Arithmetic options with their values owned.
#[derive(Clone, Debug)]
struct Arithmetic {
    eps: f32,
    gamma: Option<Vec<f32>>,
    beta: Option<Vec<f32>>,
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

/// `[x, residual, y, sum]` and the rest of a call.
fn operands() -> impl Strategy<Value = ([Matrix; 4], Arithmetic)> {
    let operands = shape().prop_flat_map(|(rows, n)| {
        let output = || strategy::output_matrix(rows, n);
        // In place, x is an output too.
        let x = prop_oneof![strategy::matrix(rows, n), output()];
        (x, strategy::matrix(rows, n), output(), output(), arithmetic(n))
    });
    (operands, centre()).prop_map(|((mut x, residual, y, sum, arithmetic), (spread, mean))| {
        recentred(&mut x, spread, mean);
        ([x, residual, y, sum], arithmetic)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f32_equals_naive((matrices, Arithmetic { eps, gamma, beta }) in operands(), norm in select(&NORMS)) {
        let call = Call::<f32, f32, f32, f32>::new(&matrices, eps, gamma.as_deref(), beta.as_deref());
        sweep::levels_and_threads(|level, threads| call.check(norm, level, threads));
    }

    /// Mixes of storage types: one type throughout, 16-bit activations beside a stream of f32, parameters of f32.
    #[test]
    fn every_type_equals_naive(
        (matrices, Arithmetic { eps, gamma, beta }) in operands(),
        norm in select(&NORMS),
        mix in 0..6u8,
    ) {
        macro_rules! check {
            ($x:ty, $residual:ty, $y:ty, $parameters:ty) => {{
                let call = Call::<$x, $residual, $y, $parameters>::new(&matrices, eps, gamma.as_deref(), beta.as_deref());
                sweep::levels_and_threads(|level, threads| call.check(norm, level, threads));
            }};
        }
        match mix {
            0 => check!(f16, f16, f16, f16),
            1 => check!(bf16, bf16, bf16, bf16),
            2 => check!(f32, f16, bf16, f16),
            3 => check!(bf16, f32, bf16, f32),
            4 => check!(f16, f32, f16, f32),
            _ => check!(bf16, bf16, f32, f32),
        }
    }
}

/// Every length around the registers of all levels and the 64 lanes, aligned and not, every kind of value.
#[test]
fn every_length() {
    let lengths = (0..=200).chain([255, 256, 257, 319, 511, 512, 513, 768, 1023, 1024, 1025, 2047, 2048, 2049, 4097]);
    for n in lengths {
        let fill = [Fill::Normal, Fill::Special, Fill::Scaled][n % 3];
        let layout = Layout { margin: n % 17, padding: [n % 5, 0], ..Layout::default() };
        // A row alone goes another way than several.
        let matrices = [1, 3].map(|rows| {
            let x = Matrix::filled([rows, n], &layout, fill, n as u64);
            let residual = Matrix::filled([rows, n], &layout, Fill::Normal, n as u64 + 1);
            [x.clone(), residual, x.clone(), x]
        });
        let (gamma, beta) = (Fill::Normal.vec(1, n), Fill::Normal.vec(2, n));
        sweep::levels(|level| {
            for (gamma, beta) in [(None, None), (Some(&gamma), None), (None, Some(&beta)), (Some(&gamma), Some(&beta))]
            {
                let (gamma, beta) = (gamma.map(Vec::as_slice), beta.map(Vec::as_slice));
                for (matrices, norm) in matrices.iter().flat_map(|matrices| NORMS.map(|norm| (matrices, norm))) {
                    let call = Call::<f32, f32, f32, f32>::new(matrices, 1e-5, gamma, beta);
                    call.check(norm, level, Threads::Serial);
                    let call = Call::<f16, f16, f16, f16>::new(matrices, 1e-5, gamma, beta);
                    call.check(norm, level, Threads::Serial);
                }
            }
        });
    }
}

/// As many rows of few elements as registers have lanes, and one more.
#[test]
fn every_narrow_width() {
    for (rows, n) in [17, 33].into_iter().flat_map(|rows| (1..=17).map(move |n| (rows, n))) {
        let (order, fill) = ([[0, 1], [1, 0]][n % 2], [Fill::Normal, Fill::Special][rows % 5 % 2]);
        check_mixes([rows, n], &Layout { order, padding: [n % 3, 0], ..Layout::default() }, fill);
        check_mixes([rows, n], &Layout::default(), fill);
    }
}

/// Rows that scratch memory has no room for: some can be kept in a matrix, others are worked on in pieces.
#[test]
fn rows_longer_than_scratch_memory() {
    for n in [8193, 20_000] {
        check_mixes([2, n], &Layout::default(), Fill::Normal);
        check_mixes([3, n], &Layout { order: [1, 0], ..Layout::default() }, Fill::Normal);
    }
}

/// Both norms with gamma and beta, in the mixes of types that take different ways.
fn check_mixes(sizes: [usize; 2], layout: &Layout<2>, fill: Fill) {
    let matrices = [1, 2, 3, 4].map(|seed| Matrix::filled(sizes, layout, fill, seed));
    let (gamma, beta) = (Fill::Normal.vec(5, sizes[1]), Fill::Normal.vec(6, sizes[1]));
    macro_rules! check {
        ($x:ty, $residual:ty, $y:ty, $parameters:ty) => {
            let call = Call::<$x, $residual, $y, $parameters>::new(&matrices, 1e-5, Some(&gamma), Some(&beta));
            sweep::levels(|level| NORMS.into_iter().for_each(|norm| call.check(norm, level, Threads::Serial)));
        };
    }
    check!(f32, f32, f32, f32);
    check!(f32, f16, bf16, f16);
    check!(f16, f16, f16, f16);
    check!(bf16, bf16, f32, f32);
    check!(bf16, f32, bf16, f32);
}

/// Enough rows that three threads share them, and that the rows ahead are fetched.
#[test]
fn rows_are_divided_among_threads() {
    many_rows::<f32>();
    many_rows::<f16>();
}

fn many_rows<T: Element>() {
    for (rows, n) in [(500, 333), (101, 512), (3, 70_000), (70_000, 3)] {
        let x: Vec<T> = Fill::Normal.vec(1, rows * n).into_iter().map(T::from_f32).collect();
        let x = MatRef::new(&x, rows, n).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let options = LayerNormOptions { level: Some(level), threads, ..Default::default() };
            let (mut got, mut want) = (vec![T::default(); rows * n], vec![T::default(); rows * n]);
            layer_norm(x, MatMut::new(&mut got, rows, n).unwrap(), &options).unwrap();
            let y = MatMut::new(&mut want, rows, n).unwrap();
            naive!(level, naive::layer_norm(x, y.into(), &options)).unwrap();
            let wide = |y: &[T]| y.iter().map(|y| y.to_f32()).collect::<Vec<f32>>();
            assert_bits_eq(&wide(&got), &wide(&want), format!("{} {level} {threads:?} {rows} x {n}", T::NAME));
        });
    }
}
