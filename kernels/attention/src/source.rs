//! Where keys and values come from.

use crate::KvCache;
use gristmill_core::HeadsRef;

/// The keys and values of a call.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// As somebody computed them, all sequences of the same length.
    Views { k: HeadsRef<'a, f32>, v: HeadsRef<'a, f32> },
    /// Kept, with the keys packed.
    Cache(&'a KvCache),
}

impl Source<'_> {
    /// Heads of keys and values.
    pub(crate) fn kv_heads(&self) -> usize {
        match self {
            Self::Views { k, .. } => k.heads(),
            Self::Cache(cache) => cache.kv_heads(),
        }
    }

    /// Values per vector.
    #[inline]
    pub(crate) fn value_dim(&self) -> usize {
        match self {
            Self::Views { v, .. } => v.dim(),
            Self::Cache(cache) => cache.value_dim(),
        }
    }

    /// Keys of sequence `b`.
    #[inline]
    pub(crate) fn keys(&self, b: usize) -> usize {
        match self {
            Self::Views { k, .. } => k.seq(),
            Self::Cache(cache) => cache.len(b),
        }
    }

    /// Element `d` of the value of sequence `b`, key/value head `h`, key `j`.
    pub(crate) fn value(&self, [b, h, j]: [usize; 3], d: usize) -> f32 {
        match self {
            Self::Views { v, .. } => v.at(b, j, h, d),
            Self::Cache(cache) => cache.value([b, h, j], d),
        }
    }
}
