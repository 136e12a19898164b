//! Memory bandwidth for a footprint: the fastest way found to go through so many bytes again and again.
//!
//! What only reads is compared with reading; what writes as much as it reads, with copying.

mod copy;
mod read;

use crate::clock::{median, on_every_thread, turn};
use aligned_vec::AVec;
use gristmill_core::{Error, kept::Kept};
use gristmill_simd::{Level, Simd};
use std::{hint::black_box, sync::Mutex};

/// Registers moved in one step: enough in flight to hide what is done with them.
const REGISTERS: usize = 8;
/// Values of f32 in a cache line.
const LINE: usize = 16;
/// Turns whose median is taken for each pattern.
const TURNS: usize = 7;
/// Values that one call goes through at least, so that its fixed cost is lost beside them.
const CALL: usize = 64 * 1024;
/// Lines between a load and its software prefetch; none for zero.
const AHEAD: [usize; 4] = [0, 16, 32, 64];

/// What is done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Almost all bytes are read only.
    Read,
    /// As many bytes are written as are read.
    Copy,
    /// Two operands are read and a third one of their size is written.
    Add,
}

/// Memory that is gone through again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Footprint {
    /// What is done with it.
    pub traffic: Traffic,
    /// Its size, over all operands and threads.
    pub bytes: u64,
}

/// A way to go through memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// Loads.
    Read {
        /// Equal parts read side by side: one or four.
        streams: usize,
        /// Lines between a load and its software prefetch; none for zero.
        ahead: usize,
    },
    /// Loads and stores.
    Copy {
        /// Whether the stores go around the caches.
        streaming: bool,
        /// Lines between a load and its software prefetch; none for zero.
        ahead: usize,
    },
    /// The standard library's copy.
    Memcpy,
}

impl Traffic {
    /// Every pattern for this traffic: one and four streams, or cached and streaming stores, each without software
    /// prefetch and with one of 16, 32 and 64 lines; the standard library's copy, where it does the same.
    fn patterns(self) -> Vec<Pattern> {
        let ahead = |pattern: &dyn Fn(usize) -> Pattern| AHEAD.map(pattern).to_vec();
        match self {
            Traffic::Read => [1, 4].map(|streams| ahead(&|ahead| Pattern::Read { streams, ahead })).concat(),
            Traffic::Copy | Traffic::Add => {
                let own = [false, true].map(|streaming| ahead(&|ahead| Pattern::Copy { streaming, ahead })).concat();
                own.into_iter().chain((self == Traffic::Copy).then_some(Pattern::Memcpy)).collect()
            }
        }
    }

    /// Buffers of equal size.
    fn operands(self) -> usize {
        match self {
            Traffic::Read => 1,
            Traffic::Copy => 2,
            Traffic::Add => 3,
        }
    }
}

/// A footprint's memory, ready to be gone through by every thread of a pool.
pub struct Bandwidth {
    simd: Simd,
    traffic: Traffic,
    shares: Vec<Mutex<Share>>,
}

/// One thread's part.
enum Share {
    /// What is read alone lies as packed weights and the pages of caches do, in large pages where there are any.
    Read(Kept<f32>),
    /// What is read for something that is written, the first operand alone where there is one, lies as any list.
    Copy { sources: [AVec<f32>; 2], target: AVec<f32> },
}

