//! Where tokens stand in their sentences.

use gristmill_core::{Error, MatRef, list};

/// Positions that are added to embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a> {
    /// One row per position: learned, or from [`sinusoidal_positions`].
    pub table: MatRef<'a, f32>,
    /// Which of its rows each token gets.
    pub rows: PositionRows<'a>,
}

/// Which row of a table of positions token `t` gets.
#[derive(Clone, Copy, Debug)]
pub enum PositionRows<'a> {
    /// Row `first + t`: the tokens are one sentence, or a part of one.
    From(usize),
    /// The same row for all: one token each of several sentences.
    All(usize),
    /// Row `rows[t]`: sentences one after the other.
    Each(&'a [u32]),
}

impl PositionRows<'_> {
    /// The row of token `t`; an `Each` must have it.
    #[inline]
    pub(crate) fn of(self, t: usize) -> usize {
        match self {
            PositionRows::From(first) => first + t,
            PositionRows::All(row) => row,
            PositionRows::Each(rows) => rows[t] as usize,
        }
    }
}

/// The sinusoidal positions of "Attention Is All You Need", section 3.5, as a row-major table [len, d].
///
/// Sines and cosines interleave: column `2i` is `sin(pos / 10000^(2i / d))` and column `2i + 1` the cosine of the same
/// angle. Computed in f64 and rounded once.
///
/// The sines, cosines and powers are those of the platform's library: between platforms a value may differ in its last
/// bit.
///
/// # Errors
/// [`Error::SizeOverflow`], [`Error::OutOfMemory`].
///
/// ```
/// let table = gristmill_rowwise::sinusoidal_positions(2, 4)?;
/// assert_eq!(table[..4], [0.0, 1.0, 0.0, 1.0]);
/// assert_eq!(table[4..6], [1f64.sin() as f32, 1f64.cos() as f32]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub fn sinusoidal_positions(len: usize, d: usize) -> Result<Vec<f32>, Error> {
    let count = len.checked_mul(d).filter(|&n| n <= isize::MAX as usize / size_of::<f32>());
    let count = count.ok_or(Error::SizeOverflow { what: "elements of the positions" })?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut table = list::with_capacity(count)?;
    // The wave length, over 2 pi, of each pair of columns.
    let lengths = list::collect((0..d).map(|j| 10000f64.powf((j - j % 2) as f64 / d as f64)))?;
    for position in 0..len {
        table.extend(lengths.iter().enumerate().map(|(j, length)| {
            let angle = position as f64 / length;
            (if j % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        }));
    }
    Ok(table)
}
