//! What is promised about hidden keys, special values, batches and decoding.

use crate::common::{Case, Sizes};
use gristmill_core::{Threads, Workspace};
use gristmill_simd::f16;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, Rng, Strided, assert_bits_eq, sweep};

const SIZES: Sizes = Sizes { batch: 2, kv_heads: 2, group: 2, queries: 15, keys: 40, dim: 24, value_dim: 20 };

/// Sets every value of key `j` in sequence `b`, in both keys and values.
fn spoil(case: &mut Case, b: usize, j: usize, value: f32) {
    for heads in [&mut case.k, &mut case.v] {
        let [_, seq, h, d] = heads.sizes;
        let row = h * d;
        heads.data[(b * seq + j) * row..][..row].fill(value);
    }
}

/// A boolean mask from what each query of sequence `b` and head `h` sees.
fn keep(sizes: [usize; 4], see: impl Fn([usize; 4]) -> bool) -> Strided<bool, 4> {
    let mut n = 0;
    Strided::new(sizes, &Layout::default(), false, || {
        let [_, h, i, j] = sizes;
        let index = [n / (h * i * j), n / (i * j) % h, n / j % i, n % j];
        n += 1;
        see(index)
    })
}

/// Masks that hide keys 5, 17 and 30 and those from 33 on in sequence 1, and nothing else there.
fn masks_that_hide() -> Vec<OwnedMask> {
    let hidden = |j: usize| [5, 17, 30].contains(&j);
    let seen = |[b, _, _, j]: [usize; 4]| b == 0 || !hidden(j);
    let whole = keep([2, 4, 15, 40], |index| seen(index) && (index[0] == 0 || index[3] < 33));
    let minus_infinity = |keep: &Strided<bool, 4>| {
        let mut values = keep.values().into_iter().map(|keep| if keep { 0.25 } else { f32::NEG_INFINITY });
        Strided::new(keep.sizes, &Layout::default(), 0.0, || values.next().unwrap())
    };
    let lengths = Some(vec![40, 33]);
    let per_key = keep([2, 1, 1, 40], seen);
    vec![
        OwnedMask { bias: Some(minus_infinity(&whole)), ..OwnedMask::default() },
        OwnedMask { keep: Some(whole), ..OwnedMask::default() },
        OwnedMask { keep: Some(per_key.clone()), key_lengths: lengths.clone(), ..OwnedMask::default() },
        OwnedMask { bias: Some(minus_infinity(&per_key)), key_lengths: lengths, ..OwnedMask::default() },
    ]
}

#[test]
fn hidden_keys_change_nothing() {
    for mask in masks_that_hide() {
        let clean = Case { mask, ..Case::normal(SIZES, 1) };
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38] {
            let mut case = clean.clone();
            [5, 17, 30].into_iter().chain(33..40).for_each(|j| spoil(&mut case, 1, j, value));
            case.assert_exact();
            sweep::levels_and_threads(|level, threads| {
                let context = format!("{level}, {value}: {:?}", case.mask);
                assert_bits_eq(&case.run(level, threads), &clean.run(level, threads), context);
            });
        }
    }
}

/// Together more than the second-level cache holds: each head asks for the operands of the next one, and the last one of
/// nothing.
#[test]
fn many_short_heads_are_exact() {
    for (batch, queries) in [(96, 27), (56, 64)] {
        let case = Case::normal(Sizes { batch, kv_heads: 1, group: 1, queries, keys: 33, dim: 64, value_dim: 64 }, 4);
        case.assert_exact();
        case.assert_exact_as::<f16, f32, f32>();
        case.assert_exact_as::<f32, f16, f32>();
    }
}

