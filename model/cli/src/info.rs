//! `gristmill info`.

use crate::Failure;
use gristmill::{LEVEL_VARIABLE, Level, Threads, cache::Caches};
use std::io::Write;

/// Says what there is, and that `level` would be used.
pub(crate) fn run(level: Level) -> Result<(), Failure> {
    let names = |levels: &mut dyn Iterator<Item = Level>| levels.map(Level::name).collect::<Vec<_>>().join(" ");
    let missing = names(&mut Level::ALL.into_iter().filter(|level| !level.is_available()));
    let why = match std::env::var(LEVEL_VARIABLE) {
        Ok(_) => format!("pinned by {LEVEL_VARIABLE}"),
        Err(_) => "the best that this CPU has".to_owned(),
    };
    let threads_why = match std::env::var("RAYON_NUM_THREADS") {
        Ok(value) if value.parse().is_ok_and(|threads: usize| threads > 0) => "RAYON_NUM_THREADS says so",
        _ => "one per CPU that this process may use",
    };
    let caches = Caches::detected();
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);

    let mut out = std::io::stdout().lock();
    writeln!(out, "gristmill {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "levels    {}", names(&mut Level::available()))?;
    writeln!(out, "missing   {}", if missing.is_empty() { "none" } else { &missing })?;
    writeln!(out, "level     {level}: {why}")?;
    let fused = if level.fused() { "fused: the bits of every fused level" } else { "not fused: bits of its own" };
    writeln!(out, "multiply  {fused}")?;
    writeln!(out, "threads   {}: {threads_why}", Threads::Global.count())?;
    writeln!(out, "caches    L1d {}, L2 {}, L3 {} per core", kib(caches.l1d), kib(caches.l2), kib(caches.l3))?;
    Ok(())
}
