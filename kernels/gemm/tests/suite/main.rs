//! The contract of the gemm crate, tested from outside.

mod accuracy;
mod batch;
mod common;
mod edges;
mod epilogue;
#[cfg(unix)]
mod guard;
mod mistakes;
mod properties;
