//! The ends of a pass over a row, where its values come from and where they go, as the register loops see them: elements
//! side by side, of a type that is known.
//!
//! Every `unsafe fn` here has the one precondition
//!
//! - **(In)** the elements named, `i .. i + LANES` or `i .. i + count`, exist in the row.
//!
//! Two operands of one call are the same memory, element for element, or do not overlap; an element is always
//! loaded before it is stored.

use gristmill_simd::{Element, Isa};

/// Where the values of a row come from.
pub(crate) trait Source: Copy {
    /// Elements `i .. i + LANES`.
    ///
    /// # Safety
    /// (In).
    unsafe fn load<I: Isa>(self, isa: I, i: usize) -> I::F32;
    /// Elements `i .. i + count`, for `count <= LANES`, then zeros.
    ///
    /// # Safety
    /// (In).
    unsafe fn load_tail<I: Isa>(self, isa: I, i: usize, count: usize) -> I::F32;
    /// The elements from `n` on. The optimiser does not know where they are: with an index that all operands share, each
    /// would need an operation of its own to be loaded.
    fn past<I: Isa>(self, isa: I, n: usize) -> Self;
}

/// Where the values of a row are kept.
pub(crate) trait Sink: Copy {
    /// Elements `i .. i + LANES`.
    ///
    /// # Safety
    /// (In).
    unsafe fn store<I: Isa>(self, isa: I, i: usize, v: I::F32);
    /// Elements `i .. i + count`, for `count <= LANES`.
    ///
    /// # Safety
    /// (In).
    unsafe fn store_tail<I: Isa>(self, isa: I, i: usize, count: usize, v: I::F32);
    /// As [`Source::past`].
    fn past<I: Isa>(self, isa: I, n: usize) -> Self;
}

impl<T: Element> Source for *const T {
    #[inline(always)]
    unsafe fn load<I: Isa>(self, isa: I, i: usize) -> I::F32 {
        // SAFETY: (In).
        unsafe { T::load(isa, self.add(i)) }
    }
    #[inline(always)]
    unsafe fn load_tail<I: Isa>(self, isa: I, i: usize, count: usize) -> I::F32 {
        // SAFETY: (In).
        unsafe { T::load_tail(isa, self.add(i), isa.tail(count)) }
    }
    #[inline(always)]
    fn past<I: Isa>(self, isa: I, n: usize) -> Self {
        isa.opaque(self.wrapping_add(n))
    }
}

/// The sum of two sources, one rounded addition.
#[derive(Clone, Copy)]
pub(crate) struct Sum<A, B>(pub(crate) A, pub(crate) B);

impl<A: Source, B: Source> Source for Sum<A, B> {
    #[inline(always)]
    unsafe fn load<I: Isa>(self, isa: I, i: usize) -> I::F32 {
        // SAFETY: (In) holds for both.
        unsafe { isa.add(self.0.load(isa, i), self.1.load(isa, i)) }
    }
    #[inline(always)]
    unsafe fn load_tail<I: Isa>(self, isa: I, i: usize, count: usize) -> I::F32 {
        // SAFETY: (In) holds for both.
        unsafe { isa.add(self.0.load_tail(isa, i, count), self.1.load_tail(isa, i, count)) }
    }
    #[inline(always)]
    fn past<I: Isa>(self, isa: I, n: usize) -> Self {
        Self(self.0.past(isa, n), self.1.past(isa, n))
    }
}

impl Sink for *mut f32 {
    #[inline(always)]
    unsafe fn store<I: Isa>(self, isa: I, i: usize, v: I::F32) {
        // SAFETY: (In).
        unsafe { isa.store(self.add(i), v) }
    }
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, isa: I, i: usize, count: usize, v: I::F32) {
        // SAFETY: (In).
        unsafe { isa.store_tail(self.add(i), v, isa.tail(count)) }
    }
    #[inline(always)]
    fn past<I: Isa>(self, isa: I, n: usize) -> Self {
        isa.opaque(self.wrapping_add(n)).cast_mut()
    }
}

/// A sink for what is there already.
#[derive(Clone, Copy)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    #[inline(always)]
    unsafe fn store<I: Isa>(self, _: I, _: usize, _: I::F32) {}
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, _: I, _: usize, _: usize, _: I::F32) {}
    #[inline(always)]
    fn past<I: Isa>(self, _: I, _: usize) -> Self {
        self
    }
}
