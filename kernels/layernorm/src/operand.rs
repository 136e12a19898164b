//! Rows as the register loops see them: something to load from, something to store to.
//!
//! Every `unsafe fn` here has the one precondition
//!
//! - **(In)** the elements named, `i .. i + LANES` or `i .. i + count`, exist in the row, and the row in the matrix.
//!
//! Two operands of one call are the same memory, element for element, or do not overlap; an element is always
//! loaded before it is stored.

use gristmill_simd::{Element, Isa};

/// Where the values of a row come from.
pub(crate) trait Source: Copy {
    /// Whether loading an element more than once costs more than keeping it.
    const COSTLY: bool;

    /// The source that starts at row `r` of this one.
    fn row(self, r: usize) -> Self;
    /// Element 0.
    ///
    /// # Safety
    /// (In).
    unsafe fn first(self) -> f32;
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
    /// Asks for the cache line that begins in the register at element `i`, if one does; nothing of it need exist.
    fn prefetch<I: Isa>(self, isa: I, i: usize);
}

/// Where the values of a row go.
pub(crate) trait Sink: Copy {
    /// The sink that starts at row `r` of this one.
    fn row(self, r: usize) -> Self;
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
    /// Elements before the first one at which a register is aligned; below `LANES`.
    fn misalignment<I: Isa>(self) -> usize;
}

/// Rows whose elements lie side by side.
#[derive(Clone, Copy)]
pub(crate) struct Contiguous<P> {
    pub(crate) start: P,
    pub(crate) row_stride: isize,
}

/// Rows whose elements lie `col_stride` apart: correct, not fast.
#[derive(Clone, Copy)]
pub(crate) struct Strided<P> {
    pub(crate) start: P,
    pub(crate) row_stride: isize,
    pub(crate) col_stride: isize,
}

/// The sum of two sources, one rounded addition.
#[derive(Clone, Copy)]
pub(crate) struct Sum<A, B>(pub(crate) A, pub(crate) B);

/// A sink that may be missing.
#[derive(Clone, Copy)]
pub(crate) struct Maybe<S>(pub(crate) Option<S>);

/// A sink for what nobody asked for.
#[derive(Clone, Copy)]
pub(crate) struct Nowhere;

impl<T: Element> Source for Contiguous<*const T> {
    // 16 bits are converted.
    const COSTLY: bool = size_of::<T>() < size_of::<f32>();

    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self { start: self.start.wrapping_offset((r as isize).wrapping_mul(self.row_stride)), ..self }
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        // SAFETY: (In).
        unsafe { *self.start }.to_f32()
    }
    #[inline(always)]
    unsafe fn load<I: Isa>(self, isa: I, i: usize) -> I::F32 {
        // SAFETY: (In).
        unsafe { T::load(isa, self.start.add(i)) }
    }
    #[inline(always)]
    unsafe fn load_tail<I: Isa>(self, isa: I, i: usize, count: usize) -> I::F32 {
        // SAFETY: (In).
        unsafe { T::load_tail(isa, self.start.add(i), isa.tail(count)) }
    }
    #[inline(always)]
    fn prefetch<I: Isa>(self, isa: I, i: usize) {
        let registers = (LINE / size_of::<T>() / I::LANES).max(1);
        if (i / I::LANES).is_multiple_of(registers) {
            isa.prefetch(self.start.wrapping_add(i));
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl<T: Element> Sink for Contiguous<*mut T> {
    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self { start: self.start.wrapping_offset((r as isize).wrapping_mul(self.row_stride)), ..self }
    }
    #[inline(always)]
    unsafe fn store<I: Isa>(self, isa: I, i: usize, v: I::F32) {
        // SAFETY: (In).
        unsafe { T::store(isa, self.start.add(i), v) }
    }
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, isa: I, i: usize, count: usize, v: I::F32) {
        // SAFETY: (In).
        unsafe { T::store_tail(isa, self.start.add(i), v, isa.tail(count)) }
    }
    #[inline(always)]
    fn misalignment<I: Isa>(self) -> usize {
        self.start.addr().wrapping_neg() % (I::LANES * size_of::<T>()) / size_of::<T>()
    }
}

impl<P> Strided<P> {
    /// Elements from the start of the matrix to element `i` of row `r`.
    #[inline(always)]
    fn offset(&self, r: usize, i: usize) -> isize {
        (r as isize).wrapping_mul(self.row_stride).wrapping_add((i as isize).wrapping_mul(self.col_stride))
    }
}

