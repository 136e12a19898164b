//! Norms need no memory.

use gristmill_core::Error;
use gristmill_layernorm::{
    LayerNormOptions, NormOutput, add_layer_norm, add_layer_norm_in_place, add_rms_norm, add_rms_norm_in_place,
    layer_norm, layer_norm_in_place, rms_norm, rms_norm_in_place,
};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::shortage::{Scarce, every, levels_and_threads};
use gristmill_testkit::{Fill, Layout, Strided};

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn norms<X: Element, Y: Element>() {
    // One row to a lane, rows that scratch memory holds, and longer ones that caches may not keep; side by side and
    // gathered.
    let gathered = Layout { order: [1, 0], ..Layout::default() };
    for (rows, n, layout) in [(40, 9, Layout::default()), (4, 70_000, Layout::default()), (5, 3000, gathered)] {
        let filled = |seed| Strided::<X, 2>::filled([rows, n], &layout, Fill::Normal, seed);
        let (x, residual) = (filled(1), filled(2));
        let (gamma, beta) = (Fill::Normal.vec::<f32>(3, n), Fill::Normal.vec::<f32>(4, n));
        levels_and_threads(|level, threads| {
            let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
            let options = LayerNormOptions { eps: 1e-5, gamma, beta, threads, level: Some(level) };
            let (mut y, mut sum, mut in_place) = (x.to::<Y>(), x.clone(), x.clone());
            let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
            let allocations = every(
                0,
                || (),
                |()| {
                    let out = NormOutput { y: y.mat_mut(), mean: Some(&mut mean), rstd: Some(&mut rstd) };
                    layer_norm(x.mat(), out, &options)?;
                    rms_norm(x.mat(), y.mat_mut(), &options)?;
                    add_layer_norm(x.mat(), residual.mat(), y.mat_mut(), Some(sum.mat_mut()), &options)?;
                    add_rms_norm(x.mat(), residual.mat(), y.mat_mut(), Some(sum.mat_mut()), &options)?;
                    layer_norm_in_place(in_place.mat_mut(), &options)?;
                    rms_norm_in_place(in_place.mat_mut(), &options)?;
                    add_layer_norm_in_place(in_place.mat_mut(), residual.mat(), Some(sum.mat_mut()), &options)?;
                    add_rms_norm_in_place(in_place.mat_mut(), residual.mat(), None, &options)
                },
                |(), result: Result<(), Error>| result.unwrap(),
            );
            assert_eq!(allocations, 0, "{rows} rows of {n} at {level}, {} threads", threads.count());
        });
    }
}

#[test]
fn norms_need_no_memory() {
    norms::<f32, f32>();
    norms::<f16, f32>();
    norms::<f32, bf16>();
    norms::<bf16, bf16>();
}
