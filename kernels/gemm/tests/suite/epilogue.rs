//! Fused steps equal the same steps done one after the other; factors of one and zero drop their step.

use crate::common::{Product, mat};
use gristmill_core::{Activation, MatMut, Threads, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm, naive as gemm_naive};
use gristmill_simd::{Element, Level, bf16, f16};
use gristmill_testkit::{Fill, Layout, Matrix, Strided, assert_bits_eq, fill, naive, sweep};

const M: usize = 29;
const N: usize = 53;
const K: usize = 31;

fn matrix(rows: usize, cols: usize, seed: u64) -> Matrix {
    Matrix::filled([rows, cols], &Layout::default(), Fill::Normal, seed)
}

#[test]
fn fused_equals_plain_and_then_map() {
    let bias = fill::normal(4, N);
    let residual = matrix(M, N, 5);
    for activation in Activation::ALL {
        let plain = Product::plain(matrix(M, K, 1), matrix(K, N, 2), matrix(M, N, 3));
        let fused = Product { bias: Some(bias.clone()), activation, residual: Some(residual.clone()), ..plain.clone() };
        sweep::levels_and_threads(|level, threads| {
            let mut want = plain.tuned(plain.b.mat(), level, threads);
            for (i, y) in want.data.iter_mut().enumerate() {
                let biased = *y + bias[i % N];
                let active =
                    if level.fused() { activation.naive::<true>(biased) } else { activation.naive::<false>(biased) };
                *y = active + residual.data[i];
            }
            let got = fused.tuned(fused.b.mat(), level, threads);
            assert_bits_eq(&got.data, &want.data, format!("{level} {activation:?}"));
        });
    }
}

/// Panels of a tile that lie far apart find their own columns of bias, residual and C, whether registers finish them or not.
fn few_rows<A: Element, B: Element, C: Element>(activation: Activation) {
    for (m, n) in [(1, 101), (2, 128), (4, 101), (6, 70)] {
        for order in [[0, 1], [1, 0]] {
            let c = |seed| Strided::filled([m, n], &Layout { order, ..Layout::default() }, Fill::Normal, seed);
            let (a, b) = (matrix(m, K, 1).to::<A>(), matrix(K, n, 2).to::<B>());
            let bias = Some(matrix(1, n, 4).to::<C>().data);
            let (alpha, beta, residual) = (0.5, -1.5, Some(c(5)));
            Product { alpha, beta, bias, activation, residual, ..Product::plain(a, b, c(3)) }.check();
        }
    }
}

#[test]
fn few_rows_over_many_panels_are_finished_in_place() {
    for activation in Activation::ALL {
        few_rows::<f32, f32, f32>(activation);
        few_rows::<f32, f16, f32>(activation);
        few_rows::<f16, f16, f16>(activation);
        few_rows::<bf16, bf16, bf16>(activation);
        few_rows::<f32, bf16, f32>(activation);
    }
}

/// The product of widened operands with an f32 bias, and then one rounding.
fn narrow_output_is_rounded_once<T: Element>() {
    let bias = fill::normal(4, N);
    let wide = Product {
        bias: Some(bias.clone()),
        activation: Activation::Relu,
        ..Product::plain(matrix(M, K, 1).to::<T>().to::<f32>(), matrix(K, N, 2).to::<T>().to::<f32>(), matrix(M, N, 3))
    };
    let (a, b) = (wide.a.to::<T>(), wide.b.to::<T>());
    sweep::levels_and_threads(|level, threads| {
        let want = wide.tuned(wide.b.mat(), level, threads).to::<T>();
        let mut got = wide.c.to::<T>();
        let options = GemmOptions {
            bias: Some(&bias),
            activation: Activation::Relu,
            level: Some(level),
            threads,
            ..Default::default()
        };
        gemm(a.mat(), b.mat(), got.mat_mut(), &options, &mut Workspace::new()).unwrap();
        assert_bits_eq(&got.data, &want.data, format!("{level} {}", T::NAME));
    });
}

#[test]
fn narrow_outputs_are_rounded_once() {
    narrow_output_is_rounded_once::<f16>();
    narrow_output_is_rounded_once::<bf16>();
}

