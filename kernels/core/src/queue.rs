//! Jobs that several workers take.

use std::ops::Range;
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
        self.next_few(home, 1).map(|jobs| jobs.start)
    }

    /// As [`next`](Self::next), up to `few` jobs, or one for none, which are neighbours. Each take waits until all that was
    /// stored before is in the cache, which short jobs should not do each.
    pub fn next_few(&self, home: usize, few: usize) -> Option<Range<usize>> {
        // A cursor stays within twice the jobs, however often it is asked.
        let (home, few) = (home % self.segments, few.clamp(1, self.jobs.max(1)));
        (0..self.segments).find_map(|step| {
            let s = (home + step) % self.segments;
            let end = start(self.jobs, self.segments, s + 1);
            let next = &self.next[s].0;
            // Only the numbers are shared. The look before the step keeps a finished segment from running on.
            if next.load(Ordering::Relaxed) >= end {
                return None;
            }
            let first = next.fetch_add(few, Ordering::Relaxed);
            (first < end).then(|| first..end.min(first + few))
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
    fn some_jobs_are_neighbours_of_one_segment() {
        let queue = Queue::new(10, 2);
        let few: Vec<_> = std::iter::from_fn(|| queue.next_few(1, 3)).collect();
        assert_eq!(few, [5..8, 8..10, 0..3, 3..5]);
        let (all, one) = (Queue::new(10, 2), Queue::new(2, 1));
        assert_eq!([all.next_few(0, usize::MAX), all.next_few(0, usize::MAX)], [0..5, 5..10].map(Some));
        assert_eq!([one.next_few(0, 0), one.next_few(0, 0), one.next_few(0, 0)], [Some(0..1), Some(1..2), None]);
    }

    #[test]
    fn a_worker_starts_at_home() {
        let queue = Queue::new(10, 2);
        assert_eq!([queue.next(1), queue.next(0), queue.next(1), queue.next(2)], [5, 0, 6, 1].map(Some));
        let left: Vec<_> = std::iter::from_fn(|| queue.next(1)).collect();
        assert_eq!(left, [7, 8, 9, 2, 3, 4]);
        let queue = Queue::new(3, 3);
        assert_eq!([usize::MAX; 4].map(|home| queue.next(home)), [Some(0), Some(1), Some(2), None]);
    }
}
