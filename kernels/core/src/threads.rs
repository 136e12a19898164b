//! Where parallel work runs.

use crate::Queue;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::error::Error;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The threads that a call may use. Results do not depend on it, to the bit.
#[derive(Clone, Copy, Debug, Default)]
pub enum Threads<'a> {
    /// The calling thread alone.
    Serial,
    /// The rayon pool that the caller runs in, the global one outside any pool; the calling thread alone where that one
    /// cannot be started.
    #[default]
    Global,
    /// This pool. A caller that is not in the pool waits for it; entering once around many calls, with
    /// [`Threads::enter`], is cheaper than once per call.
    Pool(&'a ThreadPool),
}

impl Threads<'_> {
    /// How many threads there are.
    pub fn count(&self) -> usize {
        match self {
            Threads::Serial => 1,
            Threads::Global if self.is_entered() || global_is_there() => rayon::current_num_threads(),
            Threads::Global => 1,
            Threads::Pool(pool) => pool.current_num_threads(),
        }
    }

    /// Whether the caller runs in the pool already. If not, entering it takes some tens of microseconds, which small
    /// work does not repay.
    pub fn is_entered(&self) -> bool {
        match self {
            Threads::Serial => true,
            Threads::Global => rayon::current_thread_index().is_some(),
            Threads::Pool(pool) => pool.current_thread_index().is_some(),
        }
    }

    /// How many workers [`for_each_worker`](Threads::for_each_worker) uses for `jobs` jobs; at least 1.
    pub fn workers(&self, jobs: usize) -> usize {
        if jobs <= 1 { 1 } else { self.count().clamp(1, jobs) }
    }

    /// Calls `f` once for each of `0..jobs`. Each thread has a share of its own, of neighbours, and then helps with the
    /// others', so jobs may differ in length, and equal calls find warm caches; the calling thread works too, and does
    /// everything itself while the others are busy elsewhere.
    pub fn for_each(&self, jobs: usize, f: impl Fn(usize) + Sync) {
        self.for_each_worker(jobs, |_, job| f(job));
    }

    /// Calls `f` for ranges of `size`, at least 1, that make up `0..items`, or for all of it at once where one thread does
    /// everything.
    pub fn for_each_range(&self, items: usize, size: usize, f: impl Fn(Range<usize>) + Sync) {
        let size = size.max(1);
        let jobs = items.div_ceil(size);
        match self.workers(jobs) {
            1 if items > 0 => f(0..items),
            _ => self.for_each(jobs, |job| f(job * size..items.min((job * size).saturating_add(size)))),
        }
    }

    /// As [`for_each`](Threads::for_each), calling `f(worker, job)` with a `worker` below
    /// [`workers(jobs)`](Threads::workers). No two calls with the same worker run at the same time, so each worker
    /// can own a part of the scratch memory.
    pub fn for_each_worker(&self, jobs: usize, f: impl Fn(usize, usize) + Sync) {
        let workers = self.workers(jobs);
        if workers == 1 {
            return (0..jobs).for_each(|job| f(0, job));
        }
        let queue = Queue::new(jobs, workers);
        let done = AtomicUsize::new(0);
        let work = |worker| {
            // By thread and not by worker: which thread runs which worker may differ from call to call.
            let home = rayon::current_thread_index().unwrap_or(worker);
            // Only numbers are shared here; the join orders everything else.
            while let Some(job) = queue.next(home) {
                f(worker, job);
                done.fetch_add(1, Ordering::Relaxed);
            }
            stay_awake(|| done.load(Ordering::Relaxed) == jobs);
        };
        self.enter(|| fork(0, workers, &work));
    }

    /// Calls `f` inside the pool, unless the caller is there already. What `f` starts with the same `Threads` then
    /// finds the pool's threads awake.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match self {
            _ if self.is_entered() => f(),
            Threads::Pool(pool) => pool.install(f),
            _ if global_is_there() => rayon::scope(|_| f()),
            _ => f(),
        }
    }
}

/// Whether there is a global pool. Rayon starts it at its first use, and panics at every one if that fails.
fn global_is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    // Where there are no threads at all, Rayon makes do with the calling one.
    cfg!(target_family = "wasm")
        || *THERE.get_or_init(|| match ThreadPoolBuilder::new().build_global() {
            Ok(()) => true,
            // Somebody else has started one, unless the system had something against it.
            Err(error) => error.source().is_none(),
        })
}

/// How long a thread without work waits for the others of its region. Rayon lets it sleep after some ten microseconds,
/// and to wake it takes longer than many a region: it would miss the next one, and the one after that.
const PATIENCE: Duration = Duration::from_micros(100);

