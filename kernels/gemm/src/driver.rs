//! The blocked loops around the microkernel.
//!
//! Column groups are outermost: a group of panels stays in cache while every row block of A passes over it.

use crate::epilogue::Epilogue;
use crate::left::{Left, begin_alike, gap, left, widened_len};
use crate::panels::Form;
use crate::plan::{Crew, Plan, Sizes, Source, next_group, products_per_job, usable_threads};
use crate::product::{Chain, Product, Right, pairs};
use crate::tile::{PANEL, Tile, max_rows, spreads};
use gristmill_core::{Error, Operand, SendPtr, Threads, Workspace, cache::Caches, parts::cuts, parts::part};
use gristmill_simd::{Isa, Kernel, Simd};
use std::ops::Range;

impl Product<'_> {
    /// The jobs of the product on `threads` threads; `pairs` is its chain if both factors are bf16.
    fn job<I: Isa>(&self, threads: usize, pairs: Chain) -> Job<'_> {
        let chain = if self.is_bf16() { pairs } else { Chain::InOrder };
        let crew = Crew { threads, lines_apart: self.c.lines_apart() };
        Job { product: self, plan: Plan::new::<I>(self, chain, Caches::detected(), crew), chain }
    }
}

/// Runs one product.
pub(crate) fn run(
    simd: Simd,
    product: &Product<'_>,
    threads: Threads<'_>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    simd.run(One { simd, product, threads, workspace })
}

struct One<'p> {
    simd: Simd,
    product: &'p Product<'p>,
    threads: Threads<'p>,
    workspace: &'p mut Workspace,
}

impl Kernel for One<'_> {
    type Output = Result<(), Error>;

    const DOT: bool = true;

    fn run<I: Isa>(self, isa: I) -> Self::Output {
        if self.product.run_short(isa) {
            return Ok(());
        }
        let product = self.product.turned::<I>();
        if product.sizes().is_empty() {
            return Ok(());
        }
        let chain = match product.is_bf16() {
            true => pairs(isa, self.simd, std::iter::once(product)),
            false => Chain::InOrder,
        };
        let job = product.job::<I>(usable_threads(self.threads, self.product.sizes().work()), chain);
        in_scratch(self.threads, job.plan.jobs(), job.scratch_len(), self.workspace, |index, scratch| {
            job.run(isa, index, scratch);
        })
    }
}

/// Many products, whose jobs have numbers of their own.
pub(crate) trait Products: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// Product `i`.
    fn get(&self, i: usize) -> Product<'_>;
    /// Whether all have the sizes, strides and types of the first.
    fn alike(&self) -> bool;
    /// Notes that the jobs of product `i` start at job `first`. Not called where all are alike.
    fn start_at(&mut self, i: usize, first: usize);
    /// The product whose jobs include `job`, and where they start. Not called where all are alike.
    fn find(&self, job: usize) -> (usize, usize);
}

/// Runs many products in one parallel region.
pub(crate) fn run_many(
    simd: Simd,
    products: &mut dyn Products,
    threads: Threads<'_>,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    simd.run(Many { simd, products, threads, workspace })
}

struct Many<'p> {
    simd: Simd,
    products: &'p mut dyn Products,
    threads: Threads<'p>,
    workspace: &'p mut Workspace,
}

impl Kernel for Many<'_> {
    type Output = Result<(), Error>;

    const DOT: bool = true;

    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let Many { simd, products, threads, workspace } = self;
        let count = products.count();
        // Without elements there may be more of them than can be counted through.
        if count == 0 || (products.alike() && products.get(0).sizes().is_empty()) {
            return Ok(());
        }
        let pairs = pairs(isa, simd, (0..count).map(|i| products.get(i)));
        let work_of = |i: usize| products.get(i).sizes().work();
        let work = match products.alike() {
            true => work_of(0).saturating_mul(count),
            false => (0..count).fold(0usize, |sum, i| sum.saturating_add(work_of(i))),
        };
        let usable = usable_threads(threads, work);
        // Whole products are better jobs than parts where there are enough of them.
        let split = if count >= 2 * usable { 1 } else { usable };
        if products.alike() {
            let first = products.get(0).turned::<I>();
            let job = first.job::<I>(split, pairs);
            // One plan for all: a plan also depends on where C lies.
            let (plan, chain) = (job.plan, job.chain);
            let (each, scratch_len) = (plan.jobs(), job.scratch_len());
            // Small products go together, so that handing them out costs little.
            let together = match each {
                1 if usable == 1 => count,
                1 => products_per_job(first.sizes().work(), count, usable),
                _ => 1,
            };
            let jobs = count.div_ceil(together) * each;
            let products: &dyn Products = products;
            return in_scratch(threads, jobs, scratch_len, workspace, |index, scratch| {
                let first = index / each * together;
                for i in first..count.min(first + together) {
                    Job { product: &products.get(i).turned::<I>(), plan, chain }.run(isa, index % each, scratch);
                }
            });
        }
        let (mut jobs, mut scratch_len) = (0, 0);
        for i in 0..count {
            products.start_at(i, jobs);
            let product = products.get(i).turned::<I>();
            if !product.sizes().is_empty() {
                let job = product.job::<I>(split, pairs);
                jobs += job.plan.jobs();
                scratch_len = job.scratch_len().max(scratch_len);
            }
        }
        let products: &dyn Products = products;
        let threads = if usable == 1 { Threads::Serial } else { threads };
        in_scratch(threads, jobs, scratch_len, workspace, |index, scratch| {
            let (i, first) = products.find(index);
            products.get(i).turned::<I>().job::<I>(split, pairs).run(isa, index - first, scratch);
        })
    }
}

