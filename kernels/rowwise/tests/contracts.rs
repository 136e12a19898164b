//! What the documentation promises beyond bits: errors, special values, memory, accuracy.

use gristmill_core::{Activation, Error, Mask, MatMut, MatRef, ScoresRef, Threads};
use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, SoftmaxOptions, argmax, bias_activation,
    bias_activation_in_place, embed, embed_in_place, log_softmax, log_softmax_in_place, naive, sinusoidal_positions,
    softmax, softmax_in_place, top_k,
};
use gristmill_simd::{Element, Level, LevelError, bf16, f16};
use gristmill_testkit::{Fill, Matrix, assert_bits_eq, fill, pin, sweep};

fn matrix(rows: usize, cols: usize, seed: u64) -> Matrix {
    Matrix::filled([rows, cols], &Default::default(), Fill::Normal, seed)
}

fn options(level: Level) -> RowOptions<'static> {
    RowOptions { threads: Threads::Serial, level: Some(level) }
}

fn softmax_options(level: Level) -> SoftmaxOptions<'static> {
    SoftmaxOptions { threads: Threads::Serial, level: Some(level), ..SoftmaxOptions::default() }
}

fn mismatch(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    Err(Error::ShapeMismatch { what, expected, found })
}

#[test]
fn mistakes_are_typed_and_touch_nothing() {
    let (x, mut y) = (matrix(3, 5, 1), matrix(3, 5, 2));
    let before = y.clone();
    let (good, plain) = (RowOptions::default(), SoftmaxOptions::default());
    for (rows, cols, what, expected) in [(2, 5, "rows of y", 3), (3, 6, "columns of y", 5)] {
        let mut other = matrix(rows, cols, 3);
        let (before, found) = (other.clone(), if rows == 3 { cols } else { rows });
        let expected = mismatch(what, expected, found);
        assert_eq!(softmax(x.mat(), other.mat_mut(), &plain), expected);
        assert_eq!(log_softmax(x.mat(), other.mat_mut(), &plain), expected);
        assert_eq!(bias_activation(x.mat(), None, Activation::Relu, other.mat_mut(), &good), expected);
        assert_eq!(embed(x.mat(), &[0, 1, 2], other.mat_mut(), &EmbedOptions::default()), expected);
        other.assert_untouched(&before, what);
    }
    let short = [1.0; 4];
    let expected = mismatch("length of bias", 5, 4);
    assert_eq!(bias_activation(x.mat(), Some(&short), Activation::Gelu, y.mat_mut(), &good), expected);
    assert_eq!(bias_activation_in_place(y.mat_mut(), Some(&short), Activation::Gelu, &good), expected);

    let mut best = [7; 4];
    assert_eq!(argmax(x.mat(), &mut best, &good), mismatch("length of out", 3, 4));
    assert_eq!(top_k(x.mat(), MatMut::new(&mut best, 4, 1).unwrap(), &good), mismatch("rows of out", 3, 4));
    let (one, beyond) = (MatRef::new(&[1.0f32], 1, 1).unwrap(), Error::RangeOutOfBounds { start: 0, end: 4, len: 1 });
    assert_eq!(top_k(one, MatMut::new(&mut best, 1, 4).unwrap(), &good), Err(beyond));
    let empty = MatRef::<f32>::new(&[], 4, 0).unwrap();
    assert_eq!(argmax(empty, &mut best, &good), Err(Error::Empty { what: "columns of x" }));
    assert_eq!(best, [7; 4]);

    y.assert_untouched(&before, "mistakes");
}

/// Every entry refuses the level, and every output is untouched.
fn refused(level: Option<Level>, error: LevelError) {
    let (x, mut y, mut best) = (matrix(3, 5, 1), matrix(3, 5, 2), [7; 3]);
    let (before, error) = (y.clone(), Err(Error::from(error)));
    let (rows, scores) = (RowOptions { level, ..Default::default() }, SoftmaxOptions { level, ..Default::default() });
    let tokens = EmbedOptions { level, ..Default::default() };
    assert_eq!(softmax(x.mat(), y.mat_mut(), &scores), error);
    assert_eq!(softmax_in_place(y.mat_mut(), &scores), error);
    assert_eq!(log_softmax(x.mat(), y.mat_mut(), &scores), error);
    assert_eq!(log_softmax_in_place(y.mat_mut(), &scores), error);
    assert_eq!(bias_activation(x.mat(), None, Activation::Relu, y.mat_mut(), &rows), error);
    assert_eq!(bias_activation_in_place(y.mat_mut(), None, Activation::Relu, &rows), error);
    assert_eq!(argmax(x.mat(), &mut best, &rows), error);
    assert_eq!(top_k(x.mat(), MatMut::new(&mut best, 3, 1).unwrap(), &rows), error);
    assert_eq!(embed(x.mat(), &[0, 1, 2], y.mat_mut(), &tokens), error);
    assert_eq!(embed_in_place(y.mat_mut(), &tokens), error);
    y.assert_untouched(&before, "levels");
    assert_eq!(best, [7; 3]);
}

