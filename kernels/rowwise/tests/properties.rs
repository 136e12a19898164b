//! The tuned kernels against `naive`, in bits, over everything that a call can vary.

use gristmill_core::{Activation, MatMut, MatRef, Threads};
use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, argmax, bias_activation, bias_activation_in_place, embed,
    embed_in_place, log_softmax, log_softmax_in_place, naive, softmax, softmax_in_place,
};
use gristmill_simd::Level;
use gristmill_testkit::{Fill, Layout, Matrix, Rng, assert_bits_eq, naive, strategy, sweep};
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn softmax_equals_naive((mut x, y) in input_and_output(), kind in 0..4u8, seed: u64) {
        spread(&mut x, kind, seed);
        sweep::levels_and_threads(|level, threads| {
            let (mut got, mut want) = (y.clone(), y.clone());
            softmax(x.mat(), got.mat_mut(), &options(level, threads)).unwrap();
            naive!(level, naive::softmax(x.mat(), want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn softmax_in_place_equals_naive((_, mut x) in input_and_output(), kind in 0..4u8, seed: u64) {
        spread(&mut x, kind, seed);
        sweep::levels_and_threads(|level, threads| {
            let (mut got, mut want) = (x.clone(), x.clone());
            softmax_in_place(got.mat_mut(), &options(level, threads)).unwrap();
            naive!(level, naive::softmax(x.mat(), want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn log_softmax_equals_naive((mut x, y) in input_and_output(), kind in 0..4u8, seed: u64) {
        spread(&mut x, kind, seed);
        sweep::levels_and_threads(|level, threads| {
            let options = options(level, threads);
            let (mut got, mut want) = (y.clone(), y.clone());
            log_softmax(x.mat(), got.mat_mut(), &options).unwrap();
            naive!(level, naive::log_softmax(x.mat(), want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn log_softmax_in_place_equals_naive((_, mut x) in input_and_output(), kind in 0..4u8, seed: u64) {
        spread(&mut x, kind, seed);
        sweep::levels_and_threads(|level, threads| {
            let (mut got, mut want) = (x.clone(), x.clone());
            log_softmax_in_place(got.mat_mut(), &options(level, threads)).unwrap();
            naive!(level, naive::log_softmax(x.mat(), want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), level);
            got.assert_gaps(level);
        });
    }

    #[test]
    fn bias_activation_equals_naive(
        (x, y, bias) in shape().prop_flat_map(|(rows, n)| {
            let bias = proptest::option::of(strategy::vector(n));
            (strategy::matrix(rows, n), strategy::output_matrix(rows, n), bias)
        }),
        activation in activation(),
    ) {
        sweep::levels_and_threads(|level, threads| {
            let (bias, options) = (bias.as_deref(), options(level, threads));
            let (mut got, mut want) = (y.clone(), y.clone());
            bias_activation(x.mat(), bias, activation, got.mat_mut(), &options).unwrap();
            naive!(level, naive::bias_activation(x.mat(), bias, activation, want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), format!("{level} {activation:?}"));
            got.assert_gaps(level);

            let mut got = y.clone();
            bias_activation_in_place(got.mat_mut(), bias, activation, &options).unwrap();
            naive!(level, naive::bias_activation(y.mat(), bias, activation, want.mat_mut())).unwrap();
            assert_bits_eq(&got.values(), &want.values(), format!("{level} {activation:?} in place"));
            got.assert_gaps(level);
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
        });
    }
}

/// Every length around the registers of all levels, the 64 lanes and the pieces, aligned and not.
#[test]
fn every_length() {
    for n in (1..=200).chain([255, 256, 257, 511, 512, 513, 575, 576, 577, 1023, 1024, 1025, 1537]) {
        let fill = [Fill::Normal, Fill::Special, Fill::Scaled][n % 3];
        let layout = Layout { margin: n % 17, padding: [n % 5, 0], ..Layout::default() };
        let x = Matrix::filled([2, n], &layout, fill, n as u64);
        let bias = Fill::Normal.vec(1, n);
        sweep::levels(|level| {
            let options = options(level, Threads::Serial);
            let (mut got, mut want) = (vec![7.0; 2 * n], vec![7.0; 2 * n]);
            softmax(x.mat(), MatMut::new(&mut got, 2, n).unwrap(), &options).unwrap();
            naive!(level, naive::softmax(x.mat(), MatMut::new(&mut want, 2, n).unwrap())).unwrap();
            assert_bits_eq(&got, &want, format!("softmax {level} {x:?}"));
            for activation in Activation::ALL {
                let y = MatMut::new(&mut got, 2, n).unwrap();
                bias_activation(x.mat(), Some(&bias), activation, y, &options).unwrap();
                let y = MatMut::new(&mut want, 2, n).unwrap();
                naive!(level, naive::bias_activation(x.mat(), Some(&bias), activation, y)).unwrap();
                assert_bits_eq(&got, &want, format!("{activation:?} {level} {x:?}"));
            }
            let (mut got, mut want) = ([9; 2], [9; 2]);
            argmax(x.mat(), &mut got, &options).unwrap();
            naive::argmax(x.mat(), &mut want).unwrap();
            assert_eq!(got, want, "argmax {level} {x:?}");
        });
    }
}

/// Enough rows that three threads share them.
#[test]
fn rows_are_divided_among_threads() {
    for (rows, n) in [(500, 333), (3, 70_000), (70_000, 3)] {
        let x = Fill::Normal.vec(1, rows * n);
        let x = MatRef::new(&x, rows, n).unwrap();
        let bias = Fill::Normal.vec(2, n);
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        sweep::levels_and_threads(|level, threads| {
            let options = options(level, threads);
            let context = format!("{level} {threads:?} {rows} x {n}");
            let (mut got, mut want) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            softmax(x, MatMut::new(&mut got, rows, n).unwrap(), &options).unwrap();
            naive!(level, naive::softmax(x, MatMut::new(&mut want, rows, n).unwrap())).unwrap();
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
