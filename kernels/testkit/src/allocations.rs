//! Counts allocations, to test that there are none in steady state.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static OF_WATCHED: AtomicUsize = AtomicUsize::new(0);

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

/// Counts the calling thread into [`watched`] from now on.
///
/// Only threads that take part should be watched, once they run: a pool's thread that starts late, and the test
/// harness beside the test, allocate whenever they come to it.
///
/// ```
/// use gristmill_testkit::allocations::{Counting, watch, watched};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
/// pool.broadcast(|_| watch());
/// let before = watched();
/// pool.install(|| drop(Box::new(1)));
/// drop(Box::new(2));
/// assert_eq!(watched() - before, 1);
/// ```
pub fn watch() {
    WATCHED.set(true);
}

/// Allocations so far of all threads that called [`watch`], from that call on.
pub fn watched() -> usize {
    OF_WATCHED.load(Relaxed)
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        if WATCHED.get() {
            OF_WATCHED.fetch_add(1, Relaxed);
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(p, layout) }
    }
}
