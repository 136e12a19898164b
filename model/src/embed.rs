//! Ids to the first residual stream: a row of a table each, scaled, and a position.

use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::{Stack, Table};
use crate::{Config, Result};
use gristmill::MatRef;
use gristmill::rowwise::{EmbedOptions, PositionRows, Positions, embed, embed_in_place, sinusoidal_positions};
use gristmill::simd::Element;
use rayon::prelude::*;

/// The first sinusoidal positions, at least as many as were needed so far.
#[derive(Debug, Default)]
pub(crate) struct Sinusoids {
    values: Vec<f32>,
}

impl Sinusoids {
    /// A table with the first `length` positions.
    fn table(&mut self, config: &Config, length: usize) -> Result<MatRef<'_, f32>> {
        let d = config.d_model;
        if self.values.len() < length * d {
            self.values = sinusoidal_positions(length.next_power_of_two().max(64), d)?;
        }
        Ok(MatRef::new(&self.values, self.values.len() / d, d)?)
    }
}

/// `x` = the embeddings of `ids` in the table of a stack, with their positions.
pub(crate) fn look_up<E: Element>(
    run: &mut Run,
    stack: &Stack<E>,
    sinusoids: &mut Sinusoids,
    ids: &[u32],
    positions: PositionRows,
    x: &mut Matrix<E>,
) -> Result {
    let (start, d) = (run.clock.start(), run.config.d_model);
    x.reshape(ids.len(), d)?;
    let length = match positions {
        PositionRows::From(first) => first + ids.len(),
        PositionRows::All(row) => row + 1,
        PositionRows::Each(rows) => rows.iter().max().map_or(0, |&last| last as usize + 1),
    };
    let table = match &stack.positions {
        Some(learned) => learned.view(),
        None => sinusoids.table(run.config, length)?,
    };
    let options = EmbedOptions {
        scale: run.config.embed_scale,
        positions: Some(Positions { table, rows: positions }),
        threads: run.threads,
        level: run.level,
    };
    match &*stack.table {
        Table::Plain(table) => embed(table.view(), ids, x.view_mut(), &options)?,
        Table::Packed(table) => {
            let look_up = |(row, &id): (&mut [E], &u32)| table.row_into(id as usize, row);
            let rows = x.values_mut();
            // A row is spread over as many cache lines as it has values: it waits for memory, on each core for itself.
            if run.threads.count() > 1 {
                rows.par_chunks_exact_mut(d).zip(ids).with_min_len(32).try_for_each(look_up)?;
            } else {
                rows.chunks_exact_mut(d).zip(ids).try_for_each(look_up)?;
            }
            embed_in_place(x.view_mut(), &options)?;
        }
    }
    run.clock.stop(start, Operation::Embedding, || [2 * x.values().len(), 3 * size_of_val(x.values())]);
    Ok(())
}
