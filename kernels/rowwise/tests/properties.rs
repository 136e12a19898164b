//! The tuned kernels against `naive`, in bits, over everything that a call can vary.

use gristmill_core::{Activation, MatMut, MatRef, Threads};
use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, SoftmaxOptions, argmax, bias_activation,
    bias_activation_in_place, embed, embed_in_place, log_softmax, log_softmax_in_place, naive, softmax,
    softmax_in_place, top_k,
};
use gristmill_simd::{Element, Level, bf16, f16};
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Layout, Matrix, Rng, Strided, assert_bits_eq, naive, strategy, sweep};
use proptest::prelude::*;

/// Rows and columns: rows of every length around the registers, the 64 lanes and the pieces.
fn shape() -> impl Strategy<Value = (usize, usize)> {
    let n = prop_oneof![4 => strategy::size(200), 2 => 0..=1100usize];
    (0..6usize, n)
}

fn input_and_output() -> impl Strategy<Value = (Matrix, Matrix)> {
    shape().prop_flat_map(|(rows, n)| (strategy::matrix(rows, n), strategy::output_matrix(rows, n)))
}

/// Values where softmax has something to do: far apart, equal, minus infinity.
fn spread(x: &mut Matrix, kind: u8, seed: u64) {
    let mut rng = Rng::new(seed);
    for address in x.addresses().collect::<Vec<_>>() {
        match kind {
            1 => x.data[address] *= 40.0,
            2 if rng.one_in(2) => x.data[address] = f32::NEG_INFINITY,
            3 => x.data[address] = f32::NEG_INFINITY,
            _ => {}
        }
    }
}

fn activation() -> impl Strategy<Value = Activation> {
    proptest::sample::select(Activation::ALL.to_vec())
}

fn options(level: Level, threads: Threads<'_>) -> RowOptions<'_> {
    RowOptions { threads, level: Some(level) }
}

fn softmax_options(level: Level, threads: Threads<'_>) -> SoftmaxOptions<'_> {
    SoftmaxOptions { threads, level: Some(level), ..SoftmaxOptions::default() }
}

/// Both members of the family, apart and in place, against naive.
fn check_softmax<X: Element, Y: Element>(x: &Matrix, y: &Matrix, options: &SoftmaxOptions<'_>) {
    let (x, y): (Strided<X, 2>, Strided<Y, 2>) = (x.to(), y.to());
    let level = options.level.unwrap();
    let context = |form: &str| format!("{form} {level} {} to {} {x:?}", X::NAME, Y::NAME);

    let (mut got, mut want) = (y.clone(), y.clone());
    softmax(x.mat(), got.mat_mut(), options).unwrap();
    naive!(level, naive::softmax(x.mat(), want.mat_mut(), options)).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context("softmax"));
    got.assert_gaps(context("softmax"));
    log_softmax(x.mat(), got.mat_mut(), options).unwrap();
    naive!(level, naive::log_softmax(x.mat(), want.mat_mut(), options)).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context("log_softmax"));
    got.assert_gaps(context("log_softmax"));

    let (mut got, mut want) = (y.clone(), y.clone());
    softmax_in_place(got.mat_mut(), options).unwrap();
    naive!(level, naive::softmax(y.mat(), want.mat_mut(), options)).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context("softmax in place"));
    got.assert_gaps(context("softmax in place"));
    let mut got = y.clone();
    log_softmax_in_place(got.mat_mut(), options).unwrap();
    naive!(level, naive::log_softmax(y.mat(), want.mat_mut(), options)).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context("log_softmax in place"));
    got.assert_gaps(context("log_softmax in place"));
}

/// The same in a mix of storage types.
fn check_softmax_of(mix: u8, x: &Matrix, y: &Matrix, options: &SoftmaxOptions<'_>) {
    match mix {
        0 => check_softmax::<f32, f32>(x, y, options),
        1 => check_softmax::<f16, f16>(x, y, options),
        2 => check_softmax::<bf16, bf16>(x, y, options),
        _ => check_softmax::<bf16, f32>(x, y, options),
    }
}

