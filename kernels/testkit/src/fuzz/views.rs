//! Views of hostile sizes and strides.

use super::Bytes;
use gristmill_core::{HeadsMut, HeadsRef, MatMut, MatRef, ScoresRef};
use std::collections::BTreeSet;

/// Views over a slice of up to 40 elements: what is accepted lies inside, and outputs hit no element twice.
pub fn views(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let mut data: Vec<u32> = (0..bytes.below(41) as u32).collect();
    let (offset, sizes, strides) = (number(bytes), [0; 4].map(|_| number(bytes)), [0; 4].map(|_| stride(bytes)));
    let range = number(bytes)..number(bytes);
    let (shape, steps) = ([sizes[0], sizes[1]], [strides[0], strides[1]]);

    let made = MatRef::strided(&data, offset, shape, steps).into_iter();
    for a in made.chain(MatRef::new(&data, shape[0], shape[1])) {
        let b = a.submatrix(range.clone(), 0..a.cols()).into_iter();
        for a in b.chain([a, a.transposed()]) {
            for (i, j) in corners([a.rows(), a.cols()]).map(|[i, j]| (i, j)) {
                assert!(data.contains(&a.at(i, j)) && data.as_ptr_range().contains(&a.ptr_at(i, j)));
                assert!(a.row(i).is_none_or(|row| row.get(j) == Some(&a.at(i, j))));
            }
            assert_eq!((a.get(a.rows(), 0), a.get(0, a.cols())), (None, None));
        }
    }
    let heads = HeadsRef::strided(&data, offset, sizes, strides).into_iter();
    for heads in heads.chain(HeadsRef::bshd(&data, sizes)).chain(HeadsRef::bhsd(&data, sizes)) {
        for [b, s, h, d] in corners(sizes) {
            assert!(data.contains(&heads.at(b, s, h, d)) && heads.at(b, s, h, d) == heads.head(b, h).at(s, d));
        }
    }
    let scores = ScoresRef::strided(&data, offset, sizes, strides).into_iter();
    for scores in scores.chain(ScoresRef::new(&data, sizes)) {
        for [b, h, i, j] in corners(sizes) {
            assert!(data.contains(&scores.at(b, h, i, j)));
        }
    }

    // An accepted output is no larger than its slice, so that every element can be looked at.
    let mut seen = BTreeSet::new();
    if let Ok(a) = MatMut::strided(&mut data, offset, shape, steps) {
        let all = (0..if a.cols() == 0 { 0 } else { a.rows() }).flat_map(|i| (0..a.cols()).map(move |j| (i, j)));
        all.for_each(|(i, j)| assert!(seen.insert(a.at(i, j)), "{a:?} has ({i}, {j}) twice"));
    }
    seen.clear();
    if let Ok(a) = HeadsMut::strided(&mut data, offset, sizes, strides)
        && !sizes.contains(&0)
    {
        for n in 0..sizes.iter().product() {
            let [b, s, h, d] = index(n, sizes);
            assert!(seen.insert(a.at(b, s, h, d)), "{a:?} has ({b}, {s}, {h}, {d}) twice");
        }
    }
}

/// The `n`th element in row-major order.
fn index<const N: usize>(mut n: usize, sizes: [usize; N]) -> [usize; N] {
    let mut index = [0; N];
    for d in (0..N).rev() {
        index[d] = n % sizes[d];
        n /= sizes[d];
    }
    index
}

/// The first and last element of every dimension; nothing for a view without elements.
fn corners<const N: usize>(sizes: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    let corners = if sizes.contains(&0) { 0 } else { 1 << N };
    (0..corners).map(move |corner| std::array::from_fn(|d| if corner >> d & 1 == 1 { sizes[d] - 1 } else { 0 }))
}

/// Small, or near a power of two, or anything.
fn number(bytes: &Bytes) -> usize {
    match bytes.byte() {
        0..240 => bytes.below(7),
        240..250 => (1usize << bytes.below(64)).wrapping_add(bytes.below(3)).wrapping_sub(1),
        _ => bytes.u64() as usize,
    }
}

/// As [`number`], of either sign.
fn stride(bytes: &Bytes) -> isize {
    let sign = if bytes.one_in(4) { -1 } else { 1 };
    (number(bytes) as isize).wrapping_mul(sign)
}
