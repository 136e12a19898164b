//! The blocked loops around the microkernel.
//!
//! Column groups are outermost: a group of panels stays in cache while every row block of A passes over it.

use crate::epilogue::{Bias, Block, Epilogue};
use crate::pack::pack_panels;
use crate::plan::{Plan, Sizes, Source, part};
use crate::tile::{PANEL, Tile, max_rows, tile_fn};
use crate::{GemmOptions, Rhs};
use gristmill_core::cache::Caches;
use gristmill_core::{Error, MatMut, MatRef, SendPtr, Workspace};
use gristmill_simd::{Isa, Kernel, Simd};
use std::marker::PhantomData;

/// Runs a checked product.
pub(crate) fn run(
    simd: Simd,
    a: MatRef<'_, f32>,
    b: Rhs<'_>,
    c: MatMut<'_, f32>,
    options: &GemmOptions<'_>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    if c.rows() == 0 || c.cols() == 0 {
        return Ok(());
    }
    let bias = options.bias.map_or(Bias::None, |bias| Bias::PerColumn(bias.as_ptr(), PhantomData));
    let product = match b {
        // Tiles store rows: a column-major C is a row-major C^T = B^T A^T, with the same chains of multiply-adds.
        Rhs::Plain(b) if c.col_stride() != 1 && c.row_stride() == 1 => {
            let bias = match bias {
                Bias::PerColumn(bias, life) => Bias::PerRow(bias, life),
                bias => bias,
            };
            let residual = options.residual.map(MatRef::transposed);
            let (a, b, c) = (b.transposed(), Rhs::Plain(a.transposed()), c.transposed());
            Product { a, b, c, bias, residual, options, workspace }
        }
        _ => Product { a, b, c, bias, residual: options.residual, options, workspace },
    };
    simd.run(product)
}

/// A product whose sizes agree and whose C is not empty.
struct Product<'p> {
    a: MatRef<'p, f32>,
    b: Rhs<'p>,
    c: MatMut<'p, f32>,
    bias: Bias<'p>,
    residual: Option<MatRef<'p, f32>>,
    options: &'p GemmOptions<'p>,
    workspace: &'p mut Workspace,
}

impl Kernel for Product<'_> {
    type Output = Result<(), Error>;

    fn run<I: Isa>(mut self, isa: I) -> Self::Output {
        let sizes = Sizes { m: self.a.rows(), n: self.b.n(), k: self.a.cols() };
        let threads = self.options.threads;
        let source = source::<I>(sizes, &self.b);
        let plan = Plan::new::<I>(sizes, source, Caches::detected(), threads);
        let scratch_len = (plan.pack_len() + plan.accumulators_len()).next_multiple_of(PANEL);
        let scratch = self.workspace.f32s(scratch_len * threads.workers(plan.jobs()))?;
        let scratch = SendPtr::new(scratch.as_mut_ptr());
        let epilogue = Template {
            alpha: self.options.alpha,
            beta: self.options.beta,
            bias: self.bias,
            activation: self.options.activation,
            residual: self.residual,
            c_strides: [self.c.row_stride(), self.c.col_stride()],
            c: self.c.as_send_ptr(),
        };
        let job = Job { a: self.a, b: self.b, epilogue, plan };
        threads.for_each_worker(plan.jobs(), |worker, index| {
            // SAFETY: the scratch has a part for each worker, and a worker runs one job at a time.
            let scratch =
                unsafe { std::slice::from_raw_parts_mut(scratch.get().add(worker * scratch_len), scratch_len) };
            job.run(isa, index, scratch);
        });
        Ok(())
    }
}

/// Decides where the tiles find B.
fn source<I: Isa>(sizes: Sizes, b: &Rhs<'_>) -> Source {
    match b {
        Rhs::Packed(_) => Source::Panels,
        Rhs::Plain(b) if b.col_stride() != 1 => Source::Repack,
        // Few rows do not repay the packing; a small B stays in the first levels of cache as it is.
        Rhs::Plain(_) if sizes.m <= 2 * max_rows::<I>(1) || sizes.n * sizes.k <= 4096 => Source::InPlace,
        Rhs::Plain(_) => Source::Repack,
    }
}

/// The epilogue of the whole product, from which a tile's is cut.
struct Template<'p> {
    alpha: f32,
    beta: f32,
    bias: Bias<'p>,
    activation: gristmill_core::Activation,
    residual: Option<MatRef<'p, f32>>,
    c: SendPtr<f32>,
    c_strides: [isize; 2],
}

// SAFETY: the bias pointers are borrowed from slices of f32 for 'p and only read.
unsafe impl Sync for Template<'_> {}

