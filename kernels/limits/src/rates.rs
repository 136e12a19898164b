//! Arithmetic and traffic together.

use crate::median;

/// Two rates of the machine, or of what ran on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Floating-point operations per nanosecond.
    pub gflops: f64,
    /// Bytes per nanosecond.
    pub gbs: f64,
}

impl Rates {
    /// The median of each rate.
    pub fn medians(turns: &[Rates]) -> Rates {
        let of = |rate: fn(&Rates) -> f64| median(&mut turns.iter().map(rate).collect::<Vec<_>>());
        Rates { gflops: of(|rates| rates.gflops), gbs: of(|rates| rates.gbs) }
    }

    /// The time of so many operations and bytes at these rates, both going on at the same time, in nanoseconds.
    pub fn least_ns(self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.gflops).max(bytes as f64 / self.gbs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_of_each_rate() {
        let rates = |gflops, gbs| Rates { gflops, gbs };
        let turns = [rates(1.0, 30.0), rates(2.0, 10.0), rates(9.0, 20.0)];
        assert_eq!(Rates::medians(&turns), rates(2.0, 20.0));
    }

    #[test]
    fn the_slower_of_the_two_counts() {
        let least_ns = |gflops, gbs| Rates { gflops, gbs }.least_ns(1000, 400);
        assert_eq!(least_ns(100.0, 100.0), 10.0);
        assert_eq!(least_ns(1000.0, 100.0), 4.0);
    }
}
