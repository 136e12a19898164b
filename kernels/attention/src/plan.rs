//! How a call is cut into blocks of query rows, blocks into units of work, and what scratch memory that takes.

use crate::any::AnyHeads;
use crate::cache::PAGE;
use crate::driver::Call;
use crate::source::Source;
use gristmill_core::Error;
use gristmill_core::cache::Caches;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Dtype, TypedPtr, bf16};

/// Blocks whose scores are held at the same time when each key is needed once only.
pub(crate) const WAVE: usize = 4;

/// Keys that a wave packs, and uses, at a time, unless one block alone uses them.
pub(crate) const CHUNK: usize = PAGE;

/// Keys whose weighted values are summed in one chain.
pub(crate) const VALUE_BLOCK: usize = 512;

/// Multiply-adds that are worth a thread of their own.
const THREAD_WORK: usize = 1 << 19;

/// Multiply-adds below which a call outside the pool does not enter it.
const ENTRY_WORK: usize = 1 << 22;

/// What reading a key and its value costs, in queries computed with them.
const READ_QUERIES: usize = 15;

/// Units per thread, so that threads that finish early find something to take over.
const UNITS_PER_THREAD: usize = 8;

/// Blocks that a unit should have at least, if it shares its keys with other units: each packs them for itself.
const MIN_BLOCKS: usize = 4;

/// Consecutive query rows, a uniform distance apart: of one key/value head, or each of its own
/// ([`by_head`](Plan::by_head)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    /// The first row's query head.
    head: usize,
    /// The first row's position.
    position: usize,
    /// Number of rows.
    pub(crate) count: usize,
    /// Whether rows follow each other along the heads, not along the positions.
    along_heads: bool,
}

impl Rows {
    /// The query head and position of row `r`.
    #[inline]
    pub(crate) fn at(&self, r: usize) -> (usize, usize) {
        if self.along_heads { (self.head + r, self.position) } else { (self.head, self.position + r) }
    }

    /// Whether `next` begins where these rows end.
    #[inline]
    pub(crate) fn reach(&self, next: &Self) -> bool {
        self.along_heads == next.along_heads && self.at(self.count) == next.at(0)
    }

    /// Where the first row lies, and how far it is from a row to the next.
    #[inline]
    pub(crate) fn locate(&self, q: &AnyHeads, b: usize) -> (TypedPtr, isize) {
        (q.vector(b, self.position, self.head), self.step(q.strides()))
    }

    /// How far it is from a row to the next, in heads of these strides.
    #[inline]
    pub(crate) fn step(&self, strides: [isize; 4]) -> isize {
        if self.along_heads { strides[2] } else { strides[1] }
    }
}

/// Some blocks of one key/value head of one sequence, or of all heads together. Passed on by reference: a copy by whole
/// registers of what has just been stored word by word waits until everything stored before that has reached the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) batch: usize,
    pub(crate) kv_head: usize,
    pub(crate) first_block: usize,
    pub(crate) end_block: usize,
}

/// The cutting of one call. A pure function of sizes, options and the rows of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    positions: usize,
    /// Query heads per key/value head.
    group: usize,
    kv_heads: usize,
    /// Rows of a block, at most.
    pub(crate) block_rows: usize,
    /// Blocks of a query head; or of a whole group, when there is one position only and rows run along heads.
    blocks_per_line: usize,
    blocks_per_unit: usize,
    blocks_per_group: usize,
    /// Whether the rows of a block are those of different heads, each with keys and values of its own: those of a cache,
    /// which are packed already.
    pub(crate) by_head: bool,
    /// Units of the call.
    pub(crate) units: usize,
    /// Threads that work.
    pub(crate) workers: usize,
    /// Blocks whose scores are held at the same time.
    pub(crate) wave: usize,
    /// Whether packed keys are kept for the next wave of the same unit.
    pub(crate) keep_keys: bool,
    /// Keys that a wave packs, and uses, at a time.
    pub(crate) chunk: usize,
    /// Whether the second-level cache easily holds the operands of two units, but not those of the whole call.
    pub(crate) far: bool,
    /// Whether it does not even hold two units easily: blocks are then long beside what each of them reads first.
    pub(crate) long: bool,
    /// Values from a row of scores to the next: an odd number of cache lines, so that the rows of a block do not
    /// compete for the same sets.
    pub(crate) score_stride: usize,
    /// The head size of the values, in whole panels.
    pub(crate) out_stride: usize,
    /// The head size of the queries, in whole cache lines.
    pub(crate) query_stride: usize,
    /// Whether values are packed too: as f32 or pairs of bf16, into whole cache lines, free of the strides that they come
    /// with.
    pub(crate) pack_values: bool,
    /// Whether queries, keys and values are all bf16.
    pub(crate) pairs: bool,
    /// Whether dot products, which only their products take, have an instruction.
    pub(crate) has_dot: bool,
    /// Whether their products take dot products, however large or small the values are.
    pub(crate) dots: bool,
    /// Keys whose values lie together; it divides [`VALUE_BLOCK`].
    pub(crate) value_piece: usize,
    /// Scratch memory of one worker.
    pub(crate) scratch: Scratch,
}

