//! The panels that the tiles of a job read: where they lie, and how they are made.

use crate::columns::{self, columns_fn};
use crate::driver::Job;
use crate::plan::{Sizes, Source};
use crate::product::{Chain, Right};
use crate::tile::{PANEL, PREFETCH_STEPS, TileFn, Tiles, max_rows};
use gristmill_core::Operand;
use gristmill_core::pack::pack_operand;
use gristmill_core::pack_pairs::{PAIR_ROW, pack_pairs};
use gristmill_simd::{Dtype, Isa, TypedPtr, bf16};
use std::ops::Range;

/// Rows from which on widening panels once repays their way through the cache. In the tile it takes f16 two operations
/// and bf16 one.
fn widen_rows(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => usize::MAX,
        Dtype::F16 => 17,
        Dtype::Bf16 => 48,
    }
}

/// Decides where the tiles find B.
pub(crate) fn source<I: Isa>(sizes: Sizes, b: &Right<'_>, chain: Chain) -> Source {
    match b {
        Right::Packed { panels, .. } => {
            let widen = chain != Chain::Dot && sizes.m >= widen_rows(panels.dtype());
            if widen { Source::Widen } else { Source::Panels }
        }
        Right::Plain(b) if reads_columns::<I>(sizes, b, chain) => Source::Columns,
        Right::Plain(_) if chain != Chain::InOrder => Source::Repack,
        Right::Plain(b) if b.strides()[1] != 1 => Source::Repack,
        // Few rows do not repay the packing; a small B stays in the first levels of cache as it is.
        Right::Plain(_) if sizes.m <= 2 * max_rows::<I>(1) || sizes.keep_b_near() => Source::InPlace,
        Right::Plain(_) => Source::Repack,
    }
}

/// Whether the tiles read the columns of B where they lie: whole words of them.
pub(crate) fn reads_columns<I: Isa>(sizes: Sizes, b: &Operand<'_>, chain: Chain) -> bool {
    let words = b.dtype() == Dtype::F32 || sizes.k.is_multiple_of(2);
    let [row, col] = b.strides();
    row == 1 && col != 1 && words && sizes.m <= columns::max_rows::<I>(b.dtype()) && (chain != Chain::Dot || I::DOT)
}

/// Tiles that share in asking for the next panels.
const MAX_SHARES: usize = 4;

/// Panels as the microkernel reads them.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    pub(crate) b: TypedPtr,
    pub(crate) b_step: isize,
    pub(crate) b_panel: isize,
    /// From a step of a panel to the next, of which pairs have two.
    step: isize,
    /// How far from `b` what the next group is read from, or packed from, begins, where it lies as the panels here do:
    /// panel after panel, and step after step or column after column, so that a share of the steps is a share of it.
    next: Option<isize>,
    /// Where the first tile leaves them as packed panels of f32; or null.
    pub(crate) keep: *mut f32,
    pub(crate) form: Form,
}

/// Which tiles read the panels.
#[derive(Clone, Copy, PartialEq, Eq)]
// As wide as what lies beside it, for the reason that `Dtype` gives.
#[repr(usize)]
pub(crate) enum Form {
    /// Rows of 16 values.
    Whole,
    /// Rows of fewer: B is read in place and the last panel is partial.
    Masked,
    /// Rows of 16 pairs of bf16.
    Pairs,
    /// Columns that are contiguous.
    Columns,
}

impl Panels {
    /// Panels of `k` steps, one after the other.
    fn packed(b: TypedPtr, pairs: bool, k: usize) -> Self {
        let (b_step, depth) = if pairs { (PAIR_ROW, k.next_multiple_of(2)) } else { (PANEL, k) };
        let (b_step, b_panel, step) = (b_step as isize, (depth * PANEL) as isize, PANEL as isize);
        let form = if pairs { Form::Pairs } else { Form::Whole };
        Self { b, b_step, b_panel, step, next: None, keep: std::ptr::null_mut(), form }
    }

    /// Rows of B where they lie, from step `p` and column `j` on.
    fn in_place(b: Operand<'_>, p: usize, j: usize) -> Self {
        let (b, b_step, b_panel) = (b.ptr_at(p, j), b.strides()[0], PANEL as isize);
        Self { b, b_step, b_panel, step: b_step, next: None, keep: std::ptr::null_mut(), form: Form::Whole }
    }

    /// What the tiles after the first read: the panels that it left, of `k` steps, if any.
    pub(crate) fn kept(self, k: usize) -> Self {
        if self.keep.is_null() { self } else { Self::packed(TypedPtr::new(self.keep), false, k) }
    }

    /// The tile of `rows` rows that reads `panels` of these panels.
    pub(crate) fn tile_fn<I: Isa>(&self, isa: I, chain: Chain, rows: usize, panels: usize) -> TileFn {
        match (self.form, chain) {
            (Form::Columns, _) => columns_fn(isa, rows, self.b.dtype(), chain),
            (Form::Pairs, _) => Tiles::at(isa).of_pairs(chain, rows, panels),
            (form, _) => Tiles::at(isa).get(self.b.dtype(), rows, panels, form == Form::Masked),
        }
    }

