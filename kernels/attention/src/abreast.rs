//! Products of single rows, those of several heads in step.
//!
//! One query of one head has few chains of multiply-adds, each as long as a head is wide: alone it would wait for its
//! own sums, and for one stream of keys after another.

use crate::ahead::LINE;
use crate::product::Product;
use gristmill_gemm::Chain;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Dtype, Element, Isa, Kernel, bf16, f16};
use std::array;

/// A [`Product`] whose rows each have a right operand of their own.
pub(crate) struct Abreast<'p> {
    product: Product<'p>,
    rows: usize,
    /// Of columns.
    panels: usize,
    depth: usize,
    /// Bytes from the values that are read to those that are asked for; zero for none.
    reach: usize,
}

impl<'p> Abreast<'p> {
    /// `rows` by `cols` elements, each a chain of `depth` multiply-adds. Of rows of values it asks for what lies `reach`
    /// bytes behind what it reads, unless that is zero; panels, of keys or of pairs, are not asked for.
    ///
    /// # Safety
    /// P1 and P3 to P5 of [`Product`] for so many rows, and P2 for whole panels of each row.
    #[inline(always)]
    pub(crate) unsafe fn new(product: Product<'p>, [rows, cols, depth]: [usize; 3], reach: usize) -> Self {
        Self { product, rows, panels: cols.div_ceil(PANEL), depth, reach }
    }

    /// Whether the right operand is of pairs.
    #[inline(always)]
    pub(crate) fn is_of_pairs(&self) -> bool {
        self.product.right.pairs
    }

