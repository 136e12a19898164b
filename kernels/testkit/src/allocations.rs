//! Counts allocations, to test that there are none in steady state.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks for.
///
/// ```
/// use gristmill_testkit::allocations::{Counting, count};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let before = count();
/// let vector = vec![1];
/// assert_eq!(count() - before, vector.len());
/// ```
pub struct Counting;

/// Allocations of the calling thread so far, 0 unless [`Counting`] is the global allocator. A reallocation is one.
pub fn count() -> usize {
    COUNT.get()
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(p, layout) }
    }
}
