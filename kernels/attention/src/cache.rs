//! Keys and values that generation keeps from step to step.

use crate::check::equal;
use crate::pages::Layout;
use crate::write::Write;
use gristmill_core::{Error, HeadsRef, Threads, kept::Kept, list::reserve};
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Bf16Magnitudes, Dtype, Element, Level, Simd, TypedPtr};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Tokens of a page of a [`KvCache`]: whole panels, and a whole number of pages to each chain of values.
pub const PAGE: usize = 64;

/// Keys and values of any number of sequences, each of its own length, stored as `T`, for
/// [`attention_cached`](crate::attention_cached).
///
/// Tokens lie in pages of [`PAGE`]. A page holds keys transposed in panels of 16, which is how attention reads them,
/// the panels of all heads side by side, and then values in rows, head by head; of bf16 it holds pairs, as the dot
/// product wants them: two elements of a key, two tokens of a value, which are filled up to a multiple of 16 elements.
/// The newest keys, at most 15 that came one by one, are not transposed yet. Sequences share pages:
/// [`select`](KvCache::select) copies a beam by counting one more user of each of its pages, and only a page that is
/// both shared and not full is copied, once, when one of its users appends. Pages that nobody uses any more are kept
/// for later; growing never moves a page. The memory of pages comes in slabs that other caches and packed weights share
/// ([`gristmill_core::kept`]): it goes back to the system when all of those in a slab are gone.
///
/// ```
/// use gristmill_attention::{AttentionOptions, KvCache, attention_cached};
/// use gristmill_core::{HeadsMut, HeadsRef, Workspace};
///
/// // Two sequences; keys and values have 1 head of 4 values.
/// let mut cache = KvCache::<f32>::new(1, 4, 4)?;
/// cache.reset(2)?;
/// let token = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0];
/// let token = HeadsRef::bshd(&token, [2, 1, 1, 4])?;
/// cache.append(token, token)?;
///
/// // Both beams go on from the second one.
/// cache.select(&[1, 1])?;
/// let mut out = [0.0; 8];
/// let out_view = HeadsMut::bshd(&mut out, [2, 1, 1, 4])?;
/// attention_cached(token, &cache, out_view, &AttentionOptions::default(), &mut Workspace::new())?;
/// assert_eq!(out, [2.0; 8]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub struct KvCache<T = f32> {
    layout: Layout,
    /// Values of a page.
    page_len: usize,
    pages: Vec<Page<T>>,
    /// Pages without users.
    free: Vec<usize>,
    /// Those behind the first `count` are empty, and so are all spare ones: their lists are used again.
    sequences: Vec<Sequence>,
    count: usize,
    spare: Vec<Sequence>,
}

struct Page<T> {
    values: Kept<T>,
    /// Sequences that it belongs to.
    users: usize,
    /// Of its users, while what they append is counted, those that are to copy it.
    copies: usize,
    /// How many of its keys are in panels, whole ones; those of the next one are in squares.
    turned: usize,
    /// Those of its keys and of its values, where that is of use: of bf16 without a dot product that pays. Of tokens that
    /// are gone too.
    magnitudes: Option<[Bf16Magnitudes; 2]>,
    /// What an append is about to write into it.
    coming: Option<Coming>,
}

/// Tokens of one sequence that go to one page.
#[derive(Clone)]
struct Coming {
    sequence: usize,
    tokens: Range<usize>,
    /// Where in the page the first goes.
    slot: usize,
}

/// What [`KvCache::append_with`] leaves to choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppendOptions<'a> {
    /// Of sequence b only the first `counts[b]` tokens are appended, which may be none; by default all.
    pub counts: Option<&'a [usize]>,
    /// The threads that write.
    pub threads: Threads<'a>,
    /// The instruction set to use; `None` is the best there is.
    pub level: Option<Level>,
}

/// The pages of a sequence, exactly as many as its tokens need.
#[derive(Default)]
struct Sequence {
    pages: Vec<usize>,
    len: usize,
}