    /// The product over pairs.
    #[inline(always)]
    pub(crate) fn of_pairs(self) -> OfPairs<'p> {
        OfPairs(self)
    }

    #[inline(always)]
    fn of<I: Isa, B: Element>(&self, isa: I) {
        // Rows of values of a head follow each other, panels of keys do not.
        let values = self.product.right.panel == PANEL as isize;
        let mut panel = 0;
        while panel < self.panels {
            // As few streams as keep the multiply-adds busy at the speed of the memory: a panel of keys is one, and so are
            // the values of a head, of which several go in step where each is short.
            let panels = match (I::LANES, self.panels - panel, self.reach) {
                (16, 8.., 0) if values => self.rows::<I, B, 2, 8, false>(isa, panel),
                (16, 8.., _) if values => self.rows::<I, B, 1, 8, true>(isa, panel),
                (16, 4.., 0) if values => self.rows::<I, B, 4, 4, false>(isa, panel),
                (16, 4.., _) if values => self.rows::<I, B, 1, 4, true>(isa, panel),
                (16, 4.., _) => self.rows::<I, B, 1, 4, false>(isa, panel),
                (16, 2.., _) => self.rows::<I, B, 4, 2, false>(isa, panel),
                (16, ..) => self.rows::<I, B, 8, 1, false>(isa, panel),
                (8, 4.., 0) if values => self.rows::<I, B, 1, 4, false>(isa, panel),
                (8, 4.., _) if values => self.rows::<I, B, 1, 4, true>(isa, panel),
                (8, 2.., _) => self.rows::<I, B, 2, 2, false>(isa, panel),
                (8, ..) => self.rows::<I, B, 4, 1, false>(isa, panel),
                _ => self.rows::<I, B, 2, 1, false>(isa, panel),
            };
            panel += panels;
        }
    }

    /// `NP` panels of all rows from `panel` on, `MR` rows at a time; NP.
    #[inline(always)]
    fn rows<I: Isa, B: Element, const MR: usize, const NP: usize, const ASKS: bool>(
        &self,
        isa: I,
        panel: usize,
    ) -> usize {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: the promise that was made for all rows and panels.
            unsafe {
                if row + MR <= self.rows {
                    self.chains::<I, B, MR, NP, ASKS>(isa, row, panel);
                    row += MR;
                } else {
                    self.chains::<I, B, 1, NP, ASKS>(isa, row, panel);
                    row += 1;
                }
            }
        }
        NP
    }

    /// # Safety
    /// There are MR rows from `row` on, and NP panels from `panel` on, of what [`new`](Self::new) was promised.
    #[inline(always)]
    unsafe fn chains<I: Isa, B: Element, const MR: usize, const NP: usize, const ASKS: bool>(
        &self,
        isa: I,
        row: usize,
        panel: usize,
    ) {
        let Product { left, right, .. } = self.product;
        // SAFETY: the caller's promise.
        let mut sums = unsafe { self.begin::<I, MR, NP>(isa, row, panel) };
        let first = right.start.cast::<B>().wrapping_offset(panel as isize * right.panel);
        let mut a: [_; MR] = array::from_fn(|r| left.start.wrapping_offset((row + r) as isize * left.row));
        let mut b: [_; MR] = array::from_fn(|r| first.wrapping_offset((row + r) as isize * right.row));
        for _ in 0..self.depth {
            if ASKS {
                for b in &b {
                    for line in (0..NP * PANEL * size_of::<B>()).step_by(LINE) {
                        isa.prefetch(b.cast::<u8>().wrapping_add(self.reach + line));
                    }
                }
            }
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: P1.
                let x = isa.splat(unsafe { *a[r] });
                for (q, sums) in row.iter_mut().enumerate() {
                    let panel = b[r].wrapping_offset(q as isize * right.panel);
                    for (v, sum) in sums.as_mut().iter_mut().enumerate() {
                        // SAFETY: P2.
                        *sum = isa.fma(x, unsafe { B::load(isa, panel.wrapping_add(v * I::LANES)) }, *sum);
                    }
                }
                (a[r], b[r]) = (a[r].wrapping_offset(left.step), b[r].wrapping_offset(right.step));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.end(isa, &sums, row, panel) };
    }

    /// What the chains of some rows and panels go on from.
    ///
    /// # Safety
    /// That of [`chains`](Self::chains).
    #[inline(always)]
    unsafe fn begin<I: Isa, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        row: usize,
        panel: usize,
    ) -> [[I::Row; NP]; MR] {
        let Product { c_row, chains, .. } = self.product;
        let at = row * c_row + panel * PANEL;
        // Loops over constants throughout: indices that are not would keep the sums in memory.
        let mut sums = [[isa.splat_row(0.0); NP]; MR];
        if !chains.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (q, panel) in row.iter_mut().enumerate() {
                    for (v, sum) in panel.as_mut().iter_mut().enumerate() {
                        // SAFETY: P5.
                        *sum = unsafe { isa.load(chains.add(at + r * c_row + q * PANEL + v * I::LANES)) };
                    }
                }
            }
        }
        sums
    }

    /// Stores the sums of some rows and panels.
    ///
    /// # Safety
    /// That of [`chains`](Self::chains).
    #[inline(always)]
    unsafe fn end<I: Isa, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        sums: &[[I::Row; NP]; MR],
        row: usize,
        panel: usize,
    ) {
        let Product { c, c_row, alpha, accumulate, .. } = self.product;
        let at = row * c_row + panel * PANEL;
        for (r, row) in sums.iter().enumerate() {
            for (q, panel) in row.iter().enumerate() {
                for (v, &sum) in panel.as_ref().iter().enumerate() {
                    let y = if alpha == 1.0 { sum } else { isa.mul(sum, isa.splat(alpha)) };
                    // SAFETY: P3.
                    unsafe {
                        let c = c.add(at + r * c_row + q * PANEL + v * I::LANES);
                        isa.store(c, if accumulate { isa.add(y, isa.load(c)) } else { y });
                    }
                }
            }
        }
    }
}

/// A product over panels of pairs.
pub(crate) struct OfPairs<'p>(Abreast<'p>);

