//! The contract of the gemm crate, tested from outside.

mod accuracy;
mod batch;
mod common;
mod edges;
mod epilogue;
mod guard;
mod mistakes;
mod properties;
