//! One call: the plan, the threads, and each thread's units of work.

use crate::AttentionOptions;
use crate::any::{AnyHeads, AnyOutput};
use crate::block::Worker;
use crate::plan::Plan;
use crate::product::block_rows;
use crate::source::Source;
use gristmill_core::{Error, Queue, SendPtr, Workspace};
use gristmill_gemm::tile::Tiles;
use gristmill_simd::{Dtype, Isa, Kernel, Simd};

/// How often a thread takes units, if they are many.
const TAKES: usize = 32;

/// The checked arguments of a call.
pub(crate) struct Call<'a> {
    pub(crate) q: AnyHeads<'a>,
    pub(crate) source: Source<'a>,
    pub(crate) out: AnyOutput<'a>,
    pub(crate) options: &'a AttentionOptions<'a>,
    pub(crate) scale: f32,
}

impl Call<'_> {
    /// Whether queries, keys and values are all bf16, whose products are sums of pairs.
    pub(crate) fn pairs(&self) -> bool {
        self.q.dtype() == Dtype::Bf16 && self.source.dtype() == Dtype::Bf16
    }

    /// Where the keys end that lengths and causality leave to the query at `position` of sequence `b`.
    #[inline]
    pub(crate) fn key_end(&self, b: usize, position: usize) -> usize {
        self.options.mask.key_range(b, position, self.q.sizes()[1], self.source.keys(b)).end
    }
}

/// Computes a checked call at the level of `simd`.
pub(crate) fn run(simd: Simd, call: &Call, workspace: &mut Workspace) -> Result<(), Error> {
    let [batch, positions, heads, _] = call.q.sizes();
    let columns = match call.source {
        Source::Keys(k) => k.sizes()[1],
        Source::Views { .. } | Source::Cache(_) => call.source.value_dim(),
    };
    if [batch, positions, heads, columns].contains(&0) {
        return Ok(());
    }
    simd.run(Run { call, simd, tiles: Tiles::of(simd), workspace })
}

struct Run<'r, 'a> {
    call: &'r Call<'a>,
    simd: Simd,
    tiles: Tiles,
    workspace: &'r mut Workspace,
}

impl Kernel for Run<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let dot = self.call.pairs() && self.simd.has_dot();
        let plan = Plan::new(self.call, block_rows::<I>(), [dot, dot && self.simd.dot_pays()])?;
        // Whole cache lines for each worker.
        let per_worker = plan.scratch.total().and_then(|n| n.checked_next_multiple_of(16));
        let total = per_worker.and_then(|n| n.checked_mul(plan.workers));
        let (Some(per_worker), Some(total)) = (per_worker, total) else {
            return Err(Error::SizeOverflow { what: "elements of scratch memory" });
        };
        let scratch = SendPtr::new(self.workspace.f32s(total)?.as_mut_ptr());
        let queue = Queue::new(plan.units, plan.workers);
        self.call.options.threads.for_each(plan.workers, |slot| {
            let start = scratch.get().wrapping_add(slot * per_worker);
            // SAFETY: the scratch memory holds `workers` parts of this size, and each slot is run once.
            let scratch = unsafe { std::slice::from_raw_parts_mut(start, per_worker) };
            isa.vectorize(Work {
                worker: Worker::new(self.call, &plan, (self.simd, self.tiles), scratch),
                queue: &queue,
                slot,
                few: (plan.units / (TAKES * plan.workers)).max(1),
            });
        });
        Ok(())
    }
}

struct Work<'w, 'a> {
    worker: Worker<'w, 'a>,
    queue: &'w Queue,
    slot: usize,
    /// Units that are taken at a time.
    few: usize,
}

impl Kernel for Work<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        // Neighbours among the units of a segment share their keys.
        while let Some(units) = self.queue.next_few(self.slot, self.few) {
            for unit in units {
                self.worker.run(isa, unit);
            }
        }
    }
}