impl OfPairs<'_> {
    /// As many rows and panels in step as there are, one after another.
    #[inline(always)]
    fn of<I: Isa, const CHAIN: usize>(&self, isa: I) {
        let all = &self.0;
        let mut panel = 0;
        while panel < all.panels {
            panel += match (I::LANES, all.panels - panel) {
                (16, 4..) => self.rows::<I, CHAIN, 2, 4>(isa, panel),
                (16, 2..) => self.rows::<I, CHAIN, 4, 2>(isa, panel),
                (16, _) => self.rows::<I, CHAIN, 8, 1>(isa, panel),
                (8, 2..) => self.rows::<I, CHAIN, 2, 2>(isa, panel),
                (8, _) => self.rows::<I, CHAIN, 4, 1>(isa, panel),
                _ => self.rows::<I, CHAIN, 2, 1>(isa, panel),
            };
        }
    }

    #[inline(always)]
    fn rows<I: Isa, const CHAIN: usize, const MR: usize, const NP: usize>(&self, isa: I, panel: usize) -> usize {
        let mut row = 0;
        while row < self.0.rows {
            // SAFETY: the promise that was made for all rows and panels.
            unsafe {
                if row + MR <= self.0.rows {
                    self.chains::<I, CHAIN, MR, NP>(isa, row, panel);
                    row += MR;
                } else {
                    self.chains::<I, CHAIN, 1, NP>(isa, row, panel);
                    row += 1;
                }
            }
        }
        NP
    }

    /// # Safety
    /// There are MR rows from `row` on, and NP panels from `panel` on, of what [`Abreast::new`] was promised.
    #[inline(always)]
    unsafe fn chains<I: Isa, const CHAIN: usize, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        row: usize,
        panel: usize,
    ) {
        let Product { left, right, .. } = self.0.product;
        let size = if CHAIN == DOT { size_of::<bf16>() } else { size_of::<f32>() } as isize;
        let (row_bytes, step) = (left.row * size, left.step * size);
        // SAFETY: the caller's promise.
        let mut sums = unsafe { self.0.begin::<I, MR, NP>(isa, row, panel) };
        let first = right.start.cast::<bf16>().wrapping_offset(panel as isize * right.panel);
        let a = left.start.cast::<u8>();
        let mut a: [_; MR] = array::from_fn(|r| a.wrapping_offset((row + r) as isize * row_bytes));
        let mut b: [_; MR] = array::from_fn(|r| first.wrapping_offset((row + r) as isize * right.row));
        let depth = self.0.depth;
        for pair in 0..depth.div_ceil(2) {
            let whole = 2 * pair + 1 < depth;
            for (r, row) in sums.iter_mut().enumerate() {
                let (value, next) = (a[r], a[r].wrapping_offset(if whole { step } else { 0 }));
                // SAFETY: P1.
                let x = unsafe {
                    match CHAIN {
                        DOT if whole => [isa.from_bits(isa.splat_i32(value.cast::<i32>().read_unaligned())); 2],
                        DOT => [isa.from_bits(isa.splat_i32(i32::from(*value.cast::<u16>()))); 2],
                        _ => [isa.splat(*value.cast::<f32>()), isa.splat(*next.cast::<f32>())],
                    }
                };
                for (q, sums) in row.iter_mut().enumerate() {
                    let panel = b[r].wrapping_offset(q as isize * right.panel).cast::<f32>();
                    for (v, sum) in sums.as_mut().iter_mut().enumerate() {
                        // SAFETY: P2.
                        let pairs = unsafe { isa.load(panel.wrapping_add(v * I::LANES)) };
                        let [even, odd] = bf16::split(isa, pairs);
                        *sum = match CHAIN {
                            DOT => isa.dot_bf16(*sum, isa.to_bits(x[0]), isa.to_bits(pairs)),
                            ODD_FIRST => isa.fma(x[1], even, isa.fma(x[0], odd, *sum)),
                            _ if whole => isa.fma(x[1], odd, isa.fma(x[0], even, *sum)),
                            _ => isa.fma(x[0], even, *sum),
                        };
                    }
                }
                (a[r], b[r]) = (value.wrapping_offset(2 * step), b[r].wrapping_offset(right.step));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.end(isa, &sums, row, panel) };
    }
}

/// The chains, as parameters.
const IN_ORDER: usize = Chain::InOrder as usize;
const ODD_FIRST: usize = Chain::OddFirst as usize;
const DOT: usize = Chain::Dot as usize;

impl Kernel for OfPairs<'_> {
    type Output = ();

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.0.product.chain {
            Chain::InOrder => self.of::<I, IN_ORDER>(isa),
            Chain::OddFirst => self.of::<I, ODD_FIRST>(isa),
            Chain::Dot => self.of::<I, DOT>(isa),
        }
    }
}

impl Kernel for Abreast<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.product.right.start.dtype() {
            Dtype::F32 => self.of::<I, f32>(isa),
            Dtype::F16 => self.of::<I, f16>(isa),
            Dtype::Bf16 => unreachable!("bf16 lies in pairs"),
        }
    }
}
