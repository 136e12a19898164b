//! What the machine can do with the threads of the current pool, measured: what times are compared with.

use gristmill::simd::{Isa, Kernel, Simd, slices};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Floating-point operations and bytes per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) flops: f64,
    pub(crate) bytes: f64,
}

/// Independent chains of multiply-adds: more than two units of five cycles need, and still within sixteen registers.
const CHAINS: usize = 12;
const STEPS: usize = 10_000;
/// Turns of which the median counts.
const TURNS: usize = 7;
/// Values that are read at a time.
const BLOCK: usize = 64;

/// A way to walk through memory.
#[derive(Clone, Copy)]
struct Pattern {
    /// Equal parts that are read side by side.
    streams: usize,
    /// Blocks between what is read and what is fetched; 0 leaves it to the hardware.
    ahead: usize,
}

impl Limits {
    /// The multiply-adds of a level, and the rate at which `footprint` bytes are read again and again.
    pub(crate) fn measure(simd: Simd, footprint: usize) -> Self {
        let share = (footprint / size_of::<f32>() / rayon::current_num_threads()).max(BLOCK);
        let data = vec![1.0f32; share * rayon::current_num_threads()];
        let (flops, bytes) = (2 * CHAINS * STEPS * simd.run(Lanes), size_of::<f32>() * share);
        let read = |pattern| {
            rate(bytes, |thread| _ = black_box(simd.run(Read { data: &data[thread * share..][..share], pattern })))
        };
        let patterns = [1, 4].into_iter().flat_map(|streams| [0, 4, 8, 16].map(|ahead| Pattern { streams, ahead }));
        Self {
            flops: rate(flops, |_| _ = black_box(simd.run(MultiplyAdds))),
            bytes: patterns.map(read).fold(0.0, f64::max),
        }
    }

    /// The shortest time for so many operations and bytes, both going on at the same time.
    pub(crate) fn time(self, flops: u64, bytes: u64) -> Duration {
        Duration::from_secs_f64((flops as f64 / self.flops).max(bytes as f64 / self.bytes))
    }
}

/// What all threads together do per second, when one call on one thread does `amount`.
fn rate(amount: usize, call: impl Fn(usize) + Sync) -> f64 {
    let turn = || {
        let arrived = AtomicUsize::new(0);
        let rates = rayon::broadcast(|thread| {
            call(thread.index());
            arrived.fetch_add(1, Ordering::Relaxed);
            while arrived.load(Ordering::Relaxed) < thread.num_threads() {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            call(thread.index());
            amount as f64 / start.elapsed().as_secs_f64()
        });
        rates.into_iter().sum()
    };
    let mut rates: [f64; TURNS] = std::array::from_fn(|_| turn());
    rates.sort_unstable_by(f64::total_cmp);
    rates[TURNS / 2]
}

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> usize {
        I::LANES
    }
}

struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        // x / 2 + 1 tends to 2, which no compiler can know.
        let (half, one) = (isa.splat(black_box(0.5)), isa.splat(black_box(1.0)));
        let mut chains: [I::F32; CHAINS] = std::array::from_fn(|i| isa.splat(i as f32));
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = isa.fma(*chain, half, one);
            }
        }
        isa.reduce_add(chains.into_iter().fold(one, |sum, chain| isa.add(sum, chain)))
    }
}

struct Read<'a> {
    data: &'a [f32],
    pattern: Pattern,
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let Pattern { streams, ahead } = self.pattern;
        let (mut total, stream) = (0.0, self.data.len() / streams);
        for at in (0..stream).step_by(BLOCK) {
            for s in 0..streams {
                let block = &self.data[s * stream..][at..stream.min(at + BLOCK)];
                if ahead > 0 {
                    // A line is 16 values.
                    let ahead = block.as_ptr().wrapping_add(ahead * BLOCK);
                    (0..BLOCK).step_by(16).for_each(|at| isa.prefetch(ahead.wrapping_add(at)));
                }
                total += slices::sum(isa, block);
            }
        }
        total
    }
}
