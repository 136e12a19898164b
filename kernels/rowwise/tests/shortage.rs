//! Operations on rows need no memory; a table of positions that cannot have its memory says so.

use gristmill_core::{Activation, Causal, Error, Mask, MatMut};
use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, SoftmaxOptions, argmax, bias_activation,
    bias_activation_in_place, embed, embed_in_place, log_softmax, log_softmax_in_place, sinusoidal_positions, softmax,
    softmax_in_place, top_k,
};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::shortage::{Scarce, every, levels_and_threads};
use gristmill_testkit::{Fill, Layout, Strided, assert_bits_eq};

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn operations<X: Element, Y: Element>() {
    // Rows side by side and rows that are gathered, short ones, and longer ones than any scratch memory.
    let gathered = Layout { order: [1, 0], ..Layout::default() };
    for (rows, n, layout) in [(40, 9, Layout::default()), (3, 70_000, Layout::default()), (5, 3000, gathered)] {
        let filled = |seed| Strided::<X, 2>::filled([rows, n], &layout, Fill::Normal, seed);
        let (x, bias) = (filled(1), Fill::Normal.vec::<f32>(2, n));
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        let positions = Strided::<f32, 2>::filled([rows, n], &Layout::default(), Fill::Normal, 3);
        levels_and_threads(|level, threads| {
            let on = RowOptions { threads, level: Some(level) };
            let plain = SoftmaxOptions { threads, level: Some(level), ..SoftmaxOptions::default() };
            let mask = Mask { causal: Some(Causal::BottomRight), ..Mask::default() };
            let masked = SoftmaxOptions { mask, scale: 0.5, ..plain };
            let positions = Some(Positions { table: positions.mat(), rows: PositionRows::From(0) });
            let embedding = EmbedOptions { positions, threads, level: Some(level), ..EmbedOptions::default() };
            let (mut y, mut in_place) = (x.to::<Y>(), x.clone());
            let (mut best, mut ranked) = (vec![0; rows], vec![0; rows * 4]);
            let allocations = every(
                0,
                || (),
                |()| {
                    for options in [&plain, &masked] {
                        softmax(x.mat(), y.mat_mut(), options)?;
                        softmax_in_place(in_place.mat_mut(), options)?;
                        log_softmax(x.mat(), y.mat_mut(), options)?;
                        log_softmax_in_place(in_place.mat_mut(), options)?;
                    }
                    for activation in [Activation::Relu, Activation::Gelu] {
                        bias_activation(x.mat(), Some(&bias), activation, y.mat_mut(), &on)?;
                        bias_activation_in_place(in_place.mat_mut(), Some(&bias), activation, &on)?;
                    }
                    argmax(x.mat(), &mut best, &on)?;
                    top_k(x.mat(), MatMut::new(&mut ranked, rows, 4)?, &on)?;
                    embed(x.mat(), &ids, y.mat_mut(), &embedding)?;
                    embed_in_place(in_place.mat_mut(), &embedding)
                },
                |(), result: Result<(), Error>| result.unwrap(),
            );
            assert_eq!(allocations, 0, "{rows} rows of {n} at {level}, {} threads", threads.count());
        });
    }
}

#[test]
fn operations_need_no_memory() {
    operations::<f32, f32>();
    operations::<f16, f32>();
    operations::<f32, bf16>();
    operations::<bf16, bf16>();
}

#[test]
fn a_table_without_memory_is_none() {
    let expected = sinusoidal_positions(9, 5).unwrap();
    let check = |(), table: Result<Vec<f32>, Error>| match table {
        Ok(table) => assert_bits_eq(&table, &expected, "a table"),
        Err(error) => assert!(matches!(error, Error::OutOfMemory { bytes: 180 | 40 }), "{error}"),
    };
    assert_eq!(every(0, || (), |()| sinusoidal_positions(9, 5), check), 2);
}