    /// `ahead` and `ahead_step` of a tile of `k` steps that prefetches what it will itself need `reach` steps later. Behind
    /// the last row of a matrix lies nothing, perhaps not even memory, which takes long to find out.
    pub(crate) fn soon(&self, reach: usize, k: usize) -> (isize, isize) {
        let reach = if self.b_panel == PANEL as isize && reach >= k { 0 } else { reach };
        (reach as isize * self.step, self.step)
    }

    /// `ahead` and `ahead_step` of a tile that prefetches `step` values of f32 per step from `start` on.
    pub(crate) fn ahead_at(&self, start: *const f32, step: usize) -> (isize, isize) {
        let size = self.b.dtype().size() as isize;
        let bytes = (start.addr() as isize).wrapping_sub(self.b.address().addr() as isize);
        (bytes / size, (step * size_of::<f32>()) as isize / size)
    }

    /// `ahead` and `ahead_step` of tile `index` of `tiles` that use these panels one after the other: each of the first
    /// [`MAX_SHARES`] prefetches its share of the steps of the next panels; the others what they need. Panels that
    /// one tile reads leave it all to that one.
    pub(crate) fn share_of_next(&self, index: usize, tiles: usize, k: usize) -> (isize, isize) {
        let shares = if self.keep.is_null() { tiles.min(MAX_SHARES) } else { 1 };
        match self.next {
            Some(next) if index < shares => (next + (index * k / shares * PANEL) as isize, (PANEL / shares) as isize),
            _ => self.soon(PREFETCH_STEPS, k),
        }
    }

    /// The panels from panel `q` and step `p` on; `p` is even.
    fn advanced(self, q: usize, p: usize) -> Self {
        Self { b: self.b.offset(q as isize * self.b_panel + (p * PANEL) as isize), ..self }
    }
}

impl Job<'_> {
    /// The panels of `cols` columns from `first` on, at `steps`: in place, or at the start of `packed`, where they are
    /// packed first if they are `fresh`, or left by the first tile.
    pub(crate) fn panels_at<I: Isa>(
        &self,
        isa: I,
        first: usize,
        cols: usize,
        steps: Range<usize>,
        packed: &mut [f32],
        fresh: bool,
    ) -> Panels {
        let (k, cut) = (self.plan.sizes.k, self.plan.source);
        let count = cols.div_ceil(PANEL);
        match self.product.b {
            Right::Plain(b) if cut == Source::InPlace => {
                let form = if cols.is_multiple_of(PANEL) { Form::Whole } else { Form::Masked };
                Panels { form, ..Panels::in_place(b, steps.start, first) }
            }
            Right::Plain(b) if cut == Source::Columns && cols.is_multiple_of(PANEL) => {
                let (b_step, b_panel) = (b.strides()[1], b.strides()[1] * PANEL as isize);
                Panels { b_step, b_panel, step: 1, form: Form::Columns, ..Panels::in_place(b, steps.start, first) }
            }
            Right::Packed { panels, .. } if cut == Source::Panels || fresh => {
                let panels = Panels::packed(panels, panels.dtype() == Dtype::Bf16, k);
                let next = (steps.len() == k).then_some(count as isize * panels.b_panel);
                let keep = match cut {
                    Source::Widen => packed[..count * self.steps_of_tile(&steps) * PANEL].as_mut_ptr(),
                    _ => std::ptr::null_mut(),
                };
                Panels { next, keep, ..panels.advanced(first / PANEL, steps.start) }
            }
            Right::Plain(b) if self.chain == Chain::Dot => {
                let len = count * steps.len().div_ceil(2) * PAIR_ROW;
                let packed = &mut packed[..len / 2];
                // SAFETY: two bf16 fit into an f32, and any bits are bf16.
                let pairs = unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().cast::<bf16>(), len) };
                if fresh {
                    pack_pairs(isa, b.block(steps.clone(), first..first + cols), pairs);
                }
                Panels::packed(TypedPtr::new(pairs.as_ptr()), true, steps.len())
            }
            Right::Plain(b) if fresh && self.left_by_tiles(b, cols) => {
                let keep = packed[..count * steps.len() * PANEL].as_mut_ptr();
                Panels { keep, ..Panels::in_place(b, steps.start, first) }
            }
            b => {
                let depth = self.steps_of_tile(&steps);
                let packed = &mut packed[..count * depth * PANEL];
                let next = match b {
                    // Columns one after the other lie as their panels do.
                    Right::Plain(b) if fresh && b.strides() == [1, k as isize] && b.dtype() == Dtype::F32 => {
                        let from = b.ptr_at(0, first + cols).address() as isize;
                        (steps.len() == k).then_some((from - packed.as_ptr() as isize) / size_of::<f32>() as isize)
                    }
                    _ => None,
                };
                if let (Right::Plain(b), true) = (b, fresh) {
                    let b = b.block(steps, first..first + cols);
                    pack_operand(isa, b, depth, self.chain == Chain::OddFirst, packed);
                }
                Panels { next, ..Panels::packed(TypedPtr::new(packed.as_ptr()), false, depth) }
            }
        }
    }

    /// Whether the tiles of the first row block pack these columns of B while they read them.
    fn left_by_tiles(&self, b: Operand<'_>, cols: usize) -> bool {
        b.strides()[1] == 1 && self.chain == Chain::InOrder && b.dtype() != Dtype::Bf16 && cols.is_multiple_of(PANEL)
    }
}
