//! Decoding bytes into the arguments of a call.

use crate::{
    Fill, Layout, Rng, Strided,
    fill::SPECIAL,
    mask::{OwnedCausal, OwnedMask},
    shapes::EDGES,
    strided::GAP,
};
use gristmill_simd::Element;
use std::cell::Cell;

/// Bytes that are taken one by one. When none are left, zeros follow.
pub(super) struct Bytes<'a>(Cell<&'a [u8]>);

impl<'a> Bytes<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(Cell::new(data))
    }

    pub(super) fn byte(&self) -> u8 {
        let bytes = self.0.get();
        self.0.set(bytes.get(1..).unwrap_or_default());
        bytes.first().copied().unwrap_or_default()
    }

    /// The bytes that are left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0.take()
    }

    pub(super) fn u64(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// An even chance.
    pub(super) fn flag(&self) -> bool {
        self.byte() & 1 == 1
    }

    /// True for one byte in `n`, not for zero.
    pub(super) fn one_in(&self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// A number in `0..n`, for `1 <= n <= 65536`.
    pub(super) fn below(&self, n: usize) -> usize {
        let low = usize::from(self.byte());
        if n <= 256 { low % n } else { (low | usize::from(self.byte()) << 8) % n }
    }

    /// One of the items.
    pub(super) fn pick<T: Copy>(&self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A size from 0 to `limit`, often at the edge of a tile.
    pub(super) fn size(&self, limit: usize) -> usize {
        if self.flag() {
            return self.below(limit + 1);
        }
        let edges = EDGES.into_iter().filter(|&edge| edge <= limit).count();
        EDGES[self.below(edges)]
    }

    /// The size, or now and then one that is off by one.
    pub(super) fn slip(&self, size: usize) -> usize {
        match self.byte() {
            254 => size.saturating_sub(1),
            255 => size + 1,
            _ => size,
        }
    }

    /// Any number: special, small, or any bits.
    pub(super) fn f32(&self) -> f32 {
        match self.byte() % 3 {
            0 => f32::from(self.byte() as i8) / 8.0,
            1 => self.pick(&SPECIAL),
            _ => f32::from_bits(self.u64() as u32),
        }
    }

    pub(super) fn fill(&self) -> Fill {
        self.pick(&Fill::ALL)
    }

    pub(super) fn layout<const N: usize>(&self, output: bool) -> Layout<N> {
        let mut layout = Layout::default();
        if self.flag() {
            return layout;
        }
        for d in (1..N).rev() {
            layout.order.swap(d, self.below(d + 1));
        }
        layout.step = self.pick(&[1, 1, 1, 2, 3]);
        layout.padding = std::array::from_fn(|_| self.below(5));
        layout.margin = self.below(3);
        if !output {
            let (reversed, repeated) = (self.byte(), if self.flag() { self.byte() } else { 0 });
            layout.reversed = std::array::from_fn(|d| reversed >> d & 1 == 1);
            layout.repeated = std::array::from_fn(|d| repeated >> d & 1 == 1);
            // A bit that no dimension has.
            layout.idle = (reversed >> 7 == 1).then_some(isize::MAX);
        }
        layout
    }

    fn strided<T: Element, const N: usize>(&self, sizes: [usize; N], output: bool) -> Strided<T, N> {
        let (layout, fill, seed) = (self.layout(output), self.fill(), self.u64());
        Strided::filled(sizes, &layout, fill, seed)
    }

    /// An input of any layout and values.
    pub(super) fn input<T: Element, const N: usize>(&self, sizes: [usize; N]) -> Strided<T, N> {
        self.strided(sizes, false)
    }

    /// An output of any layout that outputs may have, holding any values.
    pub(super) fn output<T: Element, const N: usize>(&self, sizes: [usize; N]) -> Strided<T, N> {
        self.strided(sizes, true)
    }

    /// Values of any kind.
    pub(super) fn vector<T: Element>(&self, len: usize) -> Vec<T> {
        let (fill, seed) = (self.fill(), self.u64());
        fill.vec(seed, len)
    }

    /// Any combination of masks; now and then one that does not fit.
    pub(super) fn mask(&self, sizes: [usize; 4]) -> OwnedMask {
        let [batch, _, queries, keys] = sizes;
        let parts = self.byte();
        let causal = match parts & 3 {
            0 => None,
            1 => Some(OwnedCausal::BottomRight),
            2 => Some(OwnedCausal::Offset(self.offset(queries, keys))),
            _ => Some(OwnedCausal::PerBatch((0..self.slip(batch)).map(|_| self.offset(queries, keys)).collect())),
        };
        let key_lengths = (parts & 4 != 0).then(|| {
            let batch = self.slip(batch);
            (0..batch).map(|_| self.below(keys + 1)).map(|length| self.slip(length)).collect()
        });
        let keep = (parts & 8 != 0).then(|| {
            let (sizes, layout, hidden) = (self.broadcast(sizes), self.layout(false), self.below(9));
            let mut rng = Rng::new(self.u64());
            Strided::new(sizes, &layout, false, || rng.below(8) >= hidden)
        });
        let bias = (parts & 16 != 0).then(|| {
            let (sizes, layout, hidden, fill) = (self.broadcast(sizes), self.layout(false), self.below(9), self.fill());
            let mut rng = Rng::new(self.u64());
            Strided::new(sizes, &layout, GAP, || match rng.below(8) {
                n if n < hidden => f32::NEG_INFINITY,
                _ => fill.value(&mut rng),
            })
        });
        OwnedMask { causal, key_lengths, keep, bias }
    }

    fn offset(&self, queries: usize, keys: usize) -> isize {
        match self.byte() {
            254 => isize::MIN,
            255 => isize::MAX,
            _ => self.below(queries + keys + 4) as isize - queries as isize - 2,
        }
    }

    /// Sizes of which each dimension is whole or broadcasts.
    fn broadcast(&self, sizes: [usize; 4]) -> [usize; 4] {
        let whole = self.byte();
        std::array::from_fn(|d| if whole >> d & 1 == 1 { self.slip(sizes[d]) } else { 1 })
    }
}