/// Calls `f` for each of `jobs` jobs, with scratch memory of `len` values that no other running job has.
fn in_scratch(
    threads: Threads<'_>,
    jobs: usize,
    len: usize,
    workspace: &mut Workspace,
    f: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), Error> {
    let scratch = workspace.f32s(len.saturating_mul(threads.workers(jobs)))?;
    if jobs == 1 {
        f(0, scratch);
        return Ok(());
    }
    let scratch = SendPtr::new(scratch.as_mut_ptr());
    threads.for_each_worker(jobs, |worker, index| {
        // SAFETY: the scratch has a part for each worker, and a worker runs one job at a time.
        f(index, unsafe { std::slice::from_raw_parts_mut(scratch.get().add(worker * len), len) });
    });
    Ok(())
}

/// What the jobs of a product share.
pub(crate) struct Job<'p> {
    pub(crate) product: &'p Product<'p>,
    pub(crate) plan: Plan,
    pub(crate) chain: Chain,
}

// SAFETY: the operands are views of slices that may be shared; jobs write different blocks of C.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// Scratch values that a worker needs.
    fn scratch_len(&self) -> usize {
        // Whether there is a gap depends on the addresses of each product.
        let gap = self.gap();
        let widened = widened_len(&self.product.a, self.plan.rows(0).len(), self.chain, gap);
        (self.plan.pack_len() + self.plan.accumulators_len() + widened).next_multiple_of(PANEL)
    }

    /// B, if the tiles read its columns.
    fn columns(&self) -> Option<Operand<'_>> {
        match self.product.b {
            Right::Plain(b) if self.plan.source == Source::Columns => Some(b),
            _ => None,
        }
    }

    /// Values of a gap that rows of A may need between them.
    fn gap(&self) -> usize {
        self.columns().map_or(0, |columns| gap(&self.product.a, &columns))
    }

    /// Whether these rows of A need it.
    fn begin_alike(&self, a: &Operand<'_>) -> bool {
        self.columns().is_some_and(|columns| begin_alike(a, &columns))
    }

    /// Computes the rows and columns of job `index`.
    fn run<I: Isa>(&self, isa: I, index: usize, scratch: &mut [f32]) {
        let (packed, scratch) = scratch.split_at_mut(self.plan.pack_len());
        let (accumulators, widened) = scratch.split_at_mut(self.plan.accumulators_len());
        let rows = self.plan.rows(index);
        let k = self.plan.sizes.k;
        let a = self.product.a.block(rows.clone(), 0..k);
        let gap = if self.begin_alike(&a) { self.gap() } else { 0 };
        let a: Left = left(isa, a, self.chain, gap, widened);
        let panels = self.plan.panels(index);
        let col_block = if self.plan.keeps_panels() { self.plan.col_block } else { panels.len() };
        for cols in cuts(panels, col_block) {
            for block in cuts(rows.clone(), self.plan.row_block) {
                // The first row block packs what all of them use.
                let fresh = block.start == rows.start;
                let a = a.advanced(block.start - rows.start);
                self.block(isa, a, block, cols.clone(), fresh, packed, accumulators);
            }
        }
    }

    /// Computes a block of rows and panels; `a` is the first of the rows. Packs the panels if they are `fresh`.
    #[expect(clippy::too_many_arguments, reason = "the state of the loops around it")]
    fn block<I: Isa>(
        &self,
        isa: I,
        a: Left,
        rows: Range<usize>,
        panels: Range<usize>,
        fresh: bool,
        packed: &mut [f32],
        accumulators: &mut [f32],
    ) {
        let Plan { source, group, depth, sizes: Sizes { n, k, .. }, .. } = self.plan;
        let kept_depth = self.plan.kept_depth();
        let far = self.streams_rows(a, rows.len(), panels.len());
        let one_by_one =
            matches!(source, Source::InPlace | Source::Panels) && rows.len() <= max_rows::<I>(group) && depth >= k;
        let mut panel = panels.start;
        while panel < panels.end {
            let left = panels.end - panel;
            let count = self.group_at::<I>(panel, left);
            // One call is enough for groups abreast, and for groups side by side, all but the last of which is asked for.
            let abreast = source == Source::Panels && one_by_one && spreads(rows.len(), count);
            let spread = if abreast { left / count } else { 1 };
            let width = match spread {
                1 if one_by_one => (left / count).saturating_sub(1).max(1) * count,
                spread => spread * count,
            };
            let first = panel * PANEL;
            let cols = (n - first).min(width * PANEL);
            // At least one block, so that k = 0 still stores its zeros.
            for steps in cuts(0..k.max(1), depth) {
                let (from, steps) = (steps.start, steps.start..k.min(steps.end));
                let kept = if self.plan.keeps_panels() {
                    ((panel - panels.start) * kept_depth + count * from) * PANEL
                } else {
                    0
                };
                let packed = packed.get_mut(kept..).unwrap_or_default();
                let mut b = self.panels_at(isa, first, cols, steps.clone(), packed, fresh);
                let tile_steps = self.steps_of_tile(&steps);
                // Divisions would be a good part of the time of short tiles.
                let tallest = if b.form == Form::Columns { rows.len() } else { max_rows::<I>(count) };
                let blocks = if rows.len() <= tallest { 1 } else { rows.len().div_ceil(tallest) };
                let is_last = panel + width == panels.end;
                let is_followed = !is_last || (self.plan.goes_on && first + cols < n);
                for index in 0..blocks {
                    let block = part(rows.len(), blocks, index);
                    let (ahead, ahead_step) = match b.form {
                        Form::Columns => (self.plan.reach as isize, 0),
                        // The rows of A that are read from memory by every group.
                        _ if far => b.ahead_at(a.at(block.end, from), block.len()),
                        // The first tile that meets a group waits for memory, unless the tiles before asked for it.
                        _ if is_followed && blocks > 1 && (index > 0 || panel > panels.start) => {
                            b.share_of_next(index, blocks, k)
                        }
                        _ => b.soon(self.plan.reach, tile_steps),
                    };
                    // Nobody else asks memory for the first steps of the next group.
                    let alone = source == Source::Panels && blocks == 1 && !is_last && !far && spread == 1;
                    let held = accumulators.as_mut_ptr().wrapping_add(block.start * count * PANEL);
                    let tile = Tile {
                        a: a.at(block.start, from),
                        a_row: a.row,
                        a_step: a.step,
                        b: b.b,
                        b_step: b.b_step,
                        b_panel: b.b_panel,
                        spread,
                        ahead,
                        ahead_step,
                        turn: tile_steps - if alone { self.plan.reach.min(tile_steps) } else { 0 },
                        k: tile_steps,
                        cols,
                        start: if from == 0 { std::ptr::null() } else { held },
                        start_row: (count * PANEL) as isize,
                        keep: b.keep,
                        epilogue: if steps.end == k {
                            self.product.epilogue(rows.start + block.start, first)
                        } else {
                            Epilogue::store(held, (count * PANEL) as isize)
                        },
                    };
                    let function = b.tile_fn(isa, self.chain, block.len(), count);
                    // SAFETY: P1: `block` rows and `steps` lie in A. P2: `panels_at` gives panels for these steps.
                    // P3: `width` panels from `first` on, cut at n. P4, P5: the accumulators hold the rows of the
                    // block, `width` panels wide; C, bias and residual have these rows and columns, and no other job
                    // has this block of C. P6: `panels_at` keeps within the scratch of the job.
                    unsafe { function(&tile) };
                    b = b.kept(tile_steps);
                }
            }
            panel += width;
        }
    }

    /// Whether so many rows of A lie side by side and are read from beyond the second cache, for each of few groups.
    fn streams_rows(&self, a: Left, rows: usize, panels: usize) -> bool {
        let Plan { depth, sizes: Sizes { k, .. }, group, .. } = self.plan;
        let near = Caches::detected().l2 / size_of::<f32>();
        depth == k && a.step == 1 && a.row == k as isize && panels <= 2 * group && rows.saturating_mul(k) > near
    }

    /// Steps of tiles and of panels that are made for them: whole pairs where A was widened to them.
    pub(crate) fn steps_of_tile(&self, steps: &Range<usize>) -> usize {
        if self.chain == Chain::OddFirst { steps.len().next_multiple_of(2) } else { steps.len() }
    }

    /// How many panels the next tiles span: a group, or what tiles there are for the rest, which is cut evenly. Columns
    /// are read whole panels at a time, and a partial one stands alone.
    fn group_at<I: Isa>(&self, first: usize, left: usize) -> usize {
        if self.plan.source == Source::Columns {
            return left.min((self.plan.sizes.n / PANEL).saturating_sub(first)).max(1);
        }
        next_group::<I>(self.plan.group, left)
    }
}
