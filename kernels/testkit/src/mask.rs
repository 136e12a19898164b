//! Owned attention masks.

use crate::strided::Strided;
use gristmill_core::{Causal, Mask};

/// The causal part of an [`OwnedMask`].
#[derive(Clone, Debug)]
pub enum OwnedCausal {
    /// [`Causal::BottomRight`].
    BottomRight,
    /// [`Causal::Offset`].
    Offset(isize),
    /// [`Causal::PerBatch`].
    PerBatch(Vec<isize>),
}

/// A [`Mask`] that owns what it names.
#[derive(Clone, Debug, Default)]
pub struct OwnedMask {
    /// [`Mask::causal`].
    pub causal: Option<OwnedCausal>,
    /// [`Mask::key_lengths`].
    pub key_lengths: Option<Vec<usize>>,
    /// [`Mask::keep`].
    pub keep: Option<Strided<bool, 4>>,
    /// [`Mask::bias`].
    pub bias: Option<Strided<f32, 4>>,
}

impl OwnedMask {
    /// The mask.
    pub fn mask(&self) -> Mask<'_> {
        Mask {
            causal: self.causal.as_ref().map(|causal| match causal {
                OwnedCausal::BottomRight => Causal::BottomRight,
                OwnedCausal::Offset(offset) => Causal::Offset(*offset),
                OwnedCausal::PerBatch(offsets) => Causal::PerBatch(offsets),
            }),
            key_lengths: self.key_lengths.as_deref(),
            keep: self.keep.as_ref().map(Strided::scores),
            bias: self.bias.as_ref().map(Strided::scores),
        }
    }
}
