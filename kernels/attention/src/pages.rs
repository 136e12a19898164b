//! How tokens lie in a page of a cache.
//!
//! ```text
//!   keys      panels of 16 keys, those of all heads side by side: step by step, or in pairs two steps at a time
//!   values    head by head: rows; or in pairs, panels of 16 columns, two tokens at a time
//! ```

use crate::cache::PAGE;
use gristmill_core::pack_pairs::pair_index;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Dtype, Element, bf16};

/// The layout of the pages of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) kv_heads: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    /// Whether pages hold bf16: pairs of it, for the dot product of pairs.
    pub(crate) pairs: bool,
}

impl Layout {
    /// Elements of a key, with those that fill up its last pair.
    #[inline]
    pub(crate) fn key_len(&self) -> usize {
        if self.pairs { self.dim.next_multiple_of(2) } else { self.dim }
    }

    /// Elements of a value, with those that fill up its last panel.
    #[inline]
    pub(crate) fn value_len(&self) -> usize {
        if self.pairs { self.value_dim.next_multiple_of(PANEL) } else { self.value_dim }
    }

    /// Elements of all keys of a page, which its values follow.
    #[inline]
    pub(crate) fn keys(&self) -> usize {
        PAGE * self.kv_heads * self.key_len()
    }

    /// Elements of a page; none if they cannot be counted.
    pub(crate) fn len(&self) -> Option<usize> {
        // As of one head where there is none, so that every product of these sizes is representable.
        let heads = self.kv_heads.max(1);
        // What fills up is less than a panel each.
        let padded = self.dim.checked_add(self.value_dim)?.checked_add(2 * PANEL)?;
        padded.checked_mul(heads)?.checked_mul(PAGE).filter(|&n| n <= isize::MAX as usize / 8)?;
        Some(PAGE * self.kv_heads * (self.key_len() + self.value_len()))
    }

    /// Where among the values of a page element `d` of a head's value lies, that of the token at `slot`.
    #[inline]
    pub(crate) fn value_at(&self, slot: usize, head: usize, d: usize) -> usize {
        let len = self.value_len();
        let within = if self.pairs { d / PANEL * PAGE * PANEL + pair_index(slot, d % PANEL) } else { slot * len + d };
        head * PAGE * len + within
    }
}

/// The same slice, which is known to be of bf16.
#[inline(always)]
pub(crate) fn as_bf16<T: Element>(values: &mut [T]) -> &mut [bf16] {
    assert!(T::DTYPE == Dtype::Bf16, "{}", T::NAME);
    // SAFETY: only bf16 has this name.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}
