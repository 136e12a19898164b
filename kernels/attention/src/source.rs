//! Where keys and values come from.

use crate::any::AnyHeads;
use crate::cache::Pages;
use gristmill_simd::Dtype;

/// The keys and values of a call.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// As somebody computed them, all sequences of the same length.
    Views { k: AnyHeads<'a>, v: AnyHeads<'a> },
    /// Keys alone, for their weights.
    Keys(AnyHeads<'a>),
    /// Kept, with the keys packed.
    Cache(&'a dyn Pages),
}

impl Source<'_> {
    /// Heads of keys and values.
    pub(crate) fn kv_heads(&self) -> usize {
        match self {
            Self::Views { k, .. } | Self::Keys(k) => k.sizes()[2],
            Self::Cache(cache) => cache.layout().kv_heads,
        }
    }

    /// Elements of a value; 0 where there are keys alone.
    #[inline]
    pub(crate) fn value_dim(&self) -> usize {
        match self {
            Self::Views { v, .. } => v.sizes()[3],
            Self::Keys(_) => 0,
            Self::Cache(cache) => cache.layout().value_dim,
        }
    }

    /// The storage type of keys and values.
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Self::Views { k, .. } | Self::Keys(k) => k.dtype(),
            Self::Cache(cache) => cache.dtype(),
        }
    }

    /// Keys of sequence `b`.
    #[inline]
    pub(crate) fn keys(&self, b: usize) -> usize {
        match self {
            Self::Views { k, .. } | Self::Keys(k) => k.sizes()[1],
            Self::Cache(cache) => cache.tokens(b),
        }
    }

    /// Keys from key `first` of sequence `b` on, to the end of its page if there are pages, that are in panels, or will
    /// be when they are needed.
    #[inline]
    pub(crate) fn turned(&self, b: usize, first: usize) -> usize {
        match self {
            Self::Views { .. } | Self::Keys(_) => self.keys(b) - first,
            Self::Cache(cache) => cache.turned(b, first),
        }
    }

    /// Element `d` of the value of sequence `b`, key/value head `h`, key `j`, widened.
    pub(crate) fn value(&self, [b, h, j]: [usize; 3], d: usize) -> f32 {
        match self {
            Self::Views { v, .. } => v.at(b, j, h, d),
            Self::Keys(_) => unreachable!("no element of no values"),
            Self::Cache(cache) => cache.value([b, h, j], d),
        }
    }
}