impl<T: Element> KvCache<T> {
    /// A cache without sequences, for keys of `dim` and values of `value_dim` elements in each of `kv_heads` heads.
    /// Allocates nothing.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] when the size of a page is not representable.
    pub fn new(kv_heads: usize, dim: usize, value_dim: usize) -> Result<Self, Error> {
        let layout = Layout { kv_heads, dim, value_dim, pairs: T::DTYPE == Dtype::Bf16 };
        let page_len = layout.len().ok_or(Error::SizeOverflow { what: "elements of a page" })?;
        let (pages, free, sequences, count, spare) = Default::default();
        Ok(Self { layout, page_len, pages, free, sequences, count, spare })
    }

    /// Heads of keys and values, H_kv.
    pub fn kv_heads(&self) -> usize {
        self.layout.kv_heads
    }

    /// Elements of a key, D.
    #[inline]
    pub fn dim(&self) -> usize {
        self.layout.dim
    }

    /// Elements of a value, D_v.
    #[inline]
    pub fn value_dim(&self) -> usize {
        self.layout.value_dim
    }

    /// Sequences.
    pub fn sequences(&self) -> usize {
        self.count
    }

    /// Tokens of a sequence.
    ///
    /// # Panics
    /// If there is no such sequence, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn len(&self, sequence: usize) -> usize {
        self.sequences[..self.count][sequence].len
    }

    /// Whether no sequence has a token.
    pub fn is_empty(&self) -> bool {
        self.longest() == 0
    }

    /// Tokens of the longest sequence; 0 without any.
    pub fn longest(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.len).max().unwrap_or(0)
    }

    /// Bytes of keys and values held, in pages that are used or kept for later.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.page_len * size_of::<T>()
    }

    /// Bytes of the pages that sequences use; shared ones count once.
    pub fn bytes_used(&self) -> usize {
        (self.pages.len() - self.free.len()) * self.page_len * size_of::<T>()
    }

    /// Forgets everything and starts `sequences` empty sequences. Keeps the memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; the cache is then unchanged.
    pub fn reset(&mut self, sequences: usize) -> Result<(), Error> {
        grow(&mut self.sequences, sequences)?;
        (0..self.count).for_each(|sequence| self.truncate(sequence, 0));
        self.count = sequences;
        Ok(())
    }

    /// Makes room for `tokens` more tokens in every sequence.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::SizeOverflow`]; the sequences are then unchanged.
    pub fn reserve(&mut self, tokens: usize) -> Result<(), Error> {
        self.reserve_each(|_| tokens)
    }

    /// Appends the tokens of `k`, `[B, n, H_kv, D]`, and `v`, `[B, n, H_kv, D_v]`: n to each of the B sequences.
    /// Elements are rounded to the type of the cache, to nearest even: f32 of 65520 and more are infinite in f16.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::OutOfMemory`], [`Error::SizeOverflow`], or [`Error::Level`] when
    /// the level cannot be used. The sequences are then unchanged.
    pub fn append<S: Element>(&mut self, k: HeadsRef<S>, v: HeadsRef<S>) -> Result<(), Error> {
        self.append_with(k, v, &AppendOptions::default())
    }

    /// As [`append`](KvCache::append), with options.
    ///
    /// # Errors
    /// Those of [`append`](KvCache::append), and [`Error::KeyLength`] for a count above n.
    pub fn append_with<S: Element>(
        &mut self,
        k: HeadsRef<S>,
        v: HeadsRef<S>,
        options: &AppendOptions,
    ) -> Result<(), Error> {
        equal("batch of k", self.count, k.batch())?;
        equal("batch of v", self.count, v.batch())?;
        equal("positions of v", k.seq(), v.seq())?;
        let Layout { kv_heads, dim, value_dim, .. } = self.layout;
        equal("heads of k", kv_heads, k.heads())?;
        equal("heads of v", kv_heads, v.heads())?;
        equal("head size of k", dim, k.dim())?;
        equal("head size of v", value_dim, v.dim())?;
        let AppendOptions { counts, threads, level } = *options;
        if let Some(counts) = counts {
            equal("counts of tokens", self.count, counts.len())?;
            if let Some(batch) = counts.iter().position(|&count| count > k.seq()) {
                return Err(Error::KeyLength { batch, length: counts[batch], keys: k.seq() });
            }
        }
        self.append_at(Simd::choose(level)?, k, v, counts, threads)
    }

    /// Appends tokens that fit.
    pub(crate) fn append_at<S: Element>(
        &mut self,
        simd: Simd,
        k: HeadsRef<S>,
        v: HeadsRef<S>,
        counts: Option<&[usize]>,
        threads: Threads,
    ) -> Result<(), Error> {
        let layout = self.layout;
        let measures = layout.pairs && !simd.dot_pays();
        let count = |b: usize| counts.map_or(k.seq(), |counts| counts[b]);
        self.reserve_each(count)?;
        let write = |page: &mut Page<T>| {
            let Some(Coming { sequence, tokens, slot }) = page.coming.take() else { return };
            let (keys, values) = page.values.split_at_mut(layout.keys());
            let (turned, magnitudes) = (page.turned, page.magnitudes.as_mut());
            let write = Write { k, v, sequence, tokens, slot, turned, layout, keys, values, magnitudes };
            page.turned = simd.run(write);
        };
        let tokens: usize = (0..self.count).map(count).sum();
        let alone = tokens * (layout.dim * layout.kv_heads) < SHARED_WORK || !threads.is_entered();
        let mut pages = 0;
        for b in 0..self.count {
            let (mut from, count) = (0, count(b));
            while from < count {
                let (page, slot) = self.writable(b);
                let n = (count - from).min(PAGE - slot);
                if slot == 0 || !measures {
                    self.pages[page].magnitudes = measures.then_some([Bf16Magnitudes::NONE; 2]);
                }
                self.pages[page].coming = Some(Coming { sequence: b, tokens: from..from + n, slot });
                if alone {
                    write(&mut self.pages[page]);
                }
                self.sequences[b].len += n;
                (from, pages) = (from + n, pages + 1);
            }
        }
        if !alone {
            let coming = Mutex::new(self.pages.iter_mut().filter(|page| page.coming.is_some()));
            threads.for_each(pages, |_| {
                let page = coming.lock().unwrap_or_else(PoisonError::into_inner).next();
                page.into_iter().for_each(write);
            });
        }
        Ok(())
    }

    /// Makes sequence i what sequence `parents[i]` was. One may be named several times, and is then shared; those not
    /// named are forgotten. There are `parents.len()` sequences afterwards. Copies no keys and no values.
    ///
    /// # Errors
    /// [`Error::RangeOutOfBounds`] for a parent that does not exist, [`Error::OutOfMemory`]; the cache is then
    /// unchanged.
    pub fn select(&mut self, parents: &[usize]) -> Result<(), Error> {
        let len = self.count;
        if let Some(&parent) = parents.iter().find(|&&parent| parent >= len) {
            return Err(Error::RangeOutOfBounds { start: parent, end: parent.saturating_add(1), len });
        }
        grow(&mut self.spare, parents.len())?;
        for (next, &parent) in self.spare.iter_mut().zip(parents) {
            reserve(&mut next.pages, self.sequences[parent].pages.len())?;
        }
        for (next, &parent) in self.spare.iter_mut().zip(parents) {
            let parent = &self.sequences[parent];
            next.pages.extend_from_slice(&parent.pages);
            next.len = parent.len;
            parent.pages.iter().for_each(|&page| self.pages[page].users += 1);
        }
        (0..len).for_each(|sequence| self.truncate(sequence, 0));
        std::mem::swap(&mut self.sequences, &mut self.spare);
        self.count = parents.len();
        Ok(())
    }

    /// Forgets the tokens of a sequence from `len` on, if it has that many.
    ///
    /// # Panics
    /// If there is no such sequence, like indexing a slice.
    #[track_caller]
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        let sequence = &mut self.sequences[..self.count][sequence];
        sequence.len = sequence.len.min(len);
        let kept = sequence.len.div_ceil(PAGE);
        for page in sequence.pages.drain(kept..) {
            self.pages[page].users -= 1;
            if self.pages[page].users == 0 {
                // There is room: reserve_each makes it when it makes the page.
                self.free.push(page);
            }
        }
    }

    #[inline]
    fn page(&self, sequence: usize, token: usize) -> &Page<T> {
        &self.pages[self.sequences[sequence].pages[token / PAGE]]
    }

    /// The page, of its own, that the next token of a sequence goes to, and where in it. There must be a free page.
    fn writable(&mut self, b: usize) -> (usize, usize) {
        let sequence = &mut self.sequences[b];
        let slot = sequence.len % PAGE;
        if slot > 0 {
            let last = sequence.pages.len() - 1;
            let old = sequence.pages[last];
            if self.pages[old].users == 1 {
                return (old, slot);
            }
            let new = self.free.pop().expect("reserved");
            let [from, to] = self.pages.get_disjoint_mut([old, new]).expect("a used page is not free");
            // Whole panels of keys, and rows of values; the rest of a page holds nothing.
            let Layout { kv_heads, pairs, .. } = self.layout;
            let mut copy = |first: usize, len: usize| {
                to.values[first..][..len].copy_from_slice(&from.values[first..][..len]);
            };
            copy(0, slot.next_multiple_of(PANEL) * self.layout.key_len() * kv_heads);
            // Of as many columns as a row, or a pair of rows, of values has in one place.
            let (columns, rows) =
                if pairs { (PANEL, slot.next_multiple_of(2)) } else { (self.layout.value_len(), slot) };
            if columns > 0 {
                let places = (self.layout.keys()..self.page_len).step_by(PAGE * columns);
                places.for_each(|place| copy(place, rows * columns));
            }
            (from.users, to.users) = (from.users - 1, 1);
            to.turned = from.turned.min(slot.next_multiple_of(PANEL));
            to.magnitudes = from.magnitudes;
            sequence.pages[last] = new;
            return (new, slot);
        }
        let new = self.free.pop().expect("reserved");
        (self.pages[new].users, self.pages[new].turned) = (1, 0);
        sequence.pages.push(new);
        (new, 0)
    }

    /// How many pages are copied when sequences append: one that is not full by each of its users that does, but if all of
    /// them do, the last one keeps it.
    fn copies(&mut self, appends: impl Fn(usize) -> bool) -> usize {
        let Self { sequences, pages, count, .. } = self;
        let appending = || sequences[..*count].iter().enumerate().filter(|&(b, _)| appends(b));
        let begun = || appending().filter(|(_, sequence)| !sequence.len.is_multiple_of(PAGE));
        let last = || begun().map(|(_, sequence)| *sequence.pages.last().expect("of its tokens"));
        let mut all = 0;
        for page in last() {
            let page = &mut pages[page];
            if page.copies + 1 < page.users {
                (page.copies, all) = (page.copies + 1, all + 1);
            }
        }
        last().for_each(|page| pages[page].copies = 0);
        all
    }

    /// Sees to it that there are free pages, and room in all lists, for so many more tokens of each sequence.
    fn reserve_each(&mut self, tokens: impl Fn(usize) -> usize) -> Result<(), Error> {
        let mut needed = 0usize;
        for (b, sequence) in self.sequences[..self.count].iter_mut().enumerate() {
            let total = sequence.len.checked_add(tokens(b)).ok_or(TOO_LARGE)?;
            let more = total.div_ceil(PAGE) - sequence.pages.len();
            reserve(&mut sequence.pages, more)?;
            needed = needed.checked_add(more).ok_or(TOO_LARGE)?;
        }
        needed = needed.checked_add(self.copies(|b| tokens(b) > 0)).ok_or(TOO_LARGE)?;
        let more = needed.saturating_sub(self.free.len());
        reserve(&mut self.pages, more)?;
        // All pages may become free.
        let all = self.pages.len().checked_add(more).ok_or(TOO_LARGE)?;
        let room = all - self.free.len();
        reserve(&mut self.free, room)?;
        for _ in 0..more {
            let mut values = Kept::with_capacity(self.page_len)?;
            values.resize(self.page_len, T::default());
            self.free.push(self.pages.len());
            self.pages.push(Page { values, users: 0, copies: 0, turned: 0, magnitudes: None, coming: None });
        }
        Ok(())
    }
}

