//! The contract of the model crate, tested from outside.

mod annalog;
mod bits;
mod checkpoints;
mod configs;
mod golden;
mod memory;
mod profile;
mod search;
