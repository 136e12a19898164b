//! What `versus` shows: a table for people, lines of JSON for programs.

use crate::{limits::Limits, referee::Verdict};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::File,
    io::{self, Write as _},
};

/// Prints verdicts as they come and remembers what the summary needs.
#[derive(Debug, Default)]
pub struct Report {
    json: Option<File>,
    groups: BTreeMap<String, Vec<Best>>,
}

/// A case and its best rival.
#[derive(Debug)]
struct Best {
    ratio: f64,
    rival: String,
    case: String,
}

impl Report {
    /// A report that also writes each verdict to `json`, if given, as one line.
    pub fn new(json: Option<File>) -> Report {
        Report { json, groups: BTreeMap::new() }
    }

    /// Prints one verdict and writes its line.
    ///
    /// # Errors
    /// When the line cannot be written or the terminal is gone.
    pub fn add(&mut self, verdict: &Verdict) -> io::Result<()> {
        if let Some(json) = &mut self.json {
            let line = serde_json::to_string(verdict).map_err(io::Error::other)?;
            writeln!(json, "{line}")?;
        }
        if let (Some(ratio), Some(rival)) = (verdict.ratio, verdict.best_rival.clone()) {
            let group = verdict.case.split('/').next().unwrap_or_default();
            self.groups.entry(group.to_owned()).or_default().push(Best { ratio, rival, case: verdict.case.clone() });
        }
        writeln!(io::stdout(), "{}", row(verdict))
    }

    /// For each group, the geometric mean of the ratios to the best rival, who that was in how many cases, and the
    /// lowest ratio.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (group, all) in &self.groups {
            let logs: f64 = all.iter().map(|best| best.ratio.ln()).sum();
            let (count, mean) = (all.len(), (logs / all.len() as f64).exp());
            let mut rivals = BTreeMap::new();
            all.iter().for_each(|best| *rivals.entry(&*best.rival).or_insert(0) += 1);
            let rivals: Vec<_> = rivals.iter().map(|(rival, cases)| format!("{rival} in {cases}")).collect();
            let _ = write!(text, "{group}: {count} cases, best rival {}, mean ratio {mean:.2}", rivals.join(", "));
            if let Some(Best { ratio, rival, case }) = all.iter().min_by(|a, b| a.ratio.total_cmp(&b.ratio)) {
                let _ = writeln!(text, ", lowest {ratio:.2} ({rival}, {case})");
            }
        }
        text
    }
}

/// The heading of the rows.
pub fn heading() -> String {
    format!(
        "{:<44} {:>10} {:>8} {:>7} {:>6}  {:>14}  {}",
        "case", "time", "GFLOP/s", "GB/s", "limit", "machine", "rivals' time / our time, fastest first"
    )
}

fn row(verdict: &Verdict) -> String {
    let ours = verdict.ours;
    let machine = format!("{:.0} {:.0}", verdict.rates.gflops, verdict.rates.gbs);
    let mut text = format!(
        "{:<44} {:>10} {:>8.1} {:>7.1} {:>5.1}%  {machine:>14} ",
        verdict.case,
        Time(ours.median_ns).to_string(),
        ours.gflops,
        ours.gbs,
        verdict.limit_pct,
    );
    let mut rivals: Vec<_> = verdict.rivals.iter().collect();
    rivals.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    rivals.iter().for_each(|rival| {
        let _ = write!(text, " {} {:.2}", rival.name, rival.ratio);
    });
    verdict.wrong.iter().for_each(|wrong| {
        let _ = write!(text, "\n  not timed: {wrong}");
    });
    text
}

/// Nanoseconds in a unit that suits them.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 1e4 => write!(f, "{ns:.1} ns"),
            ns if ns < 1e7 => write!(f, "{:.2} us", ns / 1e3),
            ns => write!(f, "{:.2} ms", ns / 1e6),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fma peak")?;
        for (level, gflops) in &self.fma {
            let ours = if *level == self.level() { " (ours)" } else { "" };
            write!(f, "  {level}{ours} {gflops:.1}")?;
        }
        match self.bf16_dot {
            Some(gflops) => write!(f, "  bf16 dot {gflops:.1}  GFLOP/s"),
            None => write!(f, "  GFLOP/s, no bf16 dot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::{Rival, Timing};
    use gristmill_limits::Rates;

    fn verdict(case: &str, ratio: f64) -> Verdict {
        Verdict {
            case: case.to_owned(),
            ours: Timing { median_ns: 12_345.6, gflops: 100.0, gbs: 10.0 },
            limit_pct: 98.76,
            rivals: vec![
                Rival { name: "slow".into(), median_ns: 1.0, ratio: 2.0 * ratio },
                Rival { name: "fast".into(), median_ns: 1.0, ratio },
            ],
            best_rival: Some("fast".into()),
            ratio: Some(ratio),
            rates: Rates { gflops: 261.0, gbs: 42.0 },
            wrong: Vec::new(),
        }
    }

    #[test]
    fn rows_name_the_fastest_first() {
        let row = row(&verdict("gemm/x/t1", 1.25));
        assert!(row.contains("12.35 us") && row.contains("98.8%") && row.ends_with("fast 1.25 slow 2.50"), "{row}");
    }

    #[test]
    fn the_summary_has_geometric_means() {
        let mut report = Report::default();
        let best = |ratio, rival: &str, case: &str| Best { ratio, rival: rival.into(), case: case.into() };
        let all =
            [best(2.0, "plain loop", "gemm/a/t1"), best(0.5, "faer", "gemm/b/t1"), best(1.0, "faer", "gemm/c/t1")];
        report.groups.insert("gemm".into(), all.into());
        let expected =
            "gemm: 3 cases, best rival faer in 2, plain loop in 1, mean ratio 1.00, lowest 0.50 (faer, gemm/b/t1)\n";
        assert_eq!(report.summary(), expected);
    }
}
