//! Rows divided among threads, and rows whose elements do not lie side by side.

use crate::RowOptions;
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::slices::{self, Map2};
use gristmill_simd::{Isa, Kernel, Simd};
use std::ops::Range;

/// Elements that are worth a job of their own.
const JOB: usize = 1 << 15;

/// A computation that makes rows of `T` one by one.
pub(crate) trait Job<T>: Sync {
    /// Makes the rows of `y`, which are those of the whole from `first` on. Must be `#[inline(always)]`.
    fn run<I: Isa>(&self, isa: I, first: usize, y: MatMut<'_, T>);
}

struct Block<'a, T, J> {
    job: &'a J,
    first: usize,
    y: MatMut<'a, T>,
}

impl<T, J: Job<T>> Kernel for Block<'_, T, J> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        self.job.run(isa, self.first, self.y);
    }
}

/// Runs `job` for all rows of `y`; `cost` is the number of elements that a row takes.
pub(crate) fn divide<T: Send + Sync>(
    mut y: MatMut<'_, T>,
    cost: usize,
    options: &RowOptions<'_>,
    job: &impl Job<T>,
) -> Result<(), Error> {
    let simd = Simd::choose(options.level)?;
    let (rows, cols) = (y.rows(), y.cols());
    if cols == 0 {
        return Ok(());
    }
    let share = (JOB / cost.max(1)).max(1);
    let shared = y.share();
    options.threads.for_each(rows.div_ceil(share), |i| {
        let rows = i * share..rows.min(i * share + share);
        let first = rows.start;
        // SAFETY: every job has rows of its own.
        let y = unsafe { shared.block(rows, 0..cols) };
        simd.run(Block { job, first, y });
    });
    Ok(())
}

/// Elements of a piece: whole blocks of 64 lanes.
pub(crate) const PIECE: usize = 512;

/// The ranges of columns that a row of `n` is worked on in.
pub(crate) fn pieces(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(PIECE).map(move |start| start..n.min(start + PIECE))
}

/// A row of a matrix in any layout.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) matrix: MatRef<'a, f32>,
    pub(crate) index: usize,
}

impl<'a> Row<'a> {
    /// Some columns: where they lie, when they lie side by side, else copied to `buffer`.
    #[inline(always)]
    pub(crate) fn borrow<'b>(self, columns: Range<usize>, buffer: &'b mut [f32; PIECE]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.matrix.row(self.index) {
            Some(row) => &row[columns],
            None => self.gather(columns, buffer),
        }
    }

    /// Some columns, copied to the start of `buffer`.
    pub(crate) fn gather(self, columns: Range<usize>, buffer: &mut [f32; PIECE]) -> &mut [f32] {
        let piece = &mut buffer[..columns.len()];
        for (value, j) in piece.iter_mut().zip(columns) {
            *value = self.matrix.at(self.index, j);
        }
        piece
    }
}

/// Writes columns of row `i` from `start` on.
pub(crate) fn scatter(y: &mut MatMut<'_, f32>, i: usize, start: usize, values: &[f32]) {
    for (j, &value) in values.iter().enumerate() {
        y.set(i, start + j, value);
    }
}

/// What is added where there is nothing to add: `x + -0` is `x`, whatever `x` is.
static NOTHING: [f32; PIECE] = [-0.0; PIECE];

/// Room for a piece of each operand of [`combine`].
pub(crate) struct Buffers([[f32; PIECE]; 2]);

impl Buffers {
    pub(crate) fn new() -> Self {
        Self([[0.0; PIECE]; 2])
    }
}

/// Row `i` of `y` = `f(x, addend)`, where `x` is that row itself if there is none, and the addend -0.
#[inline(always)]
pub(crate) fn combine<I: Isa>(
    isa: I,
    (x, addend): (Option<Row<'_>>, Option<Row<'_>>),
    y: &mut MatMut<'_, f32>,
    i: usize,
    Buffers([from, adding]): &mut Buffers,
    f: &impl Map2<I>,
) {
    for columns in pieces(y.cols()) {
        let addend = match addend {
            Some(row) => row.borrow(columns.clone(), adding),
            None => &NOTHING[..columns.len()],
        };
        match (x, y.row_mut(i)) {
            (Some(x), Some(row)) => {
                let x = x.borrow(columns.clone(), from);
                slices::map2(isa, x, addend, &mut row[columns], f);
            }
            (None, Some(row)) => slices::map2_in_place(isa, &mut row[columns], addend, f),
            (x, None) => {
                let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
                let piece = x.gather(columns.clone(), from);
                slices::map2_in_place(isa, piece, addend, f);
                scatter(y, i, columns.start, piece);
            }
        }
    }
}
