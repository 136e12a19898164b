//! Row-wise kernels.

use super::{Bytes, against, assert_same, naive, threads};
use crate::{Matrix, Strided, sweep};
use gristmill_core::{Activation, Threads};
use gristmill_rowwise::{
    self as rowwise, EmbedOptions, PositionRows, Positions, RowOptions, SoftmaxOptions, argmax, bias_activation,
    bias_activation_in_place, embed, embed_in_place, log_softmax, log_softmax_in_place, softmax, softmax_in_place,
    top_k,
};
use gristmill_simd::{Element, Level, f16};

/// One of the kernels, on up to 5 rows of 600 values (now and then 300 rows of 70), in place and not.
pub fn rowwise(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let kernel = bytes.pick(&[softmaxes, bias_activations, choices, embeddings]);
    let many = bytes.one_in(16);
    let (rows, n) = if many { (bytes.below(301), bytes.below(71)) } else { (bytes.below(6), bytes.size(600)) };
    let threads = threads(bytes);
    let x = bytes.output([rows, n]);
    let y = bytes.output([bytes.slip(rows), bytes.slip(n)]);
    kernel(bytes, &x, &y, threads);
}

fn softmaxes(bytes: &Bytes, x: &Matrix, before: &Matrix, threads: Threads) {
    let (batch, heads) = if bytes.flag() { (1, 1) } else { (bytes.below(3), bytes.below(3)) };
    let queries = x.sizes[0] / (batch * heads).max(1);
    let mask = if bytes.flag() { bytes.mask([batch, heads, queries, x.sizes[1]]) } else { Default::default() };
    let scale = if bytes.flag() { 1.0 } else { bytes.f32() };
    let options = SoftmaxOptions { scale, mask: mask.mask(), batch, heads, threads, level: None };
    let log = bytes.flag();
    if bytes.flag() {
        softmaxes_of::<f16>(&x.to(), &before.to(), &options, log);
    } else {
        softmaxes_of::<f32>(x, before, &options, log);
    }
}

fn softmaxes_of<T: Element>(x: &Strided<T, 2>, before: &Strided<T, 2>, options: &SoftmaxOptions<'_>, log: bool) {
    let want_in = |before: &Strided<T, 2>, level: Level| {
        let mut y = before.clone();
        let result = match log {
            true => naive!(level, rowwise::naive::log_softmax(x.mat(), y.mat_mut(), options)),
            false => naive!(level, rowwise::naive::softmax(x.mat(), y.mat_mut(), options)),
        };
        (result, y)
    };
    against(
        |level| [want_in(before, level), want_in(x, level)],
        |level, [apart, in_place]| {
            let options = SoftmaxOptions { level: Some(level), ..*options };
            let mut y = before.clone();
            let function = if log { log_softmax } else { softmax };
            let result = function(x.mat(), y.mat_mut(), &options);
            assert_same(&(result, y), apart, before, format!("softmax, log {log}, {level} {x:?} {options:?}"));
            let mut y = x.clone();
            let function = if log { log_softmax_in_place } else { softmax_in_place };
            let result = function(y.mat_mut(), &options);
            assert_same(&(result, y), in_place, x, format!("in place, log {log}, {level} {x:?} {options:?}"));
        },
    );
}

fn bias_activations(bytes: &Bytes, x: &Matrix, before: &Matrix, threads: Threads) {
    let bias = bytes.flag().then(|| bytes.vector(bytes.slip(x.sizes[1])));
    let (bias, activation) = (bias.as_deref(), bytes.pick(&Activation::ALL));
    let want_in = |before: &Matrix, level: Level| {
        let mut y = before.clone();
        (naive!(level, rowwise::naive::bias_activation(x.mat(), bias, activation, y.mat_mut())), y)
    };
    against(
        |level| [want_in(before, level), want_in(x, level)],
        |level, [apart, in_place]| {
            let options = RowOptions { threads, level: Some(level) };
            let context = |form| format!("{form} {level} {activation:?} {x:?} {bias:?}");
            let mut y = before.clone();
            let result = bias_activation(x.mat(), bias, activation, y.mat_mut(), &options);
            assert_same(&(result, y), apart, before, context("bias_activation"));
            let mut y = x.clone();
            let result = bias_activation_in_place(y.mat_mut(), bias, activation, &options);
            assert_same(&(result, y), in_place, x, context("bias_activation_in_place"));
        },
    );
}

fn choices(bytes: &Bytes, _: &Matrix, x: &Matrix, threads: Threads) {
    // A matrix that is only read may have any layout.
    let x: Matrix = bytes.input(x.sizes);
    let before = vec![usize::MAX; bytes.slip(x.sizes[0])];
    let mut want = before.clone();
    let result = rowwise::naive::argmax(x.mat(), &mut want);
    let none = Strided::new([bytes.slip(x.sizes[0]), bytes.below(8)], &Default::default(), 0, || usize::MAX);
    let mut want_few = none.clone();
    let result_few = rowwise::naive::top_k(x.mat(), want_few.mat_mut());
    sweep::levels(|level| {
        let mut got = before.clone();
        let options = RowOptions { threads, level: Some(level) };
        assert_eq!(argmax(x.mat(), &mut got, &options), result, "argmax {level} {x:?}");
        assert_eq!(got, if result.is_ok() { &want[..] } else { &before }, "argmax {level} {x:?}");
        let mut got = none.clone();
        assert_eq!(top_k(x.mat(), got.mat_mut(), &options), result_few, "top_k {level} {x:?}");
        assert_eq!(got.data, want_few.data, "top_k {level} {x:?}");
    });
}

fn embeddings(bytes: &Bytes, table: &Matrix, before: &Matrix, threads: Threads) {
    let [tokens, d] = before.sizes;
    // Hostile ids are rare, or every call would be refused.
    let id = |rows: usize| match bytes.byte() {
        255 => bytes.u64() as usize,
        254 => rows,
        byte => usize::from(byte) % rows.max(1),
    };
    let ids = |rows: usize, count: usize| (0..count).map(|_| id(rows) as u32).collect::<Vec<_>>();
    let looked_up = ids(table.sizes[0], bytes.slip(tokens));
    let places: Matrix = bytes.input([bytes.below(8) + tokens, bytes.slip(d)]);
    let each = ids(places.sizes[0], bytes.slip(tokens));
    let rows = match bytes.byte() % 4 {
        0 => None,
        1 => Some(PositionRows::From(id(8))),
        2 => Some(PositionRows::All(id(places.sizes[0]))),
        _ => Some(PositionRows::Each(&each)),
    };
    let positions = rows.map(|rows| Positions { table: places.mat(), rows });
    let options = EmbedOptions { scale: bytes.f32(), positions, threads, level: None };
    let context = |form, level| format!("{form} {level} {table:?} {looked_up:?} {options:?}");
    // In place, each row stands for itself.
    let own: Vec<u32> = (0..tokens as u32).collect();
    let mut want = before.clone();
    let want = (rowwise::naive::embed(table.mat(), &looked_up, want.mat_mut(), &options), want);
    let mut in_place = before.clone();
    let in_place = (rowwise::naive::embed(before.mat(), &own, in_place.mat_mut(), &options), in_place);
    sweep::levels(|level| {
        let options = EmbedOptions { level: Some(level), ..options };
        let mut y = before.clone();
        let result = embed(table.mat(), &looked_up, y.mat_mut(), &options);
        assert_same(&(result, y), &want, before, context("embed", level));
        let mut y = before.clone();
        let result = embed_in_place(y.mat_mut(), &options);
        assert_same(&(result, y), &in_place, before, context("embed_in_place", level));
    });
}
