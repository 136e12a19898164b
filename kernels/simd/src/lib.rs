//! SIMD registers, levels and vector maths behind the Gristmill kernels.
//!
//! This is the only crate that names `core::arch`. It allocates nothing and starts no threads.
//!
//! - [`Level`] names an instruction set, [`Simd`] is a level that was found on this CPU.
//! - [`Kernel`] is a computation written once; [`Simd::run`] compiles it for every level and picks one.
//! - [`Isa`] has the register operations, [`Element`] the storage types f32, f16 and bf16; [`TypedPtr`] points to values
//!   of any of them.
//! - [`math`] has exp, erf, GELU and their kind on registers; [`naive`] the same in scalar code, bit for bit.

#[cfg(target_endian = "big")]
compile_error!("pairs of 16-bit values are words whose low half comes first");

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod divide;
mod element;
mod isa;
mod magnitudes;
pub mod math;
pub mod naive;
mod pairs;
mod pays;
mod portable;
mod rows;
pub mod slices;
pub mod sums;
mod token;
mod typed;

pub use dispatch::{LEVEL_VARIABLE, Level, LevelError, Simd};
pub use divide::{Divisor, Divisors, Magnitudes};
pub use element::{Dtype, Element};
pub use half::{bf16, f16};
pub use isa::{Isa, Kernel};
pub use magnitudes::Bf16Magnitudes;
pub use rows::RowPointers;
pub use typed::TypedPtr;
