//! Lets memory run out, to test what a call leaves behind.

use crate::{assert_bits_eq, sweep};
use gristmill_core::kept::{self, Kept};
use gristmill_core::{Error, Threads, Workspace, cache::Caches};
use gristmill_simd::{Element, Level, Simd};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

thread_local! {
    static NOW: Cell<Option<Shortage>> = const { Cell::new(None) };
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which refuses memory to a thread that suffers a [`Shortage`].
pub struct Scarce;

/// Which allocations are refused. A reallocation is one.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    /// How many are granted before the first that is not.
    pub after: usize,
    /// Whether all that follow are refused as well.
    pub lasting: bool,
    /// Bytes of the smallest that counts; smaller ones are granted.
    pub least: usize,
}

impl Shortage {
    /// Makes a call during which the calling thread is refused memory. Whether it was.
    ///
    /// ```
    /// use gristmill_testkit::shortage::{Scarce, Shortage};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: Scarce = Scarce;
    ///
    /// let room = || Vec::<u8>::new().try_reserve(100).is_ok();
    /// let shortage = Shortage { after: 1, lasting: false, least: 100 };
    /// assert_eq!(shortage.during(|| [room(), room(), room()]), ([true, false, true], true));
    /// assert_eq!(Shortage { lasting: true, ..shortage }.during(|| [(); 3].map(|()| room())), ([true, false, false], true));
    /// assert_eq!(Shortage { least: 101, ..shortage }.during(|| [room(), room()]), ([true; 2], false));
    /// ```
    pub fn during<R>(self, call: impl FnOnce() -> R) -> (R, bool) {
        NOW.set(Some(self));
        REFUSED.set(false);
        let result = call();
        NOW.set(None);
        (result, REFUSED.get())
    }
}

/// Makes a call over and over, each time on something `fresh`, and lets each of its allocations of at least so many
/// bytes fail in turn: alone, and with all that follow. `check` gets what such a call has left, and its result; at last
/// those of a call that had all it wanted. How many allocations that took.
///
/// ```
/// use gristmill_testkit::shortage::{Scarce, every};
///
/// #[global_allocator]
/// static ALLOCATOR: Scarce = Scarce;
///
/// // A call that is repeated, which is possible whatever it has done before.
/// let both = |lists: &mut [Vec<u8>; 2]| lists.iter_mut().try_for_each(|list| list.try_reserve(1));
/// let allocations = every(1, Default::default, both, |mut lists, _| both(&mut lists).unwrap());
/// assert_eq!(allocations, 2);
/// ```
///
/// # Panics
/// When a call succeeds without the memory that it asked for, or fails with all of it.
#[track_caller]
pub fn every<S, T, E: Debug>(
    least: usize,
    mut fresh: impl FnMut() -> S,
    mut call: impl FnMut(&mut S) -> Result<T, E>,
    mut check: impl FnMut(S, Result<T, E>),
) -> usize {
    // What a process finds out once may take memory that a call does not.
    let _ = (Caches::detected(), Simd::choose(None));
    // Packed weights and pages of caches, too, are to ask for memory each.
    kept::share(false);
    drop([(); 64].map(|()| Kept::<f32>::with_capacity(1)));
    let [alone, lasting] = [false, true].map(|lasting| {
        let enough = (0..).find(|&after| {
            let (shortage, mut state) = (Shortage { after, lasting, least }, fresh());
            let (result, refused) = shortage.during(|| call(&mut state));
            let error = result.as_ref().err();
            assert_eq!(error.is_some(), refused, "{shortage:?} and {error:?}");
            // Shown if the check fails.
            println!("{shortage:?}, {error:?}");
            check(state, result);
            !refused
        });
        enough.expect("a call ends")
    });
    assert_eq!(alone, lasting, "the number of allocations varies");
    alone
}

/// Checks a call that has an output and a workspace with [`every`] shortage: it says so and leaves the output alone, and
/// made again with memory gives what it gives with memory from the start. How many allocations it makes.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn every_output<T: Element>(
    before: &[T],
    context: &str,
    call: impl Fn(&mut [T], &mut Workspace) -> Result<(), Error>,
) -> usize {
    let mut expected = before.to_vec();
    call(&mut expected, &mut Workspace::new()).expect("there is memory");
    every(
        1,
        || (before.to_vec(), Workspace::new()),
        |(out, workspace)| call(out, workspace),
        |(mut out, mut workspace), result| {
            if let Err(error) = result {
                assert!(matches!(error, Error::OutOfMemory { bytes } if bytes > 0), "{context}: {error}");
                assert_bits_eq(&out, before, context);
                call(&mut out, &mut workspace).expect("there is memory again");
            }
            assert_bits_eq(&out, &expected, context);
        },
    )
}

/// As [`sweep::levels_and_threads`], with threads of its own: one of shared threads may take up another test's work while
/// it waits for the others, in the middle of a call that suffers a shortage.
///
/// # Panics
/// As [`sweep::levels`], and when there are no more threads.
#[track_caller]
pub fn levels_and_threads(mut f: impl FnMut(Level, Threads) + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("three threads can be started");
    let three = Threads::Pool(&pool);
    sweep::levels(|level| {
        f(level, Threads::Serial);
        three.enter(|| f(level, three));
    });
}

/// Whether an allocation is to fail.
fn refuse(layout: Layout) -> bool {
    // Whoever panics needs memory to say why.
    let Some(shortage) = NOW.get().filter(|now| layout.size() >= now.least && !std::thread::panicking()) else {
        return false;
    };
    let refused = shortage.after == 0;
    if refused {
        REFUSED.set(true);
        NOW.set(shortage.lasting.then_some(shortage));
    } else {
        NOW.set(Some(Shortage { after: shortage.after - 1, ..shortage }));
    }
    refused
}

// SAFETY: every call is passed on to the system's allocator, or answered as one that has no memory may answer.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuse(layout) {
            return std::ptr::null_mut();
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(p, layout) }
    }
}
