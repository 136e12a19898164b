//! Layer normalisation against results in f64 of an independent implementation.

use gristmill_core::{MatMut, MatRef};
use gristmill_layernorm::{LayerNormOptions, add_layer_norm, layer_norm};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::{
    assert_bits_eq,
    compare::{assert_within, rounding},
    golden::{self, Tensors},
    sweep,
};

/// `4 * 2^-24 * ((n + 8) * max |x| * rstd * |gamma| + |beta|)` for every element of the rows `x`.
fn bounds(x: &[f32], gamma: &[f32], beta: &[f32], eps: f64) -> Vec<f64> {
    let n = gamma.len() as f64;
    let mut bounds = Vec::new();
    for row in x.chunks(gamma.len()) {
        let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let largest = row.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let scale = (n + 8.0) * largest / (variance + eps).sqrt();
        let bound = |(&gamma, &beta): (&f32, &f32)| scale * f64::from(gamma).abs() + f64::from(beta).abs();
        bounds.extend(gamma.iter().zip(beta).map(|parameters| 4.0 * (-24f64).exp2() * bound(parameters)));
    }
    bounds
}

#[test]
fn every_case_is_within_its_bound_at_every_level() {
    let cases = golden::json(&golden::folder().join("kernels.json"));
    let tensors = Tensors::open(&golden::folder().join("kernels.safetensors"));
    let mut ran = [0; 3];
    for case in cases["layer_norm"].as_array().unwrap() {
        let kind = match case["dtype"].as_str().unwrap() {
            "f32" => {
                check::<f32>(case, &tensors);
                0
            }
            "f16" => {
                check::<f16>(case, &tensors);
                1
            }
            "bf16" => {
                check::<bf16>(case, &tensors);
                2
            }
            other => panic!("type {other}"),
        };
        ran[kind] += 1;
    }
    assert_eq!(ran, [7, 1, 1]);
}

/// One case with every operand of type `T`.
fn check<T: Element>(case: &golden::Value, tensors: &Tensors) {
    let id = case["id"].as_str().unwrap();
    let [rows, cols] = ["rows", "cols"].map(|size| case[size].as_u64().unwrap() as usize);
    let eps = case["eps"].as_f64().unwrap();
    let [x, residual, gamma, beta] = ["x", "res", "w", "b"].map(|part| tensors.f32(&format!("{id}.{part}")).data);
    let [want, want_add] = ["out", "out_add"].map(|part| tensors.f64(&format!("{id}.{part}")).data);
    let added: Vec<f32> = x.iter().zip(&residual).map(|(x, residual)| x + residual).collect();
    let (bound, bound_add) = (bounds(&x, &gamma, &beta, eps), bounds(&added, &gamma, &beta, eps));
    // Exact: the values were read from this type.
    let [x, residual, gamma, beta] = [&x, &residual, &gamma, &beta].map(|values| narrow::<T>(values));

    sweep::levels_and_threads(|level, threads| {
        let context = format!("{id} {} {level} {threads:?}", T::NAME);
        let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
        let options = LayerNormOptions { eps: eps as f32, gamma, beta, threads, level: Some(level) };
        let matrix = |data| MatRef::new(data, rows, cols).unwrap();
        let [mut y, mut y_add, mut sum] = [const { Vec::new() }; 3].map(|_: Vec<T>| narrow(&vec![7.0; rows * cols]));

        layer_norm(matrix(&x), MatMut::new(&mut y, rows, cols).unwrap(), &options).unwrap();
        assert_within(&widen(&y), &want, |i| bound[i] + rounding::<T>(want[i]), &context);

        let (y_view, sum_view) = (MatMut::new(&mut y_add, rows, cols), MatMut::new(&mut sum, rows, cols));
        add_layer_norm(matrix(&x), matrix(&residual), y_view.unwrap(), Some(sum_view.unwrap()), &options).unwrap();
        let context = format!("{context}, residual added");
        assert_within(&widen(&y_add), &want_add, |i| bound_add[i] + rounding::<T>(want_add[i]), &context);
        assert_bits_eq(&sum, &narrow::<T>(&added), format!("{context}, sum"));
    });
}

fn narrow<T: Element>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&x| T::from_f32(x)).collect()
}

fn widen<T: Element>(values: &[T]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}
