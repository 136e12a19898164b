//! Memory for what is kept and read again and again: packed weights, pages of keys and values.
//!
//! A processor that reads more than its caches hold must also look up each page of memory, of 4 KiB as a rule, which is up
//! to a tenth of the time of a decoder step. Linux has pages of 2 MiB too, for memory that is advised to want them, but
//! weights are seldom multiples of that. So they lie side by side in *slabs*, and so do the pages of caches:
//!
//! ```text
//!   slab      2 MiB       2 MiB       2 MiB       ..
//!             |-----------|-----------|-----------|---
//!   values    weight 0 |weight 1|weight 2            |  (room)
//! ```
//!
//! A slab goes back to the system when nothing in it is kept any more, but for one that waits for what comes next. What
//! lies in one should live about as long: the room of a part that is not the last is free again only when all parts are.

use crate::{Error, list};
use aligned_vec::{AVec, ConstAlign};
use std::alloc::{Layout, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, slice};

/// Bytes of a cache line, at which values begin.
const LINE: usize = 64;

/// Bytes of a large page, at which slabs begin.
const LARGE: usize = 2 << 20;

/// Bytes of a slab that several share. What takes more than half of one has a slab of its own.
const SLAB: usize = 8 * LARGE;

/// A list at a cache line, whose room is fixed when it is made, among others in large pages.
pub struct Kept<T> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: the list owns its values: nobody else has a pointer to that part of the slab.
unsafe impl<T: Send> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Kept<T> {}

impl<T: Copy> Kept<T> {
    /// An empty list with room for `capacity` values.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], also for more than can be addressed.
    pub fn with_capacity(capacity: usize) -> Result<Self, Error> {
        const { assert!(align_of::<T>() <= LINE, "values that a cache line aligns") };
        let bytes = capacity.saturating_mul(size_of::<T>());
        let start = match bytes {
            0 => NonNull::dangling(),
            _ => slabs().take(bytes, SHARED.load(Relaxed)).ok_or(Error::OutOfMemory { bytes })?.cast(),
        };
        Ok(Self { start, len: 0, capacity })
    }

    /// Makes the list `len` values long; new ones are `value`.
    ///
    /// # Panics
    /// If there is no room for that.
    pub fn resize(&mut self, len: usize, value: T) {
        assert!(len <= self.capacity, "{len} values, room for {}", self.capacity);
        for i in self.len..len {
            // SAFETY: there is room for so many, which is the list's own.
            unsafe { self.start.add(i).write(value) };
        }
        self.len = len;
    }
}

impl<T: Copy> Clone for Kept<T> {
    fn clone(&self) -> Self {
        let Ok(mut copy) = Self::with_capacity(self.capacity) else {
            handle_alloc_error(Layout::for_value::<[T]>(self));
        };
        // SAFETY: there is room for as many values in the copy, which is another place.
        unsafe { copy.start.copy_from_nonoverlapping(self.start, self.len) };
        copy.len = self.len;
        copy
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let bytes = self.capacity * size_of::<T>();
        if bytes > 0 {
            slabs().give_back(self.start.cast(), bytes);
        }
    }
}

impl<T> Deref for Kept<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values have been written, and they are the list's own.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Kept<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("len", &self.len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

static SLABS: Mutex<Slabs> = Mutex::new(Slabs(Vec::new()));

static SHARED: AtomicBool = AtomicBool::new(true);

/// Says whether lists that are made from now on share slabs, as they do unless told. Tools that watch single allocations
/// see more where each list has memory of its own.
pub fn share(shared: bool) {
    SHARED.store(shared, Relaxed);
}

fn slabs() -> MutexGuard<'static, Slabs> {
    // Nothing panics half-way.
    SLABS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Slabs(Vec<Slab>);

/// Memory from which parts are taken from the front.
struct Slab {
    memory: AVec<MaybeUninit<u8>, ConstAlign<LARGE>>,
    /// Bytes from the front that are taken, or were and are not the last.
    used: usize,
    /// Parts that are taken.
    parts: usize,
}

