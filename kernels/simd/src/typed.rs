//! Values whose storage type is known at run time, so that what is built over them is compiled once and not for every
//! mix of types.

use crate::{Dtype, Element, Isa, Kernel};

/// Evaluates an expression in which `$T` is the storage type that a [`Dtype`] names.
///
/// ```
/// use gristmill_simd::{Dtype, Element, typed};
///
/// let name = |dtype| typed!(dtype, T => T::NAME);
/// assert_eq!(name(Dtype::Bf16), "bf16");
/// ```
#[macro_export]
macro_rules! typed {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::F32 => {
                type $T = f32;
                $body
            }
            $crate::Dtype::F16 => {
                type $T = $crate::f16;
                $body
            }
            $crate::Dtype::Bf16 => {
                type $T = $crate::bf16;
                $body
            }
        }
    };
}

/// A pointer to values of some storage type.
#[derive(Clone, Copy, Debug)]
pub struct TypedPtr {
    address: *const u8,
    dtype: Dtype,
}

impl TypedPtr {
    /// The pointer `p`.
    #[inline(always)]
    pub fn new<T: Element>(p: *const T) -> Self {
        Self { address: p.cast(), dtype: T::DTYPE }
    }

    /// The address alone.
    #[inline(always)]
    pub fn address(self) -> *const u8 {
        self.address
    }

    /// What it points to.
    #[inline(always)]
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// The pointer as that of its type.
    #[inline(always)]
    pub fn cast<T: Element>(self) -> *const T {
        debug_assert_eq!(self.dtype, T::DTYPE);
        self.address.cast()
    }

    /// The pointer to the bits of a 16-bit type.
    #[inline(always)]
    pub fn cast_bits(self) -> *const u16 {
        debug_assert_eq!(self.dtype.size(), 2);
        self.address.cast()
    }

    /// The pointer `n` values further on.
    #[inline(always)]
    pub fn offset(self, n: isize) -> Self {
        Self { address: self.address.wrapping_offset(n.wrapping_mul(self.dtype.size() as isize)), ..self }
    }

    /// The value, widened.
    ///
    /// # Safety
    /// It must be readable.
    #[inline]
    pub unsafe fn value(self) -> f32 {
        // SAFETY: the caller's promise.
        typed!(self.dtype, T => unsafe { *self.cast::<T>() }.to_f32())
    }

    /// Widens `n` values, `stride` apart, to `to`.
    ///
    /// # Safety
    /// They must be readable, and `n` values at `to` writable; the two do not overlap.
    #[inline(always)]
    pub unsafe fn read<I: Isa>(self, isa: I, stride: isize, n: usize, to: *mut f32) {
        if stride == 1 {
            isa.vectorize(Read { from: self, n, to });
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.gather(stride, n, to) };
        }
    }

    /// Rounds `n` values at `from` to the type, `stride` apart.
    ///
    /// # Safety
    /// `n` values at `from` must be readable and those of the pointer writable; the two do not overlap.
    #[inline(always)]
    pub unsafe fn write<I: Isa>(self, isa: I, stride: isize, n: usize, from: *const f32) {
        if stride == 1 {
            isa.vectorize(Write { from, n, to: self });
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.scatter(stride, n, from) };
        }
    }

    /// The first `n` lanes of a register from values `stride` apart; what is in the others is unspecified.
    ///
    /// # Safety
    /// The values must be readable; `n <= LANES`.
    #[inline(always)]
    pub unsafe fn load<I: Isa>(self, isa: I, stride: isize, n: usize) -> I::F32 {
        // SAFETY: the caller's promise; a register has at most 16 lanes.
        unsafe {
            if stride == 1 && n == I::LANES {
                return typed!(self.dtype, T => T::load(isa, self.cast()));
            }
            let mut lanes = [0.0; 16];
            self.read(isa, stride, n, lanes.as_mut_ptr());
            isa.load(lanes.as_ptr())
        }
    }

    /// Rounds the first `n` lanes of a register to the type, `stride` apart.
    ///
    /// # Safety
    /// The places must be writable; `n <= LANES`.
    #[inline(always)]
    pub unsafe fn store<I: Isa>(self, isa: I, stride: isize, n: usize, x: I::F32) {
        // SAFETY: the caller's promise; a register has at most 16 lanes.
        unsafe {
            if stride == 1 && n == I::LANES {
                return typed!(self.dtype, T => T::store(isa, self.cast::<T>().cast_mut(), x));
            }
            let mut lanes = [0.0; 16];
            isa.store(lanes.as_mut_ptr(), x);
            self.write(isa, stride, n, lanes.as_ptr());
        }
    }

    /// # Safety
    /// As [`read`](Self::read).
    #[inline(never)]
    unsafe fn gather(self, stride: isize, n: usize, to: *mut f32) {
        for i in 0..n {
            // SAFETY: the caller's promise.
            unsafe { to.add(i).write(self.offset((i as isize).wrapping_mul(stride)).value()) };
        }
    }

    /// # Safety
    /// As [`write`](Self::write).
    #[inline(never)]
    unsafe fn scatter(self, stride: isize, n: usize, from: *const f32) {
        typed!(self.dtype, T => for i in 0..n {
            let to = self.offset((i as isize).wrapping_mul(stride)).cast::<T>().cast_mut();
            // SAFETY: the caller's promise.
            unsafe { to.write(T::from_f32(*from.add(i))) };
        });
    }
}

/// [`TypedPtr::read`] of values side by side.
struct Read {
    from: TypedPtr,
    n: usize,
    to: *mut f32,
}

impl Kernel for Read {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { from, n, to } = self;
        // SAFETY: n values on both sides.
        typed!(from.dtype, T => unsafe { convert(isa, n, from.cast::<T>(), to) })
    }
}

/// [`TypedPtr::write`] of values side by side.
struct Write {
    from: *const f32,
    n: usize,
    to: TypedPtr,
}

impl Kernel for Write {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { from, n, to } = self;
        // SAFETY: n values on both sides.
        typed!(to.dtype, T => unsafe { convert(isa, n, from, to.cast::<T>().cast_mut()) })
    }
}

/// # Safety
/// `n` values at `from` must be readable and at `to` writable; the two do not overlap.
#[inline(always)]
unsafe fn convert<I: Isa, S: Element, D: Element>(isa: I, n: usize, from: *const S, to: *mut D) {
    let whole = n - n % I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        // SAFETY: i + LANES <= n.
        unsafe { D::store(isa, to.add(i), S::load(isa, from.add(i))) };
    }
    if whole < n {
        let tail = isa.tail(n - whole);
        // SAFETY: whole + (n - whole) = n.
        unsafe { D::store_tail(isa, to.add(whole), S::load_tail(isa, from.add(whole), tail), tail) };
    }
}
