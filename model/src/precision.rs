//! The storage type of a model.

use crate::{Error, Result};
use std::{fmt, str::FromStr};

/// In what type a model keeps its weights, its activations from operation to operation and its caches, whatever the
/// type of the checkpoint. Arithmetic is that of f32, and so are logits, scores, biases, the parameters of norms and
/// learned positions.
///
/// Each operation widens what it reads exactly and rounds what it writes once, to nearest even. The sum of a residual
/// and what is added to it is normalised unrounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which 10 are a fraction: the more exact half.
    F16,
    /// 16 bits with the range of f32, of which 7 are a fraction. Products follow the pair rule of the bf16 dot
    /// instruction (`kernels/NUMERICS.md`), which some CPUs do at twice the rate.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

    /// The name that [`FromStr`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        if self == Precision::F32 { 4 } else { 2 }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownPrecision`] for another name.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name).ok_or(Error::UnknownPrecision)
    }
}
