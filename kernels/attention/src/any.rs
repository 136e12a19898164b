//! Views whose storage type is known at run time: the loops around the tiles are compiled once, not once for every mix
//! of types.

use gristmill_core::{HeadsMut, HeadsRef, SharedHeads};
use gristmill_simd::{Dtype, Element, TypedPtr, bf16, f16};

/// Heads of some storage type.
#[derive(Clone, Copy)]
pub(crate) enum AnyHeads<'a> {
    F32(HeadsRef<'a, f32>),
    F16(HeadsRef<'a, f16>),
    Bf16(HeadsRef<'a, bf16>),
}

/// Heads of some storage type, of which threads write rows.
pub(crate) enum AnyOutput<'a> {
    F32(SharedHeads<'a, f32>),
    F16(SharedHeads<'a, f16>),
    Bf16(SharedHeads<'a, bf16>),
}

/// Evaluates an expression in which `$heads` is the typed view of an [`AnyHeads`] or [`AnyOutput`].
macro_rules! any {
    ($kind:ident, $any:expr, $heads:ident => $body:expr) => {
        match $any {
            $kind::F32($heads) => $body,
            $kind::F16($heads) => $body,
            $kind::Bf16($heads) => $body,
        }
    };
}
pub(crate) use any;

impl<'a, T: Element> From<HeadsRef<'a, T>> for AnyHeads<'a> {
    fn from(heads: HeadsRef<'a, T>) -> Self {
        match T::DTYPE {
            // SAFETY: only one type has this name, so source and destination are the same type.
            Dtype::F32 => Self::F32(unsafe { same(heads) }),
            // SAFETY: as above.
            Dtype::F16 => Self::F16(unsafe { same(heads) }),
            // SAFETY: as above.
            Dtype::Bf16 => Self::Bf16(unsafe { same(heads) }),
        }
    }
}

impl<'a> AnyOutput<'a> {
    pub(crate) fn new<T: Element>(heads: &'a mut HeadsMut<'_, T>) -> Self {
        let heads = heads.share();
        match T::DTYPE {
            // SAFETY: only one type has this name, so source and destination are the same type.
            Dtype::F32 => Self::F32(unsafe { same(heads) }),
            // SAFETY: as above.
            Dtype::F16 => Self::F16(unsafe { same(heads) }),
            // SAFETY: as above.
            Dtype::Bf16 => Self::Bf16(unsafe { same(heads) }),
        }
    }
}

/// The value as what it is.
///
/// # Safety
/// `S` and `D` are the same type.
unsafe fn same<S, D>(value: S) -> D {
    debug_assert_eq!([size_of::<S>(), align_of::<S>()], [size_of::<D>(), align_of::<D>()]);
    let value = std::mem::ManuallyDrop::new(value);
    // SAFETY: the types are the same, and the original is forgotten.
    unsafe { std::ptr::from_ref(&*value).cast::<D>().read() }
}

impl AnyHeads<'_> {
    #[inline]
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }

    /// `[B, S, H, D]`.
    #[inline]
    pub(crate) fn sizes(&self) -> [usize; 4] {
        any!(AnyHeads, self, heads => heads.sizes())
    }

    /// Elements from one batch, position, head, value to the next.
    #[inline]
    pub(crate) fn strides(&self) -> [isize; 4] {
        any!(AnyHeads, self, heads => heads.strides())
    }

    /// Where a vector begins.
    #[inline]
    pub(crate) fn vector(&self, b: usize, s: usize, h: usize) -> TypedPtr {
        any!(AnyHeads, self, heads => TypedPtr::new(heads.head(b, h).ptr_at(s, 0)))
    }

    /// An element, widened.
    pub(crate) fn at(&self, b: usize, s: usize, h: usize, d: usize) -> f32 {
        any!(AnyHeads, self, heads => heads.at(b, s, h, d).to_f32())
    }
}
