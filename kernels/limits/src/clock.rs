//! Turns and medians: how every time is taken.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// A turn lasts at least this long, so that a clock read costs nothing beside it.
pub const TURN: Duration = Duration::from_millis(2);

/// Untimed calls of a turn. A last-level cache that is filled by what the second drops holds a large footprint only after
/// three passes, and contenders that share an operand would warm it for each other.
const WARM_CALLS: usize = 3;

/// The untimed calls end after this long too: calls of that length have little to gain.
const WARM: Duration = Duration::from_millis(20);

/// One turn: some untimed calls, which leave warm caches and awake threads to the rest, then calls for at least [`TURN`].
/// Returns the mean time of a call in nanoseconds.
pub fn turn(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..WARM_CALLS {
        call();
        if start.elapsed() >= WARM {
            break;
        }
    }
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

/// Runs `work` on every thread of the current pool at the same time and adds up the rates that it returns.
pub(crate) fn on_every_thread(work: impl Fn(usize) -> f64 + Sync) -> f64 {
    let arrived = AtomicUsize::new(0);
    let rates = rayon::broadcast(|thread| {
        arrived.fetch_add(1, Ordering::Relaxed);
        while arrived.load(Ordering::Relaxed) < thread.num_threads() {
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
    fn a_turn_warms_up_first() {
        for (time, warm) in [(TURN, WARM_CALLS), (WARM, 1)] {
            let mut calls = 0;
            let mean = turn(|| {
                calls += 1;
                std::thread::sleep(time);
            });
            assert_eq!(calls, warm + 1);
            assert!(mean >= time.as_secs_f64() * 1e9);
        }
    }

    #[test]
    fn every_thread_takes_part_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| on_every_thread(|thread| 10_f64.powi(thread as i32))), 111.0);
    }
}
