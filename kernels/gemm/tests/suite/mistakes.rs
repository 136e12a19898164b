//! Mistakes get an error that names the numbers, and C stays as it was.

use crate::common::mat;
use gristmill_core::{BatchMut, BatchRef, Error, MatMut, MatRef, Workspace};
use gristmill_gemm::{GemmOptions, ListOptions, PackedRhs, Problem, gemm, gemm_batch, gemm_list};
use gristmill_simd::{Level, LevelError};
use gristmill_testkit::pin;

/// Runs a product of the given sizes into a C of sevens, and returns the error after checking that C is untouched.
fn refused(a: [usize; 2], b: [usize; 2], c: [usize; 2], options: &GemmOptions<'_>) -> Error {
    let values = [1.0; 64];
    let mut out = [7.0; 64];
    let c_mat = MatMut::new(&mut out, c[0], c[1]).unwrap();
    let (a, b) = (mat(&values, a[0], a[1]), mat(&values, b[0], b[1]));
    let error = gemm(a, b, c_mat, options, &mut Workspace::new()).unwrap_err();
    assert_eq!(out, [7.0; 64], "an output was touched");
    error
}

#[test]
fn sizes_that_disagree() {
    let plain = GemmOptions::default();
    for (a, b, c, expected, found) in
        [([2, 3], [4, 5], [2, 5], 3, 4), ([2, 3], [3, 5], [4, 5], 2, 4), ([2, 3], [3, 5], [2, 6], 5, 6)]
    {
        match refused(a, b, c, &plain) {
            Error::ShapeMismatch { expected: e, found: f, .. } => assert_eq!((e, f), (expected, found)),
            error => panic!("{error}"),
        }
    }
    let bias = GemmOptions { bias: Some(&[0.0; 4]), ..plain };
    assert!(matches!(refused([2, 3], [3, 5], [2, 5], &bias), Error::ShapeMismatch { expected: 5, found: 4, .. }));
    let residual = GemmOptions { residual: Some(mat(&[0.0; 15], 3, 5)), ..plain };
    assert!(matches!(refused([2, 3], [3, 5], [2, 5], &residual), Error::ShapeMismatch { expected: 2, found: 3, .. }));
}

/// Every entry refuses the level, and C stays as it was.
fn level_refused(level: Option<Level>, error: LevelError) {
    let (error, options) = (Error::from(error), GemmOptions { level, ..Default::default() });
    assert_eq!(refused([2, 3], [3, 5], [2, 5], &options), error);
    let (values, mut out) = ([1.0; 64], [7.0; 10]);
    let batch = |sizes| BatchRef::new(&values, sizes).unwrap();
    let c = BatchMut::new(&mut out, [1, 2, 5]).unwrap();
    let result = gemm_batch(batch([1, 2, 3]), batch([1, 3, 5]), c, &options, &mut Workspace::new());
    assert_eq!(result, Err(error.clone()));
    let c = MatMut::new(&mut out, 2, 5).unwrap();
    let problem = Problem::new(mat(&values, 2, 3), mat(&values, 3, 5), c, &options).unwrap();
    let options = ListOptions { level, ..Default::default() };
    assert_eq!(gemm_list(&mut [problem], &options, &mut Workspace::new()), Err(error));
    assert_eq!(out, [7.0; 10]);
}

#[test]
fn levels_that_are_not_there() {
    for level in Level::ALL.into_iter().filter(|level| !level.is_available()) {
        level_refused(Some(level), LevelError::Unsupported(level));
    }
    pin::misspelt("mistakes::levels_that_are_not_there", || {
        let error = LevelError::Unknown(pin::MISSPELT.into());
        assert_eq!(PackedRhs::from_in_out(mat(&[1.0f32; 4], 2, 2)).unwrap_err(), error.clone().into());
        level_refused(None, error);
    });
}

#[test]
fn outputs_that_overlap_and_strides_that_leave_the_slice() {
    let mut data = [0.0f32; 8];
    let overlapping = MatMut::strided(&mut data, 0, [3, 3], [1, 1]).unwrap_err();
    assert!(matches!(overlapping, Error::OverlappingOutput { .. }));
    assert!(matches!(MatRef::strided(&data, 0, [3, 3], [3, 1]).unwrap_err(), Error::OutOfBounds { .. }));
}

#[test]
fn weights_too_large_to_pack() {
    // Strides of zero describe a matrix of any size; its panels would not fit into any memory.
    let one = [1.0f32];
    let huge = MatRef::strided(&one, 0, [1 << 40, 1 << 20], [0, 0]).unwrap();
    assert!(matches!(
        PackedRhs::from_in_out(huge).unwrap_err(),
        Error::SizeOverflow { .. } | Error::OutOfMemory { .. }
    ));
    let wide = MatRef::strided(&one, 0, [1 << 30, 1 << 24], [0, 0]).unwrap();
    assert!(matches!(
        PackedRhs::from_out_in(wide).unwrap_err(),
        Error::SizeOverflow { .. } | Error::OutOfMemory { .. }
    ));
}

#[test]
fn reading_an_output_back() {
    let weight: Vec<f32> = (0..34).map(|i| i as f32).collect();
    let packed = PackedRhs::from_out_in(mat(&weight, 17, 2)).unwrap();
    let mut row = [0.0; 2];
    for output in 0..17 {
        packed.row_into(output, &mut row).unwrap();
        assert_eq!(row, weight[2 * output..][..2]);
    }
    assert_eq!(packed.row_into(17, &mut row).unwrap_err(), Error::RangeOutOfBounds { start: 17, end: 18, len: 17 });
    assert!(matches!(packed.row_into(0, &mut [0.0; 3]).unwrap_err(), Error::ShapeMismatch { found: 3, .. }));
    assert_eq!(row, weight[32..], "the output of a refused call was touched");
}