#[test]
fn c_is_not_read_when_beta_is_zero() {
    let mut product = Product::plain(matrix(M, K, 1), matrix(K, N, 2), matrix(M, N, 3));
    let want = product.naive(Level::Portable);
    product.c.data.fill(f32::NAN);
    sweep::levels(|level| {
        let got = product.tuned(product.b.mat(), level, Threads::Serial);
        assert!(got.data.iter().all(|y| !y.is_nan()), "{level}");
        if level.fused() == Level::Portable.fused() {
            assert_bits_eq(&got.data, &want.data, level);
        }
    });
}

#[test]
fn zero_is_an_ordinary_factor() {
    let (a, b) = ([f32::INFINITY, 1.0], [1.0, 1.0]);
    sweep::levels(|level| {
        let mut c = [7.0];
        let options = GemmOptions { alpha: 0.0, level: Some(level), ..Default::default() };
        let c_mat = MatMut::new(&mut c, 1, 1).unwrap();
        gemm(mat(&a, 1, 2), mat(&b, 2, 1), c_mat, &options, &mut Workspace::new()).unwrap();
        assert!(c[0].is_nan(), "{level}: 0 * inf is NaN, found {}", c[0]);
    });
}

#[test]
fn without_depth_the_product_is_plus_zero() {
    sweep::levels_and_threads(|level, threads| {
        let mut c = [7.0, -3.0];
        let options = GemmOptions { bias: Some(&[-0.0, 2.0]), level: Some(level), threads, ..Default::default() };
        let c_mat = MatMut::new(&mut c, 1, 2).unwrap();
        gemm(mat::<f32>(&[], 1, 0), mat::<f32>(&[], 0, 2), c_mat, &options, &mut Workspace::new()).unwrap();
        assert_bits_eq(&c, &[0.0, 2.0], level);
    });
}

#[test]
fn relu_passes_minus_zero_and_nan() {
    sweep::levels(|level| {
        let mut c = [-0.0, f32::NAN, -1.0, 3.0];
        // -1 times the empty sum is -0, which leaves that of C alone.
        let options = GemmOptions {
            alpha: -1.0,
            beta: 1.0,
            activation: Activation::Relu,
            level: Some(level),
            ..Default::default()
        };
        let c_mat = MatMut::new(&mut c, 1, 4).unwrap();
        gemm(mat::<f32>(&[], 1, 0), mat::<f32>(&[], 0, 4), c_mat, &options, &mut Workspace::new()).unwrap();
        assert_bits_eq(&c, &[-0.0, f32::NAN, 0.0, 3.0], level);
    });
}

/// A bias of another type than C is the same as its widened values.
fn bias_is_widened<V: Element>() {
    let bias = matrix(1, N, 4).to::<V>();
    for order in [[0, 1], [1, 0]] {
        let c = Strided::filled([M, N], &Layout { order, ..Layout::default() }, Fill::Normal, 3);
        let plain = Product::plain(matrix(M, K, 1), matrix(K, N, 2), c);
        let wide = Product { bias: Some(bias.widened()), beta: 0.5, activation: Activation::Relu, ..plain };
        let packed = PackedRhs::from_in_out(wide.b.mat()).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let want = wide.naive(level);
            let options = GemmOptions {
                beta: wide.beta,
                bias: Some(&bias.data[..]),
                activation: wide.activation,
                level: Some(level),
                threads,
                ..GemmOptions::new()
            };
            let mut c = wide.c.clone();
            naive!(level, gemm_naive::gemm(wide.a.mat(), wide.b.mat(), c.mat_mut(), &options)).unwrap();
            assert_bits_eq(&c.data, &want.data, format!("naive {level} {}", V::NAME));
            for b in [Rhs::Plain(wide.b.mat()), Rhs::Packed(&packed)] {
                let mut got = wide.c.clone();
                gemm(wide.a.mat(), b, got.mat_mut(), &options, &mut Workspace::new()).unwrap();
                assert_bits_eq(&got.data, &want.data, format!("{level} {}", V::NAME));
            }
        });
    }
}

#[test]
fn biases_of_every_type_are_widened() {
    bias_is_widened::<f32>();
    bias_is_widened::<f16>();
    bias_is_widened::<bf16>();
}
