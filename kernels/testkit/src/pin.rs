//! Processes whose level cannot be used, whatever the CPU has.

use gristmill_simd::LEVEL_VARIABLE;
use std::{env, process::Command};

/// A level that does not exist.
pub const MISSPELT: &str = "avx9";

/// Runs `check` in a process that pins [`MISSPELT`], where calls that choose no level must fail. `test` is the path of the
/// test that calls this.
///
/// # Panics
/// When `check` does, or `test` is another.
#[track_caller]
pub fn misspelt(test: &str, check: impl FnOnce()) {
    if env::var_os(LEVEL_VARIABLE).is_some_and(|pin| pin == MISSPELT) {
        return check();
    }
    let mut process = Command::new(env::current_exe().expect("the path of this program"));
    let process = process.args([test, "--exact"]).env(LEVEL_VARIABLE, MISSPELT);
    let output = process.output().expect("this program runs once more");
    let [said, wrong] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.contains("1 passed"), "{test} with {MISSPELT}: {said}{wrong}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{LevelError, Simd};

    #[test]
    fn no_level_is_chosen() {
        misspelt("pin::tests::no_level_is_chosen", || {
            assert_eq!(Simd::choose(None).unwrap_err(), LevelError::Unknown(MISSPELT.into()));
        });
    }

    #[test]
    fn failures_and_other_tests_are_found() {
        let failure = || misspelt("pin::tests::failures_and_other_tests_are_found", || panic!("in the process"));
        if env::var_os(LEVEL_VARIABLE).is_some_and(|pin| pin == MISSPELT) {
            return failure();
        }
        let message = |f: fn()| *std::panic::catch_unwind(f).unwrap_err().downcast::<String>().unwrap();
        assert!(message(failure).contains("in the process"));
        assert!(message(|| misspelt("nobody", || {})).contains("0 passed"));
    }
}