/// A cache of some storage type, as attention reads it.
pub(crate) trait Pages: Sync {
    /// How tokens lie in a page.
    fn layout(&self) -> Layout;
    /// The storage type.
    fn dtype(&self) -> Dtype;
    /// Tokens of sequence `b`.
    fn tokens(&self, b: usize) -> usize;
    /// Keys of the page that token `first` of sequence `b` begins that are in panels; those that follow are in squares.
    fn turned(&self, b: usize, first: usize) -> usize;
    /// The first panel of a head in the page that token `first` of sequence `b` begins. The panels, or squares, of one
    /// head after another are those of 16 keys.
    fn keys_from(&self, b: usize, head: usize, first: usize) -> TypedPtr;
    /// The value of token `first` of sequence `b`, which begins a page; or the first panel of a head's.
    fn values_from(&self, b: usize, head: usize, first: usize) -> TypedPtr;
    /// The magnitudes of the keys and of the values, of all heads, in the page that token `first` of sequence `b` begins,
    /// if somebody looked at them.
    fn magnitudes(&self, b: usize, first: usize) -> Option<[Bf16Magnitudes; 2]>;
    /// Element `d` of the value of sequence `b`, head `h`, token `j`, widened.
    fn value(&self, position: [usize; 3], d: usize) -> f32;
}