/// Values in each part of a worker's scratch memory, whole cache lines all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scratch {
    pub(crate) keys: usize,
    pub(crate) values: usize,
    pub(crate) scores: usize,
    pub(crate) sums: usize,
    pub(crate) chains: usize,
    pub(crate) queries: usize,
}

impl Plan {
    /// Cuts a call that has at least one query row and at least one value to compute. `dot` says whether the dot products
    /// that it may take have an instruction, and whether that pays.
    pub(crate) fn new(call: &Call, block_rows: usize, dot: [bool; 2]) -> Result<Self, Error> {
        let [batch, positions, heads, dim] = call.q.sizes();
        let (kv_heads, out_dim) = (call.source.kv_heads(), call.source.value_dim());
        let group = heads / kv_heads;
        let keys = (0..batch).map(|b| call.key_end(b, positions - 1)).max().unwrap_or(0);

        let workers = call.options.threads.workers(batch.saturating_mul(heads));
        // A cache holds its keys packed.
        let cached = matches!(call.source, Source::Cache(_));
        let by_head = cached && positions == 1 && group == 1 && out_dim.is_multiple_of(PANEL);
        let (kv_heads, group, block_rows) = if by_head {
            (1, heads, abreast(block_rows, batch, heads, workers))
        } else {
            (kv_heads, group, block_rows)
        };
        let along_heads = positions == 1;
        let (lines, rows) = if along_heads { (1, group) } else { (group, positions) };
        let blocks_per_line = rows.div_ceil(block_rows);
        let blocks_per_group = lines * blocks_per_line;
        let groups = batch * kv_heads;

        let reads = call.source.kv_heads().saturating_mul(READ_QUERIES);
        let queries = heads.saturating_mul(positions).saturating_add(reads);
        let work = [batch, queries, keys, dim + out_dim].into_iter().fold(1, usize::saturating_mul);
        let threads = call.options.threads.workers(groups.saturating_mul(blocks_per_group));
        let workers = if work < ENTRY_WORK && !call.options.threads.is_entered() {
            1
        } else {
            threads.min(1 + work / THREAD_WORK)
        };
        let split = if workers == 1 { 1 } else { (UNITS_PER_THREAD * workers).div_ceil(groups) };
        let min_blocks = if by_head { 1 } else { MIN_BLOCKS };
        let blocks_per_unit = blocks_per_group.div_ceil(split).max(min_blocks).min(blocks_per_group);
        let units = groups * blocks_per_group.div_ceil(blocks_per_unit);

        let pairs = call.pairs();
        // One row of each head is limited by what it reads, however slow the instruction.
        let dots = if by_head { dot[0] } else { dot[1] };
        let keep_keys = !cached && blocks_per_unit > WAVE;
        // Keys and values that the second-level cache does not hold are used by several blocks at a time.
        let near = Caches::detected().l2 / if pairs { size_of::<bf16>() } else { size_of::<f32>() } / 2;
        let unit = keys.saturating_mul(dim + out_dim);
        let streams = unit > near;
        let vectors = keys.saturating_mul(call.source.kv_heads()).saturating_add(heads.saturating_mul(positions));
        let large = batch.saturating_mul(vectors).saturating_mul(dim + out_dim) > near;
        let far = large && unit <= near / 4 && !cached;
        let long = large && unit > near / 4 && !by_head;
        let wave = if !by_head && (streams || !keep_keys) { blocks_per_unit.min(WAVE) } else { 1 };
        let chunk = if keep_keys && wave == 1 { VALUE_BLOCK } else { CHUNK };
        // The tiles need values side by side; and what several waves read should not be scattered over the cache.
        let pack_values = match call.source {
            Source::Views { v, .. } => {
                let [_, row, _, step] = v.strides();
                pairs || step != 1 || (keep_keys && (row != out_dim as isize || v.dtype() != Dtype::F32))
            }
            Source::Keys(_) | Source::Cache(_) => false,
        };

        let too_large = Error::SizeOverflow { what: "elements of scratch memory" };
        let product = |a: usize, b: usize| a.checked_mul(b).ok_or(too_large.clone());
        let padded = keys.checked_next_multiple_of(CHUNK).and_then(|keys| keys.checked_add(PANEL));
        let score_stride = padded.ok_or(too_large.clone())?;
        let query_stride = dim.checked_next_multiple_of(PANEL).ok_or(too_large.clone())?;
        let out_stride = out_dim.checked_next_multiple_of(PANEL).ok_or(too_large.clone())?;
        let packed = if cached {
            // The newest of each head of a block.
            if by_head { PANEL * block_rows } else { PANEL }
        } else if keep_keys {
            keys.next_multiple_of(PANEL)
        } else {
            CHUNK.min(keys.next_multiple_of(PANEL))
        };
        let value_piece = match call.source {
            Source::Cache(_) => PAGE,
            // Those that are packed for their only use stay near.
            _ if pairs && !keep_keys => CHUNK,
            _ => VALUE_BLOCK,
        };
        // Two bf16 take the room of an f32, where they stay that; an odd element or key is filled up. A cache of bf16 holds
        // pairs in any case.
        let in_pairs = dots || (cached && call.source.dtype() == Dtype::Bf16);
        let key_words = match pairs {
            _ if in_pairs => dim.div_ceil(2),
            true => dim.checked_next_multiple_of(2).ok_or(too_large.clone())?,
            false => dim,
        };
        let values = match pairs {
            true if !keep_keys => CHUNK,
            true => keys.next_multiple_of(2),
            false => keys,
        };
        let values = if dots { values / 2 } else { values };
        let chained = cached || (pairs && keys > value_piece);
        let in_place = call.q.dtype() == Dtype::F32 || (dots && call.q.strides()[3] == 1);
        let scratch = Scratch {
            keys: product(packed, key_words)?,
            values: if pack_values { product(values, out_stride)? } else { 0 },
            scores: product(wave * block_rows, score_stride)?,
            sums: product(wave * block_rows, out_stride)?,
            chains: if chained { product(wave * block_rows, out_stride)? } else { 0 },
            queries: if in_place { 0 } else { product(wave * block_rows, query_stride)? },
        };
        let plan = Self {
            positions,
            group,
            kv_heads,
            block_rows,
            blocks_per_line,
            blocks_per_unit,
            blocks_per_group,
            by_head,
            units,
            workers: workers.min(units),
            wave,
            keep_keys,
            chunk,
            far,
            long,
            score_stride,
            out_stride,
            query_stride,
            pack_values,
            pairs,
            has_dot: dot[0],
            dots,
            value_piece,
            scratch,
        };
        Ok(plan)
    }