/// Apart and in place, against naive.
fn check_activation<X: Element, Y: Element>(
    (x, y): (&Matrix, &Matrix),
    bias: Option<&[f32]>,
    activation: Activation,
    options: &RowOptions<'_>,
) {
    let (x, y): (Strided<X, 2>, Strided<Y, 2>) = (x.to(), y.to());
    let level = options.level.unwrap();
    let context = |form: &str| format!("{activation:?}{form} {level} {} to {} {x:?}", X::NAME, Y::NAME);
    let (mut got, mut want) = (y.clone(), y.clone());
    bias_activation(x.mat(), bias, activation, got.mat_mut(), options).unwrap();
    naive!(level, naive::bias_activation(x.mat(), bias, activation, want.mat_mut())).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context(""));
    got.assert_gaps(context(""));

    let mut got = y.clone();
    bias_activation_in_place(got.mat_mut(), bias, activation, options).unwrap();
    naive!(level, naive::bias_activation(y.mat(), bias, activation, want.mat_mut())).unwrap();
    assert_bits_eq(&got.values(), &want.values(), context(" in place"));
    got.assert_gaps(context(" in place"));
}

/// Rows that are the queries of heads of sequences, and a mask for them.
fn masked() -> impl Strategy<Value = ([usize; 2], Matrix, Matrix, OwnedMask)> {
    let keys = prop_oneof![4 => strategy::size(140), 1 => 2000..2100usize];
    (1..3usize, 1..3usize, 0..4usize, keys).prop_flat_map(|(batch, heads, queries, keys)| {
        let rows = batch * heads * queries;
        let matrices = (strategy::matrix(rows, keys), strategy::output_matrix(rows, keys));
        (Just([batch, heads]), matrices, strategy::mask([batch, heads, queries, keys]))
            .prop_map(|(pairs, (x, y), mask)| (pairs, x, y, mask))
    })
}

