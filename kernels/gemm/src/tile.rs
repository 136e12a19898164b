//! The microkernel: one tile of C, kept in registers over the whole of k.
//!
//! ```text
//!              b_panel
//!            |<------->|
//!            +----16---+----16---+          one step of k, all panels: NP rows of 16 columns
//!        B   |  panel  |  panel  |  NP      each step is b_step further on
//!            +---------+---------+
//!   +--+     +---------+---------+
//!   |A |  MR |  accumulators     |  MR
//!   +--+     +---------+---------+
//!   a_row apart, one value per row and step, broadcast; each step is a_step further on
//! ```
//!
//! A is read in place through its strides, never packed. B is either packed into panels of 16 columns
//! ([`PANEL`], `b_step = 16`, `b_panel = k * 16`) or a row-major matrix read in place (`b_step` = its row stride,
//! `b_panel = 16`). The same panels serve every level: a row of 16 columns is one, two or four registers. A is f32; B
//! may be of any storage type and is widened in registers, once for all rows.

use crate::epilogue::Epilogue;
use crate::pairs::{Dot, InOrder, OddFirst, Way, pair_tile_of};
use crate::product::Chain;
use crate::registers::{Accumulators, Columns, Keep, Step, each_as};
pub use gristmill_core::pack::PANEL;
use gristmill_simd::{Dtype, Element, Isa, Kernel, RowPointers, Simd, TypedPtr, bf16, f16};
use std::marker::PhantomData;

/// The most values that any tile has: 9 x 48 and its kind.
pub(crate) const MAX_TILE: usize = 27 * PANEL;

/// How far ahead of its use a step of B is prefetched, unless something else is worth more.
pub const PREFETCH_STEPS: usize = 16;

/// Steps that are written out where A and B have the usual strides.
const UNROLL: usize = 4;

/// Operands and destination of one tile. All strides are in elements.
///
/// A tile is a group of `NP` panels wide, or, for more `cols`, one after the other. Groups lie side by side, or abreast:
/// ```text
///   spread 1:   a a  b b  c c        groups a, b and c of two panels
///   spread 3:   a b c    a b c       each panel of a group begins a stream that goes on through the groups
/// ```
///
/// The safety of [`TileFn`] rests on these preconditions, for `MR` rows and `cols` columns:
///
/// - **P1** `a + r * a_row + p * a_step` is readable for `r < MR`, `p < k`;
/// - **P2** `b + q * b_panel + p * b_step + j` is readable for `16 q < cols`, `p < k`, `j < 16`, or, for a masked tile,
///   for `16 q + j < cols`; it is of the function's type;
/// - **P3** `cols` fill `NP` panels, or a multiple of them, but for a part of the last one: `NP * spread` panels where
///   `spread` is more than 1, which is only for packed panels and six rows or fewer;
/// - **P4** `start` is null, or `start + r * start_row + j` is readable for `r < MR`, `j < cols`, which fill `NP` panels;
/// - **P5** the destination of `epilogue` is valid for `MR` rows and `cols` columns, and nobody else uses it;
/// - **P6** `keep` is null, or `keep + i` is writable for `i < NP * k * 16`, and nobody else uses it; `cols` fill `NP`
///   panels.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'e> {
    /// Row 0 of A at step 0.
    pub a: *const f32,
    /// From a row of A to the next.
    pub a_row: isize,
    /// From a step of A to the next.
    pub a_step: isize,
    /// Panel 0 of B at step 0.
    pub b: TypedPtr,
    /// From a step of B to the next.
    pub b_step: isize,
    /// From a panel of B to the next.
    pub b_panel: isize,
    /// From a panel of a group to the group's next, in panels.
    pub spread: usize,
    /// Where the tile prefetches: in elements of B from `b`, at step 0 and for panel 0, other panels as far apart as B's.
    /// Nothing is read there, and it may lie outside of B; results do not depend on it.
    pub ahead: isize,
    /// From one step's prefetch to the next, in elements of B.
    pub ahead_step: isize,
    /// From this step on prefetches go `NP - 1` panels further, into the next group: what follows a panel of this group
    /// is the group's own. Levels of 16 registers ask straight on.
    pub turn: usize,
    /// Steps.
    pub k: usize,
    /// Columns of C; only the last panel may be partial.
    pub cols: usize,
    /// Accumulators to start from, stored by an earlier depth block; null for +0.0.
    pub start: *const f32,
    /// From a row of `start` to the next.
    pub start_row: isize,
    /// Where a tile leaves what it reads as packed panels of f32, for the tiles of other rows; or null.
    pub keep: *mut f32,
    /// What happens to the accumulators, and where they go.
    pub epilogue: Epilogue<'e>,
}