#[test]
fn later_keys_change_nothing_under_a_causal_mask() {
    // Query i sees keys up to i + 25: row by row inside a tile, what is hidden from one row is seen by the next.
    let mask = OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() };
    let clean = Case { mask, ..Case::normal(SIZES, 2) };
    for first in [26, 30, 33, 39] {
        for value in [f32::NAN, f32::INFINITY, 1e38] {
            let mut case = clean.clone();
            (first..40).for_each(|j| spoil(&mut case, 1, j, value));
            case.assert_exact();
            sweep::levels_and_threads(|level, threads| {
                let (got, want) = (case.run(level, threads), clean.run(level, threads));
                let rows = SIZES.heads() * SIZES.value_dim;
                let unharmed = (SIZES.queries + first - 25) * rows;
                assert_bits_eq(&got[..unharmed], &want[..unharmed], format!("{level}, {value} from {first}"));
            });
        }
    }
}

#[test]
fn an_attended_nan_reaches_exactly_its_rows() {
    let mask = OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() };
    for (in_keys, at) in [(true, 31), (false, 31), (true, 25), (false, 39)] {
        let mut case = Case { mask: mask.clone(), ..Case::normal(SIZES, 3) };
        let clean = case.clone();
        // Value 7 of key `at` in sequence 0, key/value head 1: query heads 2 and 3.
        let heads = if in_keys { &mut case.k } else { &mut case.v };
        let width = heads.sizes[3];
        heads.data[(at * SIZES.kv_heads + 1) * width + 7] = f32::NAN;
        case.assert_exact();
        sweep::levels_and_threads(|level, threads| {
            let (got, want) = (case.run(level, threads), clean.run(level, threads));
            for (n, (got, want)) in got.into_iter().zip(want).enumerate() {
                let (d, h) = (n % 20, n / 20 % 4);
                let (i, b) = (n / 80 % 15, n / 80 / 15);
                let reached = b == 0 && h >= 2 && i + 25 >= at && (in_keys || d == 7);
                assert_eq!(got.is_nan(), reached, "{level}: key {at}, b {b}, h {h}, i {i}, d {d}");
                assert!(reached || got.to_bits() == want.to_bits(), "{level}: key {at}, b {b}, h {h}, i {i}, d {d}");
            }
        });
    }
}

#[test]
fn a_row_without_visible_keys_is_zeros() {
    let causal = |offset| OwnedMask { causal: Some(OwnedCausal::Offset(offset)), ..OwnedMask::default() };
    let none = OwnedMask { keep: Some(keep([2, 4, 15, 40], |[_, _, i, _]| i != 3 && i < 12)), ..OwnedMask::default() };
    let lengths = OwnedMask { key_lengths: Some(vec![0, 40]), ..OwnedMask::default() };
    type IsZero = fn(usize, usize) -> bool;
    let zero_rows: [(OwnedMask, IsZero); 4] = [
        (causal(-4), |_, i| i < 4),
        (causal(-100), |_, _| true),
        (none, |_, i| i == 3 || i >= 12),
        (lengths, |b, _| b == 0),
    ];
    for (mask, is_zero) in zero_rows {
        let mut case = Case { mask, ..Case::normal(SIZES, 4) };
        case.assert_exact();
        // Nor does it matter what the hidden keys hold.
        case.v.data.fill(f32::NAN);
        case.assert_exact();
        sweep::levels_and_threads(|level, threads| {
            for (n, value) in case.run(level, threads).into_iter().enumerate() {
                let (i, b) = (n / 80 % 15, n / 80 / 15);
                let zero = value.to_bits() == 0;
                assert_eq!(zero, is_zero(b, i), "{level}: b {b}, i {i}: {value} under {:?}", case.mask);
            }
        });
    }
}

#[test]
fn extreme_scores_give_no_spurious_nan() {
    let fills: [fn(&mut Rng) -> f32; 4] =
        [|rng| if rng.one_in(2) { 1e15 } else { -1e15 }, |_| 0.0, |_| 1e15, |rng| rng.normal() * 1e15];
    for (n, fill) in fills.into_iter().enumerate() {
        let mut case = Case { scale: Some(1.0), ..Case::normal(SIZES, 5) };
        let mut rng = Rng::new(n as u64);
        case.q.data.fill_with(|| fill(&mut rng));
        case.k.data.fill_with(|| fill(&mut rng));
        case.assert_exact();
        sweep::levels_and_threads(|level, threads| {
            assert!(case.run(level, threads).iter().all(|x| x.is_finite()), "{level}: fill {n}");
        });
    }
}