/// Which loop a row takes depends on how far its lowest score lies below its highest, and on its length.
#[test]
fn rows_at_the_limits_of_the_loops_equal_naive() {
    fn check<T: Element>(lowest: T) {
        for n in [130, 2100] {
            let mut scores = (0..n).map(|j| if j == 77 { lowest } else { T::from_f32(-((j % 7) as f32)) });
            let x = Strided::new([1, n], &Layout::default(), T::default(), || scores.next().unwrap());
            sweep::levels(|level| {
                let options = softmax_options(level, Threads::Serial);
                let (mut got, mut want) = (x.clone(), x.clone());
                softmax(x.mat(), got.mat_mut(), &options).unwrap();
                naive!(level, naive::softmax(x.mat(), want.mat_mut(), &options)).unwrap();
                assert_bits_eq(&got.values(), &want.values(), format!("softmax {level} {lowest:?} {}", T::NAME));
                log_softmax(x.mat(), got.mat_mut(), &options).unwrap();
                naive!(level, naive::log_softmax(x.mat(), want.mat_mut(), &options)).unwrap();
                assert_bits_eq(&got.values(), &want.values(), format!("log_softmax {level} {lowest:?} {}", T::NAME));
            });
        }
    }
    fn around<T: Element>(limit: f32) {
        let bits = T::from_f32(limit).to_bits();
        [bits - 1, bits, bits + 1].map(T::from_bits).into_iter().for_each(check);
    }
    for limit in [-41.0, -87.0, -104.0] {
        around::<f32>(limit);
        around::<f16>(limit);
        around::<bf16>(limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn softmax_equals_naive((mut x, mut y) in input_and_output(), kind in 0..4u8, mix in 0..4u8, seed: u64) {
        spread(&mut x, kind, seed);
        spread(&mut y, kind, seed);
        sweep::levels_and_threads(|level, threads| check_softmax_of(mix, &x, &y, &softmax_options(level, threads)));
    }

    #[test]
    fn masked_softmax_equals_naive(
        ([batch, heads], x, y, mask) in masked(),
        scale in prop_oneof![Just(1.0f32), Just(0.125), -2.0..2.0f32],
        mix in 0..4u8,
    ) {
        sweep::levels_and_threads(|level, threads| {
            let options = SoftmaxOptions { scale, mask: mask.mask(), batch, heads, ..softmax_options(level, threads) };
            check_softmax_of(mix, &x, &y, &options);
        });
    }

    #[test]
    fn bias_activation_equals_naive(
        (x, y, bias) in shape().prop_flat_map(|(rows, n)| {
            let bias = proptest::option::of(strategy::vector(n));
            (strategy::matrix(rows, n), strategy::output_matrix(rows, n), bias)
        }),
        activation in activation(),
        mix in 0..3u8,
    ) {
        sweep::levels_and_threads(|level, threads| {
            let (bias, options) = (bias.as_deref(), options(level, threads));
            match mix {
                0 => check_activation::<f32, f32>((&x, &y), bias, activation, &options),
                1 => check_activation::<f16, f16>((&x, &y), bias, activation, &options),
                _ => check_activation::<f32, bf16>((&x, &y), bias, activation, &options),
            }
        });
    }

    #[test]
    fn top_k_equals_naive((mut x, _) in input_and_output(), kind in 0..4u8, seed: u64, distinct in 1..4usize, k: u16) {
        let [rows, n] = x.sizes;
        spread(&mut x, kind, seed);
        if distinct < 3 {
            for value in &mut x.data {
                *value = if *value < 0.0 { -0.0 } else { (distinct - 1) as f32 };
            }
        }
        let k = usize::from(k) % (n + 1).min(if seed % 4 == 0 { usize::MAX } else { 9 });
        let half: Strided<f16, 2> = x.to();
        let empty = Strided::<usize, 2>::new([rows, k], &Layout::default(), 9, || 7);
        let (mut want, mut want_half) = (empty.clone(), empty.clone());
        naive::top_k(x.mat(), want.mat_mut()).unwrap();
        naive::top_k(half.mat(), want_half.mat_mut()).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let (mut got, mut got_half) = (empty.clone(), empty.clone());
            top_k(x.mat(), got.mat_mut(), &options(level, threads)).unwrap();
            top_k(half.mat(), got_half.mat_mut(), &options(level, threads)).unwrap();
            assert_eq!((got.values(), got_half.values()), (want.values(), want_half.values()), "{level} {k} of {x:?}");
        });
    }

    #[test]
    fn argmax_equals_naive((mut x, _) in input_and_output(), kind in 0..4u8, seed: u64, levels in 1..4usize) {
        prop_assume!(x.sizes[1] > 0);
        spread(&mut x, kind, seed);
        if levels < 3 {
            // Few different values: many that are equal.
            for value in &mut x.data {
                *value = if *value < 0.0 { -0.0 } else { (levels - 1) as f32 };
            }
        }
        let mut want = vec![usize::MAX; x.sizes[0]];
        naive::argmax(x.mat(), &mut want).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let mut got = vec![usize::MAX; x.sizes[0]];
            argmax(x.mat(), &mut got, &options(level, threads)).unwrap();
            assert_eq!(got, want, "{level}");
            let half: Strided<bf16, 2> = x.to();
            naive::argmax(half.mat(), &mut got).unwrap();
            let mut got_half = vec![usize::MAX; x.sizes[0]];
            argmax(half.mat(), &mut got_half, &options(level, threads)).unwrap();
            assert_eq!(got_half, got, "{level}, bf16");
        });
    }

    #[test]
    fn embed_equals_naive(
        (table, y, ids, position_table, at) in (1..9usize, shape(), 1..9usize).prop_flat_map(
            |(vocabulary, (tokens, d), positions)| {
                let ids = proptest::collection::vec(0..vocabulary as u32, tokens);
                let at = proptest::collection::vec(0..positions as u32, tokens);
                let table = strategy::matrix(vocabulary, d);
                (table, strategy::output_matrix(tokens, d), ids, strategy::matrix(positions + tokens, d), at)
            }),
        scale in prop_oneof![Just(1.0f32), Just(512f32.sqrt()), -2.0..2.0f32],
        kind in 0..4u8,
    ) {
        let first = at.first().map_or(0, |&at| at as usize);
        let rows = [PositionRows::From(first), PositionRows::All(first), PositionRows::Each(&at)];
        let positions = rows.get(kind as usize).map(|&rows| Positions { table: position_table.mat(), rows });
        sweep::levels_and_threads(|level, threads| {
            let options = EmbedOptions { scale, positions, threads, level: Some(level) };
            let (mut got, mut want) = (y.clone(), y.clone());
            embed(table.mat(), &ids, got.mat_mut(), &options).unwrap();
            naive::embed(table.mat(), &ids, want.mat_mut(), &options).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);

            let mut in_place = y.clone();
            for (t, &id) in ids.iter().enumerate() {
                for j in 0..table.sizes[1] {
                    in_place.mat_mut().set(t, j, table.mat().at(id as usize, j));
                }
            }
            embed_in_place(in_place.mat_mut(), &options).unwrap();
            assert_bits_eq(&in_place.values(), &want.values(), format!("{level} in place"));
            in_place.assert_gaps(level);

            let (half, mut got, mut want) = (table.to::<f16>(), y.to::<bf16>(), y.to::<bf16>());
            embed(half.mat(), &ids, got.mat_mut(), &options).unwrap();
            naive::embed(half.mat(), &ids, want.mat_mut(), &options).unwrap();
            assert_bits_eq(&got.values(), &want.values(), format!("{level}, f16 to bf16"));
            got.assert_gaps(level);
        });
    }
}