impl Slabs {
    /// Memory of so many bytes, from a cache line on, if there is any; with others, if it may be `shared`.
    fn take(&mut self, bytes: usize, shared: bool) -> Option<NonNull<u8>> {
        let bytes = bytes.checked_next_multiple_of(LINE).filter(|&bytes| bytes <= isize::MAX as usize - LARGE)?;
        let Self(slabs) = self;
        let fits = |slab: &Slab| shared && bytes <= slab.memory.capacity() - slab.used;
        let place = match slabs.iter().position(fits) {
            Some(place) => place,
            None => {
                list::reserve(slabs, 1).ok()?;
                slabs.push(Slab::new(if shared && bytes <= SLAB / 2 { SLAB } else { bytes })?);
                slabs.len() - 1
            }
        };
        let slab = &mut slabs[place];
        let start = slab.start().wrapping_add(slab.used);
        (slab.used, slab.parts) = (slab.used + bytes, slab.parts + 1);
        NonNull::new(start)
    }

    /// Takes back what [`take`](Self::take) has given.
    fn give_back(&mut self, start: NonNull<u8>, bytes: usize) {
        let Self(slabs) = self;
        let bytes = bytes.next_multiple_of(LINE);
        let offset = |slab: &mut Slab| start.addr().get().wrapping_sub(slab.start().addr());
        let Some(place) = slabs.iter_mut().position(|slab| offset(slab) < slab.memory.capacity()) else {
            unreachable!("what was taken lies in a slab")
        };
        let slab = &mut slabs[place];
        slab.parts -= 1;
        if slab.parts == 0 {
            slab.used = 0;
            let waits = |other: &Slab| other.parts == 0 && other.memory.capacity() == SLAB;
            if slab.memory.capacity() != SLAB || slabs.iter().filter(|slab| waits(slab)).count() > 1 {
                slabs.swap_remove(place);
            }
        } else if offset(slab) + bytes == slab.used {
            slab.used -= bytes;
        }
    }
}

impl Slab {
    /// A slab of so many bytes, if there is memory for it.
    fn new(bytes: usize) -> Option<Self> {
        let mut memory = AVec::new(LARGE);
        memory.try_reserve_exact(bytes).ok()?;
        let mut slab = Self { memory, used: 0, parts: 0 };
        prefer_large_pages(slab.start(), bytes);
        Some(slab)
    }

