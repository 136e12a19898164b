//! Where to compute, and what scores are.

use gristmill_core::{Mask, Threads};
use gristmill_simd::Level;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowOptions<'a> {
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}

/// What the scores of a softmax are. By default the values as they are, all of them visible.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxOptions<'a> {
    /// Factor of the values: 1 over the temperature.
    pub scale: f32,
    /// Which columns each row sees, as in attention: rows are queries, columns are keys.
    pub mask: Mask<'a>,
    /// Sequences that the mask distinguishes. Rows are those of the first sequence, then those of the next, each with
    /// its heads one after the other: [`batch`, `heads`, queries, keys].
    pub batch: usize,
    /// Heads of each sequence.
    pub heads: usize,
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}

impl Default for SoftmaxOptions<'_> {
    fn default() -> Self {
        let (threads, level) = (Threads::default(), None);
        Self { scale: 1.0, mask: Mask::default(), batch: 1, heads: 1, threads, level }
    }
}