/// Every length around the registers of all levels, the 64 lanes and the pieces, aligned and not.
#[test]
fn every_length() {
    for n in
        (1..=200).chain([255, 256, 257, 511, 512, 513, 575, 576, 577, 1023, 1024, 1025, 1537, 2047, 2048, 2049, 4160])
    {
        let fill = [Fill::Normal, Fill::Special, Fill::Scaled][n % 3];
        let layout = Layout { margin: n % 17, padding: [n % 5, 0], ..Layout::default() };
        let x = Matrix::filled([2, n], &layout, fill, n as u64);
        let bias = Fill::Normal.vec(1, n);
        sweep::levels(|level| {
            let y = Matrix::filled([2, n], &Layout::default(), Fill::Normal, 1);
            let options = options(level, Threads::Serial);
            check_softmax::<f32, f32>(&x, &y, &softmax_options(level, Threads::Serial));
            check_softmax::<f16, f16>(&x, &y, &softmax_options(level, Threads::Serial));
            check_softmax::<bf16, bf16>(&x, &y, &softmax_options(level, Threads::Serial));
            for activation in Activation::ALL {
                check_activation::<f32, f32>((&x, &y), Some(&bias), activation, &options);
                check_activation::<f16, f16>((&x, &y), Some(&bias), activation, &options);
            }
            let (mut got, mut want) = ([9; 2], [9; 2]);
            argmax(x.mat(), &mut got, &options).unwrap();
            naive::argmax(x.mat(), &mut want).unwrap();
            assert_eq!(got, want, "argmax {level} {x:?}");
        });
    }
}