impl<T: Element> Pages for KvCache<T> {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn dtype(&self) -> Dtype {
        T::DTYPE
    }

    fn tokens(&self, b: usize) -> usize {
        self.sequences[b].len
    }

    fn turned(&self, b: usize, first: usize) -> usize {
        self.page(b, first).turned
    }

    fn keys_from(&self, b: usize, head: usize, first: usize) -> TypedPtr {
        let panel = PANEL * self.layout.key_len();
        TypedPtr::new(self.page(b, first).values[head * panel..][..panel].as_ptr())
    }

    fn values_from(&self, b: usize, head: usize, first: usize) -> TypedPtr {
        let values = &self.page(b, first).values[self.layout.keys()..];
        TypedPtr::new(values[self.layout.value_at(0, head, 0)..].as_ptr())
    }

    fn magnitudes(&self, b: usize, first: usize) -> Option<[Bf16Magnitudes; 2]> {
        self.page(b, first).magnitudes
    }

    fn value(&self, [b, h, j]: [usize; 3], d: usize) -> f32 {
        let values = &self.page(b, j).values[self.layout.keys()..];
        values[self.layout.value_at(j % PAGE, h, d)].to_f32()
    }
}

/// Elements of keys from which on an append is shared by threads: some ten microseconds.
const SHARED_WORK: usize = 16 << 10;

/// Makes a list of sequences at least so long.
fn grow(sequences: &mut Vec<Sequence>, count: usize) -> Result<(), Error> {
    let more = count.saturating_sub(sequences.len());
    reserve(sequences, more)?;
    sequences.extend((0..more).map(|_| Sequence::default()));
    Ok(())
}

const TOO_LARGE: Error = Error::SizeOverflow { what: "tokens of a cache" };

impl<T: Element> std::fmt::Debug for KvCache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes = [self.kv_heads(), self.dim(), self.value_dim()];
        let mut f = f.debug_struct("KvCache");
        f.field("sizes", &sizes).field("sequences", &self.sequences()).field("bytes", &self.bytes()).finish()
    }
}