impl Template<'_> {
    /// The epilogue of the tile whose first element is (i, j).
    fn at(&self, i: usize, j: usize) -> Epilogue<'_> {
        let [c_row, c_col] = self.c_strides;
        Epilogue {
            alpha: self.alpha,
            beta: self.beta,
            bias: match self.bias {
                Bias::None => Bias::None,
                Bias::PerColumn(bias, life) => Bias::PerColumn(bias.wrapping_add(j), life),
                Bias::PerRow(bias, life) => Bias::PerRow(bias.wrapping_add(i), life),
            },
            activation: self.activation,
            residual: self.residual.map(|r| Block { ptr: r.ptr_at(i, j), row: r.row_stride(), col: r.col_stride() }),
            c: self.c.get().wrapping_offset(i as isize * c_row + j as isize * c_col),
            c_row,
            c_col,
        }
    }
}

/// Panels as the microkernel reads them.
#[derive(Clone, Copy)]
struct Panels {
    b: *const f32,
    b_step: isize,
    b_panel: isize,
    /// B is read in place and the last panel is partial.
    masked: bool,
}

/// What the jobs of a product share.
struct Job<'p> {
    a: MatRef<'p, f32>,
    b: Rhs<'p>,
    epilogue: Template<'p>,
    plan: Plan,
}

impl Job<'_> {
    /// Computes the rows and columns of job `index`.
    fn run<I: Isa>(&self, isa: I, index: usize, scratch: &mut [f32]) {
        let (packed, accumulators) = scratch.split_at_mut(self.plan.pack_len());
        let rows = self.plan.rows(index);
        let mut panels = self.plan.panels(index);
        while !panels.is_empty() {
            let count = self.group_at::<I>(panels.start, panels.len());
            let first = panels.start * PANEL;
            let cols = (self.plan.sizes.n - first).min(count * PANEL);
            let k = self.plan.sizes.k;
            let depth = self.plan.depth;
            // At least one block, so that k = 0 still stores its zeros.
            for from in (0..k.max(1)).step_by(depth) {
                let steps = from..k.min(from + depth);
                let b = self.panels_at(isa, first, cols, steps.clone(), packed);
                let blocks = rows.len().div_ceil(max_rows::<I>(count));
                for block in 0..blocks {
                    let block = part(rows.len(), blocks, block);
                    let held = block.start * count * PANEL;
                    let first_row = rows.start + block.start;
                    let held = accumulators.as_mut_ptr().wrapping_add(held);
                    let tile = Tile {
                        a: self.a.ptr_at(first_row, from),
                        a_row: self.a.row_stride(),
                        a_step: self.a.col_stride(),
                        b: b.b,
                        b_step: b.b_step,
                        b_panel: b.b_panel,
                        k: steps.len(),
                        cols,
                        start: if from == 0 { std::ptr::null() } else { held },
                        start_row: (count * PANEL) as isize,
                        epilogue: if steps.end == k {
                            self.epilogue.at(first_row, first)
                        } else {
                            Epilogue::store(held, (count * PANEL) as isize)
                        },
                    };
                    // SAFETY: P1: `block` rows and `steps` lie in A. P2: `panels_at` gives panels for these steps.
                    // P3: `count` panels from `first` on, cut at n. P4, P5: the accumulators hold the rows of the
                    // job, `count` panels wide; C, bias and residual have these rows and columns, and no other job
                    // has this block of C.
                    unsafe { tile_fn::<I>(block.len(), count, b.masked)(isa, &tile) };
                }
            }
            panels.start += count;
        }
    }

    /// How many panels the next tiles span: a group, or what tiles there are for the rest. A partial panel that is
    /// read in place stands alone.
    fn group_at<I: Isa>(&self, first: usize, left: usize) -> usize {
        let whole = if self.plan.source == Source::InPlace { self.plan.sizes.n / PANEL } else { usize::MAX };
        let left = left.min(whole.saturating_sub(first)).max(1);
        let mut count = self.plan.group.min(left);
        while max_rows::<I>(count) == 0 {
            count -= 1;
        }
        count
    }

    /// The panels of `cols` columns from `first` on, at `steps`.
    fn panels_at<I: Isa>(
        &self,
        isa: I,
        first: usize,
        cols: usize,
        steps: std::ops::Range<usize>,
        packed: &mut [f32],
    ) -> Panels {
        let strides = |k: usize| (PANEL as isize, (k * PANEL) as isize);
        match (self.plan.source, self.b) {
            (_, Rhs::Packed(b)) => {
                let (b_step, b_panel) = strides(b.k());
                let offset = first * b.k() + steps.start * PANEL;
                Panels { b: b.panels().as_ptr().wrapping_add(offset), b_step, b_panel, masked: false }
            }
            (Source::Repack, Rhs::Plain(b)) => {
                let (b_step, b_panel) = strides(steps.len());
                let packed = &mut packed[..steps.len() * cols.next_multiple_of(PANEL)];
                let block = b.submatrix(steps, first..first + cols).expect("the plan's steps and columns lie in B");
                pack_panels(isa, block, packed);
                Panels { b: packed.as_ptr(), b_step, b_panel, masked: false }
            }
            (_, Rhs::Plain(b)) => Panels {
                b: b.ptr_at(steps.start, first),
                b_step: b.row_stride(),
                b_panel: PANEL as isize,
                masked: !cols.is_multiple_of(PANEL),
            },
        }
    }
}
