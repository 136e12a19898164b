//! Views, masks, errors, threads and scratch memory shared by the Gristmill kernels.
//!
//! - [`MatRef`], [`MatMut`]: matrices over slices with any strides; [`BatchRef`], [`BatchMut`]: many of
//!   one shape; [`HeadsRef`], [`HeadsMut`]: queries, keys and values as `[B, S, H, D]`;
//!   [`ScoresRef`]: a broadcast `[B, H, S_q, S_k]`. All are checked when built.
//! - [`Operand`]: a matrix whose storage type is known at run time.
//! - [`pack`], [`pack_pairs`]: a matrix rearranged into the panels that tiles read; [`panels`]: such panels, kept;
//!   [`kept`]: memory for that.
//! - [`Mask`]: which keys a query attends to.
//! - [`Threads`]: where parallel work runs; [`Workspace`]: scratch memory that is allocated once.
//! - [`Activation`]: the functions that fused kernels apply.
//! - [`Error`]: every mistake a caller can make, with its numbers.
//! - [`cache`]: the sizes that blocking is derived from; [`list`]: lists that grow, or say that they cannot.
//!
//! Sizes and strides count elements, never bytes.

mod activation;
mod batch;
pub mod cache;
mod error;
mod heads;
pub mod kept;
mod layout;
pub mod list;
mod mask;
mod operand;
pub mod pack;
pub mod pack_pairs;
pub mod panels;
pub mod parts;
mod queue;
mod scores;
mod share;
mod threads;
mod view;
mod workspace;

pub use activation::Activation;
pub use batch::{BatchMut, BatchRef};
pub use error::Error;
pub use heads::{HeadsMut, HeadsRef};
pub use mask::{Causal, Mask};
pub use operand::Operand;
pub use queue::Queue;
pub use scores::ScoresRef;
pub use share::{SendPtr, SharedHeads, SharedMat};
pub use threads::Threads;
pub use view::{MatMut, MatRef};
pub use workspace::Workspace;