/// Enough rows that three threads share them: masked, in every layout and type, apart and in place.
#[test]
fn rows_of_every_kind_are_divided_among_threads() {
    let ([batch, heads, queries, keys], rows) = ([2, 3, 120, 131], 720);
    let mut rng = Rng::new(1);
    let mask = OwnedMask {
        causal: Some(OwnedCausal::PerBatch(vec![11, 40])),
        key_lengths: Some(vec![131, 77]),
        keep: Some(Strided::new([1, heads, 1, keys], &Layout::default(), false, || rng.below(8) > 0)),
        bias: Some(Strided::filled([batch, 1, queries, keys], &Layout::default(), Fill::Normal, 2)),
    };
    let bias = Fill::Normal.vec(3, keys);
    let columns = Layout { order: [1, 0], padding: [0, 3], ..Layout::default() };
    let backwards = Layout { reversed: [true, false], padding: [5, 0], ..Layout::default() };
    let layouts = [(Layout::default(), columns.clone()), (columns, Layout::default()), (backwards, Layout::default())];
    for (kind, (input, output)) in (0..).zip(layouts) {
        let mut x = Matrix::filled([rows, keys], &input, Fill::Normal, 4);
        let y = Matrix::filled([rows, keys], &output, Fill::Normal, 5);
        spread(&mut x, kind, 6);
        let out = Strided::new([rows, 5], &output, 9, || 7);
        sweep::levels_and_threads(|level, threads| {
            for mix in 0..4 {
                let plain = softmax_options(level, threads);
                check_softmax_of(mix, &x, &y, &plain);
                let masked = SoftmaxOptions { scale: 0.125, mask: mask.mask(), batch, heads, ..plain };
                check_softmax_of(mix, &x, &y, &masked);
            }
            let options = options(level, threads);
            check_activation::<f32, f32>((&x, &y), Some(&bias), Activation::Relu, &options);
            check_activation::<f16, f16>((&x, &y), None, Activation::Gelu, &options);
            check_activation::<f32, bf16>((&x, &y), Some(&bias), Activation::Silu, &options);

            let x: Strided<bf16, 2> = x.to();
            let (mut got, mut want) = (out.clone(), out.clone());
            top_k(x.mat(), got.mat_mut(), &options).unwrap();
            naive::top_k(x.mat(), want.mat_mut()).unwrap();
            assert_eq!(got.data, want.data, "top_k {level} {threads:?}");
            let (mut got, mut want) = (vec![0; rows], vec![0; rows]);
            argmax(x.mat(), &mut got, &options).unwrap();
            naive::argmax(x.mat(), &mut want).unwrap();
            assert_eq!(got, want, "argmax {level} {threads:?}");
        });
    }
}

/// Enough rows that three threads share them.
#[test]
fn rows_are_divided_among_threads() {
    for (rows, n) in [(500, 333), (3, 70_000), (70_000, 3)] {
        let x: Vec<f32> = Fill::Normal.vec(1, rows * n);
        let x = MatRef::new(&x, rows, n).unwrap();
        let bias = Fill::Normal.vec(2, n);
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        sweep::levels_and_threads(|level, threads| {
            let options = options(level, threads);
            let context = format!("{level} {threads:?} {rows} x {n}");
            let (mut got, mut want) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            let scores = softmax_options(level, threads);
            softmax(x, MatMut::new(&mut got, rows, n).unwrap(), &scores).unwrap();
            naive!(level, naive::softmax(x, MatMut::new(&mut want, rows, n).unwrap(), &scores)).unwrap();
            assert_bits_eq(&got, &want, &context);

            let y = MatMut::new(&mut got, rows, n).unwrap();
            bias_activation(x, Some(&bias), Activation::Relu, y, &options).unwrap();
            let y = MatMut::new(&mut want, rows, n).unwrap();
            naive!(level, naive::bias_activation(x, Some(&bias), Activation::Relu, y)).unwrap();
            assert_bits_eq(&got, &want, &context);

            let positions = Some(Positions { table: x, rows: PositionRows::From(0) });
            let embed_options = EmbedOptions { scale: 2.0, positions, threads, level: Some(level) };
            embed(x, &ids, MatMut::new(&mut got, rows, n).unwrap(), &embed_options).unwrap();
            naive::embed(x, &ids, MatMut::new(&mut want, rows, n).unwrap(), &embed_options).unwrap();
            assert_bits_eq(&got, &want, &context);

            let (mut got, mut want) = (vec![0; rows], vec![0; rows]);
            argmax(x, &mut got, &options).unwrap();
            naive::argmax(x, &mut want).unwrap();
            assert_eq!(got, want, "{context}");
        });
    }
}
