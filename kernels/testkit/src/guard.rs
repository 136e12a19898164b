//! Memory between inaccessible pages: one element too far is a fault, not a wrong number.

use std::{
    ops::{Deref, DerefMut},
    ptr,
};

/// A slice of plain values flush against an inaccessible page, with another before it.
///
/// The rest of its first or last page holds a pattern that is checked when the slice is dropped, so that writes on
/// the other side are found too.
pub struct Guarded<T: Copy> {
    map: *mut u8,
    map_len: usize,
    start: *mut T,
    len: usize,
}

/// Fills the bytes of accessible pages outside the slice.
const SLACK: u8 = 0xa5;

// SAFETY: the mapping is owned, as a Box<[T]> owns its memory.
unsafe impl<T: Copy + Send> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Sync> Sync for Guarded<T> {}

impl<T: Copy> Guarded<T> {
    /// A copy of `values` whose last element ends where an inaccessible page begins.
    pub fn flush_end(values: &[T]) -> Self {
        Self::new(values, true)
    }

    /// A copy of `values` whose first element begins where an inaccessible page ends.
    pub fn flush_start(values: &[T]) -> Self {
        Self::new(values, false)
    }

    fn new(values: &[T], at_end: bool) -> Self {
        // SAFETY: a plain query.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = size_of_val(values);
        let inner_len = bytes.next_multiple_of(page);
        let map_len = inner_len + 2 * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping touches no memory that exists.
        let map = unsafe { libc::mmap(ptr::null_mut(), map_len, libc::PROT_NONE, flags, -1, 0) };
        assert!(map != libc::MAP_FAILED, "mmap of {map_len} bytes: {}", std::io::Error::last_os_error());
        let map = map.cast::<u8>();
        let inner = map.wrapping_add(page);
        if inner_len > 0 {
            // SAFETY: the inner pages lie in the mapping made above, which nothing else uses.
            let failed = unsafe { libc::mprotect(inner.cast(), inner_len, libc::PROT_READ | libc::PROT_WRITE) };
            assert_eq!(failed, 0, "mprotect: {}", std::io::Error::last_os_error());
        }
        let start = inner.wrapping_add(if at_end { inner_len - bytes } else { 0 }).cast::<T>();
        assert!(start.is_aligned(), "the size of the type is not a multiple of its alignment");
        // SAFETY: the inner pages are accessible and hold `bytes` bytes from `start` on.
        unsafe {
            inner.write_bytes(SLACK, inner_len);
            start.copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
        Self { map, map_len, start, len: values.len() }
    }

    /// The bytes of the accessible pages before and after the slice.
    fn slack(&self) -> [&[u8]; 2] {
        // SAFETY: a plain query.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (inner, inner_len) = (self.map.wrapping_add(page), self.map_len - 2 * page);
        let before = self.start as usize - inner as usize;
        let end = before + self.len * size_of::<T>();
        // SAFETY: both ranges lie in the inner pages, outside the slice.
        unsafe {
            [
                std::slice::from_raw_parts(inner, before),
                std::slice::from_raw_parts(inner.wrapping_add(end), inner_len - end),
            ]
        }
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written at `start`, in memory owned by self.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: `len` values were written at `start`, in memory owned by self.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        let clean = self.slack().into_iter().flatten().all(|&byte| byte == SLACK);
        // SAFETY: the mapping is owned by self and not used again.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
        assert!(clean || std::thread::panicking(), "memory beside a guarded slice of {} was written", self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_their_values_at_either_end() {
        for len in [0, 1, 5, 1023, 1024, 1025, 4096] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let (end, start) = (Guarded::flush_end(&values), Guarded::flush_start(&values));
            assert_eq!((&end[..], &start[..]), (&values[..], &values[..]));
            assert_eq!((end.as_ptr() as usize + 4 * len) % 4096, 0);
            assert_eq!(start.as_ptr() as usize % 4096, 0);
        }
    }

    #[test]
    fn the_next_element_is_out_of_reach() {
        let guarded = Guarded::flush_end(&[1.0f32; 3]);
        let beyond = guarded.as_ptr().wrapping_add(3);
        // The kernel refuses to read there on our behalf, which is a fault that can be observed.
        // SAFETY: write(2) reads the buffer in the kernel and fails cleanly when it cannot.
        let written = unsafe {
            let mut pipe = [0; 2];
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let written = libc::write(pipe[1], beyond.cast(), 4);
            libc::close(pipe[0]);
            libc::close(pipe[1]);
            written
        };
        assert_eq!(written, -1);
    }

    #[test]
    #[should_panic(expected = "memory beside a guarded slice of 3 was written")]
    fn a_write_before_the_slice_is_found() {
        let mut guarded = Guarded::flush_end(&[1.0f32; 3]);
        // SAFETY: the page of the slice is accessible before it too.
        unsafe { *guarded.as_mut_ptr().wrapping_sub(1) = 0.0 };
    }
}
