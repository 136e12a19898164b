//! Running a check at every level and with several thread counts.

use gristmill_core::Threads;
use gristmill_simd::Level;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    collections::BTreeSet,
    io::Write,
    sync::{LazyLock, Once},
};

/// The environment variable that names the levels, separated by commas, without which a sweep must fail.
pub const REQUIRE_VARIABLE: &str = "GRISTMILL_REQUIRE_LEVELS";

/// Calls `f` at every level that this CPU has, lowest first, and says once per process which these are.
///
/// # Panics
/// When `GRISTMILL_REQUIRE_LEVELS` names a level that this CPU does not have, or that does not exist.
#[track_caller]
pub fn levels(f: impl FnMut(Level)) {
    let levels: Vec<Level> = Level::available().collect();
    let names: Vec<&str> = levels.iter().map(|level| level.name()).collect();
    if let Some(required) = std::env::var_os(REQUIRE_VARIABLE)
        && let Err(message) = check_required(&required.to_string_lossy(), &levels)
    {
        panic!("{REQUIRE_VARIABLE}: {message}; this CPU has {names:?}");
    }
    static SAID: Once = Once::new();
    // Not eprintln!, which the test harness hides.
    SAID.call_once(|| _ = std::io::stderr().write_all(format!("levels: {}\n", names.join(" ")).as_bytes()));
    levels.into_iter().for_each(f);
}

fn check_required(required: &str, available: &[Level]) -> Result<(), String> {
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let level: Level = name.parse().map_err(|error| format!("{error}"))?;
        if !available.contains(&level) {
            return Err(format!("level {level} did not run"));
        }
    }
    Ok(())
}

/// One level for each arithmetic among those available: levels with and without a fused multiply-add differ.
pub fn arithmetics() -> Vec<Level> {
    let mut seen = BTreeSet::new();
    Level::available().filter(|level| seen.insert(level.fused())).collect()
}

/// A pool of three threads, one more than most tests expect.
pub fn three_threads() -> &'static ThreadPool {
    static POOL: LazyLock<ThreadPool> =
        LazyLock::new(|| ThreadPoolBuilder::new().num_threads(3).build().expect("three threads can be started"));
    &POOL
}

/// Calls `f` for one thread and for three: on one of these, since small work is shared only inside the pool.
pub fn threads(mut f: impl FnMut(Threads<'static>) + Send) {
    f(Threads::Serial);
    let three = Threads::Pool(three_threads());
    three.enter(|| f(three));
}

/// Calls `f` for every level with one thread and with three.
#[track_caller]
pub fn levels_and_threads(mut f: impl FnMut(Level, Threads<'static>) + Send) {
    levels(|level| threads(|threads| f(level, threads)));
}

/// Calls a naive function with the arithmetic of a level: `naive!(level, gemm::naive::gemm(a, b, c, &options))`
/// calls `gemm::naive::gemm::<true>(..)` where the level's multiply-add is fused, `::<false>(..)` where it is not.
#[macro_export]
macro_rules! naive {
    ($level:expr, $($path:ident)::+ ($($argument:expr),* $(,)?)) => {
        if $level.fused() { $($path)::+::<true>($($argument),*) } else { $($path)::+::<false>($($argument),*) }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_runs() {
        let mut ran = Vec::new();
        levels_and_threads(|level, threads| {
            assert!(threads.is_entered());
            ran.push((level, threads.count()));
        });
        let expected: Vec<_> = Level::available().flat_map(|level| [(level, 1), (level, 3)]).collect();
        assert_eq!(ran, expected);
    }

    #[test]
    fn a_missing_level_fails() {
        assert_eq!(check_required("portable, avx2", &[Level::Portable, Level::Avx2]), Ok(()));
        assert_eq!(check_required("", &[]), Ok(()));
        assert_eq!(check_required("avx512", &[Level::Portable]), Err("level avx512 did not run".into()));
        assert!(check_required("avx3", &Level::ALL).unwrap_err().contains("avx3"));
    }

    #[test]
    fn naive_follows_the_level() {
        fn fused<const FUSED: bool>(x: u32) -> (bool, u32) {
            (FUSED, x)
        }
        assert_eq!(naive!(Level::Avx2, fused(3)), (true, 3));
        assert_eq!(naive!(Level::Portable, fused(3)), (Level::Portable.fused(), 3));
    }
}
