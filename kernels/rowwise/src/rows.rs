//! Rows divided among threads, and rows of any storage type and layout.
//!
//! Storage types are values here, so that a job is compiled once and not for every mix of types.

use crate::RowOptions;
use gristmill_core::{Error, Operand};
use gristmill_simd::slices::{self, Map2};
use gristmill_simd::{Dtype, Element, Isa, Kernel, Simd, TypedPtr};
use std::ops::Range;

/// Elements that are worth a job of their own.
const JOB: usize = 1 << 15;

/// A computation that makes rows one by one.
///
/// Whoever runs one promises **(Job)**: its inputs and its output have the rows and columns that it names, and the
/// output is exclusively the caller's; an input is the output itself, or shares no memory with it.
pub(crate) trait Job: Sync {
    /// Makes some rows. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// (Job), and nobody else makes these rows.
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>);
}

/// Rows of a job, for which (Job) holds, and which nobody else makes.
struct Block<'a, J> {
    job: &'a J,
    rows: Range<usize>,
}

impl<J: Job> Kernel for Block<'_, J> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // SAFETY: what a block promises.
        unsafe { self.job.run(isa, self.rows) }
    }
}

/// Runs `job` for all rows of an output of this shape; `cost` is the number of elements that a row takes.
///
/// # Safety
/// (Job).
pub(crate) unsafe fn divide(
    [rows, cols]: [usize; 2],
    cost: usize,
    options: &RowOptions<'_>,
    job: &impl Job,
) -> Result<(), Error> {
    let simd = Simd::choose(options.level)?;
    if cols > 0 {
        let share = (JOB / cost.max(1)).max(1);
        // The ranges divide the rows, and the caller promises (Job).
        options.threads.for_each_range(rows, share, |rows| simd.run(Block { job, rows }));
    }
    Ok(())
}

/// Elements of a piece: whole blocks of 64 lanes.
pub(crate) const PIECE: usize = 512;

/// The ranges of columns that a row of `n` is worked on in.
#[inline(always)]
pub(crate) fn pieces(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size).map(move |start| start..n.min(start + size))
}

/// A row of a matrix of any type and layout.
///
/// Every `unsafe fn` here asks that the matrix has the row, that what it reads is not being written, and that what it
/// writes is exclusively the caller's.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    start: TypedPtr,
    stride: isize,
    n: usize,
}

impl Row {
    /// Row `i` of a matrix.
    #[inline(always)]
    pub(crate) fn of(matrix: &Operand<'_>, i: usize) -> Self {
        let (n, [_, stride]) = (matrix.cols(), matrix.strides());
        Self { start: matrix.ptr_at(i, 0), stride: if n == 1 { 1 } else { stride }, n }
    }

    /// Where it begins.
    #[inline(always)]
    pub(crate) fn start(self) -> TypedPtr {
        self.start
    }

    /// The storage type of its elements.
    #[inline(always)]
    pub(crate) fn dtype(self) -> Dtype {
        self.start.dtype()
    }

    /// Number of elements.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.n
    }

    /// Whether its elements lie side by side.
    #[inline(always)]
    pub(crate) fn is_dense(self) -> bool {
        self.stride == 1
    }

    /// Whether they are f32, too.
    #[inline(always)]
    pub(crate) fn is_f32s(self) -> bool {
        self.is_dense() && self.dtype() == Dtype::F32
    }

    /// Where element `j` lies.
    #[inline(always)]
    fn at(self, j: usize) -> TypedPtr {
        self.start.offset((j as isize).wrapping_mul(self.stride))
    }

    /// Element `j`, of type `T`, widened.
    ///
    /// # Safety
    /// As for all; the row has the element.
    #[inline(always)]
    pub(crate) unsafe fn value<T: Element>(self, j: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.start.cast::<T>().wrapping_offset((j as isize).wrapping_mul(self.stride)) }.to_f32()
    }

    /// The whole row, when its elements are f32 and lie side by side.
    ///
    /// # Safety
    /// As for all, for as long as `'a`.
    #[inline(always)]
    pub(crate) unsafe fn f32s<'a>(self) -> Option<&'a [f32]> {
        // SAFETY: the caller's promise.
        self.is_f32s().then(|| unsafe { std::slice::from_raw_parts(self.start.cast(), self.n) })
    }

    /// Some columns: where they lie, when they are f32 and lie side by side, else copied to `buffer`.
    ///
    /// # Safety
    /// As for all, for as long as `'b`.
    #[inline(always)]
    pub(crate) unsafe fn borrow<I: Isa>(self, isa: I, columns: Range<usize>, buffer: &mut [f32]) -> &[f32] {
        // SAFETY: the caller's promise.
        unsafe {
            match self.f32s() {
                Some(row) => &row[columns],
                None => self.copy(isa, columns, buffer),
            }
        }
    }

    /// Some columns, copied to the start of `buffer`.
    ///
    /// # Safety
    /// As for all; `buffer` is no part of the matrix.
    #[inline(always)]
    pub(crate) unsafe fn copy<I: Isa>(self, isa: I, columns: Range<usize>, buffer: &mut [f32]) -> &mut [f32] {
        debug_assert!(columns.end <= self.n, "{columns:?} of {}", self.n);
        let piece = &mut buffer[..columns.len()];
        // SAFETY: the caller's promise, and the piece has room.
        unsafe { self.at(columns.start).read(isa, self.stride, piece.len(), piece.as_mut_ptr()) };
        piece
    }

    /// Rounds values to the columns from `start` on.
    ///
    /// # Safety
    /// As for all; the row has these columns, and `values` are no part of the matrix.
    #[inline(always)]
    pub(crate) unsafe fn write<I: Isa>(self, isa: I, start: usize, values: &[f32]) {
        debug_assert!(start + values.len() <= self.n, "{start} + {} of {}", values.len(), self.n);
        // SAFETY: the caller's promise.
        unsafe { self.at(start).write(isa, self.stride, values.len(), values.as_ptr()) };
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

/// `y = f(x, addend)`; an addend that is missing is -0.
///
/// # Safety
/// (Job): rows of the same length, of which nobody else makes `y`.
#[inline(always)]
pub(crate) unsafe fn combine<I: Isa>(
    isa: I,
    [x, y]: [Row; 2],
    addend: Option<Row>,
    buffers: &mut Buffers<PIECE>,
    f: &impl Map2<I>,
) {
    let [from, adding] = buffers.both();
    for columns in pieces(y.len(), PIECE) {
        // SAFETY: the caller's promise; the buffers are our own.
        unsafe {
            let addend = match addend {
                Some(row) => row.borrow(isa, columns.clone(), adding),
                None => &NOTHING[..columns.len()],
            };
            let values = x.copy(isa, columns.clone(), from);
            slices::map2_in_place(isa, values, addend, f);
            y.write(isa, columns.start, values);
        }
    }
}
