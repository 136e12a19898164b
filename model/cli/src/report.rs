//! What `gristmill time` found, as tables or as JSON.

use crate::Failure;
use crate::workers::Workers;
use gristmill_limits::Rates;
use gristmill_model::{Config, Profile, Spent};
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) config: Config,
    pub(crate) parameters: usize,
    pub(crate) precision: &'static str,
    pub(crate) weight_bytes: usize,
    /// Of the generation.
    pub(crate) cache_bytes: usize,
    pub(crate) level: &'static str,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
    pub(crate) source_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) parts: Vec<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<Workers>,
}

/// Something that was timed, and the machine's limits for it.
#[derive(Serialize)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Of so many runs.
    pub(crate) median_ms: f64,
    pub(crate) runs: usize,
    pub(crate) gflops: f64,
    pub(crate) gbs: f64,
    /// Runs after those of the median, of which `operations` are the mean.
    pub(crate) profiled_runs: usize,
    pub(crate) operations: Vec<Line>,
}

/// A line of the table of a part: an operation, or what is left, or all; times per run of the part.
#[derive(Serialize)]
pub(crate) struct Line {
    name: &'static str,
    calls: f64,
    ms: f64,
    /// Percent of the part.
    share_pct: f64,
    /// The least time that the machine needs over the time taken, in percent.
    limit_pct: Option<f64>,
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// The lines of a part, from the times of some runs and what their operations took.
pub(crate) fn lines(limits: Rates, runs: &[Duration], profile: &Profile) -> Vec<Line> {
    let all: Duration = runs.iter().sum();
    let line = |name, calls: u64, time: Duration, least_ns: Option<f64>| Line {
        name,
        calls: calls as f64 / runs.len() as f64,
        ms: milliseconds(time) / runs.len() as f64,
        share_pct: 100.0 * time.as_secs_f64() / all.as_secs_f64(),
        limit_pct: least_ns.map(|least_ns| 100.0 * least_ns / time.as_nanos() as f64),
    };
    let least_ns = |spent: &Spent| limits.least_ns(spent.flops, spent.bytes);
    let (mut calls, mut named, mut needed) = (0, Duration::ZERO, 0.0);
    let mut lines = Vec::new();
    for (operation, spent) in profile.iter() {
        (calls, named, needed) = (calls + spent.calls, named + spent.time, needed + least_ns(&spent));
        lines.push(line(operation.name(), spent.calls, spent.time, Some(least_ns(&spent))));
    }
    lines.push(line("everything else", 0, all.saturating_sub(named), None));
    lines.push(line("all", calls, all, Some(needed)));
    lines
}

impl Report {
    pub(crate) fn write_tables(&self) -> Result<(), Failure> {
        let Config { d_model, heads, d_ff, encoder_layers, decoder_layers, tgt_vocab, .. } = self.config;
        let Self { precision, level, threads, batch, source_tokens, new_tokens, .. } = self;
        let [millions, weights, caches] =
            [self.parameters, self.weight_bytes, self.cache_bytes].map(|count| count as f64 / 1e6);
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
        writeln!(out, "memory {weights:.1} MB of weights, {caches:.1} MB of keys and values")?;
        for Part { name, median_ms, runs, gflops, gbs, profiled_runs, operations } in &self.parts {
            writeln!(out, "\n{name:<13}{median_ms:>10.3} ms   median of {runs}")?;
            writeln!(
                out,
                "  limits: {gflops:.0} GFLOP/s, {gbs:.1} GB/s; below, the mean of {profiled_runs} more, profiled"
            )?;
            writeln!(out, "  {:<18}{:>8}{:>12}{:>9}{:>9}", "operation", "calls", "ms", "share", "limit")?;
            for Line { name, calls, ms, share_pct, limit_pct } in operations {
                let limit = limit_pct.map_or(String::new(), |limit| format!("{limit:.1}%"));
                writeln!(out, "  {name:<18}{calls:>8.0}{ms:>12.4}{share_pct:>8.1}%{limit:>9}")?;
            }
        }
        if let Some(Workers { count, alone_tokens_per_s: alone, together_tokens_per_s: together }) = self.workers {
            writeln!(out, "\ngeneration by sessions of one thread, tokens per second")?;
            writeln!(out, "  one alone {alone:.0}, {count} together {together:.0}: {:.2} times", together / alone)?;
        }
        Ok(())
    }

    pub(crate) fn write_json(&self) -> Result<(), Failure> {
        let report = serde_json::to_string(self).expect("numbers and names are JSON");
        Ok(writeln!(std::io::stdout().lock(), "{report}")?)
    }
}
