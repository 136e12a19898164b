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
//! A slab goes back to the system when nothing in it is kept any more, but for one that waits for what comes next. Until
//! then the room of parts that are gone is for new ones that fit there.

use crate::{Error, list};
use aligned_vec::{AVec, ConstAlign};
use std::alloc::{Layout, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
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
            let slab = slabs().give_back(self.start.cast(), bytes);
            // Not while the others wait.
            drop(slab);
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

/// Says whether lists that are made from now on, in the whole process, share slabs, as they do unless told. For tests that
/// watch single allocations, which see more where each list has memory of its own.
#[doc(hidden)]
pub fn share(shared: bool) {
    SHARED.store(shared, Relaxed);
}

fn slabs() -> MutexGuard<'static, Slabs> {
    // Nothing panics half-way.
    SLABS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Slabs(Vec<Slab>);

/// Memory from which parts are taken.
struct Slab {
    memory: AVec<MaybeUninit<u8>, ConstAlign<LARGE>>,
    /// Bytes from the front behind which nothing is taken.
    used: usize,
    /// Parts that are taken.
    parts: usize,
    /// What is free among the used bytes, in order and apart from each other.
    gaps: Vec<Range<usize>>,
}

impl Slabs {
    /// Memory of so many bytes, from a cache line on, if there is any; with others, if it may be `shared`.
    fn take(&mut self, bytes: usize, shared: bool) -> Option<NonNull<u8>> {
        let bytes = bytes.checked_next_multiple_of(LINE).filter(|&bytes| bytes <= isize::MAX as usize - LARGE)?;
        let Self(slabs) = self;
        let place = match slabs.iter().position(|slab| shared && slab.room(bytes).is_some()) {
            Some(place) => place,
            None => {
                list::reserve(slabs, 1).ok()?;
                let large = if shared && bytes <= SLAB / 2 { Slab::new(SLAB) } else { None };
                // Where there is no room to share, there may be enough for one.
                slabs.push(large.or_else(|| Slab::new(bytes))?);
                slabs.len() - 1
            }
        };
        slabs[place].take(bytes)
    }

    /// Takes back what [`take`](Self::take) has given; the slab, if it is to go back to the system.
    fn give_back(&mut self, start: NonNull<u8>, bytes: usize) -> Option<Slab> {
        let Self(slabs) = self;
        let bytes = bytes.next_multiple_of(LINE);
        let offset = |slab: &mut Slab| start.addr().get().wrapping_sub(slab.start().addr());
        let Some(place) = slabs.iter_mut().position(|slab| offset(slab) < slab.memory.capacity()) else {
            unreachable!("what was taken lies in a slab")
        };
        let first = offset(&mut slabs[place]);
        slabs[place].give_back(first..first + bytes);
        let waits = |slab: &Slab| slab.parts == 0 && slab.memory.capacity() == SLAB;
        let goes =
            slabs[place].parts == 0 && (!waits(&slabs[place]) || slabs.iter().filter(|slab| waits(slab)).count() > 1);
        goes.then(|| slabs.swap_remove(place))
    }
}

impl Slab {
    /// A slab of so many bytes, if there is memory for it.
    fn new(bytes: usize) -> Option<Self> {
        let mut memory = AVec::new(LARGE);
        memory.try_reserve_exact(bytes).ok()?;
        let mut slab = Self { memory, used: 0, parts: 0, gaps: Vec::new() };
        prefer_large_pages(slab.start(), bytes);
        Some(slab)
    }

    /// Where so many bytes are free.
    fn room(&self, bytes: usize) -> Option<usize> {
        let gap = self.gaps.iter().find(|gap| gap.len() >= bytes).map(|gap| gap.start);
        gap.or((bytes <= self.memory.capacity() - self.used).then_some(self.used))
    }

    /// Takes so many bytes, if they are free.
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let first = self.room(bytes)?;
        if self.parts > 0 {
            // For the gaps that this part may leave: one before each part, and one that joins its neighbours.
            list::reserve(&mut self.gaps, self.parts + 2).ok()?;
        }
        if first == self.used {
            self.used += bytes;
        } else {
            self.gaps.iter_mut().filter(|gap| gap.start == first).for_each(|gap| gap.start += bytes);
            self.gaps.retain(|gap| !gap.is_empty());
        }
        self.parts += 1;
        NonNull::new(self.start().wrapping_add(first))
    }

    /// Takes back a part.
    fn give_back(&mut self, part: Range<usize>) {
        self.parts -= 1;
        if self.parts == 0 {
            self.used = 0;
            self.gaps.clear();
            return;
        }
        let at = self.gaps.partition_point(|gap| gap.start < part.start);
        self.gaps.insert(at, part);
        // The gap behind first: it moves no other.
        for left in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            if left + 1 < self.gaps.len() && self.gaps[left].end == self.gaps[left + 1].start {
                self.gaps[left].end = self.gaps.remove(left + 1).end;
            }
        }
        if let Some(last) = self.gaps.pop_if(|last| last.end == self.used) {
            self.used = last.start;
        }
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
        let parts = [LARGE; 5].map(|bytes| slabs.take(bytes, true).unwrap());
        let give_back = |slabs: &mut Slabs, i: usize| assert!(slabs.give_back(parts[i], LARGE).is_none());
        let gaps = |slabs: &Slabs| slabs.0[0].gaps.iter().map(|gap| [gap.start, gap.end]).collect::<Vec<_>>();
        // Apart, then from the left, the right and both sides.
        for (i, expected) in [(1, vec![[1, 2]]), (3, vec![[1, 2], [3, 4]]), (2, vec![[1, 4]]), (0, vec![[0, 4]])] {
            give_back(&mut slabs, i);
            assert_eq!(gaps(&slabs), expected.iter().map(|gap| gap.map(|n| n * LARGE)).collect::<Vec<_>>());
        }
        assert_eq!(held(&slabs), [[SLAB, 5 * LARGE, 1]]);
        // What fits goes there, what does not behind the last.
        assert_eq!(slabs.take(LARGE + 1, true), Some(parts[0]));
        assert_eq!(gaps(&slabs), [[LARGE + LINE, 4 * LARGE]]);
        let behind = slabs.take(3 * LARGE, true).unwrap();
        assert_eq!(behind.addr().get() - parts[0].addr().get(), 5 * LARGE);
        let rest = slabs.take(3 * LARGE - LINE, true).unwrap();
        assert_eq!((gaps(&slabs), held(&slabs)), (vec![], vec![[SLAB, 8 * LARGE, 4]]));
        // The last takes the gap before it along.
        slabs.give_back(rest, 3 * LARGE - LINE);
        slabs.give_back(parts[4], LARGE);
        slabs.give_back(behind, 3 * LARGE);
        assert_eq!((gaps(&slabs), held(&slabs)), (vec![], vec![[SLAB, LARGE + LINE, 1]]));
        slabs.give_back(parts[0], LARGE + 1);
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