#[test]
fn levels_that_are_not_there_are_refused() {
    for level in Level::ALL.into_iter().filter(|level| !level.is_available()) {
        refused(Some(level), LevelError::Unsupported(level));
    }
    pin::misspelt("levels_that_are_not_there_are_refused", || {
        refused(None, LevelError::Unknown(pin::MISSPELT.into()));
    });
}

/// The mask must fit the rows as queries of heads of sequences.
#[test]
fn masks_that_do_not_fit_are_refused() {
    let (mut x, before) = (matrix(6, 5, 1), matrix(6, 5, 1));
    let base = SoftmaxOptions { batch: 3, heads: 2, ..SoftmaxOptions::default() };
    let what = "rows of x, as batch times heads times queries";
    let mut check = |options: SoftmaxOptions<'_>, error: Result<(), Error>| {
        assert_eq!(softmax_in_place(x.mat_mut(), &options), error);
        assert_eq!(log_softmax_in_place(x.mat_mut(), &options), error);
        assert_eq!(naive::softmax::<true>(before.mat(), matrix(6, 5, 2).mat_mut(), &options), error);
    };
    check(SoftmaxOptions { batch: 4, heads: 1, ..base }, mismatch(what, 4, 6));
    check(SoftmaxOptions { batch: 0, ..base }, mismatch(what, 0, 6));
    check(SoftmaxOptions { batch: usize::MAX, ..base }, Err(Error::SizeOverflow { what: "heads of the mask" }));
    let lengths = |lengths| Mask { key_lengths: Some(lengths), ..Mask::default() };
    check(SoftmaxOptions { mask: lengths(&[1, 2]), ..base }, mismatch("key lengths", 3, 2));
    let long = Error::KeyLength { batch: 1, length: 6, keys: 5 };
    check(SoftmaxOptions { mask: lengths(&[1, 6, 0]), ..base }, Err(long));
    let bias = ScoresRef::new(&[0.0; 10], [1, 1, 2, 5]).unwrap();
    let mask = Mask { bias: Some(bias), ..Mask::default() };
    check(SoftmaxOptions { mask, ..base }, mismatch("queries of bias", 1, 2));
    x.assert_untouched(&before, "masks");
}

#[test]
fn ids_and_positions_outside_are_refused() {
    let (table, positions, mut y) = (matrix(4, 5, 1), matrix(6, 5, 2), matrix(3, 5, 3));
    let before = y.clone();
    let at =
        |rows| EmbedOptions { positions: Some(Positions { table: positions.mat(), rows }), ..EmbedOptions::default() };
    let mut check = |ids: &[u32], options: &EmbedOptions<'_>, error: Error| {
        assert_eq!(embed(table.mat(), ids, y.mat_mut(), options), Err(error));
    };
    check(&[0, 4, 1], &EmbedOptions::default(), Error::IdOutOfRange { index: 1, id: 4, rows: 4 });
    check(&[0, 1, u32::MAX], &EmbedOptions::default(), Error::IdOutOfRange { index: 2, id: u32::MAX, rows: 4 });
    let beyond = |start, end| Error::RangeOutOfBounds { start, end, len: 6 };
    check(&[0, 1, 2], &at(PositionRows::From(4)), beyond(4, 7));
    check(&[0, 1, 2], &at(PositionRows::From(usize::MAX)), beyond(usize::MAX, usize::MAX));
    check(&[0, 1, 2], &at(PositionRows::All(6)), beyond(6, 7));
    check(&[0, 1, 2], &at(PositionRows::Each(&[0, 1, 6])), Error::IdOutOfRange { index: 2, id: 6, rows: 6 });
    let length = mismatch("length of the position rows", 3, 2).unwrap_err();
    check(&[0, 1, 2], &at(PositionRows::Each(&[0, 1])), length);
    let narrow = matrix(6, 4, 4);
    let narrow = Positions { table: narrow.mat(), rows: PositionRows::From(0) };
    let narrow = EmbedOptions { positions: Some(narrow), ..EmbedOptions::default() };
    check(&[0, 1, 2], &narrow, mismatch("columns of the positions", 5, 4).unwrap_err());
    assert_eq!(embed_in_place(y.mat_mut(), &at(PositionRows::From(4))), Err(beyond(4, 7)));
    y.assert_untouched(&before, "mistakes");
    assert_eq!(embed_in_place(y.mat_mut(), &at(PositionRows::From(3))), Ok(()));
}