#[test]
fn scores_of_minus_infinity_and_nan() {
    // One query value of one times a key value makes the score; every mixture of -inf, NaN, +inf and numbers.
    let values = [f32::NEG_INFINITY, f32::NAN, f32::INFINITY, 1.0];
    for n in 0..16 {
        let chosen: Vec<f32> =
            values.into_iter().enumerate().filter(|(i, _)| n >> i & 1 == 1).map(|(_, x)| x).collect();
        let mut case = Case { scale: Some(1.0), ..Case::normal(Sizes::single(4, 37, 1), 6) };
        case.q.data.fill(1.0);
        case.k.data.iter_mut().enumerate().for_each(|(j, x)| *x = *chosen.get(j % 5).unwrap_or(&f32::NEG_INFINITY));
        case.assert_exact();
        let (has_nan, counts) = (n & 2 != 0 || n & 4 != 0, n & 8 != 0);
        sweep::levels_and_threads(|level, threads| {
            for x in case.run(level, threads) {
                assert_eq!((x.is_nan(), x == 0.0), (has_nan, !has_nan && !counts), "{level}: {chosen:?} gave {x}");
            }
        });
    }
}

#[test]
fn one_row_of_few_keys_may_be_special() {
    // Scores of minus infinity, NaN, and quotients that are not divided the short way, wherever the row is.
    for keys in [7, 32, 33] {
        for (row, special) in (0..37).flat_map(|row| [f32::NEG_INFINITY, f32::NAN, 1e4].map(|x| (row, x))) {
            let mut case = Case { scale: Some(1.0), ..Case::normal(Sizes::single(37, keys, 1), 9) };
            case.q.data.fill(1.0);
            case.q.data[row] = special;
            case.k.data.iter_mut().enumerate().for_each(|(j, x)| *x = 1.0 + j as f32);
            case.v.data[keys - 1] = 1e-30;
            case.assert_exact();
        }
    }
}

#[test]
fn a_sum_of_minus_zero_gives_zero() {
    // The first product underflows to -0, the second is -0: the chain ends at -0, and the output starts at +0.
    for keys in [2, 600] {
        let mut case = Case { scale: Some(1.0), ..Case::normal(Sizes::single(2, keys, 1), 7) };
        case.q.data.fill(1.0);
        case.k.data.fill(0.0);
        case.k.data[0] = -60.0;
        case.v.data.fill(-0.0);
        case.v.data[0] = -1e-30;
        case.assert_exact();
        sweep::levels_and_threads(|level, threads| {
            assert_bits_eq(&case.run(level, threads), &[0.0; 2], format!("{level}, {keys} keys"));
        });
    }
}

#[test]
fn one_row_at_a_time_equals_one_pass() {
    let sizes = Sizes { batch: 1, kv_heads: 2, group: 2, queries: 70, keys: 70, dim: 32, value_dim: 32 };
    let mask = OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() };
    let whole = Case { mask: mask.clone(), ..Case::normal(sizes, 8) };
    sweep::levels_and_threads(|level, threads| {
        let want = whole.run(level, threads);
        let row = sizes.heads() * sizes.dim;
        for step in [1, 3] {
            for i in (0..sizes.queries).step_by(step) {
                let end = (i + step).min(sizes.queries);
                // A cache of all 70 keys, of which the first `end` are filled.
                let sizes = Sizes { queries: end - i, ..sizes };
                let mut cached = Case {
                    mask: OwnedMask {
                        causal: Some(OwnedCausal::Offset(i as isize)),
                        key_lengths: Some(vec![end]),
                        ..OwnedMask::default()
                    },
                    ..Case::normal(sizes, 8)
                };
                cached.q.data = whole.q.data[i * row..end * row].to_vec();
                cached.k.data = whole.k.data.clone();
                cached.v.data = whole.v.data.clone();
                (end..70).for_each(|j| spoil(&mut cached, 0, j, f32::NAN));
                let context = format!("{level}: rows {i}..{end}");
                assert_bits_eq(&cached.run(level, threads), &want[i * row..end * row], context);
            }
        }
    });
}

