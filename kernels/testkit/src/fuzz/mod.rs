//! The bodies of the fuzz targets: bytes in, a panic on a broken promise.
//!
//! A body decodes sizes, layouts, masks, options and values, some of them hostile, and calls a kernel at every
//! level. The naive version is the oracle of both outcomes: where it succeeds the kernel returns its bits, and where
//! it finds a mistake the kernel returns the same error and leaves its outputs untouched. In neither case is
//! anything written between the elements of an output.
//!
//! Any bytes are an input; missing ones read as zero.

mod attention;
mod bytes;
mod cache;
mod checkpoint;
mod gemm;
mod layernorm;
mod rowwise;
mod views;

pub use attention::attention;
pub use cache::cache;
pub use checkpoint::checkpoint;
pub use gemm::gemm;
pub use layernorm::layernorm;
pub use rowwise::rowwise;
pub use views::views;

use crate::{Strided, assert_bits_eq, naive, sweep};
use bytes::Bytes;
use gristmill_core::{Error, Threads};
use gristmill_simd::{Element, Level};
use std::fmt::Display;

/// A target: its name, as in `cargo fuzz run NAME`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("attention", attention),
    ("cache", cache),
    ("checkpoint", checkpoint),
    ("gemm", gemm),
    ("layernorm", layernorm),
    ("rowwise", rowwise),
    ("views", views),
];

/// What a call did: its result, and its output afterwards.
type Outcome<T, const N: usize> = (Result<(), Error>, Strided<T, N>);

/// Calls `check` at every level with what `naive` does in that level's arithmetic.
fn against<W>(naive: impl Fn(Level) -> W, mut check: impl FnMut(Level, &W)) {
    let wants: Vec<(bool, W)> = sweep::arithmetics().into_iter().map(|level| (level.fused(), naive(level))).collect();
    sweep::levels(|level| {
        let want = wants.iter().find(|(fused, _)| *fused == level.fused());
        check(level, &want.expect("every level has one of the arithmetics").1);
    });
}

/// Asserts that a call did what naive did to an output that was `before`.
fn assert_same<T: Element, const N: usize>(
    got: &Outcome<T, N>,
    want: &Outcome<T, N>,
    before: &Strided<T, N>,
    context: impl Display,
) {
    // As text, since the option that an error names may be NaN.
    assert_eq!(format!("{:?}", got.0), format!("{:?}", want.0), "{context}");
    if got.0.is_ok() {
        assert_bits_eq(&got.1.values(), &want.1.values(), &context);
        got.1.assert_gaps(&context);
    } else {
        got.1.assert_untouched(before, &context);
        want.1.assert_untouched(before, "naive");
    }
}

/// One thread, or three.
fn threads(bytes: &Bytes) -> Threads<'static> {
    if bytes.flag() { Threads::Pool(sweep::three_threads()) } else { Threads::Serial }
}
