//! Criterion benches and the side-by-side referee for the Gristmill kernels.
//!
//! There are two instruments:
//!
//! - **criterion**, the suite for users: `cargo bench` runs a selection of cases per kernel and tells whether they
//!   changed. Throughput is in floating-point operations ("elements") and bytes per second.
//! - **versus**, the referee: it checks every contender of a case, times ours and the others in turns, and compares
//!   with the limit of the machine, which it measures first.
//!
//! ```text
//! cargo bench -p gristmill-bench [--features candle,rten] --bench versus -- [--json FILE] [--seconds S] [--threads N] [FILTER]
//! ```
//!
//! # How versus measures
//!
//! FILTER is a part of the ids, or one whole id, which need not be in the list.
//!
//! Per thread count, one process with one pool of that size; every call is made from inside the pool. Without
//! `--threads`, the counts are one and the number of cores.
//!
//! 1. The peaks, for the heading: the multiply-add peak of every level and that of the bf16 dot instruction
//!    ([`gristmill_limits`]).
//! 2. The fastest way through the case's footprint is searched: reading, or for operations on rows copying.
//! 3. Each case: our output is compared with the naive version bit by bit (on a sample of rows where all of them would
//!    take long), the rivals' outputs with ours within a tolerance. Who is wrong is named and not timed; if we are, the
//!    run fails.
//! 4. Turns go round: ours, first rival, second rival, ..., the machine's peak and bandwidth, ours, ... A turn is a
//!    few untimed calls and then calls for at least two milliseconds; its result is their mean. The figure shown is the
//!    median over the turns.
//! 5. `limit_pct` is the time at the machine's limit over our time. The limit is
//!    `max(flops / peak, bytes / bandwidth)` with the costs of [`cost`]; the rates behind it, taken in the same rounds,
//!    are shown in the column `machine` (GFLOP/s and GB/s) and are never below what a contender has just shown.
//!
//! All contenders read the same values; most read the same buffers and write the same one. Rivals with tensors of their
//! own get these made beforehand, in the layout that they like best, and return a new one each time, as they do to their
//! users. A right-hand side that a contender can pack through its
//! own public means is packed outside the timed part where the case says `packed`; so are our keys and values in the
//! attention of one query, which is a decoder's step on a cache.
//!
//! [`shapes`] lists the cases, [`cases`] explains their ids.

pub mod buffer;
pub mod cases;
pub mod contest;
mod contests;
pub mod cost;
pub mod limits;
pub mod machine;
pub mod paths;
pub mod referee;
pub mod report;
pub mod rivals;
pub mod shapes;
