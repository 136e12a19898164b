//! What the arguments of a call must fulfil, before anything is written.

use crate::{EmbedOptions, PositionRows, SoftmaxOptions};
use gristmill_core::{Error, MatMut, MatRef};

pub(crate) fn same_shape<X, Y>(x: MatRef<'_, X>, y: &MatMut<'_, Y>) -> Result<(), Error> {
    same("rows of y", x.rows(), y.rows())?;
    same("columns of y", x.cols(), y.cols())
}

/// The rows are the queries of the mask's sequences and heads, the `n` columns their keys.
pub(crate) fn softmax(rows: usize, n: usize, options: &SoftmaxOptions<'_>) -> Result<(), Error> {
    let &SoftmaxOptions { batch, heads, mask, .. } = options;
    let pairs = batch.checked_mul(heads).ok_or(Error::SizeOverflow { what: "heads of the mask" })?;
    let queries = rows.checked_div(pairs).unwrap_or(0);
    same("rows of x, as batch times heads times queries", pairs * queries, rows)?;
    mask.validate(batch, heads, queries, n)
}

/// The bias as a matrix of one row.
pub(crate) fn bias(n: usize, bias: Option<&[f32]>) -> Result<Option<MatRef<'_, f32>>, Error> {
    same("length of bias", n, bias.map_or(n, <[f32]>::len))?;
    bias.map(|bias| MatRef::new(bias, 1, n)).transpose()
}

pub(crate) fn argmax<X>(x: MatRef<'_, X>, out: &[usize]) -> Result<(), Error> {
    same("length of out", x.rows(), out.len())?;
    if x.cols() == 0 && x.rows() > 0 { Err(Error::Empty { what: "columns of x" }) } else { Ok(()) }
}

pub(crate) fn top_k<X>(x: MatRef<'_, X>, out: &MatMut<'_, usize>) -> Result<(), Error> {
    same("rows of out", x.rows(), out.rows())?;
    if out.cols() > x.cols() && x.rows() > 0 {
        return Err(Error::RangeOutOfBounds { start: 0, end: out.cols(), len: x.cols() });
    }
    Ok(())
}

pub(crate) fn embed<T, Y>(
    table: MatRef<'_, T>,
    ids: &[u32],
    y: &MatMut<'_, Y>,
    options: &EmbedOptions<'_>,
) -> Result<(), Error> {
    same("rows of y", ids.len(), y.rows())?;
    same("columns of y", table.cols(), y.cols())?;
    inside(ids, table.rows())?;
    positions(y.rows(), y.cols(), options)
}

pub(crate) fn positions(rows: usize, n: usize, options: &EmbedOptions<'_>) -> Result<(), Error> {
    let Some(positions) = options.positions else { return Ok(()) };
    same("columns of the positions", n, positions.table.cols())?;
    let len = positions.table.rows();
    let (start, count) = match positions.rows {
        PositionRows::From(first) => (first, rows),
        PositionRows::All(row) => (row, rows.min(1)),
        PositionRows::Each(each) => {
            same("length of the position rows", rows, each.len())?;
            return inside(each, len);
        }
    };
    let end = start.saturating_add(count);
    if count > 0 && end > len { Err(Error::RangeOutOfBounds { start, end, len }) } else { Ok(()) }
}

fn inside(ids: &[u32], rows: usize) -> Result<(), Error> {
    match ids.iter().position(|&id| id as usize >= rows) {
        Some(index) => Err(Error::IdOutOfRange { index, id: ids[index], rows }),
        None => Ok(()),
    }
}

fn same(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}