impl Tile<'_> {
    /// Checks P3 in debug builds, and what P4 and P6 say of the width.
    #[inline(always)]
    pub(crate) fn check_width(&self, panels: usize) {
        let (cols, spread, all) = (self.cols, self.spread, self.cols.div_ceil(PANEL));
        debug_assert!(all > 0 && all.is_multiple_of(panels), "P3: {cols} columns, {panels} panels");
        debug_assert!(all == panels || (self.start.is_null() && self.keep.is_null()), "P4, P6: {cols} columns");
        debug_assert!(spread == 1 || all == panels * spread, "P3: {cols} columns, {spread} apart");
    }

    /// Rows of A from step `from` on, steps `a_step` apart: of f32, or of bf16 where pairs are multiplied whole.
    #[inline(always)]
    pub(crate) fn rows<W: Way>(&self, a_step: isize, from: isize) -> RowPointers {
        match W::DOT {
            true => RowPointers::new(self.a.cast::<bf16>().wrapping_offset(from * a_step), self.a_row, a_step),
            false => RowPointers::new(self.a.wrapping_offset(from * a_step), self.a_row, a_step),
        }
    }
}

/// A tile function of fixed rows, panels and type of B, at a level that the CPU has: whoever looked it up had the proof.
///
/// # Safety
/// P1 to P6 of [`Tile`] must hold for the function's rows, panels and type.
pub type TileFn = unsafe fn(&Tile<'_>);

/// The microkernel of `MR` rows and `NP` panels; `MASKED` reads only the columns of B that exist.
///
/// # Safety
/// The CPU has the level: a token of I exists. P1 to P6 of [`Tile`].
unsafe fn tile<I: Isa, B: Element, const MR: usize, const NP: usize, const MASKED: bool>(tile: &Tile<'_>) {
    // Two functions: where one needs too many registers, the other shall not pay for it.
    let keeps = Micro::<B, MR, NP, MASKED, true>::KEEPS && !tile.keep.is_null();
    // SAFETY: passed on.
    unsafe {
        let (isa, tile) = (I::assume(), Promised::new(tile));
        if keeps {
            isa.vectorize(Micro::<B, MR, NP, MASKED, true>(tile, PhantomData));
        } else {
            let mut groups = Some(tile);
            while let Some(first) = groups {
                groups = isa.vectorize(Micro::<B, MR, NP, MASKED, false>(first, PhantomData));
            }
        }
    }
}

/// A tile whose preconditions somebody promised: P1 to P6, or those of its function.
#[derive(Clone, Copy)]
pub(crate) struct Promised<'t> {
    tile: &'t Tile<'t>,
    /// Column where the panels begin that are computed now.
    first: usize,
}

/// Whether tiles of these rows and panels go through panels that are [spread](Tile::spread).
pub(crate) const fn spreads(rows: usize, panels: usize) -> bool {
    rows <= 6 && panels > 1
}

impl<'t> Promised<'t> {
    /// # Safety
    /// The preconditions that the tile's function names.
    pub(crate) unsafe fn new(tile: &'t Tile<'_>) -> Self {
        Self { tile, first: 0 }
    }

    #[inline(always)]
    pub(crate) fn tile(&self) -> &'t Tile<'t> {
        self.tile
    }

    /// The first of the panels that are computed now.
    #[inline(always)]
    pub(crate) fn panels<B: Element>(&self) -> *const B {
        self.tile.b.cast::<B>().wrapping_offset((self.first / PANEL) as isize * self.tile.b_panel)
    }

    /// From one of them to the next.
    #[inline(always)]
    pub(crate) fn apart<const MR: usize, const NP: usize>(&self) -> isize {
        self.spread::<MR, NP>() as isize * self.tile.b_panel
    }

