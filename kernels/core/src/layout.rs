//! The arithmetic of sizes and strides that every view is checked with.

use crate::Error;
use std::ops::Range;

/// The number of elements, which must be at most `isize::MAX`.
pub(crate) fn count<const N: usize>(sizes: [usize; N]) -> Result<usize, Error> {
    if sizes.contains(&0) {
        return Ok(0);
    }
    sizes
        .into_iter()
        .try_fold(1usize, usize::checked_mul)
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or(Error::SizeOverflow { what: "elements of a view" })
}

/// Row-major strides. Where they would overflow the view is empty or has been refused, so wrapping is harmless.
pub(crate) fn contiguous<const N: usize>(sizes: [usize; N]) -> [isize; N] {
    let mut strides = [1isize; N];
    for d in (1..N).rev() {
        strides[d - 1] = strides[d].wrapping_mul(sizes[d] as isize);
    }
    strides
}

/// Checks that a slice of `len` elements holds a contiguous view.
pub(crate) fn check_len<const N: usize>(len: usize, sizes: [usize; N]) -> Result<(), Error> {
    let needed = count(sizes)?;
    if needed <= len { Ok(()) } else { Err(Error::LengthTooShort { needed, len }) }
}

/// The largest stride that a dimension without a second element keeps: kernels multiply it by the rows and steps of a tile
/// on the way to addresses that they do not use.
const FAR: isize = isize::MAX >> 15;

/// Checks that every element of a strided view lies in a slice of `len` elements. An empty view lies anywhere.
///
/// Returns the strides that the view keeps. Those by which no element is reached may have come with any value, and become
/// one whose multiples do not overflow: 0 in an empty view, at most [`FAR`] in a dimension of one element.
pub(crate) fn check_bounds<const N: usize>(
    len: usize,
    offset: usize,
    sizes: [usize; N],
    strides: [isize; N],
) -> Result<[isize; N], Error> {
    if count(sizes)? == 0 {
        return Ok([0; N]);
    }
    let (mut first, mut last) = (offset as i128, offset as i128);
    for (size, stride) in sizes.into_iter().zip(strides) {
        let reach = (size as i128 - 1).saturating_mul(stride as i128);
        let end = if reach < 0 { &mut first } else { &mut last };
        *end = end.saturating_add(reach);
    }
    if first < 0 || last >= len as i128 {
        return Err(Error::OutOfBounds { first, last, len });
    }
    Ok(std::array::from_fn(|d| if sizes[d] == 1 { strides[d].clamp(-FAR, FAR) } else { strides[d] }))
}

/// Checks that no two elements share an address. Sufficient, not necessary: sorted by size, each stride must be
/// positive and step over everything that the smaller ones reach. Dimensions of one element have no stride.
pub(crate) fn check_distinct<const N: usize>(sizes: [usize; N], strides: [isize; N]) -> Result<(), Error> {
    if sizes.contains(&0) {
        return Ok(());
    }
    let mut dims: [(isize, usize); N] = std::array::from_fn(|d| (strides[d], sizes[d]));
    dims.sort_unstable();
    let mut least = 1i128;
    for (stride, size) in dims.into_iter().filter(|&(_, size)| size > 1) {
        if (stride as i128) < least {
            return Err(Error::OverlappingOutput { stride, least });
        }
        least = least.saturating_add((size as i128 - 1).saturating_mul(stride as i128));
    }
    Ok(())
}

/// Checks that a range lies in a dimension of `len` elements.
pub(crate) fn check_range(range: &Range<usize>, len: usize) -> Result<(), Error> {
    if range.start <= range.end && range.end <= len {
        Ok(())
    } else {
        Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len })
    }
}

/// The offset of an element relative to the first; wraps only for elements that a checked view does not have.
#[inline(always)]
pub(crate) fn offset<const N: usize>(index: [usize; N], strides: [isize; N]) -> isize {
    let mut sum = 0isize;
    for d in 0..N {
        sum = sum.wrapping_add((index[d] as isize).wrapping_mul(strides[d]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All offsets of a small view, the slow way.
    fn offsets(sizes: [usize; 3], strides: [isize; 3]) -> Vec<isize> {
        let mut all = Vec::new();
        for i in 0..sizes[0] {
            for j in 0..sizes[1] {
                all.extend((0..sizes[2]).map(|k| offset([i, j, k], strides)));
            }
        }
        all
    }

    fn small_layouts() -> impl Iterator<Item = ([usize; 3], [isize; 3])> {
        let sizes = (0..27).map(|n| [n % 3, n / 3 % 3, n / 9]);
        sizes.flat_map(|sizes| (0..343).map(move |n| (sizes, [n % 7 - 3, n / 7 % 7 - 3, n / 49 - 3])))
    }

    #[test]
    fn bounds_are_exact() {
        for (sizes, strides) in small_layouts() {
            for (len, at) in [(9, 4), (5, 0), (0, 0)] {
                let inside = offsets(sizes, strides).iter().all(|&o| (0..len).contains(&(o + at)));
                let checked = check_bounds(len as usize, at as usize, sizes, strides);
                assert_eq!(checked.is_ok(), inside, "{sizes:?} {strides:?} {len}");
            }
        }
    }

    #[test]
    fn distinct_means_distinct() {
        for (sizes, strides) in small_layouts() {
            if check_distinct(sizes, strides).is_ok() {
                let mut all = offsets(sizes, strides);
                let n = all.len();
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), n, "{sizes:?} {strides:?}");
            }
        }
        assert_eq!(check_distinct([3, 4], [4, 1]), Ok(()));
        assert_eq!(check_distinct([3, 4], [1, 3]), Ok(()));
        assert_eq!(check_distinct([1, 4], [0, 1]), Ok(()));
        assert_eq!(check_distinct([3, 4], [3, 1]), Err(Error::OverlappingOutput { stride: 3, least: 4 }));
        assert_eq!(check_distinct([3, 4], [0, 1]), Err(Error::OverlappingOutput { stride: 0, least: 1 }));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let max = usize::MAX;
        assert!(matches!(count([max, 2]), Err(Error::SizeOverflow { .. })));
        assert!(matches!(count([max]), Err(Error::SizeOverflow { .. })));
        assert_eq!(count([max, 0]), Ok(0));
        assert_eq!(check_bounds(0, max, [max, 0], [isize::MIN; 2]), Ok([0; 2]));
        assert_eq!(check_bounds(4, 0, [1, 2, 1], [isize::MIN, 3, isize::MAX]), Ok([-FAR, 3, FAR]));
        let far = check_bounds(8, max, [isize::MAX as usize], [isize::MIN]);
        assert!(matches!(far, Err(Error::OutOfBounds { .. })));
        contiguous([max, max, 0, max]);
    }
}
