//! How a product is cut into blocks and jobs: pure functions of sizes, caches and threads.

use crate::panels::source;
use crate::product::{Chain, Product};
use crate::tile::{PANEL, PREFETCH_STEPS, max_rows, spreads};
use gristmill_core::{Threads, cache::Caches, parts::part};
use gristmill_simd::{Dtype, Isa};
use std::{marker::PhantomData, ops::Range};

/// Where the tiles find B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In panels that the caller packed.
    Panels,
    /// In panels that the caller packed, of 16 bits, which the first row block leaves widened for the others.
    Widen,
    /// In the matrix itself, whose rows are contiguous.
    InPlace,
    /// In the matrix itself, whose columns are contiguous; a last partial panel is packed.
    Columns,
    /// In panels that each job packs for itself, group by group: contiguous rows in the tiles of the first row block,
    /// everything else before them.
    Repack,
}

/// Sizes of the product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Sizes {
    pub(crate) fn is_empty(self) -> bool {
        self.m == 0 || self.n == 0
    }

    /// Whether B stays in the first levels of cache as it is.
    pub(crate) fn keep_b_near(self) -> bool {
        self.n.saturating_mul(self.k) <= SMALL
    }

    /// Whether one thread has computed the product before another begins.
    pub(crate) fn suit_one(self) -> bool {
        self.work() < MIN_JOB
    }

    /// Multiply-adds of the whole product, and what reading B costs, counted as rows.
    pub(crate) fn work(self) -> usize {
        self.m.saturating_add(READ_ROWS).saturating_mul(self.n).saturating_mul(self.k)
    }
}

/// Who shares a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    pub threads: usize,
    /// Whether panels of C begin where cache lines do, so that neighbours write none in common.
    pub lines_apart: bool,
}

/// Values of a B that stays in the first levels of cache as it is.
const SMALL: usize = 4096;

/// Multiply-adds below which another thread does not pay, nor more jobs than threads: some ten microseconds of one core.
const MIN_JOB: usize = 1 << 20;

/// The same for a product that finds itself outside the pool and would have to enter it first.
const MIN_ENTRY: usize = 1 << 23;

/// What reading B from memory costs, in rows computed with it.
const READ_ROWS: usize = 8;

/// Jobs per thread at most, so that a late thread does not hold up the others.
const JOBS_PER_THREAD: usize = 4;

/// What packing one panel costs, in rows of tiles computed on it.
const REPACK_ROWS: usize = 16;

/// What a row costs that ends in the middle of a line which two threads write, in steps of panels: some 50 ns.
const SHARED_LINE: usize = 360;

/// Bytes of panels that a worker packs for itself and keeps for all row blocks: a part of the last cache.
const PACKED_ROOM: usize = 4 << 20;

/// Values of a row of A that is longer than a page: prefetchers follow it, and its row block need not stay in cache.
const LONG_ROW: usize = 1024;

/// Row blocks of the cache are at least so many tiles high, so that reading B again costs little.
const MIN_BLOCKS: usize = 4;

/// How many threads `work` multiply-adds in one region may use.
pub(crate) fn usable_threads(threads: Threads<'_>, work: usize) -> usize {
    if work < MIN_JOB || (work < MIN_ENTRY && !threads.is_entered()) { 1 } else { threads.count() }
}

/// How many of `count` products of `work` multiply-adds make one job.
pub(crate) fn products_per_job(work: usize, count: usize, threads: usize) -> usize {
    (MIN_JOB / work.max(1)).clamp(1, count.div_ceil(threads * JOBS_PER_THREAD).max(1))
}

