//! What this machine is.

use gristmill_core::cache::Caches;
use gristmill_simd::Level;
use std::{fmt, thread};

/// The machine as `versus` prints it.
#[derive(Debug)]
pub struct Machine {
    /// The CPU's own name, or its architecture where that cannot be had.
    pub cpu: String,
    /// Levels that it runs, lowest first.
    pub levels: Vec<Level>,
    /// Cache sizes per core.
    pub caches: Caches,
    /// Threads that this process may run at once.
    pub threads: usize,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn this() -> Machine {
        Machine {
            cpu: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            levels: Level::available().collect(),
            caches: Caches::detected(),
            threads: threads(),
        }
    }
}

/// Threads that this process may run at once.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes / 1024;
        let levels: Vec<_> = self.levels.iter().map(|level| level.name()).collect();
        writeln!(f, "cpu      {}, {} threads", self.cpu, self.threads)?;
        writeln!(f, "levels   {}", levels.join(" "))?;
        let Caches { l1d, l2, l3, .. } = self.caches;
        write!(f, "caches   L1d {} KiB, L2 {} KiB, L3 {} KiB", kib(l1d), kib(l2), kib(l3))
    }
}
