//! Rows divided among threads, and rows whose elements do not lie side by side or are not f32.

use crate::RowOptions;
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::slices::{self, Map, Map2};
use gristmill_simd::{Element, Isa, Kernel, Simd};
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
    options.threads.for_each_range(rows, share, |rows| {
        let first = rows.start;
        // SAFETY: every job has rows of its own.
        let y = unsafe { shared.block(rows, 0..cols) };
        simd.run(Block { job, first, y });
    });
    Ok(())
}

/// Where the rows that a job turns into rows of `Y` come from.
pub(crate) trait Input<Y>: Copy + Sync {
    type X: Element;
    /// Whether it is where it goes.
    const IN_PLACE: bool;

    /// The input of row `i` of `y`, which is row `first + i` of the whole.
    fn row<'r>(&'r self, first: usize, i: usize, y: &'r MatMut<'_, Y>) -> Row<'r, Self::X>;

    /// That of row `i` of the whole, if it is not in place and lies side by side.
    fn slice(&self, i: usize) -> Option<&[Self::X]>;
}

/// From this matrix.
pub(crate) struct Apart<'a, X>(pub(crate) MatRef<'a, X>);

/// From where they go.
#[derive(Clone, Copy)]
pub(crate) struct InPlace;

impl<X> Clone for Apart<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Apart<'_, X> {}

impl<X: Element, Y> Input<Y> for Apart<'_, X> {
    type X = X;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn row<'r>(&'r self, first: usize, i: usize, _: &'r MatMut<'_, Y>) -> Row<'r, X> {
        Row { matrix: self.0, index: first + i }
    }
    #[inline(always)]
    fn slice(&self, i: usize) -> Option<&[X]> {
        self.0.row(i)
    }
}

impl<Y: Element> Input<Y> for InPlace {
    type X = Y;
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn row<'r>(&'r self, _: usize, i: usize, y: &'r MatMut<'_, Y>) -> Row<'r, Y> {
        Row { matrix: y.as_ref(), index: i }
    }
    #[inline(always)]
    fn slice(&self, _: usize) -> Option<&[Y]> {
        None
    }
}

/// Elements of a piece: whole blocks of 64 lanes.
pub(crate) const PIECE: usize = 512;

/// The ranges of columns that a row of `n` is worked on in.
#[inline(always)]
pub(crate) fn pieces(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size).map(move |start| start..n.min(start + size))
}

/// A row of a matrix in any layout.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a, T> {
    pub(crate) matrix: MatRef<'a, T>,
    pub(crate) index: usize,
}

impl<'a, T: Element> Row<'a, T> {
    /// Where it begins.
    #[inline(always)]
    pub(crate) fn start(self) -> *const T {
        self.matrix.ptr_at(self.index, 0)
    }

    /// The whole row, when its elements are f32 and lie side by side.
    #[inline(always)]
    pub(crate) fn f32s(self) -> Option<&'a [f32]> {
        self.matrix.row(self.index).and_then(T::as_f32s)
    }

    /// Some columns: where they lie, when they are f32 and lie side by side, else copied to `buffer`.
    #[inline(always)]
    pub(crate) fn borrow<'b, I: Isa>(self, isa: I, columns: Range<usize>, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.f32s() {
            Some(row) => &row[columns],
            None => self.copy(isa, columns, buffer),
        }
    }

    /// Some columns, copied to the start of `buffer`.
    #[inline(always)]
    pub(crate) fn copy<I: Isa>(self, isa: I, columns: Range<usize>, buffer: &mut [f32]) -> &mut [f32] {
        let piece = &mut buffer[..columns.len()];
        match self.matrix.row(self.index) {
            Some(row) => slices::map(isa, &row[columns], piece, &Same),
            None => self.gather(columns.start, piece),
        }
        piece
    }

    /// Columns from `start` on. A call for many elements: strided rows need no speed.
    #[inline(never)]
    fn gather(self, start: usize, piece: &mut [f32]) {
        for (j, value) in piece.iter_mut().enumerate() {
            *value = self.matrix.at(self.index, start + j).to_f32();
        }
    }
}

/// Rounds values to columns of row `i` from `start` on.
#[inline(always)]
pub(crate) fn write<I: Isa, T: Element>(isa: I, y: &mut MatMut<'_, T>, i: usize, start: usize, values: &[f32]) {
    match y.row_mut(i) {
        Some(row) => slices::map(isa, values, &mut row[start..], &Same),
        None => scatter(y, i, start, values),
    }
}

#[inline(never)]
fn scatter<T: Element>(y: &mut MatMut<'_, T>, i: usize, start: usize, values: &[f32]) {
    for (j, &value) in values.iter().enumerate() {
        y.set(i, start + j, T::from_f32(value));
    }
}

/// The same value.
struct Same;

impl<I: Isa> Map<I> for Same {
    #[inline(always)]
    fn map(&self, _: I, x: I::F32) -> I::F32 {
        x
    }
}

/// What is added where there is nothing to add: `x + -0` is `x`, whatever `x` is.
static NOTHING: [f32; PIECE] = [-0.0; PIECE];

/// Room for pieces of two operands. It is filled with zeros at the first use only: that takes longer than a short row,
/// and few calls need it.
#[derive(Default)]
pub(crate) struct Buffers<const N: usize>(Option<[[f32; N]; 2]>);

impl<const N: usize> Buffers<N> {
    #[inline(always)]
    pub(crate) fn both(&mut self) -> &mut [[f32; N]; 2] {
        match &mut self.0 {
            Some(both) => both,
            none => none.insert([[0.0; N]; 2]),
        }
    }
}

/// Row `i` of `y` = `f(x, addend)`; an addend that is missing is -0. `y` is row `first + i` of the whole.
#[inline(always)]
pub(crate) fn combine<I: Isa, In: Input<Y>, Y: Element>(
    isa: I,
    (input, addend): (&In, Option<Row<'_, f32>>),
    (first, i): (usize, usize),
    y: &mut MatMut<'_, Y>,
    buffers: &mut Buffers<PIECE>,
    f: &impl Map2<I>,
) {
    let [from, adding] = buffers.both();
    for columns in pieces(y.cols(), PIECE) {
        let addend = match addend {
            Some(row) => row.borrow(isa, columns.clone(), adding),
            None => &NOTHING[..columns.len()],
        };
        let x = input.row(first, i, y).copy(isa, columns.clone(), from);
        slices::map2_in_place(isa, x, addend, f);
        write(isa, y, i, columns.start, x);
    }
}