/// The cuts of one product.
///
/// ```text
///            group of panels: the same B stays in cache for all row blocks
///          +------+------+------+---+
///          |  :   |  :   |  :   | : |   row block: as tall as a tile
///          +------+------+------+---+
///          |  :   |  :   |  :   | : |
///          +======+======+======+===+   row_jobs x col_jobs jobs
///          |  :   |  :   |  :   | : |
///          +------+------+------+---+
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub sizes: Sizes,
    pub source: Source,
    /// Panels that a tile spans.
    pub group: usize,
    /// How many steps, or words of columns, a tile asks ahead for what it reads, unless something else is worth more.
    pub reach: usize,
    /// Steps of k between two visits of the accumulators; k itself unless a group would leave the cache.
    pub depth: usize,
    /// Rows of A that stay in cache while all column groups of a block pass over them.
    pub row_block: usize,
    /// Panels that are packed once for all row blocks, where there are several.
    pub col_block: usize,
    /// Whether jobs ask memory for the panels of the next one, which is likely the same worker's.
    pub goes_on: bool,
    /// Cuts of the rows.
    pub row_jobs: usize,
    /// Cuts of the columns, at panel boundaries.
    pub col_jobs: usize,
}

impl Plan {
    /// Chooses the cuts of a product of some chain for a level, the caches and the crew.
    pub(crate) fn new<I: Isa>(product: &Product<'_>, chain: Chain, caches: Caches, crew: Crew) -> Plan {
        let (sizes, source) = (product.sizes(), source::<I>(product.sizes(), &product.b, chain));
        let (row_jobs, col_jobs) = job_grid::<I>(sizes, source, crew);
        let rows = sizes.m.div_ceil(row_jobs);
        // Few rows. A B beyond the second cache is better packed to its whole depth, which lets the tiles ask for more of it.
        let tiles = rows.div_ceil(max_rows::<I>(1));
        let few = tiles == 1 || (tiles == 2 && sizes.n * sizes.k <= caches.l2 / size_of::<f32>());
        let bytes = product.b.working_set().div_ceil(col_jobs.min(crew.threads));
        let reading = Reading { rows, k: sizes.k, step: PANEL * product.b.dtype().size(), bytes, chain };
        let group = match source {
            Source::Columns => 1,
            _ if chain == Chain::Dot && !I::DOT => 1,
            Source::Panels => group_panels::<I>(rows).min(reading.streams::<I>(caches)),
            // Packing walks 16 columns of B per panel; more than 64 at a time are more than prefetchers follow.
            Source::Repack if few => group_panels::<I>(rows).min(4),
            _ => group_panels::<I>(rows),
        };
        // Three panels leave no registers for both halves of their pairs.
        let is_pairs = matches!(source, Source::Panels | Source::Widen) && product.b.dtype() == Dtype::Bf16;
        let group = if group == 3 && is_pairs && chain != Chain::Dot { 2 } else { group };
        let source = match source {
            // Nobody else reads what one row block widens.
            Source::Widen if rows <= max_rows::<I>(group) => Source::Panels,
            source => source,
        };
        // A group that is packed for few rows stays in the first cache; one that is used often, in the second. With
        // one row block of packed panels B is read once, and where it lies does not matter.
        let room = match source {
            Source::Repack if few => caches.l1d / 2,
            Source::Columns => usize::MAX,
            Source::Panels | Source::InPlace if rows <= max_rows::<I>(group) => usize::MAX,
            _ => caches.l2 / 2,
        };
        let fits = (room / (group * PANEL * size_of::<f32>())).max(PANEL) / PANEL * PANEL;
        let depth = sizes.k.clamp(1, fits);
        let reach = match source {
            Source::Panels if rows <= max_rows::<I>(group) => reading.reach(group, caches),
            // Words, not steps; one row is read much faster than memory answers.
            Source::Columns if bytes <= caches.l2 / 2 => 0,
            Source::Columns if bytes <= caches.l3 && rows == 1 => 4 * PREFETCH_STEPS,
            Source::Columns => 8 * PREFETCH_STEPS,
            _ => PREFETCH_STEPS,
        };
        let panels = sizes.n.div_ceil(PANEL).div_ceil(col_jobs);
        let row_block = row_block::<I>(rows, sizes.k, panels, group, caches);
        let col_block = if row_block < rows { col_block(sizes.k, panels, group) } else { panels };
        let goes_on = row_jobs == 1 && bytes > caches.l3;
        Plan { sizes, source, group, reach, goes_on, depth, row_block, col_block, row_jobs, col_jobs }
    }