    /// The same in panels: a constant where tiles know no other.
    #[inline(always)]
    fn spread<const MR: usize, const NP: usize>(&self) -> usize {
        if const { spreads(MR, NP) } { self.tile.spread } else { 1 }
    }

    /// Their columns of C.
    #[inline(always)]
    fn columns<const MR: usize, const NP: usize>(&self) -> Columns {
        let apart = self.spread::<MR, NP>() * PANEL;
        Columns { first: self.first, apart, last: self.tile.cols - self.first - (NP - 1) * apart }
    }

    /// The next group of the tile, if it has more. The compiler knows nothing of it: what it kept of one group for the
    /// others would be in the way of the loops over steps.
    #[inline(always)]
    fn next<I: Isa, const MR: usize, const NP: usize>(self, isa: I) -> Option<Self> {
        // SAFETY: it is the same reference.
        let tile = unsafe { &*isa.opaque(std::ptr::from_ref(self.tile)) };
        let (step, end) = match self.spread::<MR, NP>() {
            1 => (NP * PANEL, tile.cols),
            spread => (PANEL, spread * PANEL),
        };
        let first = self.first + step;
        (first < end).then_some(Self { tile, first })
    }

    /// Computes this group and the following ones, or tells the next: few registers do not last for another loop. `all` that
    /// is done to the accumulators may be written out, or only plain stores.
    #[inline(always)]
    pub(crate) fn run<I: Isa, S: Steps<'t, MR, NP>, const MR: usize, const NP: usize>(
        self,
        isa: I,
        all: bool,
    ) -> Option<Self> {
        self.tile.check_width(NP);
        let mut group = self;
        loop {
            let t = group.tile;
            let mut acc: Accumulators<I, MR, NP> = [[isa.splat_row(0.0); NP]; MR];
            // SAFETY: the preconditions are promised.
            unsafe {
                if !t.start.is_null() {
                    each_as(isa, &mut acc, group.columns::<MR, NP>(), t.start.cast_mut(), t.start_row, Step::Load);
                }
                S::of(group).all(isa, &mut acc);
                t.epilogue.finish(isa, &mut acc, group.columns::<MR, NP>(), all);
            }
            match group.next::<I, MR, NP>(isa) {
                Some(next) if I::REGISTERS > 16 => group = next,
                next => return next,
            }
        }
    }
}

/// A group of a tile, and the steps that its accumulators go through. A trait, since a closure is not always inlined.
pub(crate) trait Steps<'t, const MR: usize, const NP: usize> {
    /// The group.
    fn of(group: Promised<'t>) -> Self;

    /// All steps of k.
    ///
    /// # Safety
    /// The preconditions of the tile's function, for the panels that are computed now.
    unsafe fn all<I: Isa>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>);
}

/// A tile; with `KEEP` one that leaves its panels, packed and widened.
struct Micro<'t, B, const MR: usize, const NP: usize, const MASKED: bool, const KEEP: bool>(
    Promised<'t>,
    PhantomData<B>,
);

