//! Ranges cut into smaller ones.

use std::ops::Range;

/// Part `i` of `parts` of `0..len`, all nearly equal: the first ones are longer by one where `len` does not divide.
///
/// ```
/// use gristmill_core::parts::part;
///
/// assert_eq!([0, 1, 2].map(|i| part(8, 3, i)), [0..3, 3..6, 6..8]);
/// ```
#[inline]
pub fn part(len: usize, parts: usize, i: usize) -> Range<usize> {
    if parts == 1 {
        return 0..len;
    }
    let (size, longer) = (len / parts, len % parts);
    let start = i * size + i.min(longer);
    start..start + size + usize::from(i < longer)
}

/// The parts of a range, `len` long but for the last. `step_by` would divide, which is a good part of a small product.
///
/// ```
/// use gristmill_core::parts::cuts;
///
/// assert_eq!(cuts(1..8, 3).collect::<Vec<_>>(), [1..4, 4..7, 7..8]);
/// ```
#[inline]
pub fn cuts(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut rest = range;
    std::iter::from_fn(move || {
        let part = rest.start..rest.end.min(rest.start.saturating_add(len));
        rest.start = part.end;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole_and_differ_by_one_at_most() {
        for len in 0..40 {
            for parts in 1..12 {
                let all: Vec<_> = (0..parts).map(|i| part(len, parts, i)).collect();
                assert!(all.windows(2).all(|two| two[0].end == two[1].start && two[0].len() >= two[1].len()));
                assert_eq!((all[0].start, all[parts - 1].end), (0, len));
                assert!(all[0].len() - all[parts - 1].len() <= 1, "{len} in {parts}");
            }
        }
    }

    #[test]
    fn cuts_end_with_the_range() {
        assert_eq!(cuts(3..3, 2).count(), 0);
        assert!(cuts(2..9, usize::MAX).eq(std::iter::once(2..9)));
        assert!(cuts(2..6, 2).eq([2..4, 4..6]));
    }
}
