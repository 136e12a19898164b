//! What a machine can do at most, measured: multiply-adds that never leave the registers, and memory that is gone
//! through again and again. Times of kernels are compared with it.
//!
//! All threads of the current rayon pool take part, at the same time; [`rayon::ThreadPool::install`] chooses another
//! pool.
//!
//! ```
//! use gristmill_limits::{Arithmetic, Bandwidth, Footprint, Rates, Traffic};
//! use gristmill_simd::Simd;
//!
//! # fn main() -> Result<(), gristmill_core::Error> {
//! // y = W x with 1024 x 1024 weights: a multiply-add and four bytes for each of them.
//! let weights: u64 = 1024 * 1024;
//! let footprint = Footprint { traffic: Traffic::Read, bytes: 4 * weights };
//! let (_, gbs) = Bandwidth::new(footprint)?.best();
//! let limit = Rates { gflops: Arithmetic::fma(Simd::choose(None)?).peak(), gbs };
//! println!("{limit:?}: no product can take less than {} ns", limit.least_ns(2 * weights, 4 * weights));
//! # Ok(())
//! # }
//! ```
//!
//! - [`Arithmetic`]: the peak of an instruction, [`Bandwidth`]: the rate of memory traffic; [`Rates`]: both.
//! - [`turn`] and [`median`]: how every time is taken, for those who measure their own beside the machine's.

mod bandwidth;
mod clock;
mod peak;
mod rates;

pub use bandwidth::{Bandwidth, Footprint, Pattern, Traffic};
pub use clock::{TURN, median, turn};
pub use peak::Arithmetic;
pub use rates::Rates;