    fn start(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr().cast()
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn prefer_large_pages(start: *mut u8, bytes: usize) {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn madvise(start: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const MADV_HUGEPAGE: c_int = 14;
    // SAFETY: this advice changes no contents and no access, wherever it points; a refusal changes nothing.
    unsafe { madvise(start.cast(), bytes, MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer_large_pages(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(slabs: &Slabs) -> Vec<[usize; 3]> {
        slabs.0.iter().map(|slab| [slab.memory.capacity(), slab.used, slab.parts]).collect()
    }

    #[test]
    fn lists_begin_at_lines_and_hold_what_they_are_given() -> Result<(), Error> {
        let lists = [0, 1, 7, 1000, SLAB / 8, SLAB / 8 + 1, 3 * SLAB / 4].map(Kept::<f32>::with_capacity);
        let mut lists = lists.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (i, list) in lists.iter_mut().enumerate() {
            let capacity = list.capacity;
            list.resize(capacity / 2, i as f32);
            list.resize(capacity, -(i as f32));
        }
        for (i, list) in lists.iter().enumerate() {
            assert!(list.len() == list.capacity && (list.is_empty() || list.as_ptr().addr().is_multiple_of(LINE)));
            let (front, back) = list.split_at(list.len() / 2);
            assert!(front.iter().all(|&x| x == i as f32) && back.iter().all(|&x| x == -(i as f32)), "list {i}");
            assert!(list.clone()[..] == list[..], "copy of list {i}");
        }
        Ok(())
    }

    #[test]
    #[should_panic(expected = "5 values, room for 4")]
    fn a_list_does_not_outgrow_its_room() {
        Kept::with_capacity(4).unwrap().resize(5, 0u16);
    }

    #[test]
    fn too_much_is_refused() {
        for capacity in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4] {
            let bytes = capacity.saturating_mul(4);
            assert_eq!(Kept::<f32>::with_capacity(capacity).unwrap_err(), Error::OutOfMemory { bytes });
        }
    }

    #[test]
    fn parts_share_slabs_that_begin_at_large_pages() {
        let mut slabs = Slabs(Vec::new());
        let sizes = [1, LARGE, SLAB / 2, SLAB / 2 + 1, 3 * SLAB, LARGE];
        let parts = sizes.map(|bytes| slabs.take(bytes, true).unwrap());
        let first = LINE + LARGE + SLAB / 2;
        let own = SLAB / 2 + LINE;
        assert_eq!(held(&slabs), [[SLAB, first + LARGE, 4], [own, own, 1], [3 * SLAB, 3 * SLAB, 1]]);
        for slab in &mut slabs.0 {
            assert!(slab.start().addr().is_multiple_of(LARGE));
        }
        let at = |i: usize| parts[i].addr().get() - parts[0].addr().get();
        assert_eq!([at(1), at(2), at(5)], [LINE, LINE + LARGE, first]);
    }

    #[test]
    fn a_slab_is_filled_to_its_end_and_no_further() {
        let mut slabs = Slabs(Vec::new());
        for bytes in [SLAB / 2, SLAB / 2 - LINE, LINE, 1] {
            slabs.take(bytes, true).unwrap();
        }
        assert_eq!(held(&slabs), [[SLAB, SLAB, 3], [SLAB, LINE, 1]]);
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let mut slabs = Slabs(Vec::new());
        let parts = [LARGE, LARGE, LARGE].map(|bytes| slabs.take(bytes, true).unwrap());
        // Not the last: its room waits for the others.
        slabs.give_back(parts[1], LARGE);
        assert_eq!(held(&slabs), [[SLAB, 3 * LARGE, 2]]);
        slabs.give_back(parts[2], LARGE);
        assert_eq!(held(&slabs), [[SLAB, 2 * LARGE, 1]]);
        assert_eq!(slabs.take(LARGE, true), Some(parts[2]));
        slabs.give_back(parts[2], LARGE);
        slabs.give_back(parts[0], LARGE);
        assert_eq!(held(&slabs), [[SLAB, 0, 0]]);
    }

    #[test]
    fn what_is_not_shared_has_a_slab_of_its_own() {
        let mut slabs = Slabs(Vec::new());
        let parts = [(LINE, true), (2 * LINE, false), (3 * LINE, false), (LINE, true)];
        let parts = parts.map(|(bytes, shared)| (slabs.take(bytes, shared).unwrap(), bytes));
        let own = |lines: usize| [lines * LINE, lines * LINE, 1];
        assert_eq!(held(&slabs), [[SLAB, 2 * LINE, 2], own(2), own(3)]);
        for (part, bytes) in parts {
            slabs.give_back(part, bytes);
        }
        assert_eq!(held(&slabs), [[SLAB, 0, 0]]);
    }

    #[test]
    fn one_empty_slab_is_kept() {
        let mut slabs = Slabs(Vec::new());
        let parts = [SLAB / 2, SLAB / 2, SLAB / 2, 2 * SLAB].map(|bytes| (slabs.take(bytes, true).unwrap(), bytes));
        assert_eq!(held(&slabs), [[SLAB, SLAB, 2], [SLAB, SLAB / 2, 1], [2 * SLAB, 2 * SLAB, 1]]);
        for (part, bytes) in parts {
            slabs.give_back(part, bytes);
        }
        assert_eq!(held(&slabs), [[SLAB, 0, 0]]);
    }
}