    /// Rows of the highest job.
    fn job_rows(&self) -> usize {
        self.sizes.m.div_ceil(self.row_jobs)
    }

    /// Whether packed panels are used by more than one row block.
    pub(crate) fn keeps_panels(&self) -> bool {
        self.row_block < self.job_rows()
    }

    pub(crate) fn jobs(&self) -> usize {
        self.row_jobs * self.col_jobs
    }

    /// Rows of a job.
    pub(crate) fn rows(&self, job: usize) -> Range<usize> {
        part(self.sizes.m, self.row_jobs, job % self.row_jobs)
    }

    /// Panels of a job.
    pub(crate) fn panels(&self, job: usize) -> Range<usize> {
        part(self.sizes.n.div_ceil(PANEL), self.col_jobs, job / self.row_jobs)
    }

    /// Rows of a panel that is kept: k, rounded up to whole pairs.
    pub(crate) fn kept_depth(&self) -> usize {
        self.sizes.k.next_multiple_of(2)
    }

    /// Scratch values that a worker needs for packed panels.
    pub(crate) fn pack_len(&self) -> usize {
        match (self.source, self.keeps_panels()) {
            (Source::Repack | Source::Widen, true) => self.kept_depth() * self.col_block * PANEL,
            (Source::Repack | Source::Widen, false) => {
                self.depth.min(self.kept_depth()).next_multiple_of(2) * self.group * PANEL
            }
            (Source::Columns, _) if !self.sizes.n.is_multiple_of(PANEL) => self.sizes.k * PANEL,
            _ => 0,
        }
    }

    /// Scratch values that a worker needs for accumulators between depth blocks.
    pub(crate) fn accumulators_len(&self) -> usize {
        if self.depth < self.sizes.k { self.row_block * self.group * PANEL } else { 0 }
    }
}

/// How one row block reads packed panels: `step` bytes of each at a time, and all `bytes` of its thread before them again.
struct Reading {
    rows: usize,
    k: usize,
    step: usize,
    bytes: usize,
    chain: Chain,
}

impl Reading {
    /// Panels at most that are read together. Out of the nearest caches many streams come as fast as few. For one or two
    /// rows the last level is fastest with as few as keep the chains of multiply-adds going, 128 bytes a step. Memory is
    /// with two that are spread, which never end, and for more rows with one, where they stay in half of the first cache.
    fn streams<I: Isa>(&self, caches: Caches) -> usize {
        let (few, dot) = (self.rows <= 2, self.chain == Chain::Dot);
        let (a_size, lines) = if dot { (2, true) } else { (4, self.step == 4 * PANEL) };
        match self.bytes {
            bytes if bytes <= caches.l2 || self.rows > max_rows::<I>(1).min(8) => usize::MAX,
            bytes if bytes <= caches.l3 && few => 128 / self.step,
            bytes if bytes <= caches.l3 => usize::MAX,
            _ if spreads(self.rows, 2) => 2,
            _ if lines && self.rows * self.k * a_size <= caches.l1d / 2 => 1,
            _ => usize::MAX,
        }
    }