#[test]
fn a_sequence_alone_equals_the_same_in_a_batch() {
    let sizes = Sizes { batch: 3, kv_heads: 2, group: 1, queries: 20, keys: 30, dim: 16, value_dim: 16 };
    let lengths = [30, 11, 19];
    let mut batch = Case::normal(sizes, 9);
    batch.mask.key_lengths = Some(lengths.to_vec());
    sweep::levels_and_threads(|level, threads| {
        let together = batch.run(level, threads);
        for (b, length) in lengths.into_iter().enumerate() {
            let sizes = Sizes { batch: 1, keys: length, ..sizes };
            let mut alone = Case::normal(sizes, 9);
            let part = |heads: &Heads, len: usize| {
                let all = heads.sizes[1] * heads.sizes[2] * heads.sizes[3];
                heads.data[b * all..][..len].to_vec()
            };
            alone.q.data = part(&batch.q, alone.q.data.len());
            alone.k.data = part(&batch.k, alone.k.data.len());
            alone.v.data = part(&batch.v, alone.v.data.len());
            let rows = 20 * 2 * 16;
            assert_bits_eq(&alone.run(level, threads), &together[b * rows..][..rows], format!("{level}: {b}"));
        }
    });
}

#[test]
fn a_used_workspace_gives_the_same_bits_and_does_not_grow() {
    sweep::levels(|level| {
        let mut workspace = Workspace::new();
        let big = Case::normal(Sizes::single(60, 90, 64), 10);
        big.call(&mut big.out.clone(), level, Threads::Serial, &mut workspace).unwrap();
        let bytes = workspace.bytes();
        for case in [Case::normal(SIZES, 11), Case::normal(Sizes::single(1, 30, 64), 12)] {
            // Whatever scratch memory holds must not matter.
            let floats = workspace.f32s(bytes / 4).unwrap();
            floats.fill(f32::NAN);
            let mut out = case.out.clone();
            case.call(&mut out, level, Threads::Serial, &mut workspace).unwrap();
            assert_bits_eq(&out.values(), &case.run(level, Threads::Serial), level);
        }
        assert_eq!(workspace.bytes(), bytes);
        // Scratch memory does not depend on the number of queries.
        let many = Case::normal(Sizes::single(600, 90, 64), 10);
        many.call(&mut many.out.clone(), level, Threads::Serial, &mut workspace).unwrap();
        assert_eq!(workspace.bytes(), bytes);
    });
}

#[test]
fn scratch_memory_keeps_to_its_bound() {
    for [queries, keys, dim, value_dim] in
        [[1, 1, 1, 1], [1, 300, 64, 64], [40, 33, 80, 7], [300, 129, 33, 130], [60, 6000, 128, 128], [700, 65, 16, 16]]
    {
        let case = Case::normal(Sizes { value_dim, ..Sizes::single(queries, keys, dim) }, 14);
        sweep::levels(|level| {
            let mut workspace = Workspace::new();
            case.call(&mut case.out.clone(), level, Threads::Serial, &mut workspace).unwrap();
            let padded = value_dim.next_multiple_of(16);
            let bound = (keys + 80) * (dim + padded + 48) + 48 * padded;
            assert!(workspace.bytes() <= 4 * bound, "{level}: {} bytes of {case:?}", workspace.bytes());
        });
    }
}

#[test]
fn inputs_with_repeated_rows() {
    // Strides of zero: every position is the same row.
    let layout = Layout { repeated: [false, true, false, false], ..Layout::default() };
    let repeated = |sizes, seed| Heads::filled(sizes, &layout, Fill::Normal, seed);
    let case = Case { k: repeated(SIZES.k(), 1), v: repeated(SIZES.v(), 2), ..Case::normal(SIZES, 13) };
    case.assert_exact();
}
