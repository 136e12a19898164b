//! The contract of the attention crate, tested from outside.

mod accuracy;
mod cached;
mod common;
mod contract;
mod edges;
mod golden;
#[cfg(unix)]
mod guard;
mod mistakes;
mod properties;
mod types;
mod weights;
