//! Token embedding.

use crate::rows::{self, Buffers, InPlace, Input, Job, Row};
use crate::{Positions, RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef, Threads};
use gristmill_simd::slices::{self, Map, Map2};
use gristmill_simd::{Element, Isa, Level};

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
    run(y, options, Lookup { table, ids })
}

/// [`embed`] for rows that were looked up elsewhere, as in a packed weight: `x = scale * x + position`.
///
/// # Errors
/// As [`embed`]. Then `x` is untouched.
pub fn embed_in_place<T: Element>(x: MatMut<'_, T>, options: &EmbedOptions<'_>) -> Result<(), Error> {
    check::positions(x.rows(), x.cols(), options)?;
    run(x, options, InPlace)
}

fn run<Y: Element, In: Input<Y>>(y: MatMut<'_, Y>, options: &EmbedOptions<'_>, input: In) -> Result<(), Error> {
    let &EmbedOptions { scale, positions, threads, level } = options;
    let d = y.cols();
    rows::divide(y, d, &RowOptions { threads, level }, &Embed { input, scale, positions })
}

/// Rows of a table.
struct Lookup<'a, T> {
    table: MatRef<'a, T>,
    ids: &'a [u32],
}

impl<T> Clone for Lookup<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lookup<'_, T> {}

impl<T: Element, Y> Input<Y> for Lookup<'_, T> {
    type X = T;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn row<'r>(&'r self, first: usize, i: usize, _: &'r MatMut<'_, Y>) -> Row<'r, T> {
        Row { matrix: self.table, index: self.ids[first + i] as usize }
    }
    #[inline(always)]
    fn slice(&self, i: usize) -> Option<&[T]> {
        self.table.row(self.ids[i] as usize)
    }
}

struct Embed<'a, In> {
    input: In,
    scale: f32,
    positions: Option<Positions<'a>>,
}

impl<In: Input<Y>, Y: Element> Job<Y> for Embed<'_, In> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut y: MatMut<'_, Y>) {
        let scale = Scaled(isa.splat(self.scale));
        let mut buffers = Buffers::default();
        for i in 0..y.rows() {
            let position = self.positions.map(|p| Row { matrix: p.table, index: p.rows.of(first + i) });
            // Where elements lie side by side, one pass; without a position, the product alone.
            match (self.input.slice(first + i), position.map(Row::f32s), y.row_mut(i)) {
                (Some(x), None, Some(y)) => slices::map(isa, x, y, &scale),
                (Some(x), Some(Some(position)), Some(y)) => slices::map2(isa, x, position, y, &scale),
                (None, None, Some(y)) if In::IN_PLACE => slices::map_in_place(isa, y, &scale),
                (None, Some(Some(position)), Some(y)) if In::IN_PLACE => {
                    slices::map2_in_place(isa, y, position, &scale);
                }
                _ => rows::combine(isa, (&self.input, position), (first, i), &mut y, &mut buffers, &scale),
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
