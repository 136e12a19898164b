//! Jobs that several workers take.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Segments of a queue, at most.
const SEGMENTS: usize = 64;

/// The numbers `0..jobs` in one segment per worker. A worker empties its own segment first, and then helps with the
/// others: call after call, a thread meets the same jobs, whose operands its caches may still hold.
pub struct Queue {
    next: [Cursor; SEGMENTS],
    jobs: usize,
    segments: usize,
}

/// The next job of a segment, on a cache line of its own.
#[repr(align(64))]
struct Cursor(AtomicUsize);

impl Queue {
    /// A queue for some workers, at least one.
    pub fn new(jobs: usize, workers: usize) -> Self {
        let segments = workers.clamp(1, SEGMENTS);
        let first = |s| if s < segments { start(jobs, segments, s) } else { jobs };
        let next = std::array::from_fn(|s| Cursor(AtomicUsize::new(first(s))));
        Self { next, jobs, segments }
    }

    /// The next job for whoever empties segment `home` first; none when all are taken. Any number is a home.
    pub fn next(&self, home: usize) -> Option<usize> {
        (0..self.segments).find_map(|step| {
            let s = (home + step) % self.segments;
            let end = start(self.jobs, self.segments, s + 1);
            let next = &self.next[s].0;
            // Only the numbers are shared. The look before the step keeps a finished segment from running on.
            if next.load(Ordering::Relaxed) >= end {
                return None;
            }
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&job| job < end)
        })
    }
}

/// Where segment `s` starts, and the one before it ends.
fn start(jobs: usize, segments: usize, s: usize) -> usize {
    // jobs * s / segments, without the overflow.
    jobs / segments * s + jobs % segments * s / segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_handed_out_once() {
        for (jobs, workers) in [(0, 1), (1, 1), (5, 2), (7, 3), (100, 64), (200, 90)] {
            let queue = Queue::new(jobs, workers);
            let mut seen = vec![0; jobs];
            let mut idle = 0;
            for turn in 0.. {
                match queue.next(turn % workers) {
                    Some(job) => seen[job] += 1,
                    None if idle == workers => break,
                    None => idle += 1,
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{jobs} jobs, {workers} workers: {seen:?}");
        }
    }

    #[test]
    fn a_worker_starts_at_home() {
        let queue = Queue::new(10, 2);
        assert_eq!([queue.next(1), queue.next(0), queue.next(1), queue.next(2)], [5, 0, 6, 1].map(Some));
        let left: Vec<_> = std::iter::from_fn(|| queue.next(1)).collect();
        assert_eq!(left, [7, 8, 9, 2, 3, 4]);
    }
}
