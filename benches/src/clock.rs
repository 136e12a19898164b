//! Turns and medians: how every time in this crate is taken.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// A turn lasts at least this long, so that a clock read costs nothing beside it.
pub const TURN: Duration = Duration::from_millis(2);

/// One turn: an untimed call, which finds warm caches and awake threads for the rest, then calls for at least
/// [`TURN`]. Returns the mean time of a call in nanoseconds.
pub fn turn(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let (mut calls, mut next) = (0_u64, 1);
    loop {
        (0..next).for_each(|_| call());
        calls += next;
        let elapsed = start.elapsed();
        if elapsed >= TURN {
            return elapsed.as_secs_f64() * 1e9 / calls as f64;
        }
        // As many calls as should be missing, but never more than so far: a first call may have been slow.
        let missing = (TURN - elapsed).as_secs_f64() / elapsed.as_secs_f64().max(1e-9) * calls as f64;
        next = (missing.ceil() as u64).clamp(1, calls);
    }
}

/// The median; the mean of the middle two for an even count, NaN for no values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Runs `work` on every thread of the pool at the same time and adds up the rates that it returns.
pub fn on_every_thread(pool: &rayon::ThreadPool, work: impl Fn(usize) -> f64 + Sync) -> f64 {
    let threads = pool.current_num_threads();
    let arrived = AtomicUsize::new(0);
    let rates = pool.broadcast(|thread| {
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < threads {
            std::hint::spin_loop();
        }
        work(thread.index())
    });
    rates.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&mut []).is_nan());
        assert_eq!(median(&mut [3.0]), 3.0);
        assert_eq!(median(&mut [9.0, 1.0, 4.0]), 4.0);
        assert_eq!(median(&mut [8.0, 1.0, 4.0, 2.0]), 3.0);
    }

    #[test]
    fn a_turn_calls_at_least_twice() {
        let mut calls = 0;
        let mean = turn(|| {
            calls += 1;
            std::thread::sleep(TURN);
        });
        assert_eq!(calls, 2);
        assert!(mean >= TURN.as_secs_f64() * 1e9);
    }

    #[test]
    fn every_thread_takes_part_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(on_every_thread(&pool, |thread| 10_f64.powi(thread as i32)), 111.0);
    }
}