    /// How many steps of `group` panels to ask ahead: in memory as many bytes as come while a line is on its way, more where
    /// many rows or widening let the processor itself look less far. Two rows of f32 are a sixth slower from 8 KiB on.
    fn reach(&self, group: usize, caches: Caches) -> usize {
        let dot = self.chain == Chain::Dot;
        let kib = match self.rows {
            _ if self.bytes <= caches.l2 => return PREFETCH_STEPS / 4,
            1 | 2 if self.bytes <= caches.l3 && dot => return PREFETCH_STEPS / 2,
            1 | 2 if self.bytes <= caches.l3 => return 2 * PREFETCH_STEPS,
            rows @ 3.. if group == 1 => 6 + rows,
            _ if dot => 10,
            _ if self.step < 4 * PANEL => 12,
            1 | 2 => 6,
            _ => 8,
        };
        (kib << 10) / (group * self.step)
    }
}

/// How many rows of A should stay in the second cache while `panels` panels pass over them, `group` at a time.
fn row_block<I: Isa>(rows: usize, k: usize, panels: usize, group: usize, caches: Caches) -> usize {
    // A that is read only once or twice need not stay, and long rows come in time from wherever they are.
    if rows <= MIN_BLOCKS * max_rows::<I>(group) || panels <= 2 * group || k > LONG_ROW {
        return rows;
    }
    let fits = (caches.l2 / 2 / (k.max(1) * size_of::<f32>())).max(MIN_BLOCKS * max_rows::<I>(group));
    // A little more than fits does not matter.
    if rows <= fits + fits / 4 {
        return rows;
    }
    // Equal blocks of whole tiles.
    rows.div_ceil(rows.div_ceil(fits)).next_multiple_of(max_rows::<I>(group)).min(rows)
}

/// How many of `panels` panels are packed before the row blocks pass over them.
fn col_block(k: usize, panels: usize, group: usize) -> usize {
    let fits = PACKED_ROOM / (PANEL * size_of::<f32>() * k.max(1));
    (fits / group * group).clamp(group, panels.max(group))
}

/// How many of `left` panels the next tiles span: a `group`, or what tiles there are for the rest, which is cut evenly.
#[inline]
pub(crate) fn next_group<I: Isa>(group: usize, left: usize) -> usize {
    let mut count = match left {
        _ if left >= 2 * group => group,
        _ if left > group => left.div_ceil(2),
        _ => left,
    };
    while max_rows::<I>(count) == 0 {
        count -= 1;
    }
    count
}

/// The panels that a tile should span for this many rows.
pub(crate) fn group_panels<I: Isa>(rows: usize) -> usize {
    Groups::<I>::BY_ROWS[rows.min(Groups::<I>::BY_ROWS.len() - 1)]
}

/// The cheapest number of panels by number of rows, counted once, when the level is compiled.
struct Groups<I>(PhantomData<I>);

impl<I: Isa> Groups<I> {
    const BY_ROWS: [usize; 65] = {
        let mut best = [1; 65];
        let mut rows = 1;
        while rows < best.len() {
            let mut panels = 2;
            while panels <= 8 {
                if max_rows::<I>(panels) > 0 && panel_cost::<I>(rows, panels) < panel_cost::<I>(rows, best[rows]) {
                    best[rows] = panels;
                }
                panels += 1;
            }
            rows += 1;
        }
        best
    };
}

/// What a step over all rows costs per panel, in 48ths of a cycle: two multiply-adds and two loads are issued per
/// cycle, a chain of multiply-adds takes four and eight of them a little more, since nothing makes good what one of them
/// waits, and each row block streams the panels once more.
const fn panel_cost<I: Isa>(rows: usize, panels: usize) -> usize {
    const fn max(a: usize, b: usize) -> usize {
        if a > b { a } else { b }
    }
    let registers = panels * PANEL / I::LANES;
    let blocks = rows.div_ceil(max_rows::<I>(panels));
    let mut slots = 0;
    let mut block = 0;
    while block < blocks {
        let rows = (rows + block) / blocks;
        slots += max(max(rows * registers, rows + registers), 9);
        block += 1;
    }
    (2 * slots + blocks) * 12 / panels
}

