//! Token embedding.

use crate::rows::{self, Buffers, Job, Row};
use crate::{PositionRows, Positions, RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef, Operand, Threads};
use gristmill_simd::slices::{self, Map, Map2};
use gristmill_simd::{Element, Isa, Level, typed};
use std::ops::Range;

/// What becomes of the rows that are looked up. By default nothing.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions<'a> {
    /// Factor of the embedding, not of the position: `sqrt(d)` in the original Transformer.
    pub scale: f32,
    /// What is added.
    pub positions: Option<Positions<'a>>,
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}

impl Default for EmbedOptions<'_> {
    fn default() -> Self {
        Self { scale: 1.0, positions: None, threads: Threads::default(), level: None }
    }
}

/// Row `t` of `y` = `scale * table[ids[t]] + position`: a product and a sum, each rounded.
///
/// `table` is [vocabulary, d], `y` is [tokens, d].
///
/// ```
/// use gristmill_core::{MatMut, MatRef};
/// use gristmill_rowwise::{EmbedOptions, PositionRows, Positions, embed, sinusoidal_positions};
///
/// let (vocabulary, d) = ([0.5, 1.0, 0.25, 0.0], 2);
/// let sinusoids = sinusoidal_positions(8, d)?;
/// let positions = Positions { table: MatRef::new(&sinusoids, 8, d)?, rows: PositionRows::From(0) };
/// let options = EmbedOptions { scale: 2.0, positions: Some(positions), ..Default::default() };
/// let mut y = [0.0; 4];
/// embed(MatRef::new(&vocabulary, 2, d)?, &[1, 0], MatMut::new(&mut y, 2, d)?, &options)?;
/// assert_eq!(y[..2], [0.5, 1.0]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::IdOutOfRange`] for an id outside the table or a position outside its table, [`Error::RangeOutOfBounds`]
/// for a range of positions that their table does not have, [`Error::ShapeMismatch`], [`Error::Level`]. Then `y` is
/// untouched.
pub fn embed<T: Element, Y: Element>(
    table: MatRef<'_, T>,
    ids: &[u32],
    y: MatMut<'_, Y>,
    options: &EmbedOptions<'_>,
) -> Result<(), Error> {
    check::embed(table, ids, &y, options)?;
    // SAFETY: ids and positions are rows of their tables, whose columns are those of y, which is borrowed exclusively.
    unsafe { run(table.into(), Some(ids), y.into(), options) }
}

/// [`embed`] for rows that were looked up elsewhere, as in a packed weight: `x = scale * x + position`.
///
/// # Errors
/// As [`embed`]. Then `x` is untouched.
pub fn embed_in_place<T: Element>(x: MatMut<'_, T>, options: &EmbedOptions<'_>) -> Result<(), Error> {
    check::positions(x.rows(), x.cols(), options)?;
    let x = Operand::from(x);
    // SAFETY: one matrix, borrowed exclusively, is input and output; positions are rows of their table.
    unsafe { run(x, None, x, options) }
}

/// # Safety
/// (Job).
unsafe fn run(
    table: Operand<'_>,
    ids: Option<&[u32]>,
    y: Operand<'_>,
    options: &EmbedOptions<'_>,
) -> Result<(), Error> {
    let &EmbedOptions { scale, positions, threads, level } = options;
    let positions = positions.map(|positions| (positions.table.into(), positions.rows));
    // SAFETY: the caller's promise.
    unsafe {
        rows::divide(y.shape(), y.cols(), &RowOptions { threads, level }, &Embed { table, ids, y, scale, positions })
    }
}

struct Embed<'a> {
    table: Operand<'a>,
    /// Which of its rows each token gets; without ids the token's own.
    ids: Option<&'a [u32]>,
    y: Operand<'a>,
    scale: f32,
    positions: Option<(Operand<'a>, PositionRows<'a>)>,
}

impl Job for Embed<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>) {
        let scale = Scaled(isa.splat(self.scale));
        let mut buffers = Buffers::default();
        for t in rows {
            let x = Row::of(&self.table, self.ids.map_or(t, |ids| ids[t] as usize));
            let y = Row::of(&self.y, t);
            let position = self.positions.as_ref().map(|(table, rows)| Row::of(table, rows.of(t)));
            let dense = x.is_dense() && y.is_dense() && position.is_none_or(Row::is_dense);
            // SAFETY: (Job).
            unsafe {
                if !dense {
                    rows::combine(isa, [x, y], position, &mut buffers, &scale);
                    continue;
                }
                // One pass; without a position, the product alone.
                typed!(x.dtype(), X => typed!(y.dtype(), Y => {
                    let (n, x, y) = (y.len(), x.start().cast::<X>(), y.start().cast::<Y>().cast_mut());
                    match position {
                        None => slices::map_raw(isa, n, x, y, &scale),
                        Some(position) => slices::map2_raw(isa, n, x, position.start().cast::<f32>(), y, &scale),
                    }
                }));
            }
        }
    }
}

/// `scale * x`, or `scale * x + position`.
struct Scaled<V>(V);

impl<I: Isa> Map<I> for Scaled<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        isa.mul(self.0, x)
    }
}

impl<I: Isa> Map2<I> for Scaled<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, position: I::F32) -> I::F32 {
        isa.add(isa.mul(self.0, x), position)
    }
}