#[test]
fn empty_matrices_are_legal() {
    let (good, plain) = (RowOptions::default(), SoftmaxOptions::default());
    for (rows, n) in [(0, 0), (0, 5), (4, 0), (usize::MAX, 0)] {
        let x = MatRef::<f32>::new(&[], rows, n).unwrap();
        let y = || MatMut::<f32>::new(&mut [], rows, n).unwrap();
        assert_eq!(softmax(x, y(), &plain), Ok(()));
        assert_eq!(log_softmax_in_place(y(), &plain), Ok(()));
        assert_eq!(naive::softmax::<true>(x, y(), &plain), Ok(()));
        assert_eq!(naive::log_softmax::<true>(x, y(), &plain), Ok(()));
        assert_eq!(bias_activation(x, None, Activation::Silu, y(), &good), Ok(()));
        assert_eq!(naive::bias_activation::<true>(x, None, Activation::Silu, y()), Ok(()));
    }
    assert_eq!(argmax(MatRef::<f32>::new(&[], 0, 0).unwrap(), &mut [], &good), Ok(()));
    let nothing = MatRef::<f32>::new(&[], 0, 3).unwrap();
    for (rows, n) in [(0, 0), (0, 2), (3, 0), (3, 2)] {
        let x = MatRef::new(&[1.0f32; 6], rows, n).unwrap();
        let out = || MatMut::new(&mut [], rows, 0).unwrap();
        assert_eq!((top_k(x, out(), &good), naive::top_k(x, out())), (Ok(()), Ok(())));
    }
    let positions = Some(Positions { table: nothing, rows: PositionRows::All(9) });
    let options = EmbedOptions { positions, ..Default::default() };
    assert_eq!(embed(nothing, &[], MatMut::<f32>::new(&mut [], 0, 3).unwrap(), &options), Ok(()));
}

/// Reads and writes stop at the edges of the slices.
#[cfg(unix)]
#[test]
fn nothing_outside_is_touched() {
    for n in (1..=130).chain([511, 513, 1025, 2049]) {
        nothing_outside::<f32>(n);
    }
    for n in (1..=70).chain([127, 129, 513, 2049]) {
        nothing_outside::<f16>(n);
        nothing_outside::<bf16>(n);
    }
}

#[cfg(unix)]
fn nothing_outside<T: Element>(n: usize) {
    use gristmill_testkit::guard::Guarded;
    let values = fill::normal(n as u64, 2 * n);
    let narrow: Vec<T> = values.iter().map(|&x| T::from_f32(x)).collect();
    let keep = vec![true; n];
    for end in [true, false] {
        let guarded = |x: &[T]| if end { Guarded::flush_end(x) } else { Guarded::flush_start(x) };
        let guarded_f32 = |x: &[f32]| if end { Guarded::flush_end(x) } else { Guarded::flush_start(x) };
        let keep = if end { Guarded::flush_end(&keep) } else { Guarded::flush_start(&keep) };
        let (x, mut y, bias) = (guarded(&narrow), guarded(&narrow), guarded_f32(&values[..n]));
        sweep::levels(|level| {
            let (options, plain) = (options(level), softmax_options(level));
            let x = MatRef::new(&x, 2, n).unwrap();
            softmax(x, MatMut::new(&mut y, 2, n).unwrap(), &plain).unwrap();
            softmax_in_place(MatMut::new(&mut y, 2, n).unwrap(), &plain).unwrap();
            log_softmax(x, MatMut::new(&mut y, 2, n).unwrap(), &plain).unwrap();
            let keep = ScoresRef::new(&keep, [1, 1, 1, n]).unwrap();
            let add = ScoresRef::new(&bias, [1, 1, 1, n]).unwrap();
            let mask = Mask { keep: Some(keep), bias: Some(add), ..Mask::default() };
            softmax(x, MatMut::new(&mut y, 2, n).unwrap(), &SoftmaxOptions { mask, ..plain }).unwrap();
            let columns = MatMut::new(&mut y, n, 2).unwrap().transposed();
            softmax(x, columns, &plain).unwrap();
            for activation in Activation::ALL {
                let y_view = MatMut::new(&mut y, 2, n).unwrap();
                bias_activation(x, Some(&bias), activation, y_view, &options).unwrap();
                let y_view = MatMut::new(&mut y, 2, n).unwrap();
                bias_activation_in_place(y_view, None, activation, &options).unwrap();
            }
            argmax(x, &mut [0; 2], &options).unwrap();
            top_k(x, MatMut::new(&mut [0; 2], 2, 1).unwrap(), &options).unwrap();
            let table = MatRef::new(&bias, 1, n).unwrap();
            let positions = Some(Positions { table, rows: PositionRows::All(0) });
            let options = EmbedOptions { positions, level: Some(level), ..Default::default() };
            embed(x, &[1, 0], MatMut::new(&mut y, 2, n).unwrap(), &options).unwrap();
        });
    }
}