/// Cuts of rows and of columns that let the slowest thread finish first.
fn job_grid<I: Isa>(sizes: Sizes, source: Source, crew: Crew) -> (usize, usize) {
    let Crew { threads, lines_apart } = crew;
    if threads <= 1 {
        return (1, 1);
    }
    let jobs = (sizes.work() / MIN_JOB).clamp(threads, threads * JOBS_PER_THREAD);
    let panels = sizes.n.div_ceil(PANEL);
    let groups = panels.div_ceil(group_panels::<I>(sizes.m));
    let blocks = sizes.m.div_ceil(max_rows::<I>(2).max(max_rows::<I>(1)));
    let cost = |(row_jobs, col_jobs): (usize, usize)| {
        let rows = sizes.m.div_ceil(row_jobs);
        let packed = if source == Source::Repack { REPACK_ROWS } else { 0 };
        let shared = if col_jobs > 1 && !lines_apart { rows.saturating_mul(SHARED_LINE) } else { 0 };
        let rounds = (row_jobs * col_jobs).div_ceil(threads);
        let steps = sizes.k.saturating_mul((rows + packed).saturating_mul(panels.div_ceil(col_jobs)));
        rounds.saturating_mul(steps.saturating_add(shared))
    };
    let grids = (1..=jobs.min(blocks)).map(|row_jobs| (row_jobs, (jobs / row_jobs).clamp(1, groups)));
    grids.min_by_key(|&grid| cost(grid)).unwrap_or((1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{Kernel, Simd};

    const CACHES: Caches = Caches { l1d: 48 << 10, l2: 1 << 20, l3: 16 << 20 };

    struct Streams;

    impl Kernel for Streams {
        type Output = ();

        fn run<I: Isa>(self, _: I) {
            for (step, chain) in [(64, Chain::InOrder), (32, Chain::InOrder), (32, Chain::Dot)] {
                for (rows, k) in (1..=max_rows::<I>(1)).flat_map(|rows| [1, 512, 1025, 4096].map(|k| (rows, k))) {
                    let reads = |bytes| {
                        let reading = Reading { rows, k, step, bytes, chain };
                        let panels = group_panels::<I>(rows).min(reading.streams::<I>(CACHES));
                        (panels, panels * step * reading.reach(panels, CACHES))
                    };
                    let [near, last, far] = [CACHES.l2, CACHES.l3, usize::MAX].map(reads);
                    let case = format!("{rows} rows of {k}, {step} bytes: {near:?} {last:?} {far:?}");
                    let lines = step == 64 || chain == Chain::Dot;
                    assert_eq!(near.0, group_panels::<I>(rows), "{case}");
                    assert!(rows > 2 || last.0 * step <= 128, "{case}");
                    assert!(rows > 6 || far.0 == near.0.min(2), "{case}");
                    assert!(rows <= 6 || lines || far.0 == near.0, "{case}");
                    assert!(!(7..=8).contains(&rows) || k != 512 || !lines || far.0 == 1, "{case}");
                    assert!(far.1 > near.1 && (5 << 10..=16 << 10).contains(&far.1), "{case}");
                }
            }
        }
    }

    #[test]
    fn memory_is_read_in_fewer_streams_and_further_ahead_than_near_caches() {
        gristmill_testkit::sweep::levels(|level| Simd::choose(Some(level)).unwrap().run(Streams));
    }

    struct Rows;

    impl Kernel for Rows {
        type Output = ();

        fn run<I: Isa>(self, _: I) {
            let streams =
                |k| Reading { rows: 8, k, step: 64, bytes: usize::MAX, chain: Chain::InOrder }.streams::<I>(CACHES);
            let one = if max_rows::<I>(1) < 8 { usize::MAX } else { 1 };
            assert_eq!((streams(768), streams(769)), (one, usize::MAX));
        }
    }

    #[test]
    fn rows_that_leave_the_first_cache_are_read_once_for_several_panels() {
        gristmill_testkit::sweep::levels(|level| Simd::choose(Some(level)).unwrap().run(Rows));
    }
}