impl<B: Element, const MR: usize, const NP: usize, const MASKED: bool, const KEEP: bool>
    Micro<'_, B, MR, NP, MASKED, KEEP>
{
    /// Whether there is a tile that leaves what it reads: bf16 has tiles of pairs for that.
    const KEEPS: bool = !MASKED && matches!(B::DTYPE, Dtype::F32 | Dtype::F16);

    /// Whether the values of A stay in registers for a step while those of B pass: the fewer ones stay.
    const fn holds_a<I: Isa>() -> bool {
        MR < NP * PANEL / I::LANES
    }

    /// All steps, as many at a time as are written out.
    ///
    /// # Safety
    /// P1, P2, P6.
    #[inline(always)]
    unsafe fn unrolled<I: Isa>(&self, isa: I, strides: [isize; 3], acc: &mut Accumulators<I, MR, NP>) {
        let Tile { k, turn, b_panel, .. } = *self.0.tile();
        let whole = k / UNROLL;
        // Few registers do not last for another loop.
        let near = if NP == 1 || I::REGISTERS <= 16 { whole } else { whole.min(turn / UNROLL) };
        // SAFETY: the caller's promise.
        unsafe {
            self.steps::<I, UNROLL, true>(isa, strides, acc, (0, near, 0));
            if near < whole {
                let further = (NP as isize - 1) * b_panel;
                self.steps::<I, UNROLL, true>(isa, strides, acc, (near * UNROLL, whole - near, further));
            }
            self.steps::<I, 1, false>(isa, strides, acc, (whole * UNROLL, k % UNROLL, 0));
        }
    }

    /// `times` times `UNROLL` steps, from step `from` on, through operands that lie so: where these are constants, so
    /// are the addresses of unrolled steps, from a few pointers. Prefetches go `further`; with `ASKS` there are any.
    ///
    /// # Safety
    /// P1, P2, P6; `from + times * UNROLL <= k`.
    #[inline(always)]
    unsafe fn steps<I: Isa, const UNROLL: usize, const ASKS: bool>(
        &self,
        isa: I,
        [a_step, b_step, b_panel]: [isize; 3],
        acc: &mut Accumulators<I, MR, NP>,
        (from, times, further): (usize, usize, isize),
    ) {
        const { assert!(UNROLL == 1 || UNROLL == 4) };
        let (t, panels) = (self.0.tile(), self.0.panels::<B>());
        let mut at = Place {
            a: t.rows::<InOrder>(a_step, from as isize),
            b: panels.wrapping_offset(from as isize * b_step),
            ahead: panels.wrapping_offset(t.ahead + further + from as isize * t.ahead_step),
            keep: Keep::<KEEP>::new(t, from),
            last_cols: t.cols - self.0.first - (NP - 1) * PANEL,
        };
        for _ in 0..times {
            // Not a loop: next to nothing decides whether it stays one, which costs wide products 7 %.
            // SAFETY: the caller's promise.
            unsafe {
                self.step::<I, UNROLL, ASKS>(isa, &at, [b_step, b_panel], 0, acc);
                if UNROLL == 4 {
                    self.step::<I, UNROLL, ASKS>(isa, &at, [b_step, b_panel], 1, acc);
                    self.step::<I, UNROLL, ASKS>(isa, &at, [b_step, b_panel], 2, acc);
                    self.step::<I, UNROLL, ASKS>(isa, &at, [b_step, b_panel], 3, acc);
                }
            }
            at.a.advance(isa, UNROLL as isize);
            at.b = at.b.wrapping_offset(UNROLL as isize * b_step);
            at.ahead = at.ahead.wrapping_offset(UNROLL as isize * t.ahead_step);
            at.keep.advance(UNROLL);
        }
    }

    /// The step `u` steps further on.
    ///
    /// # Safety
    /// P1, P2, P6; the step is one of the tile's.
    #[inline(always)]
    unsafe fn step<I: Isa, const UNROLL: usize, const ASKS: bool>(
        &self,
        isa: I,
        at: &Place<B, KEEP>,
        [b_step, b_panel]: [isize; 2],
        u: isize,
        acc: &mut Accumulators<I, MR, NP>,
    ) {
        // Which columns of the last panel exist, register by register.
        let tail = |v: usize| isa.tail(at.last_cols.saturating_sub(v * I::LANES));
        let mut values = [isa.splat(0.0); MR];
        if Self::holds_a::<I>() {
            for (r, value) in values.iter_mut().enumerate() {
                // SAFETY: P1.
                *value = isa.splat(unsafe { *at.a.at::<f32>(r, u) });
            }
        }
        let mut b_row = [isa.splat_row(0.0); NP];
        for (q, panel) in b_row.iter_mut().enumerate() {
            let p = at.b.wrapping_offset(q as isize * b_panel + u * b_step);
            // Two steps of 16 bits share a line; one row has no time for asking twice.
            if ASKS && (size_of::<B>() == 4 || UNROLL == 1 || MR > 1 || u % 2 == 0) {
                isa.prefetch(at.ahead.wrapping_offset(q as isize * b_panel + u * b_step));
            }
            for (v, register) in panel.as_mut().iter_mut().enumerate() {
                let p = p.wrapping_add(v * I::LANES);
                // SAFETY: P2.
                *register =
                    unsafe { if MASKED && q + 1 == NP { B::load_tail(isa, p, tail(v)) } else { B::load(isa, p) } };
                if Self::holds_a::<I>() {
                    for (row, value) in acc.iter_mut().zip(values) {
                        let y = &mut row[q].as_mut()[v];
                        *y = isa.fma(value, *register, *y);
                    }
                }
            }
        }
        // SAFETY: P6.
        unsafe { at.keep.step(isa, &b_row, u as usize) };
        if !Self::holds_a::<I>() {
            for (r, row) in acc.iter_mut().enumerate() {
                // SAFETY: P1.
                let value = isa.splat(unsafe { *at.a.at::<f32>(r, u) });
                for (panel, b_panel) in row.iter_mut().zip(b_row) {
                    for (register, &b) in panel.as_mut().iter_mut().zip(b_panel.as_ref()) {
                        *register = isa.fma(value, b, *register);
                    }
                }
            }
        }
        isa.end_step();
    }
}