impl Bandwidth {
    /// Allocates the memory for the current pool. The widest registers of the CPU will be used.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(footprint: Footprint) -> Result<Bandwidth, Error> {
        let simd = Simd::choose(Level::available().last()).expect("a level that is available");
        let Footprint { traffic, bytes } = footprint;
        let (threads, operands) = (rayon::current_num_threads(), traffic.operands());
        let len = (bytes as usize / size_of::<f32>()).div_ceil(threads * operands).max(REGISTERS * LINE);
        let share = || match traffic {
            Traffic::Read => {
                let mut data = Kept::with_capacity(len)?;
                data.resize(len, 1.0);
                Ok::<_, Error>(Share::Read(data))
            }
            Traffic::Copy | Traffic::Add => {
                let filled = |len| buffer(std::iter::repeat_n(1.0, len));
                let second = if operands > 2 { len } else { 0 };
                Ok(Share::Copy { sources: [filled(len)?, filled(second)?], target: filled(len)? })
            }
        };
        let shares = (0..threads).map(|_| share().map(Mutex::new)).collect::<Result<_, Error>>()?;
        Ok(Bandwidth { simd, traffic, shares })
    }

    /// The pattern with the best median rate, and that rate, as [`turn`](Bandwidth::turn) has it.
    ///
    /// # Panics
    /// As [`turn`](Bandwidth::turn).
    pub fn best(&self) -> (Pattern, f64) {
        let rate = |pattern| median(&mut (0..TURNS).map(|_| self.turn(pattern)).collect::<Vec<_>>());
        let rates = self.traffic.patterns().into_iter().map(|pattern| (pattern, rate(pattern)));
        rates.max_by(|a, b| a.1.total_cmp(&b.1)).expect("every traffic has patterns")
    }

    /// One turn of every thread; bytes per nanosecond of all together, read and written.
    ///
    /// # Panics
    /// When the current pool has more threads than the one that the memory was allocated for, or the pattern writes
    /// and the traffic does not.
    pub fn turn(&self, pattern: Pattern) -> f64 {
        on_every_thread(|thread| {
            let mut share = self.shares[thread].lock().expect("no thread panics with a share");
            let (data, mut written) = match &mut *share {
                Share::Read(data) => (&data[..], None),
                Share::Copy { sources: [a, b], target } => (&a[..], Some((&b[..], target))),
            };
            let (passes, mut values) = (CALL.div_ceil(data.len()), 0);
            let time = turn(|| {
                values = black_box(match (pattern, &mut written) {
                    (Pattern::Read { streams, ahead }, _) => self.simd.run(read::Read { data, passes, streams, ahead }),
                    (Pattern::Copy { streaming, ahead }, Some((second, target))) => {
                        let sources = [data, second];
                        self.simd.run(copy::Copy { sources, target, passes, streaming, ahead })
                    }
                    (Pattern::Memcpy, Some((_, target))) => copy::memcpy(data, target, passes),
                    (Pattern::Copy { .. } | Pattern::Memcpy, None) => panic!("{pattern:?} where nothing is written"),
                });
            });
            (values * size_of::<f32>()) as f64 / time
        })
    }
}

/// Values that start at a cache line, as the buffers of engines do.
fn buffer(values: impl ExactSizeIterator<Item = f32>) -> Result<AVec<f32>, Error> {
    let (mut buffer, len) = (AVec::new(LINE * size_of::<f32>()), values.len());
    let bytes = len.saturating_mul(size_of::<f32>());
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    values.for_each(|value| buffer.push(value));
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_two_threads(test: impl FnOnce() + Send) {
        rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(test);
    }

    #[test]
    fn tiny_footprints_have_a_rate_for_every_pattern() {
        on_two_threads(|| {
            for traffic in [Traffic::Read, Traffic::Copy, Traffic::Add] {
                let bandwidth = Bandwidth::new(Footprint { traffic, bytes: 4 }).unwrap();
                for pattern in traffic.patterns() {
                    assert!(bandwidth.turn(pattern) > 0.0, "{pattern:?}");
                }
            }
        });
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        on_two_threads(|| {
            for traffic in [Traffic::Read, Traffic::Copy, Traffic::Add] {
                for bytes in [1 << 60, u64::MAX] {
                    let error = Bandwidth::new(Footprint { traffic, bytes }).err();
                    assert!(matches!(error, Some(Error::OutOfMemory { .. })), "{traffic:?}: {error:?}");
                }
            }
        });
    }

    #[test]
    fn shares_make_up_the_footprint() {
        on_two_threads(|| {
            for traffic in [Traffic::Read, Traffic::Copy, Traffic::Add] {
                let bandwidth = Bandwidth::new(Footprint { traffic, bytes: 6 << 20 }).unwrap();
                let lens = bandwidth.shares.into_iter().map(|share| match share.into_inner().unwrap() {
                    Share::Read(data) => [data.len(), 0, 0],
                    Share::Copy { sources: [a, b], target } => [a.len(), b.len(), target.len()],
                });
                let expected = match traffic {
                    Traffic::Read => [3 << 18, 0, 0],
                    Traffic::Copy => [3 << 17, 0, 3 << 17],
                    Traffic::Add => [1 << 18; 3],
                };
                assert_eq!(lens.collect::<Vec<_>>(), [expected; 2], "{traffic:?}");
            }
        });
    }
}