/// Waits until a region is `over`, or until it has been a long time.
fn stay_awake(over: impl Fn() -> bool) {
    let mut start = None;
    while !over() && start.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
        std::thread::yield_now();
    }
}

/// Runs workers `first .. first + count`, the first of them here.
fn fork(first: usize, count: usize, work: &(impl Fn(usize) + Sync)) {
    if count == 1 {
        return work(first);
    }
    let near = count.div_ceil(2);
    rayon::join(|| fork(first, near, work), || fork(first + near, count - near, work));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_job_runs_once() {
        let (one, three) = (pool(1), pool(3));
        for threads in [Threads::Serial, Threads::Global, Threads::Pool(&one), Threads::Pool(&three)] {
            for jobs in [0, 1, 2, 3, 4, 100] {
                let done: Vec<_> = (0..jobs).map(|_| AtomicUsize::new(0)).collect();
                threads.for_each(jobs, |job| _ = done[job].fetch_add(1, Ordering::Relaxed));
                assert!(done.into_iter().all(|n| n.into_inner() == 1), "{threads:?} {jobs}");
            }
        }
    }

    #[test]
    fn ranges_make_up_the_whole() {
        let three = pool(3);
        for (threads, most) in [(Threads::Serial, 1), (Threads::Pool(&three), 8)] {
            for (items, size) in [(0, 4), (3, 4), (4, 4), (29, 4), (5, 0), (0, 0)] {
                let done: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                let calls = AtomicUsize::new(0);
                threads.for_each_range(items, size, |range| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    range.for_each(|i| _ = done[i].fetch_add(1, Ordering::Relaxed));
                });
                assert!(done.into_iter().all(|n| n.into_inner() == 1), "{threads:?} {items} {size}");
                assert_eq!(calls.into_inner(), items.div_ceil(size.max(1)).min(most), "{threads:?} {items} {size}");
            }
        }
        let (all, part) = (AtomicUsize::new(0), usize::MAX / 2);
        Threads::Pool(&three).for_each_range(usize::MAX, part, |range| {
            all.fetch_add(range.len(), Ordering::Relaxed);
        });
        assert_eq!(all.into_inner(), usize::MAX);
    }

    #[test]
    fn a_worker_is_never_in_two_places() {
        let three = pool(3);
        let threads = Threads::Pool(&three);
        let busy: Vec<_> = (0..threads.workers(200)).map(|_| AtomicBool::new(false)).collect();
        assert_eq!(busy.len(), 3);
        threads.for_each_worker(200, |worker, job| {
            assert!(!busy[worker].swap(true, Ordering::SeqCst));
            // Nested regions make rayon run other workers of this region on this thread.
            threads.for_each(job % 4, |_| std::thread::yield_now());
            busy[worker].store(false, Ordering::SeqCst);
        });
    }

    #[test]
    fn work_stays_in_the_pool() {
        let three = pool(3);
        assert_eq!(Threads::Pool(&three).count(), 3);
        assert!(Threads::Serial.is_entered() && !Threads::Pool(&three).is_entered());
        assert!(three.install(|| Threads::Pool(&three).is_entered() && Threads::Global.is_entered()));
        assert_eq!(three.install(|| Threads::Global.count()), 3);
        Threads::Pool(&three).for_each(9, |_| assert!(three.current_thread_index().is_some()));
        three.install(|| Threads::Global.for_each(9, |_| assert!(three.current_thread_index().is_some())));
        Threads::Pool(&three).enter(|| assert!(three.current_thread_index().is_some()));
        let caller = std::thread::current().id();
        Threads::Serial.for_each(9, |_| assert_eq!(std::thread::current().id(), caller));
        Threads::Pool(&three).for_each(1, |_| assert_eq!(std::thread::current().id(), caller));
    }

    #[test]
    #[cfg(all(target_pointer_width = "64", unix))]
    fn the_caller_works_alone_where_no_thread_can_be_started() {
        const ALONE: &str = "GRISTMILL_TEST_ALONE";
        let caller = std::thread::current().id();
        if std::env::var_os(ALONE).is_some() {
            assert_eq!(Threads::Global.count(), 1);
            Threads::Global.for_each(9, |_| assert_eq!(std::thread::current().id(), caller));
            Threads::Global.enter(|| assert_eq!(std::thread::current().id(), caller));
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["threads::tests::the_caller_works_alone", "--test-threads=1"]);
        // Stacks that there is no room for.
        let child = child.env(ALONE, "").env("RUST_MIN_STACK", (1usize << 46).to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }
}