/// How far a tile has come.
struct Place<B, const KEEP: bool> {
    a: RowPointers,
    b: *const B,
    ahead: *const B,
    keep: Keep<KEEP>,
    /// Columns of the last panel, if not more than it has.
    last_cols: usize,
}

impl<'t, B: Element, const MR: usize, const NP: usize, const MASKED: bool, const KEEP: bool> Kernel
    for Micro<'t, B, MR, NP, MASKED, KEEP>
{
    type Output = Option<Promised<'t>>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        debug_assert!(Self::KEEPS || self.0.tile().keep.is_null(), "P6: no tile of this kind leaves panels");
        self.0.run::<I, Self, MR, NP>(isa, B::DTYPE == Dtype::F32 || I::LANES == PANEL)
    }
}

impl<'t, B: Element, const MR: usize, const NP: usize, const MASKED: bool, const KEEP: bool> Steps<'t, MR, NP>
    for Micro<'t, B, MR, NP, MASKED, KEEP>
{
    #[inline(always)]
    fn of(group: Promised<'t>) -> Self {
        Self(group, PhantomData)
    }

    #[inline(always)]
    unsafe fn all<I: Isa>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>) {
        let (t, apart, panel) = (self.0.tile(), self.0.apart::<MR, NP>(), PANEL as isize);
        // SAFETY: P1, P2, P6, and with `KEEP` there is a place.
        unsafe {
            if !MASKED && t.a_step == 1 && t.b_step == panel {
                self.unrolled(isa, [1, panel, apart], acc);
            } else if !MASKED && t.a_step == 1 && apart == panel {
                self.unrolled(isa, [1, t.b_step, panel], acc);
            } else {
                self.steps::<I, 1, true>(isa, [t.a_step, t.b_step, apart], acc, (0, t.k, 0));
            }
        }
    }
}

