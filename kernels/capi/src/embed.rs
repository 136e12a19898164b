//! Token embedding.

use crate::{
    dispatch::{get, threads, typed},
    status::{Failure, Status, guard},
    view::{self, F32, Matrix, Named, Span},
};
use gristmill::{EmbedOptions, PositionRows, Positions, embed};
use std::ptr::null;

/// `gristmill_embed_options`; null stands for none of them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Factor of the embedding, not of the position; 0 for 1.
    pub scale: f32,
    /// A row of f32 per position; null for none.
    pub positions: *const Matrix,
    /// `gristmill_position_rows`: which row token t gets. 0 row `position + t`, 1 row `position`, 2 row `rows[t]`.
    pub kind: u32,
    /// A row.
    pub position: usize,
    /// A row for each token; null where the kind needs none.
    pub rows: *const u32,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options { scale: 0.0, positions: null(), kind: 0, position: 0, rows: null(), serial: 0 };

/// Row t of `y` = `scale * table[ids[t]] + position`; `y` has a row per id.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, `y` writable; nobody uses `y` meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_embed(
    table: *const Matrix,
    ids: *const u32,
    y: *const Matrix,
    options: *const Options,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (table, y, options) = unsafe { (get("table", table)?, get("y", y)?, options.as_ref().unwrap_or(&PLAIN)) };
        // SAFETY: the caller's promise: an id per row.
        let ids = unsafe { view::read::<u32>("ids", ids.cast(), y.rows)? };
        // SAFETY: the caller's promise.
        let (positions, spans) = unsafe { positions(options, y.rows)? };
        let options = EmbedOptions {
            scale: if options.scale == 0.0 { 1.0 } else { options.scale },
            positions,
            threads: threads(options.serial != 0),
            level: None,
        };
        typed!("table", table.element, T => typed!("y", y.element, Y => {
            let span = y.span::<Y>("y")?;
            span.apart("y", &[("table", Some(table.span::<T>("table")?)), ("ids", Some(Span::of(ids)))])?;
            span.apart("y", &spans)?;
            // SAFETY: the caller's promise; Y shares no memory with the others.
            unsafe { embed(table.view::<T>("table")?, ids, y.view_mut::<Y>("y")?, &options)? }
            Ok(())
        }))
    })
}

/// The positions of `tokens` tokens, and where they lie.
///
/// # Safety
/// As [`gristmill_embed`]; what is read stays as it is for `'a`.
unsafe fn positions<'a>(options: &Options, tokens: usize) -> Result<(Option<Positions<'a>>, [Named; 2]), Failure> {
    // SAFETY: the caller's promise.
    let Some(table) = (unsafe { options.positions.as_ref() }) else {
        return Ok((None, [("positions", None), ("rows", None)]));
    };
    if table.element != F32 {
        return Err(Failure::invalid(format!("positions have the type {}, but must be floats", table.element)));
    }
    let each = if options.kind == 2 { tokens } else { 0 };
    // SAFETY: the caller's promise: a row per token.
    let each = unsafe { view::read::<u32>("rows", options.rows.cast(), each)? };
    let rows = match options.kind {
        0 => PositionRows::From(options.position),
        1 => PositionRows::All(options.position),
        2 => PositionRows::Each(each),
        unknown => return Err(Failure::invalid(format!("unknown rows of positions {unknown}"))),
    };
    let spans = [("positions", Some(table.span::<f32>("positions")?)), ("rows", Some(Span::of(each)))];
    // SAFETY: the caller's promise.
    Ok((Some(Positions { table: unsafe { table.view("positions")? }, rows }), spans))
}