impl<T: Element> Strided<*const T> {
    /// Elements `i .. i + count`, then zeros. A call for many elements: strided rows need no speed.
    ///
    /// # Safety
    /// (In).
    #[inline(never)]
    unsafe fn gather(self, i: usize, count: usize) -> [f32; MAX_LANES] {
        let mut lanes = [0.0; MAX_LANES];
        for (k, lane) in lanes[..count].iter_mut().enumerate() {
            // SAFETY: (In).
            *lane = unsafe { *self.start.wrapping_offset(self.offset(0, i + k)) }.to_f32();
        }
        lanes
    }
}

impl<T: Element> Strided<*mut T> {
    /// Stores elements `i .. i + count`.
    ///
    /// # Safety
    /// (In).
    #[inline(never)]
    unsafe fn scatter(self, i: usize, count: usize, lanes: &[f32; MAX_LANES]) {
        for (k, lane) in lanes[..count].iter().enumerate() {
            // SAFETY: (In).
            unsafe { *self.start.wrapping_offset(self.offset(0, i + k)) = T::from_f32(*lane) }
        }
    }
}

impl<T: Element> Source for Strided<*const T> {
    const COSTLY: bool = true;

    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self { start: self.start.wrapping_offset(self.offset(r, 0)), ..self }
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        // SAFETY: (In).
        unsafe { *self.start }.to_f32()
    }
    #[inline(always)]
    unsafe fn load<I: Isa>(self, isa: I, i: usize) -> I::F32 {
        // SAFETY: (In).
        unsafe { self.load_tail(isa, i, I::LANES) }
    }
    #[inline(always)]
    unsafe fn load_tail<I: Isa>(self, isa: I, i: usize, count: usize) -> I::F32 {
        // SAFETY: (In); the array has MAX_LANES values, and no register more lanes.
        unsafe { isa.load(self.gather(i, count).as_ptr()) }
    }
    #[inline(always)]
    fn prefetch<I: Isa>(self, _: I, _: usize) {}
}

impl<T: Element> Sink for Strided<*mut T> {
    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self { start: self.start.wrapping_offset(self.offset(r, 0)), ..self }
    }
    #[inline(always)]
    unsafe fn store<I: Isa>(self, isa: I, i: usize, v: I::F32) {
        // SAFETY: (In).
        unsafe { self.store_tail(isa, i, I::LANES, v) }
    }
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, isa: I, i: usize, count: usize, v: I::F32) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: (In); the array has MAX_LANES values, and no register more lanes.
        unsafe {
            isa.store(lanes.as_mut_ptr(), v);
            self.scatter(i, count, &lanes);
        }
    }
    #[inline(always)]
    fn misalignment<I: Isa>(self) -> usize {
        0
    }
}

/// No register has more lanes than this.
const MAX_LANES: usize = 16;

impl<A: Source, B: Source> Source for Sum<A, B> {
    const COSTLY: bool = true;

    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self(self.0.row(r), self.1.row(r))
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        // SAFETY: (In) holds for both.
        unsafe { self.0.first() + self.1.first() }
    }
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
    fn prefetch<I: Isa>(self, isa: I, i: usize) {
        self.0.prefetch(isa, i);
        self.1.prefetch(isa, i);
    }
}

impl Sink for Nowhere {
    #[inline(always)]
    fn row(self, _: usize) -> Self {
        self
    }
    #[inline(always)]
    unsafe fn store<I: Isa>(self, _: I, _: usize, _: I::F32) {}
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, _: I, _: usize, _: usize, _: I::F32) {}
    #[inline(always)]
    fn misalignment<I: Isa>(self) -> usize {
        0
    }
}

impl<S: Sink> Sink for Maybe<S> {
    #[inline(always)]
    fn row(self, r: usize) -> Self {
        Self(self.0.map(|operand| operand.row(r)))
    }
    #[inline(always)]
    unsafe fn store<I: Isa>(self, isa: I, i: usize, v: I::F32) {
        if let Some(operand) = self.0 {
            // SAFETY: (In).
            unsafe { operand.store(isa, i, v) }
        }
    }
    #[inline(always)]
    unsafe fn store_tail<I: Isa>(self, isa: I, i: usize, count: usize, v: I::F32) {
        if let Some(operand) = self.0 {
            // SAFETY: (In).
            unsafe { operand.store_tail(isa, i, count, v) }
        }
    }
    #[inline(always)]
    fn misalignment<I: Isa>(self) -> usize {
        0
    }
}