/// `$tile!(rows, panels)` of the shape that is asked for, among those of a level of so many lanes. Matched on the
/// constant, so that a level is compiled for its own shapes only; without `$panels` for those of one panel only.
macro_rules! shapes {
    ($tile:ident, $lanes:expr, $rows:expr) => {
        shapes!($tile, $lanes, $rows, 1)
    };
    ($tile:ident, $lanes:expr, $rows:expr, $panels:expr) => {
        match $lanes {
            16 => match $panels {
                1 => shapes!($tile, $rows, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
                2 => shapes!($tile, $rows, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
                3 => shapes!($tile, $rows, 3: 1 2 3 4 5 6 7 8 9),
                4 => shapes!($tile, $rows, 4: 1 2 3 4 5 6),
                _ => shapes!($tile, $rows, 8: 1 2),
            },
            8 => match $panels {
                1 => shapes!($tile, $rows, 1: 1 2 3 4 5 6),
                2 => shapes!($tile, $rows, 2: 1 2 3),
                _ => shapes!($tile, $rows, 4: 1),
            },
            _ => match $panels {
                1 => shapes!($tile, $rows, 1: 1 2 3),
                _ => shapes!($tile, $rows, 2: 1),
            },
        }
    };
    ($tile:ident, $rows:expr, $np:literal: $($mr:literal)+) => {
        match $rows {
            $($mr => $tile!($mr, $np),)+
            _ => panic!("no tile of so many rows and panels"),
        }
    };
}
pub(crate) use shapes;

/// The tallest tile of `panels` panels: as many accumulators as the level's registers allow.
pub const fn max_rows<I: Isa>(panels: usize) -> usize {
    match (I::LANES, panels) {
        (16, 1 | 2) => 12,
        (16, 3) => 9,
        (16, 4) | (8, 1) => 6,
        (8, 2) | (4, 1) => 3,
        (16, 8) => 2,
        (8, 4) | (4, 2) => 1,
        _ => 0,
    }
}

/// The tile of some rows and panels. To be used only where a token of I exists.
const fn tile_of<I: Isa, B: Element>(rows: usize, panels: usize, masked: bool) -> TileFn {
    macro_rules! either {
        ($mr:literal, $np:literal) => {
            if masked { tile::<I, B, $mr, $np, true> as TileFn } else { tile::<I, B, $mr, $np, false> }
        };
    }
    shapes!(either, I::LANES, rows, panels)
}

/// The most rows of any tile.
const MAX_ROWS: usize = 12;

/// The most panels of any tile.
const MAX_PANELS: usize = 8;

/// The tiles of one level; other crates look them up by value too, so that they are compiled in this crate alone.
#[derive(Clone, Copy, Debug)]
pub struct Tiles(&'static Tables);

/// Tiles by panels and rows.
type Table = [[TileFn; MAX_ROWS]; MAX_PANELS + 1];

#[derive(Debug)]
struct Tables {
    /// Whole ones, and masked ones.
    by_type: [[Table; 2]; 3],
    by_chain: [Table; 3],
    /// The tallest tile by panels.
    max_rows: [usize; MAX_PANELS + 1],
}

impl Tiles {
    /// The tiles of a level that was found.
    pub fn of(simd: Simd) -> Self {
        simd.run(Tabulate)
    }

    /// The tiles of a token's level.
    #[inline(always)]
    pub(crate) fn at<I: Isa>(_proof: I) -> Self {
        Tiles(const { &tables::<I>() })
    }

    /// [`max_rows`] of the level; `panels` is at most 8.
    #[inline]
    pub fn max_rows(self, panels: usize) -> usize {
        self.0.max_rows[panels]
    }

    /// The tile of `rows` rows, from 1 to [`max_rows`](Self::max_rows), and `panels` panels over a B of type `dtype`;
    /// `masked` when B is read in place and the last panel is partial.
    #[inline]
    pub fn get(self, dtype: Dtype, rows: usize, panels: usize, masked: bool) -> TileFn {
        self.0.by_type[dtype as usize][usize::from(masked)][panels][rows - 1]
    }

    /// The tile over panels of bf16 pairs; of one panel for dot products without an instruction.
    #[inline]
    pub fn of_pairs(self, chain: Chain, rows: usize, panels: usize) -> TileFn {
        self.0.by_chain[chain as usize][panels][rows - 1]
    }
}

struct Tabulate;

impl Kernel for Tabulate {
    type Output = Tiles;

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Tiles {
        Tiles::at(isa)
    }
}

/// To be used only where a token of I exists.
const fn tables<I: Isa>() -> Tables {
    let table: Table = [[missing; MAX_ROWS]; MAX_PANELS + 1];
    let mut tables = Tables { by_type: [[table; 2]; 3], by_chain: [table; 3], max_rows: [0; MAX_PANELS + 1] };
    let mut at = 1;
    while at <= MAX_PANELS {
        tables.max_rows[at] = max_rows::<I>(at);
        let mut row = 0;
        while row < max_rows::<I>(at) {
            let mut masked = 0;
            while masked < 2 {
                let [f32s, f16s, bf16s] = &mut tables.by_type;
                f32s[masked][at][row] = tile_of::<I, f32>(row + 1, at, masked == 1);
                f16s[masked][at][row] = tile_of::<I, f16>(row + 1, at, masked == 1);
                bf16s[masked][at][row] = tile_of::<I, bf16>(row + 1, at, masked == 1);
                masked += 1;
            }
            tables.by_chain[Chain::InOrder as usize][at][row] = pair_tile_of::<I, InOrder>(row + 1, at);
            tables.by_chain[Chain::OddFirst as usize][at][row] = pair_tile_of::<I, OddFirst>(row + 1, at);
            if I::DOT || at == 1 {
                tables.by_chain[Chain::Dot as usize][at][row] = pair_tile_of::<I, Dot>(row + 1, at);
            }
            row += 1;
        }
        at += 1;
    }
    tables
}

/// Stands where a level has no tile.
fn missing(_: &Tile<'_>) {
    unreachable!("the level has no tile of so many rows and panels");
}
