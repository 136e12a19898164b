//! What `gristmill time` found, as tables or as JSON.

use crate::Failure;
use crate::limits::Limits;
use gristmill::Level;
use gristmill_model::{Config, Operation, Precision, Spent};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

pub(crate) struct Report {
    pub(crate) config: Config,
    pub(crate) precision: Precision,
    /// Of the weights, and of the caches of the generation.
    pub(crate) bytes: [usize; 2],
    pub(crate) level: Level,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
    pub(crate) source_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) parts: Vec<Part>,
}

/// Something that was timed.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// The median of so many times.
    pub(crate) median: Duration,
    pub(crate) of: usize,
    pub(crate) limits: Limits,
    /// The times that were taken while the operations were.
    pub(crate) profiled: Vec<Duration>,
    pub(crate) operations: Vec<(Operation, Spent)>,
}

/// A line of the table of a part: an operation, or what is left, or all; times per run of the part.
struct Line {
    name: &'static str,
    calls: f64,
    milliseconds: f64,
    /// Percent of the part.
    share: f64,
    /// The least time that the machine needs over the time taken, in percent.
    limit: Option<f64>,
}

impl Part {
    fn lines(&self) -> Vec<Line> {
        let runs = self.profiled.len() as f64;
        let all: Duration = self.profiled.iter().sum();
        let named: Duration = self.operations.iter().map(|(_, spent)| spent.time).sum();
        let line = |name, calls: u64, time: Duration, least: Option<Duration>| Line {
            name,
            calls: calls as f64 / runs,
            milliseconds: 1e3 * time.as_secs_f64() / runs,
            share: 100.0 * time.as_secs_f64() / all.as_secs_f64(),
            limit: least.map(|least| 100.0 * least.as_secs_f64() / time.as_secs_f64()),
        };
        let least = |spent: &Spent| self.limits.time(spent.flops, spent.bytes);
        let mut lines: Vec<Line> = self
            .operations
            .iter()
            .map(|(operation, spent)| line(operation.name(), spent.calls, spent.time, Some(least(spent))))
            .collect();
        lines.push(line("everything else", 0, all.saturating_sub(named), None));
        let least = self.operations.iter().map(|(_, spent)| least(spent)).sum();
        lines.push(line("all", self.operations.iter().map(|(_, spent)| spent.calls).sum(), all, Some(least)));
        lines
    }
}

impl Report {
    pub(crate) fn write_tables(&self) -> Result<(), Failure> {
        let Config { d_model, heads, d_ff, encoder_layers, decoder_layers, tgt_vocab, .. } = self.config;
        let Self { precision, level, threads, batch, source_tokens, new_tokens, .. } = self;
        let millions = self.config.parameters()? as f64 / 1e6;
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "d_model {d_model}, heads {heads}, d_ff {d_ff}, layers {encoder_layers}+{decoder_layers}, \
             vocabulary {tgt_vocab}: {millions:.1} million parameters, {precision}, seeded"
        )?;
        writeln!(
            out,
            "level {level}, threads {threads}, batch {batch}, {source_tokens} source tokens, {new_tokens} new"
        )?;
        let [weights, caches] = self.bytes.map(|bytes| bytes as f64 / 1e6);
        writeln!(out, "memory {weights:.1} MB of weights, {caches:.1} MB of keys and values")?;
        for part in &self.parts {
            let Limits { flops, bytes } = part.limits;
            let milliseconds = part.median.as_secs_f64() * 1e3;
            writeln!(out, "\n{:<13}{milliseconds:>10.3} ms   median of {}", part.name, part.of)?;
            writeln!(out, "  limits: {:.0} GFLOP/s, {:.1} GB/s", flops / 1e9, bytes / 1e9)?;
            writeln!(out, "  {:<18}{:>8}{:>12}{:>9}{:>9}", "operation", "calls", "ms", "share", "limit")?;
            for Line { name, calls, milliseconds, share, limit } in part.lines() {
                let limit = limit.map_or(String::new(), |limit| format!("{limit:.1}%"));
                writeln!(out, "  {name:<18}{calls:>8.0}{milliseconds:>12.4}{share:>8.1}%{limit:>9}")?;
            }
        }
        Ok(())
    }

    pub(crate) fn write_json(&self) -> Result<(), Failure> {
        let line = |line: Line| {
            let Line { name, calls, milliseconds, share, limit } = line;
            json!({ "name": name, "calls": calls, "ms": milliseconds, "share_pct": share, "limit_pct": limit })
        };
        let part = |part: &Part| {
            json!({
                "name": part.name,
                "median_ms": 1e3 * part.median.as_secs_f64(),
                "runs": part.of,
                "gflops": part.limits.flops / 1e9,
                "gbs": part.limits.bytes / 1e9,
                "operations": part.lines().into_iter().map(line).collect::<Vec<_>>(),
            })
        };
        let report = json!({
            "config": self.config,
            "parameters": self.config.parameters()?,
            "precision": self.precision.name(),
            "weight_bytes": self.bytes[0],
            "cache_bytes": self.bytes[1],
            "level": self.level.name(),
            "threads": self.threads,
            "batch": self.batch,
            "source_tokens": self.source_tokens,
            "new_tokens": self.new_tokens,
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
        });
        writeln!(std::io::stdout().lock(), "{report}")?;
        Ok(())
    }
}