#[test]
fn softmax_of_special_rows() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let check = |row: &[f32], want: &[f32]| {
        sweep::levels(|level| {
            let mut y = vec![9.0; row.len()];
            let n = row.len();
            let x = MatRef::new(row, 1, n).unwrap();
            softmax(x, MatMut::new(&mut y, 1, n).unwrap(), &softmax_options(level)).unwrap();
            assert_bits_eq(&y, want, format!("{level} {row:?}"));
        });
    };
    check(&[-inf, -inf, -inf], &[0.0; 3]);
    check(&[-inf, nan], &[nan; 2]);
    check(&[nan, 1.0, 2.0], &[nan; 3]);
    check(&[inf, 1.0], &[nan; 2]);
    check(&[-inf, 3e38, -inf], &[0.0, 1.0, 0.0]);
    check(&[-0.0, 0.0], &[0.5; 2]);
    check(&[0.0, -87.001], &[1.0, 0.0]);
    check(&[f32::MAX, f32::MIN], &[1.0, 0.0]);
    check(&[7.25], &[1.0]);
}

/// A minus-infinite bias is a mask, as false is: whatever the score is, infinity and NaN too, it is not seen.
#[test]
fn hidden_scores_do_not_matter() {
    let (nan, inf, n) = (f32::NAN, f32::INFINITY, 67);
    let hidden = |j: usize| !j.is_multiple_of(16);
    let x: Vec<f32> = (0..n).map(|j| if hidden(j) { [nan, inf, -inf, 1e9][j % 4] } else { 0.5 }).collect();
    let bias: Vec<f32> = (0..n).map(|j| if hidden(j) { -inf } else { 0.25 }).collect();
    let keep: Vec<bool> = (0..n).map(|j| !hidden(j)).collect();
    let size = [1, 1, 1, n];
    let by_bias = Mask { bias: Some(ScoresRef::new(&bias, size).unwrap()), ..Mask::default() };
    let by_keep = Mask { keep: Some(ScoresRef::new(&keep, size).unwrap()), ..Mask::default() };
    // Five scores are seen, all equal.
    let (p, ln) = ((0..n).map(|j| if hidden(j) { 0.0 } else { 0.2 }).collect::<Vec<f32>>(), 5f32.ln());
    for mask in [by_bias, by_keep] {
        sweep::levels(|level| {
            let options = SoftmaxOptions { mask, level: Some(level), ..SoftmaxOptions::default() };
            let (x, mut y) = (MatRef::new(&x, 1, n).unwrap(), vec![9.0; n]);
            softmax(x, MatMut::new(&mut y, 1, n).unwrap(), &options).unwrap();
            assert_bits_eq(&y, &p, format!("{level} {mask:?}"));
            log_softmax(x, MatMut::new(&mut y, 1, n).unwrap(), &options).unwrap();
            for (j, y) in y.iter().enumerate() {
                let right = if hidden(j) { *y == -inf } else { (y + ln).abs() < 1e-6 };
                assert!(right, "{level} {mask:?}, column {j}: {y}");
            }
        });
    }
}

#[test]
fn argmax_of_special_rows() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let mut late = vec![0.0; 1500];
    late[1400] = 1.0;
    let mut nan_late = late.clone();
    nan_late[1401] = nan;
    nan_late[3] = inf;
    let mut far = vec![-1.0; 9000];
    (far[8500], far[8900]) = (2.0, 2.0);
    let rows: [(&[f32], usize); 9] = [
        (&far, 8500),
        (&[1.0, 3.0, 3.0], 1),
        (&[-0.0, 0.0], 0),
        (&[-inf, -inf], 0),
        (&[inf, nan, nan], 1),
        (&[nan, inf], 0),
        (&[-inf, f32::MIN], 1),
        (&late, 1400),
        (&nan_late, 1401),
    ];
    for (row, want) in rows {
        sweep::levels(|level| {
            let mut got = [usize::MAX];
            argmax(MatRef::new(row, 1, row.len()).unwrap(), &mut got, &options(level)).unwrap();
            assert_eq!(got[0], want, "{level} {:?}", &row[..row.len().min(4)]);
        });
    }
}

