//! Ids to the first residual stream: a row of a table each, scaled, and a position.

use crate::Error;
use crate::batch::Batch;
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::{Embedding, Table};
use gristmill::MatRef;
use gristmill::rowwise::{EmbedOptions, PositionRows, Positions, embed, embed_in_place, sinusoidal_positions};
use gristmill::simd::Element;
use rayon::prelude::*;

/// Looks ids up and adds positions.
#[derive(Debug, Default)]
pub(crate) struct Embedder {
    /// The first sinusoidal positions, at least as many as were needed so far.
    sinusoids: Vec<f32>,
    /// The position of each packed token.
    positions: Vec<u32>,
}

impl Embedder {
    /// `x` = the embeddings of packed sentences, each from position 0.
    pub(crate) fn sentences<E: Element>(
        &mut self,
        run: &mut Run,
        embedding: &Embedding<E>,
        batch: &Batch,
        x: &mut Matrix<E>,
    ) -> Result<(), Error> {
        self.positions.clear();
        self.positions.extend(batch.spans.lengths().flat_map(|length| 0..length as u32));
        let longest = batch.spans.lengths().max().unwrap_or(0);
        let table = table(&mut self.sinusoids, run, embedding, longest)?;
        look_up(run, embedding, &batch.ids, Positions { table, rows: PositionRows::Each(&self.positions) }, x)
    }

    /// `x` = the embeddings of one id per sentence, all at one position.
    pub(crate) fn position<E: Element>(
        &mut self,
        run: &mut Run,
        embedding: &Embedding<E>,
        ids: &[u32],
        position: usize,
        x: &mut Matrix<E>,
    ) -> Result<(), Error> {
        let table = table(&mut self.sinusoids, run, embedding, position + 1)?;
        look_up(run, embedding, ids, Positions { table, rows: PositionRows::All(position) }, x)
    }
}

/// A table with the first `length` positions.
fn table<'a, E: Element>(
    sinusoids: &'a mut Vec<f32>,
    run: &Run,
    embedding: &'a Embedding<E>,
    length: usize,
) -> Result<MatRef<'a, f32>, Error> {
    if let Some(learned) = &embedding.positions {
        return Ok(learned.view());
    }
    let d = run.config.d_model;
    if sinusoids.len() < length * d {
        *sinusoids = sinusoidal_positions(length.next_power_of_two().max(64), d)?;
    }
    Ok(MatRef::new(sinusoids, sinusoids.len() / d, d)?)
}

fn look_up<E: Element>(
    run: &mut Run,
    embedding: &Embedding<E>,
    ids: &[u32],
    positions: Positions,
    x: &mut Matrix<E>,
) -> Result<(), Error> {
    let (start, d) = (run.clock.start(), run.config.d_model);
    x.reshape(ids.len(), d)?;
    let options = EmbedOptions {
        scale: run.config.embed_scale,
        positions: Some(positions),
        threads: run.threads,
        level: run.level,
    };
    match &*embedding.table {
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
