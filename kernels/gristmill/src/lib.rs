//! CPU kernels for Transformer inference that return the bits of their naive versions.
//!
//! One dependency for all of the kernels. Matrix products, attention, layer normalisation and row-wise operations on
//! f32, f16 and bf16, each tuned for every instruction set that it finds (AVX-512, AVX2, or what the target has), each
//! equal, to the bit, to a plain function in its `naive` module: whatever the threads, the batch, the strides or the
//! packing, and whatever the level, among those whose multiply-add is fused.
//!
//! ```
//! use gristmill::{Activation, GemmOptions, MatMut, MatRef, PackedRhs, Workspace, gemm};
//!
//! # fn main() -> Result<(), gristmill::Error> {
//! // y = relu(x w^T + bias) for 2 tokens; w is the weight of a linear layer, [out, in] = [3, 4].
//! let (x, w, bias) = ([1.0; 2 * 4], [0.5; 3 * 4], [0.0, -1.0, -3.0]);
//! let weight = PackedRhs::from_out_in(MatRef::new(&w, 3, 4)?)?;
//! let mut y = [0.0; 2 * 3];
//! let options = GemmOptions { bias: Some(&bias), activation: Activation::Relu, ..Default::default() };
//! let mut workspace = Workspace::new();
//! gemm(MatRef::new(&x, 2, 4)?, &weight, MatMut::new(&mut y, 2, 3)?, &options, &mut workspace)?;
//! assert_eq!(y, [2.0, 1.0, 0.0, 2.0, 1.0, 0.0]);
//! # Ok(())
//! # }
//! ```
//!
//! Where to look:
//! - [`gemm()`] with [`PackedRhs`] for weights, [`gemm_batch`] and [`gemm_list`] for many products; [`attention()`]
//!   with [`Mask`], and [`attention_cached`] with a [`KvCache`] for tokens that come one by one; [`layer_norm`],
//!   [`rms_norm`] and both with a residual; [`softmax`], [`bias_activation`], [`argmax`], [`top_k`] and [`embed`].
//! - [`MatRef`], [`MatMut`], [`HeadsRef`] and [`HeadsMut`] describe memory; [`Workspace`] keeps scratch memory from
//!   call to call; [`Threads`] says where to run, [`Level`] with which instructions.
//! - The modules are the crates themselves, with what the names at the root leave out: the `naive` specifications
//!   first of all.

pub use gristmill_attention as attention;
pub use gristmill_core as core;
pub use gristmill_gemm as gemm;
pub use gristmill_layernorm as layernorm;
pub use gristmill_rowwise as rowwise;
pub use gristmill_simd as simd;

pub use gristmill_attention::{
    AppendOptions, AttentionOptions, KvCache, attention, attention_cached, attention_weights,
};
pub use gristmill_core::{
    Activation, BatchMut, BatchRef, Causal, Error, HeadsMut, HeadsRef, Mask, MatMut, MatRef, ScoresRef, Threads,
    Workspace, cache, list,
};
pub use gristmill_gemm::{
    BatchRhs, GemmOptions, ListOptions, PackedRhs, PackedRhsBuilder, Problem, Rhs, gemm, gemm_batch, gemm_list,
};
pub use gristmill_layernorm::{
    LayerNormOptions, NormOutput, add_layer_norm, add_layer_norm_in_place, add_rms_norm, add_rms_norm_in_place,
    layer_norm, layer_norm_in_place, rms_norm, rms_norm_in_place,
};
pub use gristmill_rowwise::{
    EmbedOptions, PositionRows, Positions, RowOptions, SoftmaxOptions, argmax, bias_activation,
    bias_activation_in_place, embed, embed_in_place, log_softmax, log_softmax_in_place, sinusoidal_positions, softmax,
    softmax_in_place, top_k,
};
pub use gristmill_simd::{LEVEL_VARIABLE, Level, LevelError, Simd, bf16, f16};

/// The example of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