#[test]
fn a_nan_passes_every_activation() {
    sweep::levels(|level| {
        for activation in Activation::ALL {
            let (x, mut y) = ([1.0, f32::NAN, -1.0], [0.0; 3]);
            let (x, y_view) = (MatRef::new(&x, 1, 3).unwrap(), MatMut::new(&mut y, 1, 3).unwrap());
            bias_activation(x, None, activation, y_view, &options(level)).unwrap();
            assert_eq!(y.map(f32::is_nan), [false, true, false], "{level} {activation:?}");
        }
    });
}

/// The specification against f64, and rows whose sum is 1.
#[test]
fn softmax_is_accurate() {
    for n in (1..=300).chain([512, 1000, 4096, 37_000]) {
        let mut worst = 0.0f64;
        for scale in [0.1f32, 1.0, 10.0] {
            let x: Vec<f32> = fill::normal(n as u64, n).iter().map(|x| x * scale).collect();
            let max = x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            // The differences are f32: their rounding is the input's business.
            let p: Vec<f64> = x.iter().map(|x| f64::from(x - max).exp()).collect();
            let sum: f64 = p.iter().sum();
            let mut y = vec![0.0; n];
            for fused in [true, false] {
                let (x, y_view) = (MatRef::new(&x, 1, n).unwrap(), MatMut::new(&mut y, 1, n).unwrap());
                let options = SoftmaxOptions::default();
                if fused {
                    naive::softmax::<true>(x, y_view, &options)
                } else {
                    naive::softmax::<false>(x, y_view, &options)
                }
                .unwrap();
                for (&y, p) in y.iter().zip(&p) {
                    let want = p / sum;
                    let ulp = f64::from((want as f32).next_up() - want as f32);
                    worst = worst.max((f64::from(y) - want).abs() / ulp);
                }
                let total: f64 = y.iter().map(|&y| f64::from(y)).sum();
                assert!((total - 1.0).abs() < 1e-6, "n {n}, scale {scale}: the sum is {total}");
            }
        }
        assert!(worst <= 6.0, "n {n}: {worst} ULP");
    }
}

#[test]
fn sinusoids_follow_the_paper() {
    for (len, d) in [(0, 4), (3, 0), (usize::MAX, 0), (0, usize::MAX), (40, 512), (7, 5), (3, 1)] {
        let table = sinusoidal_positions(len, d).unwrap();
        assert_eq!(table.len(), if d == 0 { 0 } else { len * d });
        for (k, &value) in table.iter().enumerate() {
            let (position, j) = ((k / d) as f64, k % d);
            let i = (j / 2) as f64;
            let angle = position / 10000f64.powf(2.0 * i / d as f64);
            let want = if j % 2 == 0 { angle.sin() } else { angle.cos() };
            assert_eq!(value, want as f32, "position {position}, column {j} of {d}");
        }
    }
    assert_eq!(sinusoidal_positions(usize::MAX, 2), Err(Error::SizeOverflow { what: "elements of the positions" }));
    let huge = sinusoidal_positions(isize::MAX as usize / 8, 1);
    assert_eq!(huge, Err(Error::OutOfMemory { bytes: isize::MAX as usize / 8 * 4 }));
}

#[test]
fn log_softmax_is_close_to_f64_and_keeps_minus_infinity() {
    let options = SoftmaxOptions::default();
    let x: Vec<f32> = (0..1030).map(|i| ((i * 37) % 101) as f32 * 1.7 - 60.0).collect();
    let mut y = vec![0.0; x.len()];
    log_softmax(MatRef::new(&x, 1, x.len()).unwrap(), MatMut::new(&mut y, 1, x.len()).unwrap(), &options).unwrap();
    let max = x.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(f64::from(x)));
    let ln = x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln();
    for (&x, &y) in x.iter().zip(&y) {
        let want = f64::from(x) - max - ln;
        assert!((f64::from(y) - want).abs() <= 1e-6 * want.abs().max(1.0), "{y} {want}");
    }

    let inf = f32::INFINITY;
    let mut rows = [-inf, -inf, 0.0, -inf, inf, 0.0, f32::NAN, 0.0];
    log_softmax_in_place(MatMut::new(&mut rows, 4, 2).unwrap(), &options).unwrap();
    assert_eq!(rows[..4], [-inf, -inf, 0.0, -inf]);
    assert!(rows[4..].iter().all(|y| y.is_nan()), "{rows:?}");
}
