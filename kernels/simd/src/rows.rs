//! How a kernel walks through several rows in step.

use crate::Isa;

/// Rows that share a pointer: x86 adds one or two strides to a base register at no cost.
const SHARE: usize = 3;

/// Pointers to up to twelve rows at some step, which advance together. Nothing is read through them here.
#[derive(Clone, Copy, Debug)]
pub struct RowPointers {
    /// Rows 0, 3, 6 and 9.
    groups: [*const u8; 4],
    /// Bytes from a row to the next.
    row: isize,
    /// Bytes from a step to the next.
    step: isize,
}

impl RowPointers {
    /// Row 0 of `T` at `first`, rows and steps as many values apart.
    #[inline(always)]
    pub fn new<T>(first: *const T, row: isize, step: isize) -> Self {
        let size = size_of::<T>() as isize;
        let (row, step) = (row * size, step * size);
        let groups = std::array::from_fn(|g| first.cast::<u8>().wrapping_offset((SHARE * g) as isize * row));
        Self { groups, row, step }
    }

    /// Where row `r`, below 12, has the value of `u` steps further on.
    #[inline(always)]
    pub fn at<T>(&self, r: usize, u: isize) -> *const T {
        self.groups[r / SHARE].wrapping_offset((r % SHARE) as isize * self.row + u * self.step).cast()
    }

    /// Goes on by some steps. The compiler sees no relation between the pointers, or it would compute each of them anew.
    #[inline(always)]
    pub fn advance<I: Isa>(&mut self, isa: I, steps: isize) {
        for p in &mut self.groups {
            *p = isa.opaque(p.wrapping_offset(steps * self.step));
        }
    }
}
