//! Where rows, and gamma and beta, are as f32 while a row is in work.

use crate::call::{Call, Raw};
use crate::passes;
use crate::row::Affine;
use gristmill_simd::{Dtype, Isa, TypedPtr};
use std::{mem::MaybeUninit, ops::Range};

/// Memory that nothing has been written to yet.
#[repr(align(64))]
pub(crate) struct Scratch<const N: usize>(MaybeUninit<[f32; N]>);

impl<const N: usize> Scratch<N> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Where it begins. (Called once: another call would end what the pointer may be used for.)
    #[inline(always)]
    pub(crate) fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// Places in scratch memory, of `room` elements each.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) start: *mut f32,
    pub(crate) room: usize,
}

impl Places {
    /// For a residual on its way in, or results on their way out.
    #[inline(always)]
    pub(crate) fn passing(self) -> *mut f32 {
        self.start.wrapping_add(2 * self.room)
    }
    #[inline(always)]
    fn gamma(self) -> *mut f32 {
        self.start.wrapping_add(3 * self.room)
    }
    #[inline(always)]
    fn beta(self) -> *mut f32 {
        self.start.wrapping_add(4 * self.room)
    }
}

/// Where whole rows are as f32 after their first pass: in a matrix, from the beginning or because the first pass writes
/// them there, or in scratch memory.
#[derive(Clone, Copy)]
pub(crate) struct Home {
    start: *mut f32,
    stride: isize,
    /// Which bits of a row's number say where it is.
    mask: usize,
}

impl Home {
    #[inline(always)]
    fn matrix(matrix: Raw) -> Self {
        Self { start: matrix.at(0, 0).cast::<f32>().cast_mut(), stride: matrix.row_stride, mask: usize::MAX }
    }

    /// Even rows and odd rows have a place each, since one is being finished when the next is begun. So have even and odd
    /// pairs: their rows have places of less than half the size, which do not all begin at the same offset in a page of memory.
    #[inline(always)]
    fn scratch(places: Places, pairs: bool) -> Self {
        let (stride, mask) = if pairs { (passes::PAIRED + 16, 3) } else { (places.room, 1) };
        Self { start: places.start, stride: stride as isize, mask }
    }

    #[inline(always)]
    pub(crate) fn row(self, r: usize) -> *mut f32 {
        self.start.wrapping_offset(((r & self.mask) as isize).wrapping_mul(self.stride))
    }
}

impl Call {
    /// Whether the first pass can read a row of any length where it lies.
    #[inline(always)]
    fn is_direct(&self) -> bool {
        let x = self.x;
        x.is_dense() && self.residual.is_none_or(|residual| residual.is_dense() && residual.dtype() == x.dtype())
    }

    /// Where rows are kept, single or in pairs; `None` where they can only be handled piece by piece.
    #[inline(always)]
    pub(crate) fn home(&self, places: Places, pairs: bool) -> Option<Home> {
        let f32s = |matrix: &Raw| matrix.is_dense() && matrix.dtype() == Dtype::F32;
        let (short, direct) = (self.n.n <= places.room, self.is_direct());
        match (self.residual, self.sum) {
            (None, _) if f32s(&self.x) => Some(Home::matrix(self.x)),
            (_, Some(sum)) if f32s(&sum) && (short || direct) => Some(Home::matrix(sum)),
            _ if short => Some(Home::scratch(places, pairs)),
            _ => (f32s(&self.y) && direct).then(|| Home::matrix(self.y)),
        }
    }

    /// Gamma and beta of some columns.
    ///
    /// # Safety
    /// (Call), for these columns; unless both are f32 there are at most `room`.
    #[inline(always)]
    pub(crate) unsafe fn affine<I: Isa>(&self, isa: I, columns: Range<usize>, places: Places) -> Affine<f32> {
        let bring = |values: Option<TypedPtr>, place: *mut f32| {
            let values = values?.offset(columns.start as isize);
            if values.dtype() == Dtype::F32 {
                return Some(values.cast());
            }
            // SAFETY: the caller's promise, and a place has room for `room` elements.
            unsafe { values.read(isa, 1, columns.len(), place) };
            Some(place.cast_const())
        };
        Affine::new(bring(self.gamma, places.gamma()), bring(self.beta, places.beta()))
    }
}