    /// Unit `index` of `0 .. units`; those of one key/value head are neighbours.
    pub(crate) fn unit(&self, index: usize) -> Unit {
        let per_group = self.blocks_per_group.div_ceil(self.blocks_per_unit);
        let (group, part) = (index / per_group, index % per_group);
        let first_block = part * self.blocks_per_unit;
        Unit {
            batch: group / self.kv_heads,
            kv_head: group % self.kv_heads,
            first_block,
            end_block: (first_block + self.blocks_per_unit).min(self.blocks_per_group),
        }
    }

    /// Block `index` of a key/value head.
    pub(crate) fn rows(&self, kv_head: usize, index: usize) -> Rows {
        let first_head = kv_head * self.group;
        let (line, first) = (index / self.blocks_per_line, index % self.blocks_per_line * self.block_rows);
        let along_heads = self.positions == 1;
        let (head, position, end) =
            if along_heads { (first_head + first, 0, self.group) } else { (first_head + line, first, self.positions) };
        Rows { head, position, count: (end - first).min(self.block_rows), along_heads }
    }
}

/// Rows of a block, each of another head, where there are up to `most`: a power of two, and as many blocks as keep the
/// threads busy.
fn abreast(most: usize, batch: usize, heads: usize, workers: usize) -> usize {
    let mut rows = 1 << most.ilog2();
    while rows > 1 && workers > 1 && batch * heads.div_ceil(rows) < 2 * workers {
        rows /= 2;
    }
    rows
}

impl Scratch {
    /// Values of all parts.
    pub(crate) fn total(&self) -> Option<usize> {
        [self.values, self.scores, self.sums, self.chains, self.queries]
            .into_iter()
            .try_fold(self.keys, usize::checked_add)
    }
}
